//! The instructions' bytes, the twin against the manual, blocks against plain sums.

use super::super::tile::Prefetch;
use super::block::Block;
use super::detect::{self, try_products};
use super::hardware::Amx;
use super::twin::Twin;
use super::unit::{Extents, Holds, ROWS, Unit, WORDS};

/// One instruction in a function by itself.
mod alone {
    use super::{Amx, Unit};

    #[inline(never)]
    pub(super) unsafe fn configure() -> Amx {
        // SAFETY: not called.
        unsafe { Amx::configured() }
    }

    #[inline(never)]
    pub(super) fn release(unit: Amx) {
        drop(unit);
    }

    #[inline(never)]
    pub(super) fn zero(unit: &mut Amx) {
        unit.zero::<3>();
    }

    #[inline(never)]
    pub(super) unsafe fn load(unit: &mut Amx, from: *const f32, stride: usize) {
        // SAFETY: not called.
        unsafe { unit.load::<2>(from, stride) };
    }

    #[inline(never)]
    pub(super) unsafe fn store(unit: &mut Amx, to: *mut f32, stride: usize) {
        // SAFETY: not called.
        unsafe { unit.store::<5>(to, stride) };
    }

    #[inline(never)]
    pub(super) fn multiply_bf16(unit: &mut Amx) {
        unit.multiply_bf16::<1, 2, 4>();
    }

    #[inline(never)]
    pub(super) fn multiply_bytes(unit: &mut Amx) {
        unit.multiply_bytes::<6, 5, 3>();
    }
}

/// An operand in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Any,
    /// With a register for the distance of rows.
    Index,
}

/// What is expected of an instruction: `C4`, a byte that selects the map `0F38`, then these.
struct Expected {
    name: &'static str,
    function: *const (),
    third: u8,
    opcode: u8,
    /// The lower six bits of the byte that names operands; the middle three of them, where one is in memory.
    operands: u8,
    memory: Option<Memory>,
}

impl Expected {
    /// Whether code begins with one of the instructions for tiles.
    fn is_any(code: &[u8]) -> bool {
        code[0] == 0xc4 && code[1] & 0x1f == 0x02 && code[2] & 0x84 == 0 && [0x49, 0x4b, 0x5c, 0x5e].contains(&code[3])
    }

    fn matches(&self, code: &[u8]) -> bool {
        // The second byte has the upper bits of registers, inverted, and the map in its lowest five.
        let second = if self.memory.is_some() { code[1] & 0x80 == 0x80 } else { code[1] & 0xe0 == 0xe0 };
        let operands = match self.memory {
            None => code[4] == 0xc0 | self.operands,
            Some(memory) => {
                let index = memory == Memory::Index;
                // An index, whose register counts four times, has a byte of its own.
                let scaled = !index || (code[4] & 7 == 4 && code[5] & 0xc0 == 0x80);
                code[4] & 0xc0 != 0xc0 && code[4] & 0x38 == self.operands && scaled
            }
        };
        second && code[2] == self.third && code[3] == self.opcode && operands
    }
}

/// VEX.128, W0: the register that is written in the prefix, inverted, and the number of the mandatory prefix (0 none, 1 `66`,
/// 2 `F3`, 3 `F2`).
const fn third(register: u8, prefix: u8) -> u8 {
    (!register & 0xf) << 3 | prefix
}

/// Two registers in the byte of operands.
const fn registers(reg: u8, rm: u8) -> u8 {
    reg << 3 | rm
}

