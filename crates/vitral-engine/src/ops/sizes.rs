//! Every operation on every device against the reference device, at the sizes where a fast kernel goes another way: one
//! less and one more than a tile, widths that are no multiples of eight, several turns of a block. All of tokens and
//! feature maps, which a GPU may have in 16 bits.

use super::check::Check;
use super::{
    Attention, AxisWeights, ClassLoss, Convolution, Epilogue, Linear, Norm, NormKind, Padding, Relations, Rotation,
};
use crate::activation::Activation;
use crate::tape::Context;
use crate::tensor::Tensor;

const ACTIVATIONS: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Tanh,
];

/// Whole numbers with many equals, which 16 bits hold exactly.
fn whole(check: &Check, shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i * i * 7 % 11) as f32 - 5.0).collect();
    check.tensor(shape, &values)
}

fn norm(check: &mut Check, width: usize, kind: NormKind) -> Norm {
    let bias = (kind == NormKind::Layer).then(|| check.vector(width));
    Norm { weight: check.vector(width), bias, epsilon: 1e-5, kind }
}

#[test]
fn norms() {
    for width in [1, 8, 37, 40, 256, 264, 512, 768, 1001, 1024, 1280, 1536, 1544, 1792, 1800, 2048, 2056] {
        for kind in [NormKind::Layer, NormKind::Rms] {
            let mut check = Check::new();
            let norm = norm(&mut check, width, kind);
            // Rows of one value have no deviation.
            let norm = Norm { epsilon: if width == 1 { 0.5 } else { norm.epsilon }, ..norm };
            check.against_reference(&[check.input(&[3, 3, width])], |cx, x| cx.norm(&x[0], &norm));
        }
    }
}

#[test]
fn norms_of_many_rows_and_onto_what_is_there() {
    for (rows, width) in [(1060, 8), (160, 5), (9, 40)] {
        let mut check = Check::new();
        let norm = norm(&mut check, width, NormKind::Layer);
        let x = [check.input(&[2, rows, width])];
        check.against_reference(&x, |cx, x| cx.add(&x[0], &cx.norm(&x[0], &norm)));
    }
}

#[test]
fn norms_of_queries_and_keys() {
    for (heads, width) in [(3, 40), (2, 64), (3, 5), (1, 264)] {
        let mut check = Check::new();
        let [query, key] = [NormKind::Layer, NormKind::Rms].map(|kind| norm(&mut check, width, kind));
        let x = [check.input(&[2, 7, 3 * heads * width])];
        check.against_reference(&x, |cx, x| cx.norm_queries_and_keys(&x[0], heads, &query, &key));
        // Where another gradient is there already.
        check.against_reference(&x, |cx, x| cx.add(&cx.norm_queries_and_keys(&x[0], heads, &query, &key), &x[0]));
    }
}

#[test]
fn norms_of_channels() {
    for channels in [6, 24, 96] {
        let mut check = Check::new();
        let [weight, bias, mean] = [(); 3].map(|()| check.vector(channels));
        let x = [check.input(&[3, 5, 7, channels])];
        check.against_reference(&x, |cx, x| cx.group_norm(&x[0], weight, bias, 3, 1e-5));
        check.against_reference(&x, |cx, x| {
            // A variance is not negative.
            let norm = super::ChannelNorm { weight, bias, mean, variance: bias, epsilon: 20.0 };
            cx.batch_norm(&x[0], &norm)
        });
    }
}

#[test]
fn sums_of_columns() {
    for (rows, width) in [(1, 7), (1, 8), (15, 264), (16, 33), (17, 300), (2060, 8), (2060, 3)] {
        let mut check = Check::new();
        let (scale, bias) = (check.vector(width), check.vector(width));
        let x = [check.input(&[2, rows, width])];
        check.against_reference(&x, |cx, x| cx.add_row(&cx.layer_scale(&x[0], scale), bias));
    }
}

