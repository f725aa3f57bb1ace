//! Values of any shape as nested lists.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// Values of a shape, written as lists in lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nested<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) values: &'a [f32],
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((&count, [_, ..])) = self.shape.split_first() else { return self.values.serialize(serializer) };
        let mut list = serializer.serialize_seq(Some(count))?;
        let part = self.values.len() / count.max(1);
        for values in self.values.chunks(part.max(1)) {
            list.serialize_element(&Nested { shape: &self.shape[1..], values })?;
        }
        list.end()
    }
}
