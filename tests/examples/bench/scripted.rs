//! An agent's process whose jobs run as their scripts say, without containers: the real agent with the scripted executor.

use std::path::PathBuf;
use std::sync::Arc;

use agent::Shutdown;
use agent::config::{Config, Mark};
use agent::home::Home;
use anyhow::Result;
use buildr::cli::jobs::JobArgs;
use buildr::executor::scripted::ScriptedExecutor;
use buildr::process::signals::{Signals, stop_in_steps};
use buildr::process::tls;
use buildr::runner::{WorkFolder, WorkspaceChoice};
use clap::Args;
use protocol::link::rabbitmq::{RabbitAgent, RabbitSettings};
use protocol::{AgentId, BootId};

/// What it is told; as the program `buildr-agent` is.
#[derive(Debug, Args)]
pub(crate) struct Scripted {
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    name: AgentId,
    #[arg(long)]
    state_dir: PathBuf,
    #[arg(long)]
    work_dir: PathBuf,
    #[arg(long)]
    slots: u32,
}

/// Runs it until it is told to stop.
pub(crate) async fn run(told: Scripted) -> Result<()> {
    tls::install();
    let home = Arc::new(Home::open(&told.state_dir, Some(told.name))?);
    let boot = BootId::fresh();
    // As the program does when nothing is said.
    let work = WorkFolder::at(&told.work_dir)?.with(WorkspaceChoice::Auto);
    let settings = RabbitSettings::new(told.amqp);
    let link = Arc::new(RabbitAgent::connect(settings, home.name(), boot).await?);
    let config = Config::new(&JobArgs::default(), Vec::new())?;
    let (slots, mark) = (told.slots, Mark::default());
    let config = Config { slots, mark, local_repos: true, environment: Vec::new(), ..config };
    let shutdown = Shutdown::default();
    let asked = shutdown.clone();
    let steps = stop_in_steps(Signals::listen()?, None, move |_| asked.drain.cancel());
    let signals = protocol::task::spawn("signals", steps);
    let executor = Arc::new(ScriptedExecutor::new());
    let ended = agent::run(config, home, boot, work, link.clone(), executor, shutdown).await;
    link.close().await;
    signals.abort();
    Ok(ended?)
}
