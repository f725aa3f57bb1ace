//! The fax compressions of ITU-T T.4 and T.6: runs of white and black, coded alone or by the row above.

mod bits;
mod codes;

use super::fault::{corrupt, truncated};
use super::rows::Rows;
use crate::image::ImageError;
use bits::Bits;
use codes::{Color, Mode};

/// The fax compressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fax {
    /// Runs alone; rows begin at whole bytes.
    RowsOfBytes,
    /// Runs alone; rows begin at whole pairs of bytes.
    RowsOfWords,
    /// Rows are separated by end-of-line codes.
    Group3 {
        /// Some rows are coded by the row above.
        two_dimensional: bool,
    },
    /// All rows are coded by the row above.
    Group4,
}

/// How a row ended.
#[derive(PartialEq, Eq)]
enum End {
    Complete,
    /// At an invalid code: the rest of the row is white.
    Broken,
    /// The end-of-block code, in place of a row.
    Block,
}

/// Restores rows of one bit per pixel, with black as 1.
pub(super) fn rows(kind: Fax, data: &[u8], rows: &Rows) -> Result<Vec<u8>, ImageError> {
    let mut bits = Bits::new(data);
    let mut out = vec![0; rows.stride * rows.count];
    let mut above = Changes::default();
    for (index, row) in out.chunks_exact_mut(rows.stride).enumerate() {
        let mut changes = Changes::default();
        let end = match kind {
            Fax::RowsOfBytes | Fax::RowsOfWords => {
                bits.align(if kind == Fax::RowsOfBytes { 8 } else { 16 });
                alone(&mut bits, rows.width, &mut changes)
            }
            Fax::Group4 => by_the_row_above(&mut bits, rows.width, &above, &mut changes),
            Fax::Group3 { two_dimensional } => {
                let separated = bits.skip_end_of_line();
                if separated && bits.ends_line_after(usize::from(two_dimensional)) {
                    End::Block
                } else if two_dimensional && bits.take(1) == 0 {
                    by_the_row_above(&mut bits, rows.width, &above, &mut changes)
                } else {
                    alone(&mut bits, rows.width, &mut changes)
                }
            }
        };
        match end {
            // Rows that are missing at the end are white.
            End::Block => break,
            End::Broken if bits.is_over() => return Err(truncated(format!("fax data ends in row {index}"))),
            _ if bits.overdrawn() => return Err(truncated(format!("fax data ends in row {index}"))),
            End::Broken => match kind {
                Fax::Group3 { .. } => bits.find_end_of_line(),
                _ => return Err(corrupt(format!("an invalid fax code in row {index}"))),
            },
            End::Complete => {}
        }
        changes.paint(row, rows.width);
        above = changes;
    }
    Ok(out)
}

/// The columns at which the color changes, beginning with white, in increasing order.
#[derive(Default)]
struct Changes(Vec<usize>);

impl Changes {
    fn add(&mut self, column: usize) {
        // Two changes at the same place are none.
        if self.0.last() == Some(&column) {
            self.0.pop();
        } else {
            self.0.push(column);
        }
    }

    /// Sets the bits of the black runs.
    fn paint(&self, row: &mut [u8], width: usize) {
        for run in self.0.chunks(2) {
            let (start, end) = (run[0].min(width), run.get(1).map_or(width, |&end| end.min(width)));
            for column in start..end {
                row[column / 8] |= 0x80 >> (column % 8);
            }
        }
    }
}

/// A row of runs.
fn alone(bits: &mut Bits, width: usize, changes: &mut Changes) -> End {
    let (mut column, mut color) = (0, Color::White);
    while column < width {
        let Some(run) = bits.run(color) else { return End::Broken };
        column = (column + run).min(width);
        if column < width {
            changes.add(column);
        }
        color = color.other();
    }
    End::Complete
}

/// A row coded by the changes of the row above.
fn by_the_row_above(bits: &mut Bits, width: usize, above: &Changes, changes: &mut Changes) -> End {
    let above = &above.0[..];
    let (mut column, mut color, mut begun) = (0, Color::White, false);
    // The change above where the search begins.
    let mut near = 0usize;
    while column < width {
        // The next change above to the other color, to the right of this column; at the start, this column counts.
        near = near.saturating_sub(2);
        near += usize::from(near.is_multiple_of(2) != (color == Color::White));
        while above.get(near).is_some_and(|&change| change < column || (change == column && begun)) {
            near += 2;
        }
        let next = |index: usize| above.get(index).copied().unwrap_or(width);
        match bits.mode() {
            Some(Mode::Pass) => column = next(near + 1),
            Some(Mode::Vertical(shift)) => {
                let place = next(near).checked_add_signed(shift).filter(|place| (column..=width).contains(place));
                let Some(place) = place else { return End::Broken };
                if place < width {
                    changes.add(place);
                }
                (column, color) = (place, color.other());
            }
            Some(Mode::Horizontal) => {
                for color in [color, color.other()] {
                    let Some(run) = bits.run(color) else { return End::Broken };
                    column = (column + run).min(width);
                    if column < width {
                        changes.add(column);
                    }
                }
            }
            None if column == 0 && bits.skip_end_of_line() => return End::Block,
            None => return End::Broken,
        }
        begun = true;
    }
    End::Complete
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP_3: Fax = Fax::Group3 { two_dimensional: false };

    #[test]
    fn a_row_of_runs_is_painted() {
        // White 2, black 3, white 3.
        let data = [0b0111_1010, 0b0000_0000];
        let rows = |count| Rows { width: 8, stride: 1, count };
        assert_eq!(super::rows(Fax::RowsOfBytes, &data, &rows(1)).unwrap(), [0b0011_1000]);
        for (kind, length, row) in [(Fax::RowsOfBytes, 1, 0), (Fax::RowsOfBytes, 2, 1), (GROUP_3, 2, 1)] {
            let error = super::rows(kind, &data[..length], &rows(2)).unwrap_err().to_string();
            assert!(error.contains(&format!("fax data ends in row {row}")), "{error}");
        }
    }

    #[test]
    fn group_4_copies_the_row_above_by_single_bits() {
        // Horizontal: white 2, black 3; the rest vertical. Then four vertical codes, then the end of the block.
        let text = "001 0111 10 1  1 1 1  000000000001 000000000001 0000";
        let bits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').map(|byte| byte - b'0').collect();
        let data: Vec<u8> = bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect();
        let rows = Rows { width: 8, stride: 1, count: 3 };
        assert_eq!(super::rows(Fax::Group4, &data, &rows).unwrap(), [0b0011_1000, 0b0011_1000, 0]);
    }
}
