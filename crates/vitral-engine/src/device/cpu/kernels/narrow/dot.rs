//! Which instructions multiply words.

use super::super::isa::Isa;
use super::super::tile::{ATile, Prefetch};
#[cfg(target_arch = "x86_64")]
use super::tiles::ThreadTiles;
use super::words::Words;

/// A kernel: words of the depth, a tile of `A`, a panel of `B`, where the sums go and the distance of their rows,
/// what to prefetch.
pub(super) type WordTile = unsafe fn(usize, ATile, *const f32, *mut f32, usize, Prefetch);

/// How words are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// AMX, whole tiles at a time: not by a kernel for a tile of rows.
    #[cfg(target_arch = "x86_64")]
    Bf16Amx,
    /// As [`Dot::Bf16Amx`].
    #[cfg(target_arch = "x86_64")]
    Int8Amx,
    /// AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Bf16Avx512,
    /// AVX512-VNNI.
    #[cfg(target_arch = "x86_64")]
    Int8Avx512,
    /// AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Int8Avx2,
    /// AVX2 alone: bytes as 16-bit integers. (Adding pairs of products of bytes in 16 bits, as AVX2 does it, would saturate.)
    #[cfg(target_arch = "x86_64")]
    Int8Pairs,
    /// Bytes as 32-bit floats, whose products are exact as far as a block of the depth goes: for all other processors, at the
    /// speed of 32-bit floats.
    Int8Float,
}

impl Dot {
    /// All that the instruction set has for words, the best first.
    pub(super) fn available(isa: Isa, words: Words) -> Vec<Dot> {
        match words {
            Words::Bf16 => {
                #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "nothing is found"))]
                let mut found = vec![];
                #[cfg(target_arch = "x86_64")]
                {
                    if isa.has_tiles() {
                        found.push(Dot::Bf16Amx);
                    }
                    if matches!(isa, Isa::Avx512(_)) && isa.multiplies_bf16() {
                        found.push(Dot::Bf16Avx512);
                    }
                }
                found
            }
            Words::Int8 => {
                let mut found = vec![];
                #[cfg(target_arch = "x86_64")]
                if isa.has_tiles() {
                    found.push(Dot::Int8Amx);
                }
                #[cfg(target_arch = "x86_64")]
                match isa {
                    Isa::Avx512(_) if isa.multiplies_bytes() => found.push(Dot::Int8Avx512),
                    Isa::Avx2 { .. } if isa.multiplies_bytes() => found.push(Dot::Int8Avx2),
                    _ => {}
                }
                #[cfg(target_arch = "x86_64")]
                if matches!(isa, Isa::Avx2 { .. }) {
                    found.push(Dot::Int8Pairs);
                }
                found.push(Dot::Int8Float);
                found
            }
        }
    }

    /// The best for words.
    pub(super) fn of(isa: Isa, words: Words) -> Dot {
        let found = Dot::available(isa, words);
        *found.first().unwrap_or_else(|| panic!("{} does not multiply {words:?}", isa.name()))
    }

    /// Does as many of its operations as `steps` turns of several chains, and nothing else; `None` where it has no instruction
    /// of its own.
    pub(super) fn chains(self, isa: Isa, steps: usize) -> Option<f64> {
        // SAFETY: a way to multiply is only offered where its instructions were detected.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match self {
                Dot::Bf16Amx => ThreadTiles::configured(isa).map(|mut tiles| tiles.chains(Words::Bf16, steps)),
                Dot::Int8Amx => ThreadTiles::configured(isa).map(|mut tiles| tiles.chains(Words::Int8, steps)),
                Dot::Bf16Avx512 => Some(super::x86::bf16_avx512_chains(steps)),
                Dot::Int8Avx512 => Some(super::x86::int8_avx512_chains(steps)),
                Dot::Int8Avx2 => Some(super::x86::int8_avx2_chains(steps)),
                Dot::Int8Pairs | Dot::Int8Float => None,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (isa, steps);
            None
        }
    }

    /// The tile kernel for this many rows; `None` where bytes are multiplied as floats, and for AMX.
    pub(super) fn tile(self, rows: usize) -> Option<WordTile> {
        #[cfg(target_arch = "x86_64")]
        macro_rules! table {
            ($kernel:ident: $($rows:literal)+) => {{
                const TILES: &[WordTile] = &[$(super::x86::$kernel::<$rows>),+];
                Some(TILES[rows - 1])
            }};
        }
        let _ = rows;
        match self {
            #[cfg(target_arch = "x86_64")]
            Dot::Bf16Avx512 => table!(bf16_avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Dot::Int8Avx512 => table!(int8_avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Dot::Int8Avx2 => table!(int8_avx2: 1 2 3 4 5 6),
            #[cfg(target_arch = "x86_64")]
            Dot::Int8Pairs => table!(int8_avx2_pairs: 1 2 3 4 5 6),
            #[cfg(target_arch = "x86_64")]
            Dot::Bf16Amx | Dot::Int8Amx => None,
            Dot::Int8Float => None,
        }
    }
}