#[test]
fn sums_factors_and_non_linearities() {
    for shape in [[3, 5, 7], [2, 3, 16], [1, 1, 2], [2, 300, 2]] {
        let check = Check::new();
        let x = [check.input(&shape), check.input(&shape)];
        check.against_reference(&x, |cx, x| cx.add(&cx.scale(&x[0], 0.3), &x[1]));
        for activation in ACTIVATIONS {
            check.against_reference(&x[..1], |cx, x| cx.activation(&x[0], activation));
        }
        if shape[2] % 2 == 0 {
            for activation in ACTIVATIONS {
                check.against_reference(&x[..1], |cx, x| cx.gated(&x[0], activation));
            }
        }
    }
}

#[test]
fn linear_maps_and_what_follows_them() {
    for (columns, depth) in [(5, 7), (24, 16), (33, 8), (8, 33)] {
        let mut check = Check::new();
        let weight = check.matrix(columns, depth);
        let (bias, scale) = (Some(check.vector(columns)), Some(check.vector(columns)));
        let norm = norm(&mut check, depth, NormKind::Rms);
        let inputs = [check.input(&[2, 9, depth]), check.input(&[2, 9, columns])];
        for bias in [None, bias] {
            for scale in [None, scale] {
                for activation in std::iter::once(None).chain(ACTIVATIONS.map(Some)) {
                    for with_residual in [false, true] {
                        check.run(&inputs, |cx, x| {
                            let residual = with_residual.then_some(&x[1]);
                            let after = Epilogue { activation, scale, residual, ..Epilogue::default() };
                            cx.linear_with(&x[0], Some(&norm), Linear { weight, bias }, after)
                        });
                    }
                }
            }
        }
        check.against_reference(&inputs, |cx, x| {
            let after = Epilogue { scale, residual: Some(&x[1]), ..Epilogue::default() };
            cx.linear_with(&x[0], Some(&norm), Linear { weight, bias }, after)
        });
    }
}

#[test]
fn what_is_dropped() {
    for shape in [[3, 5, 8], [3, 5, 7], [2, 9, 24], [70, 1, 8]] {
        let check = Check::new();
        let x = [check.input(&shape)];
        for rate in [0.3, 1.0] {
            check.against_reference_in_training(&x, |cx, x| cx.dropout(&x[0], rate));
            check.against_reference_in_training(&x, |cx, x| cx.drop_path(&x[0], rate));
        }
        if shape[1] > 1 {
            check.against_reference_in_training(&x, |cx, x| cx.drop_tokens(&x[0], 1, 0.4));
        }
    }
}

#[test]
fn softmax() {
    for width in [1, 31, 255, 256, 257, 1000] {
        let check = Check::new();
        check.against_reference(&[check.input(&[2, 3, width])], |cx, x| cx.softmax(&x[0]));
        let mut values = check.input(&[4, width]).values();
        values[..width].fill(f32::NEG_INFINITY);
        values[2 * width - 1] = f32::NEG_INFINITY;
        values[3 * width - 1] = f32::NAN;
        values[3 * width..].fill(80.0);
        // All hidden but a number that is none.
        let mut hidden = vec![f32::NEG_INFINITY; width];
        hidden[width / 2] = f32::NAN;
        values.extend(hidden);
        check.run(&[check.tensor(&[5, width], &values)], |cx, x| cx.softmax(&x[0]));
    }
}

#[test]
fn tokens_chosen_joined_and_pooled() {
    for width in [8, 5, 264] {
        let mut check = Check::new();
        let learned = [check.vector(width), check.plain(&[2, width])];
        let x = [whole(&check, &[3, 5, width]), check.input(&[5, width])];
        check.against_reference(&x[..1], |cx, x| cx.prepend_tokens(&x[0], &learned));
        check.against_reference(&x[..1], |cx, x| cx.tokens(&x[0], 2, 3));
        check.against_reference(&x[..1], |cx, x| cx.keep_tokens(&x[0], vec![4, 0, 0, 1, 1, 1, 2, 4, 3], 3));
        check.against_reference(&x, |cx, x| cx.add_positions(&x[0], &x[1]));
        check.against_reference(&x[..1], |cx, x| cx.mean_tokens(&x[0], 1));
        check.against_reference(&x[..1], |cx, x| cx.max_tokens(&x[0], 2));
        check.against_reference(&x[..1], |cx, x| cx.swap_last_two(&x[0]));
        let mut values = x[0].values();
        values[width] = f32::NAN;
        values[7 * width..9 * width].fill(f32::NEG_INFINITY);
        check.run(&[check.tensor(&[3, 5, width], &values)], |cx, x| cx.max_tokens(&x[0], 0));
        let rows = [check.input(&[3, 2, width]), check.input(&[3, 2, 8])];
        check.against_reference(&rows, |cx, x| cx.side_by_side(&x[0], &x[1]));
    }
    for [rows, columns] in [[31, 33], [32, 32], [33, 65], [1, 70]] {
        let check = Check::new();
        check.against_reference(&[check.input(&[2, rows, columns])], |cx, x| cx.swap_last_two(&x[0]));
    }
}

