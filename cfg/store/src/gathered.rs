//! Answers that leave together. Many streams share a connection, and each has its answer ready at about the same
//! moment; sent as they come, most of the work is the kernel's. So a short write waits for one turn of the runtime, in
//! which others add to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Bytes that do not wait for more.
const ENOUGH: usize = 16 << 10;
/// Bytes that are held back at most.
const MOST: usize = 64 << 10;
/// A buffer of more than this is given back once it is empty: most connections are idle.
const KEPT: usize = 1 << 10;

/// A connection whose writes are gathered.
#[derive(Debug)]
pub(crate) struct Gathered<S> {
    stream: S,
    held: Vec<u8>,
    /// So many bytes of those held are sent.
    sent: usize,
    /// They have waited.
    waited: bool,
}

impl<S> Gathered<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, held: Vec::new(), sent: 0, waited: false }
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Sends what is held.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.held[self.sent..]))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        (self.sent, self.waited) = (0, false);
        if self.held.capacity() > KEPT {
            self.held = Vec::new()
        } else {
            self.held.clear()
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.held.len() >= MOST {
            ready!(self.poll_send(context))?;
        }
        if self.held.is_empty() && bytes.len() >= ENOUGH {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        let taken = bytes.len().min(MOST - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Never: for a stream that takes several pieces at once, h2 sends each message of 256 bytes or more by a write of
    /// its own. Otherwise it gathers those below 1 KiB, 16 KiB of them at a time.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waited && !self.held.is_empty() && self.held.len() < ENOUGH {
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Connected<ConnectInfo = TcpConnectInfo>> Connected for Gathered<S> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Notes the length of each write, and takes at most `limit` bytes of it.
    struct Noted {
        writes: Vec<usize>,
        bytes: Vec<u8>,
        limit: usize,
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.limit);
            self.writes.push(taken);
            self.bytes.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn gathered(limit: usize) -> Gathered<Noted> {
        Gathered::new(Noted { writes: Vec::new(), bytes: Vec::new(), limit })
    }

    /// Flushes once; whether it was done.
    async fn flushed(stream: &mut Gathered<Noted>) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_flush(context).is_ready())).await
    }

    #[tokio::test]
    async fn what_is_written_while_a_flush_waits_leaves_with_it() {
        let mut stream = gathered(usize::MAX);
        stream.write_all(b"first").await.unwrap();
        assert!(!flushed(&mut stream).await);
        stream.write_all(b"second").await.unwrap();
        assert!(flushed(&mut stream).await);
        assert_eq!((stream.stream.writes, stream.stream.bytes), (vec![11], b"firstsecond".to_vec()));
    }

    #[tokio::test]
    async fn every_flush_waits_once_and_only_for_something() {
        let mut stream = gathered(usize::MAX);
        assert!(flushed(&mut stream).await);
        for _ in 0..3 {
            stream.write_all(b"answer").await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(stream.stream.writes, [6, 6, 6]);
        stream.write_all(&[7; ENOUGH - 1]).await.unwrap();
        stream.write_all(&[7; 2]).await.unwrap();
        assert!(flushed(&mut stream).await, "enough to go at once");
    }

    #[tokio::test]
    async fn bytes_keep_their_order_whatever_the_lengths() {
        let mut stream = gathered(777);
        let mut expected = Vec::new();
        for (round, length) in [1, 300, ENOUGH, 5, MOST + 3, 2, 40, MOST - 1, 9].into_iter().enumerate() {
            let bytes = vec![round as u8; length];
            stream.write_all(&bytes).await.unwrap();
            expected.extend(bytes);
            if round % 3 == 2 {
                stream.flush().await.unwrap();
            }
        }
        stream.shutdown().await.unwrap();
        assert_eq!(stream.stream.bytes, expected);
        assert!(stream.held.capacity() <= KEPT, "an idle connection holds little");
    }

    #[tokio::test]
    async fn a_reader_that_is_slow_holds_the_writer_up() {
        let (near, mut far) = duplex(1000);
        let mut stream = Gathered::new(near);
        let writing = tokio::spawn(async move {
            stream.write_all(&[1; 200_000]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        writing.await.unwrap();
        assert_eq!(read, [1; 200_000]);
    }
}
