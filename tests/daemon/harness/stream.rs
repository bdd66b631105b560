//! The output of a process, collected by a thread while the process runs.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::TIMEOUT;

/// One output stream of a process, from its first byte on.
pub(crate) struct Stream {
    name: &'static str,
    shared: Arc<(Mutex<Written>, Condvar)>,
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The complete lines that contain `text`.
    fn lines_with(&self, text: &str) -> Vec<String> {
        let shown = self.text();
        let lines = shown.split_inclusive('\n');
        lines
            .filter(|line| line.ends_with('\n') && line.contains(text))
            .map(|line| line.trim_end().to_owned())
            .collect()
    }
}

impl Stream {
    /// Collects the output of `pipe`.
    pub(super) fn follow(name: &'static str, mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Written::default()), Condvar::new()));
        let writer = Arc::clone(&shared);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut written = writer.0.lock().unwrap();
                written.bytes.extend_from_slice(&buffer[..read]);
                written.ended = read == 0;
                writer.1.notify_all();
                if read == 0 {
                    break;
                }
            }
        });
        Self { name, shared }
    }

    /// Waits for a complete line that contains `text`, and returns the first.
    pub(super) fn wait_for(&self, text: &str) -> String {
        self.wait_for_lines(text, 1).swap_remove(0)
    }

    /// Waits until at least `count` complete lines contain `text`, and returns them.
    pub(super) fn wait_for_lines(&self, text: &str, count: usize) -> Vec<String> {
        let complete = |written: &Written| written.lines_with(text).len() >= count;
        let written = self.wait(|written| written.ended || complete(written));
        let lines = written.lines_with(text);
        // A failed test prints the stream, which takes the lock.
        drop(written);
        assert!(
            lines.len() >= count,
            "{}: {} of {count} lines with {text:?}",
            self.name,
            lines.len()
        );
        lines
    }

    /// Waits until no process has the stream open any more, and returns everything.
    pub(super) fn wait_for_end(&self) -> Vec<u8> {
        let written = self.wait(|written| written.ended);
        let (bytes, ended) = (written.bytes.clone(), written.ended);
        drop(written);
        assert!(ended, "timed out: {} is still open", self.name);
        bytes
    }

    /// The text so far.
    pub(super) fn so_far(&self) -> String {
        self.shared.0.lock().unwrap().text()
    }

    /// Waits until `done`, or until [`TIMEOUT`] is over.
    fn wait(&self, done: impl Fn(&Written) -> bool) -> MutexGuard<'_, Written> {
        let (written, changed) = &*self.shared;
        let written = written.lock().unwrap();
        let waited = changed.wait_timeout_while(written, TIMEOUT, |written| !done(written));
        waited.unwrap().0
    }
}
