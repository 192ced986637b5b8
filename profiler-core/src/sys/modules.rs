//! What the loader has loaded.

#![allow(unsafe_code, reason = "the loader's list is C data, and tables are read in memory")]

use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::slice;
use std::sync::Arc;

/// A loaded program or library, for as long as a visit lasts: the loader cannot unload it then.
#[derive(Debug)]
pub(crate) struct LoadedModule<'visit> {
    /// What was added to the addresses in the file.
    pub(crate) base: u64,
    /// From the first to the last address of code.
    pub(crate) code: Range<u64>,
    /// Where `.eh_frame_hdr` is, if there is one.
    pub(crate) unwind_index: Option<Range<u64>>,
    /// Whether this is the program itself, which stays until the process ends.
    pub(crate) is_program: bool,
    /// How many modules had been loaded and unloaded.
    pub(crate) generation: (u64, u64),
    /// The file, as the loader was told; empty for the program.
    pub(crate) file: String,
    /// Parts of code, each with its place in the file.
    pub(crate) parts: Vec<(Range<u64>, u64)>,
    /// Where notes are, if there are some.
    notes: Vec<Range<u64>>,
    /// What is written to and comes from the file, without what is only written to while the library is loaded.
    variable: Range<u64>,
    /// Segments that may be read but not written.
    constant: Vec<Range<u64>>,
    visit: PhantomData<&'visit ()>,
}

/// Constant bytes of a module that outlive it.
#[derive(Debug, Clone)]
pub(crate) enum ModuleBytes {
    /// Of the program itself.
    InPlace(&'static [u8]),
    /// Of a library.
    Copied(Arc<[u8]>),
}

impl Default for ModuleBytes {
    fn default() -> Self {
        Self::InPlace(&[])
    }
}

impl Deref for ModuleBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl LoadedModule<'_> {
    /// Returns the end of the constant segment that the address lies in.
    pub(crate) fn constant_end(&self, address: u64) -> Option<u64> {
        self.constant.iter().find(|segment| segment.contains(&address)).map(|segment| segment.end)
    }

    /// Returns the bytes of a range that lies in one constant segment, for as long as anybody wants them.
    ///
    /// Those of a library are copied by the kernel: if its file was cut short, to load them would end in a signal.
    pub(crate) fn read(&self, range: Range<u64>) -> Option<ModuleBytes> {
        if range.end > self.constant_end(range.start)? {
            return None;
        }
        let length = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let start = usize::try_from(range.start).ok()?;
        if !self.is_program {
            // Made in its place: who frees large blocks has malloc keep more of what others free.
            let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
            let is_read = super::read_memory(start, Arc::get_mut(&mut bytes)?);
            return is_read.then_some(ModuleBytes::Copied(bytes));
        }
        // SAFETY: the range lies in a segment that the loader has mapped and that is not written to. To the file of a
        // program that runs the kernel lets nobody write, and nothing but its end unloads the program.
        let bytes =
            unsafe { slice::from_raw_parts(std::ptr::with_exposed_provenance(start), length) };
        Some(ModuleBytes::InPlace(bytes))
    }

    /// Returns the build id, in lower-case hexadecimal; empty if there is none.
    pub(crate) fn build_id(&self) -> String {
        let notes = self.notes.iter().filter_map(|range| self.read(range.clone()));
        notes.filter_map(|notes| build_id(&notes)).next().unwrap_or_default()
    }

