//! One file a command.

mod bench;
mod classify;
mod completions;
mod embed;
mod forward;
mod info;
mod models;
mod preprocess;

use clap::Subcommand;

use crate::printer::Printer;
use crate::settings::Settings;

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is done.
    Done,
    /// Some inputs were skipped, and standard error says which.
    Incomplete,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what pictures show
    Classify(classify::ClassifyArgs),
    /// Turn pictures into feature vectors
    Embed(embed::EmbedArgs),
    /// Run a model on a tensor and keep what happens inside
    Forward(forward::ForwardArgs),
    /// Turn pictures into the tensor a model sees
    Preprocess(preprocess::PreprocessArgs),
    /// Say what a model is
    Info(info::InfoArgs),
    /// List the known sizes of Vision Transformers
    Models,
    /// Measure how fast a model runs here
    Bench(bench::BenchArgs),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
}

pub(crate) fn run(command: Command, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        Command::Classify(args) => classify::run(&args, settings, printer),
        Command::Embed(args) => embed::run(&args, settings, printer),
        Command::Forward(args) => forward::run(&args, settings, printer),
        Command::Preprocess(args) => preprocess::run(&args, settings, printer),
        Command::Info(args) => info::run(&args, settings, printer),
        Command::Models => models::run(settings, printer),
        Command::Bench(args) => bench::run(&args, settings, printer),
        Command::Completions(args) => completions::run(&args, printer),
    }
}
