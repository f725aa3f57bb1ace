//! Shapes of tensors.

use std::ops::Deref;

/// Up to five extents, outermost first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; 5],
    rank: usize,
}

impl Shape {
    /// A shape from its extents, five at most.
    ///
    /// # Panics
    /// If there are more.
    pub fn new(extents: &[usize]) -> Self {
        assert!(extents.len() <= 5, "{extents:?} has more than five extents");
        let mut shape = Shape { extents: [1; 5], rank: extents.len() };
        shape.extents[..extents.len()].copy_from_slice(extents);
        shape
    }

    /// Product of all extents.
    pub fn count(&self) -> usize {
        self.iter().product()
    }

    /// The innermost extent.
    pub fn last(&self) -> usize {
        self[..].last().copied().unwrap_or(1)
    }

    /// The same shape with another innermost extent.
    pub fn with_last(mut self, last: usize) -> Self {
        assert!(self.rank > 0);
        self.extents[self.rank - 1] = last;
        self
    }

    /// The same shape with another outermost extent.
    pub fn with_first(mut self, first: usize) -> Self {
        assert!(self.rank > 0);
        self.extents[0] = first;
        self
    }

    /// Values of one item of the outermost extent.
    pub(crate) fn item(&self) -> usize {
        self[..].iter().skip(1).product()
    }

    /// Rows when the innermost extent is a row.
    pub(crate) fn rows(&self) -> usize {
        self.count() / self.last().max(1)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..self.rank]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Self {
        Shape::new(&extents)
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &self[..])
    }
}
