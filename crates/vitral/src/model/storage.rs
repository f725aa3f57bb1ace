//! What the matrices of a model are stored in, for each precision.

use vitral_engine::{DType, Precision};

/// What a parameter is stored in, by its name, if it is a matrix. In 8 bits, the first and the last maps, from pixels and to
/// classes, stay in 16: they are small, and what they read and give is not what the scheme is made for.
pub fn storage(precision: Precision, name: &str) -> DType {
    match precision {
        Precision::Int8 if !name.starts_with("blocks.") => DType::Bf16,
        precision => precision.storage(),
    }
}
