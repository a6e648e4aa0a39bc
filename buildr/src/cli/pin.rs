//! `buildr pin`: keeps a build, however old it becomes.

use protocol::BuildNumber;

use super::globals::Globals;
use super::look::clean;
use super::{CliError, exit, say};

/// Keep a build with its output and files, however old it becomes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Keep it no longer than others
    #[arg(long)]
    off: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let done = globals.farm()?.pin(args.build, !args.off).await?;
    say(&format!("{}\n", clean(&done.message)))?;
    Ok(exit::DONE)
}
