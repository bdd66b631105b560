//! What a life left behind, and what must be true of it whatever the timing was.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::runners::{Runner, STATUSES};
use crate::harness::{Finished, text};

/// What happened to a life that may be the cause of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    Terminate,
    /// A stop by the signal of this number.
    Stop(i32),
    /// Another signal, to taskbeat or to the runner.
    Signal(i32),
}

pub(super) struct Evidence {
    seed: u64,
    pub(super) started: Instant,
    pub(super) steps: Vec<String>,
    /// The number of steps before those that end the life.
    pub(super) last: Option<usize>,
    pub(super) sent: BTreeSet<Sent>,
    /// The shortest time from one acknowledged heartbeat to the next.
    pub(super) shortest: Duration,
    /// `lost-contact-after` was set at some time.
    pub(super) may_give_up: bool,
    faults: Vec<String>,
}

/// A line of the log.
struct Line(Value);

impl Line {
    fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }

    fn is(&self, message: &str) -> bool {
        self.message().starts_with(message)
    }

    fn status(&self) -> Option<i64> {
        self.0["status"].as_i64()
    }
}

impl Evidence {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            started: Instant::now(),
            steps: Vec::new(),
            last: None,
            sent: BTreeSet::new(),
            shortest: Duration::MAX,
            may_give_up: false,
            faults: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, what: &str) {
        self.steps.push(format!("{:>9.3?} {what}", self.started.elapsed()));
    }

    pub(super) fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    fn expect(&mut self, holds: bool, what: &str) {
        if !holds {
            self.faults.push(what.to_owned());
        }
    }

    /// Checks the end of a life that lasted so long. `left` are the processes of the runner then.
    pub(super) fn check(
        &mut self,
        runner: &Runner,
        status: i32,
        lasted: Duration,
        finished: &Finished,
        left: &str,
    ) {
        let parsed =
            finished.stderr.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
        let lines: Vec<_> = parsed.unwrap_or_default().into_iter().map(Line).collect();
        self.expect(!lines.is_empty(), "the log is not JSON");
        let has = |message: &str| lines.iter().any(|line| line.is(message));
        // On a machine that is too busy to kill within five seconds, taskbeat exits with a message.
        if !has("cannot be killed") {
            self.expect(left == "[]", "processes are left");
        }
        if !has("dropped") {
            self.check_end(runner, status, &lines);
            self.check_heartbeats(lasted, &lines);
            self.check_ladder(&lines);
        }
        let Self { seed, steps, faults, .. } = self;
        assert!(
            faults.is_empty(),
            "TASKBEAT_SEED={seed}: {faults:#?}\nstatus {status}, left: {left}\n{}\n{}\n{}",
            match runner {
                Runner::Child { script, .. } => script,
                Runner::Attached { .. } => "attached",
                Runner::Followed { .. } => "followed",
                Runner::None { .. } => "no runner",
            },
            steps.join("\n"),
            finished.stderr
        );
    }

    /// The exit status is that of the first final cause, and the cause is real.
    fn check_end(&mut self, runner: &Runner, status: i32, lines: &[Line]) {
        let at = |message: &str| lines.iter().position(|line| line.is(message));
        let ended = at(text::RUNNER_ENDED).or(at("cannot attach to process"));
        let own = ended.and_then(|place| lines[place].status());
        let own = own.and_then(|own| i32::try_from(own).ok());
        let stops: Vec<i32> = self
            .sent
            .iter()
            .filter_map(|sent| if let Sent::Stop(number) = sent { Some(*number) } else { None })
            .collect();
        let terminate = at(text::TERMINATE);
        let given_up = at("contact lost: stop signal to");
        let first = |one: Option<usize>, others: [Option<usize>; 2]| {
            one.is_some_and(|one| others.into_iter().flatten().all(|other| one < other))
        };
        let exits: Vec<_> = lines.iter().filter(|line| line.message() == "exit").collect();
        let told = matches!(exits[..], [exit] if exit.status() == Some(i64::from(status)));
        self.expect(told, "the exit is not in the log");
        if terminate.is_some() {
            self.expect(self.sent.contains(&Sent::Terminate), "terminate was never sent");
        }
        if status == 69 {
            self.expect(self.may_give_up, "contact may be lost for ever");
            return;
        }
        let expected = match runner {
            _ if first(given_up, [terminate, ended]) => vec![69],
            Runner::Child { .. } if first(ended, [terminate, None]) => {
                self.check_own(own, lines);
                own.into_iter().collect()
            }
            Runner::Attached { .. } if first(ended, [terminate, at("stop requested")]) => vec![1],
            _ if terminate.is_some() => vec![0],
            Runner::Child { .. } if at(text::RUNNER_STARTED).is_none() => {
                stops.iter().map(|number| 128 + number).collect()
            }
            // It could not be killed in time.
            Runner::Child { .. } => vec![137],
            Runner::Attached { .. } | Runner::Followed { .. } | Runner::None { .. }
                if stops.is_empty() =>
            {
                vec![]
            }
            Runner::Attached { .. } | Runner::Followed { .. } | Runner::None { .. } => vec![0],
        };
        self.expect(expected.contains(&status), &format!("the status is none of {expected:?}"));
    }

    /// The runner can exit with this status.
    fn check_own(&mut self, own: Option<i32>, lines: &[Line]) {
        let own = own.unwrap_or(-1);
        let stopped = lines.iter().any(|line| line.message().contains("stop signal to"));
        let killed = lines.iter().any(|line| line.is(text::SIGKILL));
        let by_signal = |number: i32| {
            (number == 15 && stopped)
                || (number == 9 && killed)
                || self.sent.contains(&Sent::Signal(number))
        };
        let possible = STATUSES.contains(&own) || own > 128 && by_signal(own - 128);
        self.expect(possible, &format!("nothing makes the runner exit with {own}"));
    }

    /// Heartbeats are true, keep their pace, and end at terminate; contact is told once.
    fn check_heartbeats(&mut self, lasted: Duration, lines: &[Line]) {
        let (mut runs, mut stopped, mut terminated, mut lost) = (true, false, false, false);
        for line in lines {
            match line.message() {
                text::RUNNER_STARTED => runs = true,
                text::RUNNER_ENDED => (runs, stopped) = (false, false),
                "the runner's leader changed state" => stopped = line.0["stopped"] == true,
                "heartbeat sent" => {
                    self.expect(runs, "a heartbeat without a runner");
                    self.expect(!stopped, "a heartbeat of a stopped runner");
                    self.expect(!terminated, "a heartbeat after terminate");
                }
                message if message.starts_with(text::TERMINATE) => terminated = true,
                _ => {}
            }
            if let Some(contact) = line.0["contact"].as_str() {
                self.expect(lost == (contact == "regained"), "contact is told twice");
                lost = contact == "lost";
            }
        }
        let acknowledged = |line: &&Line| line.is("heartbeat acknowledged, next");
        let intervals = u32::try_from(lines.iter().filter(acknowledged).count()).unwrap_or(0);
        self.expect(
            self.shortest.saturating_mul(intervals.saturating_sub(1)) <= lasted,
            "heartbeats are too close",
        );
    }

    /// No process gets the stop signal twice.
    fn check_ladder(&mut self, lines: &[Line]) {
        let mut signalled = BTreeSet::new();
        for line in lines.iter().filter(|line| line.message().contains(text::STOPPING)) {
            for pid in line.0["pids"].as_str().unwrap_or_default().split(", ") {
                self.expect(signalled.insert(pid), &format!("two stop signals to {pid}"));
            }
        }
    }
}
