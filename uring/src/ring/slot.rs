//! Operations of a ring between their submission and the kernel's answer.

use std::io;
use std::mem;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};
use libc::iovec;

use crate::transfer::{Kind, Step, Transfer};

/// Sends end in one completion where the kernel waits for room itself.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// One operation in flight with everything the kernel may look at until it answers. Boxed: its address is stable.
pub(super) struct Slot {
    pub(super) transfer: Transfer,
    iov: Vec<iovec>,
    msg: libc::msghdr,
    /// Tells a late cancellation from one of the slot's next operation.
    generation: u32,
    pub(super) live: bool,
    /// The answer to come is that of a poll: the socket was not ready.
    polling: bool,
}

impl Slot {
    fn new() -> Box<Slot> {
        // SAFETY: all zero is a valid `msghdr`: no name, no vectors, no control data.
        let msg = unsafe { mem::zeroed() };
        Box::new(Slot {
            transfer: Transfer::idle(),
            iov: Vec::new(),
            msg,
            generation: 0,
            live: false,
            polling: false,
        })
    }

    #[inline]
    pub(super) fn user_data(&self, index: u32) -> u64 {
        u64::from(self.generation) << 32 | u64::from(index)
    }

    /// The entry for what is left of the operation. Its addresses stay valid while the slot is neither completed nor
    /// prepared again.
    #[inline]
    pub(super) fn prepare(&mut self, index: u32) -> squeue::Entry {
        let transfer = &mut self.transfer;
        let fd = Fd(transfer.fd);
        let entry = match transfer.kind {
            Kind::Read => {
                let target = transfer.target();
                opcode::Read::new(fd, target.ptr, target.len as u32).offset(target.offset).build()
            }
            Kind::Write(_) => {
                let (offset, flags) = (transfer.position(), transfer.write_flags());
                match transfer.single() {
                    Some(rest) => opcode::Write::new(fd, rest.as_ptr(), rest.len() as u32)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                    None => {
                        transfer.gather(&mut self.iov);
                        opcode::Writev::new(fd, self.iov.as_ptr(), self.iov.len() as u32)
                            .offset(offset)
                            .rw_flags(flags)
                            .build()
                    }
                }
            }
            Kind::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
            Kind::Recv => {
                let target = transfer.target();
                opcode::Recv::new(fd, target.ptr, target.len as u32).build()
            }
            Kind::Send => match transfer.single() {
                Some(rest) => {
                    opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).flags(SEND_FLAGS).build()
                }
                None => {
                    transfer.gather(&mut self.iov);
                    self.msg.msg_iov = self.iov.as_mut_ptr();
                    self.msg.msg_iovlen = self.iov.len() as _;
                    opcode::SendMsg::new(fd, &raw const self.msg).flags(SEND_FLAGS as u32).build()
                }
            },
        };
        entry.user_data(self.user_data(index))
    }

    fn prepare_poll(&mut self, index: u32) -> squeue::Entry {
        self.polling = true;
        let events = self.transfer.poll_events() as u32;
        opcode::PollAdd::new(Fd(self.transfer.fd), events).build().user_data(self.user_data(index))
    }

    /// What the kernel's answer means, and the entry that follows from it if the operation goes on.
    #[inline]
    pub(super) fn answer(&mut self, index: u32, result: i32) -> Result<squeue::Entry, io::Result<usize>> {
        let step = if mem::take(&mut self.polling) && result >= 0 {
            if self.transfer.cancelled { self.transfer.absorb(-libc::EAGAIN) } else { Step::Again }
        } else {
            self.transfer.absorb(result)
        };
        match step {
            Step::Done(result) => Err(result),
            Step::Again => Ok(self.prepare(index)),
            Step::NotReady => Ok(self.prepare_poll(index)),
        }
    }
}

/// The slots, reused last in first out.
#[derive(Default)]
pub(super) struct Slab {
    // Boxed although a slot is held by value nowhere else: the kernel keeps addresses into it while this vector grows.
    #[allow(clippy::vec_box)]
    pub(super) slots: Vec<Box<Slot>>,
    free: Vec<u32>,
}

impl Slab {
    pub(super) fn claim(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::new());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.live = true;
        slot.polling = false;
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        index
    }

    pub(super) fn release(&mut self, index: u32) {
        self.slots[index as usize].live = false;
        self.free.push(index);
    }

    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlignedBuf, Op};

    fn receiving() -> Box<Slot> {
        let mut slot = Slot::new();
        assert!(slot.transfer.load(1, Op::Recv { socket: 3, buf: AlignedBuf::with_capacity(1) }).is_none());
        slot
    }

    #[test]
    fn a_socket_that_is_not_ready_is_polled_and_asked_again() {
        let mut slot = receiving();
        for _ in 0..1000 {
            let poll = slot.answer(5, -libc::EAGAIN).unwrap();
            assert_eq!((poll.get_opcode(), poll.get_user_data()), (opcode::PollAdd::CODE.into(), 5));
            let again = slot.answer(5, libc::POLLIN.into()).unwrap();
            assert_eq!(again.get_opcode(), opcode::Recv::CODE.into());
        }
        assert_eq!(slot.answer(5, 7).unwrap_err().unwrap(), 7);
    }

    #[test]
    fn a_cancelled_poll_ends_the_operation() {
        for answer in [-libc::ECANCELED, libc::POLLIN.into()] {
            let mut slot = receiving();
            assert!(slot.answer(5, -libc::EAGAIN).is_ok());
            slot.transfer.cancelled = true;
            let error = slot.answer(5, answer).unwrap_err().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        }
    }

    #[test]
    fn a_slot_names_its_operations_differently() {
        let mut slab = Slab::default();
        let first = slab.claim();
        let name = slab.slots[first as usize].user_data(first);
        slab.release(first);
        let second = slab.claim();
        assert_eq!(first, second);
        assert_ne!(slab.slots[second as usize].user_data(second), name);
        assert_eq!((slab.live(), slab.claim()), (1, 1));
    }
}
