//! Runners, as scripts for `/bin/sh`.
//!
//! Each prints a line when its traps are set, so that a test can wait for it before it sends a
//! signal. The shell waits for a background child: `wait` is interrupted by a signal without a
//! race, `read` is not.

/// Precedes every script. `nap WORD` prints `WORD PID` and sleeps, with the signal dispositions of
/// its caller, whose process it replaces. It ends after two minutes if all else fails.
pub(super) const PRELUDE: &str = r#"
nap() { exec sh -c 'echo "$0 $$"; exec sleep 120' "$1"; }
"#;

/// Has no traps: every stop signal ends it.
pub(crate) const PLAIN: &str = "nap ready";

/// Prints `stopped` on SIGTERM and exits 42.
pub(crate) const OBEDIENT: &str = "trap 'echo stopped; exit 42' TERM; nap ready & wait; exit 99";

/// Ignores SIGTERM.
pub(crate) const IGNORES_STOP: &str = "trap '' TERM; nap ready";

/// Prints `draining` on SIGTERM, and exits 42 when it has read a line from stdin.
pub(crate) const DRAINING: &str =
    "trap 'echo draining; read -r go; echo drained; exit 42' TERM; nap ready & wait; exit 99";
