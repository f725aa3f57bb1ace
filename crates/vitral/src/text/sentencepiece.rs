//! A SentencePiece model (`spiece.model`), in the form of `tokenizer.json`.
//!
//! The format is `sentencepiece_model.proto` of github.com/google/sentencepiece; only what a unigram model is cut by is read.

use std::path::Path;

use base64::Engine;
use prost::Message;
use serde_json::{Value, json};

use crate::weights::WeightsError;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    /// 1 unigram, 2 BPE.
    #[prost(int32, optional, tag = "3")]
    model: Option<i32>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    /// Which characters are replaced by which, as a compiled table.
    #[prost(bytes = "vec", optional, tag = "2")]
    table: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
}

/// The token that ends a text.
const END: &str = "</s>";

/// The tokenizer of a unigram model's file; each text ends with `</s>`. `begun` says that texts already have what begins their
/// first word.
pub(super) fn unigram(file: &Path, begun: bool) -> Result<Value, WeightsError> {
    let fault = |fault: String| WeightsError::Tokenizer { path: file.to_owned(), fault };
    let bytes = std::fs::read(file).map_err(|source| WeightsError::Io { path: file.to_owned(), source })?;
    let model =
        Model::decode(bytes.as_slice()).map_err(|error| fault(format!("not a SentencePiece model: {error}")))?;
    let trainer = model.trainer.unwrap_or_default();
    if trainer.model.unwrap_or(1) != 1 {
        return Err(fault(
            "expected a unigram model, found another kind; save the tokenizer as `tokenizer.json`".into(),
        ));
    }
    let kinds = |wanted: i32| model.pieces.iter().position(|piece| piece.kind.unwrap_or(1) == wanted);
    let unknown = kinds(2).ok_or_else(|| fault("no piece stands for unknown characters".into()))?;
    let text = |piece: &Piece| piece.piece.clone().unwrap_or_default();
    let end = model.pieces.iter().position(|piece| text(piece) == END);
    let end = end.ok_or_else(|| fault(format!("no piece `{END}`, which ends a text")))?;
    let special = model.pieces.iter().enumerate().filter(|(_, piece)| matches!(piece.kind, Some(2..=4)));
    let special: Vec<Value> = special
        .map(|(id, piece)| {
            json!({"id": id, "content": text(piece), "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": piece.kind != Some(4)})
        })
        .collect();
    let vocabulary: Vec<Value> =
        model.pieces.iter().map(|piece| json!([text(piece), piece.score.unwrap_or_default()])).collect();
    let normalizer = model.normalizer.unwrap_or_default();
    let mut steps = Vec::new();
    if let Some(table) = normalizer.table.filter(|table| !table.is_empty()) {
        let table = base64::engine::general_purpose::STANDARD.encode(table);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": table}));
    }
    if normalizer.remove_extra_whitespaces.unwrap_or(true) {
        steps.push(json!({"type": "Strip", "strip_left": !begun, "strip_right": true}));
        steps.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    }
    let prefix = if normalizer.add_dummy_prefix.unwrap_or(true) && !begun { "always" } else { "never" };
    Ok(json!({
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": prefix, "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
            "special_tokens": {END: {"id": END, "ids": [end], "tokens": [END]}}},
        "model": {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary,
                  "byte_fallback": trainer.byte_fallback.unwrap_or(false)},
    }))
}
