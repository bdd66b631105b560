//! Random lives of the real binary: random runners, responses, signals, kills and reloads, name
//! servers and metadata services that fail, one after the other at random moments, and then a look
//! at what must hold whatever the timing was.
//!
//! Each life has a seed, which a failure prints. `TASKBEAT_SEED` begins with the life of that seed,
//! and `TASKBEAT_CHAOS_STEPS` sets the number of steps in all lives together: 360,000 of them take
//! about an hour.

mod evidence;
mod host;
mod runners;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use self::evidence::{Evidence, Sent};
use self::host::{Host, Names};
use self::runners::Runner;
use crate::harness::{
    Daemon, Endpoint, Step, Taskbeat, in_parallel, is_alive, marked, number, replace_file, rounds,
    seed, signal, text,
};
use crate::soak::fault;

/// The longest time between two steps. Most are much closer.
const PAUSE: Duration = Duration::from_millis(60);

const SECRET: &str = "the-secret-key-of-a-random-life";

/// Signals that taskbeat passes on to a child, and that end a child without a trap.
const FORWARDED: [Signal; 4] = [Signal::USR1, Signal::USR2, Signal::QUIT, Signal::ALARM];

/// Files that are refused, whatever the settings were before.
const BROKEN: [&str; 5] = [
    "interval = ",
    "interval = \"16m\"",
    "grace = 5",
    "intervall = \"1s\"",
    "interval = \"1s\"\nlost-contact-after = \"2s\"",
];

#[test]
fn random_lives_keep_the_promises() {
    let mut left = number("TASKBEAT_CHAOS_STEPS").unwrap_or(rounds(300, 6_000));
    let lives = (seed()..).map_while(|seed| {
        let mut rng = Rng::with_seed(seed);
        let steps = rng.usize(1..30);
        let more = left > 0;
        left = left.saturating_sub(steps);
        more.then_some((seed, rng, steps))
    });
    let names = Names::new();
    let names = names.as_ref();
    in_parallel(lives, |(seed, rng, steps)| Life::start(seed, rng, names).live(steps));
}

/// One daemon, from its start to its end.
struct Life<'a> {
    rng: Rng,
    host: Host<'a>,
    endpoint: Endpoint,
    runner: Runner,
    daemon: Daemon,
    id: String,
    file: PathBuf,
    evidence: Evidence,
    /// How many more heartbeats may hang.
    slow: u32,
}

/// A configuration file. Some of its settings keep the daemon from ever sending a heartbeat.
fn settings(rng: &mut Rng, evidence: &mut Evidence) -> String {
    let interval = rng.u64(20..300);
    // Never shorter than half the interval: by the jitter, or for the health check.
    evidence.shortest = evidence.shortest.min(Duration::from_millis(interval / 2));
    let mut lines = vec![
        format!("interval = \"{interval}ms\""),
        format!("jitter = \"{}%\"", rng.u32(0..50)),
        format!("grace = \"{}ms\"", rng.u32(0..400)),
    ];
    if rng.u8(..6) == 0 {
        evidence.may_give_up = true;
        lines.push(format!("lost-contact-after = \"{}ms\"", 1_000 + 3 * interval));
    }
    if rng.u8(..4) == 0 {
        let command = ["true", "exit 1", "sleep 60", "kill -KILL $$"][rng.usize(..4)];
        lines.push(format!("on-terminate = \"{command}\""));
    }
    if rng.u8(..4) == 0 {
        let command = ["true", "sleep 0.01", "[ $(($$ % 3)) -gt 0 ]"][rng.usize(..3)];
        lines.push(format!("health-check = \"{command}\""));
    }
    if rng.u8(..4) == 0 {
        let command = ["true", "sleep 60"][rng.usize(..2)];
        lines.push(format!("on-contact-change = \"{command}\""));
    }
    if rng.u8(..4) == 0 {
        lines.push("after-terminate = \"idle\"".to_owned());
    }
    if rng.u8(..3) == 0 {
        lines.push("stop-scope = \"process\"".to_owned());
    }
    lines.join("\n")
}

impl<'a> Life<'a> {
    fn start(seed: u64, mut rng: Rng, names: Option<&'a Names>) -> Self {
        let mut evidence = Evidence::new(seed);
        let host = Host::random(&mut rng, seed, names);
        let endpoint = host.endpoint();
        let program = Taskbeat::run(&endpoint);
        let runner = Runner::random(&mut rng, seed, program.home());
        let (id, file) = (program.id(), program.home().join("taskbeat.toml"));
        fs::write(&file, settings(&mut rng, &mut evidence)).unwrap();
        let program = ["INTERVAL", "JITTER", "GRACE"]
            .iter()
            .fold(program, |program, name| program.without(format!("TASKBEAT_{name}")));
        let program = program
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .set("--config", &file)
            .set("--log-format", "json")
            .flag("-v");
        let program = host.run_daemon(program, &endpoint);
        evidence.started = Instant::now();
        let daemon = runner.attach(program).start();
        let slow = rng.u32(..2);
        Self { rng, host, endpoint, runner, daemon, id, file, evidence, slow }
    }

