//! Maps over large images, joined from overlapping windows.

use std::ops::ControlFlow;

use anyhow::bail;
use serde_json::json;
use vitral::config::Size;
use vitral::explain::paint;
use vitral::explain::report::{Entry, MapEntry};
use vitral::explain::tiled::shown;
use vitral::explain::{Aim, Map, Method, Prediction, Target};
use vitral::image::{Image, RgbImage};
use vitral::tiles::{TileOptions, Tiling};

use super::args::{ExplainArgs, What};
use super::files::Folder;
use super::places::Planned;
use super::selection;
use super::sheets;
use super::waiting::Results;
use super::work::{SHOWN, Work};
use crate::fault::Usage;
use crate::inputs::{Found, Seen};
use crate::outcome::Outcome;
use crate::tiles::tiling;

/// About the longest side of an image with a map over it, in pixels.
const LONGEST: usize = 2048;

/// Windows that go through the model together for their classes.
const BATCH: usize = 16;

/// The name of the map of what the model says about each window.
const SCORE: &str = "score";

/// Refuses what does not go together with windows.
pub(super) fn check(args: &ExplainArgs) -> Result<(), Usage> {
    if args.tiles.options().is_none() {
        return Ok(());
    }
    let single = |what: &What| !matches!(what, What::Map(method) if !method.needs_patch());
    let other = args.method.iter().find(|what| single(what)).map(|what| format!("--method {}", what.name()));
    let without = args.method.is_empty();
    let named = [
        ("--faithfulness", args.faithfulness),
        ("--at", args.at.is_some()),
        ("--compare", args.compare.is_some()),
        ("--layer", without && !args.layer.is_empty()),
        ("--head", without && !args.head.is_empty()),
        ("--target feature", args.target == super::args::TargetKind::Feature),
    ];
    let option = named.into_iter().find(|(_, given)| *given).map(|(name, _)| name.to_owned());
    match other.or(option) {
        Some(name) => Err(Usage(format!(
            "`{name}` is for images that the model sees as a whole; with `--tiles`, name maps over an image, such as \
             `--method gradcam,attention`, or none for the score of each window alone"
        ))),
        None => Ok(()),
    }
}

impl Work<'_> {
    /// Processes large images one by one, window by window.
    pub(super) fn each_tiled(&mut self, found: Found, options: TileOptions) -> anyhow::Result<Outcome> {
        let (args, printer) = (self.args, self.printer);
        if args.method.is_empty() {
            // The score of each window is enough for a first look, and costs one forward pass of each.
            self.maps.clear();
        }
        let classifies = selection::classifies(self.model);
        if !classifies && self.maps.is_empty() {
            bail!(Usage(format!(
                "the model `{}` has no classifier, and so no score for a window; name a map that needs none, such as \
                 `--method attention` or `--method norms`, or write its features with `embed --tiles`",
                self.model.name()
            )));
        }
        tiling(self.model, Size::square(1), options)?;
        args.inputs.each_image(found, self.model.channels(), printer, |seen| {
            let (name, image) = match seen {
                Seen::Image(name, image) => (name, image),
                Seen::Skipped(skipped) => return self.skipped(skipped).map(Ok),
            };
            let tiling = tiling(self.model, image.size(), options)?;
            let shown = match shown(image, &tiling, LONGEST, args.show_bands) {
                Ok(shown) => shown,
                Err(fault) => return Ok(Err(fault)),
            };
            self.tiled(name, shown, image, &tiling, classifies)?;
            Ok(Ok(()))
        })
    }

    /// Makes everything for one large image.
    fn tiled(
        &mut self,
        name: &str,
        shown: RgbImage,
        image: &Image,
        tiling: &Tiling,
        classifies: bool,
    ) -> anyhow::Result<()> {
        let printer = self.printer;
        let mut folder = Folder::create(&self.args.output.join(self.stems.of(name)), &self.inputs)?;
        let mut maps: Vec<(String, Option<Method>, String, Map)> = Vec::new();
        let mut prediction = Prediction { ranked: vec![], target: None, explained: "nothing".into() };
        let mut scores = Vec::new();
        if classifies {
            printer.start_progress(tiling.count(), SCORE);
            let advance = |windows: usize| -> anyhow::Result<()> { Ok(printer.advance(windows)?) };
            let found = self.model.window_scores(image, tiling, BATCH, advance)?;
            printer.finish_progress();
            prediction.ranked = found.ranked(SHOWN, self.model.labels());
            let class = match self.aim {
                Aim::Class(class) => class,
                _ => prediction.ranked[0].class,
            };
            prediction.explained = format!("class `{}`", self.model.labels().name(class));
            prediction.target = Some(Target::Class(class));
            scores = found.of(class);
            maps.push((SCORE.into(), None, String::new(), Map::new(tiling.grid(), found.grid(tiling, class))));
        }
        for Planned { name, method, place, options } in self.maps.clone() {
            printer.start_progress(tiling.count(), method.name());
            let mut fault = Ok(());
            let target = prediction.target.as_ref().map(|target| (target, &scores[..]));
            let map = self.model.explain_tiled(image, tiling, method, target, &options, &mut |windows| {
                fault = printer.advance(windows);
                if fault.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            printer.finish_progress();
            fault?;
            maps.push((name, Some(method), place, map?));
        }
        self.gallery.begin(name, &shown, &prediction);
        let (mut tensors, mut entries) = (Vec::new(), Vec::new());
        for (name, method, place, map) in maps {
            let painted = paint::overlay(&shown, &map, self.args.opacity)?;
            folder.image(&name, &painted)?;
            self.gallery.add(&name, sheets::tile(painted, &map));
            tensors.push((name.clone(), vec![map.size.height, map.size.width], map.values.clone()));
            entries.push(MapEntry { name, method, place, map, marked: None });
        }
        if self.args.report.is_some() {
            self.report.entries.push(Entry {
                name: name.to_owned(),
                shown,
                ranked: prediction.ranked.clone(),
                explained: prediction.explained.clone(),
                maps: entries,
                heads: vec![],
                colors: None,
                lens: vec![],
            });
        }
        let sides = |size: Size| [size.height, size.width];
        let tiles = json!({
            "windows": tiling.count(),
            "window": sides(tiling.window()),
            "grid": sides(tiling.grid()),
            "patch": sides(tiling.cell()),
        });
        let name = name.to_owned();
        let (faithfulness, lens) = (serde_json::Map::new(), vec![]);
        self.finish(&mut Results { name, prediction, folder, tensors, faithfulness, lens, tiles: Some(tiles) })
    }
}
