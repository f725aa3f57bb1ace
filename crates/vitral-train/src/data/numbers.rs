//! A data set whose labels are numbers.

use std::sync::Arc;

use vitral::image::Image;
use vitral::image::preprocess::Channels;

use super::{Dataset, fault};
use crate::error::TrainError;
use crate::labeling::Labeling;

/// A data set whose labels are read as numbers, for a regression: one output in place of classes.
#[derive(Debug)]
pub struct Numbers {
    inner: Arc<dyn Dataset>,
    /// The number of every label of the inner set.
    numbers: Vec<f32>,
    output: [String; 1],
}

impl Numbers {
    /// Reads the labels of a data set as numbers.
    ///
    /// # Errors
    /// If a label is no number, or an image has several.
    pub fn of(inner: Arc<dyn Dataset>) -> Result<Self, TrainError> {
        let place = || inner.name(0);
        if inner.labeling() == Labeling::Several {
            let hint = "give each image one number";
            return Err(fault(place().as_ref(), "expected one number for each image, found several labels", hint));
        }
        let number = |name: &str| name.trim().parse::<f32>().ok().filter(|number| number.is_finite());
        if let Some(name) = inner.classes().iter().find(|name| number(name).is_none()) {
            let found = format!("expected labels that are numbers, found `{name}`");
            return Err(fault(place().as_ref(), found, "correct the label, or train a classifier"));
        }
        let numbers = inner.classes().iter().filter_map(|name| number(name)).collect();
        Ok(Numbers { inner, numbers, output: ["number".to_owned()] })
    }
}

impl Dataset for Numbers {
    fn classes(&self) -> &[String] {
        &self.output
    }

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn label(&self, _: usize) -> usize {
        0
    }

    fn labeling(&self) -> Labeling {
        Labeling::Number
    }

    fn values(&self, index: usize) -> Vec<f32> {
        vec![self.numbers[self.inner.label(index)]]
    }

    fn name(&self, index: usize) -> String {
        self.inner.name(index)
    }

    fn image_for(&self, index: usize, channels: Channels) -> Result<Image, TrainError> {
        self.inner.image_for(index, channels)
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }
}
