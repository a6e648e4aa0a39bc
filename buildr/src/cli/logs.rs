//! `buildr logs`: the output of a build, log after log, or as it comes.

use protocol::api::{AttemptView, BuildView};
use protocol::{BuildNumber, JobKey, LogName};

use super::globals::Globals;
use super::stamps::Stamps;
use super::watch::{Frame, Selection, Transcript, Watched, watch};
use super::{CliError, exit, note};
use crate::client::{Farm, LogAddress};

/// Print a build's output
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Go on until the build is over
    #[arg(long, short)]
    follow: bool,
    /// Of this stage alone; `job` is the log of clone and clean-up
    #[arg(value_name = "STAGE")]
    log: Option<LogName>,
    /// The same, written as an option
    #[arg(long, value_name = "NAME", conflicts_with = "log")]
    stage: Option<LogName>,
    /// Of this job alone: `buildr status` lists them
    #[arg(long, value_name = "KEY")]
    job: Option<JobKey>,
    /// Of this attempt; without it the last one, and with --follow all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// The bytes alone and as they are, on a terminal too, without a heading for each stage
    #[arg(long)]
    raw: bool,
    /// Each line with the time at which it was printed
    #[arg(long, short, conflicts_with_all = ["follow", "raw"])]
    timestamps: bool,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { build, follow, log, stage, job, attempt, raw, timestamps } = args;
    let frame = if raw { Frame::Raw } else { Frame::Headings };
    let selection = Selection { log: log.or(stage), attempt, job };
    let farm = globals.farm()?;
    if !follow {
        let view = farm.build(build).await?;
        print(&farm, &view, selection, (frame, timestamps), globals).await?;
        return Ok(exit::DONE);
    }
    match watch(&farm, build, selection.clone(), frame, globals).await? {
        Watched::Stopped => Ok(exit::CANCELLED),
        Watched::Over(view) => {
            check(&view, &selection)?;
            Ok(exit::DONE)
        }
    }
}

/// What is in the farm's store now.
async fn print(
    farm: &Farm,
    view: &BuildView,
    selection: Selection,
    (frame, timestamps): (Frame, bool),
    globals: &Globals,
) -> Result<(), CliError> {
    if view.attempts.is_empty() {
        let again = globals.command(&format!("logs {} -f", view.build.number.0));
        note(&format!(
            "build {} is {} and has no output; wait for it with: {again}",
            view.build.number,
            view.build.status.name()
        ));
        return Ok(());
    }
    // Of each job the last one is the one that counts.
    let counts = |attempt: &AttemptView| {
        selection.attempt.is_some()
            || !view.attempts.iter().any(|other| other.job == attempt.job && other.attempt > attempt.attempt)
    };
    let view =
        BuildView { attempts: view.attempts.iter().filter(|one| counts(one)).cloned().collect(), ..view.clone() };
    check(&view, &selection)?;
    let mut transcript = Transcript::on_stdout(globals, frame, selection.clone());
    transcript.learn(&view);
    for attempt in &view.attempts {
        let of = (attempt.attempt, Some(attempt.job.as_str()));
        for log in attempt.logs.iter().filter(|log| selection.holds(of, &log.name)) {
            let address = LogAddress { build: view.build.number, attempt: attempt.attempt, log: log.name.clone() };
            let mut stamps = match timestamps {
                true => Some(Stamps::new(farm.log_times(&address).await?)),
                false => None,
            };
            let mut reader = farm.log(address, 0, log.bytes);
            while let Some(bytes) = reader.next().await? {
                let bytes = stamps.as_mut().map_or(bytes.clone(), |stamps| stamps.stamp(&bytes).into());
                transcript.log(attempt.attempt, &log.name, &bytes).map_err(CliError::Output)?;
            }
            if let Some(gap) = log.gap() {
                transcript.gap(attempt.attempt, &log.name, &gap).map_err(CliError::Output)?;
            }
        }
    }
    transcript.finish().map_err(CliError::Output)
}

