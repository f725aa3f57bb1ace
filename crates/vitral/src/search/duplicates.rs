//! Images that are in an index more than once.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use rayon::prelude::*;
use vitral_engine::Device;

use super::SearchError;
use super::flat::Flat;
use super::index::Index;
use super::pixels::{COARSE, Sums, Window, mirrored};

/// What makes two images duplicates, besides equal pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alike {
    /// The same image: the brightness of one correlates at least this much with that of the other, with its mirror image
    /// or with a part of it.
    Image(f64),
    /// Similar contents: the cosine of the features is at least this.
    Features(f32),
}

impl Default for Alike {
    /// The same image, at a correlation of 0.97.
    fn default() -> Self {
        Alike::Image(0.97)
    }
}

/// How an image relates to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The pixels are equal, whatever the files.
    SamePixels,
    /// The same image with other pixels: encoded again, resized, in other colors.
    SameImage,
    /// Its mirror image.
    Mirrored,
    /// A part of it, or the whole of which it is a part.
    Cropped,
    /// A part of the mirror image.
    MirroredAndCropped,
    /// The features are similar.
    SimilarFeatures,
}

impl Relation {
    /// The relation in words.
    pub const fn words(self) -> &'static str {
        match self {
            Relation::SamePixels => "same pixels",
            Relation::SameImage => "same image",
            Relation::Mirrored => "mirrored",
            Relation::Cropped => "cropped",
            Relation::MirroredAndCropped => "mirrored and cropped",
            Relation::SimilarFeatures => "similar features",
        }
    }
}

/// An image of a group, and another one of it that it is a copy of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// Its row.
    pub row: usize,
    /// The row of the other one.
    pub of: usize,
    /// How the two relate.
    pub relation: Relation,
    /// How alike they are: the correlation of their brightness, or the cosine of their features; 1 for equal pixels.
    pub likeness: f64,
}

/// Images that are copies of each other, directly or through others.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The row of the image with the largest file, which likely is the original.
    pub first: usize,
    /// The others, in the order of their rows.
    pub others: Vec<Member>,
}

/// Two images that are alike.
#[derive(Clone, Copy, Debug)]
struct Edge {
    rows: (usize, usize),
    relation: Relation,
    likeness: f64,
}

/// Candidates for each image, at most: the likeliest. More only occur where hundreds of images are alike.
const CANDIDATES: usize = 32;
/// The correlation over coarse cells from which two images are candidates.
const COARSELY: f32 = 0.9;
/// The part of an image's area from which a match is the whole image.
const WHOLE: f64 = 0.93;

/// Finds groups of duplicates, in the order of their first rows. Equal pixels always count. `advance` is told how many of
/// [`rounds`] times all images are done.
///
/// # Errors
/// If the device fails.
pub fn duplicates(
    index: &Index,
    alike: Alike,
    device: &Device,
    advance: &mut dyn FnMut(usize),
) -> Result<Vec<Group>, SearchError> {
    let mut edges = equal(index);
    // Of images with equal pixels, one is enough.
    let copies: Vec<usize> = edges.iter().map(|edge| edge.rows.1).collect();
    match alike {
        Alike::Image(least) => edges.extend(same_images(index, &copies, least, device, advance)?),
        Alike::Features(least) => {
            let flat = Flat::new(index.features(), index.width(), device)?;
            // There may be very many pairs; those that join groups are enough.
            let mut root: Vec<usize> = (0..index.len()).collect();
            flat.above(index.features(), least, advance, |pairs| {
                let found = pairs.iter().filter(|(query, row, _)| query < row && join(&mut root, *query, *row));
                edges.extend(found.map(|&(query, row, cosine)| Edge {
                    rows: (query, row),
                    relation: Relation::SimilarFeatures,
                    likeness: cosine.into(),
                }));
            })?;
        }
    }
    Ok(groups(index, edges))
}

/// How many times [`duplicates`] goes through all images.
pub fn rounds(alike: Alike) -> usize {
    match alike {
        Alike::Image(_) => Window::starts().len(),
        Alike::Features(_) => 1,
    }
}

/// Images with equal pixels: each with the first one that has them.
fn equal(index: &Index) -> Vec<Edge> {
    let mut first: HashMap<[u8; 16], usize> = HashMap::new();
    let mut edges = Vec::new();
    for (row, entry) in index.entries().iter().enumerate() {
        let &mut original = first.entry(entry.pixels).or_insert(row);
        if original != row {
            edges.push(Edge { rows: (original, row), relation: Relation::SamePixels, likeness: 1.0 });
        }
    }
    edges
}

/// A part of an image that may be another image, or its mirror image.
#[derive(Clone, Copy)]
struct Candidate {
    correlation: f32,
    other: usize,
    start: usize,
    mirrored: bool,
}

