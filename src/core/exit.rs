//! Exit statuses: what systemd, Docker and scripts are told.

/// The exit status of taskbeat.
///
/// The statuses of our own are those of `sysexits.h` where it has one; a child's own status is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Everything went as intended: `terminate` was obeyed, or the operator stopped us and there was no child.
    pub const OK: Self = Self(0);
    /// An attached runner ended by itself; its own status is unknowable to a process that is not its parent.
    pub const RUNNER_LOST: Self = Self(1);
    /// `once`: the service says `terminate`.
    pub const TERMINATE: Self = Self(10);
    /// The command line is wrong (`EX_USAGE`).
    pub const USAGE: Self = Self(64);
    /// Contact with the service is lost, or it gave no answer (`EX_UNAVAILABLE`).
    pub const UNAVAILABLE: Self = Self(69);
    /// A defect of taskbeat or a failing kernel (`EX_SOFTWARE`).
    pub const INTERNAL: Self = Self(70);
    /// Another instance on this host reports the same taskrunner id (`EX_TEMPFAIL`).
    pub const ALREADY_RUNNING: Self = Self(75);
    /// `once`: the service rejected the heartbeat (`EX_NOPERM`).
    pub const REJECTED: Self = Self(77);
    /// The configuration is invalid (`EX_CONFIG`).
    pub const CONFIG: Self = Self(78);
    /// The command was found but cannot be executed, as a shell reports it.
    pub const NOT_EXECUTABLE: Self = Self(126);
    /// The command was not found, as a shell reports it.
    pub const NOT_FOUND: Self = Self(127);

    /// The status a shell gives to a process that signal `number` ended: 128 + n.
    #[must_use]
    pub const fn by_signal(number: u8) -> Self {
        Self(128u8.saturating_add(number))
    }

    /// Whether it is such a status.
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
