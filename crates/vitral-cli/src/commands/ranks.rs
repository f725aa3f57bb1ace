//! `vitral ranks`: the processes that a launcher has started.

use clap::Args;
use serde::{Deserialize, Serialize};
use vitral_train::exchange::Exchange;

use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{Settings, agree};

/// Show the processes (MPI ranks) of this job
///
/// Under `mpirun`, `mpiexec` or `srun`, the commands that train, evaluate and embed share their work among all processes.
/// The MPI library is found at run time: the one beside the launcher, or the first that the system finds;
/// `VITRAL_MPI` names another, by its file or folder. Where every process has a GPU, gradients go from card to card by
/// NVIDIA's NCCL, found where CUDA's libraries are; `VITRAL_NCCL` names another, or is `off`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  mpirun -n 4 vitral ranks
  VITRAL_MPI=/opt/mpich/lib/libmpi.so.12 mpiexec -n 2 vitral ranks --json")]
pub(crate) struct RanksArgs {}

/// What one process says of itself.
#[derive(Serialize, Deserialize)]
struct Said {
    rank: usize,
    host: String,
    device: String,
    threads: usize,
}

/// What all say.
#[derive(Serialize)]
struct Together {
    rank: usize,
    size: usize,
    library: Option<String>,
    path: Option<String>,
    /// By what cards exchange gradients, or why they do not; nothing where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cards: Option<String>,
    ranks: Vec<Said>,
}

pub(crate) fn run(settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    let ranks = &settings.ranks;
    let own = Said {
        rank: ranks.rank(),
        host: host(),
        device: settings.device.described(),
        threads: settings.threads().get(),
    };
    let all = agree(ranks, Ok(serde_json::to_vec(&own)?))?;
    let said = all.iter().map(|said| serde_json::from_slice(said)).collect::<Result<Vec<Said>, _>>()?;
    let carrier = ranks.carrier();
    let together = Together {
        rank: ranks.rank(),
        size: ranks.size(),
        library: carrier.as_ref().map(|carrier| carrier.name.clone()),
        path: carrier.map(|carrier| carrier.path),
        cards: Exchange::of_cards(ranks, &settings.device, 0)?.note(),
        ranks: said,
    };
    if settings.json {
        printer.json(&together)?;
        return Ok(Outcome::Done);
    }
    match (&together.library, &together.path) {
        (Some(library), Some(path)) => {
            printer.line(format_args!("{} ranks over {library} (`{path}`)", together.size))?
        }
        _ => printer.line("one process, started by itself")?,
    }
    if let Some(cards) = &together.cards {
        printer.line(cards)?;
    }
    for Said { rank, host, device, threads } in &together.ranks {
        let noun = if *threads == 1 { "thread" } else { "threads" };
        printer.line(format_args!("rank {rank:<4} {host}, {device}, {threads} {noun}"))?;
    }
    Ok(Outcome::Done)
}

/// The machine's name.
fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    named.map_or_else(|| "this machine".to_owned(), |name| name.trim().to_owned())
}
