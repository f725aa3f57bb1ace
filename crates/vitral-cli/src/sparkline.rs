//! Numbers as one line of block characters.

use vitral::numbers::finite_range;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the numbers in order, scaled from the smallest to the largest block. If there are more than `width`, that many
/// are chosen evenly, including the last. Non-finite numbers are left blank.
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
    fn draws_rising_and_falling_numbers() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[3.0, 1.0, f64::NAN, 1.0], 8), "█▁ ▁");
        assert_eq!(sparkline(&[2.0, 2.0], 8), "▅▅");
        assert_eq!(sparkline(&[f64::INFINITY], 8), " ");
        assert_eq!(sparkline(&[], 8), "");
    }

    #[test]
    fn the_last_of_many_is_shown() {
        let line = sparkline(&(0..1000).map(f64::from).collect::<Vec<_>>(), 20);
        assert_eq!((line.chars().count(), line.chars().last()), (20, Some('█')));
    }
}
