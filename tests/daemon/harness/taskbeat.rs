//! The program under test, in an environment that holds only what the test puts there.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use super::stream::Stream;
use super::{Endpoint, OTHER_USER, TIMEOUT, id_prefix, in_session, runner, signal, text};

/// A command line of taskbeat and its environment, as `std::process::Command` builds them.
pub(crate) struct Taskbeat {
    /// The path of the binary.
    binary: PathBuf,
    subcommand: &'static str,
    flags: Vec<OsString>,
    runner: Vec<OsString>,
    /// Commands in front of the program, such as `env` or `sh -c`.
    via: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    id: String,
    home: TempDir,
    stdin: Stdio,
    stdout: Stdio,
}

impl Taskbeat {
    /// A subcommand with an identity and credentials in its environment, but without an endpoint.
    ///
    /// The grace is an hour: a runner that does not stop shows as a hang of the test.
    pub(crate) fn new(subcommand: &'static str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        // taskbeat refuses to start twice with one id on a host, and tests run in parallel.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{number}", id_prefix());
        let home = TempDir::new().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = Self {
            binary: env!("CARGO_BIN_EXE_taskbeat").into(),
            subcommand,
            flags: Vec::new(),
            runner: Vec::new(),
            // The program ends with the thread of its test, even if that is killed. Undo what the
            // tests may have inherited: ignored signals (`nohup`) and a terminal.
            via: ["setpriv", "--pdeathsig=KILL", "env", "--default-signal", "setsid"]
                .map(OsString::from)
                .to_vec(),
            env: Vec::new(),
            stdin: Stdio::null(),
            stdout: Stdio::piped(),
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

    /// `taskbeat run` with heartbeats to `endpoint`.
    pub(crate) fn run(endpoint: &Endpoint) -> Self {
        Self::new("run").to(&endpoint.url())
    }

    /// Sends the heartbeats to `url`.
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

    /// Starts the program through another one, which executes its arguments.
    pub(crate) fn via(mut self, words: &[&str]) -> Self {
        self.via.extend(words.iter().map(OsString::from));
        self
    }

    /// Lets [`OTHER_USER`] start the program, who can read its home.
    pub(crate) fn by_other_user(mut self) -> Self {
        // Only root may be able to reach the binary where Cargo has put it.
        let copy = self.home.path().join("taskbeat");
        // By another process: no child of this one inherits the descriptor that writes the file,
        // which could not be executed meanwhile.
        assert!(Command::new("cp").arg(&self.binary).arg(&copy).status().unwrap().success());
        fs::set_permissions(self.home.path(), Permissions::from_mode(0o755)).unwrap();
        self.binary = copy;
        self.via(&OTHER_USER)
    }

    /// Sets the runner to a shell script, after [`runner::PRELUDE`].
    pub(crate) fn script(self, script: &str) -> Self {
        let script = format!("{}{script}", runner::PRELUDE);
        self.command(&["/bin/sh", "-c", &script])
    }

    /// Sets the runner to a command.
    pub(crate) fn command(mut self, words: &[&str]) -> Self {
        self.runner = words.iter().map(OsString::from).collect();
        self
    }

    /// Makes stdin a pipe to which the test writes. By default it is /dev/null.
    pub(crate) fn with_stdin(mut self) -> Self {
        self.stdin = Stdio::piped();
        self
    }

    /// Sets stdout. By default it is a pipe that the test reads.
    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = stdout.into();
        self
    }

    /// The task runner id, unless the test sets another.
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }

    /// The home and working directory, which is deleted at the end of the test.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// True if a program can be started through these words.
    pub(crate) fn can_start_via(words: &[&str], home: &Path) -> bool {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("true").current_dir(home);
        let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    pub(crate) fn start(self) -> Daemon {
        let mut words = self.via;
        words.push(self.binary.into());
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
            .stdout(self.stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (sender, ended) = channel();
        thread::spawn(move || {
            // Leave the zombie to `Daemon`, which signals it by its id.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = waitid(WaitId::Pid(pid), options);
            let _ = sender.send(());
        });
        Daemon {
            pid,
            stdin: child.stdin.take(),
            stdout: match child.stdout.take() {
                Some(pipe) => Stream::follow("stdout", pipe),
                None => Stream::follow("stdout", io::empty()),
            },
            stderr: Stream::follow("stderr", child.stderr.take().unwrap()),
            child,
            ended,
            status: None,
            _home: self.home,
        }
    }

    /// Starts the program and waits for its end, see [`Daemon::finish`].
    pub(crate) fn finish(self) -> Finished {
        self.start().finish()
    }
}

/// The running program. If the test ends first, it is killed together with its session.
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

    /// Sends SIGTERM as a second stop: stops within a second of the first count as one.
    pub(crate) fn stop_again(&self) {
        self.wait_for_log(text::STOP);
        thread::sleep(Duration::from_millis(1100));
        self.signal(Signal::TERM);
    }

    /// Waits for a line of stderr that contains `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.stderr.wait_for(text)
    }

    /// Waits until at least `count` lines of stderr contain `text`, and returns them.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) -> Vec<String> {
        self.stderr.wait_for_lines(text, count)
    }

    /// Waits for a line of stdout that contains `text`, and returns it.
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.stdout.wait_for(text)
    }

    /// Waits for the line `word PID` of stdout, and returns the process id.
    pub(crate) fn wait_for_pid(&self, word: &str) -> i32 {
        let line = self.wait_for_output(&format!("{word} "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The text on stderr so far.
    pub(crate) fn log(&self) -> String {
        self.stderr.so_far()
    }

    /// The text on stdout so far.
    pub(crate) fn output(&self) -> String {
        self.stdout.so_far()
    }

    /// Writes to stdin, see [`Taskbeat::with_stdin`].
    pub(crate) fn write_stdin(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes stdin.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end of the program, and returns its exit status.
    pub(crate) fn wait(&mut self) -> i32 {
        if self.status.is_none() {
            self.ended
                .recv_timeout(TIMEOUT)
                .unwrap_or_else(|_| panic!("timed out: taskbeat is still running"));
            self.status = self.child.wait().unwrap().code();
        }
        self.status.unwrap_or_else(|| panic!("a signal ended taskbeat"))
    }

    /// Waits for the end of the program, and until no process has its output open any more.
    pub(crate) fn finish(mut self) -> Finished {
        Finished {
            status: self.wait(),
            stdout: self.stdout.wait_for_end(),
            stderr: String::from_utf8_lossy(&self.stderr.wait_for_end()).into_owned(),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status.is_none() {
            // The runner is in the session, too, unless it left it.
            let session = in_session(self.pid());
            let _ = self.child.kill();
            let _ = self.child.wait();
            for pid in session.into_iter().filter(|pid| *pid != self.pid()) {
                signal(pid, Signal::KILL);
            }
        }
        if thread::panicking() {
            let (log, output) = (self.log(), self.output());
            eprintln!("--- stderr:\n{log}--- stdout:\n{output}---");
        }
    }
}

/// The exit status and the output of the program after its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// Stdout as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}
