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
mod table;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use futures_util::FutureExt as _;
use row::Row;

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
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
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
const TOPICS: [(&str, &str); 12] = [
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
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::ScriptedAgent(told)) => scripted::run(told).await,
        None => bench(&arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for (name, what) in TOPICS {
            println!("{name:<12} {what}");
        }
        return Ok(());
    }
    let unknown = arguments.only.iter().find(|only| TOPICS.iter().all(|(name, _)| name != only));
    anyhow::ensure!(unknown.is_none(), "there is no topic {:?}; --list names them", unknown.unwrap_or(&String::new()));
    let mut rows = Vec::new();
    for (name, what) in TOPICS {
        if !arguments.only.is_empty() && arguments.only.iter().all(|only| only != name) {
            continue;
        }
        eprintln!("measuring {what} …");
        let began = Instant::now();
        let measured = AssertUnwindSafe(measure(name, arguments.rounds)).catch_unwind().await;
        let found = match measured {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => vec![Row::error(name, what, &format!("{error:#}"))],
            Err(panic) => vec![Row::error(name, what, &said(panic.as_ref()))],
        };
        for row in &found {
            eprintln!("  {}", table::line(row));
        }
        eprintln!("  ({:.0} s)", began.elapsed().as_secs_f64());
        rows.extend(found);
    }
    let run = table::Run::of(rows, arguments.rounds);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&run)?);
    } else {
        println!("{}", run.table());
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
        _ => store::million(rounds).await,
    }
}

/// What somebody who panicked had to say.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
