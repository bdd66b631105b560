//! Fixtures of the daemon's tests: the real binary, a scripted endpoint, processes and terminals.

mod endpoint;
mod external;
mod http;
mod metadata;
mod namespace;
mod process;
pub(crate) mod runner;
mod server;
mod stream;
mod taskbeat;
mod terminal;
pub(crate) mod text;
mod tls;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

pub(crate) use endpoint::{Endpoint, Step};
pub(crate) use external::ExternalRunner;
pub(crate) use http::{Request, Response};
pub(crate) use metadata::Metadata;
pub(crate) use namespace::{OTHER_USER, pid_namespace, skip_without, skip_without_root, unshare};
pub(crate) use process::{
    anonymous_memory, becomes_true, children, descriptors, eventually, group_of, in_session,
    is_alive, marked, memory, peak_memory, processor_time, signal, state_of, wait_for_end,
};
pub(crate) use server::Server;
pub(crate) use taskbeat::{Daemon, Finished, Taskbeat};
pub(crate) use terminal::Terminal;
pub(crate) use tls::{Authority, Certified, Tls};

/// How long a test waits before it fails. It is a limit against hangs, never a measure of speed.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The size of a long test: `quick` by default, `full` with `TASKBEAT_TEST_FULL=1`, as in CI.
///
/// A quick test still has to fail for the defect that it guards against.
pub(crate) fn rounds<T>(quick: T, full: T) -> T {
    match std::env::var("TASKBEAT_TEST_FULL").as_deref() {
        Ok("1") => full,
        _ => quick,
    }
}

/// Replaces a file in one step, so that a reader never finds half of it.
pub(crate) fn replace_file(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

/// A number in the environment.
pub(crate) fn number(variable: &str) -> Option<usize> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

/// The seed of a test's random input, so that a failure can be repeated. Always the same, unless
/// `TASKBEAT_SEED` is another number or `random`.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("TASKBEAT_SEED").as_deref() {
        Ok("random") => fastrand::u64(..1 << 40),
        _ => number("TASKBEAT_SEED").map_or(1, |seed| seed.try_into().unwrap()),
    };
    println!("TASKBEAT_SEED={seed}");
    seed
}

/// Runs `test` with each of the items, on as many threads as keep two cores busy.
pub(crate) fn in_parallel<I>(items: I, test: impl Fn(I::Item) + Sync)
where
    I: IntoIterator<IntoIter: Send, Item: Send>,
{
    let items = Mutex::new(items.into_iter());
    // A lock of its own for each item: a test is not run under it.
    let next = || items.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(item) = next() {
                    test(item);
                }
            });
        }
    });
}

/// Lets time pass in which something must not happen. Never a way to wait for something.
pub(crate) fn let_pass(time: Duration) {
    thread::sleep(time);
}

/// The prefix of the task runner ids of this run of the tests.
fn id_prefix() -> String {
    format!("tr-{}-", std::process::id())
}
