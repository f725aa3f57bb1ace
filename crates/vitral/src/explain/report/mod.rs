//! One HTML page with everything: images, maps to choose from, sliders for layers and heads, figures with their papers,
//! and the faithfulness of each map. It is self-contained and needs no network.

mod date;

use base64::Engine as _;
use serde_json::{Value, json};

pub use date::today;

use super::faithfulness::{READING, Ranking};
use super::{Map, Method, PatchArea, paint};
use crate::error::Error;
use crate::image::RgbImage;
use crate::labels::Ranked;

/// The page template.
const PAGE: &str = include_str!("page.html");
/// The script that fills the page.
const SCRIPT: &str = include_str!("page.js");
/// The style sheet.
const STYLE: &str = include_str!("page.css");

/// The name of the map that is no method's.
const SCORE: &str = "score";

/// One map of an image.
#[derive(Debug)]
pub struct MapEntry {
    /// Its name: that of the method, and the layer and head if there are several.
    pub name: String,
    /// Its method; of a large image, `None` for the score of each window.
    pub method: Option<Method>,
    /// The layer and head in words; empty if the method's own choice.
    pub place: String,
    /// The map itself.
    pub map: Map,
    /// The patch that it is about, which is outlined.
    pub marked: Option<PatchArea>,
}

/// One image and its results.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The model's view of the image.
    pub shown: RgbImage,
    /// The top classes.
    pub ranked: Vec<Ranked>,
    /// The target of the maps, in words.
    pub explained: String,
    /// Maps, in order.
    pub maps: Vec<MapEntry>,
    /// `[layers][heads]`: the attention of the tokens that are read out.
    pub heads: Vec<Vec<Map>>,
    /// Patch tokens as colors.
    pub colors: Option<RgbImage>,
    /// The top classes after each layer, and the probability of the explained class.
    pub lens: Vec<(Vec<Ranked>, f32)>,
}

/// A figure over all images, or of the model alone.
#[derive(Debug)]
pub struct Figure {
    /// The title.
    pub title: String,
    /// The figure itself.
    pub image: FigureImage,
    /// How to interpret it.
    pub meaning: String,
    /// Where it was published.
    pub paper: String,
}

/// The format of a figure.
#[derive(Debug)]
pub enum FigureImage {
    /// A plot.
    Svg(String),
    /// Pixels.
    Pixels(RgbImage),
}

/// The contents of the page.
#[derive(Debug, Default)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// A one-line description of the model.
    pub about: String,
    /// When the page was made: a date.
    pub made: String,
    /// Images, in order.
    pub entries: Vec<Entry>,
    /// Figures, in order.
    pub figures: Vec<Figure>,
    /// Faithfulness of the maps; empty if it was not evaluated.
    pub ranking: Ranking,
    /// The score used by the ranking.
    pub score: String,
}

impl Report {
    /// Renders the page.
    ///
    /// # Errors
    /// If an image cannot be encoded.
    pub fn html(&self) -> Result<String, Error> {
        let colors: Vec<u8> =
            (0..paint::COLORS).flat_map(|i| paint::color(i as f32 / (paint::COLORS - 1) as f32)).collect();
        let data = json!({
            "model": self.model,
            "about": self.about,
            "made": self.made,
            "colors": encoded(&colors),
            "images": self.entries.iter().map(entry).collect::<Result<Vec<_>, _>>()?,
            "figures": self.figures.iter().map(figure).collect::<Result<Vec<_>, _>>()?,
            "score": self.score,
            "reading": READING,
            "ranking": self.ranking.rows().iter().map(|row| json!({
                "title": titled(row.method, &row.name),
                "baseline": row.method == Method::Random,
                "images": row.images,
                "deletion": row.deletion,
                "insertion": row.insertion,
                "shuffled": row.shuffled,
            })).collect::<Vec<_>>(),
            "methods": Method::ALL.map(|method| {
                let about = method.about();
                (about.name.to_owned(), json!({
                    "title": about.title, "paper": about.paper, "meaning": about.meaning, "scale": method.scale(),
                }))
            }).into_iter().chain([(SCORE.to_owned(), json!({
                "title": "Score of each window", "paper": "", "scale": "score of the class", "meaning":
                "What the model says about each window of the image by itself, averaged where windows overlap.",
            }))]).collect::<serde_json::Map<_, _>>(),
        });
        // Inside a script, only `<` could end it.
        let data = data.to_string().replace('<', "\\u003c");
        let made = if self.made.is_empty() { String::new() } else { format!(", {}", self.made) };
        let title = escaped(&format!("{} explained{made}", self.model));
        let parts = [("{{title}}", title.as_str()), ("{{style}}", STYLE), ("{{script}}", SCRIPT), ("{{data}}", &data)];
        Ok(filled(PAGE, &parts))
    }
}

