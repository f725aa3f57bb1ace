//! Attention in plain steps: one matrix a head, products by cuBLASLt, weights in memory. A few images at a time, so that
//! weights take a bounded room, but for those that are wanted.

use std::ops::Range;

use super::launch::{Arg, Source, rows, spread};
use super::matmul::Product;
use super::memory::{Element, Memory};
use super::{Cuda, stored};
use crate::device::backend::AttentionCall;
use crate::tensor::Tensor;

/// The most weights at a time, unless one image has more. Few in tests, where batches would never be taken in parts
/// otherwise.
const ROOM: usize = if cfg!(test) { 1 << 10 } else { 1 << 26 };
/// The most matrices in one product, of which cuBLASLt's kernels take no more than a grid's last extent has.
const MATRICES: usize = if cfg!(test) { 7 } else { 0xffff };

/// One part of a batch.
struct Part<'a> {
    call: &'a AttentionCall,
    images: Range<usize>,
}

impl Part<'_> {
    fn matrices(&self) -> usize {
        self.images.len() * self.call.heads
    }

    fn weights(&self) -> usize {
        self.matrices() * self.call.area()
    }

    /// Values of one image in a tensor.
    fn within(&self, each: usize) -> usize {
        self.images.start * each
    }

    /// What the kernels know of dropout: the key, the first image, the rate, and whether there is any.
    fn dropout(&self) -> [u64; 3] {
        match self.call.dropout {
            Some((draw, rate)) => {
                [draw.key, (draw.first_image + self.images.start) as u64, u64::from(rate.to_bits()) | 1 << 32]
            }
            None => [0; 3],
        }
    }
}

/// The parts of a batch.
fn parts(call: &AttentionCall) -> impl Iterator<Item = Part<'_>> {
    let step = (ROOM / (call.heads * call.area()).max(1)).min(MATRICES / call.heads.max(1)).max(1);
    (0..call.batch).step_by(step).map(move |start| Part { call, images: start..(start + step).min(call.batch) })
}

impl Cuda {
    /// Queries (0), keys (1) or values (2) of a part, `[images, heads, tokens, width]`, as products take them.
    fn split(&self, part: &Part<'_>, which: usize, tokens: usize) -> Memory {
        let call = part.call;
        self.split_of(part, stored(&call.qkv), call.tokens, tokens, 3, which)
    }

    /// Heads of a packed tensor `[batch, tokens, parts, heads, width]`, of the first tokens.
    fn split_of(
        &self,
        part: &Part<'_>,
        packed: &Memory,
        tokens: usize,
        wanted: usize,
        parts: usize,
        which: usize,
    ) -> Memory {
        let AttentionCall { heads, width, .. } = *part.call;
        let count = part.matrices() * tokens * width;
        let out = self.allocate(Element::F32, count);
        let arguments = [
            Arg::From(packed, part.within(tokens * parts * heads * width)),
            Arg::Of(&out),
            Arg::Count(count),
            Arg::Int(tokens),
            Arg::Int(heads),
            Arg::Int(width),
            Arg::Int(parts),
            Arg::Int(which),
        ];
        self.launch_for(packed.element, Source::Heads, "split_heads", spread(count), &arguments);
        if wanted == tokens {
            return out;
        }
        // Where only the first tokens ask, only their queries are multiplied.
        let few = self.allocate(Element::F32, part.matrices() * wanted * width);
        for matrix in 0..part.matrices() {
            let (to, from) = (few.address(matrix * wanted * width), out.address(matrix * tokens * width));
            self.inner.run(|driver| driver.copy(to, from, 4 * wanted * width));
        }
        few
    }

    /// The reverse of [`Cuda::split_of`], written into a packed tensor.
    fn merge(&self, part: &Part<'_>, x: &Memory, packed: &Memory, tokens: usize, parts: usize, which: usize) {
        let AttentionCall { heads, width, .. } = *part.call;
        let arguments = [
            Arg::Of(x),
            Arg::From(packed, part.within(tokens * parts * heads * width)),
            Arg::Count(x.len()),
            Arg::Int(tokens),
            Arg::Int(heads),
            Arg::Int(width),
            Arg::Int(parts),
            Arg::Int(which),
        ];
        self.launch_for(packed.element, Source::Heads, "merge_heads", spread(x.len()), &arguments);
    }