/// Whether there is what was asked for by name.
fn check(view: &BuildView, selection: &Selection) -> Result<(), CliError> {
    let of_job = |attempt: &AttemptView| selection.job.as_ref().is_none_or(|job| job.as_str() == attempt.job);
    if let Some(job) = selection.job.as_ref().filter(|_| !view.attempts.iter().any(of_job)) {
        let mut keys: Vec<&str> = view.attempts.iter().map(|attempt| attempt.job.as_str()).collect();
        keys.dedup();
        let what = format!("build {} has no output of a job {job}", view.build.number);
        return Err(CliError::Usage { what, instead: Some(format!("one of {}", keys.join(", "))) });
    }
    let is_meant =
        |attempt: &&AttemptView| of_job(attempt) && selection.attempt.is_none_or(|wanted| wanted == attempt.attempt);
    let attempts: Vec<&AttemptView> = view.attempts.iter().filter(is_meant).collect();
    let build = view.build.number;
    if let (Some(wanted), true) = (selection.attempt, attempts.is_empty()) {
        let what = format!("build {build} has no attempt {wanted}");
        return Err(CliError::Usage { what, instead: Some(format!("one of 1 to {}", view.attempts.len())) });
    }
    let Some(wanted) = &selection.log else { return Ok(()) };
    let holds = |attempt: &&AttemptView| {
        let of = (attempt.attempt, Some(attempt.job.as_str()));
        attempt.logs.iter().any(|log| selection.holds(of, &log.name))
    };
    if attempts.iter().any(holds) {
        return Ok(());
    }
    let mut names: Vec<&str> = attempts.iter().flat_map(|attempt| &attempt.logs).map(|log| log.name.title()).collect();
    names.dedup();
    let instead = if names.is_empty() { None } else { Some(format!("one of {}", names.join(", "))) };
    Err(CliError::Usage { what: format!("build {build} has no output of a stage {wanted}"), instead })
}

#[cfg(test)]
mod tests {
    use protocol::api::{LogView, Status};

    use super::super::builds::tests::row;
    use super::*;

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let attempt = |attempt, logs: &[&str]| AttemptView {
            job: "build".to_owned(),
            attempt,
            agent: "oak".to_owned(),
            state: "lost".to_owned(),
            started_ms: 0,
            ended_ms: None,
            loss: None,
            stages: vec![],
            logs: logs
                .iter()
                .map(|name| LogView {
                    name: name.parse().unwrap(),
                    bytes: 1,
                    complete: true,
                    missing: 0,
                    incomplete: false,
                })
                .collect(),
        };
        let attempts = vec![attempt(1, &["0-job"]), attempt(2, &["0-job", "build", "test"])];
        let view = BuildView { exit_code: Some(1), attempts, ..BuildView::new(row(7, Status::Failed)) };
        let check_one = |log: Option<&str>, attempt, expect: Result<(), &str>| {
            let log = log.map(|log| log.parse().unwrap());
            let selection = Selection { log, attempt, ..Selection::default() };
            match (check(&view, &selection), expect) {
                (Ok(()), Ok(())) => {}
                (Err(CliError::Usage { what, instead }), Err(expect)) => {
                    assert_eq!(format!("{what}; {}", instead.unwrap_or_default()), expect);
                }
                (got, expect) => panic!("{got:?} instead of {expect:?}"),
            }
        };
        check_one(None, None, Ok(()));
        check_one(Some("job"), Some(1), Ok(()));
        check_one(Some("test"), None, Ok(()));
        check_one(Some("test"), Some(1), Err("build #7 has no output of a stage test; one of job"));
        check_one(Some("lint"), Some(2), Err("build #7 has no output of a stage lint; one of job, build, test"));
        let of_job = Selection { job: Some("lint".parse().unwrap()), ..Selection::default() };
        assert!(check(&view, &of_job).unwrap_err().to_string().contains("build #7 has no output of a job lint"));
        check_one(None, Some(3), Err("build #7 has no attempt 3; one of 1 to 2"));
    }
}
