//! Self-attention over tensors; the work is in the kernels.

use super::kernels::{self, Problem};
use super::{Cpu, pooling, values};
use crate::device::backend::{AttentionCall, AttentionOps};
use crate::tensor::Tensor;

impl AttentionOps for Cpu {
    fn attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>) {
        let &AttentionCall { batch, tokens, queries, heads, width, .. } = call;
        let (cpu, problem) = (&self.processor, Problem::new(call));
        let shape = [batch, queries, heads * width];
        let attention = if self.rounds_to_bf16() { kernels::attention_bf16 } else { kernels::attention };
        if !capture {
            return (self.tensor(shape, |out| attention(cpu, problem, out, None)), None);
        }
        let mut output = None;
        let weights = self.tensor([batch, heads, queries, tokens], |weights| {
            output = Some(self.tensor(shape, |out| attention(cpu, problem, out, Some(weights))));
        });
        (output.expect("made with the weights"), Some(weights))
    }

    fn attention_backward(&self, call: &AttentionCall, grad: &Tensor, bias: bool) -> (Tensor, Option<Tensor>) {
        let problem = Problem::new(call);
        let mut scores = bias.then(|| vec![0.0; call.batch * call.heads * call.area()]);
        let input = self.tensor(call.qkv.shape(), |out| {
            kernels::attention_backward(&self.processor, problem, values(grad), out, scores.as_deref_mut());
        });
        (input, scores.map(|scores| self.bias_gradient(call, &scores)))
    }

    fn attention_output_backward(&self, call: &AttentionCall, weights: &Tensor, grad: &Tensor) -> (Tensor, Tensor) {
        let problem = Problem::new(call);
        let mut of_values = None;
        let of_weights = self.tensor(weights.shape(), |of_weights| {
            of_values = Some(self.tensor(call.qkv.shape(), |out| {
                out.fill(0.0);
                kernels::output_backward(&self.processor, problem, values(weights), values(grad), (out, of_weights));
            }));
        });
        (of_weights, of_values.expect("made with the gradient of the weights"))
    }

    fn attention_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>) {
        let problem = Problem::new(call);
        let mut scores = bias.then(|| vec![0.0; call.batch * call.heads * call.area()]);
        let input = self.tensor(call.qkv.shape(), |out| {
            out.fill(0.0);
            let (weights, grad) = (values(weights), values(grad));
            kernels::weights_backward(&self.processor, problem, weights, grad, out, scores.as_deref_mut());
        });
        (input, scores.map(|scores| self.bias_gradient(call, &scores)))
    }

    fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> (Tensor, Tensor) {
        pooling::probe_attention(self, query, keys_values, heads, scale)
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
        pooling::probe_attention_backward(self, (query, keys_values), weights, grad, (heads, scale))
    }
}

impl Cpu {
    /// The bias's gradient from that of all scores, `[batch, heads, queries, tokens]`, summed in a fixed order.
    fn bias_gradient(&self, call: &AttentionCall, scores: &[f32]) -> Tensor {
        self.tensor([call.heads, call.tokens, call.tokens], |out| {
            out.fill(0.0);
            for image in scores.chunks_exact((call.heads * call.area()).max(1)) {
                let heads = image.chunks_exact(call.area()).zip(out.chunks_exact_mut(call.tokens * call.tokens));
                for (out, value) in heads.flat_map(|(head, out)| out.iter_mut().zip(head)) {
                    *out += value;
                }
            }
        })
    }
}
