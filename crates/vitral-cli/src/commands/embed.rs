use super::Outcome;
use crate::{printer::Printer, settings::Settings};
#[derive(clap::Args, Debug)]
pub(crate) struct EmbedArgs {}
pub(crate) fn run(_: &EmbedArgs, _: &Settings, _: &Printer) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
