//! From a text to the numbers of its tokens, by the files of the model's own library.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{json, sentencepiece};
use crate::weights::WeightsError;

/// A model's tokenizer.
pub struct Tokenizer {
    file: PathBuf,
    inner: tokenizers::Tokenizer,
    habits: Habits,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).field("habits", &self.habits).finish_non_exhaustive()
    }
}

/// What a library's class does around the tokenizer's file.
#[derive(Clone, Debug, Default)]
struct Habits {
    /// The class, as `tokenizer_config.json` names it.
    class: String,
    /// Whether texts lose their capitals first.
    lowercase: bool,
    /// Whether texts lose their punctuation first.
    without_punctuation: bool,
    /// Whether a text begins with what begins a word.
    begins_words: bool,
    /// Whether short texts are filled up at their beginning.
    pads_left: bool,
    /// The token they are filled up with.
    padding: Option<String>,
}

const SIGLIP: &str = "SiglipTokenizer";

impl Habits {
    /// Those of the classes in transformers 5, as `tokenizer_config.json` names and changes them.
    fn of(folder: &Path) -> Result<Self, WeightsError> {
        let path = folder.join(CONFIG);
        let config = match path.is_file() {
            true => {
                let text = std::fs::read(&path).map_err(|source| WeightsError::Io { path: path.clone(), source })?;
                serde_json::from_slice(&text).map_err(|error| WeightsError::Tokenizer {
                    path: path.clone(),
                    fault: format!("not valid JSON: {error}"),
                })?
            }
            false => Value::Null,
        };
        let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
        let class = match class.strip_suffix("Fast").unwrap_or(class) {
            // A unigram model without more is SigLIP's.
            "" if folder.join(SENTENCE_PIECES).is_file() => SIGLIP,
            class => class,
        };
        let truth = |key: &str| config.get(key).and_then(Value::as_bool);
        let padding = config.get("pad_token");
        let padding = padding.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
        let usual = if class == SIGLIP { "</s>" } else { "<pad>" };
        let side = config.get("padding_side").and_then(Value::as_str);
        Ok(Habits {
            lowercase: match class {
                SIGLIP => truth("do_lower_case").unwrap_or(true),
                class => class == "Siglip2Tokenizer",
            },
            without_punctuation: class == SIGLIP,
            begins_words: class == SIGLIP,
            pads_left: side.map_or(matches!(class, "Siglip2Tokenizer" | "GemmaTokenizer"), |side| side == "left"),
            padding: Some(padding.unwrap_or(usual).to_owned()),
            class: class.to_owned(),
        })
    }

    /// A text as the tokenizer's file expects it.
    fn applied(&self, text: &str) -> String {
        let text = if self.lowercase { text.to_lowercase() } else { text.to_owned() };
        if !self.without_punctuation {
            return text;
        }
        let kept: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
        kept.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What ends a text for SigLIP.
const END: &str = "</s>";

/// SentencePiece's sign for the beginning of a word.
const WORD: &str = "▁";

const SENTENCE_PIECES: &str = "spiece.model";

/// The files that a tokenizer is read from, in the order in which they are looked for.
const FILES: [&str; 3] = ["tokenizer.json", "vocab.json", SENTENCE_PIECES];

/// Whether the files say how texts are prepared: SigLIP and SigLIP 2 have other habits, and may have the same files.
pub(super) fn says_how(folder: &Path) -> bool {
    [CONFIG, SENTENCE_PIECES].iter().any(|name| folder.join(name).is_file())
}

/// The file that names the library's class.
const CONFIG: &str = "tokenizer_config.json";

impl Tokenizer {
    /// The tokenizer of a model's folder: `tokenizer.json`, CLIP's `vocab.json` and `merges.txt`, or SigLIP's `spiece.model`;
    /// what else is done to a text is in `tokenizer_config.json`.
    ///
    /// # Errors
    /// If there is none of these files, or one cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self, WeightsError> {
        let habits = Habits::of(folder)?;
        let has = |name: &&str| folder.join(name).is_file();
        // The library reads SigLIP's own file only.
        let own = Some(SENTENCE_PIECES).filter(|name| habits.class == SIGLIP && has(name));
        let Some(name) = own.or_else(|| FILES.into_iter().find(has)) else {
            let fault = format!("no tokenizer for texts; expected one of `{}` in this folder", FILES.join("`, `"));
            return Err(WeightsError::Tokenizer { path: folder.to_owned(), fault });
        };
        let file = folder.join(name);
        let bytes = match name {
            "vocab.json" => json::clip(folder)?.to_string().into_bytes(),
            SENTENCE_PIECES => sentencepiece::unigram(&file, habits.begins_words)?.to_string().into_bytes(),
            _ => std::fs::read(&file).map_err(|source| WeightsError::Io { path: file.clone(), source })?,
        };
        let fault = |error: tokenizers::Error| WeightsError::Tokenizer {
            path: file.clone(),
            fault: format!("not a tokenizer that can be read: {error}"),
        };
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(fault)?;
        // Texts are neither cut nor filled up here: a text that is too long is an error, and the model knows its length.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(fault)?;
        Ok(Tokenizer { file, inner, habits })
    }

    /// The tokens of a text, with those that begin and end it.
    ///
    /// # Errors
    /// If the text cannot be cut into tokens of this vocabulary.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, WeightsError> {
        if self.habits.begins_words {
            return self.tokens_of_siglip(text);
        }
        self.encoded(&self.habits.applied(text), true)
    }

