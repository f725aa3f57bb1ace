//! Errors on the way from a weight file to a model.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error in weight files, in their description, or in how the two match the model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A device failed, or ran out of memory.
    #[error(transparent)]
    Device(#[from] vitral_engine::DeviceError),
    /// A file could not be read.
    #[error("`{}`: cannot read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("`{}`: cannot write: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file's format is not recognized.
    #[error(
        "`{}`: neither safetensors, nor a PyTorch checkpoint, nor a NumPy archive: {found}",
        path.display()
    )]
    UnknownContainer {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like, and what to do.
        found: String,
    },
    /// A file's format is recognized, but the file is broken.
    #[error("`{}`: damaged {format} file: {fault}; fetch or save the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A pickle requires something that a reader of tensors must not do.
    #[error(
        "`{}`: refused: the pickle requires `{global}`, which is not part of a tensor; \
         save only the weights, with `torch.save(model.state_dict(), …)`",
        path.display()
    )]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// Module and name, as in the pickle.
        global: String,
    },
    /// A tensor is stored in a way that is not read.
    #[error(
        "`{}`: `{tensor}` is made by `{class}`, expected a plain tensor; load the file in Python and save it with \
         `torch.save({{name: torch.as_tensor(value) for …}}, …)`",
        path.display()
    )]
    UnreadableTensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What makes it, as in the pickle.
        class: String,
    },
    /// A section was requested that the checkpoint does not have.
    #[error("`{}`: no `{section}` in this checkpoint; it has {}", path.display(), listed(found))]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// What was requested.
        section: String,
        /// Keys that hold tensors.
        found: Vec<String>,
    },
    /// The same tensor is in two files.
    #[error("`{name}` is in both `{}` and `{}`; name one of the files", first.display(), second.display())]
    Duplicate {
        /// The tensor.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A tensor has a type that weights cannot have.
    #[error("`{name}` is {found}; weights are read from float32, float16, bfloat16 and float64")]
    DataType {
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A parameter has values that are not finite.
    #[error("`{name}`: value {index} is {value}; the checkpoint comes from a run that diverged, use another one")]
    NotFinite {
        /// The parameter, by Vitral's name.
        name: String,
        /// Index of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Tensors and parameters do not match.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// No dialect matches the names in the file.
    #[error(
        "no known checkpoint dialect matches these tensors; the closest is `{nearest}`, which lacks {} of {expected}: \
         {}{}; if the names are a project's own, map them under `names` in the file for `--config`",
        missing.len(),
        listed(missing),
        prefixed(prefix.as_deref())
    )]
    UnknownDialect {
        /// The dialect with the fewest missing tensors.
        nearest: String,
        /// How many parameters the model has.
        expected: usize,
        /// Names the file would need to have.
        missing: Vec<String>,
        /// A prefix that all tensors share.
        prefix: Option<String>,
    },
    /// A dialect was requested that does not exist.
    #[error("no dialect `{found}`; known ones are {}", listed(known))]
    NoSuchDialect {
        /// What was requested.
        found: String,
        /// The known dialects.
        known: Vec<String>,
    },
    /// A dialect whose names stand for another kind of rotary positions.
    #[error(
        "the names of dialect `{dialect}` belong to another kind of rotary positions than the configuration's `rotary`; \
         leave out the dialect, or change one of them"
    )]
    OtherRotary {
        /// The dialect.
        dialect: String,
    },
    /// A parameter was read that `resolve` was told to leave out, or that does not exist.
    #[error("`{0}` was not assigned: it was left out on request or is not a parameter of this model")]
    NotAssigned(String),
    /// A model has no tower for texts.
    #[error("`{}`: no text tower, so it cannot compare images with words: {fault}", path.display())]
    NoTextTower {
        /// The path.
        path: PathBuf,
        /// What is missing.
        fault: String,
    },
    /// A tokenizer's file is missing or cannot be read.
    #[error("`{}`: {fault}", path.display())]
    Tokenizer {
        /// The folder or file.
        path: PathBuf,
        /// What was expected and found.
        fault: String,
    },
    /// A path does not hold a model.
    #[error("`{}`: {fault}", path.display())]
    NoModel {
        /// The path.
        path: PathBuf,
        /// What was expected and what to do.
        fault: String,
    },
    /// A description (`config.json`, `vitral.json`…) is not valid.
    #[error("`{}`: {fault}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong, what was expected, and how to fix it.
        fault: String,
    },
    /// The target library cannot express a property of the model.
    #[error("{target} cannot express this model:{}\n{advice}", lines(differences))]
    Inexpressible {
        /// The target.
        target: &'static str,
        /// Every difference.
        differences: Vec<Difference>,
        /// What to do.
        advice: String,
    },
    /// What was written is not the model that was to be written.
    #[error("what was written cannot be read back as this model, so it was deleted: {fault}")]
    NotReadBack {
        /// What is wrong, and what to do.
        fault: String,
    },
    /// Positions cannot be resampled to another grid.
    #[error("`positions`: {0}")]
    Positions(String),
}

