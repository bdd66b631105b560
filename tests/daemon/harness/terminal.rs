//! A pseudoterminal. The program has its one end, the test has the other: keyboard and screen.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use super::stream::Stream;
use super::{Daemon, Taskbeat, in_session, signal};

/// Opens the terminal, which becomes the controlling terminal of a session without one.
const OPEN: &str = r#"terminal=$1; shift; exec "$@" <>"$terminal" >&0 2>&0"#;

/// A terminal without echo, so that the screen shows only what programs write.
pub(crate) struct Terminal {
    keyboard: Option<File>,
    screen: Option<Stream>,
    /// Ends the thread that reads the screen when it is dropped.
    plug: Option<PipeWriter>,
    name: String,
    session: Option<i32>,
}

impl Terminal {
    pub(crate) fn open() -> Self {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let mut modes = tcgetattr(&end).unwrap();
        modes.local_modes -= LocalModes::ECHO;
        tcsetattr(&end, OptionalActions::Now, &modes).unwrap();
        let name = ptsname(&end, Vec::new()).unwrap();
        Self {
            keyboard: Some(File::from(end)),
            screen: None,
            plug: None,
            name: name.into_string().unwrap(),
            session: None,
        }
    }

    /// Starts an interactive shell in the terminal. Its `"$@"` is the program.
    pub(crate) fn shell(&mut self, program: Taskbeat) -> Daemon {
        let bash = ["bash", "--noprofile", "--norc", "--noediting", "-i", "-s"];
        self.start(program.env("PS1", "").env("PS2", ""), &bash)
    }

    /// Starts the program in the terminal without a shell: it leads the session.
    pub(crate) fn alone(&mut self, program: Taskbeat) -> Daemon {
        self.start(program, &["env"])
    }

    fn start(&mut self, program: Taskbeat, through: &[&str]) -> Daemon {
        let leader =
            program.via(&["sh", "-c", OPEN, "sh", &self.name]).via(through).via(&["--"]).start();
        self.session = Some(leader.pid());
        let (unplugged, plug) = io::pipe().unwrap();
        let end = self.keyboard().try_clone().unwrap();
        self.screen = Some(Stream::follow("the screen", Screen { end, unplugged }));
        self.plug = Some(plug);
        leader
    }

    /// Presses these keys.
    pub(crate) fn press(&self, keys: &str) {
        self.keyboard().write_all(keys.as_bytes()).unwrap();
    }

    /// Types a line.
    pub(crate) fn enter(&self, line: &str) {
        self.press(&format!("{line}\n"));
    }

    pub(crate) fn resize(&self, columns: u16) {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.keyboard(), size).unwrap();
    }

    /// Waits for a line on the screen that contains `text`, and returns it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.screen().wait_for(text)
    }

    /// Waits for the line `word NUMBER`, and returns the number.
    pub(crate) fn wait_for_number(&self, word: &str) -> i32 {
        let line = self.wait_for(&format!("{word} "));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// The text on the screen so far.
    pub(crate) fn text(&self) -> String {
        self.screen().so_far()
    }

    /// The number of lines on the screen that are `line`.
    pub(crate) fn count(&self, line: &str) -> usize {
        let shown = self.text();
        shown.lines().filter(|shown| shown.trim() == line).count()
    }

    /// Hangs up: closes the test's end of the terminal.
    pub(crate) fn hang_up(&mut self) {
        self.keyboard = None;
        self.plug = None;
        self.screen().wait_for_end();
    }

    fn keyboard(&self) -> &File {
        self.keyboard.as_ref().unwrap()
    }

    fn screen(&self) -> &Stream {
        self.screen.as_ref().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Processes are left only after a failure.
        if let Some(session) = self.session {
            for pid in in_session(session) {
                signal(pid, Signal::KILL);
            }
        }
        if let (true, Some(screen)) = (std::thread::panicking(), &self.screen) {
            eprintln!("--- screen:\n{}---", screen.so_far());
        }
    }
}

/// Reads what the terminal shows, until it is unplugged.
struct Screen {
    end: File,
    unplugged: PipeReader,
}

impl Read for Screen {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ready =
            [PollFd::new(&self.unplugged, PollFlags::IN), PollFd::new(&self.end, PollFlags::IN)];
        poll(&mut ready, None)?;
        if ready[0].revents().is_empty() { self.end.read(buffer) } else { Ok(0) }
    }
}
