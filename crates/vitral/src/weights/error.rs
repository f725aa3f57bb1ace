//! What can go wrong between a weight file and a model.

use std::fmt;
use std::path::{Path, PathBuf};

/// A fault in weight files, in their description, or in how the two fit the model.
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
        /// The system's word on it.
        source: std::io::Error,
    },
    /// A file is of no known kind.
    #[error(
        "`{}`: neither safetensors, nor a PyTorch checkpoint, nor a NumPy archive: {found}; convert it with the library that wrote it",
        path.display()
    )]
    UnknownContainer {
        /// The file.
        path: PathBuf,
        /// What its first bytes look like.
        found: String,
    },
    /// A file is of a known kind but broken.
    #[error("`{}`: damaged {format} file: {fault}; fetch or save the file again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which format.
        format: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A pickle asks for something that a reader of tensors must not do.
    #[error(
        "`{}`: refused: the pickle asks for `{global}`, which is not part of a tensor; \
         save only the weights, with `torch.save(model.state_dict(), …)`",
        path.display()
    )]
    ForbiddenGlobal {
        /// The file.
        path: PathBuf,
        /// Module and name, as the pickle has them.
        global: String,
    },
    /// A part of a checkpoint was asked for that is not in it.
    #[error("`{}`: no `{section}` in this checkpoint; it has {}", path.display(), listed(found))]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        section: String,
        /// Keys that hold tensors.
        found: Vec<String>,
    },
    /// The same tensor stands in two files.
    #[error("`{name}` stands in both `{}` and `{}`; name one of the files", first.display(), second.display())]
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
    #[error("`{name}`: value {index} is {value}; the checkpoint comes from a run that diverged, take another one")]
    NotFinite {
        /// The parameter, by our name.
        name: String,
        /// Where the first such value stands.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Tensors and parameters do not fit each other.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// No dialect knows the names in the file.
    #[error(
        "no known checkpoint dialect fits these tensors; nearest is `{nearest}`, which misses {} of {expected}: {}; \
         if the names are a project's own, give them under `names` in the file for `--config`",
        missing.len(),
        listed(missing)
    )]
    UnknownDialect {
        /// The dialect with the fewest missing tensors.
        nearest: String,
        /// How many parameters the model has.
        expected: usize,
        /// Foreign names it would have needed.
        missing: Vec<String>,
    },
    /// A dialect was named that does not exist.
    #[error("no dialect `{found}`; there are {}", listed(known))]
    NoSuchDialect {
        /// What was asked for.
        found: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A parameter was read that `resolve` was told to leave out, or never heard of.
    #[error("`{0}` was not assigned: it was left out on request or is no parameter of this model")]
    NotAssigned(String),
    /// A path holds no model.
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
        /// What is wrong, what was expected, and the way out.
        fault: String,
    },
    /// A model has something that the library it is to be written for cannot say.
    #[error(
        "{target} cannot express this model:\n  {}\nchoose another target, or allow what may differ by its name",
        differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
    )]
    Inexpressible {
        /// The target.
        target: &'static str,
        /// Everything it says otherwise.
        differences: Vec<Difference>,
    },
    /// Positions cannot be brought to another grid.
    #[error("`positions`: {0}")]
    Positions(String),
}

impl WeightsError {
    /// A system error with its file.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        WeightsError::Io { path: path.to_owned(), source }
    }

    /// A fault in a description file.
    pub(crate) fn description(path: &Path, fault: impl fmt::Display) -> Self {
        WeightsError::Description { path: path.to_owned(), fault: fault.to_string() }
    }
}

/// Everything that does not fit between a checkpoint and a model, all at once.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// The dialect the names were read in.
    pub dialect: String,
    /// Parameters without a tensor: ours, shape, and the foreign names that were looked for.
    pub missing: Vec<(String, Vec<usize>, Vec<String>)>,
    /// Tensors without a parameter, with their shapes.
    pub unused: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: ours, theirs, expected, found.
    pub misshapen: Vec<(String, String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether all fits.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the checkpoint (dialect `{}`) does not fit the model: {} missing, {} unused, {} misshapen",
            self.dialect,
            self.missing.len(),
            self.unused.len(),
            self.misshapen.len()
        )?;
        for (name, shape, tried) in &self.missing {
            write!(f, "\n  missing   `{name}` {shape:?}, looked for {}", listed(tried))?;
        }
        for (name, shape) in &self.unused {
            write!(f, "\n  unused    `{name}` {shape:?}")?;
        }
        for (ours, theirs, expected, found) in &self.misshapen {
            write!(f, "\n  misshapen `{ours}`: expected {expected:?}, `{theirs}` has {found:?}")?;
        }
        write!(f, "\ncheck that configuration and weights belong together, or name the tensors to leave out")
    }
}

/// The first few names in backticks, and how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 24;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}

/// Something of the model that the written files say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A field of [`ModelConfig`](crate::config::ModelConfig), `preprocess` or `labels`.
    pub field: String,
    /// What the model has.
    pub ours: String,
    /// What the target would have.
    pub theirs: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`: the model has {}, the target would have {}", self.field, self.ours, self.theirs)
    }
}
