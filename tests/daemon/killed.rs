//! If taskbeat is killed, the kernel kills the runner's leader (PDEATHSIG).

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Endpoint, Taskbeat, becomes_true, children, eventually, in_parallel, marked, rounds, signal,
};

#[test]
fn kills_around_the_start_of_the_runner_leave_no_leader() {
    let kills = rounds(200, 1000);
    let endpoint = Endpoint::ok();
    let mark = format!("MARK_OF_TEST=killed-{}", std::process::id());
    let (mark_name, mark_value) = mark.split_once('=').unwrap();
    let before_kill = Mutex::new(Duration::from_millis(30));
    let started = AtomicUsize::new(0);
    in_parallel(0..kills, |_| {
        // The shell outlives taskbeat and passes its status on.
        let program = Taskbeat::run(&endpoint)
            .via(&["sh", "-c", r#""$@"; exit $?"#, "sh"])
            .env(mark_name, mark_value)
            .command(&["sh", "-c", "echo >started; exec sleep 600"]);
        let file = program.home().join("started");
        let mut shell = program.start();
        // The moment of the kill is the input of this test, not a synchronisation.
        let mean = *before_kill.lock().unwrap();
        thread::sleep(mean.mul_f64(0.75 + fastrand::f64() / 2.0));
        let taskbeat = || children(shell.pid()).first().copied();
        eventually("taskbeat starts", || taskbeat().is_some());
        signal(taskbeat().unwrap(), Signal::KILL);
        assert_eq!(shell.wait(), 137);
        // Home in on the start of the runner, however busy the machine is.
        let has_started = fs::exists(file).unwrap();
        let factor = if has_started { 0.9 } else { 1.1 };
        let mut mean = before_kill.lock().unwrap();
        *mean = mean.mul_f64(factor);
        started.fetch_add(usize::from(has_started), Ordering::Relaxed);
    });
    let started = started.into_inner();
    println!("{kills} kills, {started} of them after the start of the runner");
    // The mark is in the environment of the leader before and after exec.
    let gone = becomes_true(|| marked(&mark).is_empty());
    let left = marked(&mark);
    for pid in &left {
        signal(*pid, Signal::KILL);
    }
    assert!(gone, "{} leaders of {kills} are left", left.len());
    assert!((1..kills).contains(&started), "{started} of {kills}");
}
