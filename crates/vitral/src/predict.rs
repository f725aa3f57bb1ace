//! Image to label, on one screen: decode, preprocess, run the model, rank the classes.

use vitral_engine::{Context, Tensor};

use crate::config::{Pooling, Problem, Size};
use crate::error::Error;
use crate::image::preprocess::Channels;
use crate::image::{AsImage, DecodeOptions, Preprocess, decode_for};
use crate::labels::{Ranked, top};
use crate::load::Model;
use crate::model::{Input, Output};

impl Model {
    /// Classifies a batch of images: for each, the `count` most probable classes, best first.
    ///
    /// # Errors
    /// If the model cannot classify, or its files do not say how to preprocess.
    pub fn classify(&self, images: &[impl AsImage], count: usize) -> Result<Vec<Vec<Ranked>>, Error> {
        self.check_classifies()?;
        let problem = self.vit.config().problem;
        let mut ranked = vec![Vec::new(); images.len()];
        for (places, pixels) in self.pixels_by_size(images)? {
            let logits = self.logits(&pixels)?;
            let classes = logits.shape().last();
            for (place, row) in places.into_iter().zip(logits.to_vec()?.chunks(classes)) {
                ranked[place] = top(row, count, &self.labels, problem);
            }
        }
        Ok(ranked)
    }

    /// Classifies one image, given as the bytes of a JPEG, PNG, WebP, GIF, BMP, TIFF or PNM file, or of an array if the model
    /// takes bands ([`decode_for`]).
    ///
    /// # Errors
    /// If the bytes are not such an image, or as [`Model::classify`].
    pub fn classify_bytes(&self, bytes: &[u8], count: usize) -> Result<Vec<Ranked>, Error> {
        let decoded = decode_for(bytes, self.channels(), &DecodeOptions::default())?;
        Ok(self.classify(&[decoded.into_image()], count)?.remove(0))
    }

