//! `vitral completions`: shell completion scripts.

use clap::Args;
use clap_complete::Shell;

use crate::outcome::Outcome;
use crate::printer::Printer;

/// Print a shell completion script
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral completions bash > ~/.local/share/bash-completion/completions/vitral
  vitral completions zsh > ~/.zfunc/_vitral
  vitral completions fish > ~/.config/fish/completions/vitral.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for
    shell: Shell,
}

/// Prints the script for the whole command line.
pub(crate) fn run(args: &CompletionsArgs, mut line: clap::Command, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut line, "vitral", &mut script);
    printer.bytes(&script)?;
    Ok(Outcome::Done)
}
