//! Sheets of many images, with labels.

use std::path::Path;

use vitral::Error;
use vitral::explain::paint::{self, Caption, Legend, Sheet, Tile};
use vitral::explain::{InputImage, Map, Prediction, Target};
use vitral::image::RgbImage;

/// Every image with all its maps: a row for each.
#[derive(Default)]
pub(super) struct Gallery {
    columns: Vec<String>,
    rows: Vec<Vec<Tile>>,
    sides: Vec<Side>,
}

/// What is beside a row: the image's name, and what the model says or what is explained.
struct Side {
    name: String,
    below: Option<String>,
}

impl Side {
    /// The file's name alone; if others have the same one, with its folder.
    fn text(&self, others: &[Side]) -> String {
        let file = |side: &Side| Path::new(&side.name).file_name().map(|name| name.to_string_lossy().into_owned());
        let same = others.iter().filter(|other| file(other) == file(self)).count() > 1;
        let name = file(self).filter(|_| !same).unwrap_or_else(|| {
            let parts: Vec<_> = Path::new(&self.name).iter().map(|part| part.to_string_lossy()).collect();
            parts[parts.len().saturating_sub(2)..].join("/")
        });
        self.below.as_ref().map_or_else(|| name.clone(), |below| format!("{name}\n{below}"))
    }
}

impl Gallery {
    /// Begins the row of an image.
    pub(super) fn begin(&mut self, name: &str, shown: &RgbImage, prediction: &Prediction) {
        let short = |label: &str| label.split(',').next().unwrap_or_default().to_owned();
        let best = prediction.ranked.first();
        let below = match (&prediction.target, best) {
            // Another class than the most likely one was asked for.
            (Some(Target::Class(class)), Some(best)) if *class != best.class => {
                let named = prediction.explained.trim_start_matches("class ").trim_matches('`');
                Some(format!("explained: {}", short(named)))
            }
            _ => best.map(|best| short(&best.label)),
        };
        self.sides.push(Side { name: name.to_owned(), below });
        self.rows.push(vec![]);
        self.add("image", Tile::from(paint::enlarged(shown)));
    }

    /// Adds a map to the row that began last.
    pub(super) fn add(&mut self, name: &str, tile: Tile) {
        let row = self.rows.len() - 1;
        self.add_to(row, name, tile);
    }

    /// Adds a map to a row, by its number.
    pub(super) fn add_to(&mut self, row: usize, name: &str, tile: Tile) {
        let row = &mut self.rows[row];
        if row.len() == self.columns.len() {
            self.columns.push(name.to_owned());
        }
        row.push(tile);
    }

    /// The sheet; `None` if there is no map.
    pub(super) fn paint(&self, model: &str) -> Result<Option<RgbImage>, Error> {
        // The first image in a row is the input itself.
        if self.rows.iter().all(|row| row.len() <= 1) {
            return Ok(None);
        }
        let sheet = Sheet::new(self.rows.clone(), 160, 6)
            .title(format!("Maps by {model}"))
            .columns("", self.columns.iter().cloned())
            .sides(self.sides.iter().map(|side| side.text(&self.sides)))
            .legend(Legend::Text(
                "Below each map: the values of its darkest and its brightest color. Of maps over pixels, 1% at either end \
                 is clipped."
                    .into(),
            ));
        let sheet = match self.columns.last().is_some_and(|name| name == "pca") {
            true => sheet.legend(Legend::Text("pca: similar patches have similar colors, in all images.".into())),
            false => sheet,
        };
        sheet.paint().map(Some)
    }
}

/// A map on a sheet, with its values.
pub(super) fn tile(painted: RgbImage, map: &Map) -> Tile {
    let (low, high) = paint::range(map);
    Tile::new(painted, Caption::Scale(low, high))
}

/// Attention of all layers from top to bottom, and all heads from left to right.
pub(super) fn of_heads(heads: &[Vec<Map>], input: &InputImage) -> Result<RgbImage, Error> {
    let tile = |map: &Map| paint::alone(map, input.layout.image).map(Tile::from);
    let rows: Result<Vec<Vec<Tile>>, Error> =
        heads.iter().map(|heads| heads.iter().map(tile).collect::<Result<Vec<_>, _>>()).collect();
    let count = heads.first().map_or(0, Vec::len);
    Sheet::new(rows?, 96, 3)
        .title("Attention by layer and head")
        .columns("", (0..count).map(|head| format!("head {head}")))
        .sides((0..heads.len()).map(|layer| format!("layer {layer}")))
        .legend(Legend::Scale("smallest".into(), "largest".into()))
        .legend(Legend::Text(
            "Attention weights from the token that is read out (or the pooled tokens) to each patch; each map has a scale of \
             its own."
                .into(),
        ))
        .paint()
}

/// The principal components of an image's patches, with their legend.
pub(super) fn of_components(painted: &RgbImage) -> Result<RgbImage, Error> {
    let cell = painted.width().max(painted.height());
    Sheet::new(vec![vec![painted.clone().into()]], cell, 0).legend(paint::principal_legend()).paint()
}

#[cfg(test)]
mod tests {
    use vitral::labels::Ranked;

    use super::*;

    #[test]
    fn rows_tell_images_and_what_is_explained() {
        let ranked = vec![Ranked { class: 0, label: "cat, tabby".into(), probability: 0.9, logit: 1.0 }];
        let of = |class: usize, explained: &str| Prediction {
            ranked: ranked.clone(),
            target: Some(Target::Class(class)),
            explained: explained.into(),
        };
        let shown = RgbImage::new(1, 1, vec![0; 3]).expect("a pixel");
        let mut gallery = Gallery::default();
        gallery.begin("photos/a/cat.jpg", &shown, &of(0, "class `cat, tabby`"));
        gallery.begin("photos/b/cat.jpg", &shown, &of(1, "class `dog`"));
        gallery.begin("photos/b/ship.jpg", &shown, &of(1, "class `dog`"));
        let sides: Vec<String> = gallery.sides.iter().map(|side| side.text(&gallery.sides)).collect();
        assert_eq!(sides, ["a/cat.jpg\ncat", "b/cat.jpg\nexplained: dog", "ship.jpg\nexplained: dog"]);
    }
}
