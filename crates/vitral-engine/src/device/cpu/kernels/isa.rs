//! The instruction sets: which this processor has, and the kernels of each.

use super::lanes::Kernel;
use super::tile::Tile;

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Isa {
    /// All that this processor has, the best first.
    pub(crate) fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma");
            if fma
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Isa::Avx512);
            }
            if fma && is_x86_feature_detected!("avx2") {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        found.push(Isa::Portable);
        found
    }

    /// A name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        }
    }

    /// Runs a kernel compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is only made where the features were detected.
            Isa::Avx512 => unsafe { super::avx512::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is only made where the features were detected.
            Isa::Avx2 => unsafe { super::avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 processor that Rust's std supports has NEON.
            Isa::Neon => unsafe { super::neon::run(kernel) },
            Isa::Portable => kernel.run(super::portable::Portable),
        }
    }

    /// Whether products of bfloat16 are faster here than those of 32-bit floats.
    pub(crate) fn multiplies_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512bf16"),
            _ => false,
        }
    }

    /// Runs a kernel that stores bfloat16, on a processor that multiplies them.
    pub(super) fn run_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.multiplies_bf16(), "{} does not multiply bfloat16", self.name());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: asserted on the line above; `Isa::Avx512` is only made where the other features were detected.
            Isa::Avx512 => unsafe { super::avx512::run_bf16(kernel) },
            _ => unreachable!("asserted above"),
        }
    }

    /// Most rows of a tile.
    pub(crate) const fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 14,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 6,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 12,
            Isa::Portable => 4,
        }
    }

    /// Columns of a panel.
    pub(crate) const fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 16,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 8,
            Isa::Portable => 8,
        }
    }

    /// The tile kernel for this many rows.
    pub(super) fn tile(self, rows: usize) -> Tile {
        macro_rules! table {
            ($module:ident: $($rows:literal)+) => {{
                const TILES: &[Tile] = &[$(super::$module::tile::<$rows>),+];
                TILES[rows - 1]
            }};
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => table!(avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => table!(avx2: 1 2 3 4 5 6),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => table!(neon: 1 2 3 4 5 6 7 8 9 10 11 12),
            Isa::Portable => table!(portable: 1 2 3 4),
        }
    }
}
