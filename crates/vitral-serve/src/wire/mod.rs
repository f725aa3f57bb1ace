//! Bytes and text of the protocols, as values. Everything here reads what strangers send.

pub(crate) mod encoded;
pub(crate) mod multipart;
pub(crate) mod numbers;
pub(crate) mod tensors;

/// Made by `tools/protocol`.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub)]
#[rustfmt::skip]
pub(crate) mod inference;