#[test]
fn positions() {
    for (prefix, tokens, heads, pairs) in [(1, 6, 3, 4), (0, 3, 1, 32), (2, 5, 2, 9)] {
        let mut check = Check::new();
        let angles: Vec<f32> = (0..tokens * pairs).map(|i| 0.37 * i as f32).collect();
        let rotation = Rotation::new(prefix, pairs, &angles);
        let width = heads * 2 * pairs;
        let x = [check.input(&[2, prefix + tokens, 3 * width])];
        check.against_reference(&x, |cx, x| cx.rotate_queries_and_keys(&x[0], &rotation));
        let (query, value) = (check.vector(width), check.vector(width));
        check.against_reference(&x, |cx, x| cx.add_query_value_bias(&x[0], query, value));
    }
    for tokens in [3, 16, 17] {
        let check = Check::new();
        let entries = 2 * tokens + 3;
        let indices = (0..tokens * tokens).map(|i| (i * 5 % (entries - 1)) as u32).collect();
        let relations = Relations::new(tokens, entries, indices);
        check.against_reference(&[check.input(&[entries, 3])], |cx, x| cx.relation_bias(&x[0], &relations));
    }
    for (from, to) in [([5, 7], [8, 3]), ([4, 4], [4, 4]), ([3, 6], [1, 20])] {
        let check = Check::new();
        let axes = [0, 1].map(|axis| AxisWeights::bicubic_antialias(from[axis], to[axis]));
        let x = [check.input(&[2, from[0] * from[1], 9])];
        check.against_reference(&x, |cx, x| cx.resample_grid(&x[0], &axes[0], &axes[1]));
    }
}

#[test]
fn feature_maps() {
    for (channels, outputs, kernel, stride, standardize) in
        [(8, 16, 3, 1, None), (3, 5, 3, 2, Some(1e-3)), (40, 24, 3, 1, Some(1e-5)), (9, 8, 1, 2, None)]
    {
        let mut check = Check::new();
        let weight = check.plain(&[outputs, channels, kernel, kernel]);
        for bias in [None, Some(check.vector(outputs))] {
            let convolution = Convolution { weight, bias, stride, padding: Padding::Same, standardize };
            let x = [check.input(&[3, 6, 5, channels])];
            check.against_reference(&x, |cx, x| cx.convolution(&x[0], &convolution));
        }
        let x = whole(&check, &[2, 7, 6, channels]);
        check.against_reference(std::slice::from_ref(&x), |cx, x| cx.max_pool(&x[0], 3, 2, Padding::Same));
        check.against_reference(std::slice::from_ref(&x), |cx, x| cx.max_pool(&x[0], 2, 1, Padding::Explicit(1)));
        check.against_reference(std::slice::from_ref(&x), |cx, x| cx.average_pool(&x[0], 3, 2));
        let mut values = x.values();
        values[channels * 9] = f32::NAN;
        values[channels * 17 + 1] = f32::NEG_INFINITY;
        check.run(&[check.tensor(&[2, 7, 6, channels], &values)], |cx, x| cx.max_pool(&x[0], 3, 2, Padding::Same));
    }
}

#[test]
fn patches() {
    for (patch, grid, size) in [([4, 8], [3, 3], [12, 24]), ([2, 3], [3, 3], [5, 7]), ([8, 8], [2, 2], [17, 23])] {
        let check = Check::new();
        let x = [check.input(&[2, 3, size[0], size[1]])];
        check.against_reference(&x, |cx, x| cx.patches(&x[0], patch, grid));
    }
}

