//! A run of `explain`, image by image.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use vitral::Model;
use vitral::explain::faithfulness;
use vitral::explain::report::{Entry, MapEntry};
use vitral::explain::{Aim, InputImage, Map, Method, Options, Prediction, lens, paint};
use vitral::pipeline::Batch;

use super::args::Figure;
use super::files::Folder;
use super::places::Planned;
use super::waiting::{Results, Waiting};
use super::work::{SHOWN, Work};
use super::{figures, sheets};
use crate::inputs::{Found, Records, Seen};
use crate::outcome::Outcome;
use crate::output::{Named, write_file};

impl<'a> Work<'a> {
    /// Makes everything requested.
    pub(super) fn run(mut self) -> anyhow::Result<Outcome> {
        self.printer.go_on_without_output();
        let mut before = std::fs::read_dir(&self.args.output).into_iter().flatten();
        if before.next().is_some() {
            self.printer.note(format_args!(
                "`{}` has files from before: those of the same names are replaced, others stay",
                self.args.output.display()
            ));
        }
        let mut lines = figures::of_model(&mut self)?;
        let mut gathering = figures::Gathering::new(&self);
        let (args, printer) = (self.args, self.printer);
        let found = std::mem::take(&mut self.found);
        let outcome = if found.is_empty() {
            Outcome::Done
        } else if let Some(options) = args.tiles.options() {
            self.each_tiled(found, options)?
        } else if self.looks_at_each() {
            self.each(found, &mut gathering)?
        } else {
            let records = if self.settings.json { Records::Json } else { Records::None };
            let add = |_: &[String], batch: &Batch| gathering.add_batch(&batch.pixels, None).map(|()| vec![]);
            let nothing = |_: &str, (): ()| Ok(());
            args.inputs.each_row(found.with(records), self.model, self.settings, printer, add, nothing)?
        };
        self.colors()?;
        if let Some(gallery) = self.gallery.paint(self.model.name())? {
            self.folder.image("gallery", &gallery)?;
        }
        let numbers = gathering.finish(&mut self)?;
        lines.extend(numbers);
        let ranking = figures::ranking(&mut self)?;
        self.folder.numbers("figures", &lines, args.numbers)?;
        if let Some(path) = &args.report {
            write_file(path, self.report.html()?.as_bytes())?;
        }
        self.tell(&lines, &ranking)?;
        Ok(outcome)
    }

    /// Whether anything is made for single images. If not, images are batched for statistics, as in `embed`.
    fn looks_at_each(&self) -> bool {
        let single = |figure: &Figure| matches!(figure, Figure::Heads | Figure::Pca | Figure::Lens);
        let of_two = self.other.is_some();
        !self.methods.is_empty() || self.figures.iter().any(single) || self.args.report.is_some() || of_two
    }

    /// Processes the images one by one.
    fn each(&mut self, found: Found, gathering: &mut figures::Gathering<'a>) -> anyhow::Result<Outcome> {
        let (args, printer) = (self.args, self.printer);
        let channels = self.model.channels();
        args.inputs.each_image(found, channels, printer, |seen| {
            let (name, image) = match seen {
                Seen::Image(name, image) => (name, image),
                Seen::Skipped(skipped) => return self.skipped(skipped).map(Ok),
            };
            let input = InputImage::showing(self.model, name, image, args.show_bands).and_then(|input| {
                self.options.patch = args.at.map(|at| input.patch_at(self.model, at)).transpose()?;
                Ok(input)
            });
            let input = match input {
                Ok(input) => input,
                Err(fault) => return Ok(Err(fault)),
            };
            self.input(&input)?;
            gathering.add(&input, image)?;
            Ok(Ok(()))
        })
    }

