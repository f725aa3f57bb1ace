//! The journal in TensorBoard's format: records of protocol buffers, each with its length and checksums
//! (`tensorflow/core/lib/io/record_writer.h`, `tensorflow/core/util/event.proto`).

use super::entry::Entry;

/// The first event, which names the format.
pub(super) fn header(seconds: f64) -> Vec<u8> {
    let mut event = double(1, seconds);
    event.extend(bytes(3, b"brain.Event:2"));
    record(&event)
}

/// An epoch's values, at a time in seconds since 1970.
pub(super) fn event(entry: &Entry, seconds: f64) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in [
        ("loss/train", Some(entry.train_loss)),
        ("loss/validation_split", entry.validation_loss),
        ("accuracy/train", entry.train_accuracy),
        ("accuracy/validation_split", entry.validation_accuracy),
        ("learning_rate", Some(f64::from(entry.learning_rate))),
        ("gradient_norm", Some(entry.gradient_norm)),
        ("images_per_second", Some(entry.images_per_second)),
    ] {
        let Some(value) = value else { continue };
        let mut scalar = bytes(1, tag.as_bytes());
        scalar.push(2 << 3 | 5);
        scalar.extend((value as f32).to_le_bytes());
        summary.extend(bytes(1, &scalar));
    }
    let mut event = double(1, seconds);
    event.push(2 << 3);
    event.extend(varint(entry.step));
    event.extend(bytes(5, &summary));
    record(&event)
}

/// A record: its length, the length's checksum, the bytes, their checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset so that checksums of checksums do not repeat.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A 64-bit floating point field.
fn double(field: u8, value: f64) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 1];
    bytes.extend(value.to_le_bytes());
    bytes
}

/// A field of bytes, a string, or a message.
fn bytes(field: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2];
    bytes.extend(varint(data.len() as u64));
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_tensorflows_framing() {
        let record = header(0.0);
        assert_eq!(record[..8], 24u64.to_le_bytes());
        assert_eq!(record.len(), 8 + 4 + 24 + 4);
        assert_eq!(record[12..21], [9, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&record[21..36], b"\x1a\x0dbrain.Event:2");
        // CRC-32C of "123456789" is 0xe3069283 by its definition.
        assert_eq!(masked(b"123456789"), 0xe306_9283u32.rotate_right(15).wrapping_add(0xa282_ead8));
        assert_eq!(varint(300), [0xac, 0x02]);
    }
}
