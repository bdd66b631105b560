//! What the signals to taskbeat mean.
//!
//! | signal | meaning |
//! | --- | --- |
//! | SIGTERM, SIGINT | a stop |
//! | SIGHUP | a reload; a stop in a terminal; ignored under nohup |
//! | SIGTSTP, SIGTTIN, SIGTTOU | forwarded; taskbeat stops when the runner's leader has stopped |
//! | SIGCHLD | a child has changed |
//! | SIGPIPE, SIGXCPU, SIGXFSZ | ignored |
//! | SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP | a crash of taskbeat |
//! | all others | forwarded |

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use signal_hook::consts::{
    SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSEGV,
    SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_tokio::SignalsInfo;
use tokio::time::{Instant, Sleep, sleep};

use crate::runner::Terminal;
use crate::sys::{LAST_SIGNAL, is_ignored, reset_signals, unblock_signals};

/// Signals that are not caught: the first two cannot be, the crashes are defects of taskbeat or the
/// watchdog of systemd, and std ignores SIGPIPE. A handler for SIGPIPE would write to the pipe that
/// wakes the loop, and so raise the signal again for ever once that pipe is closed.
const NOT_CAUGHT: [i32; 10] =
    [SIGKILL, SIGSTOP, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGPIPE];

/// The numbers that the C library reserves for its threads.
const RESERVED: [i32; 2] = [32, 33];

/// Minimum time between two child events, so that a runner that forks heavily cannot starve the
/// loop.
const CHILD_PACE: Duration = Duration::from_millis(10);

/// The signals that are caught as stops.
static STOPS: OnceLock<Vec<i32>> = OnceLock::new();

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) signal: u8,
    /// True if the kernel sent it to the whole foreground group of the terminal (Ctrl-C), so that a
    /// runner in that group already has it.
    pub(crate) from_terminal: bool,
}

/// A signal that is not a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalEvent {
    ChildChanged,
    /// The operator asks for a reload.
    Reload,
    /// A signal for the runner.
    Forward {
        signal: i32,
        /// True if the runner already has it, as in [`Stop`].
        from_terminal: bool,
    },
}

/// The stops, in their order.
pub(crate) struct Stops {
    caught: SignalsInfo<WithOrigin>,
    context: StartContext,
}

/// The other signals. Those of one kind that arrive together count once.
pub(crate) struct Signals {
    caught: SignalsInfo<WithOrigin>,
    context: StartContext,
    child_changed: bool,
    /// Ends when the next child event may be reported.
    child_pace: Pin<Box<Sleep>>,
}

/// How taskbeat was started, which decides what the sender of a signal means.
#[derive(Clone, Copy)]
struct StartContext {
    /// True if the runner is in taskbeat's process group, to which the terminal sends signals.
    shared_group: bool,
    /// True if taskbeat was started with SIGINT ignored: a script in the foreground has put it into
    /// the background, and keys are not meant for it.
    background: bool,
}

/// Catches the signals from now on, whatever the signal mask was. Call it inside a runtime, before
/// anything is started.
///
/// # Errors
///
/// No descriptor is free.
pub(crate) fn catch(terminal: Option<&Terminal>) -> io::Result<(Stops, Signals)> {
    let context = StartContext {
        shared_group: terminal.is_some_and(Terminal::shares_group),
        background: is_ignored(SIGINT),
    };
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let stop_on_hangup = terminal.and(hangup);
    let stops = [SIGTERM, SIGINT].into_iter().chain(stop_on_hangup);
    let stops: Vec<i32> = stops.collect();
    let left_out = |signal: &i32| {
        NOT_CAUGHT.contains(signal)
            || RESERVED.contains(signal)
            || stops.contains(signal)
            || *signal == SIGHUP && hangup.is_none()
    };
    let others = (1..=LAST_SIGNAL).filter(|signal| !left_out(signal));
    // Caught before they are unblocked, so that a pending signal does not meet its default action.
    let others = SignalsInfo::new(others)?;
    let stops = SignalsInfo::new(STOPS.get_or_init(|| stops))?;
    unblock_signals()?;
    let stops = Stops { caught: stops, context };
    let signals = Signals {
        caught: others,
        context,
        child_changed: false,
        child_pace: Box::pin(sleep(Duration::ZERO)),
    };
    Ok((stops, signals))
}

/// Gives stops their default action again. Call it before taskbeat waits for a reader of its
/// output, because then it reads no signals.
pub(crate) fn release() {
    reset_signals(STOPS.get().into_iter().flatten());
}

/// True for the signals by which job control stops a process.
pub(crate) fn is_job_control(signal: i32) -> bool {
    [SIGTSTP, SIGTTIN, SIGTTOU].contains(&signal)
}

impl StartContext {
    fn is_from_terminal(self, origin: &Origin) -> bool {
        self.shared_group && matches!(origin.cause, Cause::Kernel)
    }

    /// True for a key that was pressed for the script in the foreground.
    fn is_for_others(self, origin: &Origin) -> bool {
        self.background
            && matches!(origin.signal, SIGINT | SIGQUIT)
            && matches!(origin.cause, Cause::Kernel)
    }
}

impl Stream for Stops {
    type Item = Stop;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Stop>> {
        while let Some(origin) = ready!(self.caught.poll_next_unpin(context)) {
            if !self.context.is_for_others(&origin) {
                return Poll::Ready(Some(Stop {
                    signal: u8::try_from(origin.signal).unwrap_or(u8::MAX),
                    // A hang-up is sent to the session leader alone.
                    from_terminal: origin.signal != SIGHUP
                        && self.context.is_from_terminal(&origin),
                }));
            }
        }
        Poll::Ready(None)
    }
}

impl Stream for Signals {
    type Item = SignalEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<SignalEvent>> {
        while let Poll::Ready(origin) = self.caught.poll_next_unpin(context) {
            let Some(origin) = origin else {
                return Poll::Ready(None);
            };
            match origin.signal {
                SIGCHLD => self.child_changed = true,
                SIGHUP => return Poll::Ready(Some(SignalEvent::Reload)),
                SIGXCPU | SIGXFSZ => {}
                _ if self.context.is_for_others(&origin) => {}
                signal => {
                    let from_terminal = self.context.is_from_terminal(&origin);
                    return Poll::Ready(Some(SignalEvent::Forward { signal, from_terminal }));
                }
            }
        }
        if !self.child_changed {
            return Poll::Pending;
        }
        ready!(self.child_pace.poll_unpin(context));
        self.child_pace.as_mut().reset(Instant::now() + CHILD_PACE);
        self.child_changed = false;
        Poll::Ready(Some(SignalEvent::ChildChanged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_child_event_waits() {
        let mut signals = Signals {
            caught: SignalsInfo::new([] as [i32; 0]).unwrap(),
            context: StartContext { shared_group: false, background: false },
            child_changed: true,
            child_pace: Box::pin(sleep(Duration::ZERO)),
        };
        assert_eq!(signals.next().await, Some(SignalEvent::ChildChanged));
        signals.child_changed = true;
        assert_eq!(signals.next().now_or_never(), None);
        assert_eq!(signals.next().await, Some(SignalEvent::ChildChanged));
    }
}
