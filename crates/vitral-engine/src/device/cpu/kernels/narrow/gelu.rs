//! GELU for results that are rounded to 16 or 8 bits next.
//!
//! `GELU(x) = max(x, 0) − h(|x|)` with `h(t) = t Φ(−t)`, which is even, below 0.17, and gone at 6. It is a quadratic on each of
//! 32 pieces, fitted for the least greatest error by `tools/golden/minimax.py`: within 3·10⁻⁵, far below what 8 bits of
//! precision leave of the values around it, in half the instructions of the exact form.

use super::super::lanes::Lanes;
use crate::activation::Activation;
use crate::device::cpu::math;

/// Pieces in a unit of `t`.
const PIECES: f32 = 5.25;
/// Where `h` is taken to end.
const END: f32 = 5.99;

/// Coefficients of each piece, the constant first, in `t · PIECES` from the piece's middle.
#[rustfmt::skip]
static COEFFICIENTS: [[f32; 32]; 3] = [
    [
        0.0, 8.08498e-2, 1.339492e-1, 1.622021e-1, 1.699492e-1, 1.623355e-1, 1.44628e-1, 1.216157e-1,
        9.718648e-2, 7.412314e-2, 5.410619e-2, 3.787153e-2, 2.545268e-2, 1.644102e-2, 1.02143e-2, 6.106685e-3,
        3.514769e-3, 1.948137e-3, 1.040114e-3, 5.350156e-4, 2.651816e-4, 1.266679e-4, 5.831507e-5, 2.587748e-5,
        1.106931e-5, 4.564579e-6, 1.814612e-6, 6.954839e-7, 2.569952e-7, 9.15609e-8, 3.145232e-8, 1.041746e-8,
    ],
    [
        9.52299e-2, 6.670084e-2, 4.017049e-2, 1.733948e-2, -6.559604e-4, -1.335546e-2, -2.095578e-2, -2.417489e-2,
        -2.404601e-2, -2.169807e-2, -1.817095e-2, -1.429463e-2, -1.064008e-2, -7.52833e-3, -5.079232e-3, -3.274987e-3,
        -2.021353e-3, -1.195723e-3, -6.785595e-4, -3.696918e-4, -1.93485e-4, -9.732465e-5, -4.70697e-5, -2.189522e-5,
        -9.798718e-6, -4.21994e-6, -1.749243e-6, -6.980365e-7, -2.681996e-7, -9.923138e-8, -3.535924e-8, -1.213573e-8,
    ],
    [
        -1.443586e-2, -1.393094e-2, -1.246518e-2, -1.027608e-2, -7.683584e-3, -5.032476e-3, -2.625708e-3, -6.759914e-4,
        7.151127e-4, 1.550592e-3, 1.911336e-3, 1.920452e-3, 1.709486e-3, 1.393461e-3, 1.057548e-3, 7.544608e-4,
        5.090099e-4, 3.260889e-4, 1.989379e-4, 1.158221e-4, 6.4455e-5, 3.432872e-5, 1.751569e-5, 8.568719e-6,
        4.021718e-6, 1.811985e-6, 7.840559e-7, 3.259578e-7, 1.302404e-7, 5.002975e-8, 1.848082e-8, 6.566325e-9,
    ],
];

/// GELU within 3·10⁻⁵; the exact form where tables are not fast.
#[inline(always)]
pub(super) fn gelu_near<L: Lanes>(l: L, x: L::V) -> L::V {
    /// Adding it leaves the nearest integer in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    if !L::LOOKS_UP {
        return math::activate(l, Activation::Gelu, x);
    }
    let rounding = l.splat(ROUNDING);
    let t = l.mul(l.min(l.splat(END), l.abs(x)), l.splat(PIECES));
    let place = l.add(t, rounding);
    let r = l.sub(t, l.sub(place, rounding));
    let of = |power: usize| l.look_up(&COEFFICIENTS[power], place);
    let h = l.fma(l.fma(of(2), r, of(1)), r, of(0));
    l.sub(l.max(l.splat(0.0), x), h)
}

#[cfg(test)]
mod tests {
    use super::super::super::isa::Isa;
    use super::super::super::lanes::{Kernel, Lanes};

    struct Near<'a>(&'a mut [f32]);

    impl Kernel for Near<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self, l: L) {
            for chunk in self.0.chunks_mut(L::N) {
                let y = super::gelu_near(l, l.load_part(chunk));
                l.store_part(chunk, y);
            }
        }
    }

    #[test]
    fn gelu_is_near_and_what_is_not_a_number_stays_so() {
        for isa in Isa::available() {
            let x: Vec<f32> = (-90_000..=90_000).map(|i| i as f32 / 10_000.0).collect();
            let mut y = x.clone();
            isa.run(Near(&mut y));
            for (x, y) in x.iter().map(|&x| f64::from(x)).zip(y) {
                let expected = 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
                assert!((f64::from(y) - expected).abs() < 3e-5, "{}: {y} for {x}, expected {expected}", isa.name());
            }
            let mut odd = [f32::NAN, f32::INFINITY, -100.0, 0.0, 1e30];
            isa.run(Near(&mut odd));
            assert!(odd[0].is_nan() && odd[1] == f32::INFINITY, "{odd:?}");
            assert!(odd[2].abs() < 3e-5 && odd[3] == 0.0 && odd[4] == 1e30, "{odd:?}");
        }
    }
}
