//! Attention: fused where tokens are in 16 bits and heads are of a usual width, in plain steps otherwise.

use super::api::driver::Grid;
use super::launch::{Arg, Source, rows, spread};
use super::memory::{Element, Memory};
use super::{Cuda, stored};
use crate::device::backend::{AttentionCall, AttentionOps};
use crate::tensor::Tensor;

/// Widths of heads that the fused kernels are made for.
const WIDTHS: [usize; 5] = [32, 64, 80, 96, 128];

/// Fewer blocks than this leave parts of a large card idle.
const ENOUGH_BLOCKS: usize = 264;

/// Warps of a fused block, 16 queries each: of four and seven the number that leaves fewer rows of the last tiles idle; four
/// where there is little to do, so that all of the card does it.
fn warps(call: &AttentionCall) -> usize {
    let padded = |rows: usize| call.queries.next_multiple_of(rows) * call.tokens.next_multiple_of(rows);
    let blocks = call.queries.div_ceil(112) * call.heads * call.batch;
    if call.width <= 64 && padded(112) < padded(64) && blocks >= ENOUGH_BLOCKS { 7 } else { 4 }
}

impl Cuda {
    /// Whether the fused kernels do it.
    fn is_fused(&self, call: &AttentionCall, capture: bool) -> bool {
        let plain = capture || call.bias.is_some() || call.dropout.is_some();
        let fits = 12 * 64 * (call.width + 8) + 1024 <= self.inner.driver.shared_memory;
        self.is_half() && stored(&call.qkv).element == self.operand() && WIDTHS.contains(&call.width) && !plain && fits
    }

    /// The output, and for every query the logarithm of the sum of its exponentials.
    fn fused_attention(&self, call: &AttentionCall) -> (Tensor, Memory) {
        let shape = [call.batch, call.queries, call.heads * call.width];
        let out = self.allocate(self.operand(), shape.iter().product());
        let totals = self.allocate(Element::F32, call.batch * call.heads * call.queries);
        let mask = call.key_mask.as_ref().map(|mask| self.wide(stored(mask)));
        let warps = warps(call);
        let rows = 16 * warps;
        let grid = Grid {
            blocks: [call.queries.div_ceil(rows) * call.heads * call.batch, 1, 1],
            threads: 32 * warps as u32,
            shared: 2 * 4 * rows * (call.width + 8),
        };
        let arguments = [
            Arg::Of(stored(&call.qkv)),
            Arg::Maybe(mask.as_ref()),
            Arg::Of(&out),
            Arg::Of(&totals),
            Arg::Int(call.tokens),
            Arg::Int(call.queries),
            Arg::Int(call.heads),
            Arg::Float(call.scale),
        ];
        self.launch(Source::Attention, &format!("attention_{}_{warps}", call.width), grid, &arguments);
        (Cuda::tensor(shape, out), totals)
    }

    fn fused_attention_backward(&self, call: &AttentionCall, grad: &Tensor) -> Tensor {
        let kept = call.kept.as_ref().and_then(|kept| kept.get().cloned());
        let [output, totals] = kept.unwrap_or_else(|| {
            let (output, totals) = self.fused_attention(call);
            let shape = [totals.len()];
            [output, Cuda::tensor(shape, totals)]
        });
        let grad = self.narrow(stored(grad));
        let (queries, heads, width) = (call.queries, call.heads, call.width);
        let count = call.batch * queries * heads;
        let inner = self.allocate(Element::F32, count);
        // As many threads a query as the kernel of this width has.
        let lanes = match width {
            80 => 2,
            32 | 96 => 4,
            _ => 8,
        };
        let arguments = [
            Arg::Of(stored(&output)),
            Arg::Of(&grad),
            Arg::Of(&inner),
            Arg::Int(queries),
            Arg::Int(heads),
            Arg::Count(count),
        ];
        self.launch(Source::Attention, &format!("attention_inner_{width}"), spread(count * lanes), &arguments);
        let qkv = stored(&call.qkv);
        let out = self.allocate(self.operand(), qkv.len());
        let arguments = [
            Arg::Of(qkv),
            Arg::Of(&grad),
            Arg::Of(stored(&totals)),
            Arg::Of(&inner),
            Arg::Of(&out),
            Arg::Int(call.tokens),
            Arg::Int(queries),
            Arg::Int(heads),
            Arg::Float(call.scale),
        ];
        let tile = 2 * 64 * (width + 8);
        let blocks = [call.tokens.div_ceil(64) * heads * call.batch, 1, 1];
        let grid = |shared| Grid { blocks, threads: 128, shared };
        let name = format!("attention_keys_backward_{width}");
        self.launch(Source::Attention, &name, grid(6 * tile + 1024), &arguments);
        let name = format!("attention_queries_backward_{width}");
        self.launch(Source::Attention, &name, grid(4 * tile), &arguments);
        Cuda::tensor(call.qkv.shape(), out)
    }
}

