//! `vitral serve`: labels, vectors and maps over HTTP and gRPC.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use vitral::LoadOptions;
use vitral_serve::{ModelSource, Options, Server};

use crate::fault::Usage;
use crate::outcome::Outcome;
use crate::printer::Printer;
use crate::settings::{BackendArgs, PrecisionArgs, Settings, located};

/// Serve models over HTTP and gRPC
///
/// Answers in the Open Inference Protocol (HTTP and gRPC), to Hugging Face's and OpenAI's clients, on paths of its own, and
/// with a page to try it. An image's answer has the same bits alone and in any batch.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  vitral serve                                       # the built-in model; open http://127.0.0.1:8000
  vitral serve --model vit-base-patch16-224
  vitral serve --model cats=runs/cats/best --model dino=dinov2-small --host 0.0.0.0 --grpc-port 8001
  curl --data-binary @cat.jpg http://127.0.0.1:8000/v1/classify

SIGTERM or Ctrl-C: no more work is taken, what was accepted is finished, and the exit code is 0.
SIGHUP: models whose files have changed are loaded again; the old ones answer until the new ones can.

GET /openapi.json describes every path, GET /metrics is for Prometheus. docs/serving.md has more.")]
pub(crate) struct ServeArgs {
    /// A model, as in other commands, and the name that requests use for it [default: `VITRAL_MODEL` if set, else the
    /// built-in model, `cifar10`]; a path without a name is named by its folder; several times for several models
    #[arg(long, short, value_name = "NAME=PATH")]
    model: Vec<String>,
    /// A config file, for a single checkpoint that comes without one
    #[arg(long, value_name = "FILE", requires = "model")]
    config: Option<PathBuf>,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    backend: BackendArgs,
    /// Address to listen on; 0.0.0.0 is every network that the machine is in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = host)]
    host: IpAddr,
    /// Port for HTTP; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value = "8000")]
    port: u16,
    /// Port for gRPC [default: no gRPC]
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,
    #[command(flatten, next_help_heading = "Batching")]
    batching: BatchingArgs,
    #[command(flatten, next_help_heading = "Limits")]
    limits: LimitArgs,
    #[command(flatten, next_help_heading = "Access and logs")]
    access: AccessArgs,
}

#[derive(Args, Debug)]
struct BatchingArgs {
    /// Images in a batch, at most [default: 8; on a GPU 64]
    #[arg(long, value_name = "N")]
    max_batch_size: Option<NonZero<usize>>,
    /// A batch of this many images does not wait for more [default: the maximum]
    #[arg(long, value_name = "N")]
    preferred_batch_size: Option<NonZero<usize>>,
    /// How long a batch waits for more images; 0 takes what is there
    #[arg(long, value_name = "N", default_value = "0")]
    max_queue_delay_microseconds: u64,
    /// Images that may wait, for each model; beyond, requests get 429 [default: 16 batches]
    #[arg(long, value_name = "N")]
    max_queue_size: Option<NonZero<usize>>,
}

#[derive(Args, Debug)]
struct LimitArgs {
    /// How long a request may take, if it does not say so itself; beyond, it gets 504
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
    /// Size of a request's body; beyond, it gets 413
    #[arg(long, value_name = "MIB", default_value = "32", value_parser = clap::value_parser!(u16).range(1..))]
    max_body: u16,
    /// Size of all bodies that are held at the same time; beyond, requests get 429
    #[arg(long, value_name = "MIB", default_value = "512", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_bodies: u32,
    /// Pixels of an image, width times height; beyond, requests get 413
    #[arg(long, value_name = "N", default_value = "64000000")]
    max_pixels: u64,
    /// How long a client may take to send a request's header; a connection without requests is closed after it, too
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    header_time: Duration,
    /// How long a client may take to send a request's body (beyond, it gets 408), or take nothing of an answer (beyond, the
    /// connection is closed)
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    body_time: Duration,
    /// Open connections, over HTTP and over gRPC each; others wait
    #[arg(long, value_name = "N", default_value = "8192")]
    max_connections: NonZero<usize>,
    /// How long what was accepted may take to finish when the server ends
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    grace: Duration,
}