#[test]
fn attention_with_all_that_it_may_have() {
    for (tokens, width, queries) in [(70, 64, None), (13, 32, Some(5)), (9, 5, None), (33, 24, Some(1))] {
        let check = Check::new();
        let heads = 2;
        let hidden = |i: usize| if i % 3 == 1 { f32::NEG_INFINITY } else { 0.0 };
        let mask = check.tensor(&[3, tokens], &(0..3 * tokens).map(hidden).collect::<Vec<_>>());
        let inputs = [check.input(&[3, tokens, 3 * heads * width]), check.input(&[heads, tokens, tokens]), mask];
        let plain = Attention {
            heads,
            scale: (width as f32).powf(-0.5),
            key_mask: None,
            bias: None,
            dropout: 0.0,
            queries,
            capture: false,
        };
        type Change = for<'a> fn(&'a [Tensor], Attention<'a>) -> Attention<'a>;
        let changes: [Change; 5] = [
            |x, call| Attention { bias: Some(&x[1]), ..call },
            |x, call| Attention { key_mask: Some(&x[2]), ..call },
            |_, call| Attention { dropout: 0.3, ..call },
            |x, call| Attention { dropout: 0.3, bias: Some(&x[1]), key_mask: Some(&x[2]), ..call },
            |x, call| Attention { dropout: 0.3, bias: Some(&x[1]), capture: true, ..call },
        ];
        for change in changes {
            // A mask is given, not learned.
            let attended = |cx: &Context<'_>, x: &[Tensor]| {
                let fixed = x[2].detached();
                let x = [x[0].clone(), x[1].clone(), fixed];
                cx.attention(&x[0], change(&x, plain)).output
            };
            check.against_reference_in_training(&inputs, attended);
        }
    }
}

#[test]
fn losses() {
    for classes in [1, 3, 255, 256, 257, 1000] {
        let check = Check::new();
        let logits = check.input(&[3, classes]);
        let targets: Vec<f32> = check.input(&[3, classes]).values().iter().map(|x| x.abs() / classes as f32).collect();
        let inputs = [logits, check.tensor(&[3, classes], &targets)];
        check.against_reference(&inputs[..], |cx, x| cx.cross_entropy(&x[0], &x[1]));
        check.against_reference(&inputs[..], |cx, x| cx.binary_cross_entropy(&x[0], &x[1]));
        check.against_reference(&inputs[..], |cx, x| cx.squared_error(&x[0], &x[1]));
        check.against_reference(&inputs[..], |cx, x| cx.kl_divergence(&x[0], &x[1], 2.5));
        let weights: Vec<f32> = check.input(&[classes]).values().iter().map(|x| x.abs()).collect();
        let weighted = [&inputs[..], &[check.tensor(&[classes], &weights)]].concat();
        let kinds = [
            ClassLoss::CrossEntropy,
            ClassLoss::Binary,
            ClassLoss::Focal { gamma: 2.0 },
            ClassLoss::BinaryFocal { gamma: 1.5 },
        ];
        for kind in kinds {
            check.against_reference(&weighted, |cx, x| cx.class_loss(kind, &x[0], &x[1], Some(&x[2])));
        }
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = inputs[0].values();
            values[classes - 1] = wrong;
            let poisoned = [check.tensor(&[3, classes], &values), inputs[1].clone()];
            check.run(&poisoned, |cx, x| cx.cross_entropy(&x[0], &x[1]));
            check.run(&poisoned, |cx, x| cx.binary_cross_entropy(&x[0], &x[1]));
            check.run(&poisoned, |cx, x| cx.kl_divergence(&x[0], &x[1], 2.5));
            for kind in kinds {
                check.run(&poisoned, |cx, x| cx.class_loss(kind, &x[0], &x[1], None));
            }
        }
    }
}