    /// Writes gradients of a part's queries, which may be of fewer tokens than there are, into a packed tensor.
    fn merge_queries(&self, part: &Part<'_>, x: Memory, packed: &Memory) {
        let AttentionCall { tokens, queries, width, .. } = *part.call;
        if queries == tokens {
            return self.merge(part, &x, packed, tokens, 3, 0);
        }
        let all = self.zeroed(Element::F32, part.matrices() * tokens * width);
        for matrix in 0..part.matrices() {
            let (to, from) = (all.address(matrix * tokens * width), x.address(matrix * queries * width));
            self.inner.run(|driver| driver.copy(to, from, 4 * queries * width));
        }
        self.merge(part, &all, packed, tokens, 3, 0);
    }

    /// One product for each head of each image.
    fn multiply_heads(
        &self,
        part: &Part<'_>,
        a: &Memory,
        b: &Memory,
        transposed: [bool; 2],
        extents: [usize; 3],
        alpha: f32,
    ) -> Memory {
        let c = self.allocate(Element::F32, part.matrices() * extents[0] * extents[1]);
        self.multiply(&Product { batch: part.matrices(), alpha, ..Product::new(a, b, &c, transposed, extents) });
        c
    }

    /// Weights of a part, and what dropout leaves of them: the same memory without dropout.
    fn weights_of(&self, part: &Part<'_>, queries: &Memory, keys: &Memory) -> (Memory, Memory) {
        let call = part.call;
        let extents = [call.queries, call.tokens, call.width];
        let weights = self.multiply_heads(part, queries, keys, [false, true], extents, 1.0);
        let used = call.dropout.map(|_| self.allocate(Element::F32, weights.len()));
        let mask = call.key_mask.as_ref().map(|mask| self.wide(stored(mask)));
        let bias = call.bias.as_ref().map(|bias| self.wide(stored(bias)));
        let dropout = part.dropout();
        let arguments = [
            Arg::Of(&weights),
            Arg::Maybe(used.as_ref()),
            mask.as_ref().map_or(Arg::Maybe(None), |mask| Arg::From(mask, part.within(call.tokens))),
            Arg::Maybe(bias.as_ref()),
            Arg::Int(call.heads),
            Arg::Int(call.queries),
            Arg::Int(call.tokens),
            Arg::Float(call.scale),
            Arg::Structure(&dropout),
        ];
        self.launch(Source::Heads, "attention_weights", rows(part.matrices() * call.queries), &arguments);
        let used = used.unwrap_or_else(|| weights.clone());
        (weights, used)
    }

    /// What dropout leaves of given weights, or of their gradients, in place.
    fn undrop(&self, part: &Part<'_>, x: &Memory) {
        let call = part.call;
        if call.dropout.is_none() {
            return;
        }
        let dropout = part.dropout();
        let arguments = [
            Arg::Of(x),
            Arg::Count(x.len()),
            Arg::Int(call.heads),
            Arg::Int(call.queries),
            Arg::Int(call.tokens),
            Arg::Structure(&dropout),
        ];
        self.launch(Source::Heads, "undrop", spread(x.len()), &arguments);
    }

