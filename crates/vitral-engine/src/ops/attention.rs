//! Multi-head self-attention straight from packed queries, keys and values.
//!
//! While recording, captured weights are a value on the tape like any other, so that their gradient can be had: the
//! output's backward gives the gradient of the weights, and theirs that of queries, keys and bias. Explanation reads
//! the gradient in between (arXiv:2103.15679). If the weights are not captured, the fused path runs, which recomputes
//! them in backward.

use std::sync::Arc;

use crate::device::backend::AttentionCall;
use crate::tape::Context;
use crate::tensor::Tensor;

/// The settings of one attention.
#[derive(Clone, Copy, Debug)]
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
    /// How many tokens ask, at least one, from the first on; all where nothing is said. Keys and values are of all
    /// tokens.
    pub queries: Option<usize>,
    /// Whether the weights are wanted.
    pub capture: bool,
}

/// What attention gives.
#[derive(Clone, Debug)]
pub struct AttentionOutput {
    /// `[batch, queries, heads · head width]`.
    pub output: Tensor,
    /// After softmax, before dropout: `[batch, heads, queries, tokens]`. Present if captured. While recording it is on
    /// the tape: gradients flow to it from the output and from whatever else is computed of it, and on to `qkv`.
    pub weights: Option<Tensor>,
}

