//! `vitral completions`: scripts for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Outcome;
use crate::printer::Printer;
use crate::settings::Cli;

/// Print a script that completes commands in a shell
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral completions bash > ~/.local/share/bash-completion/completions/vitral
  vitral completions zsh > ~/.zfunc/_vitral
  vitral completions fish > ~/.config/fish/completions/vitral.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vitral", &mut script);
    printer.bytes(&script)?;
    Ok(Outcome::Done)
}
