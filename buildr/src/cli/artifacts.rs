//! `buildr artifacts`: what a build left on the farm, listed, or unpacked here as agents unpack it.

use std::path::{Path, PathBuf};

use protocol::api::ArtifactView;
use protocol::{BuildNumber, JobKey, StageName};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::terminal::{file_name, shown, size};
use super::time::{duration, now};
use super::{CliError, exit, note, say};
use crate::carry::{self, Shelf};
use crate::client::Farm;
use crate::process::signals::Signals;

/// List the files that a build left on the farm, or bring them here
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Of this job alone: `buildr status` lists them
    #[arg(long, value_name = "KEY")]
    job: Option<JobKey>,
    /// Of this stage alone
    #[arg(long, value_name = "NAME")]
    stage: Option<StageName>,
    /// Unpack them here, each stage's into a folder of its own
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON, as the farm's API has it
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let all = farm.artifacts(args.build).await?;
    let meant = meant(args, &all)?;
    if let Some(out) = &args.out {
        let mut signals = Signals::listen()?;
        return tokio::select! {
            unpacked = unpack(&farm, args.build, &all, &meant, out) => unpacked,
            // What is being fetched goes with the other.
            _ = signals.next() => {
                note("stopped; what is unpacked so far stays");
                Ok(exit::CANCELLED)
            }
        };
    }
    if args.json {
        say(&super::json(&meant))?;
    } else if meant.is_empty() {
        note(&format!("build {} has no artifacts", args.build));
    } else {
        let unpack = globals.command(&format!("artifacts {} --out artifacts", args.build.0));
        say(&format!("{}\nunpack them with: {unpack}\n", listed(&meant, &Look::of_stdout(globals.color()), now())))?;
    }
    Ok(exit::DONE)
}

/// Those that are asked for.
fn meant<'a>(args: &Args, all: &'a [ArtifactView]) -> Result<Vec<&'a ArtifactView>, CliError> {
    let is_meant = |one: &&ArtifactView| {
        args.job.as_ref().is_none_or(|job| *job == one.job) && args.stage.as_ref().is_none_or(|it| *it == one.stage)
    };
    let meant: Vec<&ArtifactView> = all.iter().filter(is_meant).collect();
    if meant.is_empty() && (args.job.is_some() || args.stage.is_some()) {
        let mut titles: Vec<String> = all.iter().map(|one| title(all, one)).collect();
        titles.dedup();
        let instead = if titles.is_empty() { None } else { Some(format!("one of {}", titles.join(", "))) };
        return Err(CliError::Usage { what: format!("build {} has no such artifacts", args.build), instead });
    }
    Ok(meant)
}

fn listed(artifacts: &[&ArtifactView], look: &Look, now: u64) -> String {
    let row = |one: &&ArtifactView| {
        let kept = match (one.expired, one.expires_ms) {
            (true, _) => cell(Tone::Odd, "expired"),
            (false, Some(at)) => cell(Tone::Plain, &format!("expires in {}", duration(at.saturating_sub(now)))),
            (false, None) => cell(Tone::Faint, "kept as long as the build"),
        };
        let from = one.carried_from.map(|build| format!(" (of {build})")).unwrap_or_default();
        [
            cell(Tone::Plain, &format!("{}{from}", one.job)),
            cell(Tone::Plain, one.stage.as_str()),
            cell(Tone::Plain, &one.files.to_string()),
            cell(Tone::Plain, &size(one.bytes)),
            kept,
        ]
    };
    table(["JOB", "STAGE", "FILES", "PACKED", "KEPT"], artifacts.iter().map(row), look)
}

/// What people call it: by its stage, and by its job too where several have a stage of that name.
fn title(all: &[ArtifactView], one: &ArtifactView) -> String {
    let (job, stage) = (one.job.as_str(), one.stage.as_str());
    if all.iter().filter(|other| other.stage == one.stage).count() < 2 {
        return stage.to_owned();
    }
    // A cell or a shard has the stage's name within its own.
    let is_named = format!("/{job} ").contains(&format!("/{stage} "));
    if is_named { job.to_owned() } else { format!("{job}/{stage}") }
}

