//! `buildr cancel`: ends a build.

use protocol::BuildNumber;

use super::globals::Globals;
use super::look::clean;
use super::{CliError, exit, say};

/// End a build
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Why, for those who look at the build
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { build, reason } = args;
    let done = globals.farm()?.cancel(build, reason).await?;
    say(&format!("{}\n", clean(&done.message)))?;
    Ok(exit::DONE)
}
