//! Batches of images with what is hidden of them, and what is to be predicted.

use vitral::Device;
use vitral::config::Size;

use crate::data::Loader;
use crate::error::TrainError;
use crate::fit::Source;
use crate::hidden::{Brightness, Pretraining, colors};
use crate::step::{Batch, Hidden};

/// Batches of a loader with hidden patches and what is to be predicted, instead of classes.
#[derive(Debug)]
pub(super) struct Hiding {
    pub(super) loader: Loader,
    pub(super) device: Device,
    pub(super) rule: Pretraining,
    pub(super) brightness: Brightness,
    pub(super) patch: Size,
    pub(super) seed: u64,
}

impl Hiding {
    /// A batch of the loader as one with hidden patches. `round` is the epoch, and `before` the images in it before the batch.
    pub(super) fn hide(&self, batch: Batch, round: u64, before: usize) -> Result<Batch, TrainError> {
        self.hide_on(&self.device, batch, round, before)
    }

    /// The same for a batch on another device.
    pub(super) fn hide_on(
        &self,
        device: &Device,
        batch: Batch,
        round: u64,
        before: usize,
    ) -> Result<Batch, TrainError> {
        let [images, channels, height, width] = batch.pixels.shape()[..] else { unreachable!("a batch of images") };
        let image = Size { height, width };
        let patches = (height / self.patch.height) * (width / self.patch.width);
        let first = (before + batch.place.first) as u64;
        let pixels = batch.pixels.to_vec()?;
        match &self.rule {
            Pretraining::MaskedAutoencoder(rule) => {
                let targets = rule.targets(&pixels, channels, image, self.patch);
                let shape = [images, patches, channels * self.patch.area()];
                let targets = device.upload(shape, &targets)?;
                let visible = (images > 0).then(|| rule.draw(self.seed, round, first, images, patches));
                Ok(Batch { targets, hidden: visible.map(Hidden::AllBut), ..batch })
            }
            Pretraining::MaskedPatches(rule) => {
                let colors = colors(&pixels, &self.brightness, image, self.patch);
                let corrupted = (images > 0).then(|| rule.draw(self.seed, round, first, patches, &colors));
                Ok(Batch { hidden: corrupted.map(Hidden::Embeddings), ..batch })
            }
        }
    }
}

impl Source for Hiding {
    fn batches(&self) -> usize {
        Source::batches(&self.loader)
    }

    fn epoch(&self, epoch: u64, from: usize) -> Box<dyn Iterator<Item = Result<Batch, TrainError>> + '_> {
        let batches = Source::epoch(&self.loader, epoch, from).enumerate();
        Box::new(batches.map(move |(index, batch)| {
            let batch = batch?;
            let before = (from + index) * batch.place.of;
            self.hide(batch, epoch, before)
        }))
    }

    fn unreadable(&self) -> Vec<String> {
        Source::unreadable(&self.loader)
    }
}
