//! Low-rank updates beside frozen linear maps (LoRA, arXiv:2106.09685).

use super::Linear;
use crate::arena::Adapter;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// `output + scale · (dropout(x) downᵀ) upᵀ`, where `output` is what the map itself makes of `x`. The factor acts on
    /// the narrow middle, where it is cheapest.
    pub(crate) fn adapted(&self, x: &Tensor, output: &Tensor, adapter: Adapter) -> Tensor {
        let map = |weight| Linear { weight, bias: None };
        let narrow = self.linear(&self.dropout(x, adapter.dropout), map(adapter.down));
        let update = self.linear(&self.scale(&narrow, adapter.scale), map(adapter.up));
        self.add(output, &update)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Check;
    use super::*;

    #[test]
    fn gradients_are_those_of_differences_and_the_update_is_the_product() {
        for (rows, depth, columns, rank, dropout) in [(5, 7, 6, 2, 0.0), (3, 20, 17, 5, 0.0), (4, 9, 8, 3, 0.4)] {
            let mut check = Check::new();
            let linear = Linear { weight: check.matrix(columns, depth), bias: Some(check.vector(columns)) };
            let (down, up) = (check.matrix(rank, depth), check.matrix(columns, rank));
            check.adapt(linear.weight, Adapter { down, up, scale: 0.5, dropout });
            let input = check.input(&[rows, depth]);
            let forward = |cx: &Context<'_>, inputs: &[Tensor]| cx.linear(&inputs[0], linear);
            check.differences_in_training(std::slice::from_ref(&input), forward);
            check.fused_equals_recorded(std::slice::from_ref(&input), forward);

            let found = check.run(std::slice::from_ref(&input), forward);
            let [weight, bias, down, up] =
                [linear.weight, linear.bias.expect("given"), down, up].map(|id| check.values(id));
            for (row, x) in input.values().chunks_exact(depth).enumerate() {
                for out in 0..columns {
                    let merged = |i: usize| {
                        let update: f32 = (0..rank).map(|r| up[out * rank + r] * down[r * depth + i]).sum();
                        weight[out * depth + i] + 0.5 * update
                    };
                    let expected = bias[out] + (0..depth).map(|i| merged(i) * x[i]).sum::<f32>();
                    let found = found.values()[row * columns + out];
                    assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} for {expected}");
                }
            }
        }
    }
}
