//! The contents of a weight file: every tensor with its shape, type and statistics, and the naming dialect.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::assign::values::floats;
use super::{Container, Dialect, WeightsError, load_description};

/// The contents of a model's weight files.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The files.
    pub files: Vec<String>,
    /// The section of a checkpoint that was read, if it has several.
    pub section: Option<String>,
    /// The dialect of the tensor names.
    pub dialect: Option<Recognized>,
    /// Every tensor, sorted by name.
    pub tensors: Vec<TensorReport>,
}

/// A dialect, and how it was recognized.
#[derive(Clone, Debug, Serialize)]
pub struct Recognized {
    /// The dialect.
    pub name: String,
    /// The reason.
    pub why: String,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its type, such as `float32`.
    pub data_type: String,
    /// How many values it holds.
    pub count: usize,
    /// Statistics of its values; absent if they are not floating point, or if there are none.
    pub statistics: Option<Statistics>,
}

/// Statistics of the finite values, and counts of the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// The minimum.
    pub min: f32,
    /// The maximum.
    pub max: f32,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// Number of NaNs.
    pub nan: usize,
    /// Number of infinite values.
    pub infinite: usize,
    /// Number of zeros.
    pub zeros: usize,
}

impl Statistics {
    /// Of these values; `None` if none is finite.
    pub fn of(values: &[f32]) -> Option<Self> {
        let (mut nan, mut infinite, mut zeros) = (0, 0, 0);
        let (mut min, mut max, mut sum, mut squares) = (f32::INFINITY, f32::NEG_INFINITY, 0.0, 0.0);
        for &value in values {
            match value {
                value if value.is_nan() => nan += 1,
                value if value.is_infinite() => infinite += 1,
                value => {
                    zeros += usize::from(value == 0.0);
                    (min, max) = (min.min(value), max.max(value));
                    sum += f64::from(value);
                    squares += f64::from(value) * f64::from(value);
                }
            }
        }
        let count = (values.len() - nan - infinite) as f64;
        if values.is_empty() {
            return None;
        }
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        let std = if count > 0.0 { (squares / count - mean * mean).max(0.0).sqrt() } else { 0.0 };
        if count == 0.0 {
            (min, max) = (0.0, 0.0);
        }
        Some(Statistics { min, max, mean, std, nan, infinite, zeros })
    }
}

/// Inspects a model's folder or a single weight file. Tensors are read one at a time.
///
/// # Errors
/// If the files cannot be read.
pub fn inspect(path: &Path, config: Option<&Path>) -> Result<Inspection, WeightsError> {
    let described = load_description(path, config);
    let (container, dialect) = match &described {
        Ok(description) => {
            let named =
                description.dialect.clone().map(|name| Recognized { name, why: "named by its description".into() });
            (description.open()?, named)
        }
        Err(_) if path.is_file() => (Container::open(path)?, None),
        Err(_) => return Err(described.expect_err("matched above")),
    };
    let dialect = dialect.or_else(|| by_names(&container));
    let tensors = container.names().map(|name| report(&container, name)).collect();
    let files = container.files().map(|file| file.display().to_string()).collect();
    Ok(Inspection { files, section: container.section().map(str::to_owned), dialect, tensors })
}

fn report(container: &Container, name: &str) -> TensorReport {
    let shape = container.shape(name).unwrap_or_default().to_vec();
    let data_type = container.data_type(name);
    let values = container.tensor(name).and_then(|view| floats(view, name).ok());
    TensorReport {
        name: name.to_owned(),
        count: shape.iter().product(),
        shape,
        data_type: data_type.map_or_else(String::new, |data_type| data_type.to_string()),
        statistics: values.as_deref().and_then(Statistics::of),
    }
}

/// The dialect that matches the most names, if it matches more than half of them.
fn by_names(container: &Container) -> Option<Recognized> {
    let known = |dialect: &Dialect| container.names().filter(|name| dialect.knows(name)).count();
    let best =
        Dialect::built_in().iter().map(|dialect| (known(dialect), dialect)).rev().max_by_key(|(count, _)| *count);
    best.filter(|(count, _)| 2 * count > container.len()).map(|(count, dialect)| Recognized {
        name: dialect.name().to_owned(),
        why: format!("it matches {count} of {} names", container.len()),
    })
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{file}")?;
        }
        if let Some(section) = &self.section {
            writeln!(f, "part     {section}")?;
        }
        match &self.dialect {
            Some(Recognized { name, why }) => writeln!(f, "dialect  {name}: {why}")?,
            None => writeln!(f, "dialect  not recognized")?,
        }
        let total: usize = self.tensors.iter().map(|tensor| tensor.count).sum();
        writeln!(f, "tensors  {}, {total} values\n", self.tensors.len())?;
        let width = self.tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0).max(4);
        let head = format!("{:<width$}  {:<20} {:<9}", "name", "shape", "type");
        writeln!(f, "{head} {:>10} {:>10} {:>10} {:>10}  not finite", "min", "max", "mean", "std")?;
        for tensor in &self.tensors {
            let shape = format!("{:?}", tensor.shape);
            write!(f, "{:<width$}  {shape:<20} {:<9}", tensor.name, tensor.data_type)?;
            if let Some(Statistics { min, max, mean, std, nan, infinite, zeros }) = tensor.statistics {
                write!(f, " {min:>10.4} {max:>10.4} {mean:>10.4} {std:>10.4}")?;
                if nan + infinite > 0 {
                    write!(f, "  {nan} NaN, {infinite} infinite")?;
                } else if zeros == tensor.count {
                    f.write_str("  all zero")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_count_values_that_are_not_finite() {
        let found = Statistics::of(&[1.0, 3.0, f32::NAN, f32::INFINITY, 0.0]).unwrap();
        assert_eq!((found.min, found.max, found.nan, found.infinite, found.zeros), (0.0, 3.0, 1, 1, 1));
        assert!((found.mean - 4.0 / 3.0).abs() < 1e-12);
        assert_eq!(Statistics::of(&[]), None);
        assert_eq!(Statistics::of(&[f32::NAN]).unwrap().nan, 1);
    }
}
