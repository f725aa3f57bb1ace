//! A map as a plot, and as a page to move around in.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plotters::prelude::*;
use rayon::prelude::*;
use serde_json::json;
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, open_for};
use vitral::numbers::finite_range;
use vitral::palette::{self, Rgb};

use super::page::page;
use crate::report::plots::{FAINT, INK, colored, svg};
use crate::report::thumbnail;

/// The script of the page.
const SCRIPT: &str = include_str!("map.js");
/// The longer side of a small image, in pixels.
const SMALL: u32 = 96;
/// Points of a plot, at most: more cannot be told apart, and make files that no program opens.
const DRAWN: usize = 20_000;
/// Classes with a color and a shape of their own; all others share one.
const DISTINCT: usize = COLORS.len() * SHAPES;
/// Shapes of points: disc, ring, square, triangle.
const SHAPES: usize = 4;
/// The colors of classes, which also stand out on black. The eighth of the palette is black itself.
const COLORS: [Rgb; 7] = [
    palette::BLUE,
    palette::ORANGE,
    palette::GREEN,
    palette::PURPLE,
    palette::SKY,
    palette::VERMILION,
    palette::YELLOW,
];
/// The color of images without a class of their own.
const OTHER: Rgb = (140, 140, 140);

/// What is drawn: points, and the classes that color them.
#[derive(Clone, Debug)]
pub struct Scatter<'a> {
    /// The title.
    pub title: String,
    /// Where the points come from, in a sentence.
    pub about: String,
    /// x and y of each image.
    pub points: &'a [[f32; 2]],
    /// Names of the classes; empty if there are none.
    pub classes: Vec<String>,
    /// The class of each image; empty if there are none.
    pub labels: Vec<usize>,
    /// The images' names.
    pub names: Vec<String>,
    /// The images' files.
    pub paths: Vec<PathBuf>,
    /// What the files are decoded to.
    pub channels: Channels,
}

/// The color and the shape of a class.
fn mark(class: Option<usize>) -> (Rgb, usize) {
    match class {
        Some(class) if class < DISTINCT => (COLORS[class % COLORS.len()], class / COLORS.len()),
        _ => (OTHER, 0),
    }
}

