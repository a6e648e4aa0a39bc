//! `buildr agent approve`: takes an agent into the farm. Its other namesakes are `buildr-agent`'s.

use protocol::AgentId;

use super::globals::Globals;
use super::look::clean;
use super::{CliError, exit, say};

/// Let an agent take jobs, after you compared its key (see `buildr agents`)
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent approve [OPTIONS] <NAME>")]
pub(super) struct Args {
    /// The agent's name
    name: AgentId,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let agent = globals.farm()?.approve(&args.name).await?;
    say(&format!("agent {} (key {}) takes jobs now\n", clean(&agent.name), clean(&agent.fingerprint)))?;
    Ok(exit::DONE)
}
