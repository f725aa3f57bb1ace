//! Multi-head self-attention straight from packed queries, keys and values.
//!
//! One task is some queries of one head of one image: the head's keys and values are packed once, then a few rows of
//! scores at a time are made, exponentiated and multiplied with the values while they are in cache. No `tokens²` memory
//! is needed, and capturing the weights copies them on the way out without changing a bit of the result.
//!
//! While recording, captured weights are a value on the tape like any other (`explicit`), so that their gradient can be
//! had; what nobody captures takes the fused path, which makes the weights again in backward.

mod explicit;

use std::cell::RefCell;

use super::random::uniform;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::kernels::{
    Epilogue, Gemm, Kernel, Lanes, Lhs, Panels, Rhs, SharedMut, pack_rhs_serial, packed_len,
};
use crate::device::cpu::{Cpu, math};
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

/// Rows of scores made at a time: two tiles of the widest kernel.
const QUERY_ROWS: usize = 28;

/// The settings of one attention.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Number of heads.
    pub heads: usize,
    /// Factor on the scores, usually `head_width^-0.5`.
    pub scale: f32,
    /// `[batch, tokens]`: 0 where a key is attended, −∞ where it is masked.
    pub key_mask: Option<&'a Tensor>,
    /// `[heads, tokens, tokens]`, added to the scaled scores.
    pub bias: Option<&'a Tensor>,
    /// Dropout on the weights, in training.
    pub dropout: f32,
    /// How many tokens ask, at least one, from the first on; all where nothing is said. Keys and values are of all tokens.
    pub queries: Option<usize>,
    /// Whether the weights are wanted.
    pub capture: bool,
}

/// What attention gives.
pub struct AttentionOutput {
    /// `[batch, queries, heads · head width]`.
    pub output: Tensor,
    /// After softmax, before dropout: `[batch, heads, queries, tokens]`. Present if captured. While recording it is on the
    /// tape: gradients flow to it from the output and from whatever else is computed of it, and on to `qkv`.
    pub weights: Option<Tensor>,
}

/// Shapes and operands of one call, owned so that backward can keep them.
#[derive(Clone)]
struct Problem {
    qkv: Tensor,
    key_mask: Option<Tensor>,
    bias: Option<Tensor>,
    batch: usize,
    tokens: usize,
    queries: usize,
    heads: usize,
    width: usize,
    scale: f32,
    dropout: Option<(u64, f32)>,
}

impl Context<'_> {
    /// Self-attention of packed `qkv`, `[batch, tokens, 3 · heads · head width]`: queries, then keys, then values, each
    /// head after head.
    pub fn attention(&self, qkv: &Tensor, call: Attention<'_>) -> AttentionOutput {
        let [batch, tokens, packed] = qkv.shape()[..] else {
            panic!("packed qkv is [batch, tokens, …], not {:?}", qkv.shape())
        };
        let width = packed / (3 * call.heads);
        assert_eq!(packed, 3 * call.heads * width, "{packed} does not divide into 3 × {} heads", call.heads);
        if let Some(mask) = call.key_mask {
            assert_eq!(mask.shape()[..], [batch, tokens], "key mask");
        }
        if let Some(bias) = call.bias {
            assert_eq!(bias.shape()[..], [call.heads, tokens, tokens], "attention bias");
        }
        let queries = call.queries.unwrap_or(tokens);
        assert!(queries.clamp(1, tokens.max(1)) == queries || tokens == 0, "{queries} of {tokens} tokens ask");
        let problem = Problem {
            qkv: qkv.clone(),
            key_mask: call.key_mask.cloned(),
            bias: call.bias.cloned(),
            batch,
            tokens,
            queries,
            heads: call.heads,
            width,
            scale: call.scale,
            dropout: if call.dropout > 0.0 { self.draw().map(|seed| (seed, call.dropout)) } else { None },
        };
        let needed = qkv.node.is_some() || call.bias.is_some_and(|bias| bias.node.is_some());
        let shape = [batch, queries, call.heads * width];
        if !call.capture {
            let output = Tensor::filled(self.device, shape, |out| forward(self.device, &problem, out, None));
            let output =
                self.record(output, needed, || Box::new(move |grad, gradients| backward(&problem, grad, gradients)));
            return AttentionOutput { output, weights: None };
        }
        let mut output = None;
        let weights = Tensor::filled(self.device, [batch, call.heads, queries, tokens], |weights| {
            output = Some(Tensor::filled(self.device, shape, |out| forward(self.device, &problem, out, Some(weights))));
        });
        let output = output.expect("made with the weights");
        if self.is_recording() && needed {
            return explicit::record(self, problem, output, weights);
        }
        AttentionOutput { output, weights: Some(weights) }
    }
}

