//! The files that are or were in memory, as far as names need them.

use std::io;
use std::path::{Path, PathBuf};

use super::elf::Segment;
use super::mapped::{Difference, FOREIGN, Mapped, REPLACED, REWRITTEN};
use super::mapping::Mapping;
use super::opened::Opened;
use super::separate::{self, Checked};
use crate::sys::FileStamp;

/// The running program, also after its file was replaced.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// A file that is or was in memory.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) number: u32,
    pub(crate) file: Box<str>,
    inode: Box<str>,
    head: Option<u64>,
    is_program: bool,
    mapped: Mapped,
    /// Where it may be opened.
    places: Vec<Place>,
    /// What the file was when it was first seen, if nothing else tells it from a later version.
    first: Option<FileStamp>,
    /// How many libraries had been unloaded then, if that is known.
    unloaded: Option<u64>,
    /// Whether the file was written to while it was mapped.
    is_rewritten: bool,
    pub(crate) build_id: Box<str>,
    pub(crate) segments: Vec<Segment>,
    /// What was looked at in search of its debug information.
    checked: Checked,
    /// Why it has no names, if it was opened last in vain.
    refusal: Option<Box<str>>,
}

/// What is known of the loader.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loader {
    /// Whether it writes to the lists that it finds in files.
    pub(crate) relocates: bool,
    /// How many libraries it has unloaded, if that is known.
    pub(crate) unloaded: Option<u64>,
}

/// Where a file may be opened.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The kernel's link to what is mapped.
    Link(PathBuf),
    /// What has this name now may be another file.
    Name(PathBuf),
}

impl Module {
    /// Takes note of the file of a mapping; `before` are those known before.
    pub(crate) fn new(
        number: u32,
        mapping: &Mapping,
        mapped: Mapped,
        loader: Loader,
        before: &[Self],
    ) -> Self {
        let mut module = Self {
            number,
            file: mapping.file.clone(),
            inode: mapping.inode.clone(),
            head: mapping.head,
            is_program: mapping.program,
            mapped,
            places: places(mapping),
            first: None,
            unloaded: loader.unloaded,
            is_rewritten: false,
            build_id: Box::default(),
            segments: Vec::new(),
            checked: None,
            refusal: None,
        };
        let mut alike = before.iter().filter(|known| known.is_at(mapping));
        // What was loaded anew in the same place differs in what the loader has made of it, or else something must
        // have been unloaded.
        let is_still_loaded = alike.any(|known| {
            let is_unloaded = known.unloaded.is_some() && known.unloaded != loader.unloaded;
            !is_unloaded && known.mapped.is_loaded_as(&module.mapped)
        });
        let is_raw = loader.relocates && module.mapped.is_relocated() == Some(false);
        module.is_rewritten = is_still_loaded || (is_raw && !mapping.program);
        if module.is_rewritten {
            // Whose functions these are nobody knows.
            module.refusal = Some(REWRITTEN.into());
            return module;
        }
        match &module.mapped {
            Mapped::Known(known) => {
                module.build_id = known.build_id.clone();
                module.segments = known.head.segments();
                // To that of a program that runs the kernel lets nobody write.
                if !module.mapped.is_identified() && !mapping.program {
                    module.first = module.open().map(|opened| opened.stamp);
                }
            }
            Mapped::Unknown => {
                if let Some(mut opened) = module.open() {
                    module.segments = opened.elf.head().segments();
                    let build_id = opened.elf.build_id().ok().flatten();
                    module.build_id = build_id.unwrap_or_default().into();
                    module.first = Some(opened.stamp);
                }
            }
            Mapped::Foreign => module.refusal = Some(FOREIGN.into()),
            Mapped::Gone(_) => {}
        }
        module
    }

