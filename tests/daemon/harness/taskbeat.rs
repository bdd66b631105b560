//! The program, started in an environment that holds nothing but what a test puts there.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use procfs::process::all_processes;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::stream::Stream;
use super::{Endpoint, PATIENCE, our_runners, runner};

/// What is to be started.
pub(crate) struct Taskbeat {
    subcommand: &'static str,
    flags: Vec<OsString>,
    runner: Vec<OsString>,
    /// What the program is started through.
    via: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    id: String,
    home: TempDir,
    stdin: Stdio,
}

impl Taskbeat {
    /// A subcommand, with an identity and credentials in its environment, and nobody to send heartbeats to.
    ///
    /// Nothing is hurried and nothing is killed unless a test asks for it: what goes wrong shows as a hang.
    pub(crate) fn new(subcommand: &'static str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        // A host has one instance for each id, and tests run side by side.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{number}", our_runners());
        let home = TempDir::new().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = Self {
            subcommand,
            flags: Vec::new(),
            runner: Vec::new(),
            // No signal that the tests may have been told to ignore (`nohup`), and a session of its own: the terminal
            // in which they may run is none of its business.
            via: ["env", "--default-signal", "setsid"]
                .map(OsString::from)
                .to_vec(),
            env: Vec::new(),
            stdin: Stdio::null(),
            id: id.clone(),
            home,
        };
        let home = program.home().to_owned();
        program
            .env("PATH", path)
            .env("HOME", home)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret-key")
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("TASKBEAT_TASKRUNNER_ID", id)
            .env("TASKBEAT_HOSTNAME", "runner.example")
            .env("TASKBEAT_INTERVAL", "300ms")
            .env("TASKBEAT_JITTER", "0%")
            .env("TASKBEAT_GRACE", "1h")
    }

    /// `taskbeat run`, with heartbeats to `endpoint`.
    pub(crate) fn run(endpoint: &Endpoint) -> Self {
        Self::new("run").to(&endpoint.url())
    }

    /// Where the heartbeats go.
    pub(crate) fn to(self, url: &str) -> Self {
        self.env("AWS_ENDPOINT_URL_DATA_PIPELINE", url)
    }

    pub(crate) fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub(crate) fn set(self, flag: &str, value: impl Into<OsString>) -> Self {
        self.flag(flag).flag(value)
    }

    pub(crate) fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self = self.without(&name);
        self.env.push((name, value.into()));
        self
    }

    pub(crate) fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != name.as_ref());
        self
    }

    /// Starts the program through another one.
    pub(crate) fn via(mut self, words: &[&str]) -> Self {
        self.via.extend(words.iter().map(OsString::from));
        self
    }

    /// The runner is this script.
    pub(crate) fn script(self, script: &str) -> Self {
        let script = format!("{}{script}", runner::PRELUDE);
        self.command(&["/bin/sh", "-c", &script])
    }

    /// The runner is this command.
    pub(crate) fn command(mut self, words: &[&str]) -> Self {
        self.runner = words.iter().map(OsString::from).collect();
        self
    }

    /// The program gets a standard input that the test writes to.
    pub(crate) fn with_stdin(mut self) -> Self {
        self.stdin = Stdio::piped();
        self
    }

    /// Its task runner id, unless a test sets another.
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }

    /// Its home directory, which is gone with it.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Whether a program can be started through these words.
    pub(crate) fn can(words: &[&str], home: &Path) -> bool {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("true").current_dir(home);
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    pub(crate) fn start(self) -> Daemon {
        let mut words = self.via;
        words.push(env!("CARGO_BIN_EXE_taskbeat").into());
        words.push(self.subcommand.into());
        words.extend(self.flags);
        if !self.runner.is_empty() {
            words.push("--".into());
            words.extend(self.runner);
        }
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .envs(self.env)
            .current_dir(self.home.path())
            .stdin(self.stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (sender, ended) = channel();
        thread::spawn(move || {
            // It is reaped by its owner, whose id for it is good until then.
            let _ = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
            let _ = sender.send(());
        });
        Daemon {
            pid,
            stdin: child.stdin.take(),
            stdout: Stream::follow("stdout", child.stdout.take().unwrap()),
            stderr: Stream::follow("stderr", child.stderr.take().unwrap()),
            child,
            ended,
            status: None,
            _home: self.home,
        }
    }

    /// Starts it, and waits for its end and the end of its output.
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// The running program. Neither it nor its runner outlives the test.
pub(crate) struct Daemon {
    pid: Pid,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
    ended: Receiver<()>,
    status: Option<i32>,
    _home: TempDir,
}

impl Daemon {
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for a line of the log that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.stderr.wait_for(text)
    }

    /// Waits until `count` lines of the log contain `text`.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) {
        self.stderr.wait_for_lines(text, count);
    }

    /// Waits for a line of the runner's output that contains `text`.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.stdout.wait_for(text)
    }

    /// Waits for the runner's line `word PID`, and returns the process id.
    pub(crate) fn wait_for_pid(&self, word: &str) -> i32 {
        let line = self.wait_for_output(&format!("{word} "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.so_far()
    }

    /// The runner's output so far.
    pub(crate) fn output(&self) -> String {
        self.stdout.so_far()
    }

    /// Writes to the standard input.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes the standard input.
    pub(crate) fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end, and returns the exit status.
    pub(crate) fn wait(&mut self) -> i32 {
        if self.status.is_none() {
            self.ended
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("taskbeat does not end"));
            self.status = self.child.wait().unwrap().code();
        }
        self.status
            .unwrap_or_else(|| panic!("taskbeat was ended by a signal"))
    }

    /// Waits for the end, and that of the output.
    pub(crate) fn finish(mut self) -> Finished {
        Finished {
            status: self.wait(),
            stdout: self.stdout.whole(),
            stderr: String::from_utf8_lossy(&self.stderr.whole()).into_owned(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status.is_none() {
            let session = members_of_session(self.pid);
            let _ = self.child.kill();
            let _ = self.child.wait();
            for process in session {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        if thread::panicking() {
            eprintln!(
                "--- stderr:\n{}--- stdout:\n{}---",
                self.log(),
                self.output()
            );
        }
    }
}

/// The others of the session that the program leads: runners, if they did not leave it.
fn members_of_session(leader: Pid) -> Vec<Pid> {
    let stats = all_processes().into_iter().flatten().flatten();
    let stats = stats.filter_map(|process| process.stat().ok());
    let members =
        stats.filter(|stat| stat.session == leader.as_raw_pid() && stat.pid != leader.as_raw_pid());
    members.filter_map(|stat| Pid::from_raw(stat.pid)).collect()
}

/// What is left of the program after its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// The standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}
