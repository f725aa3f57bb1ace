//! The kernels' sources, and those that are on the card.

use std::collections::HashMap;

use super::api::driver::{Function, Module};

/// A file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Attention,
    Convolution,
    Elements,
    Heads,
    Images,
    Losses,
    Norms,
    Positions,
    Products,
    Tokens,
    Transfers,
    Updates,
}

/// What stands before every file.
pub(super) const WORDS: &str = include_str!("kernels/words.cuh");

impl Source {
    pub(super) fn file(self) -> (&'static str, &'static str) {
        macro_rules! file {
            ($name:literal) => {
                ($name, include_str!(concat!("kernels/", $name)))
            };
        }
        match self {
            Source::Attention => file!("attention.cu"),
            Source::Convolution => file!("convolution.cu"),
            Source::Elements => file!("elements.cu"),
            Source::Heads => file!("heads.cu"),
            Source::Images => file!("images.cu"),
            Source::Losses => file!("losses.cu"),
            Source::Norms => file!("norms.cu"),
            Source::Positions => file!("positions.cu"),
            Source::Products => file!("products.cu"),
            Source::Tokens => file!("tokens.cu"),
            Source::Transfers => file!("transfers.cu"),
            Source::Updates => file!("updates.cu"),
        }
    }
}

/// Kernels that are on the card.
#[derive(Default)]
pub(super) struct Kernels {
    pub(super) modules: HashMap<(Source, bool), Module>,
    /// Each with the dynamic shared memory that it may have.
    pub(super) functions: HashMap<(Source, bool), HashMap<String, (Function, usize)>>,
}