#[test]
fn instructions_have_the_bytes_that_the_manual_gives() {
    let expected = [
        // LDTILECFG m512: VEX.128.NP.0F38.W0 49 !(11):000:bbb
        Expected {
            name: "ldtilecfg",
            function: alone::configure as *const (),
            third: third(0, 0),
            opcode: 0x49,
            operands: registers(0, 0),
            memory: Some(Memory::Any),
        },
        // TILERELEASE: VEX.128.NP.0F38.W0 49 C0
        Expected {
            name: "tilerelease",
            function: alone::release as *const (),
            third: third(0, 0),
            opcode: 0x49,
            operands: registers(0, 0),
            memory: None,
        },
        // TILEZERO tmm1: VEX.128.F2.0F38.W0 49 11:rrr:000
        Expected {
            name: "tilezero",
            function: alone::zero as *const (),
            third: third(0, 3),
            opcode: 0x49,
            operands: registers(3, 0),
            memory: None,
        },
        // TILELOADD tmm1, sibmem: VEX.128.F2.0F38.W0 4B !(11):rrr:100
        Expected {
            name: "tileloadd",
            function: alone::load as *const (),
            third: third(0, 3),
            opcode: 0x4b,
            operands: registers(2, 0),
            memory: Some(Memory::Index),
        },
        // TILESTORED sibmem, tmm1: VEX.128.F3.0F38.W0 4B !(11):rrr:100
        Expected {
            name: "tilestored",
            function: alone::store as *const (),
            third: third(0, 2),
            opcode: 0x4b,
            operands: registers(5, 0),
            memory: Some(Memory::Index),
        },
        // TDPBF16PS tmm1, tmm2, tmm3: VEX.128.F3.0F38.W0 5C 11:rrr:bbb, the third in the prefix
        Expected {
            name: "tdpbf16ps",
            function: alone::multiply_bf16 as *const (),
            third: third(4, 2),
            opcode: 0x5c,
            operands: registers(1, 2),
            memory: None,
        },
        // TDPBUSD tmm1, tmm2, tmm3: VEX.128.66.0F38.W0 5E 11:rrr:bbb, the third in the prefix
        Expected {
            name: "tdpbusd",
            function: alone::multiply_bytes as *const (),
            third: third(3, 1),
            opcode: 0x5e,
            operands: registers(6, 5),
            memory: None,
        },
    ];
    /// Far more than such a function has, also one that is not optimized.
    const MOST: usize = 160;
    for expected in expected {
        // SAFETY: code can be read; behind these functions there is more of it than this, the tests' and the standard library's.
        let code = unsafe { std::slice::from_raw_parts(expected.function.cast::<u8>(), MOST) };
        let first = code.windows(6).find(|code| Expected::is_any(code));
        assert!(first.is_some_and(|code| expected.matches(code)), "`{}`: {first:02x?} in {code:02x?}", expected.name);
    }
}

/// A word of two bfloat16.
fn pair(lower: f32, upper: f32) -> f32 {
    f32::from_bits(lower.to_bits() >> 16 | upper.to_bits() & 0xffff_0000)
}

