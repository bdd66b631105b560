//! Random runners, and what happens to them without taskbeat.

use std::path::{Path, PathBuf};

use fastrand::Rng;
use rustix::process::Signal;

use super::evidence::{Evidence, Sent};
use crate::harness::{ExternalRunner, Taskbeat, marked, replace_file, signal};

/// What the leader does when it is stopped, as a shell script.
const TRAPS: [&str; 5] = [
    "",
    "trap '' TERM",
    "trap 'exit 42' TERM",
    "trap 'sleep 0.1; exit 42' TERM",
    "trap '' TERM INT HUP QUIT USR1 USR2 ALRM",
];

/// What the leader starts, as shell scripts. Each ends by itself after a minute at most.
const BRANCHES: [&str; 10] = [
    "sleep 60 &",
    "(trap '' TERM; exec sleep 60) &",
    "setsid sleep 60 &",
    // Daemons: their parents exit.
    "(setsid sh -c 'sleep 60 & sleep 60 &' &)",
    "(sh -c '(trap \"\" TERM; setsid sleep 60 &) &' &)",
    // A process group of its own, and a child that is killed after it.
    "timeout 50 sh -c 'sleep 60 & wait' &",
    // Forks all the time, and leaves orphans.
    "(for i in 1 2 3 4 5 6 7 8 9; do (sleep 0.3 &); sleep 0.05; done) &",
    "(sh -c 'kill -STOP $$; sleep 60' &)",
    "true & false &",
    "sh -c 'sh -c \"sh -c \\\"sleep 60 & wait\\\" & wait\" & wait' &",
];

/// How the leader goes on.
const ENDS: [&str; 6] = [
    "sleep 60 & wait $!; exit 99",
    "sleep 60 & wait $!; exit 99",
    "sleep 60 & wait $!; exit 99",
    "exec sleep 60",
    "sleep 0.3; exit 7",
    "kill -STOP $$; sleep 60 & wait $!; exit 99",
];

/// The statuses with which the scripts above end, unless a signal does it.
pub(super) const STATUSES: [i32; 4] = [0, 7, 42, 99];

/// Contents of a pid file that name no process.
const NO_PID: [&str; 4] = ["", "\n\n", "-1\n", "1e9"];

pub(super) enum Runner {
    Child { script: String, mark: String },
    Attached { runner: ExternalRunner, mark: String },
    Followed { runner: ExternalRunner, file: PathBuf, mark: String },
    None { mark: String },
}

impl Runner {
    pub(super) fn random(rng: &mut Rng, seed: u64, home: &Path) -> Self {
        let mark = format!("MARK_OF_TEST=chaos-{}-{seed}", std::process::id());
        match rng.u8(..10) {
            0 => Self::Attached { runner: external(rng), mark },
            1..3 => {
                let (runner, file) = (external(rng), home.join("pid"));
                replace_file(&file, &format!("{}\n", runner.pid()));
                Self::Followed { runner, file, mark }
            }
            3 => Self::None { mark },
            _ => {
                let trap = TRAPS[rng.usize(..TRAPS.len())];
                let branches: Vec<_> =
                    (0..rng.usize(..5)).map(|_| BRANCHES[rng.usize(..BRANCHES.len())]).collect();
                let end = ENDS[rng.usize(..ENDS.len())];
                // Without what the shell says of children that are killed.
                let script = format!("exec 2>/dev/null\n{trap}\n{}\n{end}", branches.join("\n"));
                Self::Child { script, mark }
            }
        }
    }

    /// The daemon's command line with this runner.
    pub(super) fn attach(&self, program: Taskbeat) -> Taskbeat {
        match self {
            Self::Child { script, mark } => program.command(&["env", mark, "sh", "-c", script]),
            Self::Attached { runner, .. } => program.set("--pid", runner.pid().to_string()),
            Self::Followed { file, .. } => program.set("--pid-file", file),
            Self::None { .. } => program,
        }
    }

    /// The variable that is in the environment of every process of a child.
    pub(super) fn mark(&self) -> &str {
        match self {
            Self::Child { mark, .. }
            | Self::Attached { mark, .. }
            | Self::Followed { mark, .. }
            | Self::None { mark } => mark,
        }
    }

    /// Something happens to a process of the runner.
    pub(super) fn disturb(&mut self, rng: &mut Rng, evidence: &mut Evidence) {
        let signals = [Signal::KILL, Signal::TERM, Signal::STOP, Signal::CONT, Signal::CONT];
        let chosen = signals[rng.usize(..signals.len())];
        let victim = match self {
            Self::Child { mark, .. } => {
                let processes = marked(mark);
                match processes.len() {
                    0 => return,
                    count => processes[rng.usize(..count)],
                }
            }
            Self::Followed { runner, file, .. } if rng.bool() => {
                if rng.bool() {
                    evidence.step("a new runner");
                    evidence.sent.insert(Sent::Signal(Signal::KILL.as_raw()));
                    *runner = external(rng);
                    replace_file(file, &format!("{}\n", runner.pid()));
                } else {
                    evidence.step("a bad pid file");
                    replace_file(file, NO_PID[rng.usize(..NO_PID.len())]);
                }
                return;
            }
            Self::Attached { runner, .. } | Self::Followed { runner, .. } => {
                // A zombie until it is reaped, so that its id is not reused.
                runner.pid()
            }
            Self::None { .. } => return,
        };
        evidence.step(&format!("{chosen:?} to process {victim}"));
        evidence.sent.insert(Sent::Signal(chosen.as_raw()));
        signal(victim, chosen);
    }
}

fn external(rng: &mut Rng) -> ExternalRunner {
    let trap = TRAPS[rng.usize(..TRAPS.len())];
    ExternalRunner::start(&format!("{trap}\necho ready; exec sleep 60"))
}
