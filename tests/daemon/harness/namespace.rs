//! PID namespaces, another user, and how a test is skipped where it cannot run.

use std::path::Path;

use rustix::process::geteuid;

use super::Taskbeat;

/// The command that runs a program as PID 1 of a namespace of its own. `None`, after
/// [`skip_without`], if namespaces are not allowed here.
pub(crate) fn pid_namespace() -> Option<Vec<&'static str>> {
    // The whole namespace is killed with `unshare`.
    let unshare = unshare(&["--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !Taskbeat::can_start_via(&unshare, Path::new("/")) {
        skip_without("a PID namespace: this user may create neither PID nor user namespaces");
        return None;
    }
    Some(unshare)
}

/// `unshare` with these options. Only root may use most of them, so another user gets a user
/// namespace, too.
pub(crate) fn unshare(options: &[&'static str]) -> Vec<&'static str> {
    let user: &[&str] = if geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    [&["unshare"], user, options].concat()
}

/// Runs a program as another user. Only root may do this.
pub(crate) const OTHER_USER: [&str; 4] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Reports that a test is skipped because it needs root. CI runs the tests as root and as a user.
pub(crate) fn skip_without_root() {
    eprintln!("skipped, missing: root");
}

/// Reports that a test is skipped because `what` is missing. In CI that is a failure.
pub(crate) fn skip_without(what: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must provide {what}");
    eprintln!("skipped, missing: {what}");
}
