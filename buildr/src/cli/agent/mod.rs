//! `buildr agent …`: what a person says about one of the farm's agents. Its other namesakes are `buildr-agent`'s.

mod approve;
mod pause;
mod revoke;
mod show;

use super::globals::Globals;
use super::{CliError, agents};

pub(super) use show::disk_free;

/// The words behind `buildr agent` that are this program's own.
pub(super) const WORDS: [&str; 8] = ["list", "show", "approve", "pause", "resume", "drain", "revoke", "forget"];

/// What a person says. Each is a command of its own to clap, named `agent-WORD`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the farm's agents, as `buildr agents` does
    #[command(name = "agent-list", hide = true, override_usage = "buildr agent list [OPTIONS]")]
    List(agents::Args),
    #[command(name = "agent-show")]
    Show(show::Args),
    #[command(name = "agent-approve")]
    Approve(approve::Args),
    #[command(name = "agent-pause")]
    Pause(pause::Args),
    #[command(name = "agent-resume")]
    Resume(pause::ResumeArgs),
    #[command(name = "agent-drain")]
    Drain(pause::DrainArgs),
    #[command(name = "agent-revoke")]
    Revoke(revoke::Args),
    #[command(name = "agent-forget")]
    Forget(revoke::ForgetArgs),
}

pub(super) async fn run(command: Command, globals: &Globals) -> Result<u8, CliError> {
    match command {
        Command::List(args) => agents::run(&args, globals).await,
        Command::Show(args) => show::run(&args, globals).await,
        Command::Approve(args) => approve::run(&args, globals).await,
        Command::Pause(args) => pause::run(args, globals).await,
        Command::Resume(args) => pause::resume(&args, globals).await,
        Command::Drain(args) => pause::drain(args, globals).await,
        Command::Revoke(args) => revoke::run(args, globals).await,
        Command::Forget(args) => revoke::forget(&args, globals).await,
    }
}
