//! What a data set looks like, before anything is trained on it.

use std::fmt;

use serde::Serialize;

use super::{Dataset, shuffled};

/// Images a class, and the sizes of a sample of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many images there are.
    pub images: usize,
    /// Names of classes and how many images each has.
    pub classes: Vec<(String, usize)>,
    /// The smallest width and height, and the greatest, among those sampled.
    pub sizes: Option<[(usize, usize); 2]>,
    /// How many images were decoded to tell sizes.
    pub sampled: usize,
    /// How many of them could not be read.
    pub unreadable: usize,
}

impl Summary {
    /// Counts labels, and decodes a sample of images that the seed draws.
    pub fn of(dataset: &dyn Dataset, sample: usize, seed: u64) -> Self {
        let mut classes: Vec<(String, usize)> = dataset.classes().iter().map(|name| (name.clone(), 0)).collect();
        for index in 0..dataset.len() {
            dataset.labels(index).into_iter().for_each(|label| classes[label].1 += 1);
        }
        let (mut sizes, mut sampled, mut unreadable) = (None, 0, 0);
        for index in shuffled(dataset.len(), seed, 0).into_iter().take(sample) {
            sampled += 1;
            let Ok(image) = dataset.image(index) else {
                unreadable += 1;
                continue;
            };
            let (width, height) = (image.width(), image.height());
            let [least, most] = sizes.unwrap_or([(width, height); 2]);
            sizes = Some([(width.min(least.0), height.min(least.1)), (width.max(most.0), height.max(most.1))]);
        }
        Summary { images: dataset.len(), classes, sizes, sampled, unreadable }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.classes.iter().map(|(_, count)| *count);
        let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
        write!(f, "{} images of {} classes, ", self.images, self.classes.len())?;
        match least == most {
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