impl WeightsError {
    /// A system error with its file.
    pub(crate) fn writing(path: &Path, source: std::io::Error) -> Self {
        WeightsError::Write { path: path.to_owned(), source }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        WeightsError::Io { path: path.to_owned(), source }
    }

    /// An error in a description file.
    pub(crate) fn description(path: &Path, fault: impl fmt::Display) -> Self {
        WeightsError::Description { path: path.to_owned(), fault: fault.to_string() }
    }
}

/// Every mismatch between a checkpoint and a model.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// The dialect used to read the names.
    pub dialect: String,
    /// Parameters without a tensor: Vitral's name, shape, and the file's names that were tried.
    pub missing: Vec<(String, Vec<usize>, Vec<String>)>,
    /// Tensors without a parameter, with their shapes.
    pub unused: Vec<(String, Vec<usize>)>,
    /// Tensors with a wrong shape: Vitral's name, the file's name, expected shape, actual shape.
    pub misshapen: Vec<(String, String, Vec<usize>, Vec<usize>)>,
    /// A prefix that all tensors share and the dialect does not have.
    pub prefix: Option<String>,
}

impl Mismatch {
    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the checkpoint (dialect `{}`) does not match the model: {} missing, {} unused, {} with another shape",
            self.dialect,
            self.missing.len(),
            self.unused.len(),
            self.misshapen.len()
        )?;
        write!(f, "{}", prefixed(self.prefix.as_deref()))?;
        for (name, shape, tried) in self.missing.iter().take(SHOWN) {
            write!(f, "\n  missing  `{name}` {shape:?}, tried {}", listed(tried))?;
        }
        more(f, self.missing.len(), "missing")?;
        for (name, shape) in self.unused.iter().take(SHOWN) {
            write!(f, "\n  unused   `{name}` {shape:?}")?;
        }
        more(f, self.unused.len(), "unused")?;
        for (ours, theirs, expected, found) in self.misshapen.iter().take(SHOWN) {
            write!(f, "\n  shape of `{ours}`: expected {expected:?}, `{theirs}` has {found:?}")?;
        }
        more(f, self.misshapen.len(), "with another shape")?;
        write!(
            f,
            "\ncheck that configuration and weights belong together, or name the tensors to ignore (`--ignore NAME`)"
        )
    }
}

/// How many names of a list are shown.
const SHOWN: usize = 12;

/// How many entries of a list are not shown.
fn more(f: &mut fmt::Formatter<'_>, count: usize, what: &str) -> fmt::Result {
    if count > SHOWN { write!(f, "\n  … and {} more {what}", count - SHOWN) } else { Ok(()) }
}

/// The first few differences, one per line; the same one of several blocks is one.
fn lines(differences: &[Difference]) -> String {
    let mut kinds: Vec<(Difference, usize)> = Vec::new();
    for difference in differences {
        let numbered = |part| if str::parse::<usize>(part).is_ok() { "*" } else { part };
        let field = difference.field.split('.').map(numbered).collect::<Vec<_>>().join(".");
        let kind = Difference { field, ..difference.clone() };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let line = |(kind, count): &(Difference, usize)| match count {
        1 => format!("\n  {kind}"),
        _ => format!("\n  `{}` ({count} tensors): {}", kind.field, kind.values()),
    };
    let mut text: String = kinds.iter().take(SHOWN).map(line).collect();
    if kinds.len() > SHOWN {
        text += &format!("\n  … and {} more", kinds.len() - SHOWN);
    }
    text
}

/// The prefix that all tensors share, as part of a sentence.
fn prefixed(prefix: Option<&str>) -> String {
    prefix.map_or_else(String::new, |prefix| format!("; the names of all tensors begin with `{prefix}`"))
}

/// The first few names in backticks, and how many more.
fn listed(names: &[String]) -> String {
    /// More than fit on lines of their own.
    const NAMED: usize = 24;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > NAMED {
        text += &format!(" and {} more", names.len() - NAMED);
    }
    text
}

/// A property of the model that the written files would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A field of [`ModelConfig`](crate::config::ModelConfig), `preprocess` or `labels`.
    pub field: String,
    /// The model's value.
    pub ours: String,
    /// The target's value.
    pub theirs: String,
}

impl Difference {
    /// The two values, as part of a sentence.
    fn values(&self) -> String {
        format!("the model has {}, the target would have {}", self.ours, self.theirs)
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: {}", self.field, self.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_the_same_kind_are_one_line() {
        let of = |field: String| Difference { field, ours: "[384]".into(), theirs: "no such tensor".into() };
        let mut all: Vec<Difference> = (0..12).map(|block| of(format!("blocks.{block}.scale1"))).collect();
        all.push(of("norm.weight".into()));
        assert_eq!(
            lines(&all),
            "\n  `blocks.*.scale1` (12 tensors): the model has [384], the target would have no such tensor\
             \n  `norm.weight`: the model has [384], the target would have no such tensor"
        );
    }
}
