//! One operation under way: what is left of it, and what an answer of the kernel means for it. Both real backends
//! use it, so that they agree on short transfers, retries and the end of a file.

use std::io;
use std::os::fd::RawFd;

use bytes::Bytes;
use libc::iovec;

use crate::{AlignedBuf, Completion, Durability, Op, Token};

/// Parts given to the kernel at once (its `UIO_MAXIOV`); the rest follows.
const MAX_PARTS: usize = 1024;
/// Bytes given to the kernel at once, below its own limit of 2 GiB less a page.
const MAX_BYTES: usize = 1 << 30;
/// EINTR and EAGAIN on files in a row before they are reported.
const MAX_RETRIES: u8 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write(Durability),
    Sync,
    Recv,
    Send,
}

/// What to do with an operation after an answer.
#[derive(Debug)]
pub(crate) enum Step {
    Done(io::Result<usize>),
    /// Ask the kernel for the rest.
    Again,
    /// As `Again`, once the socket is ready.
    NotReady,
}

/// Owns everything the kernel reads or writes for one operation. Reusable: [`Transfer::load`] starts the next one.
pub(crate) struct Transfer {
    pub(crate) token: Token,
    pub(crate) kind: Kind,
    pub(crate) fd: RawFd,
    /// Ends with ECANCELED instead of going on.
    pub(crate) cancelled: bool,
    retries: u8,
    offset: u64,
    done: usize,
    total: usize,
    /// Reads and receives.
    buf: Option<AlignedBuf>,
    /// Writes and sends; no part is empty.
    data: Vec<Bytes>,
    /// First part that is not through, and how much of it is.
    part: usize,
    within: usize,
}

/// A range to read into; the owner of the transfer keeps it alive.
pub(crate) struct Target {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
    pub(crate) offset: u64,
}

impl Transfer {
    pub(crate) fn idle() -> Transfer {
        Transfer {
            token: 0,
            kind: Kind::Sync,
            fd: -1,
            cancelled: false,
            retries: 0,
            offset: 0,
            done: 0,
            total: 0,
            buf: None,
            data: Vec::new(),
            part: 0,
            within: 0,
        }
    }

    /// Starts `op`; the result, if it needs no kernel.
    #[inline]
    pub(crate) fn load(&mut self, token: Token, op: Op) -> Option<io::Result<usize>> {
        self.token = token;
        (self.cancelled, self.retries, self.offset) = (false, 0, 0);
        (self.done, self.total, self.part, self.within) = (0, 0, 0, 0);
        match op {
            Op::Read { file, offset, buf } => {
                (self.kind, self.fd, self.offset, self.total) = (Kind::Read, file, offset, buf.len());
                self.buf = Some(buf);
                (self.total == 0).then_some(Ok(0))
            }
            Op::Write { file, offset, data, durability } => {
                (self.kind, self.fd, self.offset) = (Kind::Write(durability), file, offset);
                self.load_data(data)
            }
            Op::Sync { file } => {
                (self.kind, self.fd) = (Kind::Sync, file);
                None
            }
            Op::Recv { socket, buf } => {
                (self.kind, self.fd, self.total) = (Kind::Recv, socket, buf.capacity() - buf.len());
                self.buf = Some(buf);
                // The kernel would answer 0, which means the end of the stream.
                (self.total == 0)
                    .then(|| Err(io::Error::new(io::ErrorKind::InvalidInput, "receive into a full buffer")))
            }
            Op::Send { socket, data } => {
                (self.kind, self.fd) = (Kind::Send, socket);
                self.load_data(data)
            }
        }
    }