/// One sum of words.
fn sum_of(before: f32, a: &[f32], b: &[f32], multiply: impl Fn(&mut Twin)) -> f32 {
    let mut unit =
        Twin::configured(&Extents::of([(1, 1), (1, a.len()), (b.len(), 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]));
    let mut sum = before;
    // SAFETY: the extents are those of the slices.
    unsafe {
        unit.load::<0>(&raw const sum, 1);
        unit.load::<1>(a.as_ptr(), a.len());
        unit.load::<2>(b.as_ptr(), 1);
        multiply(&mut unit);
        unit.store::<0>(&raw mut sum, 1);
    }
    sum
}

fn bf16_sum(before: f32, a: &[f32], b: &[f32]) -> f32 {
    sum_of(before, a, b, |unit| unit.multiply_bf16::<0, 1, 2>())
}

#[test]
fn the_twin_rounds_adds_and_flushes_as_the_manual_says() {
    let one = pair(1.0, 1.0);
    let (tiny, least) = (f32::from_bits(0x0040_0000), f32::MIN_POSITIVE);
    // Products are exact, and rounded to the nearest with what there was of their chain: 1 + 2⁻²⁴ is 1, 1 + 3 · 2⁻²⁴ is even.
    let power = |n: i32| 2.0f32.powi(n);
    assert_eq!(bf16_sum(0.0, &[pair(1.0, 0.0), pair(power(-12), 0.0)], &[one, pair(power(-12), 0.0)]), 1.0);
    let three = bf16_sum(0.0, &[pair(1.0, 0.0), pair(3.0 * power(-12), 0.0)], &[one, pair(power(-12), 0.0)]);
    assert_eq!(three, 1.0 + 2.0 * power(-23));
    // The even and the odd places are chains of their own, both added before the sum that there was.
    let small = power(-24);
    let a = [pair(1.0, small), pair(0.0, small)];
    assert_eq!(bf16_sum(0.0, &a, &[one, one]), 1.0 + 2.0 * small, "in one chain both would be lost");
    assert_eq!(bf16_sum(1.0, &[pair(small, small)], &[one]), 1.0 + 2.0 * small, "one after the other, too");
    let large = power(25);
    assert_eq!(bf16_sum(-large, &[pair(large, 1.0)], &[one]), 0.0, "the product is rounded before it is added");
    // What is below the normal numbers is zero: factors, sums, results, and what a chain holds meanwhile.
    assert_eq!(bf16_sum(0.0, &[pair(tiny, 0.0)], &[pair(power(100), 0.0)]), 0.0);
    assert_eq!(bf16_sum(tiny, &[pair(0.0, 0.0)], &[one]), 0.0);
    assert_eq!(bf16_sum(0.0, &[pair(least, 0.0)], &[pair(0.5, 0.0)]), 0.0);
    assert_eq!(bf16_sum(-1.5 * least, &[pair(least, 0.0)], &[one]), 0.0);
    assert_eq!(bf16_sum(least, &[pair(least, 0.0)], &[one]), 2.0 * least);
    let half = pair(0.5, 0.0);
    assert_eq!(bf16_sum(0.0, &[pair(least, 0.0), pair(least, 0.0)], &[half, half]), 0.0, "each of two halves");
    // What is no number, or none any more.
    assert!(bf16_sum(0.0, &[pair(f32::NAN, 0.0)], &[one]).is_nan());
    assert!(bf16_sum(0.0, &[pair(f32::INFINITY, 0.0)], &[pair(0.0, 0.0)]).is_nan());
    assert_eq!(bf16_sum(0.0, &[pair(power(100), 0.0)], &[pair(power(100), 0.0)]), f32::INFINITY);
}

#[test]
fn the_twin_multiplies_unsigned_by_signed_bytes_and_wraps() {
    let word = |bytes: [u8; 4]| f32::from_bits(u32::from_le_bytes(bytes));
    let sum = |before: i32, a: [u8; 4], b: [i8; 4]| {
        let b = word(b.map(|byte| byte as u8));
        let sum = sum_of(f32::from_bits(before as u32), &[word(a)], &[b], |unit| unit.multiply_bytes::<0, 1, 2>());
        sum.to_bits() as i32
    };
    assert_eq!(sum(0, [255; 4], [-128; 4]), -4 * 255 * 128);
    assert_eq!(sum(7, [255, 1, 2, 3], [127, -1, 5, -128]), 7 + 255 * 127 - 1 + 10 - 384);
    assert_eq!(sum(i32::MAX, [1, 0, 0, 0], [1, 0, 0, 0]), i32::MIN);
}

#[test]
fn the_twin_keeps_to_the_extents_of_tiles() {
    let mut unit = Twin::configured(&Extents::of([(2, 3); 8]));
    let from: Vec<f32> = (0..20).map(|i| i as f32).collect();
    let mut to = vec![-1.0; 20];
    // SAFETY: two rows of three words, ten apart.
    unsafe {
        unit.load::<4>(from.as_ptr(), 10);
        unit.store::<4>(to.as_mut_ptr(), 10);
    }
    for (at, &found) in to.iter().enumerate() {
        assert_eq!(found, if at % 10 < 3 { at as f32 } else { -1.0 }, "{at}");
    }
}

/// Words of operands, from a seed.
fn words(holds: Holds, count: usize, seed: u64) -> Vec<f32> {
    let value = |i: usize| crate::random::normal(seed, i as u64);
    let word = |i: usize| match holds {
        Holds::Bf16 => pair(value(2 * i), value(2 * i + 1)),
        Holds::Bytes => f32::from_bits((value(2 * i).to_bits() >> 3) ^ value(2 * i + 1).to_bits() << 9),
    };
    (0..count).map(word).collect()
}

/// Sums of a block of rows and columns as a number each, by a unit.
fn block_sums(unit: &mut impl Unit, holds: Holds, [rows, columns, steps]: [usize; 3], at_once: usize) -> Vec<f64> {
    let depth = steps.div_ceil(WORDS);
    let stride = (depth * WORDS).max(WORDS);
    let (whole, side) = (steps / WORDS, 2 * WORDS);
    // What is beyond the rows is no number; beyond the depth there are zeros.
    let mut a = vec![f32::NAN; 2 * ROWS * stride];
    let values = words(holds, rows * steps, 1);
    for (row, to) in a.chunks_exact_mut(stride).take(rows).enumerate() {
        to.fill(0.0);
        to[..steps].copy_from_slice(&values[row * steps..][..steps]);
    }
    let b = words(holds, steps * side, 2);
    let mut rest = vec![0.0; ROWS * side];
    rest[..(steps - whole * WORDS) * side].copy_from_slice(&b[whole * WORDS * side..]);
    let mut sums = vec![f32::NAN; 2 * ROWS * side];
    for start in (0..depth.max(1)).step_by(at_once) {
        let block = Block {
            a: [a.as_ptr(), a[ROWS * stride..].as_ptr()],
            row_stride: stride,
            pair_stride: side,
            b: b.as_ptr(),
            whole,
            rest: rest.as_ptr(),
            depth: start..depth.min(start + at_once),
            sums: (sums.as_mut_ptr(), side),
            continues: start > 0,
            prefetch: Prefetch { from: b.as_ptr(), rows: 1 },
        };
        // SAFETY: two tiles of rows with whole tiles of the depth, a panel and its rest, room for as many sums.
        unsafe { block.run(unit, holds, rows, columns) };
    }
    let number = |sum: &f32| match holds {
        Holds::Bf16 => f64::from(*sum),
        Holds::Bytes => f64::from(sum.to_bits() as i32),
    };
    sums.chunks_exact(side).take(rows).flat_map(|row| row[..columns].iter().map(number)).collect()
}

const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [1, 32, 16],
    [16, 16, 15],
    [17, 16, 17],
    [16, 17, 32],
    [31, 31, 33],
    [32, 32, 40],
    [32, 1, 129],
    [5, 32, 0],
];

