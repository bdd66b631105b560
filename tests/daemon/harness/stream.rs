//! What a process writes, collected while it runs.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use super::PATIENCE;

/// One output of a process, from its first byte on.
pub(crate) struct Stream {
    name: &'static str,
    shared: Arc<(Mutex<Written>, Condvar)>,
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    ended: bool,
}

impl Stream {
    /// Collects what comes out of `pipe`.
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

    /// Waits for a whole line that contains `text`, and returns it.
    pub(super) fn wait_for(&self, text: &str) -> String {
        let line = |written: &Written| {
            let shown = String::from_utf8_lossy(&written.bytes);
            let whole = shown
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            let found = whole.map(str::trim_end).find(|line| line.contains(text));
            found.map(str::to_owned)
        };
        let written = self.wait(|written| written.ended || line(written).is_some());
        let found = line(&written);
        // The lock is needed to show what there is instead.
        drop(written);
        found.unwrap_or_else(|| panic!("no {text:?} on {self}"))
    }

    /// Waits until `count` lines contain `text`.
    pub(super) fn wait_for_lines(&self, text: &str, count: usize) {
        let there = |written: &Written| {
            let shown = String::from_utf8_lossy(&written.bytes);
            shown.lines().filter(|line| line.contains(text)).count() >= count
        };
        let written = self.wait(|written| written.ended || there(written));
        let found = there(&written);
        // The lock is needed to show what there is instead.
        drop(written);
        assert!(found, "no {count} times {text:?} on {self}");
    }

    /// Waits until nobody can write any more, and returns everything.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.wait(|written| written.ended).bytes.clone()
    }

    /// What was written so far.
    pub(super) fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.shared.0.lock().unwrap().bytes).into_owned()
    }

    fn wait(&self, until: impl Fn(&Written) -> bool) -> MutexGuard<'_, Written> {
        let (written, changed) = &*self.shared;
        let (written, waited) = changed
            .wait_timeout_while(written.lock().unwrap(), PATIENCE, |written| !until(written))
            .unwrap();
        if waited.timed_out() {
            // The lock is needed to show what there is.
            drop(written);
            panic!("nothing more happens on {self}");
        }
        written
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}
