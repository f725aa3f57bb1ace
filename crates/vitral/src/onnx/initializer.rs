//! Constants of a graph. Their values are read or calculated when they are written, one after the other.

use std::borrow::Cow;

use half::{bf16, f16};
use vitral_engine::{DType, int8};

use super::proto::TensorProto;
use super::proto::tensor_proto::DataType;
use crate::weights::WeightsError;
use crate::weights::assign::finite;
use crate::weights::export::ExportSource;

/// The parameters of a model by their names, rounded to the type that they are stored in.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a, 'm>(pub(super) &'a ExportSource<'m>);

impl Weights<'_, '_> {
    /// The values of one parameter.
    ///
    /// # Errors
    /// If it cannot be read, or has values that are not finite.
    pub(super) fn values(&self, name: &str) -> Result<Cow<'_, [f32]>, WeightsError> {
        let declarations = self.0.vit.declarations();
        let id = declarations.find(name).ok_or_else(|| WeightsError::NotAssigned(name.to_owned()))?;
        let values = (self.0.read)(declarations.spec(id))?;
        finite(name, &values)?;
        let rounded: fn(f32) -> f32 = match self.0.storage {
            DType::F32 | DType::I8 => return Ok(values),
            DType::Bf16 => |value| bf16::from_f32(value).to_f32(),
            DType::F16 => |value| f16::from_f32(value).to_f32(),
        };
        let rounded: Vec<f32> = values.iter().map(|&value| rounded(value)).collect();
        // What 16 bits cannot hold became infinite.
        match finite(name, &rounded) {
            Ok(()) => Ok(rounded.into()),
            Err(_) => Err(WeightsError::DataType {
                name: name.to_owned(),
                found: "beyond what 16-bit floats of that kind hold; export it in f32, or in bf16 for its range".into(),
            }),
        }
    }

    /// The scale of each row of a matrix in 8 bits.
    ///
    /// # Errors
    /// As [`Weights::values`].
    pub(super) fn scales(&self, name: &str, rows: usize) -> Result<Vec<f32>, WeightsError> {
        let values = self.values(name)?;
        let width = values.len() / rows.max(1);
        Ok(values.chunks(width.max(1)).map(int8::row_scale).collect())
    }

    /// A matrix in units of its rows' scales. It was rounded to multiples of them before, so nothing is rounded here.
    ///
    /// # Errors
    /// As [`Weights::values`].
    pub(super) fn integers(&self, name: &str, rows: usize) -> Result<Vec<i8>, WeightsError> {
        let values = self.values(name)?;
        let width = values.len() / rows.max(1);
        let row = |row: &[f32]| {
            let scale = int8::row_scale(row);
            row.iter().map(|&value| int8::quantized(value, scale)).collect::<Vec<_>>()
        };
        Ok(values.chunks(width.max(1)).flat_map(row).collect())
    }
}

/// Reads a matrix in 8 bits.
pub(super) type Rows = dyn Fn(&Weights<'_, '_>) -> Result<Vec<i8>, WeightsError>;

/// Reads or calculates values.
pub(super) type Calculation = dyn Fn(&Weights<'_, '_>) -> Result<Vec<f32>, WeightsError>;

/// Where the values of a constant come from.
pub(super) enum Values {
    Integers(Vec<i64>),
    Floats(Box<Calculation>),
    Rows(Box<Rows>),
}

/// A constant.
pub(super) struct Initializer {
    pub(super) name: String,
    pub(super) dims: Vec<usize>,
    pub(super) kind: DataType,
    pub(super) values: Values,
}

impl Initializer {
    /// Its description, without values.
    pub(super) fn header(&self) -> TensorProto {
        TensorProto {
            dims: self.dims.iter().map(|&extent| extent as i64).collect(),
            data_type: self.kind.into(),
            name: self.name.clone(),
            ..TensorProto::default()
        }
    }

    /// How many bytes its values take.
    pub(super) fn size(&self) -> usize {
        self.dims.iter().product::<usize>() * width(self.kind)
    }

    /// Its values as they are in a file.
    ///
    /// # Errors
    /// If a parameter cannot be read.
    ///
    /// # Panics
    /// If a calculation gives another number of values than was declared.
    pub(super) fn bytes(&self, weights: &Weights<'_, '_>) -> Result<Vec<u8>, WeightsError> {
        let bytes: Vec<u8> = match &self.values {
            Values::Integers(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Rows(read) => read(weights)?.into_iter().map(|value| value as u8).collect(),
            Values::Floats(calculate) => {
                let values = calculate(weights)?;
                match self.kind {
                    DataType::Bfloat16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
                    DataType::Float16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
                    _ if cfg!(target_endian = "little") => bytemuck::cast_slice(&values).to_vec(),
                    _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                }
            }
        };
        assert_eq!(bytes.len(), self.size(), "`{}` of {:?}", self.name, self.dims);
        Ok(bytes)
    }
}

/// Bytes of one value.
pub(super) fn width(kind: DataType) -> usize {
    match kind {
        DataType::Undefined => 0,
        DataType::Int8 => 1,
        DataType::Float => 4,
        DataType::Int64 => 8,
        DataType::Float16 | DataType::Bfloat16 => 2,
    }
}

/// `[rows, columns]` to `[columns, rows]`, in squares that fit a cache.
pub(super) fn transposed<T: Copy + Default>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    const SIDE: usize = 32;
    let mut out = vec![T::default(); values.len()];
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for row in top..rows.min(top + SIDE) {
                for column in left..columns.min(left + SIDE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}
