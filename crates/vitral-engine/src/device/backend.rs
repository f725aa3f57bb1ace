//! Everything that a device must do, on one page.
//!
//! A device implements these traits, a method for each fused operation and one for its backward. Shapes are checked
//! before (`ops/`), so a method may rely on them. Nothing here waits for the device: methods return tensors that may be
//! computed later, and errors stick until the next download. Gradients of parameters are added to a flat buffer, at the
//! ranges that are wanted.

use std::ops::Range;
use std::sync::Arc;

use super::storage::{FlatBuffer, ParameterView};
use crate::activation::Activation;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A device: all of the traits below.
pub(crate) trait Backend:
    Memory + Products + Elements + Norms + AttentionOps + Positions + Tokens + Images + Losses + Updates
{
}

/// Where a parameter's gradient is added to, in the flat buffer of gradients; nothing where it is not wanted.
pub(crate) type GradientRange = Option<Range<usize>>;

// ------------------------------------------------------------------ memory

/// Making tensors, and copies of parts of them.
pub(crate) trait Memory {
    /// A tensor filled with one value.
    fn full(&self, shape: Shape, value: f32) -> Tensor;
    /// A parameter as a tensor of its own.
    fn parameter(&self, parameter: ParameterView<'_>) -> Tensor;
    /// A tensor put together of blocks of others, zero where no piece is placed.
    fn assemble(&self, shape: Shape, pieces: &[(Source<'_>, Blocks)]) -> Tensor;
    /// `[batch, rows, columns]` to `[batch, columns, rows]`.
    fn transpose(&self, x: &Tensor) -> Tensor;
    /// Columns of the innermost extent in another order, or some of them, or mirrored: `out[…, i] = x[…, columns[i]]`.
    fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor;
}

/// Where a piece comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Tensor(&'a Tensor),
    Parameter(ParameterView<'a>),
}

/// Runs of `length` values, counted in two levels: run `(i, j)` begins at `start + i · outer + j · inner`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    /// How many, of each level.
    pub(crate) counts: [usize; 2],
    pub(crate) length: usize,
    /// Start, outer step and inner step in the source.
    pub(crate) from: [usize; 3],
    /// The same in the result.
    pub(crate) to: [usize; 3],
}

impl Blocks {
    /// `count` runs at one level.
    pub(crate) fn runs(count: usize, length: usize, [from, from_step]: [usize; 2], [to, to_step]: [usize; 2]) -> Self {
        Blocks { counts: [count, 1], length, from: [from, from_step, 0], to: [to, to_step, 0] }
    }

    /// Where each run begins, in the source and in the result.
    pub(crate) fn starts(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.counts[0]).flat_map(move |i| {
            (0..self.counts[1]).map(move |j| {
                let at = |[start, outer, inner]: [usize; 3]| start + i * outer + j * inner;
                (at(self.from), at(self.to))
            })
        })
    }
}

// ------------------------------------------------------------------ products

/// Linear maps and convolutions.
pub(crate) trait Products {
    /// `residual + scale · activation(norm(x) Wᵀ + b)`, `[…, in]` to `[…, out]`.
    fn linear(&self, x: &Tensor, call: &LinearCall<'_>) -> Tensor;
    /// Gradients of `x Wᵀ + b`: adds those of the weight and the bias, gives that of `x` if it is wanted.
    fn linear_backward(&self, x: &Tensor, grad: &Tensor, call: LinearBackward<'_>) -> Option<Tensor>;
    /// A convolution of `[batch, height, width, channels]`.
    fn convolution(&self, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor;
    /// Gradients of a convolution.
    fn convolution_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        call: &ConvolutionCall<'_>,
        wanted: ConvolutionGradients<'_>,
    ) -> Option<Tensor>;
}

/// A linear map with the operations fused into it.
pub(crate) struct LinearCall<'a> {
    /// `[out, in]`.
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    pub(crate) norm: Option<NormCall<'a>>,
    pub(crate) activation: Option<Activation>,
    pub(crate) scale: Option<ParameterView<'a>>,
    pub(crate) residual: Option<&'a Tensor>,
    /// Of packed queries, keys and values: how many tokens of every sample have queries that somebody reads. The other
    /// queries may be anything finite.
    pub(crate) queries: Option<usize>,
}

/// What is wanted of a linear map's gradients.
pub(crate) struct LinearBackward<'a> {
    pub(crate) weight: ParameterView<'a>,
    /// As in [`LinearCall`]: the other queries have no gradient.
    pub(crate) queries: Option<usize>,
    pub(crate) gradients: Option<&'a mut FlatBuffer>,
    pub(crate) weight_range: GradientRange,
    pub(crate) bias_range: GradientRange,
    pub(crate) input: bool,
}

/// A convolution's operands and extents.
pub(crate) struct ConvolutionCall<'a> {
    /// `[out, in, height, width]`.
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    /// Epsilon of weight standardization, where it is used.
    pub(crate) standardize: Option<f32>,
    pub(crate) extents: ConvolutionExtents,
}

/// What is wanted of a convolution's gradients.
pub(crate) struct ConvolutionGradients<'a> {
    pub(crate) gradients: Option<&'a mut FlatBuffer>,
    pub(crate) weight_range: GradientRange,
    pub(crate) bias_range: GradientRange,
    pub(crate) input: bool,
}