#[test]
fn the_greatest_of_rows_with_equals_and_what_is_no_number() {
    for classes in [1, 2, 255, 256, 257, 600] {
        let check = Check::new();
        let mut values = Vec::new();
        let row = |fill: f32, others: &[(usize, f32)]| {
            let mut row = vec![fill; classes];
            others.iter().for_each(|&(at, value)| row[at.min(classes - 1)] = value);
            row
        };
        values.extend(row(1.0, &[]));
        values.extend(row(f32::NAN, &[]));
        values.extend(row(f32::NEG_INFINITY, &[]));
        values.extend(row(0.0, &[(0, f32::NAN), (1, 5.0)]));
        values.extend(row(0.0, &[(1, f32::NAN), (255, 5.0), (256, 5.0), (599, 5.0)]));
        values.extend(row(f32::NEG_INFINITY, &[(0, f32::NAN), (599, f32::NEG_INFINITY)]));
        values.extend(row(f32::NAN, &[(1, f32::NEG_INFINITY), (300, -1.0)]));
        values.extend(row(-3.0, &[(1, f32::INFINITY), (256, f32::INFINITY)]));
        values.extend(row(0.0, &[(0, -0.0)]));
        let rows = values.len() / classes;
        let x = check.tensor(&[rows, classes], &values);
        check.run(std::slice::from_ref(&x), |cx, x| cx.one_hot_argmax(&x[0]));
        let labels = check.tensor(&[rows], &[0.0, 0.0, 0.0, 0.0, 255.0, 0.0, 300.0, 1.0, 0.0]);
        check.run(&[x, labels], |cx, x| cx.count_correct(&x[0], &x[1]));
    }
}

#[test]
fn a_probe_of_many_tokens() {
    for (tokens, heads, width) in [(5, 2, 3), (300, 2, 24), (257, 1, 70)] {
        let check = Check::new();
        let inputs = [check.input(&[heads * width]), check.input(&[2, tokens, 2 * heads * width])];
        check.against_reference(&inputs, |cx, x| cx.probe_attention(&x[0], &x[1], heads, 0.3));
    }
}

#[test]
fn tensors_of_another_precision() {
    use crate::precision::Precision;
    let Some(device) = super::check::gpu() else { return };
    let within = |precision| device.clone().with_precision(precision).expect("a GPU has it");
    let handles = [Precision::F32, Precision::Bf16, Precision::F16].map(within);
    let mut declarations = crate::arena::Declarations::default();
    declarations.declare("weight", &[24, 8], crate::arena::ParameterKind::Matrix);
    declarations.declare("bias", &[24], crate::arena::ParameterKind::Plain);
    let mut parameters = crate::arena::Parameters::zeros(declarations, device.clone());
    let ids: Vec<_> = parameters.declarations().ids().collect();
    let values = |count: usize| (0..count).map(|i| (i % 7) as f32 * 0.25 - 0.5).collect::<Vec<_>>();
    for &id in &ids {
        let count = parameters.declarations().spec(id).count();
        parameters.write(id, &values(count));
    }
    let linear = Linear { weight: ids[0], bias: Some(ids[1]) };
    for from in &handles {
        for to in &handles {
            // Numbers that 16 bits hold exactly, in the memory that one precision keeps tokens in.
            let crate::device::Device::Cuda(cuda) = from else { unreachable!() };
            let x = cuda.as_tokens(&from.upload([2, 5, 8], &values(80)).expect("no fault"));
            let cx = Context::inference(&parameters).on(to);
            let own = to.upload([2, 5, 8], &values(80)).expect("no fault");
            let call = Attention {
                heads: 1,
                scale: 0.5,
                key_mask: None,
                bias: None,
                dropout: 0.0,
                queries: None,
                capture: false,
            };
            let run = |x: &Tensor| {
                let qkv = cx.linear(x, linear);
                [
                    x.clone(),
                    cx.add(x, &own),
                    cx.tokens(x, 1, 3),
                    cx.side_by_side(x, &own),
                    cx.attention(&qkv, call).output,
                    cx.patches(&x.reshape([2, 5, 4, 2]), [2, 2], [2, 1]),
                ]
                .map(|tensor| tensor.values())
            };
            assert_eq!(run(&x), run(&own), "from {} to {}", from.precision(), to.precision());
        }
    }
}
