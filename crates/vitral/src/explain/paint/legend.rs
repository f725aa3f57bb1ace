//! What is below the images of a sheet, and below the sheet.

use super::canvas::{Canvas, LETTER, LINE, Weight, short, width_of, wrapped};

/// Pixels that a line of text may always take, even if the images need less.
pub(super) const LEAST: usize = 40 * LETTER;
/// Pixels of a color bar: at least, and at most.
const BAR: [usize; 2] = [60, 256];

/// What is below an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Caption {
    /// Nothing.
    Nothing,
    /// A line of text.
    Text(String),
    /// A color bar between the values that its ends stand for.
    Scale(f32, f32),
}

/// A line of the legend below all images.
#[derive(Clone, Debug, PartialEq)]
pub enum Legend {
    /// A color bar, with what its ends stand for.
    Scale(String, String),
    /// Single colors, with what each stands for.
    Colors(Vec<([u8; 3], String)>),
    /// Text.
    Text(String),
}

impl Caption {
    /// Draws the caption below an image of this width.
    pub(super) fn draw(&self, canvas: &mut Canvas, top: usize, left: usize, width: usize) {
        match self {
            Caption::Nothing => {}
            Caption::Text(text) => {
                canvas.text(text, top, left + width.saturating_sub(width_of(text)) / 2, Weight::Regular);
            }
            Caption::Scale(low, high) => {
                let (low, high) = (short(*low), short(*high));
                let bar = width.saturating_sub(width_of(&low) + width_of(&high) + 8);
                canvas.text(&low, top, left, Weight::Regular);
                canvas.bar(top, left + width_of(&low) + 4, bar);
                canvas.text(&high, top, left + width_of(&low) + 8 + bar, Weight::Regular);
            }
        }
    }
}

impl Legend {
    /// Lines of text that it takes in a place that is `width` wide.
    pub(super) fn lines(&self, width: usize) -> usize {
        match self {
            Legend::Text(text) => wrapped(text, width / LETTER, usize::MAX).len(),
            Legend::Scale(..) | Legend::Colors(_) => 1,
        }
    }

    /// Pixels that the line takes at least; text is broken.
    pub(super) fn width(&self) -> usize {
        match self {
            Legend::Scale(low, high) => width_of(low) + width_of(high) + BAR[0] + 2 * LETTER,
            Legend::Colors(colors) => colors.iter().map(|(_, text)| LINE + width_of(text) + 2 * LETTER).sum(),
            Legend::Text(_) => LEAST,
        }
    }

    /// Draws the line in a place that is `width` wide.
    pub(super) fn draw(&self, canvas: &mut Canvas, [top, mut left]: [usize; 2], width: usize) {
        match self {
            Legend::Text(text) => {
                for (line, text) in wrapped(text, width / LETTER, usize::MAX).iter().enumerate() {
                    canvas.text(text, top + line * LINE, left, Weight::Regular);
                }
            }
            Legend::Scale(low, high) => {
                let room = width.saturating_sub(width_of(low) + width_of(high) + 2 * LETTER);
                let bar = room.min(BAR[1]);
                canvas.text(low, top, left, Weight::Regular);
                canvas.bar(top, left + width_of(low) + LETTER, bar);
                canvas.text(high, top, left + width_of(low) + bar + 2 * LETTER, Weight::Regular);
            }
            Legend::Colors(colors) => {
                for (with, text) in colors {
                    canvas.fill([top + 3, left], [12, 12], *with);
                    canvas.text(text, top, left + LINE, Weight::Regular);
                    left += LINE + width_of(text) + 2 * LETTER;
                }
            }
        }
    }
}

/// The legend of an image whose colors are the first three principal components.
pub fn principal_legend() -> Legend {
    let named = |(at, text): (usize, &str)| {
        let mut color = [0; 3];
        color[at] = 230;
        (color, text.to_owned())
    };
    Legend::Colors([(0, "component 1"), (1, "2"), (2, "3")].map(named).to_vec())
}