/// Extents of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvolutionExtents {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Height and width of the output.
    pub(crate) grid: [usize; 2],
    /// Padding above and to the left.
    pub(crate) before: [usize; 2],
    pub(crate) stride: usize,
}

impl ConvolutionExtents {
    /// Numbers under a kernel.
    pub(crate) fn depth(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Places of the output, of all images.
    pub(crate) fn rows(&self) -> usize {
        self.batch * self.grid[0] * self.grid[1]
    }

    /// Values of one image of the input.
    pub(crate) fn sample(&self) -> usize {
        self.height * self.width * self.channels
    }
}

// ------------------------------------------------------------------ elements

/// One number at a time, or one row.
pub(crate) trait Elements {
    /// `a + b`.
    fn add(&self, a: &Tensor, b: &Tensor) -> Tensor;
    /// `factor · a + shift`.
    fn scale(&self, a: &Tensor, factor: f32) -> Tensor;
    /// Planes `[…, channels, height, width]`, each by its channel's `(factor, shift)`.
    fn affine_channels(&self, x: &Tensor, lines: &[(f32, f32)]) -> Tensor;
    /// Every row times a parameter `[width]`.
    fn multiply_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor;
    /// Adds `Σ rows x ∘ grad` to the gradient of [`Elements::multiply_row`]'s parameter.
    fn multiply_row_backward(&self, x: &Tensor, grad: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>);
    /// Every row plus a parameter `[width]`.
    fn add_row(&self, x: &Tensor, row: ParameterView<'_>) -> Tensor;
    /// Adds the rows of `x`, as many values each as the range holds, to a gradient.
    fn add_row_sums(&self, x: &Tensor, gradients: &mut FlatBuffer, range: Range<usize>);
    /// The sum of the rows of `x`, each of so many values.
    fn sum_rows(&self, x: &Tensor, width: usize) -> Tensor;
    /// Zeroes runs of `group` values with a probability, and scales the others so that the mean is unchanged.
    fn drop(&self, x: &Tensor, draw: Draw, group: usize, rate: f32) -> Tensor;
    /// A non-linearity of every number.
    fn activation(&self, x: &Tensor, activation: Activation) -> Tensor;
    /// `grad · f′(x)`.
    fn activation_backward(&self, x: &Tensor, grad: &Tensor, activation: Activation) -> Tensor;
    /// `activation(gate) · x` of rows that hold the gate first and `x` second.
    fn gated(&self, pair: &Tensor, activation: Activation) -> Tensor;
    /// The gradient of both halves.
    fn gated_backward(&self, pair: &Tensor, grad: &Tensor, activation: Activation) -> Tensor;
    /// Softmax of every row.
    fn softmax(&self, x: &Tensor) -> Tensor;
    /// The gradient of softmax, from its output.
    fn softmax_backward(&self, y: &Tensor, grad: &Tensor) -> Tensor;
}

/// One random operation: its key, and the index of the tensor's first image in the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    pub(crate) key: u64,
    pub(crate) first_image: usize,
}

// ------------------------------------------------------------------ norms

/// Norms.
pub(crate) trait Norms {
    /// Layer norm or RMS norm of segments of rows; columns outside all segments pass through.
    fn norm(&self, x: &Tensor, norms: &[(NormCall<'_>, Segments)]) -> Tensor;
    /// Gradients of the same; `ranges` are those of each norm's weight and bias.
    fn norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norms: &[(NormCall<'_>, Segments)],
        gradients: Option<&mut FlatBuffer>,
        ranges: &[[GradientRange; 2]],
    ) -> Tensor;
    /// Batch norm with its running statistics, over the innermost extent.
    fn batch_norm(&self, x: &Tensor, norm: &ChannelNormCall<'_>) -> Tensor;
    /// Gradients of the same: adds those of weight and bias, gives that of `x`.
    fn batch_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &ChannelNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        ranges: [GradientRange; 2],
    ) -> Tensor;
    /// Group norm of `[batch, …, channels]`.
    fn group_norm(&self, x: &Tensor, norm: &GroupNormCall<'_>) -> Tensor;
    /// Gradients of the same.
    fn group_norm_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        norm: &GroupNormCall<'_>,
        gradients: Option<&mut FlatBuffer>,
        ranges: [GradientRange; 2],
    ) -> Tensor;
}

/// A norm over the innermost extent.
#[derive(Clone, Copy)]
pub(crate) struct NormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: Option<ParameterView<'a>>,
    pub(crate) epsilon: f32,
    /// Root mean square only; no mean is taken away.
    pub(crate) rms: bool,
}

/// Segments of `width` values: `first, first + 1, … first + count − 1` of every group of `per_group`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    pub(crate) width: usize,
    pub(crate) per_group: usize,
    pub(crate) first: usize,
    pub(crate) count: usize,
}

impl Segments {
    /// Whole rows.
    pub(crate) fn whole(width: usize) -> Self {
        Segments { width, per_group: 1, first: 0, count: 1 }
    }

    /// Whether a segment is one of them.
    pub(crate) fn holds(&self, segment: usize) -> bool {
        (self.first..self.first + self.count).contains(&(segment % self.per_group))
    }
}

/// A norm of channels whose statistics are given.
pub(crate) struct ChannelNormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: ParameterView<'a>,
    pub(crate) mean: ParameterView<'a>,
    pub(crate) variance: ParameterView<'a>,
    pub(crate) epsilon: f32,
}

/// A group norm.
pub(crate) struct GroupNormCall<'a> {
    pub(crate) weight: ParameterView<'a>,
    pub(crate) bias: ParameterView<'a>,
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
}

// ------------------------------------------------------------------ attention

/// Self-attention of packed queries, keys and values, and attention by one learned query.
pub(crate) trait AttentionOps {
    /// The output `[batch, queries, heads · width]`, and the weights `[batch, heads, queries, tokens]` if they are
    /// wanted.
    fn attention(&self, call: &AttentionCall, capture: bool) -> (Tensor, Option<Tensor>);
    /// Gradients of `qkv` and of the bias if there is one.
    fn attention_backward(&self, call: &AttentionCall, grad: &Tensor, bias: bool) -> (Tensor, Option<Tensor>);
    /// From the output's gradient: that of the weights, and that of `qkv` as far as the values go.
    fn attention_output_backward(&self, call: &AttentionCall, weights: &Tensor, grad: &Tensor) -> (Tensor, Tensor);
    /// From the weights' gradient: that of `qkv` as far as queries and keys go, and that of the bias.
    fn attention_weights_backward(
        &self,
        call: &AttentionCall,
        weights: &Tensor,
        grad: &Tensor,
        bias: bool,
    ) -> (Tensor, Option<Tensor>);
    /// Attention of one query `[width]` to `[batch, tokens, 2 · width]`, keys first: `[batch, width]` and the weights.
    fn probe_attention(&self, query: &Tensor, keys_values: &Tensor, heads: usize, scale: f32) -> (Tensor, Tensor);
    /// Gradients of the query and of keys and values.
    fn probe_attention_backward(
        &self,
        query: &Tensor,
        keys_values: &Tensor,
        weights: &Tensor,
        grad: &Tensor,
        heads: usize,
        scale: f32,
    ) -> (Tensor, Tensor);
}

/// Shapes and operands of one attention, owned so that backward can keep them.
#[derive(Clone)]
pub(crate) struct AttentionCall {
    /// `[batch, tokens, 3 · heads · width]`.
    pub(crate) qkv: Tensor,
    /// `[batch, tokens]`, added to the scores of each key.
    pub(crate) key_mask: Option<Tensor>,
    /// `[heads, tokens, tokens]`, added to the scores.
    pub(crate) bias: Option<Tensor>,
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    /// Tokens that ask, from the first on.
    pub(crate) queries: usize,
    pub(crate) heads: usize,
    pub(crate) width: usize,
    pub(crate) scale: f32,
    /// Which weights are dropped, and at which rate. Element `(image, head, query, key)` of `[batch, heads, tokens,
    /// tokens]`.
    pub(crate) dropout: Option<(Draw, f32)>,
}

impl AttentionCall {
    /// The distance of two tokens of `qkv`.
    pub(crate) fn stride(&self) -> usize {
        3 * self.heads * self.width
    }

