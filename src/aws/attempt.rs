//! Runs work on a thread of its own, because libraries in it may block or panic: they read files,
//! look up names and wait for other processes.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use humantime::format_duration;
use tokio::runtime::Builder;
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::messages::panicked;

/// Maximum number of threads at a time. More than one means that the others hang.
const MOST_THREADS: usize = 4;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

/// What a thread is doing, in the words of "timed out …".
type Stage = Arc<Mutex<String>>;

/// Records what the work on this thread does from now on: `reading /root/.aws/config`.
pub(super) fn stage(doing: impl Into<String>) {
    STAGE.with_borrow(|stage| {
        *stage.lock().unwrap_or_else(PoisonError::into_inner) = doing.into();
    });
}

/// Runs `work` on a new thread with a runtime of its own. Cancel safe: if this future is dropped,
/// the thread drops the work as soon as it does not block, and ends.
///
/// # Errors
///
/// The work fails, panics or takes longer than `limit`, or the kernel refuses the thread.
pub(super) async fn run<T, F>(
    limit: Duration,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, String>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>>,
{
    let counted = Counted::new()
        .ok_or_else(|| format!("not tried: {MOST_THREADS} earlier attempts still hang"))?;
    let stage = Stage::default();
    let (sender, result) = oneshot::channel();
    let set_by_work = Arc::clone(&stage);
    let main = move || {
        let _counted = counted;
        STAGE.set(set_by_work);
        let mut sender = sender;
        let done = catch_unwind(AssertUnwindSafe(|| drive(work, &mut sender)));
        // It fails if the limit has passed or the heartbeat was abandoned.
        let _ = sender.send(done.unwrap_or_else(|panic| Err(panicked(&*panic))));
    };
    let thread = thread::Builder::new().name("heartbeat".to_owned());
    thread.spawn(main).map_err(|error| format!("cannot start a thread: {error}"))?;
    let Ok(done) = timeout(limit, result).await else {
        let doing = stage.lock().unwrap_or_else(PoisonError::into_inner);
        return Err(format!("timed out after {} {doing}", format_duration(limit)));
    };
    done.unwrap_or_else(|_| Err("the thread ended without a result".to_owned()))
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
            result = work() => result,
            () = sender.closed() => Err("abandoned".to_owned()),
        }
    });
    // The SDK may have started a blocking call on another thread.
    runtime.shutdown_background();
    result
}

/// Counts a thread for as long as it lives.
struct Counted;

impl Counted {
    /// `None` if there are [`MOST_THREADS`] already.
    fn new() -> Option<Self> {
        let one_more = |threads| (threads < MOST_THREADS).then_some(threads + 1);
        let counted = THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        counted.is_ok().then(|| Self)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}
