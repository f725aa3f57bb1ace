use super::Outcome;
use crate::{printer::Printer, settings::Settings};
#[derive(clap::Args, Debug)]
pub(crate) struct PreprocessArgs {}
pub(crate) fn run(_: &PreprocessArgs, _: &Settings, _: &Printer) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
