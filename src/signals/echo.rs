//! A stop and its echo are one: timeout(1) signals its command and then, within a fraction of a
//! millisecond, its own group, in which the command is. Two stops would kill the runner at once.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Sleep, sleep};

/// How long a stop waits for its echo. As nothing is done about it until then, nobody's second stop
/// can be an answer to what the first one did.
const WAIT: Duration = Duration::from_millis(20);

/// The items of a stream, less the echoes.
pub(super) struct Echoless<S: Stream> {
    stream: S,
    may_echo: fn(&S::Item) -> bool,
    held: Option<(S::Item, Pin<Box<Sleep>>)>,
    /// Whether everything that was there before us was heard: nothing of that may wait, for a stop
    /// must be heard before a start.
    up_to_date: bool,
}

impl<S: Stream> Echoless<S> {
    pub(super) fn new(stream: S, may_echo: fn(&S::Item) -> bool) -> Self {
        Self {
            stream,
            may_echo,
            held: None,
            up_to_date: false,
        }
    }
}

impl<S: Stream<Item: PartialEq + Unpin> + Unpin> Stream for Echoless<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        while let Poll::Ready(item) = self.stream.poll_next_unpin(context) {
            match (item, &self.held) {
                (Some(item), Some((held, _))) if item == *held => {}
                (Some(item), None) if self.up_to_date && (self.may_echo)(&item) => {
                    self.held = Some((item, Box::pin(sleep(WAIT))));
                }
                (item, _) => return Poll::Ready(item),
            }
        }
        self.up_to_date = true;
        let Some((_, wait)) = &mut self.held else {
            return Poll::Pending;
        };
        ready!(wait.poll_unpin(context));
        Poll::Ready(self.held.take().map(|(item, _)| item))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
    use tokio::time::{Instant, advance, timeout};

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

    fn open() -> (UnboundedSender<&'static str>, Echoless<Channel>) {
        let (sender, receiver) = unbounded_channel();
        let echoless = Echoless::new(Channel(receiver), |item| item.starts_with("stop"));
        (sender, echoless)
    }

    /// Finds nothing, so that all that comes later came while it listened.
    async fn listen(echoless: &mut Echoless<Channel>) {
        let next = timeout(Duration::ZERO, echoless.next()).await;
        assert!(next.is_err(), "{next:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_and_its_echo_are_heard_once_and_after_the_wait() {
        let (sender, mut echoless) = open();
        listen(&mut echoless).await;
        let start = Instant::now();
        sender.send("stop").unwrap();
        listen(&mut echoless).await;
        advance(WAIT / 2).await;
        sender.send("stop").unwrap();
        assert_eq!(echoless.next().await, Some("stop"));
        assert_eq!(start.elapsed(), WAIT);
        drop(sender);
        assert_eq!(echoless.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_stop_and_that_of_another_are_stops_of_their_own() {
        let (sender, mut echoless) = open();
        listen(&mut echoless).await;
        sender.send("stop").unwrap();
        assert_eq!(echoless.next().await, Some("stop"));
        sender.send("stop").unwrap();
        sender.send("stop by another").unwrap();
        assert_eq!(echoless.next().await, Some("stop by another"));
        assert_eq!(echoless.next().await, Some("stop"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_stop_does_not_wait_and_what_came_before_us_neither() {
        let (sender, mut echoless) = open();
        sender.send("stop").unwrap();
        sender.send("continue").unwrap();
        for item in ["stop", "continue"] {
            let next = poll_fn(|context| Poll::Ready(echoless.poll_next_unpin(context))).await;
            assert_eq!(next, Poll::Ready(Some(item)));
        }
    }
}