impl Problem {
    fn stride(&self) -> usize {
        3 * self.heads * self.width
    }

    /// Where queries (0), keys (1) or values (2) of one head begin.
    fn start(&self, image: usize, head: usize, which: usize) -> usize {
        image * self.tokens * self.stride() + (which * self.heads + head) * self.width
    }

    /// Queries (0), keys (1) or values (2) of one head, from the first token on, `stride` apart.
    fn part(&self, image: usize, head: usize, which: usize) -> &[f32] {
        &self.qkv.values()[self.start(image, head, which)..]
    }

    /// Scores of one head.
    fn area(&self) -> usize {
        self.queries * self.tokens
    }

    /// The bias's gradient from that of all scores, `[batch, heads, queries, tokens]`, summed in a fixed order.
    fn bias_gradient(&self, device: &Cpu, scores: &[f32]) -> Tensor {
        Tensor::filled(device, [self.heads, self.tokens, self.tokens], |out| {
            out.fill(0.0);
            for image in scores.chunks_exact((self.heads * self.area()).max(1)) {
                let heads = image.chunks_exact(self.area()).zip(out.chunks_exact_mut(self.tokens * self.tokens));
                for (out, value) in heads.flat_map(|(head, out)| out.iter_mut().zip(head)) {
                    *out += value;
                }
            }
        })
    }

    fn keys(&self, image: usize, head: usize) -> Rhs<'_> {
        Rhs::Columns { data: self.part(image, head, 1), stride: self.stride() }
    }

    /// `rows` of scores from query `at` on, masked and biased, `stride` apart; `packed` are the packed keys. A stride of
    /// whole panels spares the edge. Gives what is left to scale them by: the whole scale where nothing was added, which
    /// spares a pass, or 1.
    fn scores(&self, device: &Cpu, at: At, rows: usize, packed: &[f32], (scores, stride): (&mut [f32], usize)) -> f32 {
        let queries = &self.part(at.image, at.head, 0)[at.query * self.stride()..];
        let gemm = Gemm {
            rows,
            columns: stride,
            depth: self.width,
            lhs: Lhs::Rows { data: queries, stride: self.stride() },
            norm: None,
            panels: Panels::F32(packed),
            epilogue: Epilogue::default(),
            accumulate: false,
        };
        gemm.run_serial(device.isa(), SharedMut::new(scores), 0, stride);
        if self.key_mask.is_none() && self.bias.is_none() && self.scale > 0.0 {
            return self.scale;
        }
        let mask = self.key_mask.as_ref().map(|mask| &mask.values()[at.image * self.tokens..][..self.tokens]);
        for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
            let scores = &mut scores[..self.tokens];
            let bias = self
                .bias
                .as_ref()
                .map(|bias| &bias.values()[(at.head * self.tokens + at.query + row) * self.tokens..][..self.tokens]);
            device.isa().run(Adjust { scores, scale: self.scale, bias, mask });
        }
        1.0
    }

    /// Which weights are dropped, as factors on one row.
    fn drop_row(&self, at: At, row: usize, weights: &mut [f32]) {
        if let Some((seed, rate)) = self.dropout {
            let first = ((at.image * self.heads + at.head) * self.tokens + at.query + row) * self.tokens;
            let keep = if rate < 1.0 { 1.0 / (1.0 - rate) } else { 0.0 };
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight *= if uniform(seed, (first + i) as u64) < rate { 0.0 } else { keep };
            }
        }
    }
}

/// One head of one image, from one query on.
#[derive(Clone, Copy)]
struct At {
    image: usize,
    head: usize,
    query: usize,
}

