//! Views of memory that the type system cannot express.

use std::marker::PhantomData;

/// Asks the system to back memory with huge pages where it fills some: weights are larger than what the processor
/// caches translations of small pages for. Only a hint; elsewhere than on Linux nothing happens.
pub(crate) fn prefer_huge_pages<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let start = memory.as_ptr() as usize;
        let (first, end) = (start.next_multiple_of(HUGE), (start + size_of_val(memory)) / HUGE * HUGE);
        if first < end {
            // SAFETY: the range is within `memory`; the advice changes how it is backed, not what it holds. A system
            // that refuses is not an error.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// A slice that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(super) struct DisjointMut<'a> {
    start: *mut f32,
    length: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is to values that the unique borrow `'a` keeps alive, and parts are disjoint by the contract of
// `part`.
unsafe impl Send for DisjointMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for DisjointMut<'_> {}

impl<'a> DisjointMut<'a> {
    pub(super) fn new(slice: &'a mut [f32]) -> Self {
        DisjointMut { start: slice.as_mut_ptr(), length: slice.len(), life: PhantomData }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The part from `start` of `length` values.
    ///
    /// # Safety
    /// No part that is in use at the same time overlaps it.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by the contract of this function")]
    pub(super) unsafe fn part(&self, start: usize, length: usize) -> &mut [f32] {
        assert!(start <= self.length && length <= self.length - start, "part {start}+{length} of {}", self.length);
        // SAFETY: within the slice by the assertion; no other part overlaps, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }

    /// A raw pointer to one element, for tiles with a row stride.
    pub(super) fn pointer(&self, start: usize) -> *mut f32 {
        assert!(start <= self.length, "element {start} of {}", self.length);
        self.start.wrapping_add(start)
    }
}

/// The two halves of every word, the lower first.
pub(super) fn as_halves_mut(words: &mut [f32]) -> &mut [u16] {
    // SAFETY: the same memory, of which any bits are numbers of either kind, less aligned.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// The four bytes of every word, the lowest first.
pub(super) fn as_bytes_mut(words: &mut [f32]) -> &mut [u8] {
    // SAFETY: as in `as_halves_mut`.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
}

/// As [`as_bytes_mut`], to be read.
pub(super) fn as_bytes(words: &[f32]) -> &[u8] {
    // SAFETY: as in `as_halves_mut`.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
}

/// Words as integers.
pub(super) fn as_integers(words: &[f32]) -> &[i32] {
    // SAFETY: the same memory, of which any bits are numbers of either kind.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// As [`as_integers`], to be written.
pub(super) fn as_integers_mut(words: &mut [f32]) -> &mut [i32] {
    // SAFETY: as in `as_integers`.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}