impl Context<'_> {
    /// Self-attention of packed `qkv`, `[batch, tokens, 3 · heads · head width]`: queries, then keys, then values, each
    /// head after head.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn attention(&self, qkv: &Tensor, settings: Attention<'_>) -> AttentionOutput {
        let [batch, tokens, packed] = qkv.shape()[..] else {
            panic!("packed qkv is [batch, tokens, …], not {:?}", qkv.shape())
        };
        let width = packed / (3 * settings.heads);
        assert_eq!(packed, 3 * settings.heads * width, "{packed} does not divide into 3 × {} heads", settings.heads);
        if let Some(mask) = settings.key_mask {
            assert_eq!(mask.shape()[..], [batch, tokens], "key mask");
        }
        if let Some(bias) = settings.bias {
            assert_eq!(bias.shape()[..], [settings.heads, tokens, tokens], "attention bias");
        }
        let queries = settings.queries.unwrap_or(tokens);
        assert!(queries.clamp(1, tokens.max(1)) == queries || tokens == 0, "{queries} of {tokens} tokens ask");
        let call = AttentionCall {
            qkv: qkv.clone(),
            key_mask: settings.key_mask.cloned(),
            bias: settings.bias.cloned(),
            batch,
            tokens,
            queries,
            heads: settings.heads,
            width,
            scale: settings.scale,
            dropout: if settings.dropout > 0.0 { self.draw().map(|draw| (draw, settings.dropout)) } else { None },
            kept: self.is_recording().then(Arc::default),
        };
        let bias_node = settings.bias.and_then(|bias| bias.node);
        let needed = qkv.node.is_some() || bias_node.is_some();
        let (output, weights) = self.backend().attention(&call, settings.capture);
        match weights {
            Some(weights) if self.is_recording() && needed => self.record_with_weights(call, output, weights),
            Some(weights) => AttentionOutput { output, weights: Some(weights) },
            None => {
                let output = self.record(output, needed, || {
                    Box::new(move |grad, gradients| {
                        let bias = gradients.wants(bias_node);
                        let (of_qkv, of_bias) = gradients.backend().attention_backward(&call, grad, bias);
                        gradients.add_made(call.qkv.node, Some(of_qkv));
                        gradients.add_made(bias_node, of_bias);
                    })
                });
                AttentionOutput { output, weights: None }
            }
        }
    }

    /// Puts weights and output, both computed already, on the tape.
    fn record_with_weights(&self, call: AttentionCall, output: Tensor, weights: Tensor) -> AttentionOutput {
        let (of_weights, values) = (call.clone(), weights.clone());
        let weights = self.record(weights, true, || {
            Box::new(move |grad, gradients| {
                let bias_node = of_weights.bias.as_ref().and_then(|bias| bias.node);
                let bias = gradients.wants(bias_node);
                let backend = gradients.backend();
                let (of_qkv, of_bias) = backend.attention_weights_backward(&of_weights, &values, grad, bias);
                gradients.add_made(of_weights.qkv.node, Some(of_qkv));
                gradients.add_made(bias_node, of_bias);
            })
        });
        let used = weights.clone();
        let output = self.record(output, true, || {
            Box::new(move |grad, gradients| {
                let (of_weights, of_qkv) = gradients.backend().attention_output_backward(&call, &used, grad);
                gradients.add_made(used.node, Some(of_weights));
                gradients.add_made(call.qkv.node, Some(of_qkv));
            })
        });
        AttentionOutput { output, weights: Some(weights) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;
    use crate::arena::{Declarations, Parameters};
    use crate::device::Device;
    use crate::tape::Observer;

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
            for (y, expected) in y.values().iter().zip(reference(&x.values(), tokens, heads, width, PLAIN.scale)) {
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
        check.against(&golden, &[golden.tensor("qkv"), mask], &["qkv"], |cx, x| {
            cx.attention(&x[0], Attention { key_mask: Some(&x[1]), ..PLAIN }).output
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

    const CAPTURED: Attention<'static> = Attention { capture: true, ..PLAIN };

    struct Keep(std::sync::Mutex<Option<Tensor>>);

    impl Observer for Keep {
        fn wants(&self, name: &str) -> bool {
            name == "weights"
        }

        fn observe(&self, _: &str, tensor: &Tensor) {
            *self.0.lock().expect("whole") = Some(tensor.clone());
        }
    }

    /// Gradients of weights and of `qkv` where the output's is given.
    fn of_weights(qkv: &Tensor, upstream: &Tensor, call: Attention<'_>) -> (Tensor, Tensor) {
        let parameters = Parameters::zeros(Declarations::default(), Device::cpu(2));
        let keep = Keep(None.into());
        let context = Context::recording(&parameters).observed_by(&keep);
        let qkv = context.watch(qkv);
        let found = context.attention(&qkv, call);
        context.name(found.weights.as_ref().expect("captured"), || "weights".into());
        let gradients = context.backward_from(&found.output, upstream.clone(), None);
        let weights = keep.0.into_inner().expect("whole").expect("observed");
        let of = |x: &Tensor| gradients.of(x).expect("watched").clone();
        (of(&weights), of(&qkv))
    }

    /// `dP[query, key] = Σ dO[query] · V[key]`, one number at a time.
    fn weight_gradients(qkv: &Tensor, upstream: &Tensor, heads: usize) -> Vec<f32> {
        let [batch, tokens, packed] = qkv.shape()[..] else { panic!("packed") };
        let width = packed / 3 / heads;
        let mut found = Vec::new();
        for image in 0..batch {
            for head in 0..heads {
                for query in 0..tokens {
                    for key in 0..tokens {
                        let value = |d| qkv.values()[(image * tokens + key) * packed + (2 * heads + head) * width + d];
                        let grad = |d| upstream.values()[((image * tokens + query) * heads + head) * width + d];
                        found.push((0..width).map(|d| f64::from(grad(d)) * f64::from(value(d))).sum::<f64>() as f32);
                    }
                }
            }
        }
        found
    }

    #[test]
    fn gradients_of_weights_equal_the_reference_and_those_of_qkv_the_fused_path() {
        let check = Check::new();
        for (batch, tokens, heads, width) in [(1, 1, 1, 1), (2, 5, 3, 4), (1, 37, 2, 7), (2, 64, 1, 16)] {
            let qkv = check.input(&[batch, tokens, 3 * heads * width]);
            let upstream = check.input(&[batch, tokens, heads * width]);
            let (weights, found) = of_weights(&qkv, &upstream, Attention { heads, ..CAPTURED });
            for (found, expected) in weights.values().iter().zip(weight_gradients(&qkv, &upstream, heads)) {
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found}, not {expected}");
            }
            let parameters = Parameters::zeros(Declarations::default(), Device::cpu(2));
            let context = Context::recording(&parameters);
            let qkv = context.watch(&qkv);
            let fused = context.attention(&qkv, Attention { heads, capture: false, ..CAPTURED }).output;
            let gradients = context.backward_from(&fused, upstream, None);
            for (found, expected) in found.values().iter().zip(gradients.of(&qkv).expect("watched").values()) {
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found}, not {expected}");
            }
        }
    }

    #[test]
    fn gradients_of_captured_weights_are_those_of_differences() {
        let check = Check::new();
        let inputs = [check.input(&[2, 4, 3 * 2 * 3]), check.input(&[2, 4, 4])];
        let call = Attention { heads: 2, scale: 0.7, ..CAPTURED };
        check.differences(&inputs, |cx, x| cx.attention(&x[0], Attention { bias: Some(&x[1]), ..call }).output);
        check.differences(&inputs, |cx, x| {
            cx.attention(&x[0], Attention { bias: Some(&x[1]), queries: Some(1), ..call }).output
        });
        // The weights themselves as the result.
        check.differences(&inputs, |cx, x| {
            cx.attention(&x[0], Attention { bias: Some(&x[1]), ..call }).weights.expect("captured")
        });
        check.differences_in_training(&inputs[..1], |cx, x| {
            cx.attention(&x[0], Attention { dropout: 0.3, ..call }).output
        });
    }

    #[test]
    fn gradients_of_captured_weights_equal_pytorch() {
        for case in ["attention_weights", "attention_weights_mask"] {
            let golden = Golden::load(case);
            let mask = (case != "attention_weights").then(|| golden.key_mask("mask"));
            let call = Attention { key_mask: mask.as_ref(), ..CAPTURED };
            let (weights, qkv) = of_weights(&golden.tensor("qkv"), &golden.tensor("grad_y"), call);
            golden.compare("grad_weights", &weights);
            golden.compare("grad_qkv", &qkv);
        }
    }

    #[test]
    fn capture_keeps_the_bits_while_recording() {
        let parameters = Parameters::zeros(Declarations::default(), Device::cpu(2));
        let qkv = Check::new().input(&[2, 33, 3 * 3 * 8]);
        let context = Context::recording(&parameters);
        let qkv = context.watch(&qkv);
        let [captured, plain] =
            [true, false].map(|capture| context.attention(&qkv, Attention { capture, ..CAPTURED }).output);
        assert_eq!(captured.values(), plain.values());
    }

    #[test]
    fn every_width_of_heads_and_number_of_tokens_is_the_references() {
        let cases = [
            (32, 65, None),
            (64, 1, None),
            (64, 63, None),
            (64, 64, Some(1)),
            (64, 130, Some(70)),
            (64, 197, None),
            (64, 197, Some(1)),
            (72, 20, None),
            (80, 127, None),
            (96, 65, None),
            (128, 70, Some(66)),
        ];
        for (width, tokens, queries) in cases {
            let check = Check::new();
            let qkv = check.input(&[2, tokens, 3 * 2 * width]);
            let scale = (width as f32).powf(-0.5);
            check.against_reference(&[qkv], |cx, inputs| {
                let settings =
                    Attention { heads: 2, scale, key_mask: None, bias: None, dropout: 0.0, queries, capture: false };
                cx.attention(&inputs[0], settings).output
            });
        }
    }

    #[test]
    fn keys_that_are_masked_are_hidden_whatever_the_width() {
        for (width, tokens) in [(64, 70), (32, 200)] {
            let check = Check::new();
            let qkv = check.input(&[2, tokens, 3 * 2 * width]);
            let hidden = |i: usize| if i % 3 == 1 || i / tokens == 1 { f32::NEG_INFINITY } else { 0.0 };
            let mask = check.tensor(&[2, tokens], &(0..2 * tokens).map(hidden).collect::<Vec<_>>());
            check.run(&[qkv, mask], |cx, inputs| {
                let settings = Attention {
                    heads: 2,
                    scale: 0.2,
                    key_mask: Some(&inputs[1]),
                    bias: None,
                    dropout: 0.0,
                    queries: None,
                    capture: false,
                };
                cx.attention(&inputs[0], settings).output
            });
        }
    }
}
