//! `vitral explain`: what a model attends to in images, and what its layers do.

mod args;
mod figures;
mod files;
mod places;
mod results;
mod run;
mod selection;
mod sheets;
mod tiled;
mod waiting;
mod work;

use std::path::PathBuf;

use anyhow::bail;
use vitral::{LoadOptions, Model};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, located};

pub(crate) use args::ExplainArgs;
use args::{Figure, What};
use work::Work;

pub(crate) fn run(args: &ExplainArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let held = |what: &What| matches!(what, What::Figure(Figure::Cka) | What::All);
    if args.compare.is_some() && !args.method.iter().any(held) {
        bail!(Usage("`--compare` only applies to `cka`; add `--method cka`".into()));
    }
    args.check_images()?;
    tiled::check(args)?;
    let model = args.model.load_with_labels(&args.labels, settings)?;
    printer.note_precision(&model);
    let load = |path: &PathBuf| -> anyhow::Result<Model> {
        Ok(Model::load(
            &located(path, settings)?,
            &args.model.backend.within(LoadOptions::default()),
            &settings.device,
        )?)
    };
    let other = args.compare.as_ref().map(load).transpose()?;
    Work::new(args, &model, other.as_ref(), settings, printer)?.run()
}
