//! Why a request is not answered, in the words and the numbers of every protocol.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The kind of a fault; it decides the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request is malformed, or asks for something that the model does not have.
    BadRequest,
    /// The key is missing or wrong.
    Unauthorized,
    /// There is no such model, or no such path.
    NotFound,
    /// The path exists, but not for this method.
    WrongMethod,
    /// The request's body did not arrive in time.
    SlowBody,
    /// The request is larger than is allowed.
    TooLarge,
    /// The bytes are not an image, or not one that can be decoded.
    NotAnImage,
    /// The queue is full.
    Full {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The model is being loaded, or the server is ending.
    Unavailable,
    /// The answer did not come in time.
    Deadline,
    /// The server is at fault.
    Internal,
}

/// Why a request is not answered. The message is for the client: it never contains a path of the server.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Fault {
    kind: Kind,
    message: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Fault { kind, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Fault::new(Kind::BadRequest, message)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The same fault, with the place it was found at in front.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::BadRequest => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Kind::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::NotAnImage => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Full { .. } => StatusCode::TOO_MANY_REQUESTS,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whole seconds after which it is worth trying again.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self.kind {
            Kind::Full { retry_after } => Some(retry_after.as_secs_f64().ceil().max(1.0) as u64),
            Kind::Unavailable => Some(1),
            _ => None,
        }
    }

    /// A short name for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self.kind {
            Kind::BadRequest => "bad_request",
            Kind::Unauthorized => "unauthorized",
            Kind::NotFound => "not_found",
            Kind::WrongMethod => "method_not_allowed",
            Kind::SlowBody => "request_timeout",
            Kind::TooLarge => "too_large",
            Kind::NotAnImage => "not_an_image",
            Kind::Full { .. } => "queue_full",
            Kind::Unavailable => "unavailable",
            Kind::Deadline => "deadline_exceeded",
            Kind::Internal => "internal",
        }
    }
}

/// The fault travels with the response, without a body: `errors` writes it in the form of the request's protocol.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<vitral::Error> for Fault {
    fn from(error: vitral::Error) -> Self {
        use vitral::Error;
        match error {
            Error::Image(fault) => Fault::from(*fault),
            Error::Model(_)
            | Error::NoHead { .. }
            | Error::Projects { .. }
            | Error::PerToken { .. }
            | Error::NoClassToken { .. }
            | Error::Sizes { .. }
            | Error::Text { .. }
            | Error::TextLabels { .. }
            | Error::Explain(_) => Fault::bad(error.to_string()),
            Error::NoPreprocessing { .. } | Error::Preprocessing { .. } | Error::Disagreement { .. } => Fault::bad(
                "the model's files do not say how images are preprocessed; send `pixel_values`, or add its \
                 `preprocessor_config.json` on the server",
            ),
            Error::Device(fault) => Fault::new(Kind::Internal, fault.to_string()),
            // What is left concerns files of the server, whose names are not the client's business.
            _ => Fault::new(Kind::Internal, "the model cannot be used; the server's log says why"),
        }
    }
}

impl From<vitral::image::ImageError> for Fault {
    fn from(error: vitral::image::ImageError) -> Self {
        use vitral::image::ImageError;
        match error {
            ImageError::TooManyPixels { width, height, limit, .. } => Fault::new(
                Kind::TooLarge,
                format!("expected an image of at most {limit} pixels, found {width} × {height}; send a smaller one"),
            ),
            ImageError::TooManyBytes { needed, limit, .. } => Fault::new(
                Kind::TooLarge,
                format!("expected an image that takes at most {limit} bytes to decode, found one that takes {needed}"),
            ),
            ImageError::Read { .. } => Fault::new(Kind::Internal, "the image could not be read"),
            ImageError::InFile { source, .. } => Fault::from(*source),
            other => Fault::new(Kind::NotAnImage, other.to_string()),
        }
    }
}
