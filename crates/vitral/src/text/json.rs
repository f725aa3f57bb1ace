//! CLIP's tokenizer, for folders that have it as `vocab.json` and `merges.txt`, in the form of `tokenizer.json`.

use std::path::Path;

use serde_json::{Value, json};

use crate::weights::WeightsError;

/// Which runs of characters are words for CLIP: the special tokens, endings after an apostrophe, letters, single digits,
/// other signs.
const WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// The tokenizer of a folder with CLIP's two files.
pub(super) fn clip(folder: &Path) -> Result<Value, WeightsError> {
    let fault = |file: &str, fault: String| WeightsError::Tokenizer { path: folder.join(file), fault };
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read_to_string(&path).map_err(|source| WeightsError::Io { path, source })
    };
    let vocabulary: Value = serde_json::from_str(&read("vocab.json")?)
        .map_err(|error| fault("vocab.json", format!("expected a JSON object of tokens: {error}")))?;
    let number = |token: &str| {
        let found = vocabulary.get(token).and_then(Value::as_u64);
        found.ok_or_else(|| fault("vocab.json", format!("expected CLIP's vocabulary, found none with `{token}`")))
    };
    let (start, end) = (number(START)?, number(END)?);
    let merges = read("merges.txt")?;
    // The first line may say which version it is.
    let merges: Vec<&str> = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty()).collect();
    let special = |content: &str, id: u64| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": true, "special": true})
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": [special(START, start), special(END, end)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
                           "trim_offsets": false, "add_prefix_space": false},
        "model": {"type": "BPE", "unk_token": END, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
                  "fuse_unk": false, "vocab": vocabulary, "merges": merges},
    }))
}
