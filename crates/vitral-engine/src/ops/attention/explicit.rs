//! Attention whose weights are a value on the tape: the output's backward gives the gradient of the weights, and theirs
//! that of queries, keys and bias. Explanation reads the gradient in between (arXiv:2103.15679).

use super::{At, AttentionOutput, Problem, SCRATCH, ScaleRow, SoftmaxPull, grown, product};
use crate::device::cpu::Cpu;
use crate::device::cpu::buffer::Buffer;
use crate::device::cpu::kernels::{Lhs, Rhs, SharedMut};
use crate::tape::{Context, Gradients};
use crate::tensor::Tensor;

/// Puts weights and output, both computed already, on the tape.
pub(super) fn record(cx: &Context<'_>, problem: Problem, output: Tensor, weights: Tensor) -> AttentionOutput {
    let (of_weights, values) = (problem.clone(), weights.clone());
    let weights = cx
        .record(weights, true, || Box::new(move |grad, gradients| pull_scores(&of_weights, &values, grad, gradients)));
    let used = weights.clone();
    let output =
        cx.record(output, true, || Box::new(move |grad, gradients| pull_products(&problem, &used, grad, gradients)));
    AttentionOutput { output, weights: Some(weights) }
}

/// Gradients of weights `dP = dO Vᵀ` and values `dV = Pᵀ dO`, with what dropout left of the weights.
fn pull_products(problem: &Problem, weights: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let &Problem { tokens, queries, heads, width, .. } = problem;
    let device = gradients.device;
    let (stride, area) = (problem.stride(), problem.area());
    let mut of_values = None;
    let of_weights = Tensor::filled(device, weights.shape(), |scores| {
        let scores = SharedMut::new(scores);
        of_values = Some(Tensor::filled(device, problem.qkv.shape(), |out| {
            out.fill(0.0);
            let out = SharedMut::new(out);
            each_head(device, problem, |task, image, head, panels, dropped| {
                let at = At { image, head, query: 0 };
                let own = &weights.values()[task * area..][..area];
                let own = if problem.dropout.is_some() {
                    let dropped = grown(dropped, area);
                    dropped.copy_from_slice(own);
                    for (row, dropped) in dropped.chunks_exact_mut(tokens).enumerate() {
                        problem.drop_row(at, row, dropped);
                    }
                    &*dropped
                } else {
                    own
                };
                let grad_stride = heads * width;
                let grad = &grad.values()[(image * queries * heads + head) * width..];
                let (lhs, rhs) =
                    (Lhs::Columns { data: own, stride: tokens }, Rhs::Rows { data: grad, stride: grad_stride });
                let place = problem.start(image, head, 2);
                product(device, panels, (tokens, queries, width), lhs, rhs, (out, place, stride));
                let lhs = Lhs::Rows { data: grad, stride: grad_stride };
                let rhs = Rhs::Columns { data: problem.part(image, head, 2), stride };
                product(device, panels, (queries, width, tokens), lhs, rhs, (scores, task * area, tokens));
                for row in 0..queries {
                    problem.drop_row(at, row, scores.part(task * area + row * tokens, tokens));
                }
            });
        }));
    });
    gradients.add(weights.node, |_| of_weights);
    gradients.add(problem.qkv.node, |_| of_values.expect("made with the gradient of the weights"));
}

/// Gradients of queries and keys, and of the bias, from that of the weights.
fn pull_scores(problem: &Problem, weights: &Tensor, grad: &Tensor, gradients: &mut Gradients<'_>) {
    let &Problem { batch, tokens, queries, heads, width, .. } = problem;
    let device = gradients.device;
    let (stride, area) = (problem.stride(), problem.area());
    let bias_node = problem.bias.as_ref().and_then(|bias| bias.node);
    let mut score_gradients = bias_node.map(|_| Buffer::zeros(batch * heads * area));
    let bias_out = score_gradients.as_mut().map(|buffer| SharedMut::new(buffer.as_mut_slice()));
    let of_qkv = Tensor::filled(device, problem.qkv.shape(), |out| {
        out.fill(0.0);
        let out = SharedMut::new(out);
        each_head(device, problem, |task, image, head, panels, scores| {
            let scores = grown(scores, area);
            scores.copy_from_slice(&grad.values()[task * area..][..area]);
            for (row, scores) in scores.chunks_exact_mut(tokens).enumerate() {
                let weights = &weights.values()[task * area + row * tokens..][..tokens];
                device.isa().run(SoftmaxPull { weights, grad: scores, scale: 1.0 });
            }
            if let Some(bias) = bias_out {
                bias.part(task * area, area).copy_from_slice(scores);
            }
            device.isa().run(ScaleRow(scores, problem.scale));
            let keys = Rhs::Rows { data: problem.part(image, head, 1), stride };
            let lhs = Lhs::Rows { data: scores, stride: tokens };
            product(device, panels, (queries, tokens, width), lhs, keys, (out, problem.start(image, head, 0), stride));
            let asked = Rhs::Rows { data: problem.part(image, head, 0), stride };
            let lhs = Lhs::Columns { data: scores, stride: tokens };
            product(device, panels, (tokens, queries, width), lhs, asked, (out, problem.start(image, head, 1), stride));
        });
    });
    gradients.add(problem.qkv.node, |_| of_qkv);
    gradients.add(bias_node, |_| {
        problem.bias_gradient(device, score_gradients.as_ref().expect("made for the bias").as_slice())
    });
}

/// Runs `work(task, image, head, panels, scratch)` for every head of every image.
fn each_head(
    device: &Cpu,
    problem: &Problem,
    work: impl Fn(usize, usize, usize, &mut Buffer, &mut Buffer) + Sync + Send,
) {
    device.parallel(problem.batch * problem.heads, |task| {
        SCRATCH.with_borrow_mut(|[panels, scratch, ..]| {
            work(task, task / problem.heads, task % problem.heads, panels, scratch);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Check, Golden};
    use super::super::Attention;
    use super::super::tests::PLAIN;
    use crate::arena::Declarations;
    use crate::tape::{Context, Observer};
    use crate::{Cpu, Parameters, Tensor};

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
        let parameters = Parameters::zeros(Declarations::default(), Cpu::with_threads(2));
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
    fn reference(qkv: &Tensor, upstream: &Tensor, heads: usize) -> Vec<f32> {
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
            for (found, expected) in weights.values().iter().zip(reference(&qkv, &upstream, heads)) {
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found}, not {expected}");
            }
            let parameters = Parameters::zeros(Declarations::default(), Cpu::with_threads(2));
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
    fn gradients_are_those_of_differences() {
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
    fn gradients_equal_pytorch() {
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
        let parameters = Parameters::zeros(Declarations::default(), Cpu::with_threads(2));
        let qkv = Check::new().input(&[2, 33, 3 * 3 * 8]);
        let context = Context::recording(&parameters);
        let qkv = context.watch(&qkv);
        let [captured, plain] =
            [true, false].map(|capture| context.attention(&qkv, Attention { capture, ..CAPTURED }).output);
        assert_eq!(captured.values(), plain.values());
    }
}
