//! Windows of an image through the model.

use std::convert::Infallible;

use super::{Join, Tile, TilesError, Tiling};
use crate::Tensor;
use crate::config::Problem;
use crate::error::Error;
use crate::features::FeatureKind;
use crate::image::{AsImage, Preprocess};
use crate::labels::{Labels, Ranked, probability};
use crate::load::Model;

impl Model {
    /// The preprocessing of a window: the model's own numbers, and in place of its resizes and crops one resize of the window
    /// to the model's input, if they differ.
    ///
    /// # Errors
    /// As [`Model::preprocess`].
    pub fn window_preprocess(&self, tiling: &Tiling) -> Result<Preprocess, Error> {
        Ok(self.preprocess()?.of_window(tiling.window(), tiling.input()))
    }

    /// Passes the windows of an image on in batches of at most `batch`, preprocessed to `[windows, channels, height, width]`.
    /// Beyond the right and the lower edge of the image, its last pixels are repeated.
    ///
    /// # Errors
    /// If the model's files do not say how to preprocess, the device fails, or `each` returns an error.
    ///
    /// # Panics
    /// If the tiling is of an image of another size.
    pub fn windows<E: From<Error>>(
        &self,
        image: &impl AsImage,
        tiling: &Tiling,
        batch: usize,
        mut each: impl FnMut(&[Tile], &Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let image = image.view();
        assert_eq!(image.size(), tiling.image(), "windows of this image");
        let preprocess = self.window_preprocess(tiling)?;
        let (channels, input) = (preprocess.channels.count(), tiling.input());
        let tiles: Vec<Tile> = tiling.tiles().collect();
        for tiles in tiles.chunks(batch.max(1)) {
            let mut pixels = Vec::with_capacity(tiles.len() * channels * input.area());
            for &tile in tiles {
                pixels.extend(preprocess.apply(&image.part(tiling.pixels(tile))).map_err(Error::from)?);
            }
            let shape = [tiles.len(), channels, input.height, input.width];
            let pixels = self.parameters.device().upload(shape, &pixels).map_err(Error::from)?;
            each(tiles, &pixels)?;
        }
        Ok(())
    }

    /// Patch tokens after the final norm over the whole image, joined from its windows: `each` gets the rows of the grid from
    /// the top, each with its number and `[columns, width]`. `progress` gets the number of windows done.
    ///
    /// # Errors
    /// As [`Model::windows`]; if the model's tokens are not a grid of patches.
    pub fn tile_tokens<E: From<Error>>(
        &self,
        image: &impl AsImage,
        tiling: &Tiling,
        batch: usize,
        mut progress: impl FnMut(usize) -> Result<(), E>,
        mut each: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (width, prefix) = (self.vit.config().width, self.vit.config().prefix_tokens());
        let mut join = Join::new(tiling, width);
        self.windows(image, tiling, batch, |tiles, pixels| -> Result<(), E> {
            let tokens = self.features(pixels, FeatureKind::Tokens)?;
            let found = tokens.extent(1).saturating_sub(prefix);
            let expected = tiling.patches();
            if found != expected.area() {
                return Err(Error::from(TilesError::Tokens { model: self.name.clone(), expected, found }).into());
            }
            let values = tokens.to_vec().map_err(Error::from)?;
            for (tile, values) in tiles.iter().zip(values.chunks_exact((prefix + found) * width)) {
                join.add(*tile, &values[prefix * width..], &mut each)?;
            }
            progress(tiles.len())
        })
    }

    /// What the model says about each window of an image: probabilities of the classes, or in a regression the numbers
    /// themselves. `progress` gets the number of windows done.
    ///
    /// # Errors
    /// If the model cannot classify, or as [`Model::windows`].
    pub fn window_scores<E: From<Error>>(
        &self,
        image: &impl AsImage,
        tiling: &Tiling,
        batch: usize,
        mut progress: impl FnMut(usize) -> Result<(), E>,
    ) -> Result<WindowScores, E> {
        self.check_classifies()?;
        let config = self.vit.config();
        let mut scores = WindowScores { classes: config.classes, problem: config.problem, logits: Vec::new() };
        self.windows(image, tiling, batch, |tiles, pixels| -> Result<(), E> {
            scores.logits.extend(self.logits(pixels)?.to_vec().map_err(Error::from)?);
            progress(tiles.len())
        })?;
        Ok(scores)
    }
}

/// What a model says about each window of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowScores {
    classes: usize,
    problem: Problem,
    /// `[windows, classes]`.
    logits: Vec<f32>,
}

impl WindowScores {
    /// The scores of one class, `[windows]`: its probability, or in a regression the number itself.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn of(&self, class: usize) -> Vec<f32> {
        assert!(class < self.classes, "class {class} of {}", self.classes);
        let rows = self.logits.chunks_exact(self.classes);
        rows.map(|row| probability(row, self.problem)(row[class]) as f32).collect()
    }

    /// The `count` classes with the greatest mean score over all windows, best first; ties in class order.
    pub fn ranked(&self, count: usize, labels: &Labels) -> Vec<Ranked> {
        let windows = (self.logits.len() / self.classes) as f64;
        let mut means = vec![(0.0f64, 0.0f64); self.classes];
        for row in self.logits.chunks_exact(self.classes) {
            let score = probability(row, self.problem);
            for ((sum, logits), &logit) in means.iter_mut().zip(row) {
                *sum += score(logit) / windows;
                *logits += f64::from(logit) / windows;
            }
        }
        let mut order: Vec<usize> = (0..self.classes).collect();
        order.sort_by(|&a, &b| means[b].0.total_cmp(&means[a].0).then(a.cmp(&b)));
        let ranked = |class: usize| Ranked {
            class,
            label: labels.name(class),
            probability: means[class].0 as f32,
            logit: means[class].1 as f32,
        };
        order.into_iter().take(count).map(ranked).collect()
    }

    /// The scores of one class as a grid over the image, `[rows, columns]` of patches: a window counts for all of its patches.
    ///
    /// # Panics
    /// If there is no such class, or the scores are of other windows.
    pub fn grid(&self, tiling: &Tiling, class: usize) -> Vec<f32> {
        let scores = self.of(class);
        assert_eq!(scores.len(), tiling.count(), "a score for each window");
        let mut join = Join::new(tiling, 1);
        let mut all = Vec::with_capacity(tiling.grid().area());
        for tile in tiling.tiles() {
            let window = vec![scores[tile.index]; tiling.patches().area()];
            let Ok(()) = join.add(tile, &window, |_, row| {
                all.extend_from_slice(row);
                Ok::<(), Infallible>(())
            });
        }
        all
    }
}
