//! The core's time, which is tokio's, so that tests can pause it; suspensions of the host, during
//! which it stands still; and the wall-clock time of its moments, which is only shown.

use std::fmt;
use std::future;
use std::os::fd::OwnedFd;
use std::time::{Duration, UNIX_EPOCH};

use humantime::{format_rfc3339_millis, format_rfc3339_seconds, parse_rfc3339};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use serde::{Deserialize, Serialize};
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
    /// The wall-clock time of [`Time::ZERO`], since 1970.
    epoch: Duration,
    /// A timer of `CLOCK_BOOTTIME`. Without it, a suspension is noticed at the next event.
    alarm: Option<AsyncFd<OwnedFd>>,
}

impl Clock {
    /// A clock that shows [`Time::ZERO`] now. Call it inside a runtime.
    pub(crate) fn start() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let alarm = timerfd_create(TimerfdClockId::Boottime, flags).ok();
        Self {
            start: Instant::now(),
            ahead: ahead(),
            epoch: read(ClockId::Realtime),
            alarm: alarm.and_then(|fd| watch(fd).ok()),
        }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Time {
        Time::after_start(self.start.elapsed())
    }

    /// The instant at which the clock shows `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + time.since_start()
    }

    /// The wall-clock time of [`Time::ZERO`]. It changes only if the wall clock was set or the host
    /// was suspended, so that a moment that is shown twice is shown alike.
    pub(crate) fn epoch(&mut self) -> WallTime {
        self.based_on(read(ClockId::Realtime).saturating_sub(self.start.elapsed()))
    }

    fn based_on(&mut self, epoch: Duration) -> WallTime {
        if epoch.abs_diff(self.epoch) >= NOISE {
            self.epoch = epoch;
        }
        WallTime(self.epoch)
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

/// The time since the zero of `clock`.
pub(crate) fn read(clock: ClockId) -> Duration {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}

fn ahead() -> Duration {
    read(ClockId::Boottime).saturating_sub(read(ClockId::Monotonic))
}

/// A wall-clock time, since 1970. As data it is a text of RFC 3339 in UTC, with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct WallTime(Duration);

impl WallTime {
    /// The moment `time`, where `self` is that of [`Time::ZERO`].
    pub(crate) fn of(self, time: Time) -> Self {
        Self(self.0 + time.since_start())
    }

    /// In seconds since 1970, with milliseconds.
    pub(crate) fn unix_seconds(self) -> f64 {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or_default();
        Duration::from_millis(milliseconds).as_secs_f64()
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_rfc3339_seconds(UNIX_EPOCH + self.0).fmt(f)
    }
}

impl From<WallTime> for String {
    fn from(time: WallTime) -> Self {
        format_rfc3339_millis(UNIX_EPOCH + time.0).to_string()
    }
}

impl TryFrom<String> for WallTime {
    type Error = humantime::TimestampError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let time = parse_rfc3339(&text)?;
        Ok(Self(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
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
    fn a_moment_moves_only_with_a_step_of_the_wall_clock() {
        suspended(async |mut clock| {
            let start = clock.epoch;
            for (epoch, shown) in [
                (start + NOISE / 2, start),
                (start + NOISE, start + NOISE),
                (start + NOISE / 2, start + NOISE),
                (start, start),
            ] {
                let moment = clock.based_on(epoch).of(Time::after_start(SECOND));
                assert_eq!(moment, WallTime(shown + SECOND));
            }
        })
        .expect("an answer at once");
    }

    #[test]
    fn a_wall_time_is_a_text_of_rfc_3339() {
        let time = WallTime(Duration::from_millis(1_795_670_760_416));
        assert_eq!(String::from(time), "2026-11-26T05:26:00.416Z");
        assert_eq!(time.to_string(), "2026-11-26T05:26:00Z");
        assert_eq!(WallTime::try_from("2026-11-26T05:26:00.416Z".to_owned()), Ok(time));
        assert!(WallTime::try_from("yesterday".to_owned()).is_err());
        assert_eq!(time.unix_seconds().to_string(), "1795670760.416");
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
