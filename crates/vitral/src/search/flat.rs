//! Exact search: every query is compared with every vector.
//!
//! Vectors are scaled to length 1 and kept as matrices of the device, so that cosines are plain products of matrices.
//! They are computed a block at a time, which bounds the memory whatever the number of vectors. Each cosine is one sum in a
//! fixed order, and equal ones are ordered by row, so results do not depend on threads or blocks.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;
use vitral_engine::ops::Linear;
use vitral_engine::{Context, DType, Declarations, Device, DeviceError, ParameterKind, Parameters, Precision};

use super::SearchError;

/// Vectors in a matrix of the device.
const BLOCK: usize = 8192;
/// Queries that are compared with a block at a time.
const QUERIES: usize = 256;

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its row.
    pub row: usize,
    /// Its cosine with the query, from −1 to 1; 0 if either has no direction.
    pub cosine: f32,
}

/// The worse hit is the greater one, for a heap whose top is the worst: by cosine, and of equal ones by row.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ranked(Hit);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.cosine.total_cmp(&self.0.cosine).then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best hits so far.
struct Best {
    count: usize,
    heap: BinaryHeap<Ranked>,
}

impl Best {
    fn new(count: usize) -> Self {
        Best { count, heap: BinaryHeap::new() }
    }

    /// Adds the cosines of some rows, in order.
    fn add(&mut self, first: usize, cosines: &[f32], without: Option<usize>) {
        for (row, &cosine) in (first..).zip(cosines) {
            let cosine = bounded(cosine);
            // Rows come in order, so an equal one that comes later is never better.
            let full = self.heap.len() == self.count;
            if full && self.heap.peek().is_some_and(|worst| cosine <= worst.0.cosine) || without == Some(row) {
                continue;
            }
            if full {
                self.heap.pop();
            }
            if self.count > 0 {
                self.heap.push(Ranked(Hit { row, cosine }));
            }
        }
    }

    fn hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|ranked| ranked.0).collect()
    }
}

/// A sum of products of unit vectors may be beyond 1 by rounding.
fn bounded(cosine: f32) -> f32 {
    cosine.clamp(-1.0, 1.0)
}

/// Vectors to search in.
#[derive(Debug)]
pub struct Flat {
    width: usize,
    rows: usize,
    parameters: Parameters,
    blocks: Vec<(Linear, Range<usize>)>,
}

