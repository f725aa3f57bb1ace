//! A study as a plot: accuracy over the number of training images, one line per model.

use plotters::prelude::*;
use vitral::numbers::finite_range;
use vitral::palette;

use super::cell::Cell;
use crate::report::plots::{FAINT, INK, colored, svg};

/// The colors of the models' lines.
const COLORS: [palette::Rgb; 6] =
    [palette::BLUE, palette::VERMILION, palette::GREEN, palette::PURPLE, palette::ORANGE, palette::SKY];

/// Accuracy over the number of images, whose axis is logarithmic.
pub(super) fn curve(cells: &[Cell]) -> String {
    let mut models: Vec<&str> = Vec::new();
    for cell in cells {
        if !models.contains(&cell.model.as_str()) {
            models.push(&cell.model);
        }
    }
    let mut sizes: Vec<f64> = cells.iter().map(|cell| cell.images as f64).collect();
    let (least, most) = finite_range(sizes.iter().copied()).unwrap_or((1.0, 1.0));
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let (low, high) = finite_range(cells.iter().map(|cell| 100.0 * cell.accuracy)).unwrap_or((0.0, 100.0));
    svg((720, 440), |area| {
        if cells.is_empty() {
            return Ok(());
        }
        let margin = (0.06 * (high - low)).max(1.0);
        let mut chart =
            ChartBuilder::on(area).margin(14).x_label_area_size(40).y_label_area_size(56).build_cartesian_2d(
                // Ticks at the sizes themselves, because a range within one decade contains no power of ten.
                (0.9 * least..1.1 * most).log_scale().with_key_points(sizes),
                (low - margin).max(0.0)..(high + margin).min(100.0),
            )?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(FAINT)
            .axis_style(INK)
            .x_label_formatter(&|images| format!("{images:.0}"))
            .x_desc("training images")
            .y_desc("accuracy, %")
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .draw()?;
        for (index, model) in models.iter().enumerate() {
            let color = colored(COLORS[index % COLORS.len()]);
            let mut points: Vec<(f64, f64)> = cells
                .iter()
                .filter(|cell| cell.model == *model)
                .map(|cell| (cell.images as f64, 100.0 * cell.accuracy))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(*model)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 4, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE.mix(0.8))
            .border_style(FAINT)
            .label_font(("sans-serif", 13).into_font().color(&INK))
            .draw()?;
        Ok(())
    })
}
