//! Read-modify-write: what a write keeps of its first and last cluster is read, and whole clusters are made.
//!
//! While one is under way its clusters are its own: whatever else goes there waits behind it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::address::{CLUSTER_SIZE, ClusterAddress};
use super::event::RequestError;
use super::read::{LookupOwner, Side};
use super::write::{Body, Owner, Piece, Waiting, client_pieces};
use super::{Context, Volume, fail};

/// Which ends of a write keep a part of their cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) head: bool,
    pub(super) tail: bool,
}

/// A write whose first or last cluster is partly kept.
#[derive(Debug)]
pub(super) struct Rmw {
    id: u64,
    pub(super) owner: Owner,
    offset: u64,
    body: Body,
    pub(super) first: ClusterAddress,
    pub(super) last: ClusterAddress,
    head: Option<Bytes>,
    tail: Option<Bytes>,
    missing: u32,
    failed: Option<RequestError>,
}

impl Volume {
    /// Reads what the write keeps of its first and last cluster; `false` (and back in the queue) if too many do.
    pub(super) fn start_rmw(
        &mut self,
        owner: Owner,
        offset: u64,
        body: Body,
        kept: Kept,
        cx: &mut Context<'_>,
    ) -> bool {
        let end = offset + body.length();
        let (first, last) = (ClusterAddress::containing(offset), ClusterAddress::containing(end - 1));
        let Kept { head: head_kept, tail: tail_kept } = kept;
        if self.writes.rmws.len() >= self.settings.rmw_in_flight {
            self.writes.queue_first(Waiting::Whole { owner, offset, body });
            return false;
        }
        let id = self.writes.next_rmw;
        self.writes.next_rmw += 1;
        // One cluster that is partial at both ends is read once, as the head.
        let head_kept = head_kept || (first == last && tail_kept);
        let tail_kept = tail_kept && first != last;
        let missing = u32::from(head_kept) + u32::from(tail_kept);
        self.writes.held += body.held();
        let rmw = Rmw { id, owner, offset, body, first, last, head: None, tail: None, missing, failed: None };
        self.writes.rmws.push(rmw);
        if head_kept {
            self.read_cluster(LookupOwner::Rmw(id, Side::Head), first, cx);
        }
        if tail_kept {
            self.read_cluster(LookupOwner::Rmw(id, Side::Tail), last, cx);
        }
        if missing == 0 {
            self.rmw_ready(id, cx);
        }
        true
    }

    /// A cluster that a write keeps a part of was read.
    pub(super) fn rmw_read(
        &mut self,
        id: u64,
        side: Side,
        result: Result<Bytes, RequestError>,
        cx: &mut Context<'_>,
    ) {
        let Some(rmw) = self.writes.rmws.iter_mut().find(|rmw| rmw.id == id) else { return };
        rmw.missing -= 1;
        match (result, side) {
            (Ok(data), Side::Head) => rmw.head = Some(data),
            (Ok(data), Side::Tail) => rmw.tail = Some(data),
            (Err(error), _) => rmw.failed = Some(error),
        }
        if rmw.missing == 0 {
            self.rmw_ready(id, cx);
            self.drain(cx);
        }
    }

    fn rmw_ready(&mut self, id: u64, cx: &mut Context<'_>) {
        let Some(index) = self.writes.rmws.iter().position(|rmw| rmw.id == id) else { return };
        let rmw = self.writes.rmws.swap_remove(index);
        self.writes.held -= rmw.body.held();
        match rmw.failed {
            Some(error) => fail(rmw.owner.request, error, cx),
            None => {
                let pieces = compose(&rmw);
                self.writes.queue_behind_cut(client_pieces(rmw.owner, pieces));
            }
        }
    }
}

/// The whole clusters that a read-modify-write makes.
fn compose(rmw: &Rmw) -> VecDeque<Piece> {
    let cluster = CLUSTER_SIZE as u64;
    let end = rmw.offset + rmw.body.length();
    let mut pieces = VecDeque::new();
    let full = |address: ClusterAddress, old: Option<&Bytes>| {
        let mut data = BytesMut::zeroed(CLUSTER_SIZE);
        if let Some(old) = old {
            data.copy_from_slice(old);
        }
        let start = rmw.offset.max(address.offset());
        let stop = end.min(address.offset() + cluster);
        let inside = (start - address.offset()) as usize..(stop - address.offset()) as usize;
        match &rmw.body {
            Body::Data(body) => {
                let from = (start - rmw.offset) as usize;
                data[inside.clone()].copy_from_slice(&body[from..from + inside.len()]);
            }
            Body::Zeroes { .. } => data[inside].fill(0),
        }
        Piece::Data { address, data: data.freeze() }
    };
    let head = !rmw.offset.is_multiple_of(cluster) || rmw.head.is_some();
    let tail = !end.is_multiple_of(cluster) && (rmw.first != rmw.last || !head);
    if head {
        pieces.push_back(full(rmw.first, rmw.head.as_ref()));
    }
    let middle_first = if head { rmw.first.plus(1) } else { rmw.first };
    let middle_end = if tail { rmw.last } else { rmw.last.plus(1) };
    let tail_piece = tail.then(|| full(rmw.last, rmw.tail.as_ref()));
    if middle_first < middle_end {
        let count = middle_end.0 - middle_first.0;
        pieces.push_back(match &rmw.body {
            Body::Data(body) => {
                let from = (middle_first.offset() - rmw.offset) as usize;
                let data = body.slice(from..from + count as usize * CLUSTER_SIZE);
                Piece::Data { address: middle_first, data }
            }
            Body::Zeroes { kind, .. } => Piece::Empty { address: middle_first, count, kind: *kind },
        });
    }
    pieces.extend(tail_piece);
    pieces
}
