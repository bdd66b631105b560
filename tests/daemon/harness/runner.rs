//! Runners, as scripts for `/bin/sh`.
//!
//! Each says a line when it is ready: signals never come before its traps are set. A shell that waits for a child
//! takes signals without a race, which a shell that reads does not, so they nap in a child of theirs.

/// Put before every script: `nap WORD` says `WORD PID` and sleeps, with the dispositions of signals that it was given.
/// It takes the place of the shell that calls it. Should all else fail it ends by itself.
pub(super) const PRELUDE: &str = r#"
nap() { exec sh -c 'echo "$0 $$"; exec sleep 120' "$1"; }
"#;

/// Has no traps: it dies of whatever signal it gets.
pub(crate) const PLAIN: &str = "nap ready";

/// Ends with a status of its own when it is told to stop.
pub(crate) const OBEDIENT: &str = "trap 'echo stopped; exit 42' TERM; nap ready & wait; exit 99";

/// Ignores the stop signal.
pub(crate) const DEAF: &str = "trap '' TERM; nap ready";

/// Drains when it is told to stop, until it reads a line.
pub(crate) const DRAINING: &str =
    "trap 'echo draining; read -r go; echo drained; exit 42' TERM; nap ready & wait; exit 99";