impl Flat {
    /// Prepares vectors `[rows, width]` for a search on a device, which computes in 32 bits.
    ///
    /// # Errors
    /// If the device has too little memory.
    ///
    /// # Panics
    /// If the values are not whole vectors.
    pub fn new(vectors: &[f32], width: usize, device: &Device) -> Result<Self, SearchError> {
        let rows = count(vectors, width);
        let device = device.clone().with_precision(Precision::F32)?;
        device.check_memory(4 * vectors.len() as u64)?;
        let mut declarations = Declarations::default();
        let mut blocks = Vec::new();
        for first in (0..rows).step_by(BLOCK) {
            let range = first..(first + BLOCK).min(rows);
            let weight = declarations.declare(first.to_string(), &[range.len(), width], ParameterKind::Matrix);
            blocks.push((Linear { weight, bias: None }, range));
        }
        let mut ranges = blocks.iter().map(|(_, range)| range.clone());
        // Parameters are read in the order in which they were declared.
        let parameters = Parameters::prepared(declarations, device, DType::F32, |_| {
            let range = ranges.next().unwrap_or_default();
            let mut block = vectors[range.start * width..range.end * width].to_vec();
            block.par_chunks_exact_mut(width).for_each(scale_to_one);
            Ok::<_, DeviceError>(block.into())
        })?;
        Ok(Flat { width, rows, parameters, blocks })
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no vectors.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The `count` vectors nearest to each query `[queries, width]`, best first; of equal ones, those with lower rows.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If the values are not whole vectors.
    pub fn nearest(&self, queries: &[f32], count: usize) -> Result<Vec<Vec<Hit>>, SearchError> {
        self.search(queries, count, |_| None, &mut |_| {})
    }

    /// The `count` vectors nearest to each of the vectors themselves, given again as `[rows, width]`, without itself.
    /// `advance` is told how many are done.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn neighbors(
        &self,
        vectors: &[f32],
        count: usize,
        advance: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<Hit>>, SearchError> {
        assert_eq!(vectors.len(), self.rows * self.width, "the same vectors");
        self.search(vectors, count, Some, advance)
    }

    fn search(
        &self,
        queries: &[f32],
        count: usize,
        without: impl Fn(usize) -> Option<usize> + Sync,
        advance: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<Hit>>, SearchError> {
        let count = count.min(self.rows);
        let mut best: Vec<Best> = (0..self::count(queries, self.width)).map(|_| Best::new(count)).collect();
        self.products(queries, advance, |first, rows, cosines| {
            let some = best[first..].par_iter_mut().zip(cosines.par_chunks_exact(rows.len())).enumerate();
            some.for_each(|(query, (best, cosines))| best.add(rows.start, cosines, without(first + query)));
        })?;
        Ok(best.into_iter().map(Best::hits).collect())
    }

    /// Calls `each` with query, row and cosine of all pairs whose cosine with a query `[queries, width]` is at least `least`,
    /// a batch at a time, in the order of the queries within it. `advance` is told how many queries are done.
    ///
    /// # Errors
    /// If the device fails.
    ///
    /// # Panics
    /// If the values are not whole vectors.
    pub fn above(
        &self,
        queries: &[f32],
        least: f32,
        advance: &mut dyn FnMut(usize),
        mut each: impl FnMut(&[(usize, usize, f32)]),
    ) -> Result<(), SearchError> {
        let _ = count(queries, self.width);
        self.products(queries, advance, |first, rows, cosines| {
            let some = cosines.par_chunks_exact(rows.len()).enumerate().flat_map_iter(|(query, cosines)| {
                let found = (rows.start..).zip(cosines).filter(|&(_, &cosine)| cosine >= least);
                found.map(move |(row, &cosine)| (first + query, row, bounded(cosine)))
            });
            let found: Vec<(usize, usize, f32)> = some.collect();
            each(&found);
        })
    }

    /// Passes on all cosines, a block `[queries, rows]` at a time with the first query and the rows.
    fn products(
        &self,
        queries: &[f32],
        advance: &mut dyn FnMut(usize),
        mut each: impl FnMut(usize, Range<usize>, &[f32]),
    ) -> Result<(), SearchError> {
        let context = Context::inference(&self.parameters);
        let device = self.parameters.device();
        for (batch, queries) in queries.chunks(QUERIES * self.width).enumerate() {
            let (first, count) = (batch * QUERIES, queries.len() / self.width);
            let mut unit = queries.to_vec();
            unit.par_chunks_exact_mut(self.width).for_each(scale_to_one);
            let unit = device.upload([count, self.width], &unit)?;
            for (linear, rows) in &self.blocks {
                let cosines = context.linear(&unit, *linear).to_vec()?;
                each(first, rows.clone(), &cosines);
            }
            advance(count);
        }
        Ok(())
    }
}

fn count(vectors: &[f32], width: usize) -> usize {
    assert!(width > 0 && vectors.len().is_multiple_of(width), "whole vectors of {width}, not {}", vectors.len());
    vectors.len() / width
}

/// Scales a vector to length 1. One without a direction becomes zero.
fn scale_to_one(vector: &mut [f32]) {
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::apart;

    /// Vectors without structure, the same every time.
    fn vectors(rows: usize, width: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..rows * width).map(|_| next()).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn neighbors_are_those_of_all_cosines() {
        let (rows, width) = (BLOCK + 77, 19);
        let all = vectors(rows, width);
        let row = |row: usize| &all[row * width..][..width];
        for device in [Device::cpu(1), Device::cpu(3)] {
            let flat = Flat::new(&all, width, &device).expect("memory");
            let queries: Vec<f32> = [5, BLOCK + 5].iter().flat_map(|&query| row(query).to_vec()).collect();
            for (query, hits) in [5, BLOCK + 5].into_iter().zip(flat.nearest(&queries, 9).expect("computed")) {
                let mut expected: Vec<(f64, usize)> = (0..rows).map(|i| (cosine(row(query), row(i)), i)).collect();
                expected.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                let rows: Vec<usize> = hits.iter().map(|hit| hit.row).collect();
                assert_eq!(rows, expected.iter().take(9).map(|hit| hit.1).collect::<Vec<_>>());
                let cosines: Vec<f64> = hits.iter().map(|hit| hit.cosine.into()).collect();
                let expected: Vec<f64> = expected.iter().take(9).map(|hit| hit.0).collect();
                assert!(apart(&cosines, &expected) < 1e-6);
            }
        }
    }

    #[test]
    fn equal_vectors_come_in_order_and_none_is_its_own_neighbor() {
        let width = 8;
        let one = vectors(1, width);
        // All the same direction; one in the middle has none.
        let mut all: Vec<f32> = (1..=BLOCK + 3).flat_map(|k| one.iter().map(move |x| x * k as f32)).collect();
        all[4 * width..5 * width].fill(0.0);
        let flat = Flat::new(&all, width, &Device::cpu(2)).expect("memory");
        let found = flat.neighbors(&all, 4, &mut |_| {}).expect("computed");
        let rows = |row: usize| found[row].iter().map(|hit| hit.row).collect::<Vec<_>>();
        assert_eq!(found.len(), BLOCK + 3);
        assert!(found[4].iter().all(|hit| hit.cosine == 0.0));
        assert_eq!(rows(4), [0, 1, 2, 3]);
        for hits in [&found[0], &found[BLOCK + 2]] {
            assert!(hits.iter().all(|hit| hit.cosine > 1.0 - 1e-6 && hit.cosine <= 1.0), "{hits:?}");
        }
        // More than there are, none at all, and nothing to search in.
        assert_eq!(flat.nearest(&one, usize::MAX).expect("computed")[0].len(), BLOCK + 3);
        assert_eq!(flat.nearest(&one, 0).expect("computed"), [vec![]]);
        let empty = Flat::new(&[], width, &Device::cpu(1)).expect("memory");
        assert!(empty.is_empty() && empty.nearest(&one, 3).expect("computed") == [vec![]]);
    }

    #[test]
    fn pairs_are_found_within_and_across_blocks() {
        let width = 32;
        let mut all = vectors(BLOCK + 300, width);
        for (copy, original) in [(7, 3), (BLOCK + 200, 3), (BLOCK + 201, BLOCK + 199)] {
            all.copy_within(original * width..(original + 1) * width, copy * width);
        }
        let flat = Flat::new(&all, width, &Device::cpu(2)).expect("memory");
        let mut found = Vec::new();
        let mut done = 0;
        flat.above(&all, 0.99, &mut |count| done += count, |pairs| {
            found.extend(pairs.iter().map(|pair| (pair.0, pair.1)))
        })
        .expect("computed");
        found.retain(|(query, row)| query < row);
        found.sort_unstable();
        assert_eq!(found, [(3, 7), (3, BLOCK + 200), (7, BLOCK + 200), (BLOCK + 199, BLOCK + 201)]);
        assert_eq!(done, flat.len());
    }
}
