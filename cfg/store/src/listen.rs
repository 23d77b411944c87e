//! Listening: a process that has no room for one more connection goes on when it has.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;

/// Pause after a connection that could not be accepted: without descriptors or memory the next try fails too.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener. It never ends and never fails: the server behind it would try again at once, and work
/// for nothing as long as there is no room.
pub(crate) struct Incoming {
    listener: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
    /// What was wrong last time, so that it is said once.
    said: Option<io::ErrorKind>,
}

impl Incoming {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, pause: None, said: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) => {
                    self.said = None;
                    return Poll::Ready(Some(Ok(stream)));
                }
                Err(error) => {
                    if self.said.replace(error.kind()) != Some(error.kind()) {
                        tracing::warn!(%error, "cannot accept connections; it is tried again");
                    }
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }
}
