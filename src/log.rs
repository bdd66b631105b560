//! Log lines: to stderr, without ever making the loop wait, and only our own.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::linux::fs::MetadataExt;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, debug};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Format, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{self, LogFormat};
use crate::sys::without_sigttou;

/// How many lines may wait for somebody to read them.
const UNREAD: usize = 1_000;

/// Keeps the writer alive. When it is dropped what is still unwritten is written, for a second at most.
pub struct Log {
    /// Those that found too many others waiting, and those that could not be written.
    dropped: (ErrorCounter, Arc<AtomicUsize>),
    own: reload::Handle<Targets, Registry>,
    _writer: WorkerGuard,
}

impl Log {
    /// Sends the log to stderr from now on.
    ///
    /// Only lines of our own targets are let through: what the SDK and its HTTP client trace may hold secrets.
    ///
    /// # Errors
    ///
    /// The kernel has no thread to spare.
    pub fn start(settings: config::LogSettings) -> io::Result<Self> {
        // The one that writes is started by a library, which panics when it cannot be.
        let _ = Builder::new().spawn(|| ())?.join();
        let writer = NonBlockingBuilder::default()
            .buffered_lines_limit(UNREAD)
            .thread_name("log");
        let lines = Lines::to(io::stderr());
        let lost = Arc::clone(&lines.lost);
        // A line of ours must not stop us where `stty tostop` is set and somebody else is in front.
        let (writer, guard) = without_sigttou(|| writer.finish(lines))?;
        let dropped = (writer.error_counter(), lost);
        let plain = layer::<Registry>().with_writer(writer);
        let lines = match settings.format {
            LogFormat::Json => plain.json().flatten_event(true).with_target(false).boxed(),
            LogFormat::Auto if is_journal() => plain.event_format(Journal::default()).boxed(),
            LogFormat::Auto | LogFormat::Text => plain
                .with_ansi(io::stderr().is_terminal())
                .with_target(false)
                .boxed(),
        };
        let (filter, own) = reload::Layer::new(own(settings.level));
        // Only a second start can fail, and that one leaves the first in place.
        let _ = tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .try_init();
        // Whoever catches a panic says what it was; the default would say so, too, and wait until somebody reads it.
        panic::set_hook(Box::new(|panic| debug!("{panic}")));
        Ok(Self {
            dropped,
            own,
            _writer: guard,
        })
    }

    /// Lets through what `level` allows from now on.
    pub fn set_level(&self, level: LevelFilter) {
        // It fails only when there is no log any more.
        let _ = self.own.reload(own(level));
    }

    /// How many lines nobody took, so far.
    #[must_use]
    pub fn dropped(&self) -> usize {
        let (waiting, lost) = &self.dropped;
        waiting.dropped_lines() + lost.load(Ordering::Relaxed)
    }
}

/// Counts the lines that cannot be written, as on a full disk. What writes them is silent about it.
struct Lines<W> {
    to: W,
    lost: Arc<AtomicUsize>,
    /// Whether the newest line was lost.
    losing: bool,
    /// Whether only a part of the newest one that was not has been written.
    torn: bool,
}

impl<W: Write> Lines<W> {
    fn to(to: W) -> Self {
        Self {
            to,
            lost: Arc::default(),
            losing: false,
            torn: false,
        }
    }

    fn go_on(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.losing && self.torn {
            self.torn = self.to.write(b"\n")? == 0;
        }
        let written = self.to.write(bytes)?;
        self.torn = !bytes[..written].ends_with(b"\n");
        Ok(written)
    }
}

impl<W: Write> Write for Lines<W> {
    /// The rest of a line, or all of it. After a failure the next one comes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.go_on(bytes);
        self.losing = match &written {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return written,
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
        };
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn own(level: LevelFilter) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

/// systemd names the journal's socket in the environment; it counts only if stderr is that very socket.
fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}

/// The format of sd-daemon(3): a priority in front; the time is the journal's business.
struct Journal(Format<format::Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(
            Format::default()
                .without_time()
                .with_level(false)
                .with_target(false)
                .with_ansi(false),
        )
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}
