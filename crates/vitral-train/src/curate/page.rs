//! One HTML page of images: self-contained, for a phone as well, light or dark.

use std::fmt::Write as _;
use std::path::PathBuf;

use rayon::prelude::*;
use vitral::image::preprocess::Channels;
use vitral::image::{DecodeOptions, open_for};

use crate::report::{escaped, thumbnail};

/// The style sheet of pages about images.
pub(super) const STYLE: &str = include_str!("page.css");
/// The longer side of an image on a page, in pixels.
pub(super) const THUMBNAIL: u32 = 144;

/// A page of images in sections.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// The title.
    pub title: String,
    /// What the page shows, in a sentence or two.
    pub about: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
    /// What the files are decoded to; of bands, the first three are shown.
    pub channels: Channels,
}

/// Images that belong together.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The title; empty if there is only one section.
    pub title: String,
    /// The images, in order.
    pub cards: Vec<Card>,
}

/// An image with its caption.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Its file.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// The number that matters most, such as a cosine.
    pub value: String,
    /// What else there is to say.
    pub note: String,
    /// What is wrong.
    pub warning: String,
    /// Whether the others are compared with it.
    pub first: bool,
}

impl Gallery {
    /// The page, with at most `most` images; sections and images beyond are counted, not shown.
    pub fn html(&self, most: usize) -> String {
        let mut left = most;
        let mut shown: Vec<(&Section, &[Card])> = Vec::new();
        for section in self.sections.iter().take_while(|_| most > 0) {
            if left == 0 {
                break;
            }
            let cards = &section.cards[..section.cards.len().min(left)];
            left -= cards.len();
            shown.push((section, cards));
        }
        let cards: Vec<&Card> = shown.iter().flat_map(|(_, cards)| *cards).collect();
        let urls: Vec<Option<String>> = cards.par_iter().map(|card| url(card, self.channels)).collect();
        let mut urls = urls.into_iter();
        let mut body = String::new();
        // Writing to a string cannot fail.
        let mut add = |text: std::fmt::Arguments<'_>| body.write_fmt(text).unwrap_or_default();
        for (section, cards) in &shown {
            if !section.title.is_empty() {
                add(format_args!("<h2>{}</h2>", escaped(&section.title)));
            }
            add(format_args!("<div class=\"cards\">"));
            for card in *cards {
                add(format_args!("{}", figure(card, urls.next().flatten())));
            }
            add(format_args!("</div>"));
        }
        let all: usize = self.sections.iter().map(|section| section.cards.len()).sum();
        if all > cards.len() {
            add(format_args!("<p class=\"soft\">The page shows {} of {all} images.</p>", cards.len()));
        }
        page(&self.title, &self.about, &body)
    }
}

/// A whole page around a body.
pub(super) fn page(title: &str, about: &str, body: &str) -> String {
    let (title, about) = (escaped(title), escaped(about));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p class=\"soft\">{about}</p>{body}</body></html>\n"
    )
}

/// The small image of a card; `None` if its file cannot be read any more.
fn url(card: &Card, channels: Channels) -> Option<String> {
    let decoded = open_for(&card.path, channels, &DecodeOptions::default()).ok()?;
    thumbnail(decoded.into_image().into_rgb(), THUMBNAIL)
}

fn figure(card: &Card, url: Option<String>) -> String {
    let name = escaped(&card.name);
    let image = match url {
        Some(url) => format!("<img alt=\"{name}\" loading=\"lazy\" src=\"{url}\">"),
        None => "<div class=\"none\">not readable</div>".to_owned(),
    };
    let part = |tag: &str, text: &str| match text {
        "" => String::new(),
        text => format!("<{tag}>{}</{tag}><br>", escaped(text)),
    };
    let class = if card.first { " class=\"first\"" } else { "" };
    let (value, note, warning) = (part("b", &card.value), part("span", &card.note), part("i", &card.warning));
    format!(
        "<figure{class}>{image}<figcaption>{value}{warning}{note}<span class=\"soft\">{name}</span></figcaption></figure>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_and_escaped() {
        let card = |name: &str| Card { name: name.to_owned(), path: "nowhere.png".into(), ..Card::default() };
        let section = Section { title: "a <b>".to_owned(), cards: vec![card("\"x\"<script>"), card("y"), card("z")] };
        let gallery = Gallery {
            title: "t & u".to_owned(),
            about: String::new(),
            sections: vec![section.clone(), section],
            ..Gallery::default()
        };
        let page = gallery.html(4);
        assert_eq!(page.matches("<figure>").count(), 4);
        assert!(page.contains("The page shows 4 of 6 images") && page.contains("not readable"), "{page}");
        assert!(page.contains("<title>t &amp; u</title>") && !page.contains("<script>"), "{page}");
        assert!(!page.contains("http"), "self-contained");
        assert_eq!(gallery.html(0).matches("<figure").count(), 0);
    }
}
