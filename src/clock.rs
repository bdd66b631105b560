//! The core's time, which is tokio's, so that tests can pause it; and suspensions of the host,
//! during which it stands still.

use std::future;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::core::Time;
use crate::sys::watch;

/// The shortest suspension that is reported. The two clocks are not read at the same moment.
const NOISE: Duration = Duration::from_secs(1);

/// Counts awake time since its start: tokio's clock is `CLOCK_MONOTONIC`, which stands still while
/// the host is suspended.
pub(crate) struct Clock {
    start: Instant,
    /// How far `CLOCK_BOOTTIME`, which goes on, was ahead when the two were last compared.
    ahead: Duration,
    /// A timer of `CLOCK_BOOTTIME`. Without it, a suspension is noticed at the next event.
    alarm: Option<AsyncFd<OwnedFd>>,
}

impl Clock {
    /// A clock that shows [`Time::ZERO`] now. Call it inside a runtime.
    pub(crate) fn start() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let alarm = timerfd_create(TimerfdClockId::Boottime, flags).ok();
        Self { start: Instant::now(), ahead: ahead(), alarm: alarm.and_then(|fd| watch(fd).ok()) }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        Time::after_start(self.start.elapsed())
    }

    /// The instant at which the clock shows `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + time.since_start()
    }

    /// How long the host was suspended since the last call; `None` if it was not.
    pub(crate) fn gap(&mut self) -> Option<Duration> {
        self.passed(ahead())
    }

    fn passed(&mut self, ahead: Duration) -> Option<Duration> {
        let gap = ahead.checked_sub(self.ahead).filter(|gap| *gap >= NOISE)?;
        self.ahead = ahead;
        Some(gap)
    }

    /// Returns if `deadline` passes during a suspension. tokio's timer would only go on from where
    /// it stood still. Cancel safe.
    pub(crate) async fn alarm(&self, deadline: Option<Time>) {
        let (Some(alarm), Some(deadline)) = (&self.alarm, deadline) else {
            return future::pending().await;
        };
        // Later than the deadline, for which the timer is responsible while the host is awake.
        let left = deadline - self.now() + NOISE;
        let time = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(left).unwrap_or_default(),
        };
        // Setting it also clears an earlier expiration.
        if timerfd_settime(alarm.get_ref(), TimerfdTimerFlags::empty(), &time).is_err() {
            return future::pending().await;
        }
        match alarm.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => future::pending().await,
        }
    }
}

fn ahead() -> Duration {
    let now = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
    now(ClockId::Boottime).saturating_sub(now(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use tokio::runtime::Builder;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs `work` while tokio's clock stands still, as during a suspension.
    fn suspended<T: Send + 'static>(
        work: impl AsyncFnOnce(Clock) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, result) = channel();
        thread::spawn(move || {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_all().start_paused(true).build().unwrap();
            let _ = sender.send(runtime.block_on(async { work(Clock::start()).await }));
        });
        // tokio's own timeouts pass at once if nothing else is left to wait for.
        result.recv_timeout(30 * SECOND).ok()
    }

    #[test]
    fn a_suspension_is_reported_once() {
        suspended(async |mut clock| {
            assert_eq!(clock.gap(), None);
            let start = clock.ahead;
            for (ahead, gap) in [
                (5 * SECOND, Some(5 * SECOND)),
                (5 * SECOND, None),
                // Too short to be reported, but not forgotten.
                (5 * SECOND + NOISE / 2, None),
                (5 * SECOND + NOISE, Some(NOISE)),
                // The noise goes both ways.
                (5 * SECOND + NOISE / 2, None),
                (9 * SECOND, Some(3 * SECOND)),
            ] {
                assert_eq!(clock.passed(start + ahead), gap, "{ahead:?}");
            }
        })
        .expect("an answer at once");
    }

    #[test]
    fn the_alarm_goes_off_while_the_clock_stands_still() {
        let boottime = || Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap();
        let (deadlines, waits) = suspended(async move |clock| {
            // That it was due once does not make it due again.
            let deadlines = [SECOND / 5, Duration::ZERO];
            let mut waits = Vec::new();
            for deadline in deadlines {
                let start = boottime();
                clock.alarm(Some(Time::after_start(deadline))).await;
                waits.push(boottime().saturating_sub(start));
            }
            assert_eq!(clock.now(), Time::ZERO);
            (deadlines, waits)
        })
        .expect("an alarm");
        for (deadline, waited) in deadlines.into_iter().zip(waits) {
            let due = deadline + NOISE;
            assert!(waited >= due && waited < due + 10 * SECOND, "{waited:?}");
        }
    }
}
