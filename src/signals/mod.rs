//! The signals that are for us, as a stream of what they mean.

mod echo;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use rustix::process::{Pid, getpid};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
    SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_tokio::SignalsInfo;
use tokio::time::{Instant, Sleep, sleep};

use self::echo::{Echoless, Sound, Stops};
use crate::runner::Terminal;
use crate::sys::{is_ignored, unblock_signals};

const CAUGHT: [i32; 11] = [
    SIGTERM, SIGINT, SIGCHLD, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGTTIN, SIGTTOU,
    SIGCONT,
];

/// What a signal means to the daemon. One that the terminal sent has reached the runner, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The operator wants us to stop: SIGTERM, SIGINT, or the terminal's hang-up.
    Stop {
        /// Whether the runner has had it.
        told: bool,
    },
    /// SIGCHLD: a child of ours, born or adopted, changed.
    Child,
    /// SIGHUP without a terminal: the operator changed the settings.
    Reload,
    /// The runner's: SIGQUIT (a thread dump, in Java), SIGUSR1, SIGUSR2, SIGWINCH.
    Forward(i32),
    /// Job control stops the runner, unless it has had the signal, and us.
    Suspend(Option<i32>),
    /// Job control lets us go on.
    Continue,
    /// Nothing that concerns us.
    Nothing,
}

/// The shortest time between two words about children. Whoever makes thousands of them a second is not
/// to keep us from anything else.
const CHILDREN: Duration = Duration::from_millis(10);

/// Says of each signal what it is to [`Echoless`].
type Judge = Box<dyn FnMut(&Origin) -> Sound>;

/// The stream of what was heard. Two stops in a row stay two, unless one is the other's echo.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and independent of the others"
)]
pub struct Signals {
    caught: Echoless<SignalsInfo<WithOrigin>, Judge>,
    /// Whether a terminal controls us, whose hang-up is a stop.
    terminal: bool,
    /// Whether the runner is in one job with us.
    one_job: bool,
    /// Whether keys are pressed for others: a script in front has put us into the background.
    background: bool,
    /// Whether the terminal has hung up.
    hung_up: bool,
    /// Whether a child changed, and that was not said yet.
    child: bool,
    /// Until when nothing is said of children.
    quiet: Pin<Box<Sleep>>,
}

impl Signals {
    /// Catches the signals from now on, whatever mask we were started with. To be called inside of a runtime, before
    /// anything is started. `terminal` is the one that controls us.
    ///
    /// # Errors
    ///
    /// The kernel refuses, which it does only without free descriptors.
    pub fn catch(terminal: Option<&Terminal>) -> io::Result<Self> {
        let background = is_ignored(SIGINT);
        let (mut terms, mut ints) = (Stops::by(SIGTERM)?, Stops::by(SIGINT)?);
        // A key that was pressed twice is no echo.
        let sound = move |origin: &Origin| match (origin.signal, origin.cause) {
            (SIGTERM, Cause::Sent(_)) => terms.hear(),
            (SIGINT, Cause::Sent(_)) => ints.hear(),
            _ => Sound::Other,
        };
        // Caught first: a signal that waits behind the mask must not meet its default.
        let caught = SignalsInfo::new(CAUGHT)?;
        if !is_ignored(SIGHUP) {
            caught.handle().add_signal(SIGHUP)?;
        }
        unblock_signals()?;
        Ok(Self {
            caught: Echoless::new(caught, Box::new(sound)),
            terminal: terminal.is_some(),
            one_job: terminal.is_some_and(Terminal::shares_job),
            background,
            hung_up: false,
            child: false,
            quiet: Box::pin(sleep(Duration::ZERO)),
        })
    }

    fn meaning(&mut self, origin: &Origin) -> Heard {
        let by_terminal = matches!(origin.cause, Cause::Kernel);
        let told = self.one_job && by_terminal;
        match origin.signal {
            SIGINT | SIGQUIT if self.background && by_terminal => Heard::Nothing,
            SIGTERM | SIGINT => Heard::Stop { told },
            SIGHUP if !self.terminal => Heard::Reload,
            // The shell tells its jobs, and when it ends the kernel tells those in front: one stop.
            // A session's leader is told alone, so that the runner is yet to hear of it.
            SIGHUP if !std::mem::replace(&mut self.hung_up, true) => Heard::Stop { told: false },
            SIGCONT => Heard::Continue,
            // The kernel never stops a process 1, and the runner alone must not be: heartbeats go on.
            SIGTSTP | SIGTTIN | SIGTTOU if getpid() == Pid::INIT => Heard::Nothing,
            SIGTSTP | SIGTTIN | SIGTTOU if by_terminal && !Terminal::has_job_control() => {
                Heard::Nothing
            }
            SIGTSTP | SIGTTIN | SIGTTOU => Heard::Suspend((!told).then_some(origin.signal)),
            SIGQUIT | SIGUSR1 | SIGUSR2 | SIGWINCH if !told => Heard::Forward(origin.signal),
            _ => Heard::Nothing,
        }
    }
}

impl Stream for Signals {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Heard>> {
        while let Poll::Ready(origin) = self.caught.poll_next_unpin(context) {
            match origin {
                Some(origin) if origin.signal == SIGCHLD => self.child = true,
                Some(origin) => return Poll::Ready(Some(self.meaning(&origin))),
                None => return Poll::Ready(None),
            }
        }
        if !self.child {
            return Poll::Pending;
        }
        ready!(self.quiet.poll_unpin(context));
        self.quiet.as_mut().reset(Instant::now() + CHILDREN);
        self.child = false;
        Poll::Ready(Some(Heard::Child))
    }
}
