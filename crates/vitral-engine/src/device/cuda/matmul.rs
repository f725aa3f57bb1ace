//! Products of matrices: row by row as the engine has them, column by column as cuBLASLt does, in the way that is fastest
//! on this card.
//!
//! cuBLASLt knows several ways to compute a product, and the one it names first is up to 15 % slower than the best. The
//! first time a product of a shape is computed, up to 16 ways are timed, of short ones up to 24. What was chosen is written to a file for the card and
//! the library's version, and used by every later run: bits stay the same from run to run.

use super::Cuda;
use super::api::blas::{Ending, MatrixType, Operands, Plan, Shape};
use super::api::driver::Address;
use super::cache::keep;
use super::choices::{Key, Multiplier, read_choices, write_choices};
use super::gate::is_recording;
use super::heap::locked;
use super::launch::{Arg, Source, rows};
use super::memory::{Element, Memory};
use crate::activation::Activation;
use crate::precision::Precision;

/// Room for what cuBLASLt keeps aside while it computes.
const WORKSPACE: usize = 64 << 20;
/// How many ways are timed, of products that take long, and of those that are over in microseconds.
const WAYS: [usize; 2] = [16, 24];
/// A product with fewer multiplications is a short one.
const SHORT: usize = 1 << 33;

/// How operands of 32 bits may be rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To TF32 in the precision of that name alone.
    Usual,
    /// To TF32 in every precision but `f32`.
    Convolution,
    /// Never.
    None,
}

