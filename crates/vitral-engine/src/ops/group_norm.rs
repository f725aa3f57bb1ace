//! Group norm (arXiv:1803.08494), channels last.

use crate::arena::ParameterId;
use crate::device::backend::GroupNormCall;
use crate::tape::Context;
use crate::tensor::Tensor;

impl Context<'_> {
    /// Group norm of `[batch, …, channels]`: statistics over all places and the channels of a group.
    ///
    /// # Panics
    /// If the channels do not divide into groups.
    pub fn group_norm(
        &self,
        x: &Tensor,
        weight: ParameterId,
        bias: ParameterId,
        groups: usize,
        epsilon: f32,
    ) -> Tensor {
        let channels = x.shape().last();
        assert_eq!(channels % groups, 0, "{channels} channels in {groups} groups");
        let call = GroupNormCall { weight: self.view(weight), bias: self.view(bias), groups, epsilon };
        let output = self.backend().group_norm(x, &call);
        let saved = x.clone();
        self.record(output, self.depends(x, [weight, bias]), || {
            Box::new(move |grad, gradients| {
                let backend = gradients.backend();
                let call =
                    GroupNormCall { weight: gradients.view(weight), bias: gradients.view(bias), groups, epsilon };
                let ranges = [weight, bias].map(|id| gradients.range(id));
                let gradient = backend.group_norm_backward(&saved, grad, &call, gradients.flat(), ranges);
                gradients.add_made(saved.node, Some(gradient));
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};

    #[test]
    fn group_norm_equals_pytorch() {
        for (name, relu) in [("group_norm", false), ("group_norm_relu", true)] {
            let golden = Golden::load(name).channels_last();
            let mut check = Check::new();
            let (weight, bias) = (check.golden(&golden, "weight"), check.golden(&golden, "bias"));
            check.against(&golden, &[golden.tensor("x")], &["x"], |cx, x| {
                let y = cx.group_norm(&x[0], weight, bias, 32, golden.scalar("epsilon"));
                if relu { cx.activation(&y, crate::activation::Activation::Relu) } else { y }
            });
        }
    }

    #[test]
    fn gradients_are_those_of_differences() {
        let mut check = Check::new();
        let (weight, bias) = (check.vector(4), check.vector(4));
        check.differences(&[check.input(&[2, 3, 3, 4])], |cx, x| cx.group_norm(&x[0], weight, bias, 2, 1e-3));
    }
}