    fn encoded(&self, text: &str, ended: bool) -> Result<Vec<u32>, WeightsError> {
        let encoded = self.inner.encode(text, ended).map_err(|error| {
            let fault = format!("cannot cut `{text}` into tokens: {error}");
            WeightsError::Tokenizer { path: self.file.clone(), fault }
        })?;
        Ok(encoded.get_ids().to_vec())
    }

    /// The library looks for special tokens first, before it removes punctuation from what is between them, and begins the
    /// text with what begins a word.
    fn tokens_of_siglip(&self, text: &str) -> Result<Vec<u32>, WeightsError> {
        let special = self.inner.get_added_tokens_decoder();
        let special: Vec<(u32, &str)> = special.iter().map(|(&id, token)| (id, token.content.as_str())).collect();
        let whole = format!("{WORD}{}", text.replace(WORD, " "));
        let (mut at, mut tokens) = (0, Vec::new());
        // Where each is next: looked for again only when passed, so that a text is read once for each.
        let mut next: Vec<Option<usize>> = special.iter().map(|(_, token)| whole.find(token)).collect();
        loop {
            for ((_, token), next) in special.iter().zip(&mut next) {
                if next.is_some_and(|place| place < at) {
                    *next = whole[at..].find(token).map(|place| at + place);
                }
            }
            let places = special.iter().zip(&next);
            let found = places.filter_map(|(&(id, token), next)| Some(((*next)?, token.len(), id))).min();
            let (before, after) = match found {
                Some((place, length, _)) => (&whole[at..place], place + length),
                None => (&whole[at..], whole.len()),
            };
            let plain = self.habits.applied(before);
            // Nothing but the beginning of a word before a special token is left out.
            if !(plain.is_empty() || plain == WORD && tokens.is_empty() && found.is_some()) {
                tokens.extend(self.encoded(&plain, false)?);
            }
            let Some((.., id)) = found else { break };
            tokens.push(id);
            at = after;
        }
        let end = self.inner.token_to_id(END);
        if tokens.last().copied() != end {
            tokens.extend(end);
        }
        Ok(tokens)
    }

    /// Fills tokens up to a length, at the end or the beginning as the model's library does; with `otherwise` if the
    /// vocabulary has no token for that.
    pub(super) fn filled(&self, mut tokens: Vec<u32>, length: usize, otherwise: u32) -> Vec<u32> {
        let padding =
            self.habits.padding.as_deref().and_then(|token| self.inner.token_to_id(token)).unwrap_or(otherwise);
        let missing = length.saturating_sub(tokens.len());
        match self.habits.pads_left {
            true => tokens.splice(..0, std::iter::repeat_n(padding, missing)).for_each(drop),
            false => tokens.resize(tokens.len() + missing, padding),
        }
        tokens
    }
}
