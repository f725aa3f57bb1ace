//! Numbers as one line of blocks.

use vitral::numbers::finite_range;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The numbers in their order, from the least to the greatest block. Of more than `width` only so many are shown, evenly chosen,
/// with the last among them. What is no finite number is a gap.
pub(crate) fn sparkline(numbers: &[f64], width: usize) -> String {
    let shown = numbers.len().min(width);
    let chosen = (1..=shown).map(|place| numbers[numbers.len() * place / shown - 1]);
    let (least, most) = finite_range(chosen.clone()).unwrap_or_default();
    let block = |number: f64| match (number - least) / (most - least) {
        _ if !number.is_finite() => ' ',
        share if share.is_finite() => BLOCKS[((share * BLOCKS.len() as f64) as usize).min(BLOCKS.len() - 1)],
        _ => BLOCKS[BLOCKS.len() / 2],
    };
    chosen.clone().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::sparkline;

    #[test]
    fn numbers_rise_and_fall() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[3.0, 1.0, f64::NAN, 1.0], 8), "█▁ ▁");
        assert_eq!(sparkline(&[2.0, 2.0], 8), "▅▅");
        assert_eq!(sparkline(&[f64::INFINITY], 8), " ");
        assert_eq!(sparkline(&[], 8), "");
    }

    #[test]
    fn of_many_the_last_is_shown() {
        let line = sparkline(&(0..1000).map(f64::from).collect::<Vec<_>>(), 20);
        assert_eq!((line.chars().count(), line.chars().last()), (20, Some('█')));
    }
}
