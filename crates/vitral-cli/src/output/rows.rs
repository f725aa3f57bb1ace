//! Rows of values, independent of the format.

use anyhow::bail;

/// Writes rows of values, all of one shape, each with the name of its image.
pub(crate) trait Rows {
    /// Adds the values of one image.
    fn row(&mut self, name: &str, shape: &[usize], values: &[f32]) -> anyhow::Result<()>;
    /// Completes the file and moves it into place.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// Checks that all rows have the same shape.
#[derive(Default)]
pub(super) struct OneShape {
    shape: Option<Vec<usize>>,
    pub(super) count: usize,
}

impl OneShape {
    pub(super) fn add(&mut self, name: &str, found: &[usize]) -> anyhow::Result<()> {
        let shape = self.shape.get_or_insert_with(|| found.to_vec());
        if shape != found {
            bail!(
                "`{name}`: found values of shape {found:?}, but earlier images gave {shape:?}, and an array has one \
                 shape; write .jsonl, or use preprocessing that crops to one size"
            );
        }
        self.count += 1;
        Ok(())
    }

    /// The shape of all rows together.
    pub(super) fn all(&self) -> Vec<usize> {
        std::iter::once(self.count).chain(self.shape.iter().flatten().copied()).collect()
    }
}

/// Values as little-endian bytes.
pub(super) fn little_endian(values: &[f32]) -> std::borrow::Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        bytemuck::cast_slice(values).into()
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}