async fn unpack(
    farm: &Farm,
    build: BuildNumber,
    all: &[ArtifactView],
    meant: &[&ArtifactView],
    out: &Path,
) -> Result<u8, CliError> {
    if meant.is_empty() {
        note(&format!("build {build} has no artifacts"));
    }
    let mut code = exit::DONE;
    for one in meant {
        let title = title(all, one);
        if one.expired {
            note(&format!("the artifacts of {title} are not kept any more; do the build again"));
            code = exit::OTHER;
            continue;
        }
        let into = out.join(file_name(&title));
        let files = bring(farm, build, one, &into).await?;
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        say(&format!("{}: {files} in {}\n", clean(&title), shown(&into)))?;
    }
    Ok(code)
}

/// Fetches an archive, looks whether it is what it should be, and unpacks it. Gives how many files.
async fn bring(farm: &Farm, build: BuildNumber, one: &ArtifactView, into: &Path) -> Result<u64, CliError> {
    let write = |source| CliError::Write { path: into.display().to_string(), source };
    std::fs::create_dir_all(into).map_err(write)?;
    let aside = tempfile::Builder::new().prefix(".buildr-").tempdir_in(into).map_err(write)?;
    farm.artifact(build, &one.sha256, &aside.path().join(&one.sha256)).await?;
    let archive = Shelf::Folder(aside.path().to_owned()).fetch(&one.kept(), aside.path()).await?;
    let folder = into.to_owned();
    let restored = tokio::task::spawn_blocking(move || carry::restore(&archive, &folder)).await;
    Ok(restored.map_err(|error| write(std::io::Error::other(error)))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(job: &str, stage: &str) -> ArtifactView {
        ArtifactView {
            job: job.parse().unwrap(),
            stage: stage.parse().unwrap(),
            files: 3,
            bytes: 2048,
            sha256: "0".repeat(64),
            carried_from: None,
            expires_ms: None,
            expired: false,
        }
    }

    #[test]
    fn a_list() {
        let all = [
            artifact("build", "package"),
            ArtifactView { expires_ms: Some(61_000), ..artifact("unit (os=a)", "unit") },
            ArtifactView { expired: true, carried_from: Some(BuildNumber(7)), ..artifact("x/unit", "unit") },
        ];
        let text = listed(&all.iter().collect::<Vec<_>>(), &Look::plain(None), 1000);
        let expect = "\
JOB             STAGE    FILES  PACKED   KEPT
build           package  3      2.0 KiB  kept as long as the build
unit (os=a)     unit     3      2.0 KiB  expires in 1m 00s
x/unit (of #7)  unit     3      2.0 KiB  expired
";
        assert_eq!(text, expect);
    }

    #[test]
    fn each_stage_has_a_folder_of_its_own() {
        let all = [artifact("build", "package"), artifact("unit (os=a)", "unit"), artifact("../x", "unit")];
        let folders: Vec<String> = all.iter().map(|one| file_name(&title(&all, one))).collect();
        assert_eq!(&folders[..2], ["package", "unit (os=a)"]);
        assert!(!folders[2].contains('/') && !folders[2].starts_with('.'), "{folders:?}");
        assert_eq!(title(&all[..2], &all[1]), "unit");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let all = [artifact("build", "package")];
        let args = |job: Option<&str>| Args {
            build: BuildNumber(3),
            job: job.map(|job| job.parse().unwrap()),
            stage: None,
            out: None,
            json: false,
        };
        assert_eq!(meant(&args(None), &all).unwrap().len(), 1);
        assert!(meant(&args(None), &[]).unwrap().is_empty());
        let Err(CliError::Usage { what, instead }) = meant(&args(Some("x")), &all) else { panic!() };
        assert_eq!((what.as_str(), instead.as_deref()), ("build #3 has no such artifacts", Some("one of package")));
    }
}
