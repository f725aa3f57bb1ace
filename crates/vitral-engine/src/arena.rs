//! Parameters: named tensors of a model.

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Dotted path, such as `blocks.3.attention.qkv.weight`.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}
