//! A summary of a data set.

use std::fmt;

use serde::Serialize;
use vitral::config::Size;
use vitral::image::preprocess::Channels;
use vitral::message::count;

use super::{Dataset, shuffled};

/// Image counts per class, and the sizes of a sample of images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of images.
    pub images: usize,
    /// Class names with the number of images of each.
    pub classes: Vec<(String, usize)>,
    /// The smallest width and height, and the largest, in the sample.
    pub sizes: Option<[(usize, usize); 2]>,
    /// Number of images decoded to determine sizes.
    pub sampled: usize,
    /// Number of these that could not be read.
    pub unreadable: usize,
    /// The smallest and the largest label, if labels are numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<[f32; 2]>,
}

impl Summary {
    /// Counts labels, and decodes a sample of images drawn with the seed, for a model that takes these channels.
    pub fn of(dataset: &dyn Dataset, channels: Channels, sample: usize, seed: u64) -> Self {
        let mut classes: Vec<(String, usize)> = dataset.classes().iter().map(|name| (name.clone(), 0)).collect();
        for index in 0..dataset.len() {
            dataset.labels(index).into_iter().for_each(|label| classes[label].1 += 1);
        }
        let (mut sizes, mut sampled, mut unreadable) = (None, 0, 0);
        for index in shuffled(dataset.len(), seed, 0).into_iter().take(sample) {
            sampled += 1;
            let Ok(image) = dataset.image_for(index, channels) else {
                unreadable += 1;
                continue;
            };
            let Size { height, width } = image.size();
            let [least, most] = sizes.unwrap_or([(width, height); 2]);
            sizes = Some([(width.min(least.0), height.min(least.1)), (width.max(most.0), height.max(most.1))]);
        }
        let numbers = (0..dataset.len()).flat_map(|index| dataset.values(index)).fold(None, |range, number| {
            let [least, most] = range.unwrap_or([number; 2]);
            Some([number.min(least), number.max(most)])
        });
        Summary { images: dataset.len(), classes, sizes, sampled, unreadable, numbers }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.classes.iter().map(|(_, count)| *count);
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        match self.numbers {
            Some([least, most]) => write!(f, "{} with numbers from {least} to {most}", count(self.images, "image"))?,
            None => write!(f, "{} of {}, ", count(self.images, "image"), count(self.classes.len(), "class"))?,
        }
        match least == most {
            _ if self.numbers.is_some() => {}
            true => write!(f, "{most} each")?,
            false => {
                let named =
                    |wanted| self.classes.iter().find(|(_, count)| *count == wanted).map_or("", |(name, _)| name);
                write!(f, "from {least} (`{}`) to {most} (`{}`)", named(least), named(most))?;
            }
        }
        if let Some([least, most]) = self.sizes {
            match least == most {
                true => write!(f, "; {}×{} pixels", most.0, most.1)?,
                false => write!(f, "; {}×{} to {}×{} pixels", least.0, least.1, most.0, most.1)?,
            }
        }
        if self.unreadable > 0 {
            write!(f, "; {} of {} sampled could not be read", self.unreadable, self.sampled)?;
        }
        Ok(())
    }
}
