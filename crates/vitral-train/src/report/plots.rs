//! Plots of a run: curves over its epochs, and the confusion matrix.

use std::collections::HashMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use vitral::numbers::finite_range;
use vitral::palette;

use crate::balance::ChooseBy;
use crate::evaluate::{Cell, ClassReport, Report};
use crate::journal::Entry;

type Drawn = Result<(), Box<dyn std::error::Error>>;
/// A name, a color, and the value of an epoch to plot.
type Line = (&'static str, RGBColor, fn(&Entry) -> Option<f64>);

pub(crate) const INK: RGBColor = RGBColor(51, 51, 51);
pub(crate) const FAINT: RGBColor = RGBColor(221, 221, 221);
const TRAIN: RGBColor = colored(palette::ORANGE);
const HELD: RGBColor = colored(palette::BLUE);
const WRONG: RGBColor = colored(palette::VERMILION);
/// Maximum number of classes for names, and for numbers in cells.
const NAMED: usize = 40;
const NUMBERED: usize = 16;
/// Maximum number of classes in the confusion matrix.
const DRAWN: usize = 250;

/// A color of the palette.
pub(crate) const fn colored((red, green, blue): palette::Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

/// Draws into an SVG string.
pub(crate) fn svg(size: (u32, u32), draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        // Writing to a string cannot fail; anything that cannot be drawn is left out.
        let _ = area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area)).and_then(|()| Ok(area.present()?));
    }
    text
}