impl Scatter<'_> {
    /// As an SVG: of very many points, every n-th.
    pub fn svg(&self) -> String {
        let step = self.points.len().div_ceil(DRAWN).max(1);
        let named = self.classes.len().min(DISTINCT);
        let longest = self.classes.iter().take(named).map(|name| name.chars().count()).max().unwrap_or(0).min(28);
        let legend = if named > 0 { 44 + 8 * longest as u32 } else { 0 };
        let height = 720u32.max(60 + 20 * named as u32);
        svg((720 + legend, height), |area| {
            let (left, right) = area.split_horizontally(720);
            let (x, y) = (self.range(0), self.range(1));
            let caption = ("sans-serif", 17).into_font().color(&INK);
            let chart = ChartBuilder::on(&left)
                .margin(14)
                .caption(&self.title, caption)
                .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
            // Coordinates mean nothing by themselves, so there are no axes but a frame.
            chart.plotting_area().draw(&Rectangle::new([(x.0, y.0), (x.1, y.1)], FAINT))?;
            for (at, point) in self.points.iter().enumerate().step_by(step) {
                let (color, shape) = mark(self.labels.get(at).copied());
                draw(&chart, (f64::from(point[0]), f64::from(point[1])), colored(color), shape)?;
            }
            for (class, name) in self.classes.iter().take(named).enumerate() {
                let ((color, shape), top) = (mark(Some(class)), 44 + 20 * class as i32);
                symbol(&right, (14, top), 5, colored(color), shape)?;
                let name: String = name.chars().take(28).collect();
                let style = TextStyle::from(("sans-serif", 14).into_font()).color(&INK);
                right.draw(&Text::new(name, (26, top - 8), style))?;
            }
            Ok(())
        })
    }

    /// A range of an axis, with a margin.
    fn range(&self, axis: usize) -> (f64, f64) {
        let (low, high) = finite_range(self.points.iter().map(|point| point[axis].into())).unwrap_or((0.0, 1.0));
        let margin = (0.04 * (high - low)).max(1e-6);
        (low - margin, high + margin)
    }

    /// As a page to move around in, with at most `most` small images, of images in even steps.
    pub fn html(&self, most: usize) -> String {
        let step = self.points.len().div_ceil(most.max(1)).max(1);
        let some: Vec<usize> = if most == 0 { vec![] } else { (0..self.points.len()).step_by(step).collect() };
        let small = |&at: &usize| {
            let decoded = open_for(&self.paths[at], self.channels, &DecodeOptions::default()).ok()?;
            thumbnail(decoded.into_image().into_rgb(), SMALL)
        };
        let images: Vec<Option<String>> = some.par_iter().map(small).collect();
        let bytes: Vec<u8> = self.points.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
        let color = |(red, green, blue): Rgb| format!("#{red:02x}{green:02x}{blue:02x}");
        let classes = self.classes.iter().enumerate().map(|(class, name)| {
            let (rgb, shape) = mark(Some(class));
            json!({ "name": name, "color": color(rgb), "shape": shape })
        });
        let data = json!({
            "points": STANDARD.encode(bytes),
            "classes": classes.collect::<Vec<_>>(),
            "labels": self.labels,
            "names": self.names,
            "other": color(OTHER),
            "step": step,
            "images": images,
        });
        // Inside a script, only `<` could end it.
        let data = data.to_string().replace('<', "\\u003c");
        let body = format!(
            "<div class=\"legend\" id=\"legend\"></div><div class=\"map\"><canvas id=\"map\"></canvas>\
             <div class=\"tip\" id=\"tip\" hidden></div></div><p class=\"soft\">Move over a point, or tap it, to see its \
             image; drag to move, scroll or pinch to zoom; a class's button hides it.</p>\
             <script type=\"application/json\" id=\"data\">{data}</script><script>{SCRIPT}</script>"
        );
        page(&self.title, &self.about, &body)
    }
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws a point of the plot.
fn draw(chart: &Chart<'_, '_>, at: (f64, f64), color: RGBColor, shape: usize) -> Drawn {
    let (x, y) = chart.backend_coord(&at);
    let area = chart.plotting_area().strip_coord_spec();
    let (left, top) = area.get_base_pixel();
    symbol(&area, (x - left, y - top), 3, color, shape)
}

/// Draws a symbol in pixels.
fn symbol(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    (x, y): (i32, i32),
    size: i32,
    color: RGBColor,
    shape: usize,
) -> Drawn {
    match shape {
        0 => area.draw(&Circle::new((x, y), size, color.mix(0.75).filled()))?,
        1 => area.draw(&Circle::new((x, y), size, color.stroke_width(1)))?,
        2 => {
            area.draw(&Rectangle::new([(x - size + 1, y - size + 1), (x + size - 1, y + size - 1)], color.filled()))?
        }
        _ => area
            .draw(&Polygon::new([(x, y - size), (x - size, y + size - 1), (x + size, y + size - 1)], color.filled()))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_drawn_with_their_classes() {
        let points = [[0.0, 0.0], [1.0, 2.0], [f32::NAN, 1.0]];
        let scatter = Scatter {
            title: "A <map>".to_owned(),
            about: "of three".to_owned(),
            points: &points,
            classes: vec!["cat".to_owned(), "</script>".to_owned()],
            labels: vec![0, 1, 1],
            names: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            paths: vec!["nowhere".into(); 3],
            channels: Channels::Rgb,
        };
        let svg = scatter.svg();
        assert!(svg.starts_with("<svg") && svg.contains("cat\n"), "{svg}");
        let page = scatter.html(2);
        assert!(page.contains("A &lt;map&gt;") && page.matches("</script>").count() == 2, "{page}");
        // Without classes, and without points.
        let bare = Scatter { points: &[], classes: vec![], labels: vec![], names: vec![], paths: vec![], ..scatter };
        assert!(bare.svg().starts_with("<svg") && bare.html(0).contains("\"images\":[]"));
    }
}
