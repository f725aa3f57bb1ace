//! One vocabulary of vector operations over every instruction set, chosen at run time.

/// Vector operations of one instruction set.
///
/// The value is a token: holding one proves that the processor has the instructions. Methods are inlined into a
/// function compiled for that instruction set ([`Isa::run`]), so generic kernels become plain vector code.
pub(crate) trait Lanes: Copy {
    /// A vector of [`Lanes::N`] values.
    type V: Copy;
    /// Numbers in a vector.
    const N: usize;

    fn splat(self, x: f32) -> Self::V;
    /// Loads the first `N` values of a slice.
    fn load(self, from: &[f32]) -> Self::V;
    /// Loads up to `N` values, zeros after the slice's end.
    fn load_part(self, from: &[f32]) -> Self::V;
    /// Stores to the first `N` values of a slice.
    fn store(self, to: &mut [f32], v: Self::V);
    /// Stores as many values as the slice has room for, `N` at most.
    fn store_part(self, to: &mut [f32], v: Self::V);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`; fused where the instruction set can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// To the nearest integer, as a float.
    fn round(self, a: Self::V) -> Self::V;
    /// `a · 2^n` for an integral `n` within −126…127.
    fn scale_by_power(self, a: Self::V, n: Self::V) -> Self::V;
    /// `if x < y { a } else { b }`.
    fn select_less(self, x: Self::V, y: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Sum of all lanes, in a fixed order.
    fn sum(self, a: Self::V) -> f32;
    /// Greatest of all lanes.
    fn greatest(self, a: Self::V) -> f32;

    /// Stores values as bfloat16, rounded to the nearest, as many as the slice has room for. Only where
    /// [`Isa::multiplies_bf16`](super::Isa::multiplies_bf16).
    #[inline(always)]
    fn store_bf16(self, to: &mut [u16], v: Self::V) {
        let mut values = [0.0; 16];
        self.store(&mut values, v);
        to.iter_mut().zip(&values[..Self::N]).for_each(|(to, &x)| *to = half::bf16::from_f32(x).to_bits());
    }

    /// Stores integral values of 0…255 as bytes, as many as the slice has room for.
    #[inline(always)]
    fn store_bytes(self, to: &mut [u8], v: Self::V) {
        let mut values = [0.0; 16];
        self.store(&mut values, v);
        to.iter_mut().zip(&values[..Self::N]).for_each(|(to, &x)| *to = x as u8);
    }

    /// `N` values of `sums − zero · of`, exact in integers, then as floats.
    #[inline(always)]
    fn centered(self, sums: &[i32], zero: i32, of: &[i32]) -> Self::V {
        let mut values = [0.0; 16];
        for ((value, &sum), &of) in values[..Self::N].iter_mut().zip(&sums[..Self::N]).zip(&of[..Self::N]) {
            *value = sum.wrapping_sub(zero.wrapping_mul(of)) as f32;
        }
        self.load(&values)
    }

    /// Whether [`Lanes::look_up`] takes but a few instructions.
    const LOOKS_UP: bool = false;

    /// Entries of a table, by the lowest five bits of each lane.
    #[inline(always)]
    fn look_up(self, table: &[f32; 32], places: Self::V) -> Self::V {
        let mut values = [0.0; 16];
        self.store(&mut values, places);
        values.iter_mut().for_each(|value| *value = table[value.to_bits() as usize % 32]);
        self.load(&values)
    }

    /// Prefetches the memory `ahead` values after the start of the slice. A hint: the address need not be valid.
    #[inline(always)]
    fn prefetch(self, from: &[f32], ahead: usize) {
        let _ = (from, ahead);
    }

    /// `a · 2^n` for an integral `n` within −252…254, rounded to what there is beyond the normal numbers.
    #[inline(always)]
    fn scale_by_any_power(self, a: Self::V, n: Self::V) -> Self::V {
        // By two halves, so that both powers are normal numbers.
        let half = self.round(self.mul(n, self.splat(0.5)));
        self.scale_by_power(self.scale_by_power(a, half), self.sub(n, half))
    }

    /// `a · b + c` with scalars spread over the lanes.
    #[inline(always)]
    fn fma_scalar(self, a: Self::V, b: f32, c: f32) -> Self::V {
        self.fma(a, self.splat(b), self.splat(c))
    }
}

/// A piece of work written once over [`Lanes`].
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work. Must be `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}
