//! `scripts/bench`: what buildr costs, each figure beside the floor that it is compared with, in alternation in one run.

mod row;
mod caller;
mod raw;
mod town;
mod rig;
mod broker;
mod scripted;
mod builds;
mod throughput;
mod logs;
mod checkout;
mod store;
mod celery;
mod curves;
mod table;
mod picture;
mod paper;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use futures_util::FutureExt as _;
use row::Row;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

/// Measures buildr beside the floors: what Docker, git and the broker take by themselves. Ratios count, within one run.
#[derive(Parser)]
struct Arguments {
    /// Only this topic, such as `trivial`; more than once for several
    #[arg(long)]
    only: Vec<String>,
    /// Lists the topics
    #[arg(long)]
    list: bool,
    /// How often what is short is measured; what takes long is measured less often
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measures how cost grows, instead of the table
    #[arg(long)]
    curves: bool,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Writes all of it into PERFORMANCE.md too; a part of a run is never mixed with another's
    #[arg(long, conflicts_with = "only")]
    write: bool,
    /// Measures nothing: takes what --json printed before
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program also is, for itself.
#[derive(Subcommand)]
enum Part {
    /// An agent without containers
    #[command(hide = true)]
    ScriptedAgent(scripted::Scripted),
}

/// What is measured, and what `--list` says of it.
const TOPICS: [(&str, &str); 13] = [
    ("trivial", "a trivial build over RabbitMQ"),
    ("stage", "each further stage"),
    ("run", "buildr run"),
    ("prepare", "a prepare that is there already"),
    ("throughput", "200 builds with two slots"),
    ("log", "50 MB of log, and the memory that it takes"),
    ("latency", "a line printed until a follower sees it"),
    ("dispatch", "builds a second without Docker"),
    ("submit", "requests for builds a second"),
    ("checkout", "the workspace of a large repository"),
    ("idle", "memory of an idle farm"),
    ("million", "answers out of a million builds"),
    ("celery", "what a person would write by hand"),
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::ScriptedAgent(told)) => scripted::run(told).await,
        None => until_told(bench(&arguments)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Until Ctrl-C or SIGTERM; then whatever is there of it is removed.
async fn until_told(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let done = tokio::select! {
        done = work => return done.and(raw::Raw::connect()?.sweep().await),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("cancelled")),
        _ = term.recv() => Err(anyhow::anyhow!("told to end")),
    };
    rig::clean().await;
    raw::Raw::connect()?.sweep().await?;
    done
}

async fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for (name, what) in TOPICS {
            println!("{name:<12} {what}");
        }
        println!("--curves: {}", curves::CURVES.join(", "));
        return Ok(());
    }
    let known = |only: &str| match arguments.curves {
        true => curves::CURVES.contains(&only),
        false => TOPICS.iter().any(|(name, _)| *name == only),
    };
    if let Some(unknown) = arguments.only.iter().find(|only| !known(only)) {
        anyhow::bail!("there is no topic {unknown:?}; --list names them");
    }
    if arguments.curves { draw(arguments).await } else { tabulate(arguments).await }
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// What an earlier run printed.
    fn earlier<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(path) = &self.from else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&std::fs::read(path)?)?))
    }
}

async fn tabulate(arguments: &Arguments) -> Result<()> {
    let run = match arguments.earlier()? {
        Some(run) => run,
        None => table::Run::of(rows(arguments).await, arguments.rounds),
    };
    if arguments.write {
        paper::write(&run)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&run)?);
    } else {
        println!("{}", run.table());
    }
    Ok(())
}

/// All rows, whatever becomes of one of them.
async fn rows(arguments: &Arguments) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, what) in TOPICS.into_iter().filter(|(name, _)| arguments.wants(name)) {
        if name == "celery" && arguments.only.is_empty() && celery::python().is_none() {
            continue;
        }
        eprintln!("measuring {what} …");
        let began = Instant::now();
        let found = match caught(measure(name, arguments.rounds)).await {
            Ok(found) => found,
            Err(error) => vec![Row::error(name, what, &format!("{error:#}"))],
        };
        for row in &found {
            eprintln!("  {}", table::line(row));
        }
        eprintln!("  ({:.0} s)", began.elapsed().as_secs_f64());
        rows.extend(found);
    }
    rows
}

/// What panicked is an error like any other: the harness of the tests tells so what went wrong.
async fn caught<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", said(panic.as_ref()))))
}

async fn draw(arguments: &Arguments) -> Result<()> {
    let curves: Vec<curves::Curve> = match arguments.earlier()? {
        Some(curves) => curves,
        None => {
            let mut found = Vec::new();
            for name in curves::CURVES.into_iter().filter(|name| arguments.wants(name)) {
                eprintln!("measuring the curve {name} …");
                match caught(curves::measure(name)).await {
                    Ok(curve) => {
                        eprintln!("{}", paper::table(&curve));
                        found.push(curve);
                    }
                    Err(error) => eprintln!("  error: {error:#}"),
                }
            }
            found
        }
    };
    if arguments.write {
        anyhow::ensure!(curves.len() == curves::CURVES.len(), "not all curves could be measured, so none is written");
        paper::write_curves(&curves)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&curves)?);
    } else {
        curves.iter().for_each(|curve| println!("{}\n\n{}", curve.title, paper::table(curve)));
    }
    Ok(())
}

async fn measure(topic: &str, rounds: u32) -> Result<Vec<Row>> {
    match topic {
        "trivial" => builds::trivial(rounds).await,
        "stage" => builds::stage(rounds).await,
        "run" => builds::run(rounds).await,
        "prepare" => builds::prepare(rounds).await,
        "throughput" => throughput::containers(rounds).await,
        "log" => logs::volume(rounds).await,
        "latency" => logs::latency(rounds).await,
        "dispatch" => throughput::dispatch(rounds).await,
        "submit" => throughput::submit(rounds).await,
        "checkout" => checkout::checkout(rounds).await,
        "idle" => store::idle(rounds).await,
        "million" => store::million(rounds).await,
        _ => celery::celery(rounds).await,
    }
}

/// What somebody who panicked had to say.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