/// `scores · scale + bias + mask`.
struct Adjust<'a> {
    scores: &'a mut [f32],
    scale: f32,
    bias: Option<&'a [f32]>,
    mask: Option<&'a [f32]>,
}

impl Kernel for Adjust<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        math::scale_row(l, self.scores, self.scale);
        for row in [self.bias, self.mask].into_iter().flatten() {
            for (scores, row) in self.scores.chunks_mut(L::N).zip(row.chunks(L::N)) {
                let sum = l.add(l.load_part(scores), l.load_part(row));
                l.store_part(scores, sum);
            }
        }
    }
}

/// Exponentials of one scaled row and their sum.
struct Exponentials<'a>(&'a mut [f32], f32);

impl Kernel for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        math::exp_row(l, self.0, self.1)
    }
}

struct ScaleRow<'a>(&'a mut [f32], f32);

impl Kernel for ScaleRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        math::scale_row(l, self.0, self.1);
    }
}

thread_local! {
    static SCRATCH: RefCell<[Buffer; 6]> = RefCell::new(std::array::from_fn(|_| Buffer::zeros(0)));
}

fn grown(buffer: &mut Buffer, length: usize) -> &mut [f32] {
    buffer.set_len(length);
    buffer.as_mut_slice()
}

fn forward(device: &Cpu, problem: &Problem, out: &mut [f32], weights: Option<&mut [f32]>) {
    let &Problem { batch, tokens, queries: asking, heads, width, .. } = problem;
    let out = SharedMut::new(out);
    let weights = weights.map(SharedMut::new);
    // Queries are cut only where heads alone would leave threads idle: each part packs the keys and values again.
    let parts =
        (2 * device.threads()).div_ceil((batch * heads).max(1)).clamp(1, asking.div_ceil(4 * QUERY_ROWS).max(1));
    let small = batch * heads * asking * tokens * width < 100_000;
    let work = |task: usize| {
        let (pair, part) = (task / parts, task % parts);
        let (image, head) = (pair / heads, pair % heads);
        SCRATCH.with_borrow_mut(|[keys, values, scores, product, ..]| {
            let isa = device.isa();
            let keys = grown(keys, packed_len(isa, width, tokens));
            pack_rhs_serial(isa, problem.keys(image, head), width, tokens, keys);
            let values = grown(values, packed_len(isa, tokens, width));
            let rows = Rhs::Rows { data: problem.part(image, head, 2), stride: problem.stride() };
            pack_rhs_serial(isa, rows, tokens, width, values);
            // Rows of whole panels: no product has an edge, and no row shares a cache line.
            let stride = tokens.next_multiple_of(isa.panel());
            let scores = grown(scores, QUERY_ROWS * stride);
            let product = grown(product, QUERY_ROWS * width);
            let mut sums = [0.0f32; QUERY_ROWS];
            let queries = asking * part / parts..asking * (part + 1) / parts;
            for first in queries.clone().step_by(QUERY_ROWS) {
                let at = At { image, head, query: first };
                let rows = QUERY_ROWS.min(queries.end - first);
                let scale = problem.scores(device, at, rows, keys, (scores, stride));
                for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
                    let scores = &mut scores[..tokens];
                    sums[row] = isa.run(Exponentials(scores, scale));
                    if let Some(weights) = weights {
                        let start = ((image * heads + head) * asking + first + row) * tokens;
                        let weights = weights.part(start, tokens);
                        weights.copy_from_slice(scores);
                        isa.run(ScaleRow(weights, 1.0 / sums[row]));
                    }
                    problem.drop_row(at, row, scores);
                }
                let gemm = Gemm {
                    rows,
                    columns: width,
                    depth: tokens,
                    lhs: Lhs::Rows { data: scores, stride },
                    norm: None,
                    panels: Panels::F32(values),
                    epilogue: Epilogue::default(),
                    accumulate: false,
                };
                gemm.run_serial(isa, SharedMut::new(product), 0, width);
                for (row, product) in product.chunks_exact_mut(width).take(rows).enumerate() {
                    isa.run(ScaleRow(product, 1.0 / sums[row]));
                    let start = ((image * asking + first + row) * heads + head) * width;
                    out.part(start, width).copy_from_slice(product);
                }
            }
        });
    };
    if small {
        (0..batch * heads * parts).for_each(work);
    } else {
        device.parallel(batch * heads * parts, work);
    }
}

