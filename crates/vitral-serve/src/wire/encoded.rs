//! Images in text: base64, alone or in a data URI (RFC 2397).

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::fault::Fault;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const FOR_URLS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Whether a text is a data URI, or an address: nobody means it as words.
pub(crate) fn is_uri(text: &str) -> bool {
    let text = text.trim_start();
    let begins = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    ["data:", "http://", "https://", "file://"].into_iter().any(begins)
}

/// The bytes of an image in base64 (either alphabet, padded or not, line breaks allowed) or in a data URI.
pub(crate) fn image(text: &str) -> Result<Bytes, Fault> {
    let text = text.trim();
    let is_uri = text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
    let data = match (is_uri, text.split_once(',')) {
        (false, _) => text,
        (true, Some((head, data))) if head.to_ascii_lowercase().ends_with(";base64") => data,
        (true, _) => return Err(Fault::bad("expected a data URI in base64, found one in another form")),
    };
    if ["http://", "https://", "file://"].iter().any(|scheme| data.starts_with(scheme)) {
        return Err(Fault::bad(
            "expected an image in base64 or a data URI, found an address; the server fetches nothing",
        ));
    }
    // Percent-encoding is allowed in a URI; in base64 it can only stand for these.
    let data = if data.contains('%') {
        data.replace("%2B", "+")
            .replace("%2b", "+")
            .replace("%2F", "/")
            .replace("%2f", "/")
            .replace("%3D", "=")
            .replace("%3d", "=")
    } else {
        data.to_owned()
    };
    let data: Vec<u8> = data.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t')).collect();
    let alphabet = if data.iter().any(|byte| matches!(byte, b'-' | b'_')) { &FOR_URLS } else { &PLAIN };
    let decoded = alphabet.decode(&data).map_err(|fault| {
        let start: String = text.chars().take(16).collect();
        Fault::bad(format!("expected an image in base64 or a data URI, found text that begins with `{start}`: {fault}"))
    })?;
    Ok(decoded.into())
}

/// Bytes as padded base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_form_is_read() {
        let bytes = [0xfbu8, 0xef, 0xbe, 0x01];
        for text in [
            "++++AQ==",
            "++++AQ",
            "----AQ",
            " ++++\r\nAQ==\n",
            "data:image/png;base64,++++AQ==",
            "DATA:image/png;charset=x;BASE64,%2B%2b++AQ%3D%3d",
        ] {
            assert_eq!(image(text).expect(text)[..], bytes, "{text}");
        }
        assert!(image("").expect("empty").is_empty());
    }

    #[test]
    fn what_is_not_an_image_in_text_is_refused() {
        for (text, says) in [
            ("https://example.org/cat.jpg", "fetches nothing"),
            ("data:image/png,abc", "data URI"),
            ("a cat", "begins with `a cat`"),
            ("A", "base64"),
        ] {
            let message = image(text).expect_err(text).message().to_owned();
            assert!(message.contains(says), "{message}");
        }
    }
}
