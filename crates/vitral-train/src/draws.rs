//! Counter-based random numbers: each depends only on the run's seed, the epoch and the image.

use vitral_engine::random::mix;

/// A stream of random numbers for one image or one batch in one epoch.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    next: u64,
}

impl Draws {
    /// The stream of `index` in an epoch.
    pub fn new(seed: u64, epoch: u64, index: u64) -> Self {
        Draws { seed: mix(mix(mix(seed) ^ epoch) ^ index), next: 0 }
    }

    /// 64 random bits.
    fn bits(&mut self) -> u64 {
        self.next += 1;
        mix(self.seed ^ self.next.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform between two numbers.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An integer below `count`, which must not be 0.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count - 1)
    }

    /// Returns true with this probability.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.unit()).cos()
    }

    /// Gamma with a shape, at scale 1 (Marsaglia and Tsang 2000; below 1, by a power of a uniform).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * (1.0 - self.unit()).powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta with both parameters `alpha`.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        let (a, b) = (self.gamma(alpha), self.gamma(alpha));
        // With tiny parameters both may underflow; then 0 and 1 are equally likely.
        if a + b > 0.0 { a / (a + b) } else { f64::from(u8::from(self.happens(0.5))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_the_right_moments() {
        for alpha in [0.2, 0.8, 1.0, 3.0] {
            let count = 40_000;
            let draws: Vec<f64> = (0..count).map(|index| Draws::new(5, 1, index).beta(alpha)).collect();
            let mean = draws.iter().sum::<f64>() / count as f64;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count as f64;
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: mean {mean}");
            assert!((variance - 0.25 / (2.0 * alpha + 1.0)).abs() < 0.005, "{alpha}: variance {variance}");
        }
    }
}
