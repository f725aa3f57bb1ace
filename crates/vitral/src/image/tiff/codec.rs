//! The compressions: from the bytes of a strip or tile to its rows.

use std::io::Read;

use super::fault::{corrupt, truncated, unsupported};
use super::fax::{self, Fax};
use super::rows::Rows;
use crate::image::ImageError;

/// How strips and tiles are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Fax(Fax),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstandard,
}

/// Windows of more than 128 MiB are refused, as by the `zstd` command.
const MOST_WINDOW_BITS: u32 = 27;

impl Compression {
    /// From the tag's value; `options` are those of Group 3.
    pub(super) fn read(number: u64, options: u64) -> Result<Self, ImageError> {
        let name = match number {
            1 => return Ok(Compression::None),
            2 => return Ok(Compression::Fax(Fax::RowsOfBytes)),
            3 if options & 2 != 0 => return Err(unsupported("fax compression with uncompressed parts")),
            3 => return Ok(Compression::Fax(Fax::Group3 { two_dimensional: options & 1 != 0 })),
            4 => return Ok(Compression::Fax(Fax::Group4)),
            5 => return Ok(Compression::Lzw),
            7 => return Ok(Compression::Jpeg),
            8 | 32946 => return Ok(Compression::Deflate),
            32771 => return Ok(Compression::Fax(Fax::RowsOfWords)),
            32773 => return Ok(Compression::PackBits),
            50000 => return Ok(Compression::Zstandard),
            6 => "old-style JPEG",
            9 | 10 => "JBIG",
            32766 => "NeXT",
            32809 => "ThunderScan",
            32895..=32898 => "IT8",
            33003..=33005 | 34712 => "JPEG 2000",
            34661 => "JBIG",
            34676 | 34677 => "SGI LogLuv",
            34887 => "LERC",
            34892 => "lossy JPEG of a raw photograph",
            34925 => "LZMA",
            48124 => "PixarLog",
            50001 => "WebP",
            50002 | 52546 => "JPEG XL",
            32908 | 32909 | 50013 => "Pixar",
            _ => return Err(unsupported(format!("compression {number}"))),
        };
        Err(unsupported(format!("{name} compression ({number})")))
    }

    /// Whether a predictor may be used with it; otherwise the tag has no meaning.
    pub(super) fn has_predictor(self) -> bool {
        matches!(self, Compression::Lzw | Compression::Deflate | Compression::Zstandard)
    }
}

/// Restores rows; JPEG has its own way.
pub(super) fn rows(compression: Compression, data: &[u8], rows: &Rows) -> Result<Vec<u8>, ImageError> {
    let length = rows.stride * rows.count;
    match compression {
        Compression::None => match data.get(..length) {
            Some(data) => Ok(data.to_vec()),
            None => Err(short(data.len(), length)),
        },
        Compression::Fax(kind) => fax::rows(kind, data, rows),
        Compression::Lzw => lzw(data, length),
        Compression::Deflate => deflate(data, length),
        Compression::PackBits => pack_bits(data, length),
        Compression::Zstandard => zstandard(data, length),
        Compression::Jpeg => unreachable!("decoded to samples, not to rows of bytes"),
    }
}

fn short(found: usize, length: usize) -> ImageError {
    truncated(format!("a strip or tile of {length} bytes ends after {found}"))
}

fn filled(out: Vec<u8>, found: usize) -> Result<Vec<u8>, ImageError> {
    if found == out.len() { Ok(out) } else { Err(short(found, out.len())) }
}

/// The end code may be missing: some writers omit it, and all pixels are there.
fn lzw(data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    // Before TIFF 5.0, codes began at the lowest bit; such data begins with a clear code that tells.
    let mut decoder = match data {
        [0, second, ..] if second & 1 == 1 => weezl::decode::Decoder::new(weezl::BitOrder::Lsb, 8),
        _ => weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8),
    };
    let mut out = vec![0; length];
    let (mut read, mut written) = (0, 0);
    while written < length {
        let result = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status {
            Ok(weezl::LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => break,
            Err(_) if written == length => break,
            Err(error) => return Err(corrupt(format!("LZW: {error}"))),
        }
    }
    filled(out, written)
}

fn deflate(data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    let mut decoder = flate2::Decompress::new(true);
    let mut out = vec![0; length];
    let mut beyond = [0];
    loop {
        let (read, written) = (decoder.total_in() as usize, decoder.total_out() as usize);
        // With all rows there, the checksum that may follow is still read.
        let room = if written < length { &mut out[written..] } else { &mut beyond[..] };
        let status = decoder.decompress(&data[read..], room, flate2::FlushDecompress::None);
        let moved = (decoder.total_in() as usize, decoder.total_out() as usize) != (read, written);
        match status {
            Ok(flate2::Status::Ok) if moved && decoder.total_out() as usize <= length => {}
            Ok(_) => break,
            Err(error) => return Err(corrupt(format!("Deflate: {error}"))),
        }
    }
    let found = (decoder.total_out() as usize).min(length);
    filled(out, found)
}

fn zstandard(data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    let fault = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => truncated(format!("Zstandard: {error}")),
        _ => corrupt(format!("Zstandard: {error}")),
    };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(data).map_err(fault)?;
    decoder.window_log_max(MOST_WINDOW_BITS).map_err(fault)?;
    let mut out = vec![0; length];
    let mut written = 0;
    while written < length {
        match decoder.read(&mut out[written..]).map_err(fault)? {
            0 => break,
            count => written += count,
        }
    }
    filled(out, written)
}

fn pack_bits(mut data: &[u8], length: usize) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let [head, rest @ ..] = data else { break };
        let room = length - out.len();
        data = match *head {
            128 => rest,
            head @ 0..128 => {
                let count = usize::from(head) + 1;
                let literal = &rest[..count.min(rest.len())];
                out.extend_from_slice(&literal[..room.min(literal.len())]);
                &rest[literal.len()..]
            }
            head => {
                let [byte, rest @ ..] = rest else { break };
                let count = 257 - usize::from(head);
                out.extend(std::iter::repeat_n(*byte, count.min(room)));
                rest
            }
        };
    }
    let found = out.len();
    out.resize(length, 0);
    filled(out, found)
}
