//! A runner that taskbeat did not start, to attach to.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::{is_alive, wait_for_end};

/// A child of the test. It is killed when this is dropped.
pub(crate) struct ExternalRunner {
    child: Child,
}

impl ExternalRunner {
    /// Runs a shell script and waits for its first line of output, which means that it is ready.
    pub(crate) fn start(script: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready);
        assert!(read.unwrap() > 0, "no output of {script}");
        Self { child }
    }

    /// A runner that any stop signal ends.
    pub(crate) fn plain() -> Self {
        Self::start("echo ready; exec sleep 120")
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn is_alive(&self) -> bool {
        is_alive(self.pid())
    }

    /// Waits for its end, and returns the signal that ended it.
    pub(crate) fn wait_for_end(&mut self) -> Option<i32> {
        wait_for_end(self.pid());
        self.child.wait().unwrap().signal()
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ExternalRunner {
    fn drop(&mut self) {
        self.kill();
    }
}
