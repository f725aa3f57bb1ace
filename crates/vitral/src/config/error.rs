//! What can be wrong with a configuration.

/// A configuration that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An extent that has to be positive.
    #[error("`{field}` is 0 in the model configuration, expected at least 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// Two fields that do not fit.
    #[error("the model configuration {problem}; {hint}")]
    Contradiction {
        /// What does not fit.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// A rate outside 0…1, or an epsilon that is not positive.
    #[error("`{field}` is {found} in the model configuration, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// More numbers than any machine holds.
    #[error("the model configuration asks for {count} parameters, more than {limit}; check its widths")]
    TooLarge {
        /// Parameters asked for, roughly.
        count: u128,
        /// Most that are taken.
        limit: u128,
    },
}
