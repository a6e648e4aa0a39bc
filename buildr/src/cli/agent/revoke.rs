//! `buildr agent revoke` and `forget`: ends that an agent belongs to the farm.

use protocol::AgentId;

use crate::cli::globals::Globals;
use crate::cli::look::clean;
use crate::cli::{CliError, exit, say};

/// Give an agent nothing more, give its jobs to others, and never let its key in again unasked
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent revoke [OPTIONS] <NAME>")]
pub(in crate::cli) struct Args {
    /// The agent's name
    name: AgentId,
    /// Why, for those who look at the agent or at what was lost with it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// List an agent no longer that is gone or was revoked
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent forget [OPTIONS] <NAME>")]
pub(in crate::cli) struct ForgetArgs {
    /// The agent's name
    name: AgentId,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let before = globals.farm()?.agent(&args.name).await?.running;
    let agent = globals.farm()?.revoke(&args.name, args.reason).await?;
    let jobs = match before {
        0 => "it had no jobs".to_owned(),
        1 => "the job that it had goes to another".to_owned(),
        jobs => format!("the {jobs} jobs that it had go to others"),
    };
    let text = format!("agent {} (key {}) gets nothing more; {jobs}", agent.name, agent.fingerprint);
    say(&format!("{}\n", clean(&text)))?;
    Ok(exit::DONE)
}

pub(super) async fn forget(args: &ForgetArgs, globals: &Globals) -> Result<u8, CliError> {
    let done = globals.farm()?.forget(&args.name).await?;
    say(&format!("{}\n", clean(&done.message)))?;
    Ok(exit::DONE)
}