/// Files that show the same image.
fn same_images(
    index: &Index,
    without: &[usize],
    least: f64,
    device: &Device,
    advance: &mut dyn FnMut(usize),
) -> Result<Vec<Edge>, SearchError> {
    let count = index.len();
    let sums: Vec<Sums> = (0..count).into_par_iter().map(|row| Sums::of(index.small(row))).collect();
    let turned: Vec<Sums> = (0..count).into_par_iter().map(|row| Sums::of(&mirrored(index.small(row)))).collect();
    let coarse =
        |sums: &[Sums], part: Window| -> Vec<f32> { sums.par_iter().flat_map_iter(|sums| sums.coarse(part)).collect() };
    let mut whole = coarse(&sums, Window::WHOLE);
    whole.extend(coarse(&turned, Window::WHOLE));
    for &row in without {
        for row in [row, count + row] {
            whole[row * COARSE * COARSE..][..COARSE * COARSE].fill(0.0);
        }
    }
    let flat = Flat::new(&whole, COARSE * COARSE, device)?;
    drop(whole);
    let starts = Window::starts();
    let mut candidates: Vec<Vec<Candidate>> = vec![Vec::new(); count];
    for (start, &part) in starts.iter().enumerate() {
        let mut parts = coarse(&sums, part);
        for &row in without {
            parts[row * COARSE * COARSE..][..COARSE * COARSE].fill(0.0);
        }
        flat.above(&parts, COARSELY, advance, |pairs| {
            for &(row, found, correlation) in pairs {
                let (other, mirrored) = (found % count, found >= count);
                if other != row {
                    keep(&mut candidates[row], Candidate { correlation, other, start, mirrored });
                }
            }
        })?;
    }
    drop(flat);
    let edges = candidates.par_iter().enumerate().flat_map_iter(|(row, candidates)| {
        let check = |candidate: &Candidate| {
            let other = if candidate.mirrored { &turned[candidate.other] } else { &sums[candidate.other] };
            let (likeness, part) = sums[row].best_part(&other.fine(), starts[candidate.start]);
            let relation = match (candidate.mirrored, part.area() >= WHOLE) {
                (false, true) => Relation::SameImage,
                (true, true) => Relation::Mirrored,
                (false, false) => Relation::Cropped,
                (true, false) => Relation::MirroredAndCropped,
            };
            Edge { rows: (row.min(candidate.other), row.max(candidate.other)), relation, likeness }
        };
        candidates.iter().map(check).filter(|edge| edge.likeness >= least).collect::<Vec<_>>()
    });
    Ok(edges.collect())
}

/// Keeps the likeliest candidates, one for each image and side.
fn keep(candidates: &mut Vec<Candidate>, new: Candidate) {
    let same = |old: &Candidate| (old.other, old.mirrored) == (new.other, new.mirrored);
    if let Some(old) = candidates.iter_mut().find(|old| same(old)) {
        if new.correlation > old.correlation {
            *old = new;
        }
        return;
    }
    if candidates.len() < CANDIDATES {
        candidates.push(new);
        return;
    }
    // Ties are decided by row, so that the order in which candidates come does not matter.
    let rank = |candidate: &Candidate| (candidate.correlation, Reverse(candidate.other), candidate.mirrored);
    let worst = (0..candidates.len())
        .min_by(|&a, &b| rank(&candidates[a]).partial_cmp(&rank(&candidates[b])).unwrap_or(std::cmp::Ordering::Equal));
    if let Some(worst) = worst.filter(|&worst| rank(&new) > rank(&candidates[worst])) {
        candidates[worst] = new;
    }
}

/// The connected groups of a graph. Each image is a copy of the first one of its group if there is an edge between the two,
/// else of one that is as near to it as possible.
fn groups(index: &Index, mut edges: Vec<Edge>) -> Vec<Group> {
    let rank = |relation: Relation| relation as usize;
    edges.sort_by(|a, b| {
        b.likeness.total_cmp(&a.likeness).then(rank(a.relation).cmp(&rank(b.relation))).then(a.rows.cmp(&b.rows))
    });
    let mut root: Vec<usize> = (0..index.len()).collect();
    let mut beside: HashMap<usize, Vec<Edge>> = HashMap::new();
    for edge in edges {
        join(&mut root, edge.rows.0, edge.rows.1);
        beside.entry(edge.rows.0).or_default().push(edge);
        beside.entry(edge.rows.1).or_default().push(edge);
    }
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut rows: Vec<usize> = beside.keys().copied().collect();
    rows.sort_unstable();
    for row in rows {
        members.entry(find(&mut root, row)).or_default().push(row);
    }
    let group = |rows: Vec<usize>| {
        let size = |row: usize| index.entries()[row].state.bytes;
        let first = rows.iter().copied().min_by_key(|&row| (Reverse(size(row)), row)).unwrap_or_default();
        let (mut others, mut reached) = (Vec::new(), VecDeque::from([first]));
        let mut seen = HashSet::from([first]);
        while let Some(row) = reached.pop_front() {
            for edge in &beside[&row] {
                let other = if edge.rows.0 == row { edge.rows.1 } else { edge.rows.0 };
                if seen.insert(other) {
                    others.push(Member { row: other, of: row, relation: edge.relation, likeness: edge.likeness });
                    reached.push_back(other);
                }
            }
        }
        others.sort_by_key(|member| member.row);
        Group { first, others }
    };
    let mut groups: Vec<Group> = members.into_values().map(group).collect();
    groups.sort_by_key(|group| group.others.iter().map(|member| member.row).fold(group.first, usize::min));
    groups
}

/// Joins the trees of two rows; whether they were two.
fn join(root: &mut [usize], a: usize, b: usize) -> bool {
    let (a, b) = (find(root, a), find(root, b));
    root[a.max(b)] = a.min(b);
    a != b
}

/// The root of a row's tree.
fn find(root: &mut [usize], row: usize) -> usize {
    let mut at = row;
    while root[at] != at {
        root[at] = root[root[at]];
        at = root[at];
    }
    at
}
