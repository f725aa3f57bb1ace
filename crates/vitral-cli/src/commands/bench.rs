use super::Outcome;
use crate::{printer::Printer, settings::Settings};
#[derive(clap::Args, Debug)]
pub(crate) struct BenchArgs {}
pub(crate) fn run(_: &BenchArgs, _: &Settings, _: &Printer) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
