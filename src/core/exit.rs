//! Exit statuses: how taskbeat reports its end to systemd, Docker and scripts.

/// The exit status of taskbeat.
///
/// A child's own status is passed on. The others follow `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// `terminate` was obeyed, or an operator stopped taskbeat and there was no child.
    pub const OK: Self = Self(0);
    /// An attached runner ended by itself. Only its parent can know its status.
    pub const RUNNER_LOST: Self = Self(1);
    /// `once`: the service answered `terminate`.
    pub const TERMINATE: Self = Self(10);
    /// The command line is wrong (`EX_USAGE`).
    pub const USAGE: Self = Self(64);
    /// Contact with the service is lost, or there was no answer (`EX_UNAVAILABLE`).
    pub const UNAVAILABLE: Self = Self(69);
    /// A defect of taskbeat or a failing kernel (`EX_SOFTWARE`).
    pub const INTERNAL: Self = Self(70);
    /// Another instance on this host reports the same taskrunner id (`EX_TEMPFAIL`).
    pub const ALREADY_RUNNING: Self = Self(75);
    /// `once`: the service rejected the heartbeat (`EX_NOPERM`).
    pub const REJECTED: Self = Self(77);
    /// The configuration is invalid (`EX_CONFIG`).
    pub const CONFIG: Self = Self(78);
    /// The command was found but cannot be executed, as in a shell.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command was not found, as in a shell.
    pub const NOT_FOUND: Self = Self(127);

    /// The status that a shell reports for a process that signal `number` ended: 128 + n.
    #[must_use]
    pub const fn by_signal(number: u8) -> Self {
        Self(128u8.saturating_add(number))
    }

    /// True for the status of a process that a signal ended.
    #[must_use]
    pub const fn is_by_signal(self) -> bool {
        self.0 > 128
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