/// `dS = P ∘ (dP − rowsum(P ∘ dP))` on one row: `grad` holds dP and becomes dS.
struct SoftmaxPull<'a> {
    weights: &'a [f32],
    grad: &'a mut [f32],
    scale: f32,
}

impl Kernel for SoftmaxPull<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let inner = l.splat(math::inner(l, self.weights, self.grad));
        let scale = l.splat(self.scale);
        for (weights, grad) in self.weights.chunks(L::N).zip(self.grad.chunks_mut(L::N)) {
            let pulled = l.mul(l.load_part(weights), l.sub(l.load_part(grad), inner));
            l.store_part(grad, l.mul(pulled, scale));
        }
    }
}

/// A product of one task, its right operand packed into `panels` where it must be, written from an offset on in rows a stride
/// apart.
fn product(
    device: &Cpu,
    panels: &mut Buffer,
    (rows, depth, columns): (usize, usize, usize),
    lhs: Lhs<'_>,
    rhs: Rhs<'_>,
    (out, first, stride): (SharedMut<'_>, usize, usize),
) {
    let isa = device.isa();
    let panels = rhs.as_it_lies(isa, columns).unwrap_or_else(|| {
        let panels = grown(panels, packed_len(isa, depth, columns));
        pack_rhs_serial(isa, rhs, depth, columns, panels);
        Panels::F32(panels)
    });
    let epilogue = Epilogue::default();
    Gemm { rows, columns, depth, lhs, norm: None, panels, epilogue, accumulate: false }
        .run_serial(isa, out, first, stride);
}

/// Gradients of queries, keys and values, head by head; the weights are made again from queries and keys.
fn backward(problem: &Problem, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let &Problem { batch, tokens, queries, heads, width, .. } = problem;
    let area = problem.area();
    let device = gradients.device;
    let stride = problem.stride();
    let bias_node = problem.bias.as_ref().and_then(|bias| bias.node);
    // dS of every image, to be summed for the bias in a fixed order.
    let mut score_gradients = bias_node.map(|_| Buffer::zeros(batch * heads * area));
    let bias_out = score_gradients.as_mut().map(|buffer| SharedMut::new(buffer.as_mut_slice()));
    let input = Tensor::filled(device, problem.qkv.shape(), |out| {
        let out = SharedMut::new(out);
        device.parallel(batch * heads, |task| {
            let (image, head) = (task / heads, task % heads);
            let isa = device.isa();
            let start = |which: usize| problem.start(image, head, which);
            let grad_out = &grad.values()[(image * queries * heads + head) * width..];
            let grad_stride = heads * width;
            SCRATCH.with_borrow_mut(|[panels, weights, scores, dropped, ..]| {
                let weights = grown(weights, area);
                let scores = grown(scores, area);
                let mut product = |rows, depth, columns, lhs, rhs, c: SharedMut<'_>, first, c_stride| {
                    product(device, panels, (rows, depth, columns), lhs, rhs, (c, first, c_stride));
                };
                let at = At { image, head, query: 0 };
                let scale = {
                    let mut packed = vec![0.0; packed_len(isa, width, tokens)];
                    pack_rhs_serial(isa, problem.keys(image, head), width, tokens, &mut packed);
                    problem.scores(device, at, queries, &packed, (weights, tokens))
                };
                for row in weights.chunks_exact_mut(tokens) {
                    let sum = isa.run(Exponentials(row, scale));
                    isa.run(ScaleRow(row, 1.0 / sum));
                }
                // dV = droppedᵀ dO
                let dropped = if problem.dropout.is_some() {
                    let dropped = grown(dropped, area);
                    dropped.copy_from_slice(weights);
                    for (row, dropped) in dropped.chunks_exact_mut(tokens).enumerate() {
                        problem.drop_row(at, row, dropped);
                    }
                    &*dropped
                } else {
                    &*weights
                };
                let grad_rows = Rhs::Rows { data: grad_out, stride: grad_stride };
                let lhs = Lhs::Columns { data: dropped, stride: tokens };
                product(tokens, queries, width, lhs, grad_rows, out, start(2), stride);
                // dP = dO Vᵀ, dropped alike; dS from it
                let lhs = Lhs::Rows { data: grad_out, stride: grad_stride };
                let values = Rhs::Columns { data: problem.part(image, head, 2), stride };
                product(queries, width, tokens, lhs, values, SharedMut::new(scores), 0, tokens);
                for (row, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                    problem.drop_row(at, row, scores);
                    let weights = &weights[row * tokens..][..tokens];
                    isa.run(SoftmaxPull { weights, grad: scores, scale: 1.0 });
                }
                if let Some(bias) = bias_out {
                    bias.part(task * area, area).copy_from_slice(scores);
                }
                isa.run(ScaleRow(scores, problem.scale));
                // dQ = dS K, and nothing for what did not ask; dK = dSᵀ Q
                let keys = Rhs::Rows { data: problem.part(image, head, 1), stride };
                product(
                    queries,
                    tokens,
                    width,
                    Lhs::Rows { data: scores, stride: tokens },
                    keys,
                    out,
                    start(0),
                    stride,
                );
                for token in queries..tokens {
                    out.part(start(0) + token * stride, width).fill(0.0);
                }
                let asked = Rhs::Rows { data: problem.part(image, head, 0), stride };
                let lhs = Lhs::Columns { data: scores, stride: tokens };
                product(tokens, queries, width, lhs, asked, out, start(1), stride);
            });
        });
    });
    gradients.add(problem.qkv.node, |_| input);
    gradients.add(bias_node, |_| {
        problem.bias_gradient(device, score_gradients.as_ref().expect("made for the bias").as_slice())
    });
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    pub(super) const PLAIN: Attention<'static> = Attention {
        heads: 3,
        scale: 0.353_553_4,
        key_mask: None,
        bias: None,
        dropout: 0.0,
        queries: None,
        capture: false,
    };

    /// Attention as it is written in the paper, one number at a time.
    fn reference(qkv: &[f32], tokens: usize, heads: usize, width: usize, scale: f32) -> Vec<f32> {
        let at = |t: usize, which: usize, h: usize, d: usize| f64::from(qkv[((t * 3 + which) * heads + h) * width + d]);
        let mut out = Vec::new();
        for t in 0..tokens {
            for h in 0..heads {
                let scores: Vec<f64> = (0..tokens)
                    .map(|s| (0..width).map(|d| at(t, 0, h, d) * at(s, 1, h, d)).sum::<f64>() * f64::from(scale))
                    .collect();
                let top = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
                for d in 0..width {
                    let sum: f64 = (0..tokens).map(|s| (scores[s] - top).exp() / total * at(s, 2, h, d)).sum();
                    out.push(sum as f32);
                }
            }
        }
        out
    }

    #[test]
    fn equals_the_reference_over_odd_shapes() {
        for (tokens, heads, width) in [(1, 1, 1), (2, 3, 5), (29, 2, 24), (57, 1, 64), (131, 2, 33)] {
            let check = Check::new();
            let x = check.input(&[1, tokens, 3 * heads * width]);
            let y =
                check.run(std::slice::from_ref(&x), |cx, x| cx.attention(&x[0], Attention { heads, ..PLAIN }).output);
            for (y, expected) in y.values().iter().zip(reference(x.values(), tokens, heads, width, PLAIN.scale)) {
                assert!((y - expected).abs() < 2e-5, "{y} for {expected}");
            }
        }
    }

    #[test]
    fn equals_pytorch() {
        let golden = Golden::load("attention");
        let check = Check::new();
        check.against(&golden, &[golden.tensor("qkv")], &["qkv"], |cx, x| cx.attention(&x[0], PLAIN).output);
        let weights = check.run(&[golden.tensor("qkv")], |cx, x| {
            cx.attention(&x[0], Attention { capture: true, ..PLAIN }).weights.expect("captured")
        });
        golden.compare("weights", &weights);
    }

    #[test]
    fn equals_pytorch_with_a_mask() {
        let golden = Golden::load("attention_mask");
        let check = Check::new();
        let mask = golden.key_mask("mask");
        check.against(&golden, &[golden.tensor("qkv")], &["qkv"], |cx, x| {
            cx.attention(&x[0], Attention { key_mask: Some(&mask), ..PLAIN }).output
        });
    }

    #[test]
    fn equals_pytorch_with_a_bias_and_another_scale() {
        let golden = Golden::load("attention_bias");
        let check = Check::new();
        let scale = golden.scalar("scale");
        let inputs = [golden.tensor("qkv"), golden.tensor("bias")];
        check.against(&golden, &inputs, &["qkv", "bias"], |cx, x| {
            cx.attention(&x[0], Attention { bias: Some(&x[1]), scale, ..PLAIN }).output
        });
    }

    #[test]
    fn gradients_are_those_of_differences() {
        for (batch, tokens, heads, width) in [(2, 3, 2, 4), (1, 17, 1, 3)] {
            let check = Check::new();
            let inputs = [check.input(&[batch, tokens, 3 * heads * width]), check.input(&[heads, tokens, tokens])];
            check.differences(&inputs, |cx, x| {
                cx.attention(&x[0], Attention { heads, bias: Some(&x[1]), scale: 0.7, ..PLAIN }).output
            });
            check.differences_in_training(&inputs[..1], |cx, x| {
                cx.attention(&x[0], Attention { heads, dropout: 0.3, ..PLAIN }).output
            });
            check.differences(&inputs, |cx, x| {
                cx.attention(&x[0], Attention { heads, bias: Some(&x[1]), queries: Some(2), ..PLAIN }).output
            });
            check.differences_in_training(&inputs[..1], |cx, x| {
                cx.attention(&x[0], Attention { heads, dropout: 0.3, queries: Some(2), ..PLAIN }).output
            });
        }
    }

    #[test]
    fn what_few_tokens_ask_has_the_bits_of_what_all_ask() {
        let (tokens, heads, width) = (67, 3, 8);
        let check = Check::new();
        let inputs = [check.input(&[2, tokens, 3 * heads * width]), check.input(&[heads, tokens, tokens])];
        let ask = |queries, capture| {
            move |cx: &Context<'_>, x: &[Tensor]| {
                let call = Attention { bias: Some(&x[1]), queries, capture, ..PLAIN };
                let AttentionOutput { output, weights } = cx.attention(&x[0], call);
                weights.unwrap_or(output)
            }
        };
        let [all, all_weights] = [false, true].map(|capture| check.run(&inputs, ask(None, capture)));
        for asking in [1, 2, 30, tokens] {
            let [few, few_weights] = [false, true].map(|capture| check.run(&inputs, ask(Some(asking), capture)));
            assert_eq!(few.shape()[..], [2, asking, heads * width]);
            assert_eq!(few_weights.shape()[..], [2, heads, asking, tokens]);
            let first = |x: &Tensor, row: usize, rows: usize| -> Vec<f32> {
                x.values().chunks_exact(rows * row).flat_map(|x| &x[..asking * row]).copied().collect()
            };
            assert_eq!(few.values(), first(&all, heads * width, tokens));
            assert_eq!(few_weights.values(), first(&all_weights, tokens, tokens));
        }
    }

    #[test]
    fn capture_batch_and_threads_keep_the_bits() {
        let check = Check::new();
        let x = check.input(&[3, 61, 3 * 40]);
        let call = Attention { heads: 5, ..PLAIN };
        let plain = check.run(std::slice::from_ref(&x), |cx, x| cx.attention(&x[0], call).output);
        let captured = check
            .run(std::slice::from_ref(&x), |cx, x| cx.attention(&x[0], Attention { capture: true, ..call }).output);
        assert_eq!(plain.values(), captured.values());
        let serial = Check::with_threads(1);
        for (image, expected) in plain.values().chunks(61 * 40).enumerate() {
            let one = serial.tensor(&[1, 61, 120], &x.values()[image * 61 * 120..][..61 * 120]);
            let alone = serial.run(&[one], |cx, x| cx.attention(&x[0], call).output);
            assert_eq!(alone.values(), expected);
        }
    }
}
