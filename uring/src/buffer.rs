//! Memory for O_DIRECT and sockets: page-aligned, always initialised, recycled on the thread that drops it.
//!
//! Every thread keeps a free list by size class, bounded in bytes ([`set_pool_limit`]); what does not fit goes back
//! to the allocator. Buffers may cross threads: they join the list of the thread that drops them.

use std::alloc::{self, Layout};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytes::Bytes;

/// Alignment of every buffer and unit of every capacity, in bytes. Serves all O_DIRECT demands this crate accepts.
pub const ALIGN: usize = 4096;

/// Bytes one thread keeps for reuse unless [`set_pool_limit`] says otherwise.
pub const DEFAULT_POOL_LIMIT: usize = 32 << 20;

/// Up to here (in pages) every number of pages is a class of its own; above, four classes a power of two.
const EXACT_PAGES: usize = 16;
/// Larger buffers (16 MiB) are never kept.
const MAX_POOLED_PAGES: usize = 4096;
/// 16 exact classes and four for each of the powers 2^4..2^12 pages.
const CLASSES: usize = EXACT_PAGES + 4 * 8;

/// What one thread's free list did so far. Sizes in bytes, the rest in buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// The bound on `held`.
    pub limit: usize,
    /// Kept for reuse now.
    pub held: usize,
    /// Buffers served from the free list.
    pub reused: u64,
    /// Buffers taken from the allocator.
    pub allocated: u64,
    /// Buffers given back to the allocator because the list was full or the buffer too large.
    pub released: u64,
}

struct Pool {
    classes: [Vec<NonNull<u8>>; CLASSES],
    stats: PoolStats,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool {
            classes: [const { Vec::new() }; CLASSES],
            stats: PoolStats { limit: DEFAULT_POOL_LIMIT, held: 0, reused: 0, allocated: 0, released: 0 },
        })
    };
}

/// Bounds what this thread keeps for reuse, in bytes; frees what is beyond the new bound.
pub fn set_pool_limit(bytes: usize) {
    POOL.with_borrow_mut(|pool| {
        pool.stats.limit = bytes;
        pool.trim();
    });
}

/// This thread's counters.
pub fn pool_stats() -> PoolStats {
    POOL.with_borrow(|pool| pool.stats)
}

impl Pool {
    /// Frees, largest first, until the limit holds.
    fn trim(&mut self) {
        for class in (0..CLASSES).rev() {
            while self.stats.held > self.stats.limit {
                let Some(ptr) = self.classes[class].pop() else { break };
                let bytes = class_bytes(class);
                self.stats.held -= bytes;
                self.stats.released += 1;
                // SAFETY: everything in `classes[class]` was allocated with exactly this layout and has no owner.
                unsafe { alloc::dealloc(ptr.as_ptr(), layout(bytes)) };
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stats.limit = 0;
        self.trim();
    }
}

/// Class of a buffer of `pages` pages, `None` if it is too large to keep.
#[inline]
fn class_of(pages: usize) -> Option<usize> {
    if pages <= EXACT_PAGES {
        return Some(pages - 1);
    }
    if pages > MAX_POOLED_PAGES {
        return None;
    }
    // 2^power < pages <= 2^(power+1), cut into quarters.
    let power = (pages - 1).ilog2() as usize;
    let quarter = (pages - 1 - (1 << power)) >> (power - 2);
    Some(EXACT_PAGES + (power - 4) * 4 + quarter)
}

/// Bytes allocated for every buffer of a class.
#[inline]
fn class_bytes(class: usize) -> usize {
    if class < EXACT_PAGES {
        return (class + 1) * ALIGN;
    }
    let (power, quarter) = (4 + (class - EXACT_PAGES) / 4, (class - EXACT_PAGES) % 4);
    ((1 << power) + ((quarter + 1) << (power - 2))) * ALIGN
}

/// Bytes allocated for a buffer of `capacity`, with its class.
#[inline]
fn allocation(capacity: usize) -> (usize, Option<usize>) {
    match class_of(capacity / ALIGN) {
        Some(class) => (class_bytes(class), Some(class)),
        None => (capacity, None),
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGN).expect("a buffer smaller than half the address space")
}

/// Bytes at an address that is a multiple of 4096, with a capacity that is one too. All of the capacity is
/// initialised, though a recycled buffer holds old bytes until they are overwritten.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: the memory belongs to this value alone, and there is no interior mutability.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// An empty buffer of at least `bytes`, rounded up to a multiple of 4096 (4096 for 0).
    ///
    /// # Panics
    /// If the rounded size exceeds half the address space.
    #[inline]
    pub fn with_capacity(bytes: usize) -> AlignedBuf {
        AlignedBuf::obtain(bytes).0
    }

    /// `len` zero bytes; the capacity is `len` rounded up.
    pub fn zeroed(len: usize) -> AlignedBuf {
        let (mut buf, fresh) = AlignedBuf::obtain(len);
        buf.len = len;
        if !fresh {
            buf.fill(0);
        }
        buf
    }

    /// A copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> AlignedBuf {
        let mut buf = AlignedBuf::with_capacity(bytes.len());
        buf.extend_from_slice(bytes);
        buf
    }