    fn load_data(&mut self, mut data: Vec<Bytes>) -> Option<io::Result<usize>> {
        data.retain(|part| !part.is_empty());
        self.total = data.iter().map(Bytes::len).sum();
        self.data = data;
        (self.total == 0).then_some(Ok(0))
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Recv | Kind::Send)
    }

    /// The events that end [`Step::NotReady`].
    pub(crate) fn poll_events(&self) -> libc::c_short {
        if self.kind == Kind::Recv { libc::POLLIN } else { libc::POLLOUT }
    }

    /// `RWF_DSYNC` or nothing.
    pub(crate) fn write_flags(&self) -> libc::c_int {
        if self.kind == Kind::Write(Durability::Durable) { libc::RWF_DSYNC } else { 0 }
    }

    /// Where in the file the rest begins.
    pub(crate) fn position(&self) -> u64 {
        self.offset.saturating_add(self.done as u64)
    }

    /// The rest of a read, or the room of a receive.
    #[inline]
    pub(crate) fn target(&mut self) -> Target {
        let offset = self.position();
        let buf = self.buf.as_mut().expect("reads and receives own a buffer until they end");
        let rest = if self.kind == Kind::Recv { buf.spare_mut() } else { &mut buf[self.done..] };
        Target { ptr: rest.as_mut_ptr(), len: rest.len().min(MAX_BYTES), offset }
    }

    /// The rest of a write or send if it lies in one part.
    #[inline]
    pub(crate) fn single(&self) -> Option<&[u8]> {
        if self.part + 1 != self.data.len() {
            return None;
        }
        let rest = &self.data[self.part][self.within..];
        Some(&rest[..rest.len().min(MAX_BYTES)])
    }

    /// Replaces `iov` by the rest of a write or send, as far as one call takes it. Never empty.
    #[inline]
    pub(crate) fn gather(&self, iov: &mut Vec<iovec>) {
        iov.clear();
        let (mut within, mut room) = (self.within, MAX_BYTES);
        for part in self.data[self.part..].iter().take(MAX_PARTS) {
            let rest = &part[within..];
            if rest.len() > room {
                break;
            }
            iov.push(iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
            (within, room) = (0, room - rest.len());
        }
        if iov.is_empty() {
            let first = &self.data[self.part][self.within..][..MAX_BYTES];
            iov.push(iovec { iov_base: first.as_ptr().cast_mut().cast(), iov_len: MAX_BYTES });
        }
    }

    /// Takes the kernel's answer: bytes, or a negated errno.
    #[inline]
    pub(crate) fn absorb(&mut self, answer: i32) -> Step {
        if answer < 0 {
            return self.failed(-answer);
        }
        let count = answer as usize;
        self.retries = 0;
        match self.kind {
            Kind::Sync => Step::Done(Ok(0)),
            Kind::Recv => {
                let buf = self.buf.as_mut().expect("a receive owns its buffer until it ends");
                buf.set_len(buf.len() + count);
                Step::Done(Ok(count))
            }
            Kind::Read => {
                self.done += count;
                if count == 0 || self.done == self.total { Step::Done(Ok(self.done)) } else { self.proceed() }
            }
            Kind::Write(_) | Kind::Send => {
                self.done += count;
                if self.done == self.total {
                    return Step::Done(Ok(self.total));
                }
                if count == 0 {
                    return Step::Done(Err(io::ErrorKind::WriteZero.into()));
                }
                self.advance(count);
                self.proceed()
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.within += count;
        while self.within >= self.data[self.part].len() {
            self.within -= self.data[self.part].len();
            self.part += 1;
        }
    }

    fn proceed(&self) -> Step {
        if self.cancelled { Step::Done(Err(cancelled())) } else { Step::Again }
    }

    #[cold]
    fn failed(&mut self, errno: i32) -> Step {
        match errno {
            libc::EINTR | libc::EAGAIN if self.cancelled => Step::Done(Err(cancelled())),
            libc::EAGAIN if self.is_socket() => Step::NotReady,
            libc::EINTR | libc::EAGAIN if self.retries < MAX_RETRIES => {
                self.retries += 1;
                Step::Again
            }
            // A direct read that was good at first, then stopped at an odd place and is refused there: direct
            // transfers stop between blocks, so only the end of the file is odd.
            libc::EINVAL
                if self.kind == Kind::Read && self.done > 0 && !self.position().is_multiple_of(4096) =>
            {
                Step::Done(Ok(self.done))
            }
            errno => Step::Done(Err(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Hands the buffer back and frees the data.
    #[inline]
    pub(crate) fn complete(&mut self, result: io::Result<usize>) -> Completion {
        self.data = Vec::new();
        Completion { token: self.token, result, buf: self.buf.take() }
    }
}

pub(crate) fn cancelled() -> io::Error {
    io::Error::from_raw_os_error(libc::ECANCELED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sending(parts: &[&'static [u8]]) -> Transfer {
        let mut transfer = Transfer::idle();
        let data = parts.iter().map(|part| Bytes::from_static(part)).collect();
        assert!(transfer.load(7, Op::Send { socket: 1, data }).is_none());
        transfer
    }

    fn rest(transfer: &Transfer) -> Vec<u8> {
        let mut iov = Vec::new();
        transfer.gather(&mut iov);
        let mut bytes = Vec::new();
        for part in &iov {
            // SAFETY: `transfer` owns what its vectors name and is borrowed.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len)
            });
        }
        bytes
    }

    #[test]
    fn short_sends_go_on_where_they_stopped() {
        for first in 1..9 {
            let mut transfer = sending(&[b"abc", b"", b"defg", b"hi"]);
            assert!(matches!(transfer.absorb(first), Step::Again));
            assert_eq!(rest(&transfer), &b"abcdefghi"[first as usize..]);
            assert_eq!(transfer.single().is_some(), first >= 7);
            assert!(matches!(transfer.absorb(9 - first), Step::Done(Ok(9))));
        }
    }

    #[test]
    fn more_parts_than_one_call_takes() {
        let mut transfer = Transfer::idle();
        let data = vec![Bytes::from_static(b"x"); MAX_PARTS + 5];
        assert!(
            transfer
                .load(1, Op::Write { file: 1, offset: 10, data, durability: Durability::Durable })
                .is_none()
        );
        assert_eq!(rest(&transfer).len(), MAX_PARTS);
        assert!(matches!(transfer.absorb(MAX_PARTS as i32), Step::Again));
        assert_eq!((rest(&transfer).len(), transfer.position()), (5, 10 + MAX_PARTS as u64));
        assert_eq!(transfer.write_flags(), libc::RWF_DSYNC);
    }

    #[test]
    fn retries_are_bounded_and_reset_by_progress() {
        let mut transfer = Transfer::idle();
        assert!(transfer.load(1, Op::Sync { file: 1 }).is_none());
        for _ in 0..MAX_RETRIES {
            assert!(matches!(transfer.absorb(-libc::EINTR), Step::Again));
        }
        assert!(matches!(transfer.absorb(-libc::EINTR), Step::Done(Err(_))));
    }

    #[test]
    fn a_direct_read_refused_behind_an_odd_length_met_the_end_of_the_file() {
        let mut transfer = Transfer::idle();
        let load = Op::Read { file: 1, offset: 4096, buf: AlignedBuf::zeroed(8192) };
        assert!(transfer.load(1, load).is_none());
        assert!(matches!(transfer.absorb(4608), Step::Again));
        assert!(matches!(transfer.absorb(-libc::EINVAL), Step::Done(Ok(4608))));
        let load = Op::Read { file: 1, offset: 4096, buf: AlignedBuf::zeroed(8192) };
        assert!(transfer.load(1, load).is_none());
        assert!(matches!(transfer.absorb(-libc::EINVAL), Step::Done(Err(_))), "refused from the start");
    }

    #[test]
    fn nothing_to_do_and_no_room() {
        let mut transfer = Transfer::idle();
        assert!(matches!(transfer.load(1, Op::Send { socket: 1, data: vec![Bytes::new()] }), Some(Ok(0))));
        let mut full = AlignedBuf::with_capacity(1);
        full.set_len(full.capacity());
        let Some(Err(error)) = transfer.load(1, Op::Recv { socket: 1, buf: full }) else {
            panic!("accepted")
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(transfer.complete(Err(error)).buf.unwrap().len(), 4096);
    }
}
