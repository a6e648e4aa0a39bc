//! The program `buildr-coordinator`: settings, line, listener, signals, exit code.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use buildr::cli::jobs::JobArgs;
use buildr::cli::layers::LayersError;
use buildr::process::color::Color;
use buildr::process::signals::{Signals, Step, stop_in_steps};
use buildr::process::{memory, telemetry, tls};
use coordinator::config::{self, Config, ConfigError, Farm};
use coordinator::embedded::Embedded;
use protocol::link::memory::MemoryBroker;
use protocol::link::rabbitmq::{RabbitCoordinator, RabbitSettings};
use protocol::task;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What a wrong setting ends with, as a wrong option does.
const USAGE: u8 = 2;

/// What everything else that goes wrong ends with.
const BROKEN: u8 = 3;

fn main() -> ExitCode {
    memory::share_pools();
    run_program()
}

#[tokio::main]
async fn run_program() -> ExitCode {
    let config = match config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Layers(LayersError::Flags(error))) => error.exit(),
        Err(error) => return fail(&error.into(), USAGE),
    };
    let spare = task::spawn("spare memory", memory::give_back_when_idle());
    let begun = match config.farm.clone() {
        Farm::Here(jobs) => farm_here(config, &jobs).await,
        Farm::Broker { url, ca_file } => farm_beyond_broker(config, RabbitSettings { uri: url, ca_file }).await,
    };
    spare.abort();
    match begun {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, BROKEN),
    }
}

/// Coordinates agents elsewhere, until a signal.
async fn farm_beyond_broker(config: Config, broker: RabbitSettings) -> anyhow::Result<()> {
    telemetry::init("info", Color::Auto)?;
    tls::install();
    let link = Arc::new(RabbitCoordinator::connect(broker).await?);
    let listener = listen(&config).await?;
    let stop = Stop::on_signals(config.drain_timeout, "ending; agents go on working meanwhile (again: at once)")?;
    let address = listener.local_addr()?;
    let sentence = format!("http://{address}, state in {}", config.state_dir.display());
    let (ended, ()) = tokio::join!(
        async {
            tokio::select! {
                ended = coordinator::run(config, link.clone(), listener, stop.drain.clone()) => ended,
                () = stop.cancel.cancelled() => Ok(()),
            }
        },
        say_when_up(address, &sentence)
    );
    link.close().await;
    Ok(ended?)
}

/// A whole farm in this process, until a signal: the agent ends first, then the coordinator that records its results.
async fn farm_here(mut config: Config, jobs: &JobArgs) -> anyhow::Result<()> {
    telemetry::init("warn", Color::Auto)?;
    tls::install();
    let agent = Embedded::prepare(&config, jobs).await?;
    config.known_agents.push(agent.known());
    config.interrupted = agent.interrupted()?;
    let broker = MemoryBroker::new();
    let listener = listen(&config).await?;
    let stop = Stop::on_signals(
        config.drain_timeout,
        "taking no more builds, and waiting for those that run (again: cancel them)",
    )?;
    let token = coordinator::api_token(&config.state_dir)?;
    let (address, slots) = (listener.local_addr()?, agent.slots());
    let slots = if slots == 1 { "1 slot".to_owned() } else { format!("{slots} slots") };
    let sentence = format!("a farm with {slots} is up; look at it here: http://{address}/?token={token}");
    let agent_is_done = CancellationToken::new();
    let coordinating = coordinator::run(config, Arc::new(broker.coordinator()), listener, agent_is_done.clone());
    let building = async {
        let ended = agent.run(&broker, stop.drain.clone(), stop.cancel.clone()).await;
        agent_is_done.cancel();
        ended
    };
    let (coordinated, built, ()) = tokio::join!(
        async {
            let ended = coordinating.await;
            // Nobody records what the agent does any more.
            stop.cancel.cancel();
            stop.drain.cancel();
            broker.close();
            ended
        },
        building,
        say_when_up(address, &sentence)
    );
    coordinated?;
    Ok(built?)
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let address = config.listen;
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{address} cannot be listened on; end what uses it, or name another with --listen"))
}

/// Says so once the API answers, and not at all when it never does. Before that, the command line would not find the
/// token.
async fn say_when_up(address: SocketAddr, sentence: &str) {
    let answer = async {
        // It waits in the listener's queue until somebody takes it, and is closed when nobody will.
        let mut stream = TcpStream::connect(address).await?;
        let request = b"GET /api/v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        stream.read_u8().await
    };
    if answer.await.is_ok() {
        say(sentence);
    }
}

/// The ways in which a person stops the program, each stronger than the one before.
struct Stop {
    drain: CancellationToken,
    cancel: CancellationToken,
}

impl Stop {
    /// The first signal drains, the second (or the time limit) cancels, the third ends the process where it stands.
    fn on_signals(drain_timeout: Option<Duration>, draining: &'static str) -> anyhow::Result<Self> {
        let stop = Self { drain: CancellationToken::new(), cancel: CancellationToken::new() };
        let (drain, cancel) = (stop.drain.clone(), stop.cancel.clone());
        let take = move |step| match step {
            Step::Drain => {
                // Done before it is said: who reads what is said may be gone, or take nothing.
                drain.cancel();
                say(draining);
            }
            Step::Cancel => cancel.cancel(),
            Step::Exit => {}
        };
        // Never joined: it lives as long as the process, and the third signal must reach it until the end.
        drop(task::spawn("signals", stop_in_steps(Signals::listen()?, drain_timeout, take)));
        Ok(stop)
    }
}

fn say(sentence: &str) {
    telemetry::say(&format_args!("buildr: {sentence}"));
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    telemetry::say(&format_args!("error: {error:#}"));
    ExitCode::from(code)
}
