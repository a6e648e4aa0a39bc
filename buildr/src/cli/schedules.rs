//! `buildr schedules`: when builds begin by themselves.

use protocol::api::{ScheduleAct, ScheduleOrder, ScheduleView};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::time::moment;
use super::{CliError, exit, note, say};

/// Show when builds begin by themselves; pause one, or run it now
///
/// The times stand in the manifest of a repository's default branch, under `schedule`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Let this one begin no builds
    #[arg(long, value_name = "NAME", group = "act")]
    pause: Option<String>,
    /// Let this one begin builds again, from its next time on
    #[arg(long, value_name = "NAME", group = "act")]
    resume: Option<String>,
    /// Begin a build of this one now
    #[arg(long, value_name = "NAME", group = "act")]
    run: Option<String>,
    /// Its repository, as the list shows it; needed only when several have one of that name
    #[arg(long, value_name = "URL", requires = "act")]
    repo: Option<String>,
    /// Its pipeline, likewise
    #[arg(long, value_name = "NAME", requires = "act")]
    pipeline: Option<String>,
    /// Print JSON, as the farm's API has it
    #[arg(long, conflicts_with = "act")]
    json: bool,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let Args { pause, resume, run, repo, pipeline, json } = args;
    let acts = [(pause, ScheduleAct::Pause), (resume, ScheduleAct::Resume), (run, ScheduleAct::Run)];
    if let Some((name, order)) = acts.into_iter().find_map(|(name, act)| Some((name?, act))) {
        let done = farm.order_schedule(&ScheduleOrder { name, repo, pipeline, order }).await?;
        say(&format!("{}\n", clean(&done.message)))?;
        return Ok(exit::DONE);
    }
    let schedules = farm.schedules().await?;
    if json {
        say(&super::json(&schedules))?;
    } else if schedules.is_empty() {
        note("no repository has a schedule; one is written in its manifest: `buildr explain schedule`");
    } else {
        say(&shown(&schedules, &Look::of_stdout(globals.color()), moment))?;
    }
    Ok(exit::DONE)
}

fn shown(schedules: &[ScheduleView], look: &Look, moment: fn(u64) -> String) -> String {
    let plain = |text: &str| cell(Tone::Plain, text);
    let rows = schedules.iter().map(|view| {
        let said = &view.schedule;
        let name = match &said.pipeline {
            Some(pipeline) => format!("{} ({pipeline})", said.name),
            None => said.name.clone(),
        };
        let next = match (&view.paused_by, view.next_ms) {
            (Some(by), _) => cell(Tone::Odd, &format!("paused by {by}")),
            (None, Some(next)) => plain(&moment(next)),
            (None, None) => cell(Tone::Faint, "never"),
        };
        let last = view.last_build.map_or_else(String::new, |build| build.to_string());
        let when = format!("{} {}", said.cron, said.zone);
        [plain(&name), plain(&when), next, plain(&last), plain(view.branch.as_str()), plain(&view.repo)]
    });
    table(["SCHEDULE", "WHEN", "NEXT", "LAST", "BRANCH", "REPOSITORY"], rows, look)
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;
    use protocol::plan::Schedule;

    use super::*;

    #[test]
    fn a_row_for_each() {
        let said = |name: &str| Schedule {
            name: name.to_owned(),
            pipeline: None,
            cron: "0 3 * * *".to_owned(),
            zone: "UTC".to_owned(),
            branch: None,
            inputs: Vec::new(),
        };
        let view = |schedule| ScheduleView {
            repo: "https://example.org/x".to_owned(),
            branch: "main".parse().unwrap(),
            schedule,
            next_ms: Some(7),
            paused_by: None,
            last_due_ms: None,
            last_build: Some(BuildNumber(12)),
        };
        let web = Schedule { pipeline: Some("web".to_owned()), ..said("nightly") };
        let paused = ScheduleView { next_ms: None, paused_by: Some("ada".to_owned()), last_build: None, ..view(web) };
        let text = shown(&[view(said("nightly")), paused], &Look::plain(None), |ms| format!("at {ms}"));
        let expect = "\
SCHEDULE       WHEN           NEXT           LAST  BRANCH  REPOSITORY
nightly        0 3 * * * UTC  at 7           #12   main    https://example.org/x
nightly (web)  0 3 * * * UTC  paused by ada        main    https://example.org/x
";
        assert_eq!(text, expect);
    }
}
