//! From samples of more than 8 bits to bytes.

use std::fmt;
use std::str::FromStr;

/// Samples that stay below this value are as good as black in 16 bits.
const DARK: u16 = 1 << 12;

/// The range of samples that becomes black to white, for images with more than 8 bits per sample.
///
/// X-ray and depth cameras write 10, 12 or 14 bits into files of 16 bits. Such a file does not say so, and read in full
/// range it is nearly black.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SampleRange {
    /// What the file declares: 65,535 is white in a file of 16 bits.
    #[default]
    Full,
    /// That many of the lowest bits, 8 to 16: with 12, 4,095 and all above is white.
    Bits(u8),
    /// As many bits as the largest sample of each file needs. Images of one series may get different ranges.
    Auto,
}

impl SampleRange {
    /// Number of bits, given those that the file declares and the largest sample.
    fn bits(self, declared: u32, largest: u16) -> u32 {
        match self {
            SampleRange::Full => declared,
            SampleRange::Bits(bits) => u32::from(bits).clamp(8, declared),
            SampleRange::Auto => (u16::BITS - largest.leading_zeros()).clamp(8, declared),
        }
    }

    /// The same for numbers: the largest value of the range, given that of the type and the largest sample.
    pub(super) fn largest(self, full: f32, largest: f32) -> f32 {
        let declared = (full as u32 + 1).ilog2().clamp(8, 16);
        ((1u32 << self.bits(declared, largest as u16)) - 1) as f32
    }
}

impl fmt::Display for SampleRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleRange::Full => f.write_str("full"),
            SampleRange::Bits(bits) => write!(f, "{bits}"),
            SampleRange::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for SampleRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("full", _) => Ok(SampleRange::Full),
            ("auto", _) => Ok(SampleRange::Auto),
            (_, Ok(bits @ 8..=16)) => Ok(SampleRange::Bits(bits)),
            _ => Err("expected `full`, `auto` or a number of bits from 8 to 16".into()),
        }
    }
}

/// Something that a user should know about an image that was decoded without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// All samples of a 16-bit image fit into this many bits. [`SampleRange::Bits`] makes it visible.
    Dark {
        /// 8, 10 or 12.
        bits: u8,
    },
    /// The file has more pages of the same kind, and a model of so many bands takes the first alone.
    FirstPage,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Dark { bits } => {
                write!(f, "16-bit samples stay below {}, so the image is nearly black", 1u32 << bits)
            }
            Note::FirstPage => f.write_str("the file has several pages, of which the first is used"),
        }
    }
}

/// Reduces samples of `declared` bits, 9 to 16, to bytes: the highest 8 bits of the range.
pub(super) fn reduce(samples: &[u16], declared: u32, range: SampleRange) -> (Vec<u8>, Option<Note>) {
    let largest = samples.iter().copied().max().unwrap_or(0);
    let bits = range.bits(declared, largest);
    let most = (1u32 << bits) - 1;
    let bytes = samples.iter().map(|&sample| (u32::from(sample).min(most) >> (bits - 8)) as u8).collect();
    let dark = range == SampleRange::Full && declared == 16 && (1..DARK).contains(&largest);
    let note = dark.then(|| {
        let bits = [8, 10, 12].into_iter().find(|&bits| largest >> bits == 0).unwrap_or(12);
        Note::Dark { bits }
    });
    (bytes, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_becomes_black_to_white() {
        let samples = [0, 255, 2048, 4095];
        assert_eq!(reduce(&samples, 16, SampleRange::Full), (vec![0, 0, 8, 15], Some(Note::Dark { bits: 12 })));
        assert_eq!(reduce(&samples, 16, SampleRange::Bits(12)), (vec![0, 15, 128, 255], None));
        assert_eq!(reduce(&samples, 16, SampleRange::Bits(8)), (vec![0, 255, 255, 255], None));
        assert_eq!(reduce(&samples, 16, SampleRange::Auto), (vec![0, 15, 128, 255], None));
        assert_eq!(reduce(&samples, 12, SampleRange::Full), (vec![0, 15, 128, 255], None));
        assert_eq!(reduce(&[0, 3], 16, SampleRange::Auto), (vec![0, 3], None));
        assert_eq!(reduce(&[0, 0], 16, SampleRange::Full).1, None, "a black image is meant to be black");
        assert_eq!(reduce(&[0, 700], 16, SampleRange::Full).1, Some(Note::Dark { bits: 10 }));
    }

    #[test]
    fn ranges_are_read_from_text() {
        assert_eq!("12".parse(), Ok(SampleRange::Bits(12)));
        assert_eq!("auto".parse(), Ok(SampleRange::Auto));
        assert!("7".parse::<SampleRange>().is_err() && "wide".parse::<SampleRange>().is_err());
    }
}
