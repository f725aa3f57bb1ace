//! A run of `explain`, image by image.

use serde_json::{Value, json};
use vitral::config::Problem;
use vitral::explain::faithfulness::{self, Ranking};
use vitral::explain::report::Entry;
use vitral::explain::{Aim, InputImage, Map, Method, Options, Prediction, lens, paint, representation};
use vitral::image::RgbImage;
use vitral::labels::Ranked;
use vitral::{Error, Model};

use super::args::Figure;
use super::figures;
use super::files::Folder;
use super::work::Work;
use crate::outcome::Outcome;
use crate::output::{Named, write_file};

/// Number of classes to show.
const SHOWN: usize = 5;

impl<'a> Work<'a> {
    /// Makes everything requested.
    pub(super) fn run(mut self) -> anyhow::Result<Outcome> {
        let mut lines = figures::of_model(&mut self)?;
        let mut gathering = figures::Gathering::new(&self);
        let (args, printer) = (self.args, self.printer);
        let outcome = if self.looks_at_each() {
            self.each(&mut gathering)?
        } else {
            args.inputs
                .each_batch(self.model, self.settings, printer, |_, batch| gathering.add_batch(&batch.pixels, None))?
        };
        self.colors()?;
        // The first image in a row is the input itself.
        if self.rows.iter().map(|row| row.len() - 1).sum::<usize>() > 1 {
            let gallery = paint::sheet(&self.rows, 160, 4)?;
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
    fn each(&mut self, gathering: &mut figures::Gathering<'a>) -> anyhow::Result<Outcome> {
        let (args, printer) = (self.args, self.printer);
        args.inputs.each_image(printer, |name, image| {
            let mut options = self.options;
            let input = InputImage::new(self.model, name, image).and_then(|input| {
                options.patch = args.at.map(|at| input.patch_at(self.model, at)).transpose()?;
                Ok(input)
            });
            let input = match input {
                Ok(input) => input,
                Err(fault) => return Ok(Err(fault)),
            };
            self.input(&input, options)?;
            gathering.add(&input, image)?;
            Ok(Ok(()))
        })
    }

    /// Makes everything for one image.
    fn input(&mut self, input: &InputImage, options: Options) -> anyhow::Result<()> {
        let prediction = self.model.explained(input, self.aim, SHOWN)?;
        let mut folder = Folder::create(&self.args.output.join(self.stems.of(&input.name)))?;
        let mut tensors: Vec<Named> = Vec::new();
        let mut row = vec![paint::enlarged(&input.shown)];
        let mut maps = Vec::new();
        let mut faithfulness = serde_json::Map::new();
        for method in self.methods.clone() {
            let map = self.map(self.model, input, method, &prediction, &options)?;
            if self.args.faithfulness && method.is_attribution() {
                let found = self.faithfulness(input, method, &prediction, &options, &map)?;
                faithfulness.insert(method.name().to_owned(), found);
            }
            let painted = paint::overlay(&input.shown, &method.painted(&map), self.args.opacity)?;
            folder.image(method.name(), &painted)?;
            row.push(painted);
            tensors.push((method.name().to_owned(), vec![map.size.height, map.size.width], map.values.clone()));
            maps.push((method, map));
        }
        let mut heads = Vec::new();
        if self.figures.contains(&Figure::Heads) || self.args.report.is_some() {
            heads = self.model.attention_maps(input)?;
        }
        if self.figures.contains(&Figure::Heads) {
            folder.image("heads", &head_sheet(&heads, input)?)?;
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
        folder.numbers("numbers", &tensors, self.args.numbers)?;
        self.say(input, &prediction, &folder, faithfulness, &lens)?;
        if self.args.report.is_some() {
            let (name, shown, explained) = (input.name.clone(), input.shown.clone(), prediction.explained.clone());
            let ranked = prediction.ranked.clone();
            self.report.entries.push(Entry { name, shown, ranked, explained, maps, heads, colors: None, lens });
        }
        self.rows.push(row);
        if self.figures.contains(&Figure::Pca) {
            let tokens = self.model.final_tokens(input)?;
            self.tokens.push((folder, input.clone(), tokens));
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
        let passes = method.passes(options, input.layout.grid.area());
        self.printer.start_progress(passes, method.name());
        let mut fault = Ok(());
        let map = model.explain(input, method, prediction.target.as_ref(), options, &mut |done| {
            if passes > 0 && fault.is_ok() {
                fault = self.printer.advance(done);
            }
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
        prediction: &Prediction,
        options: &Options,
        map: &Map,
    ) -> anyhow::Result<Value> {
        let Some((target, shuffled)) = prediction.target.as_ref().zip(self.shuffled.as_ref()) else {
            return Ok(Value::Null);
        };
        let steps = usize::from(self.args.test_steps);
        let found = faithfulness::faithfulness(self.model, input, target, map, steps, &mut |_| ())?;
        // A random map does not depend on the weights, so comparing it would say nothing.
        let alike = match method {
            Method::Random => 0.0,
            _ => faithfulness::rank_correlation(map, &self.map(shuffled, input, method, prediction, options)?),
        };
        self.report.ranking.add(method, &found, alike);
        Ok(json!({ "deletion": found.deletion.area(), "insertion": found.insertion.area(), "shuffled": alike }))
    }

    /// Draws principal components over all images as colors.
    fn colors(&mut self) -> anyhow::Result<()> {
        if self.tokens.is_empty() {
            return Ok(());
        }
        let width = self.model.vit().config().width;
        let all: Vec<f32> = self.tokens.iter().flat_map(|(_, _, tokens)| tokens.iter().copied()).collect();
        let colors = representation::colors(&all, width);
        let mut rest = colors.as_slice();
        for (index, (folder, input, tokens)) in self.tokens.iter_mut().enumerate() {
            let (own, others) = rest.split_at(3 * tokens.len() / width);
            rest = others;
            let size = paint::enlarged(&input.shown).size();
            let painted = paint::principal_tiles(input.layout.grid, own, size)?;
            folder.image("pca", &painted)?;
            // The results of the image itself were printed before all of them were known.
            self.folder.list(folder.written().last().expect("just written"));
            self.rows[index].push(painted.clone());
            if let Some(entry) = self.report.entries.get_mut(index) {
                entry.colors = Some(painted);
            }
        }
        Ok(())
    }

    /// Prints the results for one image.
    fn say(
        &self,
        input: &InputImage,
        prediction: &Prediction,
        folder: &Folder,
        faithfulness: serde_json::Map<String, Value>,
        lens: &[(Vec<Ranked>, f32)],
    ) -> anyhow::Result<()> {
        let printer = self.printer;
        if self.settings.json {
            let answers = |ranked: &[Ranked]| -> Vec<Value> {
                ranked
                    .iter()
                    .map(|answer| {
                        json!({ "class": answer.class, "label": answer.label, "probability": answer.probability })
                    })
                    .collect()
            };
            let mut line = json!({
                "image": input.name,
                "labels": answers(&prediction.ranked),
                "explained": prediction.explained,
                "files": folder.written(),
            });
            if !faithfulness.is_empty() {
                line["faithfulness"] = faithfulness.into();
            }
            if !lens.is_empty() {
                line["lens"] = lens.iter().map(|(ranked, _)| answers(&ranked[..1])).collect();
            }
            return printer.json_line(&line);
        }
        printer.line(printer.heading(&input.name))?;
        for answer in prediction.ranked.iter().take(3) {
            if self.model.vit().config().problem == Problem::Regression {
                printer.line(format_args!("  {:10.4}  {}", answer.probability, answer.label))?;
            } else {
                printer.line(format_args!("  {:6.2} %  {}", 100.0 * answer.probability, answer.label))?;
            }
        }
        if self.methods.iter().any(|method| method.needs_target()) {
            printer.line(format_args!("  explained: {}", prediction.explained))?;
        }
        for file in folder.written() {
            printer.line(format_args!("  {file}"))?;
        }
        Ok(())
    }

    /// Prints the results over all images.
    fn tell(&self, figures: &[Named], ranking: &Ranking) -> anyhow::Result<()> {
        let printer = self.printer;
        let report = self.args.report.as_ref().map(|path| path.display().to_string());
        if self.settings.json {
            let numbers: serde_json::Map<_, _> = figures
                .iter()
                .map(|(name, shape, values)| (name.clone(), json!({ "shape": shape, "values": values })))
                .collect();
            let rows: Vec<Value> = ranking
                .rows()
                .iter()
                .map(|row| {
                    json!({
                        "method": row.method.name(),
                        "images": row.images,
                        "deletion": row.deletion,
                        "insertion": row.insertion,
                        "shuffled": row.shuffled,
                    })
                })
                .collect();
            let left_out: Vec<Value> =
                self.left_out.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect();
            return printer.json_line(&json!({
                "figures": numbers,
                "ranking": rows,
                "files": self.folder.written(),
                "report": report,
                "left_out": left_out,
            }));
        }
        if !ranking.rows().is_empty() {
            printer.line(printer.heading("method                 deletion  insertion   shuffled"))?;
            for row in ranking.rows() {
                printer.line(format_args!(
                    "{:22} {:8.3} {:10.3} {:10.3}",
                    row.method.name(),
                    row.deletion,
                    row.insertion,
                    row.shuffled
                ))?;
            }
        }
        for file in self.folder.written().iter().chain(&report) {
            printer.line(file)?;
        }
        Ok(())
    }
}

/// Attention of all layers from top to bottom, and all heads from left to right.
fn head_sheet(heads: &[Vec<Map>], input: &InputImage) -> Result<RgbImage, Error> {
    let tile = |map: &Map| paint::alone(map, input.layout.image);
    let rows: Result<Vec<Vec<RgbImage>>, Error> =
        heads.iter().map(|heads| heads.iter().map(tile).collect::<Result<Vec<_>, _>>()).collect();
    paint::sheet(&rows?, 96, 3)
}
