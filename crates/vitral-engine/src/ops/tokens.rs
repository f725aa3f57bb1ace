//! Joining, selecting and adding to tokens.

use std::sync::Arc;

use crate::arena::ParameterId;
use crate::device::Device;
use crate::device::backend::{Blocks, Draw, Source};
use crate::random::mix;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Puts trained tokens before those of every sample: `[batch, tokens, width]` to `[batch, more, width]`. Each
    /// parameter holds one token `[width]` or several `[count, width]`.
    pub fn prepend_tokens(&self, x: &Tensor, learned: &[ParameterId]) -> Tensor {
        let [batch, tokens, width] = extents(x);
        let counts: Vec<usize> = learned.iter().map(|&id| self.view(id).count()).collect();
        let prefix = counts.iter().sum::<usize>() / width.max(1);
        let sample = (prefix + tokens) * width;
        // Where each parameter begins in a sample.
        let starts: Vec<usize> =
            counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
        let mut pieces: Vec<_> = learned
            .iter()
            .zip(counts.iter().zip(&starts))
            .map(|(&id, (&count, &start))| {
                (Source::Parameter(self.view(id)), Blocks::runs(batch, count, [0, 0], [start, sample]))
            })
            .collect();
        let rest = Blocks::runs(batch, tokens * width, [0, tokens * width], [prefix * width, sample]);
        pieces.push((Source::Tensor(x), rest));
        let output = self.backend().assemble([batch, prefix + tokens, width].into(), &pieces);
        let (node, learned) = (x.node, learned.to_vec());
        self.record(output, self.depends(x, learned.iter().copied()), || {
            Box::new(move |grad, gradients| {
                for (id, (count, start)) in learned.into_iter().zip(counts.into_iter().zip(starts)) {
                    if gradients.range(id).is_some() {
                        let blocks = Blocks::runs(batch, count, [start, sample], [0, count]);
                        let own =
                            gradients.backend().assemble([batch, count].into(), &[(Source::Tensor(grad), blocks)]);
                        gradients.add_row_sums(id, &own);
                    }
                }
                gradients.add(node, |g| {
                    let blocks = Blocks { from: rest.to, to: rest.from, ..rest };
                    g.backend().assemble([batch, tokens, width].into(), &[(Source::Tensor(grad), blocks)])
                });
            })
        })
    }

    /// Tokens `first … first + count − 1` of every sample: `[batch, count, width]`.
    ///
    /// # Panics
    /// If their number differs.
    pub fn tokens(&self, x: &Tensor, first: usize, count: usize) -> Tensor {
        let shape = x.shape();
        let [batch, tokens, width] = extents(x);
        assert!(first + count <= tokens, "tokens {first}…{} of {tokens}", first + count);
        let blocks = Blocks::runs(batch, count * width, [first * width, tokens * width], [0, count * width]);
        let output = self.backend().assemble([batch, count, width].into(), &[(Source::Tensor(x), blocks)]);
        let node = x.node;
        self.record(output, node.is_some(), || {
            let blocks = Blocks { from: blocks.to, to: blocks.from, ..blocks };
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().assemble(shape, &[(Source::Tensor(grad), blocks)]));
            })
        })
    }

    /// One token of every sample: `[batch, width]`.
    ///
    /// # Panics
    /// If there is no such token.
    pub fn token(&self, x: &Tensor, index: usize) -> Tensor {
        let [batch, _, width] = extents(x);
        self.tokens(x, index, 1).reshape([batch, width])
    }

    /// Keeps, of every sample, the tokens whose indices are in `kept`, `count` for each sample in turn.
    ///
    /// # Panics
    /// If the number of indices differs, or one is not the index of a token.
    pub fn keep_tokens(&self, x: &Tensor, kept: Vec<usize>, count: usize) -> Tensor {
        let [batch, tokens, _] = extents(x);
        assert_eq!(kept.len(), batch * count, "{count} tokens kept of each of {batch} samples");
        assert!(kept.iter().all(|&index| index < tokens), "a kept index is beyond {tokens} tokens");
        let kept: Arc<[usize]> = kept.into();
        let output = self.backend().gather_tokens(x, &kept, count);
        let (node, shape) = (x.node, x.shape());
        self.record(output, node.is_some(), || {
            Box::new(move |grad, gradients| gradients.add(node, |g| g.backend().scatter_tokens(grad, &kept, shape)))
        })
    }

    /// Patch dropout (arXiv:2212.00794): in training, leaves out this fraction of the tokens after the first `prefix`,
    /// others in every sample, keeping at least one and their order.
    pub fn drop_tokens(&self, x: &Tensor, prefix: usize, rate: f32) -> Tensor {
        let Some(Draw { key, first_image }) = self.draw().filter(|_| rate > 0.0) else { return x.clone() };
        let [batch, tokens, _] = extents(x);
        let patches = tokens - prefix;
        let count = ((patches as f32 * (1.0 - rate)) as usize).max(1);
        let mut kept = Vec::with_capacity(batch * (prefix + count));
        for image in first_image..first_image + batch {
            let mut order: Vec<usize> = (0..patches).collect();
            order.sort_by_key(|&i| (mix(key ^ mix((image * patches + i) as u64)), i));
            order.truncate(count);
            order.sort_unstable();
            kept.extend((0..prefix).chain(order.into_iter().map(|i| prefix + i)));
        }
        self.keep_tokens(x, kept, prefix + count)
    }

    /// Adds one `[tokens, width]` to every sample of `[batch, tokens, width]`: position embeddings.
    ///
    /// # Panics
    /// If the positions are of another shape.
    pub fn add_positions(&self, x: &Tensor, positions: &Tensor) -> Tensor {
        let [_, tokens, width] = extents(x);
        assert_eq!(positions.shape()[..], [tokens, width], "positions for {:?}", x.shape());
        let output = self.backend().add_positions(x, positions);
        let (x, positions) = (x.node, positions.node);
        self.record(output, x.is_some() || positions.is_some(), || {
            Box::new(move |grad, gradients| {
                gradients.add(x, |_| grad.clone());
                gradients.add(positions, |g| g.backend().sum_rows(grad, tokens * width).reshape([tokens, width]));
            })
        })
    }

    /// Rows of `a`, then those of `b`: `[rows a, width]` and `[rows b, width]` to `[both, width]`.
    ///
    /// # Panics
    /// If their widths differ.
    pub fn join_rows(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let width = a.shape().last();
        assert_eq!(width, b.shape().last(), "{:?} above {:?}", a.shape(), b.shape());
        let shape = [a.rows() + b.rows(), width];
        self.join(a, b, shape.into(), |x, start| Blocks::runs(1, x.shape().count(), [0, 0], [start, 0]))
    }

    /// Rows of `a` and `b` side by side: `[rows, width a]` and `[rows, width b]` to `[rows, both]`.
    ///
    /// # Panics
    /// If they differ in their number of rows.
    pub fn side_by_side(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let both = a.shape().last() + b.shape().last();
        assert_eq!(a.rows(), b.rows(), "{:?} beside {:?}", a.shape(), b.shape());
        self.join(a, b, a.shape().with_last(both), |x, start| {
            let (width, start) = (x.shape().last(), if start == 0 { 0 } else { a.shape().last() });
            Blocks::runs(x.rows(), width, [0, width], [start, both])
        })
    }

    /// Two tensors put together: `place(x, values before it)` says where each one goes.
    fn join(
        &self,
        a: &Tensor,
        b: &Tensor,
        shape: crate::shape::Shape,
        place: impl Fn(&Tensor, usize) -> Blocks,
    ) -> Tensor {
        let parts = [(a, place(a, 0)), (b, place(b, a.shape().count()))];
        let output = self.backend().assemble(shape, &parts.map(|(x, blocks)| (Source::Tensor(x), blocks)));
        let parts = parts.map(|(x, blocks)| (x.node, x.shape(), Blocks { from: blocks.to, to: blocks.from, ..blocks }));
        self.record(output, parts.iter().any(|(node, ..)| node.is_some()), || {
            Box::new(move |grad, gradients| {
                for (node, shape, blocks) in parts {
                    gradients.add(node, |g| g.backend().assemble(shape, &[(Source::Tensor(grad), blocks)]));
                }
            })
        })
    }
}

