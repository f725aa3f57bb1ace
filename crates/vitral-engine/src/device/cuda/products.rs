//! Linear maps: a product by cuBLASLt, and what it cannot do in kernels beside it.

use super::api::blas::Ending;
use super::matmul::Product;
use super::memory::{Element, Memory};
use super::parameters::Parameter;
use super::{Cuda, convolution, gradient_memory, stored};
use crate::activation::Activation;
use crate::device::backend::{ConvolutionCall, ConvolutionGradients, LinearBackward, LinearCall, Products};
use crate::tensor::Tensor;

impl Products for Cuda {
    fn linear(&self, x: &Tensor, call: &LinearCall<'_>) -> Tensor {
        let (columns, depth) = (call.weight.shape[0], call.weight.shape[1]);
        let shape = x.shape().with_last(columns);
        let normed = call.norm.as_ref().map(|norm| self.normalized(x, norm));
        let x = self.as_element(stored(normed.as_ref().unwrap_or(x)), self.operand());
        let (weight, at_weight) = Parameter::of(call.weight).as_element(self, self.operand());
        let element = self.element_of(&shape);
        let bias = call.bias.map(|bias| Parameter::of(bias).as_element(self, element));
        let residual = call.residual.map(|residual| self.as_element(stored(residual), element));
        let out = self.allocate(element, shape.count());
        let plain = Product::new(&x, &weight, &out, [false, true], [shape.rows(), columns, depth]);
        let plain = Product { b: (&weight, at_weight), bias: bias.as_ref().map(|(memory, at)| (memory, *at)), ..plain };
        let (none, biased) = (call.activation.is_none() && call.scale.is_none(), bias.is_some());
        let ending = match call.activation {
            _ if !biased => Ending::Plain,
            Some(Activation::Relu) if call.scale.is_none() && residual.is_none() => Ending::ReluBias,
            Some(Activation::GeluTanh) if call.scale.is_none() && residual.is_none() => Ending::GeluBias,
            // In 16 bits the tanh form differs from the exact one by less than rounding does, in the mean.
            Some(Activation::Gelu) if element != Element::F32 && call.scale.is_none() && residual.is_none() => {
                Ending::GeluBias
            }
            _ => Ending::Bias,
        };
        let fused = matches!(ending, Ending::ReluBias | Ending::GeluBias);
        self.multiply(&Product { ending, from: residual.as_ref().filter(|_| none), ..plain });
        if none || fused {
            return Cuda::tensor(shape, out);
        }
        let scale = call.scale.map(|scale| self.values_of(Parameter::of(scale)));
        Cuda::tensor(shape, self.finish(&out, columns, scale.as_ref(), residual.as_ref(), call.activation))
    }

    fn linear_backward(&self, x: &Tensor, grad: &Tensor, call: LinearBackward<'_>) -> Option<Tensor> {
        let (columns, depth) = (call.weight.shape[0], call.weight.shape[1]);
        let rows = grad.rows();
        let narrow: Memory = self.as_element(stored(grad), self.operand());
        if let Some(gradients) = call.gradients {
            let sums = gradient_memory(gradients);
            if let Some(range) = call.weight_range {
                let x = self.as_element(stored(x), self.operand());
                let product = Product::new(&narrow, &x, sums, [true, false], [columns, depth, rows]);
                if rows > 0 {
                    self.multiply(&Product { c: (sums, range.start), accumulate: true, ..product });
                }
            }
            if let Some(range) = call.bias_range {
                self.column_sums(stored(grad), None, columns, (sums, range.start), true);
            }
        }
        call.input.then(|| {
            let (weight, at) = Parameter::of(call.weight).as_element(self, self.operand());
            let out = self.allocate(self.element_of(&x.shape()), x.shape().count());
            let product = Product::new(&narrow, &weight, &out, [false, false], [rows, depth, columns]);
            self.multiply(&Product { b: (&weight, at), ..product });
            Cuda::tensor(x.shape(), out)
        })
    }

    fn convolution(&self, x: &Tensor, call: &ConvolutionCall<'_>) -> Tensor {
        convolution::forward(self, x, call)
    }

    fn convolution_backward(
        &self,
        x: &Tensor,
        grad: &Tensor,
        call: &ConvolutionCall<'_>,
        wanted: ConvolutionGradients<'_>,
    ) -> Option<Tensor> {
        convolution::backward(self, x, grad, call, wanted)
    }
}
