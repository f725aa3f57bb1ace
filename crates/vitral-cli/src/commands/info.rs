use super::Outcome;
use crate::{printer::Printer, settings::Settings};
#[derive(clap::Args, Debug)]
pub(crate) struct InfoArgs {}
pub(crate) fn run(_: &InfoArgs, _: &Settings, _: &Printer) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
