//! Huffman codes: how they are defined and looked up.

use super::super::ImageError;
use super::entropy::Bits;
use super::fault::corrupt;

/// Codes up to this length are looked up directly; short codes are looked up together with the value that follows them.
const LOOKAHEAD: u32 = 10;

/// The longest code.
const LONGEST: usize = 16;

/// A table as defined in a file.
#[derive(Clone)]
pub(super) struct Codes {
    counts: [u8; LONGEST],
    symbols: [u8; 256],
}

/// The meaning of a table's symbols.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// How many bits of a difference follow.
    Dc,
    /// A run of zeros, and how many bits of the coefficient after it follow.
    Ac,
    /// The same, but bits of other coefficients come before that one, so that codes cannot be combined with it.
    Refinement,
}

impl Codes {
    /// `counts` codes of each length from 1 on, and their symbols.
    pub(super) fn new(counts: [u8; LONGEST], meanings: &[u8]) -> Result<Self, ImageError> {
        let mut symbols = [0; 256];
        let room = symbols.get_mut(..meanings.len());
        room.ok_or_else(|| corrupt(format!("{} Huffman codes in a table", meanings.len())))?.copy_from_slice(meanings);
        Ok(Codes { counts, symbols })
    }
}

/// The meaning of the next bits.
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

impl Entry {
    /// A code with its coefficient, which is not zero, after a run of zeros.
    fn whole(value: i32, run: u32, length: u32) -> Self {
        Entry(((value as u32) << 16) | (run << 8) | length)
    }

    /// A code without a coefficient.
    fn alone(symbol: u8, length: u32) -> Self {
        Entry((u32::from(symbol) << 8) | length)
    }

    /// The coefficient, or 0 for a code without one.
    #[inline(always)]
    pub(super) fn value(self) -> i32 {
        self.0 as i32 >> 16
    }

    /// The run before a coefficient, or the symbol of a code without one.
    #[inline(always)]
    pub(super) fn symbol(self) -> u32 {
        (self.0 >> 8) & 0xFF
    }

    /// Number of bits; 0 for a code longer than the lookahead.
    #[inline(always)]
    pub(super) fn length(self) -> u32 {
        self.0 & 0xFF
    }
}

/// A table prepared for decoding.
pub(super) struct Decoder {
    entries: [Entry; 1 << LOOKAHEAD],
    /// The largest code of each length, −1 if there is none; the last entry ends every search.
    largest: [i32; LONGEST + 2],
    /// The offset from a code of each length to its symbol's index.
    offset: [i32; LONGEST + 2],
    symbols: [u8; 256],
}

impl Decoder {
    pub(super) fn new(codes: &Codes, kind: Kind) -> Result<Self, ImageError> {
        let mut decoder = Decoder {
            entries: [Entry(0); 1 << LOOKAHEAD],
            largest: [-1; LONGEST + 2],
            offset: [0; LONGEST + 2],
            symbols: codes.symbols,
        };
        decoder.largest[LONGEST + 1] = i32::MAX;
        let (mut code, mut index) = (0usize, 0usize);
        for length in 1..=LONGEST {
            let count = usize::from(codes.counts[length - 1]);
            if count > 0 {
                decoder.offset[length] = index as i32 - code as i32;
                if code + count > 1 << length {
                    return Err(corrupt("a Huffman table with more codes than their lengths allow"));
                }
                for symbol in &codes.symbols[index..index + count] {
                    if kind == Kind::Dc && *symbol > 15 {
                        return Err(corrupt(format!("a difference of {symbol} bits")));
                    }
                    decoder.enter(code, length as u32, *symbol, kind);
                    code += 1;
                }
                index += count;
                decoder.largest[length] = code as i32 - 1;
            }
            code <<= 1;
        }
        Ok(decoder)
    }

    /// Fills in every entry that begins with a code.
    fn enter(&mut self, code: usize, length: u32, symbol: u8, kind: Kind) {
        if length > LOOKAHEAD {
            return;
        }
        let free = LOOKAHEAD - length;
        let entries = &mut self.entries[code << free..(code + 1) << free];
        let size = u32::from(symbol & 15);
        if kind != Kind::Ac || size == 0 || size > free {
            entries.fill(Entry::alone(symbol, length));
            return;
        }
        let rest = free - size;
        for (bits, same) in entries.chunks_exact_mut(1 << rest).enumerate() {
            same.fill(Entry::whole(extended(bits as u32, size), u32::from(symbol >> 4), length + size));
        }
    }

    /// Looks up the next bits. At least [`LOOKAHEAD`] must be held.
    #[inline(always)]
    pub(super) fn look(&self, bits: &Bits) -> Entry {
        self.entries[bits.peek(LOOKAHEAD) as usize]
    }

    /// The symbol of the next code of any length. 17 bits must be held.
    #[inline(always)]
    pub(super) fn symbol(&self, bits: &mut Bits) -> u32 {
        let entry = self.look(bits);
        debug_assert_eq!(entry.value(), 0, "a table of codes without coefficients");
        self.finish(entry, bits)
    }

    /// The symbol of a code without a coefficient that was looked up.
    #[inline(always)]
    pub(super) fn finish(&self, entry: Entry, bits: &mut Bits) -> u32 {
        if entry.length() != 0 {
            bits.skip(entry.length());
            return entry.symbol();
        }
        let (symbol, length) = self.long_symbol(*bits);
        bits.skip(length);
        symbol
    }

    /// The symbol and the length of a code that is longer than the lookahead. Invalid codes take 17 bits and mean 0, as
    /// in libjpeg.
    #[cold]
    #[inline(never)]
    fn long_symbol(&self, bits: Bits) -> (u32, u32) {
        let mut length = LOOKAHEAD as usize + 1;
        while bits.peek(length as u32) as i32 > self.largest[length] {
            length += 1;
        }
        if length > LONGEST {
            return (0, length as u32);
        }
        let place = bits.peek(length as u32) as i32 + self.offset[length];
        (u32::from(self.symbols[place as usize & 0xFF]), length as u32)
    }
}

/// The number coded by `size` bits: those that begin with 0 are negative.
#[inline(always)]
pub(super) fn extended(bits: u32, size: u32) -> i32 {
    let value = bits as i32;
    let negative = (value - ((1 << size) >> 1)) >> 31;
    value + (negative & (1 - (1 << size)))
}
