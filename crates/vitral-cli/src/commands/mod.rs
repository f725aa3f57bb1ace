//! The command line: one file per command.

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
mod man;
mod models;
mod preprocess;
mod probe;
mod pull;
mod quantize;
mod ranks;
mod search;
#[cfg(feature = "serve")]
mod serve;
mod statistics;
mod study;
mod train;

use clap::{CommandFactory, Parser, Subcommand};

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{GlobalArgs, Settings};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "vitral",
    version,
    about = "Vision Transformers: classify, embed, search, serve, train, inspect, measure",
    long_about = "Vision Transformers: classify images, extract features, inspect and benchmark models.\n\n\
        A model is a folder from Hugging Face or timm, a Vitral bundle, or one checkpoint with a config file. The \
        default is the built-in model, which knows ten classes: airplanes, automobiles, birds, cats, deer, dogs, \
        frogs, horses, ships and trucks.",
    after_help = "Exit codes: 0 done; 1 something failed, or an input was skipped; 2 wrong usage; 130 interrupted.",
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do. Each variant's help text is on its arguments.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Classify(classify::ClassifyArgs),
    Embed(embed::EmbedArgs),
    Search(Box<search::SearchArgs>),
    Explain(Box<explain::ExplainArgs>),
    Forward(forward::ForwardArgs),
    Preprocess(preprocess::PreprocessArgs),
    Statistics(statistics::StatisticsArgs),
    Info(info::InfoArgs),
    Inspect(inspect::InspectArgs),
    Doctor(doctor::DoctorArgs),
    Convert(convert::ConvertArgs),
    Quantize(quantize::QuantizeArgs),
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    Pull(pull::PullArgs),
    Models(models::ModelsArgs),
    Train(train::TrainArgs),
    Finetune(finetune::FinetuneArgs),
    Distill(distill::DistillArgs),
    Study(study::StudyArgs),
    Evaluate(evaluate::EvaluateArgs),
    Probe(probe::ProbeArgs),
    Bench(bench::BenchArgs),
    Ranks(ranks::RanksArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// Whether it decides itself what happens when it is interrupted.
    pub(crate) fn handles_signals(&self) -> bool {
        #[cfg(feature = "serve")]
        if matches!(self, Command::Serve(_)) {
            return true;
        }
        false
    }

    /// Whether the processes that a launcher starts share its work.
    pub(crate) fn is_dealt(&self) -> bool {
        matches!(
            self,
            Command::Embed(_)
                | Command::Train(_)
                | Command::Finetune(_)
                | Command::Distill(_)
                | Command::Study(_)
                | Command::Evaluate(_)
                | Command::Probe(_)
                | Command::Ranks(_)
        )
    }

    /// Whether it computes with a model, on whatever device there is.
    pub(crate) fn computes(&self) -> bool {
        #[cfg(feature = "serve")]
        if matches!(self, Command::Serve(_)) {
            return true;
        }
        matches!(
            self,
            Command::Classify(_)
                | Command::Embed(_)
                | Command::Search(_)
                | Command::Explain(_)
                | Command::Forward(_)
                | Command::Train(_)
                | Command::Finetune(_)
                | Command::Distill(_)
                | Command::Study(_)
                | Command::Evaluate(_)
                | Command::Probe(_)
                | Command::Bench(_)
                | Command::Ranks(_)
        )
    }
}

pub(crate) fn run(command: Command, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        Command::Classify(args) => classify::run(&args, settings, printer),
        Command::Embed(args) => embed::run(&args, settings, printer),
        Command::Search(args) => search::run(&args, settings, printer),
        Command::Explain(args) => explain::run(&args, settings, printer),
        Command::Forward(args) => forward::run(&args, settings, printer),
        Command::Preprocess(args) => preprocess::run(&args, settings, printer),
        Command::Statistics(args) => statistics::run(&args, settings, printer),
        Command::Info(args) => info::run(&args, settings, printer),
        Command::Inspect(args) => inspect::run(&args, settings, printer),
        Command::Doctor(args) => doctor::run(&args, settings, printer),
        Command::Convert(args) => convert::run(&args, settings, printer),
        Command::Quantize(args) => quantize::run(&args, settings, printer),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(&args, settings, printer),
        Command::Pull(args) => pull::run(&args, settings, printer),
        Command::Models(args) => models::run(&args, settings, printer),
        Command::Train(args) => train::run(&args, settings, printer),
        Command::Finetune(args) => finetune::run(&args, settings, printer),
        Command::Distill(args) => distill::run(&args, settings, printer),
        Command::Study(args) => study::run(&args, settings, printer),
        Command::Evaluate(args) => evaluate::run(&args, settings, printer),
        Command::Probe(args) => probe::run(&args, settings, printer),
        Command::Bench(args) => bench::run(&args, settings, printer),
        Command::Ranks(_) => ranks::run(settings, printer),
        Command::Completions(args) => completions::run(&args, Cli::command(), printer),
        Command::Man(args) => man::run(&args, Cli::command(), printer),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// clap itself only checks this without optimization; with it, one of the two would silently get the other's value.
    #[test]
    fn no_command_has_two_options_of_one_name() {
        let mut left = vec![Cli::command()];
        while let Some(mut command) = left.pop() {
            command.build();
            let mut seen = BTreeSet::new();
            for argument in command.get_arguments() {
                let names = argument.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(str::to_owned);
                let hidden = argument.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned);
                let short = argument.get_short().map(|short| short.to_string());
                let names: BTreeSet<String> = names.chain(hidden).chain(short).collect();
                for name in names {
                    assert!(seen.insert(name.clone()), "`{} --{name}` twice", command.get_name());
                }
            }
            left.extend(command.get_subcommands().cloned());
        }
    }
}
