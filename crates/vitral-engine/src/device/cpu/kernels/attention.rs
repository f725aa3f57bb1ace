//! Multi-head self-attention straight from packed queries, keys and values.
//!
//! One task is some queries of one head of one image: the head's keys and values are packed once, then a few rows of
//! scores at a time are made, exponentiated and multiplied with the values while they are in cache. No `tokens²` memory
//! is needed, and capturing the weights copies them on the way out without changing a bit of the result.

use std::cell::RefCell;

use super::epilogue::GemmEpilogue;
use super::gemm::Gemm;
use super::isa::Isa;
use super::lanes::{Kernel, Lanes};
use super::matrix_a::MatrixA;
use super::matrix_b::{MatrixB, Panels, pack_serial, packed_len};
use super::shared::DisjointMut;
use crate::device::backend::AttentionCall;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::math;
use crate::device::cpu::processor::Processor;
use crate::random::uniform;

/// About how many rows of scores are made at a time.
pub(super) const QUERY_ROWS: usize = 28;
/// The same in whole tiles, for the instruction set that makes the most of it.
const MOST_QUERY_ROWS: usize = 32;

/// Rows of scores made at a time: whole tiles.
fn query_rows(isa: Isa) -> usize {
    let tile = isa.tile_rows();
    (QUERY_ROWS + tile / 2) / tile * tile
}

/// One attention over slices.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(super) call: &'a AttentionCall,
    qkv: &'a [f32],
    key_mask: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

/// Where the gradients of all scores go, `[batch, heads, queries, tokens]`, if they are wanted.
pub(crate) type ScoreGradients<'a> = Option<&'a mut [f32]>;

impl<'a> Problem<'a> {
    pub(crate) fn new(call: &'a AttentionCall) -> Self {
        let values = |tensor: &'a crate::tensor::Tensor| tensor.storage().cpu().as_slice();
        let (key_mask, bias) = (call.key_mask.as_ref().map(values), call.bias.as_ref().map(values));
        Problem { call, qkv: values(&call.qkv), key_mask, bias }
    }

    /// Into how many parts the queries of a head are cut: only where heads alone would leave threads idle, because each part
    /// packs the keys and values again.
    pub(super) fn parts(&self, threads: usize) -> usize {
        let &AttentionCall { batch, heads, queries, .. } = self.call;
        (2 * threads).div_ceil((batch * heads).max(1)).clamp(1, queries.div_ceil(4 * QUERY_ROWS).max(1))
    }

    /// Queries (0), keys (1) or values (2) of one head, from the first token on, a stride apart.
    pub(super) fn part(&self, image: usize, head: usize, which: usize) -> &'a [f32] {
        &self.qkv[self.call.start(image, head, which)..]
    }

    fn keys(&self, image: usize, head: usize) -> MatrixB<'a> {
        MatrixB::Columns { data: self.part(image, head, 1), stride: self.call.stride() }
    }

    /// `rows` of scores from query `at` on, masked and biased, `stride` apart; `packed` are the packed keys. A stride of
    /// whole panels spares the edge. Gives what is left to scale them by: the whole scale where nothing was added,
    /// which spares a pass, or 1.
    fn scores(
        &self,
        cpu: &Processor,
        at: At,
        rows: usize,
        packed: &[f32],
        (scores, stride): (&mut [f32], usize),
    ) -> f32 {
        let AttentionCall { width, .. } = *self.call;
        let queries = &self.part(at.image, at.head, 0)[at.query * self.call.stride()..];
        let gemm = Gemm {
            rows,
            columns: stride,
            depth: width,
            a: MatrixA::Rows { data: queries, stride: self.call.stride() },
            norm: None,
            panels: Panels::F32(packed),
            epilogue: GemmEpilogue::default(),
            accumulate: false,
        };
        gemm.run_serial(cpu.isa(), scores, stride);
        self.adjust(cpu.isa(), at, rows, (scores, stride))
    }

    /// Masks and biases `rows` of scores from query `at` on, `stride` apart, if they are to be. Gives what is left to scale
    /// them by, as [`Problem::scores`].
    pub(super) fn adjust(&self, isa: Isa, at: At, rows: usize, (scores, stride): (&mut [f32], usize)) -> f32 {
        let AttentionCall { tokens, scale, .. } = *self.call;
        if self.key_mask.is_none() && self.bias.is_none() && scale > 0.0 {
            return scale;
        }
        let mask = self.key_mask.map(|mask| &mask[at.image * tokens..][..tokens]);
        for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
            let scores = &mut scores[..tokens];
            let bias = self.bias.map(|bias| &bias[(at.head * tokens + at.query + row) * tokens..][..tokens]);
            isa.run(Adjust { scores, scale, bias, mask });
        }
        1.0
    }

    /// All weights of one head with what dropout leaves of them, in `scratch` if there is any.
    fn dropped<'s>(&self, at: At, weights: &'s [f32], scratch: &'s mut Buffer) -> &'s [f32] {
        if self.call.dropout.is_none() {
            return weights;
        }
        let dropped = grown(scratch, weights.len());
        dropped.copy_from_slice(weights);
        for (row, dropped) in dropped.chunks_exact_mut(self.call.tokens).enumerate() {
            self.drop_row(at, row, dropped);
        }
        dropped
    }

    /// Which weights are dropped, as factors on one row.
    pub(super) fn drop_row(&self, at: At, row: usize, weights: &mut [f32]) {
        if let Some((draw, rate)) = self.call.dropout {
            let first = self.call.first_draw(draw, at.image, at.head, at.query + row);
            let keep = if rate < 1.0 { 1.0 / (1.0 - rate) } else { 0.0 };
            for (i, weight) in weights.iter_mut().enumerate() {
                *weight *= if uniform(draw.key, (first + i) as u64) < rate { 0.0 } else { keep };
            }
        }
    }
}