/// Fills each placeholder of a template once; inserted text is not searched for placeholders.
fn filled(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    let mut rest = template;
    for (place, text) in parts {
        let Some((before, after)) = rest.split_once(place) else { continue };
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A method's title, with the map's name if that says more.
fn titled(method: Method, name: &str) -> String {
    let title = method.about().title;
    if name == method.name() { title.to_owned() } else { format!("{title} ({name})") }
}

fn answers(ranked: &[Ranked]) -> Value {
    ranked.iter().map(|ranked| json!([ranked.label, ranked.probability])).collect()
}

fn entry(entry: &Entry) -> Result<Value, Error> {
    let mut value = json!({
        "name": entry.name,
        "width": entry.shown.width(),
        "height": entry.shown.height(),
        "image": data_url("image/png", &paint::png(&entry.shown)?),
        "answers": answers(&entry.ranked),
        "explained": entry.explained,
        "maps": entry.maps.iter().map(|one| {
            let shown = coarse(&one.method.map_or_else(|| one.map.clone(), |method| method.painted(&one.map)));
            let (low, high) = paint::range(&shown);
            json!({
                "name": one.name,
                "method": one.method.map_or(SCORE, Method::name),
                "place": one.place,
                "rows": shown.size.height,
                "columns": shown.size.width,
                "values": encoded(&bytes(&paint::shown(&shown))),
                "low": low,
                "high": high,
                "marked": one.marked.map(|area| [area.left, area.top, area.size.width, area.size.height]),
            })
        }).collect::<Vec<_>>(),
        "lens": entry.lens.iter().map(|(ranked, share)| json!([answers(ranked), share])).collect::<Vec<_>>(),
    });
    if let Some(first) = entry.heads.first().and_then(|heads| heads.first()) {
        let all: Vec<u8> = entry.heads.iter().flatten().flat_map(|map| bytes(&map.normalized())).collect();
        value["heads"] = json!({
            "layers": entry.heads.len(),
            "heads": entry.heads[0].len(),
            "rows": first.size.height,
            "columns": first.size.width,
            "values": encoded(&all),
            "ranges": entry.heads.iter().flatten().map(Map::range).collect::<Vec<_>>(),
        });
    }
    if let Some(colors) = &entry.colors {
        value["colors"] = json!(data_url("image/png", &paint::png(colors)?));
    }
    Ok(value)
}

/// A map over pixels reduced to at most 112 pixels per side: the page shows no more detail.
fn coarse(map: &Map) -> Map {
    let longest = map.size.height.max(map.size.width);
    if longest <= 112 {
        return map.clone();
    }
    let side = |side: usize| (side * 112).div_ceil(longest);
    let size = crate::config::Size { height: side(map.size.height), width: side(map.size.width) };
    map.pooled(size)
}

fn bytes(map: &Map) -> Vec<u8> {
    map.values.iter().map(|value| (255.0 * value).round() as u8).collect()
}

fn figure(figure: &Figure) -> Result<Value, Error> {
    let image = match &figure.image {
        FigureImage::Svg(text) => data_url("image/svg+xml", text.as_bytes()),
        FigureImage::Pixels(image) => data_url("image/png", &paint::png(image)?),
    };
    Ok(json!({ "title": figure.title, "image": image, "meaning": figure.meaning, "paper": figure.paper }))
}

fn data_url(kind: &str, bytes: &[u8]) -> String {
    format!("data:{kind};base64,{}", encoded(bytes))
}

fn encoded(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_script() {
        let shown = RgbImage::new(8, 8, vec![3; 192]).expect("an image");
        let map = Map::new(crate::config::Size::square(2), vec![0.0, 1.0, 2.0, 3.0]);
        let name = "</script><b>{{data}}".to_owned();
        let entry = Entry {
            name,
            shown,
            ranked: vec![],
            explained: String::new(),
            maps: vec![MapEntry {
                name: "patch".into(),
                method: Some(Method::Patch),
                place: String::new(),
                map,
                marked: Some(PatchArea { top: 4, left: 0, size: crate::config::Size::square(4) }),
            }],
            heads: vec![],
            colors: None,
            lens: vec![],
        };
        let (model, made) = ("a <b> model".into(), "2026-11-26".into());
        let report = Report { model, made, entries: vec![entry], ..Report::default() };
        let page = report.html().expect("a page");
        assert!(!page.contains("</script><b>"));
        assert!(page.contains("<title>a &lt;b&gt; model explained, 2026-11-26</title>"));
        assert!(page.contains("\"low\":0.0") && page.contains("\"high\":3.0") && page.contains("[0,4,4,4]"), "{page}");
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
    }
}
