//! System calls that fail, in a whole life of the daemon: a heartbeat that is acknowledged, one
//! that fails, a command, and a stop.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Mutex;

use crate::harness::{Endpoint, Finished, Step, Taskbeat, in_parallel, rounds, seed, skip_without};

/// The errors that these calls can have. The kernel may be old, a policy may refuse the call, or
/// the host may have run out of memory, descriptors or processes. A `close` that fails still closes
/// the descriptor, which strace cannot imitate. A `recvfrom` is never interrupted, because the
/// sockets are non-blocking.
const ERRORS: [(&str, &[&str]); 10] = [
    ("ENOSYS", &["pidfd_open", "pidfd_send_signal", "timerfd_create", "clone3", "getrandom"]),
    ("EPERM", &["pidfd_open", "pidfd_send_signal", "timerfd_create", "clone3", "prctl", "kill"]),
    ("EMFILE", &["openat", "socket", "pidfd_open", "timerfd_create", "epoll_create1", "eventfd2"]),
    ("EMFILE", &["pipe2", "socketpair", "fcntl"]),
    ("ENOMEM", &["socket", "connect", "pidfd_open", "clone", "clone3", "epoll_ctl"]),
    ("ENOMEM", &["mmap", "mprotect", "mremap"]),
    ("EAGAIN", &["clone", "clone3", "fork", "vfork"]),
    ("EINTR", &["epoll_wait", "read", "openat", "connect", "waitid", "poll", "futex"]),
    ("EINTR", &["sendto", "writev", "getrandom", "getdents64", "newfstatat"]),
    ("EIO", &["read", "openat", "getdents64", "newfstatat", "readlink", "ioctl"]),
];

/// The status with which a shell shows an abort.
pub(super) const ABORT: i32 = 134;

/// More than any thread of this life makes before it begins to repeat itself.
const MOST: usize = 40;

/// A life in which calls are traced with these options of strace.
fn life(options: &[&str]) -> Finished {
    let endpoint = Endpoint::play([Step::Ok, Step::fault(), Step::Ok], Step::Terminate);
    Taskbeat::run(&endpoint)
        // The daemon is traced, and what it starts is not. strace would pass on a signal, too, by
        // which it ends, as the shell does.
        .via(&["sh", "-c", "\"$@\"; exit $?", "sh", "strace", "-f", "-b", "execve"])
        .via(options)
        .env("TASKBEAT_INTERVAL", "40ms")
        .env("TASKBEAT_GRACE", "5s")
        .set("--on-terminate", "true")
        // It ends by itself if no heartbeat gets through.
        .script("trap 'echo stopped; exit 42' TERM; echo ready; sleep 2 & wait; exit 99")
        .finish()
}

/// How often one thread makes each call, as far as [`MOST`].
fn calls() -> BTreeMap<String, usize> {
    let folder = tempfile::TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let finished = life(&["-o", trace.to_str().unwrap()]);
    assert!([0, 99].contains(&finished.status), "{finished:?}");
    let trace = fs::read_to_string(trace).unwrap();
    let mut of_threads = BTreeMap::new();
    for (thread, call) in trace.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        if let Some((name, _)) = call.trim_start().split_once('(') {
            *of_threads.entry((thread, name)).or_insert(0) += 1;
        }
    }
    let mut calls = BTreeMap::new();
    for ((_, name), count) in of_threads {
        let most = calls.entry(name.to_owned()).or_insert(0);
        *most = count.min(MOST).max(*most);
    }
    calls
}

/// Every call of every thread fails once, or from the first one on. By default and in CI only a
/// sample; with `TASKBEAT_CALLS=all` each of them, which takes a minute or two.
#[test]
fn a_call_that_fails_stops_no_runner_and_never_ends_the_daemon_silently() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip_without("strace");
    }
    let all = std::env::var("TASKBEAT_CALLS").is_ok_and(|which| which == "all").then(calls);
    let mut rng = fastrand::Rng::with_seed(seed());
    let mut cases = Vec::new();
    for (error, names) in ERRORS {
        for name in names {
            let places: Vec<_> = match &all {
                Some(calls) => (1..=calls.get(*name).copied().unwrap_or(0)).collect(),
                // The counts depend on the machine, and the sample does not.
                None => vec![1, rng.usize(2..12)],
            };
            let mut places: Vec<_> = places.iter().map(ToString::to_string).collect();
            if error != "EINTR" {
                places.push("1+".to_owned());
            }
            cases.extend(places.iter().map(|at| format!("inject={name}:error={error}:when={at}")));
        }
    }
    if all.is_none() {
        rng.shuffle(&mut cases);
        cases.truncate(rounds(20, usize::MAX));
    }
    println!("{} cases", cases.len());
    let broken = Mutex::new(Vec::new());
    in_parallel(cases, |case| {
        println!("{case}");
        let finished = life(&["-o", "/dev/null", "-e", &case]);
        println!("{case} ends with {}", finished.status);
        if !keeps_promises(&finished) {
            broken.lock().unwrap().push((case, finished));
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{broken:#?}");
}

fn keeps_promises(finished: &Finished) -> bool {
    let has = |words| finished.stderr.contains(words);
    match finished.status {
        // `terminate` was obeyed: the stop signal was sent once, or the log says why it was not, or
        // not enough. On a busy machine, the runner may end by itself before it.
        0 => {
            finished.text().matches("stopped").count() == 1
                || has("SIGKILL to ")
                || has("the runner exited status=99")
        }
        // The runner ended by itself, before enough heartbeats got through.
        99 => has("heartbeat failed") || has("the runner is running"),
        // The daemon did not start: the loader, the runtime or taskbeat itself says why.
        70 | 126 | 127 | ABORT => {
            let told = ["ERROR", "taskbeat: ", "shared libraries", "memory allocation of "];
            told.into_iter().any(has) && !has("the runner is running")
        }
        // The loader crashed.
        139 => !has("taskbeat starts"),
        _ => false,
    }
}