#[test]
fn blocks_are_plain_sums_over_odd_shapes_in_any_parts_of_the_depth() {
    let mut unit = Twin::configured(&Extents::WHOLE);
    for holds in [Holds::Bf16, Holds::Bytes] {
        for shape in SHAPES {
            let [rows, columns, steps] = shape;
            let found = block_sums(&mut unit, holds, shape, usize::MAX / 2);
            let (a, b) = (words(holds, rows * steps, 1), words(holds, steps * 2 * WORDS, 2));
            for (at, &found) in found.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let products: Vec<f64> = (0..steps)
                    .flat_map(|k| products(holds, a[row * steps + k].to_bits(), b[k * 2 * WORDS + column].to_bits()))
                    .collect();
                let expected: f64 = products.iter().sum();
                let bound = match holds {
                    Holds::Bf16 => 3e-6 * products.iter().map(|product| product.abs()).sum::<f64>(),
                    Holds::Bytes => 0.0,
                };
                assert!((found - expected).abs() <= bound, "{holds:?} {shape:?}: [{at}] is {found} for {expected}");
            }
            for at_once in [1, 2, 3] {
                assert_eq!(block_sums(&mut unit, holds, shape, at_once), found, "{holds:?} {shape:?} by {at_once}");
            }
        }
    }
}

/// Products of what two words hold.
fn products(holds: Holds, a: u32, b: u32) -> Vec<f64> {
    match holds {
        Holds::Bf16 => [0, 16]
            .map(|shift| {
                let value = |word: u32| f64::from(f32::from_bits(word >> shift << 16));
                value(a) * value(b)
            })
            .to_vec(),
        Holds::Bytes => (0..4).map(|i| f64::from((a >> (8 * i)) as u8) * f64::from((b >> (8 * i)) as i8)).collect(),
    }
}

/// A unit that is wrong in one way.
struct Wrong {
    unit: Twin,
    bf16: bool,
}

impl Unit for Wrong {
    fn zero<const TILE: usize>(&mut self) {
        self.unit.zero::<TILE>();
    }

    unsafe fn load<const TILE: usize>(&mut self, from: *const f32, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.unit.load::<TILE>(from, stride) };
    }

    unsafe fn store<const TILE: usize>(&mut self, to: *mut f32, stride: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.unit.store::<TILE>(to, stride) };
    }

    fn multiply_bf16<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        // Factors exchanged.
        if self.bf16 { self.unit.multiply_bf16::<SUM, B, A>() } else { self.unit.multiply_bf16::<SUM, A, B>() }
    }

    fn multiply_bytes<const SUM: usize, const A: usize, const B: usize>(&mut self) {
        if self.bf16 { self.unit.multiply_bytes::<SUM, A, B>() } else { self.unit.multiply_bytes::<SUM, B, A>() }
    }
}

#[test]
fn the_trial_at_the_start_passes_a_right_unit_and_names_what_is_wrong() {
    assert_eq!(try_products(&mut Twin::configured(&Extents::WHOLE)), Ok(()));
    for (bf16, of) in [(true, "a product of bfloat16 is "), (false, "a product of bytes is ")] {
        let mut wrong = Wrong { unit: Twin::configured(&Extents::WHOLE), bf16 };
        let fault = try_products(&mut wrong).expect_err("it is wrong");
        assert!(fault.starts_with(of) && fault.contains(" where "), "{fault}");
    }
}

/// Where there is AMX: the processor has the twin's bits.
#[test]
fn the_processor_does_what_the_twin_does() {
    if !detect::usable() {
        eprintln!("no AMX here{}", detect::fault().map(|fault| format!(": {fault}")).unwrap_or_default());
        return;
    }
    for holds in [Holds::Bf16, Holds::Bytes] {
        for shape in SHAPES {
            let by_twin = block_sums(&mut Twin::configured(&Extents::WHOLE), holds, shape, 2);
            // SAFETY: there is AMX, and this test holds nothing else of it.
            let found = block_sums(&mut unsafe { Amx::configured() }, holds, shape, 2);
            assert_eq!(found, by_twin, "{holds:?} {shape:?}");
        }
    }
}
