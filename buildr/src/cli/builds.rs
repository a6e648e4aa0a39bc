//! `buildr builds`: the newest builds, as a table.

use protocol::RepoUrl;
use protocol::api::{BuildRow, Builds};

use super::globals::Globals;
use super::look::{Look, Tone, tone};
use super::table::{cell, table};
use super::time::{age, duration, now, run_time};
use super::{CliError, exit, note, say};
use crate::client::Farm;

/// List the newest builds
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let builds = fetch(&globals.farm()?, args.limit).await?;
    if args.json {
        say(&super::json(&builds))?;
    } else if builds.builds.is_empty() {
        note(&format!("no builds yet; begin one with `{}`", globals.command("submit REPO")));
    } else {
        say(&shown(&builds.builds, &Look::of_stdout(globals.color()), now()))?;
    }
    Ok(exit::DONE)
}

/// As many as were asked for, though a farm gives them in pages.
async fn fetch(farm: &Farm, limit: u32) -> Result<Builds, CliError> {
    let wanted = limit as usize;
    let mut all = farm.builds(None, limit).await?;
    while let (Some(next), true) = (all.next, all.builds.len() < wanted) {
        let missing = u32::try_from(wanted - all.builds.len()).unwrap_or(limit);
        let page = farm.builds(Some(next), missing).await?;
        // A farm that gives an empty page with another after it would hold us for ever.
        all.next = page.next.filter(|_| !page.builds.is_empty());
        all.builds.extend(page.builds);
    }
    all.builds.truncate(wanted);
    Ok(all)
}

fn shown(builds: &[BuildRow], look: &Look, now: u64) -> String {
    let heading = ["BUILD", "STATUS", "REPO", "BRANCH", "COMMIT", "AGE", "TIME", "TRIGGER", "MESSAGE"];
    let rows = builds.iter().map(|build| {
        let text = |text: Option<&str>| cell(Tone::Plain, text.unwrap_or("-"));
        let message = build.message.as_ref().or(build.subject.as_ref());
        [
            cell(Tone::Strong, &build.number.0.to_string()),
            cell(tone(build.status), build.status.name()),
            cell(Tone::Plain, &short_name(&build.repo)),
            text(build.branch.as_ref().map(|branch| branch.as_str())),
            text(build.commit.as_ref().map(|commit| commit.short())),
            cell(Tone::Plain, &age(now.saturating_sub(build.created_ms))),
            text(run_time(build, now).map(duration).as_deref()),
            cell(Tone::Plain, &build.trigger),
            cell(Tone::Plain, message.and_then(|message| message.lines().next()).unwrap_or_default()),
        ]
    });
    table(heading, rows, look)
}

/// What people call the repository; all of a text that names none.
pub(super) fn short_name(repo: &str) -> String {
    repo.parse::<RepoUrl>().map_or_else(|_| repo.to_owned(), |url| url.short_name().to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::BuildNumber;
    use protocol::api::Status;

    use super::*;

    pub(in crate::cli) fn row(number: u64, status: Status) -> BuildRow {
        BuildRow {
            number: BuildNumber(number),
            repo: "https://example.org/team/parser.git".to_owned(),
            branch: Some("main".parse().unwrap()),
            commit: Some("0123456789abcdef0123456789abcdef01234567".parse().unwrap()),
            subject: Some("fix the parser".to_owned()),
            trigger: "manual".to_owned(),
            status,
            message: None,
            created_ms: 1_000_000,
            started_ms: Some(1_002_000),
            ended_ms: status.is_over().then_some(1_036_500),
        }
    }

    #[test]
    fn a_row_for_each_build() {
        let failed = BuildRow { message: Some("stage test: exit code 1".to_owned()), ..row(12, Status::Failed) };
        let waiting = BuildRow {
            branch: None,
            commit: None,
            subject: None,
            started_ms: None,
            trigger: "injected".to_owned(),
            message: Some("waits for an agent with the label gpu".to_owned()),
            ..row(13, Status::Queued)
        };
        let all = [waiting, row(100, Status::Running), failed, row(2, Status::Passed)];
        assert_eq!(
            shown(&all, &Look::plain(Some(98)), 1_120_000),
            "\
BUILD  STATUS   REPO    BRANCH  COMMIT    AGE  TIME    TRIGGER   MESSAGE
13     queued   parser  -       -         2m   -       injected  waits for an agent with the labe…
100    running  parser  main    01234567  2m   1m 58s  manual    fix the parser
12     failed   parser  main    01234567  2m   34.5s   manual    stage test: exit code 1
2      passed   parser  main    01234567  2m   34.5s   manual    fix the parser
"
        );
    }

    #[test]
    fn a_repository_has_a_short_name() {
        for (repo, expect) in [
            ("https://x/team/parser.git", "parser"),
            ("git@host:parser", "parser"),
            ("/srv/code/parser/", "parser"),
            ("?", "?"),
        ] {
            assert_eq!(short_name(repo), expect);
        }
    }
}
