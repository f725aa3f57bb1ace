//! A teacher: any model, given the student's images with its own normalization and answering in the student's classes.

use vitral::config::Size;
use vitral::image::Preprocess;
use vitral::image::preprocess::{Channels, Rescale};
use vitral::{Model, Tensor};
use vitral_engine::Context;
use vitral_engine::ops::AxisWeights;

use crate::data::{Match, Matching, listed};
use crate::error::TrainError;

/// A teacher model.
#[derive(Debug)]
pub struct Teacher {
    model: Model,
    size: Size,
    /// For every channel, the map from the student's pixel values to the teacher's: `x · scale + shift`.
    lines: Vec<(f32, f32)>,
    /// The teacher's class for each of the student's classes.
    classes: Vec<usize>,
    how: Match,
}

impl Teacher {
    /// A teacher for a student with the preprocessing `student` and these classes.
    ///
    /// # Errors
    /// If the model has no head or does not pool, has a different number of channels, or lacks some of the
    /// student's classes. They are matched by [`Matching::of`].
    pub fn new(model: Model, student: &Preprocess, classes: &[String]) -> Result<Self, TrainError> {
        let fault = |fault: String, hint| TrainError::Data { path: model.path().to_owned(), fault, hint };
        model.check_classifies()?;
        let own = model.preprocess()?;
        let (expected, found) = (student.channels.count(), own.channels.count());
        if expected != found {
            let problem = format!("the teacher takes {found} channels, the student {expected}");
            return Err(fault(problem, "choose a teacher with the same number of channels as the student"));
        }
        let of_bands = |preprocess: &Preprocess| matches!(preprocess.channels, Channels::Bands(_));
        if of_bands(&own) != of_bands(student) {
            let problem = "one of teacher and student takes colors, the other bands".to_owned();
            return Err(fault(problem, "choose a teacher that takes what the student takes"));
        }
        if of_bands(&own) && own.rescale != student.rescale {
            let problem = "the teacher's samples are scaled in another way than the student's".to_owned();
            return Err(fault(problem, "give both the same `data.scale`"));
        }
        let has = model.vit().config().classes;
        let matching = Matching::of(classes, has, model.labels().names());
        let Some(matching) = matching else {
            let problem = format!("the teacher has {has} classes, none of them one of the data's {}", listed(classes));
            return Err(fault(problem, "fine-tune the teacher on this data first"));
        };
        let unknown: Vec<String> = matching.unknown(classes).into_iter().cloned().collect();
        if !unknown.is_empty() {
            let problem = format!("the teacher does not know these classes of the data: {}", listed(&unknown));
            return Err(fault(problem, "fine-tune the teacher on this data first, or leave the classes out"));
        }
        let (order, how) = (matching.to().iter().flatten().copied().collect(), matching.how());
        let line = |preprocess: &Preprocess| -> Vec<(f32, f32)> {
            let (factor, offset) = preprocess.rescale.map_or((1.0, 0.0), Rescale::line);
            let scale = (255.0 * factor) as f32;
            let normalize = preprocess.normalize.as_ref();
            let channel = |c: usize| normalize.map_or((0.0, 1.0), |n| (n.mean[c], n.std[c]));
            // A pixel value is (pixel / 255 · scale + offset − mean) / std.
            (0..expected).map(channel).map(|(mean, std)| (scale / std, (offset - mean) / std)).collect()
        };
        let pairs = line(student).into_iter().zip(line(&own));
        let lines = pairs.map(|((a, b), (c, d))| (c / a, d - b * c / a)).collect();
        let size = model.vit().config().image_size;
        Ok(Teacher { model, size, lines, classes: order, how })
    }

    /// How its classes were matched to the student's.
    pub fn how(&self) -> Match {
        self.how
    }

    /// The teacher's logits, `[batch, classes]`, for the student's pixels `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If the model does not take images of this size.
    pub fn logits(&self, pixels: &Tensor) -> Result<Tensor, TrainError> {
        let context = Context::inference(self.model.parameters());
        let logits = self.model.logits(&self.shown(&context, pixels))?;
        Ok(context.device().select_columns(&logits, &self.classes))
    }

    /// The student's images with the teacher's normalization and size.
    fn shown(&self, context: &Context<'_>, pixels: &Tensor) -> Tensor {
        let [batch, channels, height, width] = pixels.shape()[..] else { unreachable!("a batch of images") };
        let seen = context.device().affine_channels(pixels, &self.lines);
        let to = self.size;
        if (height, width) == (to.height, to.width) {
            return seen;
        }
        let rows = AxisWeights::bicubic_antialias(height, to.height);
        let columns = AxisWeights::bicubic_antialias(width, to.width);
        let planes = seen.reshape([batch * channels, height * width, 1]);
        context.resample_grid(&planes, &rows, &columns).reshape([batch, channels, to.height, to.width])
    }
}