#[derive(Args, Debug)]
struct AccessArgs {
    /// A key that requests must have, as `Authorization: Bearer KEY`; several times for several keys
    #[arg(long, value_name = "KEY", env = "VITRAL_API_KEY", hide_env_values = true)]
    api_key: Vec<String>,
    /// A file with such keys, one per line: other users of the machine can read a command line, but not this file
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// An origin whose pages may call the server, such as https://example.org, or `*`; several times for several
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// The form of the log, on standard error
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
    /// The least severe level that is logged [default: info; with --quiet: warn]
    #[arg(long, value_enum)]
    log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// One object per line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        address => address.parse().map_err(|_| {
            "expected an IP address of this machine, such as 127.0.0.1, 0.0.0.0 or ::1, or `localhost`".to_owned()
        }),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= 86_400.0);
    number.map(Duration::from_secs_f64).ok_or_else(|| "expected a number of seconds above 0, at most 86400".to_owned())
}

pub(crate) fn run(args: &ServeArgs, settings: &Settings, printer: &Printer) -> anyhow::Result<Outcome> {
    start_log(&args.access, settings.quiet);
    let mut server = Server::builder().device(settings.device.clone()).options(options(args, settings)?);
    for (name, source) in models(args, settings)? {
        server = server.model(name, source);
    }
    let server = server.build().map_err(|fault| Usage(fault.to_string()))?;
    #[cfg(unix)]
    if let Err(fault) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!("cannot raise the number of open files: {fault}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let http = listener(args.host, args.port).await?;
        let grpc = match args.grpc_port {
            Some(port) => Some(listener(args.host, port).await?),
            None => None,
        };
        let url = format!("http://{}", http.local_addr()?);
        let grpc_address = grpc.as_ref().map(TcpListener::local_addr).transpose()?;
        if settings.json {
            printer.json_line(&serde_json::json!({
                "http": url,
                "grpc": grpc_address.map(|address| address.to_string()),
            }))?;
        } else {
            printer.line(format_args!("listening on {url}"))?;
            if let Some(address) = grpc_address {
                printer.line(format_args!("listening on {address} for gRPC"))?;
            }
        }
        printer.flush()?;
        let end = signals(server.clone())?;
        Ok::<_, anyhow::Error>(server.serve(http, grpc, end).await?)
    });
    // A model that is being loaded is not waited for.
    runtime.shutdown_background();
    served.map(|()| Outcome::Done)
}

async fn listener(host: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another `--port` or `--host`"))
}

/// The models and their names.
fn models(args: &ServeArgs, settings: &Settings) -> anyhow::Result<Vec<(String, ModelSource)>> {
    let precision = args.precision.asked(settings)?;
    let mut given = args.model.clone();
    if given.is_empty()
        && let Some(name) = std::env::var_os("VITRAL_MODEL").filter(|name| !name.is_empty())
    {
        let name = name.into_string().map_err(|name| {
            Usage(format!("`VITRAL_MODEL`: expected a name or a path in UTF-8, found `{}`", name.display()))
        })?;
        given.push(name);
    }
    if args.config.is_some() && given.len() > 1 {
        bail!(Usage(format!(
            "`--config` describes one checkpoint, found {} models; put it into its folder",
            given.len()
        )));
    }
    if given.is_empty() {
        if args.backend.given() {
            bail!(Usage(
                "`--backend` and `--max-patches` are for models of yours, found the built-in one; add `--model PATH`"
                    .into()
            ));
        }
        return Ok(vec![("cifar10".to_owned(), ModelSource::embedded(precision))]);
    }
    let mut models = Vec::with_capacity(given.len());
    for text in &given {
        let (name, path) = named(text);
        let path = located(Path::new(path), settings)?;
        let options = args.backend.within(LoadOptions::default().config(args.config.clone()).precision(precision));
        models.push((name, ModelSource::path(path, options)));
    }
    Ok(models)
}

/// Name and path of `NAME=PATH`; a path alone is named by its last part.
fn named(text: &str) -> (String, &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some((name, path)) = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\'])) {
        return (name.to_owned(), path);
    }
    // A folder keeps its dots; of a file, and of a name on a hub, the rest is not part of the name.
    let path = Path::new(text);
    let last = if path.is_file() { path.file_stem() } else { path.file_name() };
    let whole = path.canonicalize().ok();
    let last = last.or(whole.as_deref().and_then(Path::file_name));
    let last = last.and_then(|last| last.to_str()).unwrap_or_default();
    let last = last.rsplit(':').next().unwrap_or_default();
    (last.chars().map(|c| if plain(c) { c } else { '-' }).collect(), text)
}

