//! The codes of ITU-T T.4 and T.6.

use std::sync::LazyLock;

/// The color of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    White,
    Black,
}

impl Color {
    pub(super) fn other(self) -> Self {
        match self {
            Color::White => Color::Black,
            Color::Black => Color::White,
        }
    }
}

/// How the next change relates to the row above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The next two changes above have no counterpart.
    Pass,
    /// Two runs follow.
    Horizontal,
    /// The change is that many columns to the right of the one above.
    Vertical(isize),
}

/// The longest code of a run.
pub(super) const LONGEST: u32 = 13;

/// Codes of the runs from 0 to 63, then of 64, 128 … 1728.
const WHITE: &str = "00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101 \
    101010 101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100 0011000 00000010 \
    00000011 00011010 00011011 00010010 00010011 00010100 00010101 00010110 00010111 00101000 00101001 00101010 \
    00101011 00101100 00101101 00000100 00000101 00001010 00001011 01010010 01010011 01010100 01010101 00100100 \
    00100101 01011000 01011001 01011010 01011011 01001010 01001011 00110010 00110011 00110100 \
    11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101 011010010 \
    011010011 011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011 010011000 010011001 \
    010011010 011000 010011011";
const BLACK: &str = "0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111 \
    000011000 0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111 00000101000 00000010111 \
    00000011000 000011001010 000011001011 000011001100 000011001101 000001101000 000001101001 000001101010 \
    000001101011 000011010010 000011010011 000011010100 000011010101 000011010110 000011010111 000001101100 \
    000001101101 000011011010 000011011011 000001010100 000001010101 000001010110 000001010111 000001100100 \
    000001100101 000001010010 000001010011 000000100100 000000110111 000000111000 000000100111 000000101000 \
    000001011000 000001011001 000000101011 000000101100 000001011010 000001100110 000001100111 \
    0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101 0000001101100 \
    0000001101101 0000001001010 0000001001011 0000001001100 0000001001101 0000001110010 0000001110011 0000001110100 \
    0000001110101 0000001110110 0000001110111 0000001010010 0000001010011 0000001010100 0000001010101 0000001011010 \
    0000001011011 0000001100100 0000001100101";
/// Codes of the runs 1792, 1856 … 2560 of both colors.
const LONG: &str = "00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110 \
    000000010111 000000011100 000000011101 000000011110 000000011111";

/// A code's length and its run, by the next bits; a length of 0 if they are no code.
type Table = Vec<(u8, u16)>;

static WHITE_TABLE: LazyLock<Table> = LazyLock::new(|| table(WHITE));
static BLACK_TABLE: LazyLock<Table> = LazyLock::new(|| table(BLACK));

fn table(codes: &str) -> Table {
    let mut table = vec![(0, 0); 1 << LONGEST];
    for (index, code) in codes.split_whitespace().chain(LONG.split_whitespace()).enumerate() {
        let run = if index < 64 { index } else { (index - 63) * 64 };
        let free = LONGEST as usize - code.len();
        let first = code.bytes().fold(0, |all, bit| all << 1 | usize::from(bit == b'1')) << free;
        table[first..first + (1 << free)].fill((code.len() as u8, run as u16));
    }
    table
}

/// The length of a code and its run.
pub(super) fn run(color: Color, bits: u32) -> Option<(usize, usize)> {
    let table = match color {
        Color::White => &WHITE_TABLE,
        Color::Black => &BLACK_TABLE,
    };
    let (length, run) = table[bits as usize];
    (length > 0).then_some((usize::from(length), usize::from(run)))
}

/// The length of a code and its mode, by the next seven bits.
pub(super) fn mode(bits: u32) -> Option<(usize, Mode)> {
    Some(match bits {
        0b100_0000.. => (1, Mode::Vertical(0)),
        0b011_0000.. => (3, Mode::Vertical(1)),
        0b010_0000.. => (3, Mode::Vertical(-1)),
        0b001_0000.. => (3, Mode::Horizontal),
        0b000_1000.. => (4, Mode::Pass),
        0b000_0110.. => (6, Mode::Vertical(2)),
        0b000_0100.. => (6, Mode::Vertical(-2)),
        0b000_0011 => (7, Mode::Vertical(3)),
        0b000_0010 => (7, Mode::Vertical(-3)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_begins_with_another() {
        for codes in [WHITE, BLACK] {
            let all: Vec<&str> = codes.split_whitespace().chain(LONG.split_whitespace()).collect();
            assert_eq!(all.len(), 64 + 27 + 13);
            for (index, code) in all.iter().enumerate() {
                assert!(
                    all.iter().enumerate().all(|(other, begin)| other == index || !code.starts_with(begin)),
                    "{code}"
                );
            }
        }
    }
}