    /// Where queries (0), keys (1) or values (2) of one head begin.
    pub(crate) fn start(&self, image: usize, head: usize, which: usize) -> usize {
        image * self.tokens * self.stride() + (which * self.heads + head) * self.width
    }

    /// Scores of one head.
    pub(crate) fn area(&self) -> usize {
        self.queries * self.tokens
    }

    /// The place of the first weight of a query among all draws.
    pub(crate) fn first_draw(&self, draw: Draw, image: usize, head: usize, query: usize) -> usize {
        (((draw.first_image + image) * self.heads + head) * self.tokens + query) * self.tokens
    }
}

// ------------------------------------------------------------------ positions

/// Positions of tokens: rotary positions, relative positions, grids of positions.
pub(crate) trait Positions {
    /// Turns queries and keys in packed `qkv` `[batch, tokens, 3 · width]`, forwards or back.
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor;
    /// Adds biases to queries and values in packed `qkv`; keys have none.
    fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterView<'_>, value: ParameterView<'_>) -> Tensor;
    /// `[heads, tokens, tokens]` from a table `[entries, heads]` by the entry of every pair.
    fn relation_bias(&self, table: &Tensor, tokens: usize, indices: &Arc<[u32]>) -> Tensor;
    /// The gradient of the table.
    fn relation_bias_backward(&self, grad: &Tensor, entries: usize, indices: &Arc<[u32]>) -> Tensor;
    /// Resamples grids `[grids, rows · columns, width]` along both axes; transposed for gradients.
    fn resample(&self, grid: &Tensor, axes: [&AxisMatrix; 2], transposed: bool) -> Tensor;
}