/// One head of one image, from one query on.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) image: usize,
    pub(super) head: usize,
    pub(super) query: usize,
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

pub(super) struct ScaleRow<'a>(pub(super) &'a mut [f32], pub(super) f32);

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

/// The output, `[batch, queries, heads · width]`, and the weights where they are wanted.
pub(crate) fn attention(cpu: &Processor, problem: Problem<'_>, out: &mut [f32], weights: Option<&mut [f32]>) {
    let &AttentionCall { batch, tokens, queries: asking, heads, width, .. } = problem.call;
    assert_eq!(out.len(), batch * asking * heads * width, "an output of another shape");
    let out = DisjointMut::new(out);
    let weights = weights.map(DisjointMut::new);
    let parts = problem.parts(cpu.threads());
    let small = batch * heads * asking * tokens * width < 100_000;
    let work = |task: usize| {
        let (pair, part) = (task / parts, task % parts);
        let (image, head) = (pair / heads, pair % heads);
        SCRATCH.with_borrow_mut(|[keys, values, scores, product, ..]| {
            let isa = cpu.isa();
            let keys = grown(keys, packed_len(isa, width, tokens));
            pack_serial(isa, problem.keys(image, head), width, tokens, keys);
            let values = grown(values, packed_len(isa, tokens, width));
            let rows = MatrixB::Rows { data: problem.part(image, head, 2), stride: problem.call.stride() };
            pack_serial(isa, rows, tokens, width, values);
            // Rows of whole panels: no product has an edge, and no row shares a cache line.
            let stride = tokens.next_multiple_of(isa.panel());
            let at_once = query_rows(isa);
            let scores = grown(scores, at_once * stride);
            let product = grown(product, at_once * width);
            let mut sums = [0.0f32; MOST_QUERY_ROWS];
            let queries = asking * part / parts..asking * (part + 1) / parts;
            for first in queries.clone().step_by(at_once) {
                let at = At { image, head, query: first };
                let rows = at_once.min(queries.end - first);
                let scale = problem.scores(cpu, at, rows, keys, (scores, stride));
                for (row, scores) in scores.chunks_exact_mut(stride).take(rows).enumerate() {
                    let scores = &mut scores[..tokens];
                    sums[row] = isa.run(Exponentials(scores, scale));
                    if let Some(weights) = weights {
                        let start = ((image * heads + head) * asking + first + row) * tokens;
                        // SAFETY: a row of weights belongs to one query of one head, which is in one task alone.
                        let weights = unsafe { weights.part(start, tokens) };
                        weights.copy_from_slice(scores);
                        isa.run(ScaleRow(weights, 1.0 / sums[row]));
                    }
                    problem.drop_row(at, row, scores);
                }
                let gemm = Gemm {
                    rows,
                    columns: width,
                    depth: tokens,
                    a: MatrixA::Rows { data: scores, stride },
                    norm: None,
                    panels: Panels::F32(values),
                    epilogue: GemmEpilogue::default(),
                    accumulate: false,
                };
                gemm.run_serial(isa, product, width);
                for (row, product) in product.chunks_exact_mut(width).take(rows).enumerate() {
                    isa.run(ScaleRow(product, 1.0 / sums[row]));
                    let start = ((image * asking + first + row) * heads + head) * width;
                    // SAFETY: one query's output of one head belongs to one task alone.
                    unsafe { out.part(start, width) }.copy_from_slice(product);
                }
            }
        });
    };
    if small {
        (0..batch * heads * parts).for_each(work);
    } else {
        cpu.parallel(batch * heads * parts, work);
    }
}

