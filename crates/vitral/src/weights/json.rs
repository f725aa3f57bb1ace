//! JSON as other libraries write it.
//!
//! Python's `json` writes NaN and infinities, which JSON does not have, and some editors put a byte order mark first.
//! Both are read here, for every file that comes from another library, so that a value nobody reads never keeps a model
//! from being loaded.

use std::borrow::Cow;

use serde_json::Value;

/// What Python's `json` writes for numbers that JSON does not have, longest first.
const NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// Reads JSON. A number that JSON does not have becomes text, such as `"NaN"`: a key that nobody reads does no harm, and a
/// reader that requires a number names the key and shows the text.
pub(super) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        Err(fault) => match quoted(text) {
            Cow::Owned(quoted) => serde_json::from_slice(&quoted),
            Cow::Borrowed(_) => Err(fault),
        },
    }
}

/// The text with such numbers in quotes; borrowed if there are none.
fn quoted(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::new();
    let (mut at, mut copied, mut inside) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' if inside => at += 1,
            b'"' => inside = !inside,
            _ if inside => {}
            _ => {
                if let Some(number) = NUMBERS.iter().find(|number| text[at..].starts_with(number)) {
                    out.extend_from_slice(&text[copied..at]);
                    out.push(b'"');
                    out.extend_from_slice(number);
                    out.push(b'"');
                    at += number.len();
                    copied = at;
                    continue;
                }
            }
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_python_become_text_and_text_stays() {
        let text = br#"{"a": NaN, "b": [Infinity, -Infinity, -1], "NaN": "\"Infinity, NaN", "c": null}"#;
        let expected = json!({
            "a": "NaN", "b": ["Infinity", "-Infinity", -1], "NaN": "\"Infinity, NaN", "c": null
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse(b"\xEF\xBB\xBF{\"a\": 1}").unwrap(), json!({"a": 1}));
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        for wrong in [&b"{\"a\": NaNs}"[..], b"{\"a\": nan}", b"{", b"", b"\"\\", b"NaN\xff"] {
            assert!(parse(wrong).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