/// By how much each token turns, for every pair of channels of a head.
#[derive(Clone, Debug)]
pub(crate) struct RotationTable {
    /// Tokens before the first that turns.
    pub(crate) prefix: usize,
    /// Pairs in a head.
    pub(crate) pairs: usize,
    /// `[tokens, pairs]`.
    pub(crate) cosines: Arc<[f32]>,
    /// `[tokens, pairs]`.
    pub(crate) sines: Arc<[f32]>,
}

impl RotationTable {
    /// Tokens that turn.
    pub(crate) fn tokens(&self) -> usize {
        self.cosines.len() / self.pairs
    }
}

/// A linear map of one axis: output `i` is the sum of `weights[i · from + j]` times input `j`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AxisMatrix {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// `[to, from]`.
    pub(crate) weights: Arc<[f32]>,
}

// ------------------------------------------------------------------ tokens

/// Choosing tokens and pooling them; all of `[batch, tokens, width]`.
pub(crate) trait Tokens {
    /// Of every sample the tokens whose indices are in `kept`, `count` for each sample in turn.
    fn gather_tokens(&self, x: &Tensor, kept: &Arc<[usize]>, count: usize) -> Tensor;
    /// The gradient of the same: rows are added back to where they came from.
    fn scatter_tokens(&self, grad: &Tensor, kept: &Arc<[usize]>, shape: Shape) -> Tensor;
    /// Adds one `[tokens, width]` to every sample.
    fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor;
    /// The mean over the tokens from `first` on.
    fn mean_tokens(&self, x: &Tensor, first: usize) -> Tensor;
    /// The gradient of the same, for `tokens` tokens.
    fn mean_tokens_backward(&self, grad: &Tensor, tokens: usize, first: usize) -> Tensor;
    /// The maximum over the tokens from `first` on.
    fn max_tokens(&self, x: &Tensor, first: usize) -> Tensor;
    /// The gradient of the same, shared among equal maxima.
    fn max_tokens_backward(&self, x: &Tensor, top: &Tensor, grad: &Tensor, first: usize) -> Tensor;
}

// ------------------------------------------------------------------ images

