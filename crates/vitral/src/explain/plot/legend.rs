//! Legends beside plots, where they cover nothing.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::super::ExplainError;
use super::super::paint::color;
use crate::error::Error;

/// The font of all text.
pub(super) const FONT: &str = "sans-serif";

/// Lines of a legend, at most; more would be higher than the plot.
pub(super) const SHOWN: usize = 18;
/// Space around a plot.
pub(super) const MARGIN: i32 = 12;
/// Space that the title takes.
const TITLE: u32 = 36;
/// Height of a line.
const LINE: i32 = 19;
/// Space that a color bar with its numbers takes.
pub(super) const BAR: u32 = 72;

/// An error of the library that draws, as ours.
pub(super) fn drawing<E: std::fmt::Display>(error: E) -> Error {
    ExplainError::Drawing(error.to_string()).into()
}

/// The area of a drawing.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How something is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mark {
    Line(RGBColor),
    /// With dashes of this length.
    Dashed(RGBColor, u32),
    Dot(RGBColor),
}

/// A line of the legend.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) mark: Mark,
    pub(super) name: String,
}

/// The width of a legend; 0 if it is empty.
pub(super) fn width(keys: &[Key]) -> u32 {
    let letters = keys.iter().map(|key| key.name.chars().count()).max();
    letters.map_or(0, |letters| 44 + 8 * letters as u32)
}

/// Writes the title, draws the legend beside a plot of this width, and returns the rest for the plot.
pub(super) fn beside<'a>(area: Area<'a>, title: &str, plot: u32, keys: &[Key]) -> Result<Area<'a>, Error> {
    let (area, side) = titled(area, title, plot)?;
    let shown = if keys.len() > SHOWN { SHOWN - 1 } else { keys.len() };
    if shown < keys.len() {
        let rest = format!("and {} more", keys.len() - shown);
        let y = MARGIN + LINE * shown as i32 + LINE / 2;
        side.draw(&Text::new(rest, (30, y - 6), (FONT, 12))).map_err(drawing)?;
    }
    for (line, key) in keys[..shown].iter().enumerate() {
        let y = MARGIN + LINE * line as i32 + LINE / 2;
        match key.mark {
            Mark::Line(color) => {
                side.draw(&PathElement::new([(0, y), (22, y)], color.stroke_width(2))).map_err(drawing)?;
            }
            Mark::Dashed(color, length) => {
                for start in (0..22).step_by(length as usize + 4) {
                    let end = (start + length as i32).min(22);
                    side.draw(&PathElement::new([(start, y), (end, y)], color.stroke_width(2))).map_err(drawing)?;
                }
            }
            Mark::Dot(color) => side.draw(&Circle::new((11, y), 4, color.filled())).map_err(drawing)?,
        }
        side.draw(&Text::new(key.name.as_str(), (30, y - 6), (FONT, 12))).map_err(drawing)?;
    }
    Ok(area)
}

/// Writes the title, draws a color bar from 0 to 1 beside a plot of this width, and returns the rest for the plot.
pub(super) fn scale_beside<'a>(area: Area<'a>, title: &str, plot: u32) -> Result<Area<'a>, Error> {
    const STEPS: i32 = 64;
    let (area, side) = titled(area, title, plot)?;
    // Beside the plot itself, without its axis.
    let (top, bottom) = (MARGIN, side.dim_in_pixel().1 as i32 - MARGIN - 40);
    let at = |step: i32| bottom - (bottom - top) * step / STEPS;
    for step in 0..STEPS {
        let [r, g, b] = color(step as f32 / (STEPS - 1) as f32);
        let part = Rectangle::new([(4, at(step + 1)), (22, at(step))], RGBColor(r, g, b).filled());
        side.draw(&part).map_err(drawing)?;
    }
    for (step, name) in [(0, "0"), (STEPS / 2, "0.5"), (STEPS, "1")] {
        side.draw(&Text::new(name, (28, at(step) - 6), (FONT, 12))).map_err(drawing)?;
    }
    Ok(area)
}

/// Writes the title above a plot of this width; returns the plot's area and the one beside it.
fn titled<'a>(area: Area<'a>, title: &str, plot: u32) -> Result<(Area<'a>, Area<'a>), Error> {
    let (above, below) = area.split_vertically(TITLE);
    let style = (FONT, 18).into_text_style(&above);
    let width = above.estimate_text_size(title, &style).map_err(drawing)?.0;
    let left = (plot as i32 - width as i32).max(2 * MARGIN) / 2;
    above.draw_text(title, &style, (left, 12)).map_err(drawing)?;
    Ok(below.split_horizontally(plot))
}
