//! A stop and its echo are one: timeout(1) signals its command and then, within a fraction of a
//! millisecond, its own group, in which the command is. Two stops would kill the runner at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Sleep, sleep};

use crate::sys::count_arrivals;

/// How long a stop waits for its echo. As nothing is done about it until then, nobody's second stop
/// can be an answer to what the first one did.
const WAIT: Duration = Duration::from_millis(20);

/// Tells the stops by one signal from their echoes by when they arrived: a loop that is busy may hear
/// them together, however far apart they were.
pub(super) struct Stops {
    /// How many arrived, less the echoes.
    arrived: Arc<AtomicU32>,
    heard: u32,
}

impl Stops {
    /// Counts `signal` from now on. To be called before anybody else listens to it.
    pub(super) fn by(signal: i32) -> io::Result<Self> {
        let arrived = count_arrivals(signal, WAIT)?;
        Ok(Self { arrived, heard: 0 })
    }

    /// One more is heard: what is it?
    pub(super) fn hear(&mut self) -> Sound {
        if self.heard == self.arrived.load(Ordering::Relaxed) {
            return Sound::Echo;
        }
        self.heard = self.heard.wrapping_add(1);
        Sound::Stop
    }
}

/// What an item of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sound {
    /// A stop, which may have an echo.
    Stop,
    /// The echo of the stop before it.
    Echo,
    /// Neither.
    Other,
}

/// The items of a stream, less the echoes.
pub(super) struct Echoless<S: Stream, F> {
    stream: S,
    sound: F,
    held: Option<(S::Item, Pin<Box<Sleep>>)>,
    /// Whether everything that was there before us was heard: nothing of that may wait, for a stop
    /// must be heard before a start.
    up_to_date: bool,
}

impl<S: Stream, F: FnMut(&S::Item) -> Sound> Echoless<S, F> {
    pub(super) fn new(stream: S, sound: F) -> Self {
        Self {
            stream,
            sound,
            held: None,
            up_to_date: false,
        }
    }
}

impl<S, F> Stream for Echoless<S, F>
where
    S: Stream<Item: Unpin> + Unpin,
    F: FnMut(&S::Item) -> Sound + Unpin,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.get_mut();
        // Before anything else, or whatever comes all the time would keep it waiting.
        if let Some((_, wait)) = &mut this.held
            && wait.poll_unpin(context).is_ready()
        {
            return Poll::Ready(this.held.take().map(|(item, _)| item));
        }
        while let Poll::Ready(next) = this.stream.poll_next_unpin(context) {
            let Some(item) = next else {
                return Poll::Ready(None);
            };
            match (this.sound)(&item) {
                Sound::Echo => {}
                Sound::Stop if this.up_to_date => {
                    let mut wait = Box::pin(sleep(WAIT));
                    // Its first poll makes it wake us.
                    let _ = wait.poll_unpin(context);
                    if let Some((before, _)) = this.held.replace((item, wait)) {
                        return Poll::Ready(Some(before));
                    }
                }
                Sound::Stop | Sound::Other => return Poll::Ready(Some(item)),
            }
        }
        this.up_to_date = true;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::time::{Instant, timeout};

    use super::*;

    struct Channel(UnboundedReceiver<&'static str>);

    impl Stream for Channel {
        type Item = &'static str;

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(context)
        }
    }

    type Tested = Echoless<Channel, fn(&&'static str) -> Sound>;

    fn open() -> (UnboundedSender<&'static str>, Tested) {
        let (sender, receiver) = unbounded_channel();
        let sound = |item: &&'static str| match item.split(' ').next() {
            Some("stop") => Sound::Stop,
            Some("echo") => Sound::Echo,
            _ => Sound::Other,
        };
        (sender, Echoless::new(Channel(receiver), sound))
    }

    /// Finds nothing, so that all that comes later came while it listened.
    async fn listen(echoless: &mut Tested) {
        let next = timeout(Duration::ZERO, echoless.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_and_its_echo_are_heard_once_and_after_the_wait() {
        let (sender, mut echoless) = open();
        listen(&mut echoless).await;
        let start = Instant::now();
        sender.send("stop").unwrap();
        sender.send("echo").unwrap();
        assert_eq!(echoless.next().await, Some("stop"));
        assert_eq!(start.elapsed(), WAIT);
        drop(sender);
        assert_eq!(echoless.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_stop_is_one_of_its_own_and_the_first_waits_no_longer() {
        let (sender, mut echoless) = open();
        listen(&mut echoless).await;
        let start = Instant::now();
        sender.send("stop 1").unwrap();
        sender.send("stop 2").unwrap();
        assert_eq!(echoless.next().await, Some("stop 1"));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(echoless.next().await, Some("stop 2"));
        assert_eq!(start.elapsed(), WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_all_the_time_keeps_no_stop_waiting() {
        let (sender, mut echoless) = open();
        listen(&mut echoless).await;
        sender.send("stop").unwrap();
        let mut others = 0;
        loop {
            sender.send("other").unwrap();
            if echoless.next().await == Some("stop") {
                break;
            }
            others += 1;
            tokio::time::advance(WAIT / 4).await;
        }
        assert_eq!(others, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_stop_does_not_wait_and_what_came_before_us_neither() {
        let (sender, mut echoless) = open();
        sender.send("stop").unwrap();
        sender.send("other").unwrap();
        for item in ["stop", "other"] {
            let next = poll_fn(|context| Poll::Ready(echoless.poll_next_unpin(context))).await;
            assert_eq!(next, Poll::Ready(Some(item)));
        }
    }
}