/// Images and feature maps.
pub(crate) trait Images {
    /// `[batch, channels, height, width]` to `[batch, patches, channels · height · width of a patch]`.
    fn patches(&self, images: &Tensor, layout: &PatchLayout) -> Tensor;
    /// The gradient of the same.
    fn patches_backward(&self, grad: &Tensor, layout: &PatchLayout) -> Tensor;
    /// The maximum over windows, and which place of each window won (−1 for none).
    fn max_pool(&self, x: &Tensor, windows: &Windows) -> (Tensor, Tensor);
    /// The gradient of the same.
    fn max_pool_backward(&self, grad: &Tensor, winners: &Tensor, windows: &Windows) -> Tensor;
    /// The mean over windows without padding.
    fn average_pool(&self, x: &Tensor, windows: &Windows) -> Tensor;
    /// The gradient of the same.
    fn average_pool_backward(&self, grad: &Tensor, windows: &Windows) -> Tensor;
}

/// Where the pixels of a patch row are in the image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PatchLayout {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) patch: [usize; 2],
    pub(crate) grid: [usize; 2],
}

impl PatchLayout {
    /// Values of a patch.
    pub(crate) fn row(&self) -> usize {
        self.channels * self.patch[0] * self.patch[1]
    }

    /// Whether the image divides into patches.
    pub(crate) fn is_whole(&self) -> bool {
        self.grid[0] * self.patch[0] == self.height && self.grid[1] * self.patch[1] == self.width
    }

    /// Calls `copy(offset in the images, offset in the patch matrix, count)` for every run of pixels of one row of
    /// patches. Pixels outside the image are left out.
    pub(crate) fn runs(&self, image: usize, row: usize, mut copy: impl FnMut(usize, usize, usize)) {
        let [patch_height, patch_width] = self.patch;
        for column in 0..self.grid[1] {
            let patch = (image * self.grid[0] + row) * self.grid[1] + column;
            for channel in 0..self.channels {
                for y in 0..patch_height {
                    let (pixel_y, pixel_x) = (row * patch_height + y, column * patch_width);
                    if pixel_y >= self.height || pixel_x >= self.width {
                        continue;
                    }
                    let source = ((image * self.channels + channel) * self.height + pixel_y) * self.width + pixel_x;
                    let target = patch * self.row() + (channel * patch_height + y) * patch_width;
                    copy(source, target, patch_width.min(self.width - pixel_x));
                }
            }
        }
    }
}

/// Windows over images `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) batch: usize,
    /// Height, width and channels.
    pub(crate) input: [usize; 3],
    pub(crate) output: [usize; 2],
    pub(crate) before: [usize; 2],
    pub(crate) size: usize,
    pub(crate) stride: usize,
}

impl Windows {
    pub(crate) fn channels(&self) -> usize {
        self.input[2]
    }

    /// Values of an image going in.
    pub(crate) fn inputs(&self) -> usize {
        self.input.iter().product()
    }

    /// Values of an image coming out.
    pub(crate) fn outputs(&self) -> usize {
        self.output[0] * self.output[1] * self.channels()
    }

    /// Calls `visit(output offset, input offset, place in the window)` for every pixel in every window of an image;
    /// offsets are of the first channel.
    #[inline(always)]
    pub(crate) fn visit(&self, mut visit: impl FnMut(usize, usize, u32)) {
        let ([height, width, channels], [above, left]) = (self.input, self.before);
        for y in 0..self.output[0] {
            for x in 0..self.output[1] {
                let output = (y * self.output[1] + x) * channels;
                for ky in 0..self.size {
                    for kx in 0..self.size {
                        let (py, px) = (y * self.stride + ky, x * self.stride + kx);
                        if (above..above + height).contains(&py) && (left..left + width).contains(&px) {
                            let input = ((py - above) * width + px - left) * channels;
                            visit(output, input, (ky * self.size + kx) as u32);
                        }
                    }
                }
            }
        }
    }
}

// ------------------------------------------------------------------ losses

/// Losses, as tensors of one value that stay on the device, and counts of correct answers.
pub(crate) trait Losses {
    /// The loss, a mean over the batch.
    fn loss(&self, loss: &LossCall) -> Tensor;
    /// The gradient of the logits.
    fn loss_backward(&self, loss: &LossCall, grad: &Tensor) -> Tensor;
    /// Distributions with all mass on the greatest number of each row, the first of equals.
    fn one_hot_argmax(&self, logits: &Tensor) -> Tensor;
    /// How many rows have their greatest number at their label, as a tensor of one number.
    fn count_correct(&self, logits: &Tensor, labels: &Tensor) -> Tensor;
}

