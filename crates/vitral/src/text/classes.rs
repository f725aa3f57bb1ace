//! Classes that are described in words.

use vitral_engine::ParameterSpec;

use super::tower::TextModel;
use crate::config::{Head, ModelConfig, Problem};
use crate::error::Error;

/// Labels, and how a text is made of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextLabels {
    labels: Vec<String>,
    /// What stands for each label in a text.
    words: Vec<String>,
    templates: Vec<String>,
}

/// What stands for the label in a template.
pub const PLACE: &str = "{}";

impl TextLabels {
    /// Each label is a text by itself: `a photo of a cat`.
    pub fn new(labels: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let labels: Vec<String> = labels.into_iter().map(Into::into).collect();
        TextLabels { words: labels.clone(), labels, templates: Vec::new() }
    }

    /// Labels that are names of folders and the like, in which `_` stands for a space: `golden_retriever`.
    pub fn of_names(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let plain = Self::new(names);
        TextLabels { words: plain.labels.iter().map(|name| name.replace('_', " ")).collect(), ..plain }
    }

    /// Texts are made by putting the label in place of `{}`; of several texts, the mean of their directions is used, as in
    /// CLIP's paper.
    #[must_use]
    pub fn templates(mut self, templates: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.templates = templates.into_iter().map(Into::into).collect();
        self
    }

    /// The labels.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The texts for one word.
    fn texts(&self, word: &str) -> Vec<String> {
        match &self.templates[..] {
            [] => vec![word.to_owned()],
            templates => templates.iter().map(|template| template.replace(PLACE, word)).collect(),
        }
    }

    /// Checks that there are labels, each of them once, and that every template has a place for one.
    fn check(&self) -> Result<(), Error> {
        let fault = |fault: String| Err(Error::TextLabels { fault });
        if self.labels.is_empty() || self.labels.iter().any(|label| label.trim().is_empty()) {
            return fault("expected at least one label, none of them empty".to_owned());
        }
        let mut sorted: Vec<&String> = self.labels.iter().collect();
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return fault(format!("the label `{}` is given twice", twice[0]));
        }
        match self.templates.iter().find(|template| !template.contains(PLACE)) {
            Some(template) => fault(format!("the template `{template}` has no `{PLACE}` for the label")),
            None => Ok(()),
        }
    }
}

/// The classes of a zero-shot classifier: one direction for each.
#[derive(Clone, Debug, PartialEq)]
pub struct TextClasses {
    labels: Vec<String>,
    /// One direction for each label, of length 1, one after the other.
    directions: Vec<f32>,
    width: usize,
    scale: f32,
    bias: f32,
    problem: Problem,
}

impl TextModel {
    /// The classes that labels describe.
    ///
    /// # Errors
    /// If a label is missing or given twice, a template has no place for one, or a text is too long.
    pub fn classes(&self, labels: &TextLabels) -> Result<TextClasses, Error> {
        labels.check()?;
        let texts: Vec<Vec<String>> = labels.words.iter().map(|word| labels.texts(word)).collect();
        let each = texts.first().map_or(1, Vec::len);
        let vectors = self.embed(&texts.concat())?;
        let width = self.config().feature_width();
        let mut directions = Vec::with_capacity(labels.labels.len() * width);
        for vectors in vectors.chunks_exact(each) {
            let mut mean = vec![0.0f64; width];
            for vector in vectors {
                let direction = unit(vector.iter().map(|&value| f64::from(value)).collect());
                mean.iter_mut().zip(direction).for_each(|(sum, value)| *sum += value);
            }
            directions.extend(unit(mean).into_iter().map(|value| value as f32));
        }
        Ok(TextClasses {
            labels: labels.labels.clone(),
            directions,
            width,
            scale: self.scale(),
            bias: self.bias(),
            problem: self.problem(),
        })
    }
}

fn unit(mut vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

impl TextClasses {
    /// The labels.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// One direction for each label, of length 1, one after the other.
    pub fn directions(&self) -> &[f32] {
        &self.directions
    }

    /// The logits of an image's vector, one for each label: its cosines with their directions, scaled as the model was trained. A
    /// classifier with these classes ([`LoadOptions::labels`](crate::LoadOptions::labels)) gives the same but for rounding.
    ///
    /// # Panics
    /// If texts have vectors of another width.
    pub fn logits(&self, image: &[f32]) -> Vec<f32> {
        assert_eq!(image.len(), self.width, "images and texts have vectors of one width");
        let length = image.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let logit = |direction: &[f32]| {
            let product: f64 = direction.iter().zip(image).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            (f64::from(self.scale) * product / length + f64::from(self.bias)) as f32
        };
        self.directions.chunks_exact(self.width).map(logit).collect()
    }

    /// How logits become probabilities: a softmax over the labels (CLIP), or a sigmoid of each (SigLIP).
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The configuration of a vision tower with these classes.
    ///
    /// # Errors
    /// If the tower's vectors are not of the same width, or it already has classes.
    pub(crate) fn target(&self, source: &ModelConfig) -> Result<ModelConfig, Error> {
        let projects = source.classes > 0 && source.problem == Problem::Embedding;
        if source.classes > 0 && !projects {
            let fault = format!("the model has {} classes of its own", source.classes);
            return Err(Error::TextLabels { fault });
        }
        let found = if projects { source.classes } else { source.feature_width() };
        if found != self.width {
            let fault = format!("texts have vectors of {} numbers, images of {found}", self.width);
            return Err(Error::TextLabels { fault });
        }
        let space = projects.then_some(found);
        Ok(ModelConfig {
            classes: self.labels.len(),
            head: Head::Cosine { space },
            head_bias: self.bias != 0.0,
            problem: self.problem,
            ..source.clone()
        })
    }

    /// The values of a parameter of the new head; `None` if they are those of the source under [`TextClasses::PROJECTION`].
    pub(crate) fn values(&self, spec: &ParameterSpec) -> Option<Vec<f32>> {
        match spec.name.as_str() {
            "head.norm.weight" => Some(vec![1.0; spec.count()]),
            // The norm before gives vectors of length √width.
            "head.weight" => {
                let factor = f64::from(self.scale) / (self.width as f64).sqrt();
                Some(self.directions.iter().map(|&value| (f64::from(value) * factor) as f32).collect())
            }
            "head.bias" => Some(vec![self.bias; spec.count()]),
            _ => None,
        }
    }

    /// The projection of the new head, and what it was called before there were classes.
    pub(crate) const PROJECTION: [&'static str; 2] = ["head.projection.weight", "head.weight"];
}
