//! Views of memory that the type system cannot express.

use std::marker::PhantomData;

/// A slice of arrays as one slice of their elements.
pub(crate) fn flatten<T, const N: usize>(lines: &[T], _proof: impl Fn(&T) -> &[f32; N]) -> &[f32] {
    const { assert!(size_of::<T>() == size_of::<[f32; N]>()) };
    // SAFETY: `T` has the size of `[f32; N]` and, by `_proof`, consists of one, so the memory is `N` times as many
    // initialised `f32` with no gaps; the borrow is kept.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * N) }
}

/// A slice of arrays as one slice of their elements, to be written.
pub(crate) fn flatten_mut<T, const N: usize>(lines: &mut [T], _proof: impl Fn(&T) -> &[f32; N]) -> &mut [f32] {
    const { assert!(size_of::<T>() == size_of::<[f32; N]>()) };
    // SAFETY: as in `flatten`; the unique borrow is kept, and any `f32` is a valid element of `T`.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * N) }
}

/// A slice that several threads write to, each its own part.
///
/// The parts asked for at the same time must not overlap. Every use in this crate derives them from a task index in a
/// way that keeps them apart; debug builds cannot check it, tests under several thread counts do.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut<'a> {
    start: *mut f32,
    length: usize,
    life: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is to plain numbers that the unique borrow `'a` keeps alive, and parts are disjoint by contract.
unsafe impl Send for SharedMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    pub(crate) fn new(slice: &'a mut [f32]) -> Self {
        SharedMut { start: slice.as_mut_ptr(), length: slice.len(), life: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// The part from `start` of `length` numbers.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by the contract of this type")]
    pub(crate) fn part(&self, start: usize, length: usize) -> &mut [f32] {
        assert!(start <= self.length && length <= self.length - start, "part {start}+{length} of {}", self.length);
        // SAFETY: within the slice by the assertion; no other part overlaps by the contract of this type.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }

    /// A raw pointer to one element, for tiles with a row stride.
    pub(crate) fn pointer(&self, start: usize) -> *mut f32 {
        assert!(start <= self.length, "element {start} of {}", self.length);
        // SAFETY: within the slice by the assertion.
        unsafe { self.start.add(start) }
    }
}
