//! One file a command.

mod bench;
mod classify;
mod completions;
mod convert;
mod distill;
mod doctor;
mod embed;
mod evaluate;
mod explain;
mod finetune;
mod forward;
mod info;
mod inspect;
mod models;
mod preprocess;
mod probe;
pub(crate) mod pull;
mod study;
mod train;

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

/// What is to be done. The words for it stand at each command's arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Classify(classify::ClassifyArgs),
    Embed(embed::EmbedArgs),
    Explain(Box<explain::ExplainArgs>),
    Forward(forward::ForwardArgs),
    Preprocess(preprocess::PreprocessArgs),
    Info(info::InfoArgs),
    Inspect(inspect::InspectArgs),
    Doctor(doctor::DoctorArgs),
    Convert(convert::ConvertArgs),
    Pull(pull::PullArgs),
    Models(models::ModelsArgs),
    Train(train::TrainArgs),
    Finetune(finetune::FinetuneArgs),
    Distill(distill::DistillArgs),
    Study(study::StudyArgs),
    Evaluate(evaluate::EvaluateArgs),
    Probe(probe::ProbeArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
}

pub(crate) fn run(command: Command, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        Command::Classify(args) => classify::run(&args, settings, printer),
        Command::Embed(args) => embed::run(&args, settings, printer),
        Command::Explain(args) => explain::run(&args, settings, printer),
        Command::Forward(args) => forward::run(&args, settings, printer),
        Command::Preprocess(args) => preprocess::run(&args, settings, printer),
        Command::Info(args) => info::run(&args, settings, printer),
        Command::Inspect(args) => inspect::run(&args, settings, printer),
        Command::Doctor(args) => doctor::run(&args, settings, printer),
        Command::Convert(args) => convert::run(&args, settings, printer),
        Command::Pull(args) => pull::run(&args, settings, printer),
        Command::Models(args) => models::run(&args, settings, printer),
        Command::Train(args) => train::run(&args, settings, printer),
        Command::Finetune(args) => finetune::run(&args, settings, printer),
        Command::Distill(args) => distill::run(&args, settings, printer),
        Command::Study(args) => study::run(&args, settings, printer),
        Command::Evaluate(args) => evaluate::run(&args, settings, printer),
        Command::Probe(args) => probe::run(&args, settings, printer),
        Command::Bench(args) => bench::run(&args, settings, printer),
        Command::Completions(args) => completions::run(&args, printer),
    }
}