impl Device {
    /// Columns of the innermost extent in another order, or some of them: `out[…, i] = x[…, columns[i]]`. Has no
    /// gradient.
    ///
    /// # Panics
    /// If a column is beyond the width.
    pub fn select_columns(&self, x: &Tensor, columns: &[usize]) -> Tensor {
        let width = x.shape().last();
        assert!(columns.iter().all(|&column| column < width), "a column is beyond {width}");
        self.backend().select_columns(x, columns)
    }
}

pub(super) fn extents(x: &Tensor) -> [usize; 3] {
    x.shape()[..].try_into().unwrap_or_else(|_| panic!("tokens are [batch, tokens, width], not {:?}", x.shape()))
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;

    #[test]
    fn gradients_are_those_of_differences() {
        let mut check = Check::new();
        let learned = [check.vector(4), check.plain(&[2, 4])];
        let x = check.input(&[2, 3, 4]);
        let positions = check.input(&[3, 4]);
        check.differences(std::slice::from_ref(&x), |cx, x| cx.prepend_tokens(&x[0], &learned));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.tokens(&x[0], 1, 2));
        check.differences(std::slice::from_ref(&x), |cx, x| cx.keep_tokens(&x[0], vec![2, 0, 1, 1], 2));
        check.differences_in_training(std::slice::from_ref(&x), |cx, x| cx.drop_tokens(&x[0], 1, 0.5));
        check.differences(&[x.clone(), positions], |cx, x| cx.add_positions(&x[0], &x[1]));
        let rows = [check.input(&[3, 2]), check.input(&[3, 5])];
        check.differences(&rows, |cx, x| cx.side_by_side(&x[0], &x[1]));
        let rows = [check.input(&[3, 2]), check.input(&[1, 2])];
        check.differences(&rows, |cx, x| cx.join_rows(&x[0], &x[1]));
    }

    #[test]
    fn learned_tokens_come_first_in_order() {
        let mut check = Check::new();
        let (one, two) = (check.vector(2), check.plain(&[2, 2]));
        let x = check.tensor(&[1, 1, 2], &[9.0, 8.0]);
        let y = check.run(&[x], |cx, x| cx.prepend_tokens(&x[0], &[one, two]));
        let expected = [check.values(one), check.values(two), vec![9.0, 8.0]].concat();
        assert_eq!(y.values(), expected);
    }
}