impl AttentionOps for Cuda {
    fn attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>) {
        if !self.is_fused(call, capture) {
            return self.plain_attention(call, capture);
        }
        let (output, totals) = self.fused_attention(call);
        if let Some(kept) = &call.kept {
            let shape = [totals.len()];
            let _ = kept.set([output.clone(), Cuda::tensor(shape, totals)]);
        }
        (output, None)
    }

    fn attention_backward(&self, call: &AttentionCall, grad: &Tensor, bias: bool) -> (Tensor, Option<Tensor>) {
        // A mask changes the scores, which the fused backward pass does not know of.
        if self.is_fused(call, bias) && call.key_mask.is_none() {
            return (self.fused_attention_backward(call, grad), None);
        }
        self.plain_attention_backward(call, grad, bias)
    }

    fn attention_output_backward(&self, call: &AttentionCall, weights: &Tensor, grad: &Tensor) -> (Tensor, Tensor) {
        self.plain_output_backward(call, weights, grad)
    }

    fn attention_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>) {
        self.plain_weights_backward(call, weights, grad, bias)
    }

    fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> (Tensor, Tensor) {
        let [query, both] = [query, keys_values].map(|x| self.wide(stored(x)));
        let [batch, tokens, pair] = keys_values.shape()[..] else { panic!("keys and values are [batch, tokens, …]") };
        let width = pair / 2;
        let out = self.allocate(Element::F32, batch * width);
        let weights = self.allocate(Element::F32, batch * heads * tokens);
        let arguments = [
            Arg::Of(&query),
            Arg::Of(&both),
            Arg::Of(&out),
            Arg::Of(&weights),
            Arg::Int(tokens),
            Arg::Int(heads),
            Arg::Int(width / heads),
            Arg::Float(scale),
        ];
        self.launch(Source::Heads, "probe_attention", rows(batch * heads), &arguments);
        (Cuda::tensor([batch, width], out), Cuda::tensor([batch, heads, tokens], weights))
    }

    fn probe_attention_backward(
        &self,
        query: &Tensor,
        keys_values: &Tensor,
        weights: &Tensor,
        grad: &Tensor,
        heads: usize,
        scale: f32,
    ) -> (Tensor, Tensor) {
        let [q, both, weights, grad] = [query, keys_values, weights, grad].map(|x| self.wide(stored(x)));
        let [batch, tokens, pair] = keys_values.shape()[..] else { panic!("keys and values are [batch, tokens, …]") };
        let width = pair / 2;
        let of_queries = self.allocate(Element::F32, batch * width);
        let out = self.allocate(Element::F32, both.len());
        let scores = self.allocate(Element::F32, weights.len());
        let arguments = [
            Arg::Of(&q),
            Arg::Of(&both),
            Arg::Of(&weights),
            Arg::Of(&grad),
            Arg::Of(&of_queries),
            Arg::Of(&out),
            Arg::Of(&scores),
            Arg::Int(tokens),
            Arg::Int(heads),
            Arg::Int(width / heads),
            Arg::Float(scale),
        ];
        self.launch(Source::Heads, "probe_attention_backward", rows(batch * heads), &arguments);
        let of_query = self.allocate(Element::F32, width);
        self.column_sums(&of_queries, None, width, (&of_query, 0), false);
        let of_both = self.as_element(&out, stored(keys_values).element);
        (Cuda::tensor(query.shape(), of_query), Cuda::tensor(keys_values.shape(), of_both))
    }
}
