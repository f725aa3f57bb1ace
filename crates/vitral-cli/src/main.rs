//! The `vitral` binary: parses its arguments, runs one command, and reports the result as its exit code.
//!
//! 0: success. 1: something failed, and standard error says what. 2: the command line was wrong. 130: interrupted.
#![forbid(unsafe_code)]

mod architecture;
mod commands;
mod download;
mod fault;
mod follow;
mod hints;
mod inputs;
mod interrupt;
mod labels;
mod outcome;
mod output;
mod pool;
mod printer;
mod progress;
mod run_args;
mod settings;
mod sparkline;
mod tiles;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use vitral_ranks::Ranks;

use commands::Cli;
use fault::Fault;
use outcome::Outcome;
use printer::Printer;
use settings::Settings;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If the output is closed, there is nothing to do.
            let _ = error.print();
            if let Some(hint) = hints::hint(&error) {
                let _ = writeln!(std::io::stderr(), "\n  hint: {hint}");
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let ranks = if cli.command.is_dealt() { Ranks::of_environment() } else { Ok(Ranks::alone()) };
    let resolved = ranks
        .map_err(anyhow::Error::from)
        .and_then(|ranks| Settings::resolve(&cli.global, cli.command.computes(), ranks));
    let settings = match resolved {
        Ok(settings) => settings,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", fault::line(&error));
            return Fault::of(&error).exit_code();
        }
    };
    if !cli.command.handles_signals() {
        interrupt::watch();
    }
    let printer = Printer::new(&settings);
    if let Some(note) = &settings.device_note {
        printer.note(note);
    }
    if let Some(carrier) = settings.ranks.carrier().filter(|_| settings.ranks.is_several()) {
        printer.note(format_args!("{} ranks over {} (`{}`)", settings.ranks.size(), carrier.name, carrier.path));
    }
    let outcome = commands::run(cli.command, &settings, &printer).and_then(|outcome| {
        printer.flush()?;
        Ok(outcome)
    });
    if let Err(error) = &outcome
        && settings.ranks.is_several()
        && fault::is_lost_device(error)
    {
        // The others may wait for this rank's card, where no agreement reaches them.
        printer.finish_progress();
        printer.fault(format_args!("error: {}", fault::line(error)));
        settings.ranks.abort(Fault::of(error).code());
    }
    match together(&settings.ranks, outcome) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Incomplete) => ExitCode::from(1),
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::CODE),
        Err(error) => {
            let fault = Fault::of(&error);
            if fault != Fault::OutputClosed {
                printer.finish_progress();
                // Results so far are still useful.
                let _ = printer.flush();
                printer.fault(format_args!("error: {}", fault::line(&error)));
            }
            fault.exit_code()
        }
    }
}

/// How a command ended for all ranks: if one has failed, for all.
fn together(ranks: &Ranks, outcome: anyhow::Result<Outcome>) -> anyhow::Result<Outcome> {
    let outcome = if !ranks.is_several() || ranks.has_failed() {
        outcome
    } else {
        let (outcome, told) = match outcome {
            Ok(outcome) => (Some(outcome), Ok(Vec::new())),
            Err(error) => (None, Err(error)),
        };
        settings::agree(ranks, told).map(|_| outcome.expect("no error"))
    };
    ranks.finish();
    outcome
}
