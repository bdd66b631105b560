//! Whenever we are killed, the runner's leader does not outlive us.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::harness::{Endpoint, Taskbeat, children, eventually, marked, signal};

const KILLS: usize = 1000;

/// As many at once as keep two cores busy.
const AT_ONCE: usize = 4;

#[test]
fn a_thousand_kills_at_random_moments_leave_no_leader_behind() {
    let endpoint = Endpoint::ok();
    let mark = format!("MARK_OF_TEST=killed-{}", std::process::id());
    let (mark_name, mark_value) = mark.split_once('=').unwrap();
    let (left_to_do, ran) = (AtomicUsize::new(KILLS), AtomicUsize::new(0));
    let one_more = |left: usize| left.checked_sub(1);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let program = Taskbeat::run(&endpoint).command(&["echo", "begins"]);
                let start = Instant::now();
                program.start().wait_for_output("begins");
                // As long before the runner's start as after it, on this machine as busy as it is.
                let moments = start.elapsed() * 2;
                while left_to_do
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
                    .is_ok()
                {
                    // The shell around it stays, and tells what became of it.
                    let program = Taskbeat::run(&endpoint)
                        .via(&["sh", "-c", r#""$@"; exit $?"#, "sh"])
                        .env(mark_name, mark_value)
                        .command(&["sh", "-c", "echo >ran; exec sleep 600"]);
                    let file = program.home().join("ran");
                    let mut shell = program.start();
                    // The moment is what is tested here; nothing is waited for.
                    thread::sleep(moments.mul_f64(fastrand::f64()));
                    let daemon = || children(shell.pid()).first().copied();
                    eventually("it is there", || daemon().is_some());
                    signal(daemon().unwrap(), Signal::KILL);
                    assert_eq!(shell.wait(), 137);
                    ran.fetch_add(usize::from(fs::exists(file).unwrap()), Ordering::Relaxed);
                }
            });
        }
    });
    let ran = ran.into_inner();
    println!("{KILLS} kills, of which {ran} came after the runner had begun");
    // Before exec a child has our environment, after it the runner's: the mark is in both.
    let none_left = || marked(&mark).is_empty();
    let checked = std::panic::catch_unwind(|| eventually("no leader is left", none_left));
    let left = marked(&mark);
    for pid in &left {
        signal(*pid, Signal::KILL);
    }
    assert!(
        checked.is_ok(),
        "{} leaders of {KILLS} are left",
        left.len()
    );
    // Both kinds of moments were among them.
    assert!((1..KILLS).contains(&ran), "{ran}");
}
