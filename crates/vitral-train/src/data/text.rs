//! Text files as people have them: with a byte order mark, or in UTF-16 as spreadsheets write it.

use std::path::Path;

use super::fault;
use crate::error::TrainError;

/// Reads a text file without its byte order mark.
///
/// # Errors
/// If it cannot be read, or is neither UTF-8 nor UTF-16 with a byte order mark.
pub(super) fn read_text(path: &Path, doing: &'static str) -> Result<String, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::file(path, doing))?;
    let units = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> Option<String> {
        let (pairs, odd) = rest.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        String::from_utf16(&units).ok().filter(|_| odd.is_empty())
    };
    let text = match &bytes[..] {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        [0xFF, 0xFE, rest @ ..] => units(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => units(rest, u16::from_be_bytes),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or_else(|| fault(path, "expected text in UTF-8, found other bytes", "save the file as UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_dropped() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).expect("written");
            read_text(file.path(), "reading").map_err(|error| error.to_string())
        };
        assert_eq!(read(b"\xEF\xBB\xBFa,b").as_deref(), Ok("a,b"));
        assert_eq!(read(b"\xFF\xFEa\0,\0").as_deref(), Ok("a,"));
        assert_eq!(read(b"\xFE\xFF\0a\0,").as_deref(), Ok("a,"));
        assert!(read(b"caf\xE9").is_err_and(|error| error.contains("UTF-8")));
        assert!(read(b"\xFF\xFEa").is_err());
    }
}
