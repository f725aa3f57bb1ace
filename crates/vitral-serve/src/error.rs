//! Why a server does not run.

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No model was named.
    #[error("expected at least one model to serve, found none")]
    NoModels,
    /// Two models have the same name.
    #[error("expected a name of its own for each model, found `{name}` twice; write `--model NAME=PATH`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A model's name cannot stand in a path.
    #[error("expected a model's name of letters, digits, `.`, `_` and `-`, found `{name}`; write `--model NAME=PATH`")]
    Name {
        /// The name.
        name: String,
    },
    /// An origin cannot be one.
    #[error(
        "expected an origin as browsers send it, such as `https://example.org` or `http://localhost:3000` (a scheme and a host \
         in lower case, without a path), or `*`, found `{origin}`"
    )]
    Origin {
        /// The text.
        origin: String,
    },
    /// One body may be larger than all of them together.
    #[error(
        "expected room for at least one body: all bodies may have {max_bodies} bytes, a single one {max_body}; raise \
         `--max-bodies`, or lower `--max-body`"
    )]
    Bodies {
        /// Bytes of a body.
        max_body: usize,
        /// Bytes of all bodies.
        max_bodies: usize,
    },
    /// A model could not be loaded.
    #[error("the model `{name}`: {detail}")]
    Load {
        /// Its name.
        name: String,
        /// Why.
        detail: String,
    },
    /// The metrics could not be set up.
    #[error("cannot set up the metrics: {detail}")]
    Metrics {
        /// Why.
        detail: String,
    },
    /// A listener failed.
    #[error("the server stopped: {detail}")]
    Serving {
        /// Why.
        detail: String,
    },
}
