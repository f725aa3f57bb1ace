//! Small configurations drawn from bytes, for the tests here and for `fuzz/`. Contradictions are drawn too.

use vitral::config::{
    Activation, Axis, BlockKind, Border, ConvolutionalStem, DropRates, Head, MlpKind, ModelConfig, NormKind,
    OtherSizes, Pooling, PositionResample, Positions, QkScale, RelativePositions, RelativeResample, ResNetV2, Root,
    Rotary, ScaleRule, Size, Stem, StemLayer,
};

/// Choices, read from bytes; zeros when they run out.
pub(super) struct Draw<'a>(pub(super) &'a [u8]);

impl Draw<'_> {
    fn byte(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.byte() % (most + 1)
    }

    fn yes(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    /// Seldom true, for what most models lack.
    fn seldom(&mut self) -> bool {
        self.byte() % 8 == 7
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.byte() % all.len()].clone()
    }

    /// A size of up to `most` on either side.
    pub(super) fn size(&mut self, most: usize) -> Size {
        let height = self.up_to(most);
        Size { height, width: if self.yes() { height } else { self.up_to(most) } }
    }

    fn resnet(&mut self) -> ResNetV2 {
        let stages = self.up_to(2);
        ResNetV2 {
            layers: (0..stages).map(|_| self.up_to(2)).collect(),
            width_factor: self.one_of(&[0.125, 0.0625, 0.25, 0.0]),
            root: self.one_of(&[Root::Large, Root::Small]),
            padding: self.one_of(&[Border::Same, Border::Symmetric, Border::Fixed]),
            groups: self.one_of(&[2, 4, 1, 3, 0]),
            standardization_epsilon: 1e-8,
            norm_epsilon: 1e-5,
        }
    }

    fn rotary(&mut self) -> Rotary {
        let theta = self.one_of(&[100.0, 10.0, 0.0]);
        let first = self.one_of(&[Axis::Rows, Axis::Columns]);
        let reference = self.one_of(&[None, Some(Size::square(3)), Some(Size { height: 0, width: 2 })]);
        match self.byte() % 3 {
            0 => Rotary::Normalized { theta },
            1 => Rotary::Axial { theta, first, offset: self.one_of(&[0.0, 1.0]), reference },
            _ => Rotary::Mixed { theta, first },
        }
    }

    /// A configuration of at most a few thousand parameters.
    pub(super) fn config(&mut self) -> ModelConfig {
        let stem = match self.byte() % 12 {
            0 => Stem::Hybrid(self.resnet()),
            1 => Stem::ResNet(self.resnet()),
            2 => {
                let layers = self.up_to(2);
                let mut layer = || StemLayer { channels: 4 * self.up_to(2), stride: self.up_to(2) };
                let layers = (0..layers).map(|_| layer()).collect();
                Stem::Convolutional(ConvolutionalStem { layers, group_width: self.one_of(&[4, 2, 1, 0]) })
            }
            _ => Stem::Patches,
        };
        let width = self.one_of(&[8, 12, 16, 6, 1, 0]);
        let kernel = self.one_of(&[
            PositionResample::BicubicAntialias,
            PositionResample::Bicubic,
            PositionResample::LinearAligned,
        ]);
        let pad = self.yes();
        let config = ModelConfig {
            image_size: self.size(40),
            patch_size: self.size(9),
            channels: self.up_to(4),
            classes: self.up_to(5),
            width,
            depth: self.up_to(2),
            heads: self.up_to(4),
            head_width: self.one_of(&[4, 8, 6, 3, 0]),
            mlp_width: self.one_of(&[16, 8, 5, 0]),
            stem,
            patch_bias: self.yes(),
            patch_norms: self.seldom(),
            patch_output_norm: self.seldom(),
            class_token: !self.seldom(),
            distillation_token: self.seldom(),
            distillation_head: self.seldom(),
            registers: if self.seldom() { self.up_to(3) } else { 0 },
            positions: self.one_of(&[
                Positions::LearnedAll,
                Positions::LearnedPatches,
                Positions::LearnedWithoutRegisters,
                Positions::SinCos2d,
                Positions::None,
            ]),
            rotary: if self.seldom() { Some(self.rotary()) } else { None },
            relative_positions: if self.seldom() {
                self.one_of(&[RelativePositions::Blocks, RelativePositions::Shared, RelativePositions::Both])
            } else {
                RelativePositions::None
            },
            relative_resample: self.one_of(&[RelativeResample::Linear, RelativeResample::Geometric]),
            other_sizes: self.one_of(&[OtherSizes::Refuse, OtherSizes::Resample { kernel, pad }]),
            pre_norm: self.seldom(),
            block: self.one_of(&[
                BlockKind::PreNorm,
                BlockKind::PreNorm,
                BlockKind::PostNorm,
                BlockKind::ResidualPostNorm,
                BlockKind::ParallelScaling,
                BlockKind::ParallelPairs,
            ]),
            norm: self.one_of(&[NormKind::Layer, NormKind::Rms]),
            norm_epsilon: self.one_of(&[1e-6, 0.0]),
            qkv_bias: self.yes(),
            key_bias: self.yes(),
            qk_scale: self.one_of(&[None, None, Some(QkScale::Number(0.3)), Some(QkScale::Rule(ScaleRule::Width))]),
            qk_norm: self.seldom(),
            attention_norm: self.seldom(),
            attention_projection: !self.seldom(),
            projection_bias: self.yes(),
            mlp: self.one_of(&[MlpKind::Plain, MlpKind::Gated]),
            activation: self.one_of(&[
                Activation::Gelu,
                Activation::GeluTanh,
                Activation::QuickGelu,
                Activation::Relu,
                Activation::Silu,
                Activation::Tanh,
            ]),
            mlp_bias: self.yes(),
            mlp_norm: self.seldom(),
            layer_scale: self.one_of(&[None, Some(0.1)]),
            final_norm: !self.seldom(),
            pooling: self.one_of(&[
                Pooling::Class,
                Pooling::Class,
                Pooling::Mean,
                Pooling::MeanAll,
                Pooling::Max,
                Pooling::AverageMax,
                Pooling::Attention,
                Pooling::ClassAndMean,
                Pooling::None,
            ]),
            pool_prefix: self.yes(),
            pool_heads: self.one_of(&[None, None, Some(2), Some(0)]),
            pool_mlp_width: self.one_of(&[None, None, Some(5)]),
            pooled_norm: self.seldom(),
            pre_logits: if self.seldom() { Some(self.up_to(8)) } else { None },
            head: self.one_of(&[Head::Linear, Head::Linear, Head::Mlp { width: 5, activation: Activation::Relu }]),
            head_bias: self.yes(),
            drop: DropRates::default(),
            ..ModelConfig::default()
        };
        // A ResNet's cells are the tokens: seldom a fit by chance.
        match &config.stem {
            Stem::ResNet(resnet) if self.yes() => {
                let width = resnet.feature_channels();
                ModelConfig { width, patch_size: Size::square(1), ..config }
            }
            _ => config,
        }
    }
}
