//! How fast this processor multiplies and adds at all: the measure for everything else.

use std::hint::black_box;
use std::time::Instant;

use super::kernels::{Kernel, Lanes, Words, word_chains};
use super::processor::Processor;

/// Fused multiply-adds of each chain in one round: about a millisecond.
const STEPS: usize = 200_000;
/// Rounds, of which the best counts.
const ROUNDS: usize = 40;

/// Independent chains of fused multiply-adds, as many as hide the latency and fit into registers.
#[derive(Clone, Copy)]
struct Chains;

impl Kernel for Chains {
    /// Floating-point operations done.
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        // Eight lanes mean AVX2, which has sixteen registers, two of them taken by the constants.
        if L::N == 8 { chains::<L, 12>(l) } else { chains::<L, 20>(l) }
    }
}

#[inline(always)]
fn chains<L: Lanes, const CHAINS: usize>(l: L) -> f64 {
    let factor = l.splat(black_box(0.999_9));
    let summand = l.splat(black_box(1e-4));
    let mut sums = [l.splat(1.0); CHAINS];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = l.fma(*sum, factor, summand);
        }
    }
    let total = sums.into_iter().fold(l.splat(0.0), |total, sum| l.add(total, sum));
    black_box(l.sum(total));
    (2 * L::N * CHAINS * STEPS) as f64
}

impl Processor {
    /// The most that all threads together multiply and add, in billions of operations a second, of 32-bit floats or of words,
    /// measured now: the best of several short rounds.
    pub(crate) fn peak(&self, words: Option<Words>) -> f64 {
        let threads = self.threads();
        let round = || {
            let start = Instant::now();
            let operations = std::sync::Mutex::new(0.0);
            self.parallel(threads, |_| {
                let narrow = words.and_then(|words| word_chains(self.isa(), words, STEPS));
                let done = narrow.unwrap_or_else(|| self.isa().run(Chains));
                *operations.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += done;
            });
            let done = operations.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            done / start.elapsed().as_secs_f64() / 1e9
        };
        (0..ROUNDS).map(|_| round()).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_does_something() {
        let cpu = Processor::new(1, super::super::kernels::Isa::available()[0]);
        for words in [None, Some(Words::Bf16), Some(Words::Int8)] {
            let peak = cpu.peak(words);
            assert!(peak > 0.1 && peak < 1e6, "{words:?}: {peak}");
        }
    }
}
