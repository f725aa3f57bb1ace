//! Errors in a configuration.

/// A configuration that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size that must be positive is 0.
    #[error("`{field}` is 0 in the model configuration, expected at least 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// Two fields contradict each other.
    #[error("the model configuration {problem}; {hint}")]
    Contradiction {
        /// The contradiction.
        problem: String,
        /// How to resolve it.
        hint: &'static str,
    },
    /// A value outside its range, such as a rate outside 0…1 or a negative epsilon.
    #[error("`{field}` is {found} in the model configuration, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// The allowed range.
        expected: &'static str,
    },
    /// More parameters than any machine can hold.
    #[error("the model configuration asks for {count} parameters, more than {limit}; check its widths")]
    TooLarge {
        /// Number of parameters, roughly.
        count: u128,
        /// The largest number accepted.
        limit: u128,
    },
}
