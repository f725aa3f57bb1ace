//! Values of any shape as nested lists, for answers in JSON.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Values of a shape, row by row, written as lists in lists.
#[derive(Clone, Copy, Debug)]
pub struct Nested<'a> {
    /// The extents.
    pub shape: &'a [usize],
    /// As many values as the shape has.
    pub values: &'a [f32],
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.shape {
            [] | [_] => self.values.serialize(serializer),
            [outer, inner @ ..] => {
                let mut list = serializer.serialize_seq(Some(*outer))?;
                for values in self.values.chunks_exact(inner.iter().product::<usize>().max(1)) {
                    list.serialize_element(&Nested { shape: inner, values })?;
                }
                list.end()
            }
        }
    }
}
