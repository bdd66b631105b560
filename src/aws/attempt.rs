//! Runs work on a thread of its own, because libraries in it may block or panic: they read files,
//! look up names and wait for other processes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use humantime::format_duration;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::messages::panicked;
use crate::text;

/// Maximum number of threads at a time. More than one means that the others hang.
const MOST_THREADS: usize = 4;

/// Each thread has a permit for as long as it lives.
static THREADS: Semaphore = Semaphore::const_new(MOST_THREADS);

thread_local! {
    /// What this thread is doing, in the words of "timed out …", and since when.
    static STAGE: RefCell<(watch::Sender<String>, Instant)> =
        RefCell::new((watch::Sender::default(), Instant::now()));
}

/// Records what the work on this thread does from now on: `reading /root/.aws/config`. Logs what it
/// did before, and how long that took.
pub(super) fn stage(doing: impl Into<String>) {
    STAGE.with_borrow_mut(|(stage, since)| {
        let done = stage.send_replace(doing.into());
        if !done.is_empty() {
            debug!(took = %text::duration(since.elapsed()), "{done}");
        }
        *since = Instant::now();
    });
}

/// Runs `work` on a new thread with a runtime of its own. Cancel safe: if this future is dropped,
/// the thread drops the work as soon as it does not block, and ends. It fails if the work fails,
/// panics or takes longer than `limit`.
pub(super) async fn run<T, F>(
    limit: Duration,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>>,
{
    let permit = THREADS
        .try_acquire()
        .map_err(|_| format!("not tried: {MOST_THREADS} earlier attempts still hang"))?;
    let (set_by_work, stage) = watch::channel(String::new());
    let (mut sender, result) = oneshot::channel();
    let main = move || {
        let _permit = permit;
        STAGE.set((set_by_work, Instant::now()));
        let done = catch_unwind(AssertUnwindSafe(|| drive(work, &mut sender)));
        // It fails if the limit has passed or the heartbeat was abandoned.
        let _ = sender.send(done.unwrap_or_else(|panic| Err(panicked(&*panic))));
    };
    let thread = thread::Builder::new().name("heartbeat".to_owned());
    thread.spawn(main).map_err(|error| format!("cannot start a thread: {error}"))?;
    match timeout(limit, result).await {
        Ok(done) => done.unwrap_or_else(|_| Err("the thread ended without a result".to_owned())),
        Err(_) => Err(format!("timed out after {} {}", format_duration(limit), *stage.borrow())),
    }
}

/// The work's result, unless the receiver of `sender` is dropped first.
fn drive<T, F: Future<Output = Result<T, String>>>(
    work: impl FnOnce() -> F,
    sender: &mut oneshot::Sender<Result<T, String>>,
) -> Result<T, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let result = runtime.block_on(async {
        select! {
            result = work() => {
                stage("");
                result
            }
            () = sender.closed() => Err("abandoned".to_owned()),
        }
    });
    // The SDK may have started a blocking call on another thread.
    runtime.shutdown_background();
    result
}
