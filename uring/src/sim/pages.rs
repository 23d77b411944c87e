//! One version of a file's bytes: a length and a sparse map of 4 KiB pages that versions share until they differ.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

/// Bytes of a page: the unit of allocation.
pub(super) const PAGE: u64 = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

type Page = [u8; PAGE as usize];

/// Every page of zeros is this one, so that zero-filled files cost a map entry a page.
static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE as usize]));

/// The bytes of one write.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Zeros(u64),
    Data(Bytes),
}

impl Payload {
    /// Takes the parts of one write; a long run of zeros is recognised and costs nothing.
    pub(super) fn new<'a>(parts: impl Iterator<Item = &'a [u8]> + Clone) -> Payload {
        let len: usize = parts.clone().map(<[u8]>::len).sum();
        if len as u64 >= PAGE && parts.clone().all(|part| part.iter().all(|&byte| byte == 0)) {
            return Payload::Zeros(len as u64);
        }
        let mut data = Vec::with_capacity(len);
        parts.for_each(|part| data.extend_from_slice(part));
        Payload::Data(data.into())
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Payload::Zeros(len) => *len,
            Payload::Data(data) => data.len() as u64,
        }
    }

    pub(super) fn slice(&self, range: Range<u64>) -> Payload {
        match self {
            Payload::Zeros(_) => Payload::Zeros(range.end - range.start),
            Payload::Data(data) => Payload::Data(data.slice(range.start as usize..range.end as usize)),
        }
    }
}

/// One version of a file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pub(super) len: u64,
    map: BTreeMap<u64, Arc<Page>>,
}

/// The parts of `offset..offset + len` by page: page number, range in the page, position in the whole.
fn spans(offset: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>, usize)> {
    let end = offset + len;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let from = offset.max(page * PAGE);
        let to = end.min((page + 1) * PAGE);
        (page, (from - page * PAGE) as usize..(to - page * PAGE) as usize, (from - offset) as usize)
    })
}

impl Pages {
    /// Allocated pages.
    pub(super) fn allocated(&self) -> u64 {
        self.map.len() as u64
    }

    pub(super) fn holds(&self, page: u64) -> bool {
        self.map.contains_key(&page)
    }

    fn page_mut(&mut self, page: u64) -> &mut Page {
        Arc::make_mut(self.map.entry(page).or_insert_with(|| ZEROS.clone()))
    }

    /// Writes and extends.
    pub(super) fn write(&mut self, offset: u64, data: &Payload) {
        for (page, range, at) in spans(offset, data.len()) {
            match data {
                Payload::Zeros(_) if range.len() as u64 == PAGE => {
                    self.map.insert(page, ZEROS.clone());
                }
                Payload::Zeros(_) => self.page_mut(page)[range].fill(0),
                Payload::Data(data) => {
                    let part = &data[at..at + range.len()];
                    self.page_mut(page)[range].copy_from_slice(part);
                }
            }
        }
        if data.len() > 0 {
            self.len = self.len.max(offset + data.len());
        }
    }

    /// Bytes read: fewer than asked for only at the end of the file.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> usize {
        let len = (buf.len() as u64).min(self.len.saturating_sub(offset));
        for (page, range, at) in spans(offset, len) {
            let target = &mut buf[at..at + range.len()];
            match self.map.get(&page) {
                Some(page) => target.copy_from_slice(&page[range]),
                None => target.fill(0),
            }
        }
        len as usize
    }

    /// Cuts or extends. What was cut reads as zeros should the file grow again.
    pub(super) fn set_len(&mut self, len: u64) {
        self.map.split_off(&len.div_ceil(PAGE));
        if len < self.len && !len.is_multiple_of(PAGE) && self.holds(len / PAGE) {
            self.page_mut(len / PAGE)[(len % PAGE) as usize..].fill(0);
        }
        self.len = len;
    }

    /// Inverts the bits of `mask` at `offset`, if that is inside the file.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        if offset < self.len {
            self.page_mut(offset / PAGE)[(offset % PAGE) as usize] ^= mask;
        }
    }

    /// Makes pages `range` those of `other`, without copying bytes.
    pub(super) fn share(&mut self, other: &Pages, range: Range<u64>) {
        for page in range {
            match other.map.get(&page) {
                Some(bytes) => self.map.insert(page, bytes.clone()),
                None => self.map.remove(&page),
            };
        }
    }

    /// Feeds the length and everything that is not zero to `feed`, a word at a time: holes and zeros are the same.
    pub(super) fn words(&self, feed: &mut impl FnMut(u64)) {
        feed(self.len);
        for (number, page) in &self.map {
            if Arc::ptr_eq(page, &ZEROS) || page.iter().all(|&byte| byte == 0) {
                continue;
            }
            feed(*number);
            for word in page.chunks_exact(8) {
                feed(word.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &[u8]) -> Payload {
        Payload::new(std::iter::once(bytes))
    }

    #[test]
    fn writes_over_page_borders_and_reads_holes_as_zeros() {
        let mut pages = Pages::default();
        pages.write(PAGE - 2, &data(b"abcd"));
        let mut buf = [9; 8];
        assert_eq!(pages.read(PAGE - 4, &mut buf), 6);
        assert_eq!(&buf[..6], b"\0\0abcd");
        assert_eq!((pages.len, pages.allocated()), (PAGE + 2, 2));
        assert_eq!(pages.read(PAGE * 9, &mut buf), 0);
    }

    #[test]
    fn what_was_cut_does_not_come_back() {
        let mut pages = Pages::default();
        pages.write(0, &data(&[7; 3 * PAGE as usize]));
        pages.set_len(PAGE + 1);
        pages.set_len(3 * PAGE);
        let mut buf = vec![9; 3 * PAGE as usize];
        assert_eq!(pages.read(0, &mut buf), buf.len());
        assert!(buf[..PAGE as usize + 1].iter().all(|&byte| byte == 7));
        assert!(buf[PAGE as usize + 1..].iter().all(|&byte| byte == 0));
        assert_eq!(pages.allocated(), 2);
    }

    #[test]
    fn zeros_share_one_page() {
        let mut pages = Pages::default();
        pages.write(0, &data(&[0; 64 * PAGE as usize]));
        assert_eq!(pages.allocated(), 64);
        assert!(pages.map.values().all(|page| Arc::ptr_eq(page, &ZEROS)));
        let mut empty = 0;
        Pages { len: pages.len, ..Pages::default() }.words(&mut |word| empty ^= word.rotate_left(7));
        let mut zeros = 0;
        pages.words(&mut |word| zeros ^= word.rotate_left(7));
        assert_eq!(empty, zeros);
    }
}
