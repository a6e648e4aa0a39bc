//! `buildr restart`: does a build again.

use std::io;

use protocol::BuildNumber;
use protocol::api::Restart;

use super::globals::Globals;
use super::look::{Look, clean};
use super::time::now;
use super::watch::{Frame, Selection, Watched, exit_code, watch};
use super::{CliError, exit, say, status};

/// Do a build again: the same commit, plan, images and inputs
///
/// What comes of it is a new build that is linked to the old one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Take over the jobs that passed, with what they left, and do the others again
    #[arg(long)]
    failed: bool,
    /// Take what the names of its images mean now, not what they meant then
    #[arg(long)]
    latest: bool,
    /// Follow the output, and end with the build's exit code
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let done = farm.restart(args.build, &Restart { failed: args.failed, latest: args.latest }).await?;
    let message = format!("{}\n", clean(&done.message));
    if !args.watch {
        let follow = globals.command(&format!("logs {} -f", done.build.0));
        say(&format!("{message}follow it with: {follow}\n"))?;
        return Ok(exit::DONE);
    }
    let watched = async {
        say(&message)?;
        let Watched::Over(view) = watch(&farm, done.build, Selection::default(), Frame::News, globals).await? else {
            return Ok(exit::CANCELLED);
        };
        say(&(status::verdict(&view.build, &Look::of_stdout(globals.color()), now()) + "\n"))?;
        Ok(exit_code(&view))
    };
    match watched.await {
        // How the build ends is what was asked for, and that is not known.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::Unread),
        end => end,
    }
}