    /// A buffer, and whether it came from the allocator (and is zero therefore).
    #[inline]
    fn obtain(bytes: usize) -> (AlignedBuf, bool) {
        let capacity = bytes.max(1).checked_next_multiple_of(ALIGN).expect("a buffer size below usize::MAX");
        let (size, class) = allocation(capacity);
        // `try_with` fails while the thread ends; the allocator serves those.
        let recycled = POOL.try_with(|pool| {
            let pool = &mut *pool.borrow_mut();
            let found = class.and_then(|class| pool.classes[class].pop());
            match found {
                Some(_) => {
                    pool.stats.reused += 1;
                    pool.stats.held -= size;
                }
                None => pool.stats.allocated += 1,
            }
            found
        });
        if let Ok(Some(ptr)) = recycled {
            return (AlignedBuf { ptr, len: 0, capacity }, false);
        }
        let layout = layout(size);
        // SAFETY: the size is never zero.
        let ptr = unsafe { alloc::alloc_zeroed(layout) };
        let ptr = NonNull::new(ptr).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        (AlignedBuf { ptr, len: 0, capacity }, true)
    }

    /// Bytes in use.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Uses the first `len` bytes. Growing shows whatever the memory holds: zeros, or old bytes of a recycled buffer.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "length {len} beyond the capacity {}", self.capacity);
        self.len = len;
    }

    /// Bytes that fit: a multiple of 4096.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes behind those in use, up to the capacity. [`AlignedBuf::set_len`] takes them into use.
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len <= capacity`, all of the capacity is initialised, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().add(self.len), self.capacity - self.len) }
    }

    /// Appends within the capacity.
    ///
    /// # Panics
    /// If `bytes` do not fit: the buffer never moves.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let spare = self.spare_mut();
        assert!(bytes.len() <= spare.len(), "{} bytes for a spare room of {}", bytes.len(), spare.len());
        spare[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// The bytes in use as shared [`Bytes`], without a copy. The memory is recycled with the last of them.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        let (size, class) = allocation(self.capacity);
        let kept = class.is_some_and(|class| {
            POOL.try_with(|pool| {
                let pool = &mut *pool.borrow_mut();
                let fits = pool.stats.held + size <= pool.stats.limit;
                if fits {
                    pool.classes[class].push(self.ptr);
                    pool.stats.held += size;
                } else {
                    pool.stats.released += 1;
                }
                fits
            })
            .unwrap_or(false)
        });
        if !kept {
            // SAFETY: allocated in `obtain` with this layout, and not kept by the free list.
            unsafe { alloc::dealloc(self.ptr.as_ptr(), layout(size)) };
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are initialised and owned by `self`.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len).field("capacity", &self.capacity).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_size_with_at_most_a_quarter_of_waste() {
        for pages in 1..=MAX_POOLED_PAGES {
            let class = class_of(pages).unwrap();
            let bytes = class_bytes(class);
            assert!(bytes >= pages * ALIGN, "{pages} pages in class {class} of {bytes}");
            assert!(bytes * 4 <= pages * ALIGN * 5, "{pages} pages waste too much in {bytes}");
            assert_eq!(class_of(bytes / ALIGN), Some(class), "class {class} is not its own");
        }
        assert_eq!(class_of(MAX_POOLED_PAGES), Some(CLASSES - 1));
        assert_eq!(class_of(MAX_POOLED_PAGES + 1), None);
    }

    #[test]
    fn aligned_rounded_and_zero_at_first() {
        set_pool_limit(0);
        for bytes in [0, 1, 4096, 4097, 70_000, 17 << 20] {
            let mut buf = AlignedBuf::with_capacity(bytes);
            assert_eq!(buf.as_ptr() as usize % ALIGN, 0);
            assert_eq!(buf.capacity(), bytes.max(1).next_multiple_of(ALIGN));
            assert!(buf.is_empty());
            buf.set_len(buf.capacity());
            assert!(buf.iter().all(|&byte| byte == 0));
        }
        assert_eq!(AlignedBuf::zeroed(10).len(), 10);
    }

    #[test]
    fn recycles_within_its_bound() {
        set_pool_limit(3 * ALIGN);
        let before = pool_stats();
        let mut first = AlignedBuf::with_capacity(ALIGN);
        first.extend_from_slice(b"old");
        let address = first.as_ptr();
        drop(first);
        assert_eq!(pool_stats().held, ALIGN);
        let again = AlignedBuf::zeroed(3);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(&again[..], [0, 0, 0]);
        let others: Vec<_> = (0..3).map(|_| AlignedBuf::with_capacity(1)).collect();
        drop((again, others));
        let after = pool_stats();
        assert_eq!((after.held, after.reused - before.reused), (3 * ALIGN, 1));
        assert_eq!((after.allocated - before.allocated, after.released - before.released), (4, 1));
        set_pool_limit(ALIGN);
        assert_eq!(pool_stats().held, ALIGN);
    }

    #[test]
    fn frozen_bytes_share_the_memory_and_return_it() {
        set_pool_limit(1 << 20);
        let buf = AlignedBuf::copy_from(b"payload");
        let address = buf.as_ptr();
        let bytes = buf.freeze();
        let part = bytes.slice(3..);
        drop(bytes);
        assert_eq!((part.as_ptr() as usize - address as usize, &part[..]), (3, &b"load"[..]));
        let held = pool_stats().held;
        std::thread::spawn(move || {
            drop(part);
            assert_eq!(pool_stats().held, ALIGN);
        })
        .join()
        .unwrap();
        assert_eq!(pool_stats().held, held);
    }

    #[test]
    #[should_panic(expected = "spare room")]
    fn extending_beyond_the_capacity_panics() {
        let mut buf = AlignedBuf::zeroed(4095);
        buf.extend_from_slice(b"xy");
    }
}
