//! A contact sheet of many images, with labels and legends.

use super::canvas::{Canvas, LETTER, LINE, Weight, width_of, wrapped};
use super::legend::{Caption, LEAST, Legend};
use crate::config::Size;
use crate::error::Error;
use crate::image::{Filter, RgbImage, resize};

/// Letters in a line of a label beside a row.
const SIDE: usize = 20;
/// Lines of a label, at most.
const LINES: usize = 4;
/// Pixels between labels and images, and around a sheet that has labels.
const MARGIN: usize = 6;

/// An image of a sheet.
#[derive(Clone, Debug)]
pub struct Tile {
    image: RgbImage,
    caption: Caption,
}

impl Tile {
    /// An image with a caption.
    pub fn new(image: RgbImage, caption: Caption) -> Self {
        Tile { image, caption }
    }
}

impl From<RgbImage> for Tile {
    fn from(image: RgbImage) -> Self {
        Tile { image, caption: Caption::Nothing }
    }
}

/// Images in rows, each scaled to at most `cell` with its aspect ratio kept, on white with a `gap` between them.
#[derive(Clone, Debug)]
pub struct Sheet {
    rows: Vec<Vec<Tile>>,
    cell: usize,
    gap: usize,
    title: String,
    corner: String,
    columns: Vec<String>,
    sides: Vec<String>,
    legend: Vec<Legend>,
}

/// Where everything is, in pixels.
struct Plan {
    widths: Vec<usize>,
    heights: Vec<usize>,
    /// Lines of each column's label.
    columns: Vec<Vec<String>>,
    sides: Vec<Vec<String>>,
    corner: Vec<String>,
    title: Vec<String>,
    margin: usize,
    side: usize,
    head: usize,
    captions: bool,
    width: usize,
}

impl Sheet {
    /// A sheet without labels.
    pub fn new(rows: Vec<Vec<Tile>>, cell: usize, gap: usize) -> Self {
        let none = || (String::new(), vec![]);
        let ((title, columns), (corner, sides)) = (none(), none());
        Sheet { rows, cell, gap, title, corner, columns, sides, legend: vec![] }
    }

    /// With a title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// With labels above the columns, and a label for these labels at their left.
    #[must_use]
    pub fn columns(mut self, corner: impl Into<String>, labels: impl IntoIterator<Item = String>) -> Self {
        self.corner = corner.into();
        self.columns = labels.into_iter().collect();
        self
    }

    /// With labels beside the rows.
    #[must_use]
    pub fn sides(mut self, labels: impl IntoIterator<Item = String>) -> Self {
        self.sides = labels.into_iter().collect();
        self
    }

