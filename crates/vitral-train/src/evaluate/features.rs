//! Features of labeled images.

use crate::data::shuffled;

/// One feature vector per image.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    values: Vec<f32>,
    width: usize,
    labels: Vec<usize>,
    classes: usize,
}

impl Features {
    /// Vectors of `width` values, one after the other, and their labels.
    ///
    /// # Panics
    /// If there are not as many vectors as labels, or a label is out of range.
    pub fn new(values: Vec<f32>, width: usize, labels: Vec<usize>, classes: usize) -> Self {
        assert_eq!(values.len(), width * labels.len(), "a vector of {width} for each of {} labels", labels.len());
        assert!(labels.iter().all(|&label| label < classes), "labels below {classes}");
        Features { values, width, labels, classes }
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values per vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The labels.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The vector at an index.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The vectors at some indices.
    pub fn select(&self, indices: &[usize]) -> Self {
        let values = indices.iter().flat_map(|&index| self.row(index).iter().copied()).collect();
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Features { values, labels, width: self.width, classes: self.classes }
    }

    /// Concatenates each vector with `other`'s vector of the same image, such as class token and mean of the patches.
    ///
    /// # Panics
    /// If the two are not of the same images.
    pub fn beside(&self, other: &Self) -> Self {
        assert_eq!(self.labels, other.labels, "features of the same images");
        let pair = |index| self.row(index).iter().chain(other.row(index)).copied();
        let values = (0..self.len()).flat_map(pair).collect();
        Features { values, width: self.width + other.width, ..self.clone() }
    }

    /// A range of the values of every vector.
    pub fn columns(&self, columns: std::ops::Range<usize>) -> Self {
        let values = (0..self.len()).flat_map(|index| self.row(index)[columns.clone()].iter().copied()).collect();
        Features { values, width: columns.len(), ..self.clone() }
    }

    /// Each vector divided by its norm.
    pub fn of_unit_length(&self) -> Self {
        let length = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt().max(1e-12);
        let unit = |index| {
            let length = length(self.row(index));
            self.row(index).iter().map(move |&value| (f64::from(value) / length) as f32)
        };
        Features { values: (0..self.len()).flat_map(unit).collect(), ..self.clone() }
    }

    /// At most this many vectors of each class, drawn with the seed.
    pub fn shots(&self, shots: usize, seed: u64) -> Self {
        let mut left = vec![shots; self.classes];
        let mut indices = shuffled(self.len(), seed, 0);
        indices.retain(|&index| {
            let left = &mut left[self.labels[index]];
            let taken = *left > 0;
            *left -= usize::from(taken);
            taken
        });
        indices.sort_unstable();
        self.select(&indices)
    }
}
