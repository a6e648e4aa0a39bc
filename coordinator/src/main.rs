//! The coordinator's program: settings, line, listener, signals, exit code.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use buildr::process::color::Color;
use buildr::process::signals::Signals;
use buildr::process::{telemetry, tls};
use clap::Parser as _;
use coordinator::config::{Args, Config, Farm};
use protocol::link::CoordinatorLink;
use protocol::link::memory::MemoryBroker;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What a wrong setting ends with, as a wrong option does.
const USAGE: u8 = 2;

/// What everything else that goes wrong ends with.
const BROKEN: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Args::parse().resolve() {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), USAGE),
    };
    match coordinate(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, BROKEN),
    }
}

async fn coordinate(config: Config) -> anyhow::Result<()> {
    telemetry::init("info", Color::Auto)?;
    tls::install();
    let mut signals = Signals::listen()?;
    let link = open_link(&config)?;
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on; end what uses it, or name another with --listen"))?;
    greet(&config, &listener)?;
    let stop = CancellationToken::new();
    let running = coordinator::run(config, link, listener, stop.clone());
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return Ok(result?),
            count = signals.next() => match count {
                1 => {
                    say("ends when what was asked is answered and stored; agents keep working. Once more: at once");
                    stop.cancel();
                }
                2 => return Ok(()),
                _ => std::process::exit(130),
            }
        }
    }
}

/// The line to the agents: in this process for `up`, else over RabbitMQ.
fn open_link(config: &Config) -> anyhow::Result<Arc<dyn CoordinatorLink>> {
    match &config.farm {
        Farm::Here(_) => Ok(Arc::new(MemoryBroker::new().coordinator())),
        Farm::Broker(_) => anyhow::bail!("this program was built without the line over RabbitMQ; use `up`"),
    }
}

/// Says where it is, with the link by which a browser may look; the token in it is for this terminal alone.
fn greet(config: &Config, listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    match config.farm {
        Farm::Here(_) => {
            let token = coordinator::api_token(&config.state_dir)?;
            say(&format!("http://{address}/?token={token}"));
        }
        Farm::Broker(_) => say(&format!("http://{address}, state in {}", config.state_dir.display())),
    }
    Ok(())
}

fn say(sentence: &str) {
    eprintln!("buildr-coordinator: {sentence}");
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("buildr-coordinator: {error:#}");
    ExitCode::from(code)
}