    /// Preprocesses images into as few batches as they have sizes then, each with the places of its images: a model may take
    /// images of any proportions at sizes of their own.
    ///
    /// # Errors
    /// As [`Model::preprocess`].
    pub fn pixels_by_size(&self, images: &[impl AsImage]) -> Result<Vec<(Vec<usize>, Tensor)>, Error> {
        let preprocess = self.preprocess()?;
        let mut batches: Vec<(Size, Vec<usize>, Vec<f32>)> = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let (size, pixels) = (preprocess.output_size_for(image.view().size()), preprocess.apply(image)?);
            match batches.iter_mut().find(|(of, ..)| *of == size) {
                Some((_, places, all)) => {
                    places.push(index);
                    all.extend(pixels);
                }
                None => batches.push((size, vec![index], pixels)),
            }
        }
        let (channels, device) = (preprocess.channels.count(), self.parameters.device());
        let upload = |(size, places, pixels): (Size, Vec<usize>, Vec<f32>)| {
            let shape = [places.len(), channels, size.height, size.width];
            Ok((places, device.upload(shape, &pixels)?))
        };
        batches.into_iter().map(upload).collect()
    }

    /// Preprocesses a batch of images into the model's input, `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// As [`Model::preprocess`]; or if the images differ in size after preprocessing.
    pub fn pixels(&self, images: &[impl AsImage]) -> Result<Tensor, Error> {
        let preprocess = self.preprocess()?;
        let mut size = self.vit.config().image_size;
        let mut all = Vec::new();
        for (index, image) in images.iter().enumerate() {
            let found = preprocess.output_size_for(image.view().size());
            size = if index == 0 { found } else { size };
            if found != size {
                return Err(Error::Sizes { index, expected: size, found });
            }
            all.extend(preprocess.apply(image)?);
        }
        let shape = [images.len(), preprocess.channels.count(), size.height, size.width];
        Ok(self.parameters.device().upload(shape, &all)?)
    }

    /// What images are decoded to for the model: color, unless it takes bands.
    pub fn channels(&self) -> Channels {
        // What is wrong with its preprocessing is said where it is used.
        self.preprocess().map_or(Channels::Rgb, |preprocess| preprocess.channels)
    }

    /// The preprocessing that the model's own files describe, for the size and in the arithmetic that the model was loaded
    /// with.
    ///
    /// # Errors
    /// If its files do not describe any (a guess would silently change the answers), or describe images that the model
    /// does not take.
    pub fn preprocess(&self) -> Result<Preprocess, Error> {
        let preprocess = self.described_preprocess()?;
        let disagreement = |expected, found| Err(Error::Disagreement { path: self.path.clone(), expected, found });
        let (found, expected) = (preprocess.channels.count(), self.vit.config().channels);
        if found != expected {
            return disagreement(format!("{expected} channels"), format!("{found}"));
        }
        match preprocess.output_size().filter(|&size| self.vit.grid(size).is_err()) {
            Some(size) => disagreement(format!("{} pixels", self.vit.config().image_size), format!("{size}")),
            None => Ok(preprocess),
        }
    }

    /// [`preprocess`](Self::preprocess) without a look at whether the model takes such images: a model that was loaded for other
    /// channels than its files describe does not.
    ///
    /// # Errors
    /// If its files do not describe any, or they cannot be understood.
    pub fn described_preprocess(&self) -> Result<Preprocess, Error> {
        let path = || self.path.clone();
        let read = self.preprocessing.read().ok_or_else(|| Error::NoPreprocessing { path: path() })?;
        let preprocess = read.map_err(|fault| Error::Preprocessing { path: path(), fault: Box::new(fault) })?;
        let preprocess = match self.backend {
            Some(backend) => preprocess
                .with_backend(backend)
                .map_err(|fault| Error::Backend { path: path(), fault: Box::new(fault) })?,
            None => preprocess,
        };
        let preprocess = match self.asked_size {
            Some(size) => preprocess.for_size(self.trained_size, size),
            None => preprocess,
        };
        Ok(match self.max_patches {
            Some(most) => {
                let patch = self.vit.config().token_stride();
                if self.vit.grid(Size { height: patch.height, width: 2 * patch.width }).is_err() {
                    return Err(Error::OneSize { path: path(), size: self.vit.config().image_size });
                }
                preprocess.in_patches(patch, most.get())
            }
            None => preprocess,
        })
    }

    /// Logits `[batch, classes]` of preprocessed pixels `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the model does not take such an input, has no classifier, or gives logits for each token.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor, Error> {
        self.check_classifies()?;
        let logits = self.run(pixels, None)?.logits;
        logits.ok_or_else(|| Error::NoHead { name: self.name.clone() })
    }

    /// Runs the model on preprocessed pixels `[batch, channels, height, width]`; `mask` is as in [`Input`].
    ///
    /// # Errors
    /// If the model does not take such an input, or the device fails.
    pub fn run(&self, pixels: &Tensor, mask: Option<&[u8]>) -> Result<Output, Error> {
        let device = self.parameters.device();
        if mask.is_some() {
            let forward = || self.vit.forward(&Context::inference(&self.parameters), Input { pixels, mask });
            // An error on the device becomes an error of this call.
            return Ok(device.scope(forward)?);
        }
        Ok(device.scope(|| self.vit.forward_replayed(&self.parameters, pixels, &self.replays))?)
    }

    /// Checks that the model gives one ranking of classes for each image.
    ///
    /// # Errors
    /// If it has no classifier, or gives a ranking for each token.
    pub fn check_classifies(&self) -> Result<(), Error> {
        if self.vit.config().classes == 0 {
            return Err(Error::NoHead { name: self.name.clone() });
        }
        if self.vit.config().problem == Problem::Embedding {
            return Err(Error::Projects { name: self.name.clone(), width: self.vit.config().classes });
        }
        self.check_pools("ranking")
    }

    /// Checks that the model gives one answer for each image; `what` names the answer in the error.
    ///
    /// # Errors
    /// If the model does not pool its tokens, and so gives an answer for each of them.
    pub fn check_pools(&self, what: &'static str) -> Result<(), Error> {
        match self.vit.config().pooling {
            Pooling::None => Err(Error::PerToken { name: self.name.clone(), what }),
            _ => Ok(()),
        }
    }
}
