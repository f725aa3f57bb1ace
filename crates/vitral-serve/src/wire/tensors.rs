//! Tensors as bytes: the binary form of the Open Inference Protocol, little-endian.

use bytes::{Buf, Bytes};

use crate::fault::Fault;

/// The most elements of a tensor of `BYTES`: in memory, each takes many times the bytes of an empty one.
const MOST_ELEMENTS: usize = 1 << 16;

/// `FP32`: four bytes a number.
pub(crate) fn floats(bytes: &[u8]) -> Result<Vec<f32>, Fault> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Fault::bad(format!("expected four bytes for each `FP32`, found {} bytes", bytes.len())));
    }
    Ok(numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
}

/// `BYTES`: each element's length in four bytes, then the element.
pub(crate) fn elements(mut bytes: Bytes) -> Result<Vec<Bytes>, Fault> {
    let whole = bytes.len();
    let mut found = Vec::new();
    while bytes.has_remaining() {
        let place = whole - bytes.len();
        if bytes.remaining() < 4 {
            return Err(Fault::bad(format!("expected the length of an element at byte {place}, found the end")));
        }
        let length = bytes.get_u32_le() as usize;
        if bytes.remaining() < length {
            let left = bytes.remaining();
            return Err(Fault::bad(format!("expected {length} bytes of an element at byte {place}, found {left}")));
        }
        if found.len() == MOST_ELEMENTS {
            return Err(Fault::bad(format!("expected at most {MOST_ELEMENTS} elements, found more")));
        }
        found.push(bytes.split_to(length));
    }
    Ok(found)
}

/// Numbers as bytes.
pub(crate) fn from_floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Texts as bytes, each after its length.
pub(crate) fn from_texts(texts: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_come_back() {
        let texts = ["".to_owned(), "cat".to_owned(), "ÿ".repeat(300)];
        let found = elements(from_texts(&texts).into()).expect("well formed");
        assert_eq!(found, texts);
        let numbers = [0.0, -1.5, f32::MAX, f32::MIN_POSITIVE];
        assert_eq!(floats(&from_floats(&numbers)).expect("well formed"), numbers);
    }

    #[test]
    fn bytes_that_end_early_say_where() {
        assert!(floats(&[0; 7]).expect_err("7 bytes").message().contains("found 7 bytes"));
        let message = |bytes: &'static [u8]| elements(Bytes::from_static(bytes)).expect_err("cut").message().to_owned();
        assert!(message(&[1, 0, 0]).contains("at byte 0"));
        assert!(message(&[1, 0, 0, 0, 7, 255, 255, 255, 255, 0]).contains("4294967295 bytes of an element at byte 5"));
    }
}