/// `dS = P ∘ (dP − rowsum(P ∘ dP))` on one row: `grad` holds dP and becomes dS.
struct SoftmaxBackward<'a> {
    weights: &'a [f32],
    grad: &'a mut [f32],
    scale: f32,
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let inner = l.splat(math::inner(l, self.weights, self.grad));
        let scale = l.splat(self.scale);
        for (weights, grad) in self.weights.chunks(L::N).zip(self.grad.chunks_mut(L::N)) {
            let gradient = l.mul(l.load_part(weights), l.sub(l.load_part(grad), inner));
            l.store_part(grad, l.mul(gradient, scale));
        }
    }
}

/// A product of one task, `B` packed into `panels` where it must be, written from an offset on in rows a stride apart.
///
/// # Safety
/// No other thread uses these rows and columns of the output meanwhile.
unsafe fn product(
    cpu: &Processor,
    panels: &mut Buffer,
    (rows, depth, columns): (usize, usize, usize),
    a: MatrixA<'_>,
    b: MatrixB<'_>,
    (out, first, stride): (DisjointMut<'_>, usize, usize),
) {
    let isa = cpu.isa();
    let panels = b.unpacked(isa, columns).unwrap_or_else(|| {
        let panels = grown(panels, packed_len(isa, depth, columns));
        pack_serial(isa, b, depth, columns, panels);
        Panels::F32(panels)
    });
    let epilogue = GemmEpilogue::default();
    let gemm = Gemm { rows, columns, depth, a, norm: None, panels, epilogue, accumulate: false };
    // SAFETY: as the caller promises.
    unsafe { gemm.run_shared(isa, out, first, stride) };
}

/// Gradients of queries, keys and values, head by head; the weights are made again from queries and keys.
pub(crate) fn attention_backward(
    cpu: &Processor,
    problem: Problem<'_>,
    grad: &[f32],
    out: &mut [f32],
    score_gradients: ScoreGradients<'_>,
) {
    let &AttentionCall { batch, tokens, queries, heads, width, .. } = problem.call;
    let (stride, area) = (problem.call.stride(), problem.call.area());
    assert_eq!(out.len(), problem.qkv.len(), "gradients of another shape");
    let (out, score_gradients) = (DisjointMut::new(out), score_gradients.map(DisjointMut::new));
    cpu.parallel(batch * heads, |task| {
        let (image, head) = (task / heads, task % heads);
        let isa = cpu.isa();
        let start = |which: usize| problem.call.start(image, head, which);
        let grad_out = &grad[(image * queries * heads + head) * width..];
        let grad_stride = heads * width;
        SCRATCH.with_borrow_mut(|[panels, weights, scores, dropped, ..]| {
            let weights = grown(weights, area);
            let scores = grown(scores, area);
            let mut product = |(rows, depth, columns), a, b, c: DisjointMut<'_>, first, c_stride| {
                // SAFETY: queries, keys and values of one head of one image belong to this task alone, and so does
                // scratch memory.
                unsafe { product(cpu, panels, (rows, depth, columns), a, b, (c, first, c_stride)) };
            };
            let at = At { image, head, query: 0 };
            let scale = {
                let mut packed = vec![0.0; packed_len(isa, width, tokens)];
                pack_serial(isa, problem.keys(image, head), width, tokens, &mut packed);
                problem.scores(cpu, at, queries, &packed, (weights, tokens))
            };
            for row in weights.chunks_exact_mut(tokens) {
                let sum = isa.run(Exponentials(row, scale));
                isa.run(ScaleRow(row, 1.0 / sum));
            }
            // dV = droppedᵀ dO
            let dropped = problem.dropped(at, weights, dropped);
            let grad_rows = MatrixB::Rows { data: grad_out, stride: grad_stride };
            let a = MatrixA::Columns { data: dropped, stride: tokens };
            product((tokens, queries, width), a, grad_rows, out, start(2), stride);
            // dP = dO Vᵀ, dropped alike; dS from it
            let a = MatrixA::Rows { data: grad_out, stride: grad_stride };
            let values = MatrixB::Columns { data: problem.part(image, head, 2), stride };
            product((queries, width, tokens), a, values, DisjointMut::new(scores), 0, tokens);
            for (row, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                problem.drop_row(at, row, scores);
                let weights = &weights[row * tokens..][..tokens];
                isa.run(SoftmaxBackward { weights, grad: scores, scale: 1.0 });
            }
            if let Some(all) = score_gradients {
                // SAFETY: the scores of one head of one image belong to this task alone.
                unsafe { all.part(task * area, area) }.copy_from_slice(scores);
            }
            isa.run(ScaleRow(scores, problem.call.scale));
            // dQ = dS K, and nothing for what did not ask; dK = dSᵀ Q
            let keys = MatrixB::Rows { data: problem.part(image, head, 1), stride };
            let a = MatrixA::Rows { data: scores, stride: tokens };
            product((queries, tokens, width), a, keys, out, start(0), stride);
            for token in queries..tokens {
                // SAFETY: as for the products.
                unsafe { out.part(start(0) + token * stride, width) }.fill(0.0);
            }
            let asked = MatrixB::Rows { data: problem.part(image, head, 0), stride };
            let a = MatrixA::Columns { data: scores, stride: tokens };
            product((tokens, queries, width), a, asked, out, start(1), stride);
        });
    });
}

