//! The program `buildr-agent`: settings, the line, the executor, and [`agent::run`].

use std::process::ExitCode;
use std::sync::Arc;

use agent::config::Cli;
use agent::home::Home;
use agent::{Shutdown, run};
use anyhow::Context as _;
use buildr::cli::layers::{self, LayersError};
use buildr::executor::docker::DockerExecutor;
use buildr::process::color::Color;
use buildr::process::signals::{Signals, Step, stop_in_steps};
use buildr::process::{memory, telemetry, tls};
use buildr::runner::WorkFolder;
use protocol::BootId;
use protocol::link::rabbitmq::{RabbitAgent, RabbitSettings};
use protocol::link::{AgentLink, Health};
use protocol::task;

fn main() -> ExitCode {
    memory::share_pools();
    run_program()
}

#[tokio::main]
async fn run_program() -> ExitCode {
    let cli: Cli = match layers::read("agent", "BUILDR_AGENT", std::env::args_os()) {
        Ok(cli) => cli,
        Err(LayersError::Flags(error)) => error.exit(),
        Err(error) => {
            telemetry::say(&format_args!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    match begin(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::say(&format_args!("error: {error:#}"));
            ExitCode::from(3)
        }
    }
}

async fn begin(cli: Cli) -> anyhow::Result<()> {
    telemetry::init("info", Color::Auto)?;
    tls::install();
    let state = cli.state_folder()?;
    let home = Arc::new(Home::open(&state, cli.name.clone())?);
    let boot = BootId::fresh();
    let containers = &cli.jobs.containers;
    let work = WorkFolder::at(&containers.work_dir.clone().unwrap_or_else(|| state.join("work")))?;
    let work = work.with(cli.jobs.workspace.into());
    let mut docker = cli.jobs.docker(&home.label(), boot);
    docker.pulled_images = (!cli.jobs.disk.keep_images).then(|| home.pulled_images());
    let executor = DockerExecutor::connect(docker).await?;
    let settings = RabbitSettings { uri: cli.amqp.clone(), ca_file: cli.amqp_ca.clone() };
    let link = Arc::new(RabbitAgent::connect(settings, home.name(), boot).await?);
    let shutdown = Shutdown::default();
    let config = cli.config()?;
    tracing::info!(agent = %home.name(), slots = config.slots, work = %work.path().display(), "agent begins");
    let asked = shutdown.clone();
    let steps = stop_in_steps(Signals::listen()?, cli.drain_timeout(), move |step| stop(&asked, step));
    let signals = task::spawn("signals", steps);
    let line = task::spawn("line", tell_health(Arc::clone(&link)));
    let spare = task::spawn("spare memory", memory::give_back_when_idle());
    let link_end: Arc<dyn AgentLink> = link.clone();
    let ended = run(config, home, boot, work, link_end, Arc::new(executor), shutdown).await;
    line.abort();
    spare.abort();
    link.close().await;
    signals.abort();
    ended.context("the agent stopped")
}

/// The first signal drains, the second cancels, the third ends the process where it stands. Done before it is said:
/// who reads what is said may be gone, or take nothing.
fn stop(shutdown: &Shutdown, step: Step) {
    match step {
        Step::Drain => {
            shutdown.drain.cancel();
            tracing::info!("taking no more jobs; waiting for those that run (again: cancel them)");
        }
        Step::Cancel => {
            shutdown.cancel.cancel();
            tracing::warn!("cancelling the jobs that run (again: exit at once)");
        }
        Step::Exit => tracing::error!("exiting at once; what is left behind is removed when this agent runs again"),
    }
}

/// Tells a person when the broker goes and comes.
async fn tell_health(link: Arc<RabbitAgent>) {
    let mut health = link.health();
    // That it is not up in the first moment is no news.
    while health.changed().await.is_ok() {
        match &*health.borrow_and_update() {
            Health::Up(_) => tracing::info!("connected to the message broker"),
            Health::Blocked { reason } => tracing::warn!(reason, "the message broker takes nothing at present"),
            Health::Away { reason } => tracing::warn!("{reason}"),
        }
    }
}
