//! Plots as SVG.

use plotters::prelude::*;

use super::ExplainError;
use super::paint::color;
use crate::error::Error;
use crate::numbers::finite_range;

const SIZE: (u32, u32) = (640, 400);
const FONT: &str = "sans-serif";

/// One line of a plot.
#[derive(Debug)]
pub struct Series<'a> {
    /// Its name; an empty name is left out of the legend.
    pub name: &'a str,
    /// x and y of the points, in order.
    pub points: Vec<(f64, f64)>,
}

/// Title and axis labels of a plot.
#[derive(Debug)]
pub struct Labels<'a> {
    /// The title.
    pub title: &'a str,
    /// The label of the x axis.
    pub x: &'a str,
    /// The label of the y axis.
    pub y: &'a str,
}

fn drawing<E: std::fmt::Display>(error: E) -> Error {
    ExplainError::Drawing(error.to_string()).into()
}

/// A color for one of several series, from the part of the color map that is neither black nor too pale to see.
fn shade(index: usize, count: usize) -> RGBColor {
    let [r, g, b] = color(0.12 + 0.68 * index as f32 / count.saturating_sub(1).max(1) as f32);
    RGBColor(r, g, b)
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    match finite_range(values) {
        Some((low, high)) if low < high => (low, high),
        Some((low, high)) => (low - 0.5, high + 0.5),
        None => (0.0, 1.0),
    }
}

/// A point for every head in each layer, `values` `[layers, heads]`, with their mean as a line: figure 7, right.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn heads(labels: &Labels<'_>, values: &[f64], heads: usize) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let layers = values.len() / heads;
        let (_, high) = range(values.iter().copied());
        let mut chart = ChartBuilder::on(&area)
            .caption(labels.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..layers as f64 - 0.5, 0.0..high.max(0.0) * 1.05 + f64::MIN_POSITIVE)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_labels(layers.min(16) + 1)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        let mean = values
            .chunks_exact(heads)
            .enumerate()
            .map(|(layer, values)| (layer as f64, values.iter().sum::<f64>() / heads as f64));
        chart.draw_series(LineSeries::new(mean, RGBColor(150, 150, 150).stroke_width(2))).map_err(drawing)?;
        for head in 0..heads {
            let style = shade(head, heads).filled();
            let points = values.iter().skip(head).step_by(heads).enumerate();
            chart.draw_series(points.map(|(layer, y)| Circle::new((layer as f64, *y), 4, style))).map_err(drawing)?;
        }
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

/// A line plot.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn lines(labels: &Labels<'_>, series: &[Series<'_>]) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let points = || series.iter().flat_map(|series| series.points.iter());
        let (left, right) = range(points().map(|point| point.0));
        let (low, high) = range(points().map(|point| point.1));
        let low = if low > 0.0 && low < 0.5 * high { 0.0 } else { low };
        let mut chart = ChartBuilder::on(&area)
            .caption(labels.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right, low..high + 0.05 * (high - low))
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        for (index, line) in series.iter().enumerate() {
            let style = shade(index, series.len()).stroke_width(2);
            let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), style)).map_err(drawing)?;
            if !line.name.is_empty() {
                let legend = move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style);
                drawn.label(line.name).legend(legend);
            }
        }
        if series.iter().any(|line| !line.name.is_empty()) {
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(200, 200, 200))
                .label_font((FONT, 12))
                .draw()
                .map_err(drawing)?;
        }
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

/// A histogram of `values` with `bins` bars.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn histogram(labels: &Labels<'_>, values: &[f32], bins: usize) -> Result<String, Error> {
    let (low, high) = range(values.iter().map(|value| f64::from(*value)));
    let mut counts = vec![0usize; bins];
    for value in values.iter().filter(|value| value.is_finite()) {
        let bin = ((f64::from(*value) - low) / (high - low) * bins as f64) as usize;
        counts[bin.min(bins - 1)] += 1;
    }
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        // Outliers are few and would be invisible among thousands, so the axis is logarithmic.
        let most = counts.iter().copied().max().unwrap_or(1).max(1) as f64;
        let mut chart = ChartBuilder::on(&area)
            .caption(labels.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(low..high, (0.5..most * 1.5).log_scale())
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        let step = (high - low) / bins as f64;
        let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bin, count)| {
            let left = low + step * bin as f64;
            Rectangle::new([(left, 0.5), (left + step, *count as f64)], shade(1, 3).filled())
        });
        chart.draw_series(bars).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

/// A matrix `[rows, columns]` of values from 0 to 1 in colors, row 0 at the bottom.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn matrix(labels: &Labels<'_>, values: &[f64], columns: usize) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (520, 520)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let rows = values.len() / columns;
        let mut chart = ChartBuilder::on(&area)
            .caption(labels.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..columns as f64 - 0.5, -0.5..rows as f64 - 0.5)
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.0}"))
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        let cells = values.iter().enumerate().map(|(place, value)| {
            let (x, y) = ((place % columns) as f64, (place / columns) as f64);
            let [r, g, b] = color(*value as f32);
            Rectangle::new([(x - 0.5, y - 0.5), (x + 0.5, y + 0.5)], RGBColor(r, g, b).filled())
        });
        chart.draw_series(cells).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: Labels<'static> = Labels { title: "A title", x: "layer", y: "pixels" };

    #[test]
    fn plots_are_svg_for_any_values() {
        for values in [vec![], vec![0.0; 6], vec![1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0]] {
            let points = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
            for text in [
                heads(&LABELS, &values, 3),
                lines(&LABELS, &[Series { name: "a", points }]),
                histogram(&LABELS, &narrow, 5),
                matrix(&LABELS, &values, 3),
            ] {
                let text = text.expect("drawn");
                assert!(text.starts_with("<svg") && text.contains("A title"), "{text}");
            }
        }
    }
}
