//! PID namespaces, and what is needed to make one.

use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// The command that makes a program PID 1 of a namespace of its own; `None`, and a word about it,
/// where that is not allowed.
pub(crate) fn pid_namespace() -> Option<Vec<&'static str>> {
    let mut unshare = vec!["unshare"];
    if !geteuid().is_root() {
        unshare.extend(["--user", "--map-root-user"]);
    }
    // What is in it dies with `unshare`.
    unshare.extend(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    let made = Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !made {
        missing("a PID namespace: neither root nor user namespaces are there");
        return None;
    }
    Some(unshare)
}

/// Says that a test is skipped for want of `what`; in CI that is a failure.
pub(crate) fn missing(what: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI must provide {what}"
    );
    eprintln!("skipped for want of {what}");
}