    /// Returns what may be the module's name for itself: `__dso_handle`, a word at the beginning of its data that holds its own
    /// address.
    pub(crate) fn handles(&self) -> Vec<u64> {
        /// Before it stand only the addresses of functions that are found when they are called first: so far with 8,000 of
        /// them.
        const LOOKED_AT: u64 = 64 << 10;
        const MOST: usize = 4;
        let start = self.variable.start.next_multiple_of(8);
        let end = self.variable.end.min(start.saturating_add(LOOKED_AT));
        let mut piece = [0; 4096];
        for at in (start..end).step_by(piece.len()) {
            let wanted = piece.len().min(usize::try_from(end - at).unwrap_or(0));
            // By the kernel: the program may have protected its data.
            let read = usize::try_from(at)
                .map_or(0, |at| super::read_some_memory(at, &mut piece[..wanted]));
            let words = piece[..read].as_chunks::<8>().0.iter();
            let words = words.map(|word| u64::from_ne_bytes(*word)).zip((at..).step_by(8));
            let own = words.filter(|(word, address)| word == address).map(|(word, _)| word);
            let found: Vec<u64> = own.take(MOST).collect();
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    fn new(info: &libc::dl_phdr_info, is_program: bool) -> Self {
        let base = info.dlpi_addr;
        let headers = headers(info);
        let range = |header: &libc::Elf64_Phdr| {
            let start = base.wrapping_add(header.p_vaddr);
            start..start.saturating_add(header.p_memsz)
        };
        let loaded = || headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let code = || loaded().filter(|header| header.p_flags & libc::PF_X != 0).map(range);
        let variable = || {
            let relocated = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO);
            let start = relocated.map_or(0, |header| range(header).end);
            let mut written = loaded().filter(|header| header.p_flags & libc::PF_W != 0);
            let last = written.rfind(|header| header.p_filesz > 0);
            last.map_or(0..0, |header| {
                let segment = range(header);
                let end = segment.start.saturating_add(header.p_filesz);
                segment.start.max(start.min(end))..end
            })
        };
        Self {
            base,
            code: code().map(|code| code.start).min().unwrap_or_default()
                ..code().map(|code| code.end).max().unwrap_or_default(),
            unwind_index: headers
                .iter()
                .find(|header| header.p_type == libc::PT_GNU_EH_FRAME)
                .map(range),
            is_program,
            generation: (info.dlpi_adds, info.dlpi_subs),
            file: name(info),
            parts: loaded()
                .filter(|header| header.p_flags & libc::PF_X != 0)
                .map(|header| (range(header), header.p_offset))
                .collect(),
            notes: headers
                .iter()
                .filter(|header| header.p_type == libc::PT_NOTE)
                .map(range)
                .collect(),
            variable: variable(),
            constant: loaded()
                .filter(|header| header.p_flags & (libc::PF_R | libc::PF_W) == libc::PF_R)
                .map(range)
                .collect(),
            visit: PhantomData,
        }
    }
}

/// Returns the program headers. They stand in the file, which may have been cut short, so the kernel copies them.
fn headers(info: &libc::dl_phdr_info) -> Vec<libc::Elf64_Phdr> {
    const SIZE: usize = size_of::<libc::Elf64_Phdr>();
    let mut bytes = vec![0; SIZE * usize::from(info.dlpi_phnum)];
    if !super::read_memory(info.dlpi_phdr.addr(), &mut bytes) {
        return Vec::new();
    }
    let header = |bytes: &[u8; SIZE]| {
        // SAFETY: the bytes are as many as a header has, which is made of numbers alone and may lie anywhere.
        unsafe { bytes.as_ptr().cast::<libc::Elf64_Phdr>().read_unaligned() }
    };
    bytes.as_chunks::<SIZE>().0.iter().map(header).collect()
}

fn name(info: &libc::dl_phdr_info) -> String {
    if info.dlpi_name.is_null() {
        return String::new();
    }
    // SAFETY: a text of the loader's, which stays for the visit.
    let name = unsafe { CStr::from_ptr(info.dlpi_name) };
    name.to_string_lossy().into_owned()
}

/// Calls `visit` with every module, the program first. Allocates, and the loader's lock is held
/// meanwhile; not for signal handlers or for code that holds a lock of the allocator.
pub(crate) fn visit_modules(visit: &mut dyn FnMut(&LoadedModule<'_>)) {
    let mut is_program = true;
    iterate(&mut |info| {
        visit(&LoadedModule::new(info, is_program));
        is_program = false;
        true
    });
}

/// Returns how many modules have been loaded and unloaded so far. Takes the loader's lock.
pub(crate) fn module_generation() -> (u64, u64) {
    let mut generation = (0, 0);
    iterate(&mut |info| {
        generation = (info.dlpi_adds, info.dlpi_subs);
        false
    });
    generation
}

/// Calls `next` with each entry of the loader's list until it returns false.
fn iterate(mut next: &mut dyn FnMut(&libc::dl_phdr_info) -> bool) {
    unsafe extern "C" fn call(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        next: *mut c_void,
    ) -> c_int {
        let next = next.cast::<&mut dyn FnMut(&libc::dl_phdr_info) -> bool>();
        // SAFETY: this is the exclusive reference that `iterate` passed, and it waits meanwhile.
        let next = unsafe { &mut *next };
        // SAFETY: the loader passes a valid entry for the time of the call.
        let info = unsafe { &*info };
        c_int::from(!next(info))
    }
    // SAFETY: the function and its argument fit together, and neither is kept.
    unsafe { libc::dl_iterate_phdr(Some(call), (&raw mut next).cast()) };
}

/// Finds the build id among notes: each is three lengths and words, its name, and what it says, padded to words.
fn build_id(mut notes: &[u8]) -> Option<String> {
    const BUILD_ID: u32 = 3;
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |index: usize| {
            head[4 * index..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
        };
        let (name, content, sort) = (word(0), word(1), word(2));
        let name_end = (name as usize).next_multiple_of(4);
        let content_at = rest.get(name_end..)?;
        let content_bytes = content_at.get(..content as usize)?;
        if sort == BUILD_ID && rest.starts_with(b"GNU\0") {
            return Some(content_bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = content_at.get((content as usize).next_multiple_of(4)..)?;
    }
}

/// Has a call made when a module is about to be unloaded, after its own last functions; also when the process exits.
///
/// Nothing is called if `handle` is not the module's name for itself.
pub(crate) fn on_unload(handle: u64, call: extern "C" fn(*mut c_void), argument: u64) {
    unsafe extern "C" {
        fn __cxa_atexit(
            call: extern "C" fn(*mut c_void),
            argument: *mut c_void,
            handle: *mut c_void,
        ) -> c_int;
    }
    let pointer = |word: u64| std::ptr::without_provenance_mut(word as usize);
    // SAFETY: the function stays as long as the process, since the caller is the program, and takes any argument. What
    // stands for a module is compared alone. Without memory nothing is called.
    unsafe { __cxa_atexit(call, pointer(argument), pointer(handle)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_have_a_name_for_themselves() {
        let mut found = None;
        visit_modules(&mut |module| {
            // Made by a C compiler as others are, and every program of Rust's has it.
            if module.file.contains("libgcc_s.so") {
                let is_inside = |handle: &u64| module.variable.contains(handle);
                found = Some((module.handles().iter().any(is_inside), module.parts.len()));
            }
        });
        assert_eq!(found, Some((true, 1)));
    }

    #[test]
    fn a_build_id_is_found_among_notes() {
        let note = |sort: u32, name: &[u8; 4], content: &[u8]| {
            let words = [4, content.len() as u32, sort].map(u32::to_ne_bytes);
            let mut note = words.as_flattened().to_vec();
            note.extend(name);
            note.extend(content);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        let property = note(5, b"GNU\0", &[9; 13]);
        let other = note(3, b"Go\0\0", &[7; 4]);
        let own = note(3, b"GNU\0", &[0xab, 0xcd, 1]);
        let all = [&*property, &other, &own].concat();
        assert_eq!(build_id(&all).as_deref(), Some("abcd01"));
        for length in 0..all.len() - 4 {
            assert_eq!(build_id(&all[..length]), None);
        }
        // Lengths that lead nowhere.
        assert_eq!(build_id(&[0xff; 40]), None);
    }
}
