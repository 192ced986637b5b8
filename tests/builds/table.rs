//! What is expected of each way to build. `docs/builds.md` shows the same table, which a test sees to.

use std::fmt::Write;

/// A way to build, and what the profiles of a program say that was built so.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) name: &'static str,
    /// Under `[profile.release]`; where `debug` is not set it is 0, as Cargo has it.
    pub(crate) profile: &'static [&'static str],
    /// Flags of rustc, beside those of [`COMMON`].
    pub(crate) flags: &'static [&'static str],
    /// What is done to the program afterwards: a command with the program behind it, the shell's `$0`.
    pub(crate) afterwards: &'static [&'static str],
    pub(crate) names: Names,
    pub(crate) lines: bool,
    pub(crate) inlined: bool,
    pub(crate) stacks: Stacks,
}

/// Where the names of the program's own functions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Debug,
    SymbolTable,
    /// Nowhere: the profile has addresses and the build id.
    None,
}

/// Which part of a stack is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stacks {
    /// At least 99 % of the CPU time is in stacks that reach their root.
    Whole,
    /// Most end within the program.
    Cut,
}

/// The hardest case that is common, and rustc's default on this platform; and what some linkers do
/// unasked. A build's own flags come later and win.
pub(crate) const COMMON: &[&str] = &["-Cforce-frame-pointers=no", "-Clink-arg=-Wl,--build-id"];

/// A release build as Cargo has it.
pub(crate) const PLAIN: Build = Build {
    name: "as Cargo has it",
    profile: &[],
    flags: &[],
    afterwards: &[],
    names: Names::SymbolTable,
    lines: false,
    inlined: false,
    stacks: Stacks::Whole,
};

impl Build {
    /// Whether a panic ends the process.
    pub(crate) fn aborts(&self) -> bool {
        self.profile.contains(&"panic = \"abort\"")
    }

    /// Whether libc is part of the program.
    pub(crate) fn is_static(&self) -> bool {
        self.flags.contains(&"-Ctarget-feature=+crt-static")
    }

    /// Whether the program lies where the linker put it.
    pub(crate) fn is_fixed(&self) -> bool {
        self.flags.contains(&"-Crelocation-model=static")
    }

    /// Whether the file has a build id.
    pub(crate) fn is_identified(&self) -> bool {
        !self.flags.contains(&"-Clink-arg=-Wl,--build-id=none")
    }

    /// Returns the row of the table in the documentation.
    pub(crate) fn row(&self) -> String {
        let mut settings = String::new();
        for setting in self.profile.iter().chain(self.flags) {
            write!(settings, "`{setting}`, ").expect("a string");
        }
        if let Some(command) = self.afterwards.last() {
            write!(settings, "then `{command}`").expect("a string");
        }
        let names = match self.names {
            Names::Debug => "yes",
            Names::SymbolTable => "from the symbol table",
            Names::None if self.is_identified() => "no: addresses and build id",
            Names::None => "no: addresses",
        };
        let yes = |is: bool| if is { "yes" } else { "no" };
        let stacks = match self.stacks {
            Stacks::Whole => "whole",
            Stacks::Cut => "cut",
        };
        format!(
            "| {} | {} | {names} | {} | {} | {stacks} |",
            self.name,
            if settings.is_empty() { "nothing set" } else { settings.trim_end_matches(", ") },
            yes(self.lines),
            yes(self.inlined),
        )
    }
}
