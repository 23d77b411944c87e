//! Answers that their client does not take. An encoded answer stays in memory until the client's windows and its socket
//! have room for it, and a connection has many streams: what waits is bounded for all of a connection together. Who
//! takes nothing holds up his own connection, as the window of an HTTP/2 connection does. Watch streams have a room of
//! their own, so that watchers that are not read hold up no other request.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body as AxumBody, HttpBody};
use bytes::Bytes;
use cfg_api::etcdserverpb as pb;
use http_body::{Frame, SizeHint};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt;
use tonic::{Request, Response};

use super::watch::Answers;

/// Smaller answers are not counted: the transport gathers as much before it sends.
const SMALL: usize = 16 << 10;

/// The room of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Untaken {
    /// Of the answers to single requests.
    answers: Room,
    /// Of the answers of watch streams.
    events: Room,
}

impl Untaken {
    /// Room for `bytes` of each kind.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { answers: Room::new(bytes), events: Room::new(bytes) }
    }
}

/// Bytes that may wait for the client. A larger answer than all of it waits alone.
#[derive(Clone, Debug)]
struct Room {
    bytes: u32,
    free: Arc<Semaphore>,
}

impl Room {
    fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { bytes, free: Arc::new(Semaphore::new(bytes as usize)) }
    }

    /// Waits until the client has taken enough of what came before.
    async fn enter(&self, length: usize, held: &Held) {
        if length <= SMALL {
            return;
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(self.bytes);
        // It is never closed.
        if let Ok(permit) = Arc::clone(&self.free).acquire_many_owned(length).await {
            held.0.lock().unwrap_or_else(PoisonError::into_inner).push(permit);
        }
    }
}

/// Room that is taken for what is encoded next.
#[derive(Clone, Debug, Default)]
struct Held(Arc<Mutex<Vec<OwnedSemaphorePermit>>>);

impl Held {
    /// The room goes with the bytes and is given back with the last of them.
    fn keep(&self, bytes: Bytes) -> Bytes {
        let room = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if room.is_empty() { bytes } else { Bytes::from_owner(Kept { bytes, _room: room }) }
    }
}

/// Bytes and the room that they take.
struct Kept {
    bytes: Bytes,
    _room: Vec<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The room of the connection that a request came over; what is no server's has none.
pub(super) fn room_of<T>(request: &Request<T>) -> Option<Untaken> {
    request.extensions().get().cloned()
}

/// An answer to a single request, when there is room for it.
pub(super) async fn answer<T: Message>(room: Option<Untaken>, message: T) -> Response<T> {
    let length = message.encoded_len();
    let mut response = Response::new(message);
    if let Some(room) = room.filter(|_| length > SMALL) {
        let held = Held::default();
        room.answers.enter(length, &held).await;
        response.extensions_mut().insert(held);
    }
    response
}

/// The answers of a watch stream, each when there is room for it.
pub(super) fn events(room: Option<Untaken>, answers: Answers) -> Response<Answers> {
    let Some(Untaken { events: room, .. }) = room else { return Response::new(answers) };
    let held = Held::default();
    let entering = held.clone();
    let answers = answers.then(move |answer| {
        let (room, held) = (room.clone(), entering.clone());
        async move {
            let length = answer.as_ref().map_or(0, pb::WatchResponse::encoded_len);
            room.enter(length, &held).await;
            answer
        }
    });
    let mut response = Response::new(Box::pin(answers) as Answers);
    response.extensions_mut().insert(held);
    response
}

/// Lets the bytes of an answer carry the room that was taken for them.
pub(super) async fn carry(mut response: axum::response::Response) -> axum::response::Response {
    match response.extensions_mut().remove::<Held>() {
        Some(held) => response.map(|body| AxumBody::new(Carrier { body, held })),
        None => response,
    }
}

/// A body whose bytes carry their room.
struct Carrier {
    body: AxumBody,
    held: Held,
}

impl HttpBody for Carrier {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        polled.map_ok(|frame| frame.map_data(|bytes| self.held.keep(bytes)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_goes_with_the_bytes_and_comes_back_with_the_last_of_them() {
        let room = Room::new(100 << 10);
        let held = Held::default();
        room.enter(60 << 10, &held).await;
        let kept = held.keep(Bytes::from(vec![7; 60 << 10]));
        let piece = kept.slice(10..20);
        drop(kept);
        assert_eq!(room.free.available_permits(), 40 << 10);
        drop(piece);
        assert_eq!(room.free.available_permits(), 100 << 10);
    }

    #[tokio::test]
    async fn what_is_larger_than_the_room_waits_alone_and_what_is_small_never() {
        let room = Room::new(100 << 10);
        let held = Held::default();
        room.enter(1 << 30, &held).await;
        room.enter(SMALL, &held).await;
        let more = room.enter(SMALL + 1, &held);
        tokio::pin!(more);
        assert!(look(more.as_mut()).await.is_pending());
        drop(held.keep(Bytes::from_static(b"all of it")));
        more.await;
    }

    /// One look at a future.
    async fn look<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut future).poll(context))).await
    }
}