    pub(super) fn plain_attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>) {
        let shape = [call.batch, call.queries, call.heads * call.width];
        let out = self.allocate(stored(&call.qkv).element, shape.iter().product());
        let all = capture.then(|| self.allocate(Element::F32, call.batch * call.heads * call.area()));
        for part in parts(call) {
            let (queries, keys) = (self.split(&part, 0, call.queries), self.split(&part, 1, call.tokens));
            let (weights, used) = self.weights_of(&part, &queries, &keys);
            if let Some(all) = &all {
                let to = all.address(part.within(call.heads * call.area()));
                self.inner.run(|driver| driver.copy(to, weights.address(0), weights.bytes()));
            }
            let values = self.split(&part, 2, call.tokens);
            let extents = [call.queries, call.width, call.tokens];
            let made = self.multiply_heads(&part, &used, &values, [false, false], extents, 1.0);
            self.merge(&part, &made, &out, call.queries, 1, 0);
        }
        let weights = all.map(|all| Cuda::tensor([call.batch, call.heads, call.queries, call.tokens], all));
        (Cuda::tensor(shape, out), weights)
    }

    /// From gradients of a part's weights, which become those of its scores, to those of queries and keys; adds to those
    /// of the bias.
    fn scores_backward(
        &self,
        part: &Part<'_>,
        weights: &Memory,
        grad: &Memory,
        out: &Memory,
        of_bias: Option<&Memory>,
    ) {
        let call = part.call;
        let arguments = [Arg::Of(weights), Arg::Of(grad), Arg::Int(call.tokens)];
        self.launch(Source::Heads, "weights_backward", rows(part.matrices() * call.queries), &arguments);
        if let Some(of_bias) = of_bias {
            let arguments = [
                Arg::Of(grad),
                Arg::Of(of_bias),
                Arg::Count(of_bias.len()),
                Arg::Int(part.images.len()),
                Arg::Int(call.heads),
                Arg::Int(call.queries),
                Arg::Int(call.tokens),
            ];
            self.launch(Source::Heads, "bias_gradient", spread(of_bias.len()), &arguments);
        }
        let keys = self.split(part, 1, call.tokens);
        let extents = [call.queries, call.width, call.tokens];
        let of_queries = self.multiply_heads(part, grad, &keys, [false, false], extents, call.scale);
        self.merge_queries(part, of_queries, out);
        let queries = self.split(part, 0, call.queries);
        let extents = [call.tokens, call.width, call.queries];
        let of_keys = self.multiply_heads(part, grad, &queries, [true, false], extents, call.scale);
        self.merge(part, &of_keys, out, call.tokens, 3, 1);
    }

    /// Gradients of a part's values, written to `out`, and of its weights.
    fn output_backward(&self, part: &Part<'_>, used: &Memory, grad: &Tensor, out: &Memory) -> Memory {
        let call = part.call;
        let upstream = self.split_of(part, stored(grad), call.queries, call.queries, 1, 0);
        let extents = [call.tokens, call.width, call.queries];
        let of_values = self.multiply_heads(part, used, &upstream, [true, false], extents, 1.0);
        self.merge(part, &of_values, out, call.tokens, 3, 2);
        let values = self.split(part, 2, call.tokens);
        let extents = [call.queries, call.tokens, call.width];
        let of_weights = self.multiply_heads(part, &upstream, &values, [false, true], extents, 1.0);
        self.undrop(part, &of_weights);
        of_weights
    }

    fn bias_room(&self, call: &AttentionCall, wanted: bool) -> Option<Memory> {
        wanted.then(|| self.zeroed(Element::F32, call.heads * call.tokens * call.tokens))
    }

    pub(super) fn plain_attention_backward(
        &self,
        call: &AttentionCall,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>) {
        let qkv = stored(&call.qkv);
        let (out, of_bias) = (self.allocate(qkv.element, qkv.len()), self.bias_room(call, bias));
        for part in parts(call) {
            let (queries, keys) = (self.split(&part, 0, call.queries), self.split(&part, 1, call.tokens));
            let (weights, used) = self.weights_of(&part, &queries, &keys);
            let of_weights = self.output_backward(&part, &used, grad, &out);
            self.scores_backward(&part, &weights, &of_weights, &out, of_bias.as_ref());
        }
        let of_bias = of_bias.map(|memory| Cuda::tensor([call.heads, call.tokens, call.tokens], memory));
        (Cuda::tensor(call.qkv.shape(), out), of_bias)
    }

    /// A part of a tensor of weights.
    fn part_of(&self, part: &Part<'_>, x: &Tensor) -> Memory {
        let memory = self.wide(stored(x));
        let out = self.allocate(Element::F32, part.weights());
        let from = memory.address(part.within(part.call.heads * part.call.area()));
        self.inner.run(|driver| driver.copy(out.address(0), from, out.bytes()));
        out
    }

    pub(super) fn plain_output_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
    ) -> (Tensor, Tensor) {
        let qkv = stored(&call.qkv);
        // Queries and keys have no gradient here.
        let out = self.zeroed(qkv.element, qkv.len());
        let all = self.allocate(Element::F32, weights.shape().count());
        for part in parts(call) {
            let used = self.part_of(&part, weights);
            self.undrop(&part, &used);
            let of_weights = self.output_backward(&part, &used, grad, &out);
            let to = all.address(part.within(call.heads * call.area()));
            self.inner.run(|driver| driver.copy(to, of_weights.address(0), of_weights.bytes()));
        }
        (Cuda::tensor(weights.shape(), all), Cuda::tensor(call.qkv.shape(), out))
    }

    pub(super) fn plain_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>) {
        let qkv = stored(&call.qkv);
        let (out, of_bias) = (self.zeroed(qkv.element, qkv.len()), self.bias_room(call, bias));
        for part in parts(call) {
            let (own, upstream) = (self.part_of(&part, weights), self.part_of(&part, grad));
            self.scores_backward(&part, &own, &upstream, &out, of_bias.as_ref());
        }
        let of_bias = of_bias.map(|memory| Cuda::tensor([call.heads, call.tokens, call.tokens], memory));
        (Cuda::tensor(call.qkv.shape(), out), of_bias)
    }
}
