//! The instruction sets: which this processor has, and the kernels of each.

use super::lanes::Kernel;
use super::tile::Tile;

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(Extra512),
    /// With AVX-VNNI, or without.
    #[cfg(target_arch = "x86_64")]
    Avx2 {
        vnni: bool,
    },
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
    /// As portable, with panels of AVX-512 and the twin of AMX: its kernels without the hardware.
    #[cfg(all(test, target_arch = "x86_64"))]
    Twin,
}

/// What comes with AVX-512.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra512 {
    /// Products of 32-bit floats alone.
    None,
    /// AVX512-VNNI: products of bytes.
    Vnni,
    /// AVX512-BF16, too.
    Bf16,
    /// AMX, too: tiles, with products of bfloat16 and of bytes. Only where it can be used ([`amx`](super::amx)).
    Amx,
}

impl Isa {
    /// All that this processor has, the best first, each with all that comes with it.
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
                let vnni = is_x86_feature_detected!("avx512vnni");
                let bf16 = vnni && is_x86_feature_detected!("avx512bf16");
                found.push(Isa::Avx512(match (vnni, bf16) {
                    (_, true) if super::amx::usable() => Extra512::Amx,
                    (_, true) => Extra512::Bf16,
                    (true, false) => Extra512::Vnni,
                    (false, false) => Extra512::None,
                }));
            }
            if fma && is_x86_feature_detected!("avx2") {
                found.push(Isa::Avx2 { vnni: is_x86_feature_detected!("avxvnni") });
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        found.push(Isa::Portable);
        found
    }

    /// All that a processor with [`Isa::available`] can be kept to, the best first.
    pub(crate) fn caps() -> Vec<Isa> {
        Isa::available().into_iter().flat_map(Isa::lesser).collect()
    }

    /// What the processor has and is not used, and why.
    pub(crate) fn unused() -> Option<String> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fault) = super::amx::fault() {
            return Some(format!("AMX is not used: {fault}"));
        }
        None
    }

    /// The same instruction set, with less and less of what comes with it.
    fn lesser(self) -> Vec<Isa> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(extra) => {
                let all = [Extra512::Amx, Extra512::Bf16, Extra512::Vnni, Extra512::None];
                all.into_iter().skip_while(|other| *other != extra).map(Isa::Avx512).collect()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { vnni: true } => vec![self, Isa::Avx2 { vnni: false }],
            _ => vec![self],
        }
    }

    /// A name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(Extra512::Amx) => "amx",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(Extra512::Bf16) => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(Extra512::Vnni) => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(Extra512::None) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { vnni: true } => "avx2-vnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { vnni: false } => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            Isa::Portable => "portable",
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => "twin",
        }
    }

    /// Runs a kernel compiled for this instruction set.
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx512` is only made where the features were detected.
            Isa::Avx512(_) => unsafe { super::avx512::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::Avx2` is only made where the features were detected.
            Isa::Avx2 { .. } => unsafe { super::avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: every aarch64 processor that Rust's std supports has NEON.
            Isa::Neon => unsafe { super::neon::run(kernel) },
            Isa::Portable => kernel.run(super::portable::Portable::<8>),
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => kernel.run(super::portable::Portable::<16>),
        }
    }

    /// Whether products of bfloat16 are faster here than those of 32-bit floats.
    pub(crate) fn multiplies_bf16(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(extra) => matches!(extra, Extra512::Bf16 | Extra512::Amx),
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => true,
            _ => false,
        }
    }

    /// Whether it multiplies tiles.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn has_tiles(self) -> bool {
        match self {
            Isa::Avx512(Extra512::Amx) => true,
            #[cfg(test)]
            Isa::Twin => true,
            _ => false,
        }
    }

    /// Whether it has vectors for products of bytes.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn multiplies_bytes(self) -> bool {
        match self {
            Isa::Avx512(extra) => extra != Extra512::None,
            Isa::Avx2 { vnni } => vnni,
            _ => false,
        }
    }

    /// Runs a kernel that stores bfloat16, on a processor that multiplies them.
    pub(super) fn run_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.multiplies_bf16(), "{} does not multiply bfloat16", self.name());
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: asserted on the line above; `Isa::Avx512` is only made where the other features were detected.
            Isa::Avx512(_) => unsafe { super::avx512::run_bf16(kernel) },
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => kernel.run(super::portable::Portable::<16>),
            _ => unreachable!("asserted above"),
        }
    }

    /// Most rows of a tile.
    pub(crate) const fn tile_rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => 14,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { .. } => 6,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 12,
            Isa::Portable => 4,
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => 4,
        }
    }

    /// How much of a depth is taken at once: in AVX2 a block of a panel and a tile of `A` stay in an L1 cache of 32 KiB,
    /// since each step needs a line of the panel; the wide tiles of AVX-512 need it less often, and stream it from the L2.
    pub(crate) fn depth_block(self, depth: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { .. } => depth.div_ceil(depth.div_ceil(256).max(1)).max(1),
            _ => 384,
        }
    }

    /// Columns of a panel.
    pub(crate) const fn panel(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => 32,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { .. } => 16,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 8,
            Isa::Portable => 8,
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => 32,
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
            Isa::Avx512(_) => table!(avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 { .. } => table!(avx2: 1 2 3 4 5 6),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => table!(neon: 1 2 3 4 5 6 7 8 9 10 11 12),
            Isa::Portable => super::portable::tile_of::<8>(rows),
            #[cfg(all(test, target_arch = "x86_64"))]
            Isa::Twin => super::portable::tile_of::<32>(rows),
        }
    }
}
