//! Random faults, one after the other, and a daemon that works afterwards as before.

use fastrand::Rng;

use crate::harness::{
    Authority, Certified, Daemon, Endpoint, Response, Step, Taskbeat, Tls, anonymous_memory,
    descriptors, is_alive, memory, number, processor_time, rounds, runner, seed,
};

/// The heartbeats that fill pools and caches before anything is measured.
const WARM_UP: usize = 100;

/// The limit for the growth of memory, in bytes, and of descriptors: one client's worth.
const MEMORY: u64 = 8 * 1024 * 1024;
const DESCRIPTORS: u64 = 10;

/// The limits for the growth of memory without any faults, in bytes: after 10,000 heartbeats, and
/// if there are fewer, in which the allocator still grows.
const STEADY: u64 = 512 * 1024;
const GROWING: u64 = 2 * 1024 * 1024;

/// The limit for the CPU time of a heartbeat, in ticks of 10 ms. Most of it builds clients.
const TICKS: u64 = 1;

/// A random fault. At most `slow` of them take a second, which is the time limit of a heartbeat.
pub(crate) fn fault(rng: &mut Rng, slow: &mut u32) -> Step {
    let bare = |status, body: &str| Step::Respond(Response::bare(status, body));
    let throttle = Response::error(400, "ThrottlingException", "Rate exceeded");
    match rng.u8(..18) {
        0 => Step::fault(),
        1 => bare(503, "<h1>Service Unavailable"),
        2 => Step::ResetBefore,
        3 => Step::ResetWithin,
        4 => Step::body(""),
        5 => Step::body("{}"),
        6 => Step::body("null"),
        7 => Step::body(r#"{"terminate":"true"}"#),
        8 => bare(200, r#"{"terminate":true}"#),
        9 => bare(302, r#"{"terminate":true}"#),
        10 => bare(200, "<html>"),
        11 => Step::EndlessHead,
        12 => Step::deny(),
        13 => Step::error(400, "ExpiredTokenException", "It expired"),
        14 => bare(407, ""),
        15 => Step::Respond(throttle.header("x-amz-retry-after", "20")),
        16 => bare(429, ""),
        _ if *slow > 0 => {
            *slow -= 1;
            let steps = [Step::Hang, Step::StallWithin];
            steps[rng.usize(..2)].clone()
        }
        _ => Step::endless(),
    }
}

/// A random script with `faults` faults, and now and then an acknowledgement.
fn random_script(rng: &mut Rng, faults: usize) -> Vec<Step> {
    let mut slow = rounds(1, 5);
    let mut script = Vec::new();
    for _ in 0..faults {
        if rng.u8(..10) == 0 {
            script.push(Step::Ok);
        }
        script.push(fault(rng, &mut slow));
    }
    script
}

#[test]
fn random_faults_leak_nothing_and_do_not_stop_the_runner() {
    let script = random_script(&mut Rng::with_seed(seed()), rounds(200, 2000));
    let count = script.len();
    let endpoint = Endpoint::play(script, Step::Ok);
    let daemon =
        Taskbeat::run(&endpoint).set("--interval", "60ms").script(runner::OBEDIENT).start();
    let leader = daemon.wait_for_pid("ready");
    endpoint.wait_for(WARM_UP);
    let pid = daemon.pid();
    let usage = || [memory(pid), descriptors(pid), processor_time(pid)];
    let before = usage();
    for received in (WARM_UP..count).step_by(100) {
        endpoint.wait_for(received);
        assert!(is_alive(leader), "the runner exited");
    }
    // Two heartbeats after the script: the daemon goes on.
    endpoint.wait_for(count + 2);
    let after = usage();
    let heartbeats = u64::try_from(count - WARM_UP).unwrap();
    let limits = [MEMORY, DESCRIPTORS, TICKS * heartbeats];
    for (kind, name) in ["bytes", "descriptors", "ticks"].into_iter().enumerate() {
        let (before, after) = (before[kind], after[kind]);
        assert!(after <= before + limits[kind], "{before}, then {after} {name}");
    }
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text().matches("stopped").count(), 1);
}

/// Its memory and descriptors after `TASKBEAT_HEARTBEATS` heartbeats. At most 100 are sent in a
/// second, so that 1,000,000 take three hours.
fn does_not_grow(daemon: Daemon, endpoint: &Endpoint) {
    let count = number("TASKBEAT_HEARTBEATS").unwrap_or(rounds(200, 1_000));
    // The least that is in use between two of so many heartbeats.
    let usage = |heartbeats: usize| {
        let mut least = (u64::MAX, u64::MAX);
        for _ in 0..heartbeats / 10 {
            endpoint.wait_for(10);
            endpoint.forget_requests();
            least.0 = least.0.min(anonymous_memory(daemon.pid()));
            least.1 = least.1.min(descriptors(daemon.pid()));
        }
        least
    };
    usage(count.min(10_000));
    let before = usage(100);
    usage(count);
    let after = usage(100);
    println!("after {count} heartbeats: {before:?}, then {after:?}");
    let limit = if count < 10_000 { GROWING } else { STEADY };
    assert!(after.0 <= before.0 + limit, "{before:?}, then {after:?} bytes");
    assert!(after.1 <= before.1 + DESCRIPTORS, "{before:?}, then {after:?} descriptors");
    endpoint.switch_to(Step::Terminate);
    assert_eq!(daemon.finish().status, 0);
}

#[test]
fn memory_does_not_grow_with_the_number_of_heartbeats() {
    let endpoint = Endpoint::ok();
    let daemon = Taskbeat::run(&endpoint).set("--interval", "10ms").set("--log", "warn").start();
    does_not_grow(daemon, &endpoint);
}

#[test]
fn memory_does_not_grow_with_the_number_of_tls_connections() {
    let close = Response::acknowledge(false).header("Connection", "close");
    let endpoint = Endpoint::play([], Step::Respond(close));
    let authority = Authority::new("ours");
    let certified = Certified { name: "localhost", until: 2100 };
    let tls = Tls::before(endpoint.addr(), &authority, certified);
    let program = Taskbeat::new("run").to(&tls.url());
    let trusted = program.home().join("trusted.pem");
    authority.write(&trusted);
    let program = program.env("SSL_CERT_FILE", trusted).set("--interval", "10ms");
    let daemon = program.set("--log", "warn").start();
    let requests = endpoint.wait_for(2);
    assert_ne!(requests[0].connection, requests[1].connection);
    does_not_grow(daemon, &endpoint);
}
