//! `buildr approve`: lets a job begin that waits for a person, or passes it over.

use protocol::api::ApproveJob;
use protocol::{BuildNumber, JobKey};

use super::globals::Globals;
use super::{CliError, exit, say};

/// Let a job begin that waits for approval
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// The job; needed only when several wait
    job: Option<JobKey>,
    /// A value that is asked for; may be given several times
    #[arg(long = "input", short, value_name = "NAME=VALUE", value_parser = super::assignment)]
    inputs: Vec<(String, String)>,
    /// Pass the job over instead
    #[arg(long, conflicts_with = "inputs")]
    reject: bool,
    /// Why, for those who look at the build
    #[arg(long, requires = "reject")]
    reason: Option<String>,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { build, job, inputs, reject, reason } = args;
    let said = ApproveJob { job, inputs: inputs.into_iter().collect(), reject, reason };
    let done = globals.farm()?.approve_job(build, &said).await?;
    say(&format!("{}\n", done.message))?;
    Ok(exit::DONE)
}