    /// Takes note of the file of a library that was closed, if it can be found.
    pub(crate) fn closed(number: u32, file: &str, build_id: &str) -> Option<Self> {
        let mut module = Self {
            number,
            file: file.into(),
            inode: Box::default(),
            head: None,
            is_program: false,
            mapped: Mapped::Gone(build_id.into()),
            places: vec![Place::Name(file.into())],
            first: None,
            unloaded: None,
            is_rewritten: false,
            build_id: build_id.into(),
            segments: Vec::new(),
            checked: None,
            refusal: None,
        };
        module.segments = module.open()?.elf.head().segments();
        Some(module)
    }

    /// Returns whether it is the file of a mapping, in the same place, by what is mapped of it.
    pub(crate) fn is(&self, mapping: &Mapping, mapped: &Mapped) -> bool {
        self.is_at(mapping) && self.mapped == *mapped
    }

    fn is_at(&self, mapping: &Mapping) -> bool {
        self.inode == mapping.inode && self.file == mapping.file && self.head == mapping.head
    }

    /// Opens the file that is mapped, if it can be found.
    pub(crate) fn open(&mut self) -> Option<Opened> {
        let mut refusal: Option<Box<str>> = None;
        for place in &self.places {
            match self.open_at(place) {
                Ok(opened) => {
                    self.refusal = None;
                    return Some(opened);
                }
                // Few processes have the privilege to follow the kernel's links.
                Err(_) if refusal.is_some() && matches!(place, Place::Link(_)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    refusal.get_or_insert_with(|| "the file is gone".into());
                }
                Err(error) => refusal = Some(error.to_string().into()),
            }
        }
        self.refusal = refusal;
        None
    }

    fn open_at(&self, place: &Place) -> io::Result<Opened> {
        let differs = |difference: Difference| Err(io::Error::other(difference));
        if self.is_rewritten {
            return differs(REWRITTEN);
        }
        let (Place::Link(path) | Place::Name(path)) = place;
        let mut opened = Opened::at(path)?;
        if let Some(difference) = self.mapped.compare(&mut opened.elf)? {
            return differs(difference);
        }
        // The number alone: file systems in layers say another device of what is mapped.
        let is_another = self.inode_number() != Some(opened.stamp.inode);
        if !self.mapped.is_identified() && matches!(place, Place::Name(_)) && is_another {
            return differs(REPLACED);
        }
        if self
            .first
            .is_some_and(|first| first.inode == opened.stamp.inode && first != opened.stamp)
        {
            return differs(REWRITTEN);
        }
        Ok(opened)
    }

    fn inode_number(&self) -> Option<u64> {
        self.inode.rsplit(' ').next()?.parse().ok()
    }

    #[cfg(test)]
    #[allow(
        dead_code,
        reason = "its test needs files to read, which no platform has that is not supported"
    )]
    pub(crate) fn forget_places(&mut self) {
        self.places.clear();
    }

    /// Finds the file beside one that was opened that holds what was stripped from it.
    pub(crate) fn separate(&mut self, opened: &mut Opened) -> Option<Opened> {
        separate::find(opened, Path::new(&*self.file), self.is_program, &mut self.checked)
    }

    /// Notes that the file was written to while it was read.
    pub(crate) fn refuse_changed(&mut self) {
        self.refusal = Some("the file was written to while it was read".into());
    }

    /// Returns why its functions have no names.
    pub(crate) fn refusal(&self) -> Option<String> {
        let reason = self.refusal.as_ref()?;
        Some(format!("functions of {} have no names: {reason}", self.file))
    }
}

/// Returns where the file of a mapping may be found, the best place first.
fn places(mapping: &Mapping) -> Vec<Place> {
    let mut places = Vec::new();
    if mapping.program {
        places.push(Place::Link(PROGRAM.into()));
    }
    if mapping.deleted {
        // A name may end like the kernel's remark.
        places.push(Place::Name(format!("{} (deleted)", mapping.file).into()));
    }
    places.push(Place::Name(PathBuf::from(&*mapping.file)));
    let link = format!("/proc/self/map_files/{:x}-{:x}", mapping.start, mapping.end);
    places.push(Place::Link(link.into()));
    places
}