fn options(args: &ServeArgs, settings: &Settings) -> anyhow::Result<Options> {
    let ServeArgs { batching, limits, access, .. } = args;
    let some = |n| NonZero::new(n).unwrap_or(NonZero::<usize>::MIN);
    let usual = if matches!(settings.device, vitral::Device::Cuda(_)) { 64 } else { 8 };
    let max_batch = batching.max_batch_size.unwrap_or(some(usual));
    if access.api_key.iter().any(|key| key.trim().is_empty()) {
        // A variable that is not set must not open the server to everybody.
        bail!(Usage(
            "`--api-key` or `VITRAL_API_KEY`: expected a key, found an empty one; leave it out for no key".into()
        ));
    }
    let mut keys = access.api_key.clone();
    if let Some(file) = &access.api_key_file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the keys in `{}`; check `--api-key-file`", file.display()))?;
        keys.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        if keys.is_empty() {
            // An empty file must not open the server to everybody.
            bail!(Usage(format!("`{}`: expected at least one key, one per line, found none", file.display())));
        }
    }
    let mebibytes = |n: u32| (n as usize) << 20;
    Ok(Options::default()
        .max_batch_size(max_batch)
        .preferred_batch_size(batching.preferred_batch_size)
        .max_queue_delay(Duration::from_micros(batching.max_queue_delay_microseconds))
        .max_queue_size(batching.max_queue_size.unwrap_or(some(16 * max_batch.get())))
        .timeout(limits.timeout)
        .decode_threads(settings.threads())
        .max_body(mebibytes(limits.max_body.into()))
        .max_bodies(mebibytes(limits.max_bodies))
        .max_pixels(limits.max_pixels)
        .sending_times(limits.header_time, limits.body_time)
        .max_connections(limits.max_connections)
        .grace(limits.grace)
        .api_keys(keys)
        .cors(access.cors.clone()))
}

fn start_log(access: &AccessArgs, quiet: bool) {
    use tracing::Level;
    let level = match access.log_level {
        Some(LogLevel::Error) => Level::ERROR,
        Some(LogLevel::Warn) => Level::WARN,
        Some(LogLevel::Info) => Level::INFO,
        Some(LogLevel::Debug) => Level::DEBUG,
        None if quiet => Level::WARN,
        None => Level::INFO,
    };
    let colors = console::colors_enabled_stderr();
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    match access.log {
        LogFormat::Text => log.with_ansi(colors).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// Ends when the server should: at the first SIGTERM or Ctrl-C. A second one ends the process. SIGHUP reloads.
#[cfg(unix)]
fn signals(server: Server) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    tracing::info!("looking for models that have changed");
                    let server = server.clone();
                    tokio::spawn(async move { server.reload().await });
                }
            }
        }
        tracing::info!("ending: finishing what was accepted");
        tokio::spawn(async move {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => crate::interrupt::CODE.into(),
            };
            std::process::exit(code);
        });
    })
}

/// Ends when the server should: at Ctrl-C.
#[cfg(not(unix))]
fn signals(_: Server) -> anyhow::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
        tracing::info!("ending: finishing what was accepted");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_itself_can_be_named() {
        assert_eq!(host("localhost"), Ok(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(host("::1"), Ok(std::net::Ipv6Addr::LOCALHOST.into()));
        assert!(host("example.org").is_err_and(|said| said.contains("`localhost`")));
    }

    #[test]
    fn models_are_named_by_the_user_or_by_their_folder() {
        assert_eq!(named("cats=runs/cats/best"), ("cats".to_owned(), "runs/cats/best"));
        assert_eq!(named("runs/cats/best"), ("best".to_owned(), "runs/cats/best"));
        assert_eq!(named("runs/a=b/best"), ("best".to_owned(), "runs/a=b/best"));
        assert_eq!(named("hf:google/vit-base-patch16-224").0, "vit-base-patch16-224");
        assert_eq!(named("my models/tiny.v2").0, "tiny.v2");
        assert_eq!(named("a name").0, "a-name");
        assert!(!named(".").0.is_empty());
    }
}
