//! The precisions that products can be computed in.

use std::fmt;
use std::str::FromStr;

use crate::dtype::DType;

/// In which precision a device multiplies matrices: linear maps, convolutions and attention's two products.
///
/// It is a property of a [`Device`](crate::Device) handle ([`Device::with_precision`](crate::Device::with_precision)): models
/// and training steps do not mention it. Sums, norms, softmax and activation functions stay in 32 bits whatever the precision,
/// and a [`DType`] says what values are stored in, which is something else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands with 10 bits after the point and the range of 32-bit floats (TensorFloat-32).
    Tf32,
    /// Operands rounded to bfloat16.
    Bf16,
    /// Operands rounded to IEEE half floats.
    F16,
    /// Weights in 8 bits, one scale for each output; inputs in 8 bits, one scale for each token, found as it comes.
    Int8,
}

impl Precision {
    /// All of them, the widest first.
    pub const ALL: [Precision; 5] = [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16, Precision::Int8];

    /// Its name: `f32`, `tf32`, `bf16`, `f16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
            Precision::Int8 => "int8",
        }
    }

    /// What the matrices of a model are best stored in for it.
    pub fn storage(self) -> DType {
        match self {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
            Precision::F16 => DType::F16,
            Precision::Int8 => DType::I8,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no precision has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPrecision(String);

impl fmt::Display for UnknownPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found `{}`", names(&Precision::ALL), self.0)
    }
}

impl std::error::Error for UnknownPrecision {}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| UnknownPrecision(name.to_owned()))
    }
}

/// Their names, in a sentence: `f32`, `bf16` or `int8`.
pub(crate) fn names(precisions: &[Precision]) -> String {
    let names: Vec<String> = precisions.iter().map(|precision| format!("`{precision}`")).collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        let error = "fp8".parse::<Precision>().unwrap_err().to_string();
        assert_eq!(error, "expected `f32`, `tf32`, `bf16`, `f16` or `int8`, found `fp8`");
    }
}