/// Gradients of weights `dP = dO Vᵀ` and values `dV = Pᵀ dO`, with what dropout left of the weights. Writes the values'
/// part of `out` alone, which is laid out like `qkv`.
pub(crate) fn output_backward(
    cpu: &Processor,
    problem: Problem<'_>,
    weights: &[f32],
    grad: &[f32],
    (out, of_weights): (&mut [f32], &mut [f32]),
) {
    let &AttentionCall { batch, tokens, queries, heads, width, .. } = problem.call;
    let (stride, area) = (problem.call.stride(), problem.call.area());
    assert_eq!(out.len(), problem.qkv.len(), "gradients of another shape");
    let (out, of_weights) = (DisjointMut::new(out), DisjointMut::new(of_weights));
    cpu.parallel(batch * heads, |task| {
        let (image, head) = (task / heads, task % heads);
        SCRATCH.with_borrow_mut(|[panels, dropped, ..]| {
            let at = At { image, head, query: 0 };
            let own = problem.dropped(at, &weights[task * area..][..area], dropped);
            let grad_stride = heads * width;
            let grad = &grad[(image * queries * heads + head) * width..];
            let a = MatrixA::Columns { data: own, stride: tokens };
            let b = MatrixB::Rows { data: grad, stride: grad_stride };
            let place = problem.call.start(image, head, 2);
            // SAFETY: values and weights of one head of one image belong to this task alone.
            unsafe { product(cpu, panels, (tokens, queries, width), a, b, (out, place, stride)) };
            let a = MatrixA::Rows { data: grad, stride: grad_stride };
            let b = MatrixB::Columns { data: problem.part(image, head, 2), stride };
            // SAFETY: as above.
            unsafe { product(cpu, panels, (queries, width, tokens), a, b, (of_weights, task * area, tokens)) };
            for row in 0..queries {
                // SAFETY: as above.
                problem.drop_row(at, row, unsafe { of_weights.part(task * area + row * tokens, tokens) });
            }
        });
    });
}

/// Gradients of queries and keys, and of all scores, from that of the weights. Writes the parts of queries and keys of
/// `out` alone, which is laid out like `qkv`.
pub(crate) fn weights_backward(
    cpu: &Processor,
    problem: Problem<'_>,
    weights: &[f32],
    grad: &[f32],
    out: &mut [f32],
    score_gradients: ScoreGradients<'_>,
) {
    let &AttentionCall { batch, tokens, queries, heads, width, .. } = problem.call;
    let (stride, area) = (problem.call.stride(), problem.call.area());
    assert_eq!(out.len(), problem.qkv.len(), "gradients of another shape");
    let (out, score_gradients) = (DisjointMut::new(out), score_gradients.map(DisjointMut::new));
    cpu.parallel(batch * heads, |task| {
        let (image, head) = (task / heads, task % heads);
        SCRATCH.with_borrow_mut(|[panels, scores, ..]| {
            let scores = grown(scores, area);
            scores.copy_from_slice(&grad[task * area..][..area]);
            for (row, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let weights = &weights[task * area + row * tokens..][..tokens];
                cpu.isa().run(SoftmaxBackward { weights, grad: scores, scale: 1.0 });
            }
            if let Some(all) = score_gradients {
                // SAFETY: the scores of one head of one image belong to this task alone.
                unsafe { all.part(task * area, area) }.copy_from_slice(scores);
            }
            cpu.isa().run(ScaleRow(scores, problem.call.scale));
            let keys = MatrixB::Rows { data: problem.part(image, head, 1), stride };
            let a = MatrixA::Rows { data: scores, stride: tokens };
            let place = problem.call.start(image, head, 0);
            // SAFETY: queries and keys of one head of one image belong to this task alone.
            unsafe { product(cpu, panels, (queries, tokens, width), a, keys, (out, place, stride)) };
            let asked = MatrixB::Rows { data: problem.part(image, head, 0), stride };
            let a = MatrixA::Columns { data: scores, stride: tokens };
            let place = problem.call.start(image, head, 1);
            // SAFETY: as above.
            unsafe { product(cpu, panels, (tokens, queries, width), a, asked, (out, place, stride)) };
        });
    });
}