    /// Makes everything for one image.
    fn input(&mut self, input: &InputImage) -> anyhow::Result<()> {
        let prediction = self.model.explained(input, self.aim, SHOWN)?;
        let mut folder = Folder::create(&self.args.output.join(self.stems.of(&input.name)), &self.inputs)?;
        let mut tensors: Vec<Named> = Vec::new();
        self.gallery.begin(&input.name, &input.shown, &prediction);
        let mut maps = Vec::new();
        let mut faithfulness = serde_json::Map::new();
        for planned in self.maps.clone() {
            let Planned { name, method, place, mut options } = planned;
            options.patch = self.options.patch;
            let map = self.map(self.model, input, method, &prediction, &options)?;
            if self.args.faithfulness && method.is_attribution() {
                let found = self.faithfulness(input, method, &name, &prediction, &options, &map)?;
                faithfulness.insert(name.clone(), found);
            }
            let patch = method.needs_patch().then(|| options.patch_in(&input.layout));
            let drawn = method.painted(&map);
            let mut painted = paint::overlay(&input.shown, &drawn, self.args.opacity)?;
            if let Some(patch) = patch {
                painted = paint::outlined(&painted, &input.layout, patch);
            }
            folder.image(&name, &painted)?;
            self.gallery.add(&name, sheets::tile(painted, &drawn));
            tensors.push((name.clone(), vec![map.size.height, map.size.width], map.values.clone()));
            let marked = patch.map(|patch| input.layout.area_of(patch));
            maps.push(MapEntry { name, method: Some(method), place, map, marked });
        }
        let tested = self.methods.iter().any(|method| method.is_attribution());
        if self.args.faithfulness && tested && !self.methods.contains(&Method::Random) {
            // Without the baseline, the numbers of the others say little.
            let (method, options) = (Method::Random, self.options);
            let map = self.map(self.model, input, method, &prediction, &options)?;
            let found = self.faithfulness(input, method, method.name(), &prediction, &options, &map)?;
            faithfulness.insert(method.name().to_owned(), found);
        }
        let mut heads = Vec::new();
        if self.figures.contains(&Figure::Heads) || self.args.report.is_some() {
            heads = self.model.attention_maps(input)?;
        }
        if self.figures.contains(&Figure::Heads) {
            folder.image("heads", &sheets::of_heads(&heads, input)?)?;
            let values = heads.iter().flatten().flat_map(|map| map.values.iter().copied()).collect();
            let grid = input.layout.grid;
            tensors.push(("heads".into(), vec![heads.len(), heads[0].len(), grid.height, grid.width], values));
        }
        let class = match self.aim {
            Aim::Class(class) => Some(class),
            _ => prediction.ranked.first().map(|best| best.class),
        };
        let lens = match class.filter(|_| self.figures.contains(&Figure::Lens)) {
            Some(class) => lens::lens(self.model, input, class, SHOWN)?,
            None => vec![],
        };
        if !lens.is_empty() {
            folder.plot("lens", &figures::lens_plot(&lens, &self.model.labels().name(class.unwrap_or_default()))?)?;
            tensors.push(("lens".into(), vec![lens.len()], lens.iter().map(|(_, share)| *share).collect()));
        }
        let tokens = match self.figures.contains(&Figure::Pca) {
            true => Some(self.model.final_tokens(input)?),
            false => None,
        };
        if self.args.report.is_some() {
            let (name, shown, explained) = (input.name.clone(), input.shown.clone(), prediction.explained.clone());
            let (ranked, lens) = (prediction.ranked.clone(), lens.clone());
            self.report.entries.push(Entry { name, shown, ranked, explained, maps, heads, colors: None, lens });
        }
        let mut results =
            Results { name: input.name.clone(), prediction, folder, tensors, faithfulness, lens, tiles: None };
        match tokens {
            Some(tokens) => self.waiting.push(Waiting::Image(Box::new(results), Box::new(input.clone()), tokens)),
            None => self.finish(&mut results)?,
        }
        Ok(())
    }

    fn map(
        &self,
        model: &Model,
        input: &InputImage,
        method: Method,
        prediction: &Prediction,
        options: &Options,
    ) -> anyhow::Result<Map> {
        let passes = options.passes(method, input.layout.grid.area());
        self.printer.start_progress(passes, method.name());
        let mut fault = Ok(());
        let map = model.explain(input, method, prediction.target.as_ref(), options, &mut |done| {
            if passes > 0 && fault.is_ok() {
                fault = self.printer.advance(done);
            }
            if fault.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.printer.finish_progress();
        fault?;
        Ok(map?)
    }

    /// Insertion, deletion, and the correlation with the map of the model with shuffled weights.
    fn faithfulness(
        &mut self,
        input: &InputImage,
        method: Method,
        name: &str,
        prediction: &Prediction,
        options: &Options,
        map: &Map,
    ) -> anyhow::Result<Value> {
        let Some((target, shuffled)) = prediction.target.as_ref().zip(self.shuffled.as_ref()) else {
            return Ok(Value::Null);
        };
        let steps = usize::from(self.args.test_steps);
        let found =
            faithfulness::faithfulness(self.model, input, target, map, steps, &mut |_| ControlFlow::Continue(()))?;
        // A random map does not depend on the weights, so comparing it would say nothing.
        let alike = match method {
            Method::Random => 0.0,
            _ => faithfulness::rank_correlation(map, &self.map(shuffled, input, method, prediction, options)?),
        };
        self.report.ranking.add(method, name, &found, alike);
        Ok(json!({ "deletion": found.deletion.area(), "insertion": found.insertion.area(), "shuffled": alike }))
    }
}
