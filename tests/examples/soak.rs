//! `scripts/soak`: builds of all shapes at a real farm, whose parts are broken at random. Ends with 1 when a count is
//! not as it must be.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use buildr::process::clock::now_ms;
use clap::Parser;
use farm::rabbit::with_vhost;
use farm::soak::{self, Soak, Tally};

/// Throws builds of all shapes at a farm of several agents while parts of it are broken at random, and counts what
/// became of them.
#[derive(Parser)]
struct Arguments {
    /// How many builds.
    #[arg(long, default_value_t = 300)]
    builds: u32,
    /// How many minutes they may take to be thrown.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// The seed of all chance; the time of day without one.
    #[arg(long)]
    seed: Option<u64>,
    /// Breaks nothing.
    #[arg(long)]
    calm: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Arguments { builds, minutes, seed, calm } = Arguments::parse();
    let seed = seed.unwrap_or_else(now_ms);
    println!("{builds} builds, seed {seed}");
    let soak = Soak { builds, most: Duration::from_secs(minutes * 60), seed, breaks: !calm };
    let counted: Arc<Mutex<Option<Tally>>> = Arc::default();
    let count = counted.clone();
    with_vhost(async |vhost| {
        let tally = soak::run(soak, vhost).await;
        *count.lock().unwrap_or_else(PoisonError::into_inner) = Some(tally);
    })
    .await;
    let Some(tally) = counted.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        eprintln!("error: nothing was counted");
        return ExitCode::FAILURE;
    };
    println!("\nseed {seed}; {tally}");
    if tally.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