    /// Lives to the end, and checks what is left.
    fn live(mut self, steps: usize) {
        // Signals are caught by now.
        self.daemon.wait_for_log(text::TASKBEAT_STARTED);
        for _ in 0..steps {
            let pause = PAUSE.mul_f64(self.rng.f64().powi(3));
            // The moments are the input of this test, not a synchronisation.
            thread::sleep(pause);
            if !is_alive(self.daemon.pid()) {
                break;
            }
            self.step();
        }
        self.evidence.last = Some(self.evidence.steps.len());
        if self.rng.bool() {
            self.evidence.step("terminate");
            self.evidence.sent.insert(Sent::Terminate);
            self.endpoint.switch_to(Step::Terminate);
            thread::sleep(PAUSE.mul_f64(8.0 * self.rng.f64()));
        }
        // One stop ends every life: the grace is short, and one is enough for an idle daemon.
        self.stop(Signal::TERM);
        self.finish();
    }

    fn step(&mut self) {
        match self.rng.u8(..20) {
            0..4 => {
                let step = fault(&mut self.rng, &mut self.slow);
                self.evidence.step("a fault");
                self.endpoint.switch_to(step);
            }
            4..8 => {
                self.evidence.step("acknowledge");
                self.endpoint.switch_to(Step::Ok);
            }
            8..10 => self.reload(),
            10 => self.status(),
            11..13 => {
                let number = self.rng.usize(..FORWARDED.len() + 2);
                let signals = [&FORWARDED[..], &[Signal::CONT, Signal::WINCH]].concat();
                self.evidence.step(&format!("{:?} to taskbeat", signals[number]));
                self.evidence.sent.insert(Sent::Signal(signals[number].as_raw()));
                signal(self.daemon.pid(), signals[number]);
            }
            13 => {
                self.evidence.step("stop and continue taskbeat");
                signal(self.daemon.pid(), Signal::STOP);
                thread::sleep(PAUSE.mul_f64(3.0 * self.rng.f64()));
                signal(self.daemon.pid(), Signal::CONT);
            }
            14 if self.rng.u8(..3) == 0 => {
                self.evidence.step("terminate once");
                self.evidence.sent.insert(Sent::Terminate);
                self.endpoint.switch_to(Step::Terminate);
            }
            15 if self.rng.u8(..3) == 0 => {
                let stop = [Signal::TERM, Signal::INT][self.rng.usize(..2)];
                self.stop(stop);
            }
            16 | 17 if self.host.has_services() => {
                self.host.disturb(&mut self.rng, &mut self.evidence);
            }
            _ => self.runner.disturb(&mut self.rng, &mut self.evidence),
        }
    }

    fn stop(&mut self, stop: Signal) {
        self.evidence.step(&format!("stop by {stop:?}"));
        self.evidence.sent.insert(Sent::Stop(stop.as_raw()));
        signal(self.daemon.pid(), stop);
    }

    fn reload(&mut self) {
        match self.rng.u8(..8) {
            0 => {
                self.evidence.step("reload without a file");
                let _ = fs::remove_file(&self.file);
            }
            1..4 => {
                let broken = BROKEN[self.rng.usize(..BROKEN.len())];
                self.evidence.step(&format!("reload {broken:?}"));
                replace_file(&self.file, broken);
            }
            _ => {
                let settings = settings(&mut self.rng, &mut self.evidence);
                self.evidence.step(&format!("reload {settings:?}"));
                replace_file(&self.file, &settings);
            }
        }
        signal(self.daemon.pid(), Signal::HUP);
    }

    /// The status is an object, agrees with its exit status, and is of this daemon.
    fn status(&mut self) {
        self.evidence.step("status");
        let asked = Taskbeat::new("status").env("TASKBEAT_TASKRUNNER_ID", &self.id).flag("--json");
        let asked = self.host.run(asked).finish();
        let status: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        let in_contact = status["in_contact"].as_bool();
        let expected = if in_contact == Some(true) { 0 } else { 69 };
        if in_contact.is_none() || asked.status != expected {
            self.evidence.fault(format!("a status of {asked:?}"));
        }
        if status["error"].is_null() && status["pid"] != self.daemon.pid() {
            self.evidence.fault(format!("the status of another daemon: {status}"));
        }
        let requests = self.endpoint.requests().len();
        let acknowledged = status["heartbeats"]["acknowledged"].as_u64().unwrap_or_default();
        if acknowledged > requests as u64 {
            self.evidence.fault(format!("{acknowledged} acknowledged of {requests} requests"));
        }
    }

    fn finish(mut self) {
        self.evidence.step("end");
        let status = self.daemon.wait();
        let left = marked(self.runner.mark());
        let lasted = self.evidence.started.elapsed();
        for pid in &left {
            signal(*pid, Signal::KILL);
        }
        let finished = self.daemon.finish();
        let name = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline"));
        let left: Vec<_> = left.iter().map(|pid| (pid, name(pid))).collect();
        self.evidence.check(&self.runner, status, lasted, &finished, &format!("{left:?}"));
        for text in [finished.text(), finished.stderr] {
            assert!(!text.contains(SECRET), "a secret in {text}");
        }
    }
}