/// A loss of `logits`, `[batch, classes]`, against a tensor of the same shape.
#[derive(Clone)]
pub(crate) struct LossCall {
    pub(crate) kind: LossKind,
    pub(crate) logits: Tensor,
    pub(crate) targets: Tensor,
}

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LossKind {
    /// `mean over samples of −Σ target · log softmax(logits)`.
    CrossEntropy,
    /// A mean over all values.
    BinaryCrossEntropy,
    /// Of the student's softmax from the teacher's, both at a temperature: targets are the teacher's logits.
    KlDivergence { temperature: f32 },
}

// ------------------------------------------------------------------ updates

/// What happens to the flat buffers of training.
pub(crate) trait Updates {
    /// Zeroes a buffer.
    fn clear(&self, buffer: &mut FlatBuffer);
    /// Adds one buffer to another.
    fn accumulate(&self, sums: &mut FlatBuffer, numbers: &FlatBuffer);
    /// Every number times a factor.
    fn scale_buffer(&self, buffer: &mut FlatBuffer, factor: f32);
    /// The Euclidean norm of all gradients, summed in a fixed order, as a tensor of one number; clips them on the way.
    fn clip(&self, gradients: &mut FlatBuffer, clip: Option<&ClipCall>, parameters: &FlatBuffer) -> Tensor;
    /// 1 if all values of all tensors are finite, else 0.
    fn all_finite(&self, values: &[&Tensor]) -> Tensor;
    /// One optimizer step, unless the gate holds 0.
    fn update(&self, call: &UpdateCall<'_>, buffers: UpdateBuffers<'_>, gate: &Tensor);
    /// `average += (1 − decay) · (parameters − average)`, unless the gate holds 0.
    fn ema_update(&self, average: &mut FlatBuffer, parameters: &FlatBuffer, decay: f32, gate: &Tensor);
}

/// How gradients are clipped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClipCall {
    /// All together to at most this norm.
    Norm(f32),
    /// Every number within ± this.
    Value(f32),
    /// Each unit, a run of values, to at most this fraction of the parameters\' own norm.
    Adaptive {
        share: f32,
        /// Ranges of the flat buffer, each with the length of its units.
        units: Vec<(Range<usize>, usize)>,
    },
}

/// An optimizer step.
pub(crate) struct UpdateCall<'a> {
    pub(crate) rule: UpdateRule,
    pub(crate) groups: &'a [UpdateGroup],
    pub(crate) learning_rate: f32,
    /// The step's number, from 1.
    pub(crate) step: u64,
}

/// The buffers of an optimizer step.
pub(crate) struct UpdateBuffers<'a> {
    pub(crate) parameters: &'a mut FlatBuffer,
    pub(crate) gradients: &'a FlatBuffer,
    /// First moment, or velocity.
    pub(crate) first: &'a mut FlatBuffer,
    /// Second moment; empty where none is kept.
    pub(crate) second: &'a mut FlatBuffer,
}

/// How parameters follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum UpdateRule {
    /// AdamW (arXiv:1711.05101), as PyTorch computes it: decay first, bias-corrected moments.
    Adamw {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Stochastic gradient descent with momentum, as PyTorch computes it: decay is added to the gradient.
    Sgd {
        /// Of the velocity.
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        nesterov: bool,
    },
    /// Lion (arXiv:2302.06675): the sign of an interpolated momentum.
    Lion {
        /// Interpolation for the update.
        beta1: f32,
        /// Decay of the momentum.
        beta2: f32,
    },
    /// LAMB (arXiv:1904.00962), as timm computes it: Adam's step of each decayed tensor, scaled to the tensor's own
    /// norm.
    Lamb {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Muon (arXiv:2502.16982): the momentum of a matrix, orthogonalized.
    Muon {
        /// Decay of the momentum.
        momentum: f32,
        /// Looks one step ahead (Nesterov).
        nesterov: bool,
        /// Whether steps are as large as AdamW's (`0.2 · √max(out, in)`), or Muon's own (`√max(1, out / in)`).
        match_adamw: bool,
    },
}

/// A run of the flat buffer that is stepped alike.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateGroup {
    /// Where in the flat buffer.
    pub range: Range<usize>,
    /// Weight decay.
    pub weight_decay: f32,
    /// Factor on the learning rate.
    pub learning_rate_scale: f32,
    /// What steps it, where that is not the rule of all.
    pub rule: Option<UpdateRule>,
    /// `[out, in]` where the group is one matrix, which Muon steps as a whole.
    pub matrix: Option<[usize; 2]>,
}
