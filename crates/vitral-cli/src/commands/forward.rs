use super::Outcome;
use crate::{printer::Printer, settings::Settings};
#[derive(clap::Args, Debug)]
pub(crate) struct ForwardArgs {}
pub(crate) fn run(_: &ForwardArgs, _: &Settings, _: &Printer) -> anyhow::Result<Outcome> {
    Ok(Outcome::Done)
}
