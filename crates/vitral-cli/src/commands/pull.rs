//! `vitral pull`: a model fetched from a hub by its name.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use vitral::weights::hub::{Hub, HubName, Progress};

/// Arguments of `pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// The model: `hf:ORG/NAME`, `hf:ORG/NAME@REVISION`, or `timm/NAME`.
    pub(crate) name: HubName,
    /// Where to keep it, in place of the cache that HF_HOME names.
    #[arg(long)]
    pub(crate) cache: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Runs `pull` and prints the folder, which any command takes as its model.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let mut hub = Hub::from_environment();
    if let Some(cache) = &args.cache {
        hub.cache.clone_from(cache);
    }
    let shown = !args.quiet && std::io::stderr().is_terminal();
    let mut bar = Bar::default();
    let folder = hub.pull(&args.name, &mut |progress| {
        if shown {
            bar.draw(progress);
        }
    });
    if shown {
        bar.clear();
    }
    let folder = folder.with_context(|| format!("cannot pull {}", args.name))?;
    if args.json {
        println!("{}", serde_json::json!({ "name": args.name.to_string(), "path": folder }));
    } else {
        println!("{}", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// One line on a terminal, drawn again for every hundredth.
#[derive(Default)]
pub(crate) struct Bar {
    drawn: Option<(String, u64)>,
}

impl Bar {
    /// Draws how far a file is.
    pub(crate) fn draw(&mut self, Progress { file, done, total }: Progress<'_>) {
        let hundredths = total.map_or(done >> 20, |total| 100 * done / total.max(1));
        if self.drawn.as_ref().is_some_and(|(drawn, at)| drawn == file && *at == hundredths) {
            return;
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let of = total.map_or(String::new(), |total| format!(" of {:.1}", megabytes(total)));
        eprint!("\r\x1b[K{file}  {:.1}{of} MB", megabytes(done));
        let _ = std::io::stderr().flush();
        self.drawn = Some((file.to_owned(), hundredths));
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
