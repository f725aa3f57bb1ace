//! Epochs in which rare classes come more often.

use serde::{Deserialize, Serialize};

use super::order::shuffle;
use super::{Dataset, shuffled};
use crate::draws::Draws;
use crate::labeling::Labeling;

/// How often the images of each class come in an epoch, whose length stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Each image comes once.
    #[default]
    Each,
    /// Each class comes equally often.
    Balanced,
    /// Each class comes in proportion to the square root of the number of its images.
    Sqrt,
}

/// The images of a data set, for drawing the order of an epoch.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    images: usize,
    /// The images of each class that has some; last, those without any label. Empty where each image comes once.
    groups: Vec<Vec<usize>>,
}

impl Sampler {
    pub(super) fn new(sampling: Sampling, dataset: &dyn Dataset) -> Self {
        let images = dataset.len();
        let mut groups = Vec::new();
        if sampling != Sampling::Each {
            let classes = dataset.classes().len();
            groups = vec![Vec::new(); classes + 1];
            for image in 0..images {
                match dataset.labeling() {
                    Labeling::Several => {
                        let labels = dataset.labels(image);
                        let alone = labels.is_empty().then_some(classes);
                        labels.into_iter().chain(alone).for_each(|class| groups[class].push(image));
                    }
                    Labeling::One | Labeling::Number => groups[dataset.label(image)].push(image),
                }
            }
            groups.retain(|group| !group.is_empty());
        }
        Sampler { sampling, images, groups }
    }

    /// Whether an image can come several times in an epoch.
    pub(super) fn repeats(&self) -> bool {
        self.sampling != Sampling::Each
    }

    /// The images of an epoch in their order, as many as there are. Every class has its share, rounded up or down; an image
    /// comes again only after all others of its class.
    pub(super) fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let share = |group: &[usize]| match self.sampling {
            Sampling::Each => group.len() as f64,
            Sampling::Balanced => 1.0,
            Sampling::Sqrt => (group.len() as f64).sqrt(),
        };
        if !self.repeats() {
            return shuffled(self.images, seed, epoch);
        }
        let mut draws = Draws::new(seed, epoch, u64::MAX);
        let total: f64 = self.groups.iter().map(|group| share(group)).sum();
        // What is rounded up differs from epoch to epoch (systematic sampling).
        let offset = draws.unit();
        let mut until_here = 0.0;
        let mut order = Vec::with_capacity(self.images);
        for (number, group) in self.groups.iter().enumerate() {
            until_here += share(group);
            let until = match number + 1 == self.groups.len() {
                true => self.images,
                false => ((until_here / total * self.images as f64 + offset) as usize).min(self.images),
            };
            let mut pass = group.clone();
            while order.len() < until {
                shuffle(&mut pass, &mut draws);
                order.extend(pass.iter().take(until - order.len()));
            }
        }
        shuffle(&mut order, &mut draws);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty images of class 0, five of class 1 and twenty of class 2.
    fn sampler(sampling: Sampling) -> Sampler {
        Sampler { sampling, images: 85, groups: vec![(0..60).collect(), (60..65).collect(), (65..85).collect()] }
    }

    fn per_class(order: &[usize]) -> [usize; 3] {
        [0..60, 60..65, 65..85].map(|class| order.iter().filter(|image| class.contains(*image)).count())
    }

    #[test]
    fn classes_come_equally_often_and_images_of_a_class_too() {
        let sampler = sampler(Sampling::Balanced);
        let mut sums = [0; 3];
        for epoch in 0..30 {
            let order = sampler.order(7, epoch);
            assert_eq!(order.len(), 85);
            let counts = per_class(&order);
            assert!(counts.iter().all(|count| (28..=29).contains(count)), "{counts:?}");
            sums = [0, 1, 2].map(|class| sums[class] + counts[class]);
            let times = |image: usize| order.iter().filter(|found| **found == image).count();
            assert!((0..60).all(|image| times(image) <= 1) && (60..65).all(|image| (5..=6).contains(&times(image))));
            assert_eq!(order, sampler.order(7, epoch), "the order is determined by the seed and the epoch");
        }
        assert!(sums.iter().all(|sum| (845..=855).contains(sum)), "rounding favors no class: {sums:?}");
        assert!(sampler.order(7, 0) != sampler.order(7, 1) && sampler.order(7, 0) != sampler.order(8, 0));
    }

    #[test]
    fn square_roots_are_between() {
        // √60, √5 and √20 of their sum, times 85.
        let counts = per_class(&sampler(Sampling::Sqrt).order(0, 3));
        for (found, expected) in counts.into_iter().zip([45.558, 13.151, 26.302]) {
            assert!((found as f64 - expected).abs() <= 1.0, "{counts:?}");
        }
    }
}
