//! What follows a product.

use crate::activation::Activation;

/// What happens to the product before it is stored: `residual + scale · activation(product + bias)`.
#[derive(Clone, Copy, Default)]
pub(crate) struct GemmEpilogue<'a> {
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Option<Activation>,
    pub(crate) scale: Option<&'a [f32]>,
    /// `[rows, columns]`, contiguous.
    pub(crate) residual: Option<&'a [f32]>,
}

impl GemmEpilogue<'_> {
    /// Whether more follows than the bias, which sums begin with.
    pub(super) fn continues(&self) -> bool {
        self.activation.is_some() || self.scale.is_some() || self.residual.is_some()
    }
}
