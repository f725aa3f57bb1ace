//! Whether this process can use AMX: whether the processor has it, the system permits it, and it computes what it should.

use std::arch::x86_64::{__cpuid, __cpuid_count, __get_cpuid_max, _xgetbv};
use std::sync::OnceLock;

use super::super::tile::Prefetch;
use super::block::Block;
use super::hardware::Amx;
use super::unit::{Holds, ROWS, Unit, WORDS};

/// Whether products by AMX are possible and right, found out once.
pub(in super::super) fn usable() -> bool {
    support() == &Ok(true)
}

/// Why AMX is not used though the processor has it.
pub(in super::super) fn fault() -> Option<&'static str> {
    support().as_ref().err().map(String::as_str)
}

/// Whether there is AMX that can be used; an error where it is there and cannot.
fn support() -> &'static Result<bool, String> {
    static SUPPORT: OnceLock<Result<bool, String>> = OnceLock::new();
    SUPPORT.get_or_init(|| {
        if !present() {
            return Ok(false);
        }
        permit()?;
        // SAFETY: the processor has AMX, and the system has just permitted it; nothing else holds tiles here.
        try_products(&mut unsafe { Amx::configured() })?;
        Ok(true)
    })
}

/// Whether the processor has tiles and both products, and the system saves tiles.
fn present() -> bool {
    /// Of leaf 7: products of bfloat16, tiles, products of bytes.
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// Of leaf 1: the system uses `xsave`.
    const OSXSAVE: u32 = 1 << 27;
    /// Of what the system saves: configurations of tiles, tiles.
    const STATES: u64 = 1 << 17 | 1 << 18;

    #[target_feature(enable = "xsave")]
    unsafe fn saved() -> u64 {
        // SAFETY: `xgetbv` is there with `xsave`, once the system uses it.
        unsafe { _xgetbv(0) }
    }

    // SAFETY: every x86-64 processor has `cpuid`, and only leaves that it has are asked for; `xgetbv` comes after the check
    // for it.
    #[allow(unused_unsafe, reason = "`cpuid` is safe from some version of Rust on")]
    unsafe {
        __get_cpuid_max(0).0 >= 7
            && __cpuid(1).ecx & OSXSAVE != 0
            && __cpuid_count(7, 0).edx & FEATURES == FEATURES
            && saved() & STATES == STATES
    }
}

/// Asks the system to save this process's tiles, without which their first use would end it.
#[cfg(target_os = "linux")]
fn permit() -> Result<(), String> {
    /// Of `arch_prctl`, since Linux 5.16 (Documentation/arch/x86/xstate.rst).
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: it takes two numbers and changes what this process may use.
    let answer = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    match answer {
        0 => Ok(()),
        _ => Err(format!("the system does not permit it ({})", std::io::Error::last_os_error())),
    }
}

#[cfg(not(target_os = "linux"))]
fn permit() -> Result<(), String> {
    Err("the system's way to permit it is known for Linux only".to_owned())
}

/// Compares products of a unit with plain sums: both kinds, all shapes of a block, with a rest, in two parts of the depth.
/// Values are such that every order of the sums gives the same number.
pub(super) fn try_products(unit: &mut impl Unit) -> Result<(), String> {
    const STEPS: usize = 2 * WORDS + 5;
    const STRIDE: usize = 3 * WORDS;
    const SIDE: usize = 2 * ROWS;
    for holds in [Holds::Bf16, Holds::Bytes] {
        let mut state = 1u32;
        let mut word = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from_bits(match holds {
                Holds::Bytes => state ^ state >> 16,
                // ±1 to ±2: sums of so few products, each with 14 bits after the point, fit into 24 bits.
                Holds::Bf16 => (state ^ state >> 16) & 0x807f_807f | 0x3f80_3f80,
            })
        };
        let (mut a, mut b) = (vec![0.0f32; SIDE * STRIDE], vec![0.0f32; STRIDE * SIDE]);
        a.chunks_exact_mut(STRIDE).for_each(|row| row[..STEPS].fill_with(&mut word));
        b[..STEPS * SIDE].fill_with(&mut word);
        for (rows, columns) in [(SIDE, SIDE), (ROWS, SIDE), (SIDE, WORDS), (ROWS, WORDS)] {
            let mut sums = vec![f32::from_bits(0x7f7f_7f7f); SIDE * SIDE];
            for depth in [0..1, 1..3] {
                let block = Block {
                    a: [a.as_ptr(), a[ROWS * STRIDE..].as_ptr()],
                    row_stride: STRIDE,
                    pair_stride: SIDE,
                    b: b.as_ptr(),
                    whole: STEPS / WORDS,
                    rest: b[STEPS / WORDS * WORDS * SIDE..].as_ptr(),
                    continues: depth.start > 0,
                    depth,
                    sums: (sums.as_mut_ptr(), SIDE),
                    prefetch: Prefetch { from: std::ptr::null(), rows: 0 },
                };
                // SAFETY: there are two tiles of rows, three of the depth in each row and in the panel, and as many sums.
                unsafe { block.run(unit, holds, rows, columns) };
            }
            for (at, sum) in sums.iter().enumerate() {
                let (row, column) = (at / SIDE, at % SIDE);
                if row >= rows || column >= columns {
                    continue;
                }
                let words = (0..STEPS).map(|k| (a[row * STRIDE + k].to_bits(), b[k * SIDE + column].to_bits()));
                let expected: f64 = words.map(|(a, b)| plain(holds, a, b)).sum();
                let found = match holds {
                    Holds::Bf16 => f64::from(*sum),
                    Holds::Bytes => f64::from(sum.to_bits() as i32),
                };
                if found != expected {
                    let of = if holds == Holds::Bf16 { "bfloat16" } else { "bytes" };
                    return Err(format!("a product of {of} is {found} where {expected} is right"));
                }
            }
        }
    }
    Ok(())
}

/// The sum of products of what two words hold.
fn plain(holds: Holds, a: u32, b: u32) -> f64 {
    match holds {
        Holds::Bf16 => {
            let halves = |word: u32| [word << 16, word & 0xffff_0000].map(|bits| f64::from(f32::from_bits(bits)));
            halves(a).into_iter().zip(halves(b)).map(|(a, b)| a * b).sum()
        }
        Holds::Bytes => {
            let pairs = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
            pairs.map(|(a, b)| f64::from(a) * f64::from(b as i8)).sum()
        }
    }
}
