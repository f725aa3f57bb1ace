//! Plain Rust in groups of `N`, for processors without an instruction set of their own here.

use super::lanes::Lanes;
use super::tile::{ATile, BTile, Init, Prefetch, Tile};

/// The token of the portable instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const N: usize>;

macro_rules! lanewise {
    ($($name:ident($($arg:ident),+) = $value:expr;)+) => {
        $(#[inline(always)]
        fn $name(self, $($arg: Self::V),+) -> Self::V {
            std::array::from_fn(|i| {
                $(let $arg = $arg[i];)+
                $value
            })
        })+
    };
}

impl<const N: usize> Lanes for Portable<N> {
    type V = [f32; N];
    const N: usize = N;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; N]
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        from[..N].try_into().expect("as many numbers")
    }

    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::V {
        std::array::from_fn(|i| from.get(i).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], v: Self::V) {
        to[..N].copy_from_slice(&v);
    }

    #[inline(always)]
    fn store_part(self, to: &mut [f32], v: Self::V) {
        let count = to.len().min(N);
        to[..count].copy_from_slice(&v[..count]);
    }

    lanewise! {
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        fma(a, b, c) = a * b + c;
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
        abs(a) = a.abs();
        round(a) = a.round_ties_even();
        scale_by_power(a, n) = a * f32::from_bits(((n as i32 + 127) as u32) << 23);
        select_less(x, y, a, b) = if x < y { a } else { b };
    }

    #[inline(always)]
    fn sum(self, mut a: Self::V) -> f32 {
        // Halves are added until one number is left.
        let mut width = N;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                a[i] += a[i + width];
            }
        }
        a[0]
    }

    #[inline(always)]
    fn greatest(self, a: Self::V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |greatest, x| if x > greatest { x } else { greatest })
    }
}

/// The tile kernel for this many rows.
pub(super) fn tile_of<const N: usize>(rows: usize) -> Tile {
    let tiles: [Tile; 4] = [tile::<1, N>, tile::<2, N>, tile::<3, N>, tile::<4, N>];
    tiles[rows - 1]
}

/// A tile of `M × N`: `c = init + a · b`.
///
/// # Safety
/// `a` has `M` rows and `k` steps, `b` has `k` rows of `N` values, `c` has `M` rows of as many,
/// `stride` apart; `init` is null or has such rows at its own stride.
unsafe fn tile<const M: usize, const N: usize>(
    k: usize,
    a: ATile,
    b: BTile,
    c: *mut f32,
    stride: usize,
    init: Init,
    _prefetch: Prefetch,
) {
    let mut sums = [[0.0f32; N]; M];
    // SAFETY: all accesses stay within the extents that the caller promises.
    unsafe {
        if !init.data.is_null() {
            for (row, sum) in sums.iter_mut().enumerate() {
                sum.copy_from_slice(std::slice::from_raw_parts(init.data.add(row * init.stride), N));
            }
        }
        for step in 0..k {
            let b_row = std::slice::from_raw_parts(b.data.add(step * b.step), N);
            for (row, sum) in sums.iter_mut().enumerate() {
                let value_a = *a.data.add(row * a.row_stride + step * a.step);
                for (lane, value) in sum.iter_mut().enumerate() {
                    *value += value_a * b_row[lane];
                }
            }
        }
        for (row, sum) in sums.iter().enumerate() {
            std::slice::from_raw_parts_mut(c.add(row * stride), N).copy_from_slice(sum);
        }
    }
}
