//! Tokens to one vector: mean, maximum, and attention by a trained probe.

use super::tokens::extents;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Mean over the tokens from `first` on: `[batch, tokens, width]` to `[batch, width]`.
    ///
    /// # Panics
    /// If there are none.
    pub fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [_, tokens, _] = extents(x);
        assert!(first < tokens, "no tokens from {first} on, of {tokens}");
        let node = x.node;
        self.record(self.backend().mean_tokens(x, first), node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().mean_tokens_backward(grad, tokens, first));
            })
        })
    }

    /// Maximum over the tokens from `first` on: `[batch, tokens, width]` to `[batch, width]`. Where several are equal
    /// the gradient is shared among them, as PyTorch's `amax` does.
    ///
    /// # Panics
    /// If there are none.
    pub fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor {
        let [_, tokens, _] = extents(x);
        assert!(first < tokens, "no tokens from {first} on, of {tokens}");
        let output = self.backend().max_tokens(x, first);
        let (saved, top) = (x.clone(), output.clone());
        self.record(output, x.node.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(saved.node, |g| g.backend().max_tokens_backward(&saved, &top, grad, first));
            })
        })
    }

    /// Attention of one query to all tokens: `query` is `[heads · head width]`, `keys_values` is
    /// `[batch, tokens, 2 · heads · head width]`, keys first. Gives `[batch, heads · head width]`.
    ///
    /// # Panics
    /// If the query is of another width.
    pub fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> Tensor {
        let [_, _, both] = extents(keys_values);
        assert_eq!(query.shape().count(), both / 2, "a query of width {}, not {:?}", both / 2, query.shape());
        let (output, weights) = self.backend().probe_attention(query, keys_values, heads, scale);
        let (query, saved) = (query.clone(), keys_values.clone());
        let needed = query.node.is_some() || saved.node.is_some();
        self.record(output, needed, || {
            Box::new(move |grad, gradients| {
                let (of_query, of_both) =
                    gradients.backend().probe_attention_backward(&query, &saved, &weights, grad, heads, scale);
                gradients.add_made(saved.node, Some(of_both));
                gradients.add_made(query.node, Some(of_query));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn gradients_are_those_of_differences() {
        let check = Check::new();
        let x = check.input(&[2, 5, 6]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.mean_tokens(&x[0], 2));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.max_tokens(&x[0], 1));
        let inputs = [check.input(&[6]), check.input(&[2, 4, 12])];
        check.differences(&inputs, |cx, x| cx.probe_attention(&x[0], &x[1], 2, 0.6));
    }

    #[test]
    fn a_probe_is_one_query_of_attention() {
        let check = Check::new();
        let (query, both) = (check.input(&[6]), check.input(&[1, 4, 12]));
        let probed = check.run(&[query.clone(), both.clone()], |cx, x| cx.probe_attention(&x[0], &x[1], 2, 0.6));
        let mut packed = Vec::new();
        for both in both.values().chunks(12) {
            packed.extend_from_slice(&query.values());
            packed.extend_from_slice(both);
        }
        let attended = check.run(&[check.tensor(&[1, 4, 18], &packed)], |cx, x| {
            let call = super::super::Attention {
                heads: 2,
                scale: 0.6,
                key_mask: None,
                bias: None,
                dropout: 0.0,
                queries: None,
                capture: false,
            };
            cx.attention(&x[0], call).output
        });
        for (a, b) in probed.values().iter().zip(attended.values()) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