/// A product, row by row: `C [m, n] = alpha · op(A) [m, k] op(B) [k, n] + beta · C + bias`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// A and B, each with where it begins. `[m, k]` and `[k, n]`, or transposed.
    pub(super) a: (&'a Memory, usize),
    pub(super) b: (&'a Memory, usize),
    pub(super) transposed: [bool; 2],
    pub(super) extents: [usize; 3],
    /// What is written to.
    pub(super) c: (&'a Memory, usize),
    /// What is added, of C's type.
    pub(super) from: Option<&'a Memory>,
    /// C is added to as it is.
    pub(super) accumulate: bool,
    /// `[n]`, of C's type.
    pub(super) bias: Option<(&'a Memory, usize)>,
    pub(super) ending: Ending,
    pub(super) alpha: f32,
    pub(super) batch: usize,
    pub(super) rounding: Rounding,
}

impl<'a> Product<'a> {
    /// `C = op(A) op(B)`, of whole memories.
    pub(super) fn new(a: &'a Memory, b: &'a Memory, c: &'a Memory, transposed: [bool; 2], extents: [usize; 3]) -> Self {
        Product {
            a: (a, 0),
            b: (b, 0),
            transposed,
            extents,
            c: (c, 0),
            from: None,
            accumulate: false,
            bias: None,
            ending: Ending::Plain,
            alpha: 1.0,
            batch: 1,
            rounding: Rounding::Usual,
        }
    }
}

/// What addresses are multiples of: whole blocks, vectors of 16 bytes, or less.
fn alignment(addresses: [Address; 4]) -> u32 {
    let bits = addresses.into_iter().fold(0, |bits, address| bits | address);
    match bits.trailing_zeros() {
        8.. => 256,
        4..8 => 16,
        fewer => 1 << fewer,
    }
}

fn matrix_type(memory: &Memory) -> MatrixType {
    match memory.element {
        Element::F32 => MatrixType::F32,
        Element::Bf16 => MatrixType::Bf16,
        Element::F16 => MatrixType::F16,
    }
}

impl Cuda {
    /// Queues a product.
    pub(super) fn multiply(&self, product: &Product<'_>) {
        let [m, n, k] = product.extents;
        if m * n * product.batch == 0 || self.inner.fault().is_some() {
            return;
        }
        let adds = product.accumulate || product.from.is_some();
        if k == 0 {
            assert!(!adds && product.bias.is_none(), "a product over nothing");
            return self.clear_memory(product.c.0);
        }
        assert_eq!(product.a.0.element, product.b.0.element, "operands of two types");
        let (a, b) = (product.b.0.address(product.b.1), product.a.0.address(product.a.1));
        let d = product.c.0.address(product.c.1);
        let c = product.from.map_or(d, |from| from.address(0));
        let tf32 = match product.rounding {
            _ if product.a.0.is_half() => false,
            Rounding::Usual => self.precision == Precision::Tf32,
            Rounding::Convolution => self.precision != Precision::F32,
            Rounding::None => false,
        };
        // Row by row is column by column of the transposed: C' = op(B)' op(A)'.
        let shape = Shape {
            m: n,
            n: m,
            k,
            transposed: [product.transposed[1], product.transposed[0]],
            inputs: matrix_type(product.a.0),
            output: matrix_type(product.c.0),
            tf32,
            ending: product.ending,
            batch: product.batch,
            alignment: alignment([a, b, c, d]),
        };
        let key = Key { shape, adds };
        // Before the lock: a thread that records has the gate, and may wait for the lock.
        let _entered = self.inner.enter();
        let mut multiplier = locked(&self.inner.multiplier);
        let multiplier = &mut *multiplier;
        let workspace = multiplier.workspace.get_or_insert_with(|| self.allocate(Element::F32, WORKSPACE / 4)).clone();
        let at = Operands {
            a,
            b,
            c,
            d,
            bias: product.bias.map_or(0, |(memory, start)| memory.address(start)),
            alpha: product.alpha,
            beta: if adds { 1.0 } else { 0.0 },
            workspace: workspace.address(0),
            workspace_bytes: WORKSPACE,
        };
        if self.inner.fault().is_some() {
            return;
        }
        if self.inner.rehearses() {
            // The trials of a new product write to memory of their own.
            if multiplier.plans.insert(key, None).is_none() {
                drop(self.allocate(product.c.0.element, m * n * product.batch));
            }
            return;
        }
        if !multiplier.plans.contains_key(&key) {
            let plan = self.plan(multiplier, key, &at, product.c.0.element);
            multiplier.plans.insert(key, plan);
        }
        match &multiplier.plans[&key] {
            Some(plan) => {
                let blas = &multiplier.blas;
                self.inner.run(|driver| blas.multiply(driver, plan, &at));
            }
            None => self.multiply_plainly(product),
        }
    }

    /// The way to compute a product: as it was chosen before, or the fastest of several.
    fn plan(&self, multiplier: &mut Multiplier, key: Key, at: &Operands, element: Element) -> Option<Plan> {
        let (blas, text) = (&multiplier.blas, key.text());
        if let Some(plan) =
            multiplier.chosen.get(&text).and_then(|&algorithm| blas.plan(&key.shape, algorithm, WORKSPACE))
        {
            return Some(plan);
        }
        let Shape { m, n, k, batch, .. } = key.shape;
        let ways = WAYS[usize::from(m * n * k * batch < SHORT)];
        let mut plans = blas.plans(&key.shape, WORKSPACE, ways);
        if plans.is_empty() {
            return None;
        }
        let mut best = 0;
        if multiplier.timed && plans.len() > 1 && !is_recording() {
            // What is added to must not be added to again: the trials write elsewhere.
            let aside = self.allocate(element, key.shape.m * key.shape.n * key.shape.batch);
            if self.inner.fault().is_some() {
                return None;
            }
            let at = Operands { d: aside.address(0), ..*at };
            let mut least = f32::INFINITY;
            for (i, plan) in plans.iter().enumerate() {
                let driver = &self.inner.driver;
                let run = |times: usize| (0..times).try_for_each(|_| blas.multiply(driver, plan, &at));
                // A way that fails is not taken.
                let Ok(()) = run(2) else { continue };
                // Short products one after the other, so that launches are hidden.
                let repeats = if ways == WAYS[1] { 8 } else { 2 };
                let times: Vec<f32> = (0..3).filter_map(|_| driver.time(|| run(repeats)).ok()).collect();
                if let Some(time) = times.into_iter().reduce(f32::min).filter(|time| *time < least) {
                    (least, best) = (time, i);
                }
            }
        }
        let plan = plans.swap_remove(best);
        multiplier.chosen.insert(text, plan.algorithm);
        if let Some(file) = &multiplier.file {
            let mut all = std::fs::read_to_string(file).map(|text| read_choices(&text)).unwrap_or_default();
            all.extend(multiplier.chosen.iter().map(|(key, algorithm)| (key.clone(), *algorithm)));
            keep(file, write_choices(&all).as_bytes());
        }
        Some(plan)
    }

    /// A product that cuBLASLt has no way for.
    fn multiply_plainly(&self, product: &Product<'_>) {
        let [m, n, k] = product.extents;
        let bias = product.bias.map(|(memory, start)| {
            let wide = self.allocate(Element::F32, n);
            self.widen_part(memory, start, &wide);
            wide
        });
        let name = format!("{}{}", product.a.0.element.suffix(), product.c.0.element.suffix());
        let [stride_a, stride_b, stride_c] = [m * k, k * n, m * n];
        let adds = product.accumulate || product.from.is_some();
        let c = Arg::From(product.c.0, product.c.1);
        self.launch_in(
            product.a.0.element == Element::F16,
            Source::Products,
            &format!("plain_product_{name}"),
            rows(n.div_ceil(16) * m.div_ceil(16) * product.batch),
            &[
                Arg::From(product.a.0, product.a.1),
                Arg::From(product.b.0, product.b.1),
                Arg::Maybe(bias.as_ref()),
                product.from.map_or(c, Arg::Of),
                c,
                Arg::Int(m),
                Arg::Int(n),
                Arg::Int(k),
                Arg::Int(usize::from(product.transposed[0])),
                Arg::Int(usize::from(product.transposed[1])),
                Arg::Count(stride_a),
                Arg::Count(stride_b),
                Arg::Count(stride_c),
                Arg::Float(product.alpha),
                Arg::Float(if adds { 1.0 } else { 0.0 }),
            ],
        );
        let after = match product.ending {
            Ending::Plain | Ending::Bias => return,
            Ending::ReluBias => Activation::Relu,
            Ending::GeluBias => Activation::GeluTanh,
        };
        self.activate(product.c.0, product.c.0, after);
    }

    /// How the products so far are computed, as text that [`Cuda::use_choices`] takes: first for which card and library.
    pub(in crate::device) fn choices(&self) -> String {
        let multiplier = locked(&self.inner.multiplier);
        let plans = multiplier.plans.iter().filter_map(|(key, plan)| Some((key.text(), plan.as_ref()?.algorithm)));
        format!("{}\n{}", self.chooser(&multiplier), write_choices(&plans.collect()))
    }

    /// Computes products as another run did, if that had the same kind of card and the same version of the library: what
    /// was chosen means nothing to another.
    pub(in crate::device) fn use_choices(&self, text: &str) {
        let mut multiplier = locked(&self.inner.multiplier);
        if let Some((chooser, choices)) = text.split_once('\n')
            && chooser == self.chooser(&multiplier)
        {
            multiplier.plans.clear();
            multiplier.chosen.extend(read_choices(choices));
        }
    }

    fn chooser(&self, multiplier: &Multiplier) -> String {
        format!("{}, cuBLASLt {}", self.inner.driver.name, multiplier.blas.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_of_another_card_or_version_are_not_used() {
        let Some(crate::Device::Cuda(cuda)) = crate::ops::check::gpu() else { return };
        let [a, b, c] = [(); 3].map(|()| cuda.zeroed(Element::F32, 64));
        cuda.multiply(&Product::new(&a, &b, &c, [false, true], [8, 8, 8]));
        let choices = cuda.choices();
        let known = locked(&cuda.inner.multiplier).chosen.len();
        assert!(choices.lines().count() == 2 && known > 0, "{choices}");
        let count = |text: &str| {
            cuda.use_choices(text);
            locked(&cuda.inner.multiplier).chosen.len()
        };
        let others = choices.replacen("8x8x8", "9x9x9", 1);
        assert_eq!(count(&others.replacen("cuBLASLt ", "cuBLASLt 9", 1)), known);
        assert_eq!(count(&others), known + 1);
        assert_eq!(count("nonsense"), known + 1);
    }
}
