//! What tokens represent: principal components as colors, similarity, norms, effective rank, and how similar the layers
//! of one or two models are.

use super::algebra;

/// The first three principal components of patch tokens `[patches, width]` as red, green and blue from 0 to 1,
/// `[patches, 3]` (Oquab et al., arXiv:2304.07193). Pass the tokens of several images together for comparable colors.
pub fn colors(tokens: &[f32], width: usize) -> Vec<f32> {
    let found = algebra::principal(tokens, width, 3);
    let components = found.components.len() / width;
    let scores = found.project(tokens);
    let patches = tokens.len() / width;
    let mut colors = vec![0.5; 3 * patches];
    for component in 0..components {
        let along: Vec<f32> = scores.iter().skip(component).step_by(components).copied().collect();
        let mut sorted = along.clone();
        sorted.sort_by(f32::total_cmp);
        // One percent at either end is clipped, so that a single outlier does not use up the contrast.
        let at = |share: f32| sorted[(share * (patches - 1) as f32).round() as usize];
        let (low, high) = (at(0.01), at(0.99));
        for (patch, value) in along.iter().enumerate() {
            colors[3 * patch + component] =
                if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
        }
    }
    colors
}

/// Cosines between one patch's token and each of `[patches, width]`.
pub fn similarities(tokens: &[f32], width: usize, patch: usize) -> Vec<f32> {
    let chosen = &tokens[patch * width..(patch + 1) * width];
    tokens.chunks_exact(width).map(|token| cosine(token, chosen)).collect()
}

/// The cosine between two vectors; 0 where either is 0.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (inner(a, a) * inner(b, b)).sqrt();
    if lengths > 0.0 { (inner(a, b) / lengths) as f32 } else { 0.0 }
}

/// The norm of every token of `[tokens, width]`.
pub fn norms(tokens: &[f32], width: usize) -> Vec<f32> {
    let length = |token: &[f32]| token.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
    tokens.chunks_exact(width).map(length).collect()
}

/// The effective rank of tokens `[tokens, width]` (Roy & Vetterli 2007): the exponential of the entropy of their
/// normalized singular values, from 1 (all on a line) to the full rank. The mean is not subtracted.
pub fn effective_rank(tokens: &[f32], width: usize) -> f64 {
    let count = tokens.len() / width;
    let rows: Vec<f64> = tokens.iter().map(|x| f64::from(*x)).collect();
    let (product, side) = if count <= width {
        (algebra::gram(&rows, count, width), count)
    } else {
        let columns: Vec<f64> =
            (0..width).flat_map(|column| rows.iter().skip(column).step_by(width).copied()).collect();
        (algebra::gram(&columns, width, count), width)
    };
    let singular: Vec<f64> =
        algebra::symmetric_eigen(product, side).values.iter().map(|value| value.max(0.0).sqrt()).collect();
    let total: f64 = singular.iter().sum();
    let entropy: f64 = singular.iter().map(|s| s / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    if total > 0.0 { entropy.exp() } else { 0.0 }
}

/// The inner products of the representations of `images` images, each flattened, `[images, images]`.
pub fn gram(representations: &[f32], images: usize) -> Vec<f64> {
    let width = representations.len() / images.max(1);
    let mut mean = vec![0.0f64; width];
    for row in representations.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += f64::from(*x) / images as f64);
    }
    let rows: Vec<f64> = representations.iter().enumerate().map(|(i, x)| f64::from(*x) - mean[i % width]).collect();
    algebra::gram(&rows, images, width)
}

/// The unbiased estimate of the Hilbert-Schmidt independence criterion of two Gram matrices `[images, images]` (Song et
/// al. 2012), which can be averaged over batches (Nguyen et al., arXiv:2010.15327). Requires at least four images.
pub fn independence(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().isqrt();
    // The diagonal, an image with itself, would bias the estimate.
    let off = |x: &[f64]| -> Vec<f64> { (0..n * n).map(|i| if i / n == i % n { 0.0 } else { x[i] }).collect() };
    let (a, b) = (off(a), off(b));
    let sums = |x: &[f64]| -> Vec<f64> { x.chunks_exact(n).map(|row| row.iter().sum()).collect() };
    let (rows_a, rows_b) = (sums(&a), sums(&b));
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (total_a, total_b) = (rows_a.iter().sum::<f64>(), rows_b.iter().sum::<f64>());
    let n = n as f64;
    let together =
        inner(&a, &b) + total_a * total_b / ((n - 1.0) * (n - 2.0)) - 2.0 / (n - 2.0) * inner(&rows_a, &rows_b);
    together / (n * (n - 3.0))
}

#[cfg(test)]
mod tests {
    use vitral_engine::random::normal;

    use super::*;

    #[test]
    fn ranks_count_directions() {
        let line: Vec<f32> = (0..12).flat_map(|i| [i as f32, 2.0 * i as f32, 0.0]).collect();
        assert!((effective_rank(&line, 3) - 1.0).abs() < 1e-6);
        let corners = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        assert!((effective_rank(&corners, 3) - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_representation_is_similar_to_its_rotation_and_not_to_noise() {
        let images = 12;
        let a: Vec<f32> = (0..images * 5).map(|i| normal(1, i as u64)).collect();
        // Two axes swapped and one flipped: CKA does not change.
        let turned: Vec<f32> = a.chunks(5).flat_map(|x| [x[1], x[0], -x[2], x[3], x[4]]).collect();
        let noise: Vec<f32> = (0..images * 5).map(|i| normal(7, i as u64)).collect();
        let grams = [&a, &turned, &noise].map(|x| gram(x, images));
        let cka = |a: &[f64], b: &[f64]| independence(a, b) / (independence(a, a) * independence(b, b)).sqrt();
        assert!((cka(&grams[0], &grams[1]) - 1.0).abs() < 1e-9);
        assert!(cka(&grams[0], &grams[2]).abs() < 0.4);
    }

    #[test]
    fn colors_are_in_range_and_spread() {
        let tokens: Vec<f32> = (0..40 * 6).map(|i| normal(3, i)).collect();
        let found = colors(&tokens, 6);
        assert_eq!(found.len(), 120);
        assert!(found.iter().all(|x| (0.0..=1.0).contains(x)));
        assert!(found.contains(&0.0) && found.contains(&1.0));
        // Fewer tokens than colors.
        assert_eq!(colors(&tokens[..6], 6), [0.5, 0.5, 0.5]);
        assert!((similarities(&tokens, 6, 3)[3] - 1.0).abs() < 1e-6);
    }
}
