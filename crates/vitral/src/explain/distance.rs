//! How far heads attend, and how evenly: attention statistics, one value per head and layer.

/// The mean attention distance of each head, in pixels (Dosovitskiy et al., arXiv:2010.11929, figures 7 and 11): over
/// patches as queries, the mean of Σ weight × pixels between the patches' centers. `weights` are
/// `[heads, tokens, tokens]` and `distances` `[patches, patches]`; prefix tokens are left out, so attention to them
/// counts as distance 0.
pub fn distances(weights: &[f32], tokens: usize, distances: &[f32]) -> Vec<f64> {
    let patches = distances.len().isqrt();
    let prefix = tokens - patches;
    let of_head = |weights: &[f32]| {
        let rows = weights.chunks_exact(tokens).skip(prefix).zip(distances.chunks_exact(patches));
        rows.map(|(weights, distances)| inner(&weights[prefix..], distances)).sum::<f64>() / patches as f64
    };
    weights.chunks_exact(tokens * tokens).map(of_head).collect()
}

/// The mean entropy of each head's attention in nats, over all tokens as queries: 0 if every token attends to a single
/// one, and the logarithm of the number of tokens if it attends to all equally. `weights` are
/// `[heads, tokens, tokens]`.
pub fn entropies(weights: &[f32], tokens: usize) -> Vec<f64> {
    let of_head = |weights: &[f32]| {
        let sum: f64 = weights.iter().filter(|x| **x > 0.0).map(|&x| -f64::from(x) * f64::from(x.ln())).sum();
        sum / tokens as f64
    };
    weights.chunks_exact(tokens * tokens).map(of_head).collect()
}

/// An inner product in 16 parallel sums, which the compiler vectorizes.
fn inner(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0f32; 16];
    let (head, tail) = (a.len() / 16 * 16, a.len() % 16);
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a[head..].iter().zip(&b[head..head + tail]).map(|(a, b)| a * b).sum();
    sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() + f64::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;
    use crate::explain::Layout;

    #[test]
    fn attention_to_self_has_distance_0_and_uniform_attention_the_mean() {
        let stride = Size::square(4);
        let layout =
            Layout { prefix: 2, grid: Size { height: 3, width: 7 }, image: Size { height: 12, width: 28 }, stride };
        let (tokens, pixels) = (layout.tokens(), layout.distances());
        let own: Vec<f32> = (0..tokens * tokens).map(|i| f32::from(u8::from(i / tokens == i % tokens))).collect();
        let even = vec![1.0 / tokens as f32; tokens * tokens];
        let both = [own, even].concat();
        let found = distances(&both, tokens, &pixels);
        let mean = pixels.iter().map(|&x| f64::from(x)).sum::<f64>() / (21.0 * 23.0);
        assert_eq!(found[0], 0.0);
        assert!((found[1] - mean).abs() < 1e-4, "{} {mean}", found[1]);
        let entropies = entropies(&both, tokens);
        assert_eq!(entropies[0], 0.0);
        assert!((entropies[1] - 23f64.ln()).abs() < 1e-5);
    }
}