/// Training and validation loss and accuracy of every epoch; of the validation images, the accuracy that the best epoch is
/// chosen by.
pub fn curves(entries: &[Entry], by: ChooseBy) -> String {
    let validation = match by {
        ChooseBy::Accuracy => "validation",
        ChooseBy::BalancedAccuracy => "validation, balanced",
    };
    svg((960, 340), |area| {
        let (left, right) = area.split_horizontally(480);
        let loss: [Line; 2] =
            [("training", TRAIN, |entry| Some(entry.train_loss)), ("validation", HELD, |entry| entry.validation_loss)];
        let accuracy: [Line; 2] = [
            ("training, as augmented", TRAIN, |entry| entry.train_accuracy.map(|accuracy| 100.0 * accuracy)),
            (validation, HELD, |entry| entry.validation_accuracy.map(|accuracy| 100.0 * accuracy)),
        ];
        panel(&left, "loss", entries, loss)?;
        panel(&right, "accuracy, %", entries, accuracy)
    })
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, name: &str, entries: &[Entry], lines: [Line; 2]) -> Drawn {
    let values = lines.iter().flat_map(|(_, _, of)| entries.iter().filter_map(of));
    let Some((least, most)) = finite_range(values) else { return Ok(()) };
    let margin = 0.06 * (most - least).max(1e-3);
    let last = entries.iter().map(|entry| entry.epoch).max().unwrap_or(1).max(2) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last, least - margin..most + margin)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_labels((last as usize).min(8))
        .y_labels(6)
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .x_desc("epoch")
        .y_desc(name)
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for (label, color, of) in lines {
        // A line of a single point would be invisible.
        let single = entries.iter().filter_map(of).count() == 1;
        let points = entries.iter().filter_map(|entry| Some((entry.epoch as f64, of(entry)?)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(if single { 3 } else { 0 }))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let place = if name == "loss" { SeriesLabelPosition::UpperRight } else { SeriesLabelPosition::LowerRight };
    chart
        .configure_series_labels()
        .position(place)
        .background_style(WHITE.mix(0.8))
        .border_style(TRANSPARENT)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    Ok(())
}

/// The classes shown in the confusion matrix: those in use and, if there are too many, those with the most mistakes.
fn shown(report: &Report) -> Vec<usize> {
    let mut used = vec![(false, 0); report.classes.len()];
    for cell in &report.confusion {
        for class in [cell.label, cell.predicted] {
            used[class].0 = true;
            used[class].1 += if cell.label == cell.predicted { 0 } else { cell.images };
        }
    }
    let mut shown: Vec<usize> = (0..used.len()).filter(|&class| used[class].0).collect();
    if shown.len() > DRAWN {
        shown.sort_by_key(|&class| (std::cmp::Reverse(used[class].1), class));
        shown.truncate(DRAWN);
        shown.sort_unstable();
    }
    shown
}

/// The confusion matrix: one row per class, each cell colored by its fraction of the row's images. Classes without images
/// that were never predicted are left out, and of many classes, only those with the most mistakes are drawn.
pub fn confusion(report: &Report) -> String {
    let shown = shown(report);
    let classes = shown.len();
    let known: HashMap<usize, &ClassReport> = report.classes.iter().map(|class| (class.number, class)).collect();
    let places: HashMap<usize, i32> = shown.iter().zip(0..).map(|(&class, place)| (class, place)).collect();
    let names: Vec<&str> = shown.iter().map(|class| known[class].name.as_str()).collect();
    let named = classes <= NAMED;
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(24) as i32;
    let edge = if named { 24 + 7 * longest } else { 40 };
    let cell = (640 / classes.max(1) as i32).clamp(2, 44);
    let side = cell * classes as i32;
    svg(((edge + side + 16) as u32, (edge + side + 16) as u32), |area| {
        let ink = |size: u32| TextStyle::from(("sans-serif", size).into_font()).color(&INK);
        let square = |row: i32, column: i32, color: RGBColor| {
            let (x, y) = (edge + column * cell, edge + row * cell);
            Rectangle::new([(x, y), (x + cell, y + cell)], color.filled())
        };
        let whole = [(edge, edge), (edge + side, edge + side)];
        area.draw(&Rectangle::new(whole, shade(0.0, false).filled()))?;
        for place in 0..classes as i32 {
            area.draw(&square(place, place, shade(0.0, true)))?;
        }
        for &Cell { label, predicted, images } in &report.confusion {
            let (Some(&row), Some(&column)) = (places.get(&label), places.get(&predicted)) else { continue };
            let share = images as f64 / known[&label].images.max(1) as f64;
            area.draw(&square(row, column, shade(share, row == column)))?;
            if classes <= NUMBERED {
                let size = (cell as u32 / 3).clamp(8, 14);
                let style = if share > 0.5 { ink(size).color(&WHITE) } else { ink(size) };
                let middle = (edge + column * cell + cell / 2, edge + row * cell + cell / 2);
                area.draw(&Text::new(images.to_string(), middle, style.pos(centered())))?;
            }
        }
        if named {
            let size = (cell as u32).clamp(7, 13);
            for (at, name) in names.iter().enumerate() {
                let name: String = name.chars().take(24).collect();
                let middle = edge + at as i32 * cell + cell / 2;
                let right = plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Right,
                    plotters::style::text_anchor::VPos::Center,
                );
                area.draw(&Text::new(name.clone(), (edge - 6, middle), ink(size).pos(right)))?;
                let upright = ("sans-serif", size).into_font().transform(FontTransform::Rotate270);
                let left = plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Left,
                    plotters::style::text_anchor::VPos::Center,
                );
                area.draw(&Text::new(name, (middle, edge - 6), TextStyle::from(upright).color(&INK).pos(left)))?;
            }
        }
        Ok(())
    })
}

fn centered() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Center, VPos::Center)
}

/// White to blue for correct predictions, white to orange for mistakes; small fractions remain visible.
fn shade(share: f64, right: bool) -> RGBColor {
    let full = if right { HELD } else { WRONG };
    let strength = if share > 0.0 { 0.08 + 0.92 * share.powf(if right { 1.0 } else { 0.6 }) } else { 0.02 };
    let mixed = |channel: u8| (255.0 + (f64::from(channel) - 255.0) * strength) as u8;
    RGBColor(mixed(full.0), mixed(full.1), mixed(full.2))
}
