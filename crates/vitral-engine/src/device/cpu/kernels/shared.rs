//! Views of memory that the type system cannot express.

use std::marker::PhantomData;

/// Asks the system to back memory with huge pages where it fills some: weights are larger than what the processor keeps
/// translations of small pages for. Only a hint; elsewhere than on Linux nothing happens.
pub(crate) fn prefer_huge_pages<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let start = memory.as_ptr() as usize;
        let (first, end) = (start.next_multiple_of(HUGE), (start + size_of_val(memory)) / HUGE * HUGE);
        if first < end {
            // SAFETY: the range lies within `memory`; the advice changes how it is backed, not what it holds. A system
            // that refuses is no fault.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// A slice that several threads write to, each its own part.
///
/// The parts asked for at the same time must not overlap. Every use in this crate derives them from a task index in a
/// way that keeps them apart; debug builds cannot check it, tests under several thread counts do.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a, T = f32> {
    start: *mut T,
    length: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is to elements that the unique borrow `'a` keeps alive, and parts are disjoint by contract.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        SharedMut { start: slice.as_mut_ptr(), length: slice.len(), life: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The part from `start` of `length` numbers.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by the contract of this type")]
    pub(crate) fn part(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start, "part {start}+{length} of {}", self.length);
        // SAFETY: within the slice by the assertion; no other part overlaps by the contract of this type.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }

    /// A raw pointer to one element, for tiles with a row stride.
    pub(crate) fn pointer(&self, start: usize) -> *mut T {
        assert!(start <= self.length, "element {start} of {}", self.length);
        // SAFETY: within the slice by the assertion.
        unsafe { self.start.add(start) }
    }
}
