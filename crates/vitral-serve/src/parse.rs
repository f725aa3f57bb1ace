//! The parsers of what strangers send, for tests that try to break them: each takes any bytes, and says whether they are a
//! message.

use bytes::Bytes;
use prost::Message;

use crate::oip::{grpc, http};
use crate::wire::inference::ModelInferRequest;
use crate::wire::{encoded, multipart};

/// A request for inference over HTTP; the first two bytes are the length of its JSON, or 0 for all of it.
pub fn infer(bytes: &[u8]) -> bool {
    let Some((length, message)) = bytes.split_first_chunk::<2>() else { return false };
    let length = u16::from_le_bytes(*length);
    let header = (length > 0).then(|| length.to_string());
    http::parsed(header.as_deref().map(str::as_bytes), Bytes::copy_from_slice(message)).is_ok()
}

/// A request for inference over gRPC.
pub fn message(bytes: &[u8]) -> bool {
    ModelInferRequest::decode(bytes).is_ok_and(|request| grpc::parsed(request).is_ok())
}

/// A form with files, whose boundary is `edge`.
pub fn form(bytes: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let form = multipart::form("multipart/form-data; boundary=edge", Bytes::copy_from_slice(bytes));
    runtime.is_ok_and(|runtime| runtime.block_on(form).is_ok())
}

/// An image in text.
pub fn image(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| encoded::image(text).is_ok())
}
