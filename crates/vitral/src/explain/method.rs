//! The kinds of maps: their names, papers and meaning, and what each needs.

use super::Map;

/// A kind of map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Raw attention of the tokens that are read out.
    Attention,
    /// Last-layer attention as in DINO, thresholded by mass.
    Dino,
    /// Attention of one patch.
    Patch,
    /// Attention rollout.
    Rollout,
    /// Rollout of attention weighted by its gradient.
    GradientRollout,
    /// Class-specific relevance.
    Chefer,
    /// Grad-CAM.
    GradCam,
    /// Grad-CAM++.
    GradCamPlusPlus,
    /// XGrad-CAM.
    XGradCam,
    /// HiResCAM.
    HiResCam,
    /// LayerCAM.
    LayerCam,
    /// Eigen-CAM.
    EigenCam,
    /// The gradient with respect to the pixels.
    Gradient,
    /// Integrated gradients.
    IntegratedGradients,
    /// SmoothGrad.
    SmoothGrad,
    /// Occlusion.
    Occlusion,
    /// RISE.
    Rise,
    /// Random values: the baseline for every map.
    Random,
    /// Similarity of the other patches to one.
    Similarity,
    /// Norms of patch tokens.
    Norms,
}

/// Name, title, paper and meaning of a method.
#[derive(Debug)]
pub struct About {
    /// The name on the command line and in file names.
    pub name: &'static str,
    /// The title for display.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// How to interpret a map.
    pub meaning: &'static str,
}

impl Method {
    /// Every method, in the order of [`Method`].
    pub const ALL: [Method; 20] = [
        Method::Attention,
        Method::Dino,
        Method::Patch,
        Method::Rollout,
        Method::GradientRollout,
        Method::Chefer,
        Method::GradCam,
        Method::GradCamPlusPlus,
        Method::XGradCam,
        Method::HiResCam,
        Method::LayerCam,
        Method::EigenCam,
        Method::Gradient,
        Method::IntegratedGradients,
        Method::SmoothGrad,
        Method::Occlusion,
        Method::Rise,
        Method::Random,
        Method::Similarity,
        Method::Norms,
    ];

    /// Its name, title, paper and meaning.
    pub const fn about(self) -> About {
        let (name, title, paper, meaning) = match self {
            Method::Attention => (
                "attention",
                "Attention",
                "Dosovitskiy et al., arXiv:2010.11929",
                "Attention weights from the token that is read out (or the pooled tokens) to each patch, in one \
                 layer; the mean of its heads, or a single one. What a model attends to is not necessarily what its \
                 output depends on.",
            ),
            Method::Dino => (
                "dino",
                "Last-layer attention, thresholded by mass",
                "Caron et al., arXiv:2104.14294",
                "Last-layer attention of the class token. Each head keeps only the patches that together hold 60 % of \
                 its weight; then the heads are averaged.",
            ),
            Method::Patch => (
                "patch",
                "Attention of one patch",
                "Dosovitskiy et al., arXiv:2010.11929",
                "Attention weights from one patch to the others, in one layer; the mean of its heads, or a single one.",
            ),
            Method::Rollout => (
                "rollout",
                "Attention rollout",
                "Abnar & Zuidema, arXiv:2005.00928",
                "Attention propagated through all layers, with the residual connections counted as attention to self. \
                 It does not depend on a class: the map is the same for all of them.",
            ),
            Method::GradientRollout => (
                "gradient-rollout",
                "Gradient-weighted rollout",
                "after Abnar & Zuidema, arXiv:2005.00928, and Chefer et al., arXiv:2012.09838",
                "Rollout of only the attention that supports the target: each weight times its positive gradient.",
            ),
            Method::Chefer => (
                "chefer",
                "Class-specific relevance",
                "Chefer, Gur & Wolf, arXiv:2103.15679",
                "Attention times its positive gradient, accumulated through the layers: which patches supported the \
                 target.",
            ),
            Method::GradCam => (
                "gradcam",
                "Grad-CAM",
                "Selvaraju et al., arXiv:1610.02391",
                "The channels of the last layer, each weighted by its mean gradient: the pooled tokens if patches are \
                 pooled, the input of its attention if there is a class token. High where the content of the patches \
                 raises the score of the target.",
            ),
            Method::GradCamPlusPlus => (
                "gradcam++",
                "Grad-CAM++",
                "Chattopadhay et al., arXiv:1710.11063",
                "Like Grad-CAM, with weights that let small regions count as much as large ones.",
            ),
            Method::XGradCam => (
                "xgradcam",
                "XGrad-CAM",
                "Fu et al., arXiv:2008.02312",
                "Like Grad-CAM, with gradients weighted by how much of a channel's activation is at each patch.",
            ),
            Method::HiResCam => (
                "hirescam",
                "HiResCAM",
                "Draelos & Carin, arXiv:2011.08891",
                "Activation times gradient, patch by patch, without averaging the gradient over the image.",
            ),
            Method::LayerCam => (
                "layercam",
                "LayerCAM",
                "Jiang et al., IEEE TIP 2021",
                "Activation times the positive part of the gradient, patch by patch.",
            ),
            Method::EigenCam => (
                "eigencam",
                "Eigen-CAM",
                "Muhammad & Yeasin, arXiv:2008.00299",
                "The direction in which patches differ most. It uses no gradient and does not depend on a class.",
            ),
            Method::Gradient => (
                "gradient",
                "Gradient",
                "Simonyan et al., arXiv:1312.6034",
                "How strongly a small change of each pixel changes the score of the target, in either direction.",
            ),
            Method::IntegratedGradients => (
                "integrated-gradients",
                "Integrated gradients",
                "Sundararajan et al., arXiv:1703.01365",
                "How much each pixel adds to the score of the target on the way from a uniform image to this one. The \
                 values sum to the difference of the two scores.",
            ),
            Method::SmoothGrad => (
                "smoothgrad",
                "SmoothGrad",
                "Smilkov et al., arXiv:1706.03825",
                "The gradient, averaged over copies of the image with strong noise, so that accidental details cancel.",
            ),
            Method::Occlusion => (
                "occlusion",
                "Occlusion",
                "Zeiler & Fergus, arXiv:1311.2901",
                "How much of the target's score is lost when the patches here are hidden. It uses only forward passes.",
            ),
            Method::Rise => (
                "rise",
                "RISE",
                "Petsiuk et al., arXiv:1806.07421",
                "The image is seen through many random masks; the map is the mean of the masks, each weighted by the \
                 target's score through it.",
            ),
            Method::Random => ("random", "Random", "", "Random values: the baseline that a map has to beat."),
            Method::Similarity => (
                "similarity",
                "Similarity to one patch",
                "Caron et al., arXiv:2104.14294; Oquab et al., arXiv:2304.07193",
                "The cosine between the final token of one patch and those of the others: which patches are similar \
                 to the model.",
            ),
            Method::Norms => (
                "norms",
                "Norms of tokens",
                "Darcet et al., arXiv:2309.16588",
                "The norms of a layer's output tokens; of the last layer, unless another is chosen. A few very large ones on \
                 plain background are the artifacts that register tokens remove.",
            ),
        };
        About { name, title, paper, meaning }
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        self.about().name
    }

