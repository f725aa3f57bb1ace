//! The results for each image and over all of them, as they are written and printed.

use serde_json::{Value, json};
use vitral::config::Problem;
use vitral::explain::faithfulness::{READING, Ranking};
use vitral::explain::paint::{self, Tile};
use vitral::explain::{Method, representation};
use vitral::labels::Ranked;
use vitral::message::count;

use super::args::Figure;
use super::sheets;
use super::waiting::{Results, Waiting};
use super::work::Work;
use crate::inputs::Skipped;
use crate::output::Named;

impl Work<'_> {
    /// Prints the record of an image that could not be used, in its place among the others.
    pub(super) fn skipped(&mut self, skipped: Skipped) -> anyhow::Result<()> {
        if !self.settings.json {
            return Ok(());
        }
        if self.figures.contains(&Figure::Pca) {
            self.waiting.push(Waiting::Skipped(skipped));
            return Ok(());
        }
        skipped.print(self.printer)
    }

    /// Writes the numbers of an image and prints its results.
    pub(super) fn finish(&self, results: &mut Results) -> anyhow::Result<()> {
        results.folder.numbers("numbers", &results.tensors, self.args.numbers)?;
        self.say(results)
    }

    /// Draws principal components over all images as colors, which completes their results.
    pub(super) fn colors(&mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let tokens = waiting.iter().filter_map(|waiting| match waiting {
            Waiting::Image(_, _, tokens) => Some(tokens.as_slice()),
            Waiting::Skipped(_) => None,
        });
        let width = self.model.vit().config().width;
        let all = tokens.collect::<Vec<_>>().concat();
        let colors = if all.is_empty() { vec![] } else { representation::colors(&all, width) };
        let mut rest = colors.as_slice();
        let mut index = 0;
        for waiting in waiting {
            let (mut results, input, tokens) = match waiting {
                Waiting::Image(results, input, tokens) => (results, input, tokens),
                Waiting::Skipped(skipped) => {
                    skipped.print(self.printer)?;
                    continue;
                }
            };
            let (own, others) = rest.split_at(3 * tokens.len() / width);
            rest = others;
            let (grid, size) = (input.layout.grid, paint::enlarged(&input.shown).size());
            let painted = paint::principal_tiles(grid, own, size)?;
            results.folder.image("pca", &sheets::of_components(&painted)?)?;
            results.tensors.push(("pca".into(), vec![grid.height, grid.width, 3], own.to_vec()));
            self.gallery.add_to(index, "pca", Tile::from(painted.clone()));
            if let Some(entry) = self.report.entries.get_mut(index) {
                entry.colors = Some(painted);
            }
            self.finish(&mut results)?;
            index += 1;
        }
        Ok(())
    }

    /// Prints the results for one image.
    fn say(&self, results: &Results) -> anyhow::Result<()> {
        let Results { name, prediction, folder, faithfulness, lens, tiles, .. } = results;
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
                "image": name,
                "labels": answers(&prediction.ranked),
                "explained": prediction.explained,
                "files": folder.written(),
            });
            if !faithfulness.is_empty() {
                line["faithfulness"] = faithfulness.clone().into();
            }
            if !lens.is_empty() {
                line["lens"] = lens.iter().map(|(ranked, _)| answers(&ranked[..1])).collect();
            }
            if let Some(tiles) = tiles {
                line["tiles"] = tiles.clone();
            }
            return printer.json_line(&line);
        }
        printer.line(printer.heading(name))?;
        if let Some(tiles) = tiles {
            let windows = count(tiles["windows"].as_u64().unwrap_or(0) as usize, "window");
            printer.line(format_args!("  class probabilities: mean over {windows}"))?;
        }
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
    pub(super) fn tell(&self, figures: &[Named], ranking: &Ranking) -> anyhow::Result<()> {
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
                        "method": row.name,
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
            let rows = ranking.rows();
            let wide = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(22);
            let head = format!("{:wide$} deletion  insertion   shuffled", "faithfulness");
            printer.line(printer.heading(head))?;
            for row in rows {
                let (name, baseline) = (&row.name, row.method == Method::Random);
                let note = if baseline { "  (the baseline)" } else { "" };
                let (deletion, insertion, shuffled) = (row.deletion, row.insertion, row.shuffled);
                printer.line(format_args!("{name:wide$} {deletion:8.3} {insertion:10.3} {shuffled:10.3}{note}"))?;
            }
            printer.line(format_args!("The score is {}.", self.report.score))?;
            for line in READING {
                printer.line(line)?;
            }
        }
        for file in self.folder.written().iter().chain(&report) {
            printer.line(file)?;
        }
        Ok(())
    }
}