    /// With another line of the legend.
    #[must_use]
    pub fn legend(mut self, line: Legend) -> Self {
        self.legend.push(line);
        self
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// If the sheet is larger than an image can be.
    pub fn paint(&self) -> Result<RgbImage, Error> {
        let fitted: Vec<Vec<RgbImage>> =
            self.rows.iter().map(|row| row.iter().map(|tile| fit(&tile.image, self.cell)).collect()).collect();
        let plan = self.plan(&fitted);
        let inside = plan.width - 2 * plan.margin;
        let below: usize = self.legend.iter().map(|line| line.lines(inside) * LINE).sum();
        let caption = if plan.captions { LINE } else { 0 };
        let gaps = self.gap * fitted.len().saturating_sub(1);
        let images = plan.heights.iter().map(|height| height + caption).sum::<usize>() + gaps;
        let headed = plan.title.len() * LINE + plan.head;
        let above = plan.margin + headed + if headed > 0 { MARGIN / 2 } else { 0 };
        let height = above + images + if below > 0 { below + MARGIN } else { 0 } + plan.margin;
        let mut canvas = Canvas::new(plan.width, height.max(1));
        for (line, text) in plan.title.iter().enumerate() {
            canvas.text(text, plan.margin + line * LINE, plan.margin, Weight::Bold);
        }
        self.heads(&mut canvas, &plan);
        let mut top = above;
        for (row, (images, tall)) in fitted.iter().zip(&plan.heights).enumerate() {
            if let Some(lines) = plan.sides.get(row) {
                let start = top + tall.saturating_sub(lines.len() * LINE) / 2;
                for (line, text) in lines.iter().enumerate() {
                    let left = plan.margin + (plan.side - MARGIN).saturating_sub(width_of(text));
                    canvas.text(text, start + line * LINE, left, Weight::Regular);
                }
            }
            let mut left = plan.margin + plan.side;
            for ((image, tile), wide) in images.iter().zip(&self.rows[row]).zip(&plan.widths) {
                canvas.place(image, top, left);
                tile.caption.draw(&mut canvas, top + tall, left, image.width());
                left += wide + self.gap;
            }
            top += tall + caption + self.gap;
        }
        let mut top = above + images + MARGIN;
        for line in &self.legend {
            line.draw(&mut canvas, [top, plan.margin], inside);
            top += line.lines(inside) * LINE;
        }
        canvas.into_image()
    }

    fn plan(&self, fitted: &[Vec<RgbImage>]) -> Plan {
        let count = fitted.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let widest = |column: usize| fitted.iter().filter_map(|row| row.get(column)).map(RgbImage::width).max();
        let widths: Vec<usize> = (0..count).map(|column| widest(column).unwrap_or(1)).collect();
        let heights = fitted.iter().map(|row| row.iter().map(RgbImage::height).max().unwrap_or(1)).collect();
        let columns: Vec<Vec<String>> =
            self.columns.iter().zip(&widths).map(|(text, wide)| wrapped(text, wide / LETTER, LINES)).collect();
        let lines = |text: &String| wrapped(text, SIDE, LINES);
        let sides: Vec<Vec<String>> = self.sides.iter().map(lines).collect();
        let corner = if self.corner.is_empty() { vec![] } else { lines(&self.corner) };
        let side = sides.iter().flatten().chain(&corner).map(|text| width_of(text)).max();
        let side = side.map_or(0, |side| side + MARGIN);
        let bare = side == 0 && columns.is_empty() && self.title.is_empty() && self.legend.is_empty();
        let margin = if bare { 0 } else { MARGIN };
        let images = widths.iter().sum::<usize>() + self.gap * widths.len().saturating_sub(1);
        let needed = self.legend.iter().map(Legend::width).max().unwrap_or(0);
        let least = if self.title.is_empty() { 0 } else { LEAST };
        let width = (side + images).max(needed).max(least) + 2 * margin;
        let title = match self.title.is_empty() {
            true => vec![],
            false => wrapped(&self.title, (width - 2 * margin) / LETTER, LINES),
        };
        let head = columns.iter().map(Vec::len).max().unwrap_or(0).max(corner.len()) * LINE;
        let captions = self.rows.iter().flatten().any(|tile| tile.caption != Caption::Nothing);
        Plan { widths, heights, columns, sides, corner, title, margin, side, head, captions, width }
    }

    /// Labels of columns stand on the images, as low as they can.
    fn heads(&self, canvas: &mut Canvas, plan: &Plan) {
        let bottom = plan.margin + plan.title.len() * LINE + plan.head;
        for (line, text) in plan.corner.iter().enumerate() {
            let left = plan.margin + (plan.side - MARGIN).saturating_sub(width_of(text));
            canvas.text(text, bottom - (plan.corner.len() - line) * LINE, left, Weight::Regular);
        }
        let mut left = plan.margin + plan.side;
        for (lines, wide) in plan.columns.iter().zip(&plan.widths) {
            for (line, text) in lines.iter().enumerate() {
                let center = left + wide.saturating_sub(width_of(text)) / 2;
                canvas.text(text, bottom - (lines.len() - line) * LINE, center, Weight::Regular);
            }
            left += wide + self.gap;
        }
    }
}

/// An image scaled to at most `cell` pixels a side.
fn fit(image: &RgbImage, cell: usize) -> RgbImage {
    let longest = image.height().max(image.width());
    let to =
        Size { height: (image.height() * cell).div_ceil(longest), width: (image.width() * cell).div_ceil(longest) };
    resize(image, to, if longest <= cell { Filter::Nearest } else { Filter::Lanczos })
}

#[cfg(test)]
mod tests {
    use super::super::{color, principal_legend};
    use super::*;

    fn image(width: usize, height: usize) -> RgbImage {
        RgbImage::new(width, height, vec![0; width * height * 3]).expect("an image")
    }

    #[test]
    fn a_sheet_holds_rows_of_any_length() {
        let rows = vec![vec![image(10, 10).into(), image(20, 10).into()], vec![image(10, 20).into()]];
        let found = Sheet::new(rows, 20, 2).paint().expect("a sheet");
        assert_eq!((found.width(), found.height()), (42, 42));
        assert_eq!(found.pixel(0, 0), [0; 3]);
        assert_eq!(found.pixel(41, 41), [255; 3]);
    }

    #[test]
    fn labels_and_legends_have_their_room() {
        let tile = || Tile::new(image(100, 100), Caption::Scale(0.0, 0.25));
        let bare = Sheet::new(vec![vec![tile(), tile()], vec![tile(), tile()]], 100, 4);
        let plain = bare.clone().paint().expect("a sheet");
        assert_eq!((plain.width(), plain.height()), (204, 204 + 2 * LINE));
        let labels = |name: &'static str| (0..2).map(move |i| format!("{name} {i}"));
        let full = bare
            .title("A title that is longer than the images below it are wide")
            .columns("head", labels("head"))
            .sides(labels("layer"))
            .legend(Legend::Scale("smallest".into(), "largest".into()))
            .legend(principal_legend())
            .legend(Legend::Text("A long explanation that takes more than a single line of the sheet".into()));
        let found = full.paint().expect("a sheet");
        assert!(found.width() > plain.width() + 7 * LETTER && found.height() > plain.height() + 5 * LINE);
        // The bar of the legend has the map's colors.
        let has = |wanted: [u8; 3]| found.pixels().chunks_exact(3).any(|pixel| pixel == wanted);
        assert!(has(color(0.0)) && has(color(1.0)) && has([230, 0, 0]));
        // Nothing is drawn over the margin.
        assert!((0..found.height()).all(|row| found.pixel(row, 0) == [255; 3]));
    }

    #[test]
    fn captions_that_do_not_fit_are_cut() {
        let tile = Tile::new(image(10, 10), Caption::Text("much longer than its image".into()));
        Sheet::new(vec![vec![tile]], 10, 4).paint().expect("a sheet");
        let tile = Tile::new(image(10, 10), Caption::Scale(-123.0, f32::NAN));
        Sheet::new(vec![vec![tile], vec![]], 10, 4).paint().expect("a sheet");
        Sheet::new(vec![], 10, 4).title("empty").paint().expect("a sheet");
    }
}
