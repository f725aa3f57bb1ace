//! The statuses of faults, as the description of the paths states them: in the form of each protocol.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{Content, Header, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type};

/// The statuses that every path may answer with when something is wrong.
const FAULTS: [(u16, &str); 11] = [
    (400, "The request is malformed, or asks for something that the model does not have"),
    (401, "The key is missing or wrong"),
    (404, "There is no such model or path"),
    (405, "The path exists, but not for this method"),
    (408, "The body did not arrive in time"),
    (413, "The body, the image, or the number of images is larger than is allowed"),
    (415, "The bytes are not an image that can be decoded, or not of a content encoding that is known"),
    (429, "The queue is full; `Retry-After` says when to try again"),
    (500, "The server is at fault"),
    (503, "The model is being loaded, or the server is ending"),
    (504, "The answer did not come before the deadline"),
];

fn faults(schema: &str) -> BTreeMap<String, RefOr<Response>> {
    let response = |&(status, description): &(u16, &str)| {
        let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name(schema))));
        let mut response = ResponseBuilder::new().description(description).content("application/json", content);
        if matches!(status, 429 | 503) {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
            response = response.header("Retry-After", Header::new(seconds));
        }
        (status.to_string(), RefOr::T(response.build()))
    };
    FAULTS.iter().map(response).collect()
}

/// Errors of the Open Inference Protocol and of Hugging Face's.
pub(crate) struct PlainFaults;

impl IntoResponses for PlainFaults {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        faults("PlainError")
    }
}

/// Errors in OpenAI's form.
pub(crate) struct OpenAiFaults;

impl IntoResponses for OpenAiFaults {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        faults("OpenAiError")
    }
}

/// Errors of the server's own paths.
pub(crate) struct VitralFaults;

impl IntoResponses for VitralFaults {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        faults("VitralError")
    }
}
