//! The types that values are stored in.

/// The type that values are stored in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: half the memory, 8 bits of precision.
    Bf16,
    /// IEEE half floats: half the memory, 11 bits of precision, nothing beyond 65,504.
    F16,
    /// Integers of −127…127 and one 32-bit scale for each row of a matrix: a quarter of the memory.
    I8,
}

impl DType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::I8 => 1,
        }
    }
}
