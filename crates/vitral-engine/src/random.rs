//! Random values by counter: element `i` of a draw depends on the draw's seed and `i` alone, so what is dropped does
//! not depend on threads.

/// A bijective scramble of 64 bits (the finalizer of SplitMix64, Steele, Lea and Flood 2014).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Element `index` of a draw, uniform in `[0, 1)`.
#[inline]
pub fn uniform(seed: u64, index: u64) -> f32 {
    (mix(seed ^ index.wrapping_mul(0xd134_2543_de82_ef95)) >> 40) as f32 / (1u64 << 24) as f32
}

/// Element `index` of a draw, standard normal (Box and Muller).
pub fn normal(seed: u64, index: u64) -> f32 {
    let bits =
        |i: u64| (mix(seed ^ (2 * index + i).wrapping_mul(0xd134_2543_de82_ef95)) >> 11) as f64 / (1u64 << 53) as f64;
    let radius = (-2.0 * (1.0 - bits(0)).ln()).sqrt();
    (radius * (2.0 * std::f64::consts::PI * bits(1)).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let count = 100_000;
        let moments = |f: &dyn Fn(u64) -> f32| {
            let mean = (0..count).map(|i| f64::from(f(i))).sum::<f64>() / count as f64;
            let variance = (0..count).map(|i| (f64::from(f(i)) - mean).powi(2)).sum::<f64>() / count as f64;
            (mean, variance)
        };
        let (mean, variance) = moments(&|i| uniform(7, i));
        assert!((mean - 0.5).abs() < 5e-3 && (variance - 1.0 / 12.0).abs() < 2e-3, "{mean} {variance}");
        let (mean, variance) = moments(&|i| normal(7, i));
        assert!(mean.abs() < 1e-2 && (variance - 1.0).abs() < 2e-2, "{mean} {variance}");
    }
}
