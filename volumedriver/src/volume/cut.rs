//! A cut: a record of the log could not be written. The prefix that was written stays; the rest goes to the log again,
//! in a fresh SCO under a new incarnation, before anything newer. Until then its old records serve the reads.

use std::collections::VecDeque;

use bytes::Bytes;

use super::address::CLUSTER_SIZE;
use super::event::{Output, Promise, Report, Stream};
use super::record::{Entry, parse_header};
use super::write::{Origin, Piece, Waiting, is_trim};
use super::{Context, Volume};

impl Volume {
    /// A record could not be written: keeps the prefix that was, and writes the rest again under a new incarnation.
    pub(super) fn cut(&mut self, cx: &mut Context<'_>) {
        let reason = self.log.in_flight.iter().find_map(|record| match &record.result {
            Some(Err(failure)) => Some(failure.to_string()),
            _ => None,
        });
        let reason = reason.unwrap_or_default();
        self.writes.cuts_in_a_row += 1;
        if self.writes.cuts_in_a_row > self.settings.cuts_in_a_row {
            return self.halt(format!("the log could not be written: {reason}"), cx);
        }
        let kept = self.log.completed_through;
        cx.out.push(Output::Report(Report::Cut { kept, reason }));
        // What the open record holds is at the end of the suffix: it takes a number like the others, and is not sent.
        drop(self.log.hand_out(&self.author, Promise::Written));
        let lost = std::mem::take(&mut self.log.in_flight);
        let place = lost.front().map(|record| (record.sco, record.block));
        let queued_before = self.log.lost.len();
        self.log.lost.extend(lost);
        for record in self.log.lost[queued_before..].iter_mut().rev() {
            let (owners, pieces) = (std::mem::take(&mut record.owners), pieces_of(&record.bytes));
            self.writes.queue_first(Waiting::Pieces { owners, pieces, origin: Origin::Cut });
        }
        self.durability.cut(kept);
        self.reopen_log(kept, place, cx);
        self.drain(cx);
    }

    /// Once all that a cut lost is in the log again, its old records are not needed for reads any more.
    pub(super) fn rewritten(&mut self, origin: Origin) {
        let cut = |waiting: &Waiting| matches!(waiting, Waiting::Pieces { origin: Origin::Cut, .. });
        if origin == Origin::Cut && !self.writes.waiting.iter().any(cut) {
            self.log.lost.clear();
            self.durability.rewritten(self.log.last_sequence());
        }
    }

    /// What a cut lost must be written again before anything can be frozen, thus freed; and a trim is what makes room
    /// in a full volume. For these the log may take one of the segments that are kept for compaction.
    pub(super) fn needs_rescue(&self) -> bool {
        let urgent = !self.log.lost.is_empty() || self.writes.waiting.front().is_some_and(is_trim);
        urgent && self.log.needs_sco() && self.checkpoint.granted(Stream::Log) == 0
    }
}

/// The content of a record that this program made, to be appended again.
fn pieces_of(record: &Bytes) -> VecDeque<Piece> {
    let parsed = parse_header(&record[..CLUSTER_SIZE]).expect("made by the record builder and never changed");
    let mut block = 0;
    let pieces = parsed.entries.iter().map(|entry| match *entry {
        Entry::Data { address, .. } => {
            block += 1;
            let start = block * CLUSTER_SIZE;
            Piece::Data { address, data: record.slice(start..start + CLUSTER_SIZE) }
        }
        Entry::Empty { address, count, kind } => Piece::Empty { address, count: u64::from(count), kind },
    });
    pieces.collect()
}
