//! The log: lines of taskbeat alone, written to stderr by a thread of its own, so that the loop
//! never waits.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, debug};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{
    DefaultVisitor, Format, FormatEvent, FormatFields, JsonFields, Writer,
};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{LogFormat, LogSettings};
use crate::sys::without_sigttou;

/// How many lines may wait to be written. Further ones are dropped.
const UNREAD: usize = 1_000;

/// Fields that only the JSON format shows, with all that follow them in their line: for people, the
/// message says the same.
const FOR_PROGRAMS: [&str; 3] = ["class", "contact", "pids"];

/// Lines that found no room, and lines that could not be written.
static DROPPED: OnceLock<(ErrorCounter, Arc<AtomicUsize>)> = OnceLock::new();

/// How many lines were dropped so far.
pub(crate) fn dropped() -> usize {
    let count = |(waiting, lost): &(ErrorCounter, Arc<AtomicUsize>)| {
        waiting.dropped_lines() + lost.load(Ordering::Relaxed)
    };
    DROPPED.get().map_or(0, count)
}

/// Keeps the writer alive. When it is dropped, lines that wait are written, for a second at most.
pub(crate) struct Log {
    filter: reload::Handle<Targets, Registry>,
    _writer: WorkerGuard,
}

impl Log {
    /// Sends the log to stderr from now on.
    ///
    /// Only taskbeat's own lines pass, because traces of the SDK and its HTTP client may hold
    /// secrets.
    ///
    /// # Errors
    ///
    /// The kernel has no free thread.
    pub(crate) fn start(settings: LogSettings) -> io::Result<Self> {
        // A panic is reported where it is caught. The default hook would block on stderr.
        panic::set_hook(Box::new(|panic| debug!("{panic}")));
        let lines = Lines::to(io::stderr());
        let lost = Arc::clone(&lines.lost);
        let (writer, guard) = in_background(lines)?;
        let _ = DROPPED.set((writer.error_counter(), lost));
        let plain = layer::<Registry>().with_writer(writer);
        let journal = is_journal();
        let lines = match settings.format {
            LogFormat::Json => {
                let json = Format::default().json().flatten_event(true).with_target(false);
                let json = Prioritized { format: json, journal };
                plain.fmt_fields(JsonFields::new()).event_format(json).boxed()
            }
            LogFormat::Auto if journal => {
                // The journal adds the time.
                let text = Format::default().without_time().with_level(false).with_target(false);
                let text = Prioritized { format: text.with_ansi(false), journal };
                plain.fmt_fields(ForPeople).event_format(text).boxed()
            }
            LogFormat::Auto | LogFormat::Text => {
                let text = plain.fmt_fields(ForPeople);
                text.with_ansi(is_coloured(&io::stderr())).with_target(false).boxed()
            }
        };
        let (layer, filter) = reload::Layer::new(own_lines(settings.level));
        // Only a second start can fail, which leaves the first in place.
        let _ = tracing_subscriber::registry().with(lines.with_filter(layer)).try_init();
        Ok(Self { filter, _writer: guard })
    }

    /// Lets lines of `level` and above pass from now on.
    pub(crate) fn set_level(&self, level: LevelFilter) {
        // It fails only without a log.
        let _ = self.filter.reload(own_lines(level));
    }
}

/// Shows the fields of a line up to the first of [`FOR_PROGRAMS`].
struct ForPeople;

impl<'writer> FormatFields<'writer> for ForPeople {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut shown = Shown { fields: DefaultVisitor::new(writer, true), complete: false };
        fields.record(&mut shown);
        shown.fields.finish()
    }
}

struct Shown<'a> {
    fields: DefaultVisitor<'a>,
    complete: bool,
}

impl Visit for Shown<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.complete |= FOR_PROGRAMS.contains(&field.name());
        if !self.complete {
            self.fields.record_debug(field, value);
        }
    }
}

/// Writes lines, and counts those that cannot be written, as on a full disk.
struct Lines<W> {
    to: W,
    lost: Arc<AtomicUsize>,
    /// True if the newest line was lost.
    losing: bool,
    /// True if only a part of the newest written line was written.
    torn: bool,
}

impl<W: Write + AsFd> Lines<W> {
    fn to(to: W) -> Self {
        Self { to, lost: Arc::default(), losing: false, torn: false }
    }

    fn write_on(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.losing && self.torn {
            self.torn = self.to.write(b"\n")? == 0;
        }
        let written = match self.to.write(bytes) {
            // A runner may have made the pipe that it shares with taskbeat non-blocking, as Node
            // does.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&self.to, PollFlags::OUT)], None)?;
                return Err(io::ErrorKind::Interrupted.into());
            }
            written => written?,
        };
        self.torn = !bytes[..written].ends_with(b"\n");
        Ok(written)
    }
}

impl<W: Write + AsFd> Write for Lines<W> {
    /// Writes the rest of a line, or all of it. After a failure the next line follows.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.write_on(bytes);
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

fn own_lines(level: LevelFilter) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), level)
}

/// Writes lines to stdout as those of the log are written to stderr.
///
/// # Errors
///
/// The kernel has no free thread.
pub(crate) fn stdout_lines() -> io::Result<(NonBlocking, WorkerGuard)> {
    in_background(Lines::to(io::stdout()))
}

fn in_background<W>(lines: Lines<W>) -> io::Result<(NonBlocking, WorkerGuard)>
where
    W: Write + AsFd + Send + 'static,
{
    let writer = NonBlockingBuilder::default().buffered_lines_limit(UNREAD).thread_name("log");
    // The library panics without a thread.
    let start = || catch_unwind(AssertUnwindSafe(|| writer.finish(lines)));
    // With `stty tostop`, a line from the background would stop taskbeat.
    without_sigttou(start)?.map_err(|_| Errno::AGAIN.into())
}

/// True if `output` is a terminal that shows colours.
pub(crate) fn is_coloured(output: &impl IsTerminal) -> bool {
    let is = |name, value: fn(&str) -> bool| std::env::var(name).is_ok_and(|set| value(&set));
    let unwanted = is("NO_COLOR", |set| !set.is_empty()) || is("TERM", |set| set == "dumb");
    output.is_terminal() && !unwanted
}

/// True if stderr is the journal's socket, which systemd names in the environment.
pub(crate) fn is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    std::fs::metadata("/proc/self/fd/2")
        .is_ok_and(|stderr| named == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}

/// A format in which each line has its priority first, as sd-daemon(3) has it, if stderr is the
/// journal's socket. The journal removes the priority.
struct Prioritized<F> {
    format: F,
    /// True if stderr is the journal's socket.
    journal: bool,
}

impl<S, N, F: FormatEvent<S, N>> FormatEvent<S, N> for Prioritized<F>
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
        if self.journal {
            write!(writer, "<{priority}>")?;
        }
        self.format.format_event(context, writer, event)
    }
}
