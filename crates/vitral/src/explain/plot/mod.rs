//! Plots as SVG.

mod legend;

use plotters::prelude::*;

use legend::{FONT, Key, MARGIN, Mark, SHOWN, beside, drawing};

use super::paint::color;
use crate::error::Error;
use crate::numbers::finite_range;
use crate::palette::SERIES;

const SIZE: (u32, u32) = (640, 400);

/// One line of a plot.
#[derive(Debug)]
pub struct Series<'a> {
    /// Its name; an empty name is left out of the legend.
    pub name: &'a str,
    /// x and y of the points, in order.
    pub points: Vec<(f64, f64)>,
    /// What it is among the others.
    pub role: Role,
}

/// What a line is among the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// One of those that are compared.
    #[default]
    Compared,
    /// What they are compared with.
    Baseline,
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

/// The color of a mean among single values, and of a baseline.
const MEAN: RGBColor = RGBColor(140, 140, 140);

/// How the lines of a plot are told apart: by color, and those that share one by dashes. Of two lines the second is dashed,
/// because they often coincide.
fn marks(series: &[Series<'_>]) -> Vec<Mark> {
    let mut marks = Vec::with_capacity(series.len());
    let mut compared = 0;
    for line in series {
        if line.role == Role::Baseline {
            marks.push(Mark::Dashed(MEAN, 2));
            continue;
        }
        let (r, g, b) = SERIES[compared % SERIES.len()];
        let color = RGBColor(r, g, b);
        let round = if series.len() == 2 { compared } else { compared / SERIES.len() };
        marks.push(if round == 0 { Mark::Line(color) } else { Mark::Dashed(color, [8, 3, 14][(round - 1) % 3]) });
        compared += 1;
    }
    marks
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

/// How far the heads of a layer are spread, as a part of the distance to the next layer.
const SPREAD: f64 = 0.5;

/// A point for every head in each layer, `values` `[layers, heads]`, with their mean as a line: figure 7, right. The heads
/// of a layer stand side by side, in order.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn heads(labels: &Labels<'_>, values: &[f64], heads: usize) -> Result<String, Error> {
    let mut text = String::new();
    // Of many heads, the legend names some, in even steps.
    let every = heads.div_ceil(SHOWN - 1).max(1);
    let mut keys = vec![Key { mark: Mark::Line(MEAN), name: "mean of heads".into() }];
    keys.extend((0..heads).step_by(every).map(|head| {
        let name = format!("head {head}");
        Key { mark: Mark::Dot(shade(head, heads)), name }
    }));
    {
        let area = SVGBackend::with_string(&mut text, (SIZE.0 + legend::width(&keys), SIZE.1)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let area = beside(area, labels.title, SIZE.0, &keys)?;
        let layers = values.len() / heads;
        let (_, high) = range(values.iter().copied());
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
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
        chart.draw_series(LineSeries::new(mean, MEAN.stroke_width(2))).map_err(drawing)?;
        let size = if heads <= 8 { 4 } else { 3 };
        for head in 0..heads {
            let style = shade(head, heads).filled();
            let aside = SPREAD * (head as f64 - (heads as f64 - 1.0) / 2.0) / heads as f64;
            let points = values.iter().skip(head).step_by(heads).enumerate();
            let dots = points.map(|(layer, y)| Circle::new((layer as f64 + aside, *y), size, style));
            chart.draw_series(dots).map_err(drawing)?;
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
    let marks = marks(series);
    let named = series.iter().zip(&marks).filter(|(line, _)| !line.name.is_empty());
    let keys: Vec<Key> = named.map(|(line, mark)| Key { mark: *mark, name: line.name.into() }).collect();
    {
        let area = SVGBackend::with_string(&mut text, (SIZE.0 + legend::width(&keys), SIZE.1)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let area = beside(area, labels.title, SIZE.0, &keys)?;
        let points = || series.iter().flat_map(|series| series.points.iter());
        let (left, right) = range(points().map(|point| point.0));
        let (low, high) = range(points().map(|point| point.1));
        let low = if low > 0.0 && low < 0.5 * high { 0.0 } else { low };
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right, low..high + 0.05 * (high - low))
            .map_err(drawing)?;
        // Counts, such as that of blocks, have no fractions.
        let whole = points().all(|point| point.0.fract() == 0.0);
        let ticks = if whole { ((right - left) as usize + 1).clamp(2, 17) } else { 11 };
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .x_labels(ticks)
            .x_label_formatter(&|x| if whole { format!("{x:.0}") } else { format!("{x:.1}") })
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        for (line, mark) in series.iter().zip(&marks) {
            let points = || line.points.iter().copied();
            match *mark {
                Mark::Dashed(color, length) => {
                    let line = DashedLineSeries::new(points(), length, 4, color.stroke_width(2));
                    chart.draw_series(line).map_err(drawing)?;
                }
                Mark::Line(color) | Mark::Dot(color) => {
                    chart.draw_series(LineSeries::new(points(), color.stroke_width(2))).map_err(drawing)?;
                }
            }
        }
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

/// Where the bars of a histogram begin: below a count of 1, and above 0.5, the power of two before it.
const BOTTOM: f64 = 0.6;

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
        // Powers of ten would be too few to read small counts by.
        let base = if most < 100.0 { 2.0 } else { 10.0 };
        let mut chart = ChartBuilder::on(&area)
            .caption(labels.title, (FONT, 18))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(low..high, (BOTTOM..most * 1.5).log_scale().base(base))
            .map_err(drawing)?;
        chart
            .configure_mesh()
            .x_desc(labels.x)
            .y_desc(labels.y)
            .y_labels(4)
            .y_label_formatter(&|y| format!("{y:.0}"))
            .light_line_style(WHITE)
            .label_style((FONT, 13))
            .draw()
            .map_err(drawing)?;
        let step = (high - low) / bins as f64;
        let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(bin, count)| {
            let left = low + step * bin as f64;
            Rectangle::new([(left, BOTTOM), (left + step, *count as f64)], shade(1, 3).filled())
        });
        chart.draw_series(bars).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(text)
}

/// A matrix `[rows, columns]` of values from 0 to 1 in colors, row 0 at the bottom, with a color bar.
///
/// # Errors
/// If the plot cannot be drawn.
pub fn matrix(labels: &Labels<'_>, values: &[f64], columns: usize) -> Result<String, Error> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (520 + legend::BAR, 520)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let area = legend::scale_beside(area, labels.title, 520)?;
        let rows = values.len() / columns;
        let mut chart = ChartBuilder::on(&area)
            .margin(MARGIN)
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
    fn counts_can_be_read_whether_few_or_many() {
        for (count, ticks) in
            [(9, &["1", "2", "4", "8"][..]), (40, &["1", "4", "16"]), (5000, &["1", "10", "100", "1000"])]
        {
            let values: Vec<f32> = (0..count).map(|value| if value == 0 { 1.0 } else { 0.0 }).collect();
            let text = histogram(&LABELS, &values, 5).expect("drawn");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            assert!(ticks.iter().all(|tick| lines.contains(tick)), "{count}: {text}");
        }
    }

    #[test]
    fn plots_are_svg_for_any_values() {
        for values in [vec![], vec![0.0; 6], vec![1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0]] {
            let points = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let narrow: Vec<f32> = values.iter().map(|x| *x as f32).collect();
            for text in [
                heads(&LABELS, &values, 3),
                lines(&LABELS, &[Series { name: "a", points, role: Role::Compared }]),
                histogram(&LABELS, &narrow, 5),
                matrix(&LABELS, &values, 3),
            ] {
                let text = text.expect("drawn");
                assert!(text.starts_with("<svg") && text.contains("A title"), "{text}");
            }
        }
    }

    #[test]
    fn every_line_and_head_is_in_the_legend() {
        let names: Vec<String> = (0..17).map(|i| format!("line {i}")).collect();
        let series: Vec<Series<'_>> = names
            .iter()
            .map(|name| {
                let role = if name == "line 3" { Role::Baseline } else { Role::Compared };
                Series { name, points: vec![(0.0, 0.0), (1.0, 1.0)], role }
            })
            .collect();
        let text = lines(&LABELS, &series).expect("drawn");
        assert!(names.iter().all(|name| text.contains(&format!("{name}\n</text>"))), "{text}");
        // No two lines look the same.
        let marks: std::collections::BTreeSet<String> = marks(&series).iter().map(|mark| format!("{mark:?}")).collect();
        assert_eq!(marks.len(), series.len());
        let values: Vec<f64> = (0..144).map(|x| f64::from(x * 37 % 144)).collect();
        let text = heads(&LABELS, &values, 12).expect("drawn");
        assert!((0..12).all(|head| text.contains(&format!("head {head}\n"))) && text.contains("mean of heads"));
        assert_eq!(text.matches("<circle").count(), 144 + 12);
        // Of many heads, some.
        let text = heads(&LABELS, &values, 48).expect("drawn");
        assert!(text.contains("head 0\n") && !text.contains("head 1\n") && text.matches("head ").count() < 18);
        let text = matrix(&LABELS, &values, 12).expect("drawn");
        assert!(text.contains("0.5\n") && text.matches("<rect").count() > 144 + 32);
    }
}
