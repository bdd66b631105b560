//! The signals that are for us, as a stream of what they mean.

mod echo;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use rustix::process::{Pid, getpid};
use signal_hook::consts::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
    SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};
use signal_hook_tokio::SignalsInfo;

use self::echo::Echoless;
use crate::process::{Terminal, is_ignored, unblock_signals};

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

/// The stream of what was heard. Two stops in a row stay two, unless one is the other's echo.
pub struct Signals {
    caught: Echoless<SignalsInfo<WithOrigin>>,
    /// Whether the runner is in one job with us.
    one_job: bool,
    /// Whether the terminal has hung up.
    hung_up: bool,
}

impl Signals {
    /// Catches the signals from now on, whatever mask we were started with. To be called before
    /// anything is started. `terminal` is the one that the runner is to share with us.
    ///
    /// # Errors
    ///
    /// The kernel refuses, which it does only without free descriptors.
    pub fn catch(terminal: Option<&Terminal>) -> io::Result<Self> {
        // Caught first: a signal that waits behind the mask must not meet its default.
        let caught = SignalsInfo::new(CAUGHT)?;
        if !is_ignored(SIGHUP) {
            caught.handle().add_signal(SIGHUP)?;
        }
        unblock_signals()?;
        Ok(Self {
            caught: Echoless::new(caught, is_stop_by_a_process),
            one_job: terminal.is_some(),
            hung_up: false,
        })
    }

    fn meaning(&mut self, origin: &Origin) -> Heard {
        let told = self.one_job && matches!(origin.cause, Cause::Kernel);
        match origin.signal {
            SIGCHLD => Heard::Child,
            SIGTERM | SIGINT => Heard::Stop { told },
            SIGHUP if !self.one_job => Heard::Reload,
            // The shell tells its jobs, and when it ends the kernel tells those in front: one stop.
            // A session's leader is told alone, so that the runner is yet to hear of it.
            SIGHUP if !std::mem::replace(&mut self.hung_up, true) => Heard::Stop { told: false },
            SIGCONT => Heard::Continue,
            // The kernel never stops a process 1, and the runner alone must not be: heartbeats go on.
            SIGTSTP | SIGTTIN | SIGTTOU if getpid() == Pid::INIT => Heard::Nothing,
            SIGTSTP | SIGTTIN | SIGTTOU if !told => Heard::Suspend(Some(origin.signal)),
            SIGTSTP | SIGTTIN | SIGTTOU if Terminal::has_job_control() => Heard::Suspend(None),
            SIGQUIT | SIGUSR1 | SIGUSR2 | SIGWINCH if !told => Heard::Forward(origin.signal),
            _ => Heard::Nothing,
        }
    }
}

/// A key that was pressed twice is no echo.
fn is_stop_by_a_process(origin: &Origin) -> bool {
    matches!(origin.signal, SIGTERM | SIGINT) && matches!(origin.cause, Cause::Sent(_))
}

impl Stream for Signals {
    type Item = Heard;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Heard>> {
        self.caught
            .poll_next_unpin(context)
            .map(|origin| origin.map(|origin| self.meaning(&origin)))
    }
}