    /// What the values of the map as it is drawn are, for the legend of its colors.
    pub const fn scale(self) -> &'static str {
        use Method::*;
        match self {
            Attention | Dino | Patch => "attention weight",
            Rollout => "attention through all layers",
            GradientRollout | Chefer => "relevance",
            GradCam | GradCamPlusPlus | XGradCam | HiResCam | LayerCam => "activation times gradient",
            EigenCam => "distance along the first component",
            Gradient | SmoothGrad => "size of the gradient",
            IntegratedGradients => "size of the contribution",
            Occlusion => "score lost when hidden",
            Rise => "mean score when visible",
            Random => "random value",
            Similarity => "cosine similarity",
            Norms => "length of the token",
        }
    }

    /// Whether the map depends on the chosen layer.
    pub const fn uses_layer(self) -> bool {
        use Method::*;
        matches!(
            self,
            Attention | Dino | Patch | GradCam | GradCamPlusPlus | XGradCam | HiResCam | LayerCam | EigenCam | Norms
        )
    }

    /// Whether the map depends on the chosen head.
    pub const fn uses_head(self) -> bool {
        matches!(self, Method::Attention | Method::Dino | Method::Patch)
    }

    /// Whether the map explains a target, which must then exist.
    pub const fn needs_target(self) -> bool {
        use Method::*;
        !matches!(self, Attention | Dino | Patch | Rollout | EigenCam | Random | Similarity | Norms)
    }

    /// Whether the map ranks patches by importance, so that its faithfulness can be evaluated.
    pub const fn is_attribution(self) -> bool {
        !matches!(self, Method::Patch | Method::Similarity | Method::Norms)
    }

    /// The map as it is drawn: the magnitude for signed pixel attributions, and the loss of score for hidden parts.
    pub fn painted(self, map: &Map) -> Map {
        let change = |change: fn(f32) -> f32| Map {
            size: map.size,
            values: map.values.iter().map(|value| change(*value)).collect(),
        };
        match self {
            Method::IntegratedGradients => change(f32::abs),
            Method::Occlusion => change(|lost| lost.max(0.0)),
            _ => map.clone(),
        }
    }

    /// Whether the map is made of attention weights, which a ResNet does not have.
    pub const fn needs_attention(self) -> bool {
        use Method::*;
        matches!(self, Attention | Dino | Patch | Rollout | GradientRollout | Chefer)
    }

    /// Whether the map is about one patch.
    pub const fn needs_patch(self) -> bool {
        matches!(self, Method::Patch | Method::Similarity)
    }
}
