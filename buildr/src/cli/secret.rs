//! `buildr secret`: the secrets that the farm keeps. A value is given to the farm, and never given back.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use protocol::RepoUrl;
use protocol::api::{RemoveSecret, SecretView, SetSecret};
use protocol::job::TriggerKind;
use protocol::secure::LONGEST_VALUE;

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::time::age;
use super::{CliError, exit, note, say};
use crate::process::clock::now_ms;

/// Keep secrets on the farm, for the builds that may have them
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Set(SetArgs),
    List(ListArgs),
    Rm(RmArgs),
}

/// Keep a secret, in place of one that was set for the same builds
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The value is read from --from-file or from standard input, less a line's end at its end; at a terminal it is asked for.
Of several secrets of one name that fit a build, the one for its project counts before one for all, then one for its
branch, then one for its event.")]
struct SetArgs {
    #[command(flatten)]
    which: Which,
    /// A file with the value
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
}

/// List the farm's secrets, without their values
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those that builds of this repository may have
    #[arg(long, value_name = "URL")]
    project: Option<RepoUrl>,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

/// Have the farm forget a secret, named as it was set
#[derive(Debug, clap::Args)]
struct RmArgs {
    #[command(flatten)]
    which: Which,
}

/// Which secret, and for which builds.
#[derive(Debug, clap::Args)]
struct Which {
    /// Its name, by which stages ask for it
    name: String,
    /// For builds of this repository
    #[arg(long, value_name = "URL", required_unless_present = "all", conflicts_with = "all")]
    project: Option<RepoUrl>,
    /// For builds of all repositories
    #[arg(long)]
    all: bool,
    /// For branches that this means: `*` is any text without `/`, `**` any text
    #[arg(long, value_name = "GLOB")]
    branch: Option<String>,
    /// For builds that began so: push, tag, pull_request, schedule, manual, upstream, injected
    #[arg(long = "event", value_name = "EVENT", value_delimiter = ',', value_parser = event)]
    events: Vec<TriggerKind>,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    match args.command {
        Command::Set(SetArgs { which, from_file }) => set(which, from_file.as_deref(), globals).await,
        Command::List(args) => list(&args, globals).await,
        Command::Rm(RmArgs { which }) => {
            let Which { name, project, all, branch, events } = which;
            let gone = globals.farm()?.remove_secret(&RemoveSecret { name, project, all, branch, events }).await?;
            say(&format!("the secret {} for {} is gone\n", clean(&gone.name), clean(&for_whom(&gone))))?;
            Ok(exit::DONE)
        }
    }
}

async fn set(which: Which, from_file: Option<&Path>, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let value = value(from_file, &which.name)?;
    let Which { name, project, all, branch, events } = which;
    let kept = farm.set_secret(&SetSecret { name, value, project, all, branch, events }).await?;
    say(&format!("the secret {} is kept for {}\n", clean(&kept.name), clean(&for_whom(&kept))))?;
    Ok(exit::DONE)
}

async fn list(args: &ListArgs, globals: &Globals) -> Result<u8, CliError> {
    let mut secrets = globals.farm()?.secrets().await?;
    if let Some(project) = args.project.as_ref().map(RepoUrl::identity) {
        secrets.retain(|secret| secret.project.as_ref().is_none_or(|of| *of == project));
    }
    if args.json {
        say(&super::json(&secrets))?;
    } else if secrets.is_empty() {
        note("the farm keeps none; set one with `buildr secret set NAME --project URL`");
    } else {
        say(&shown(&secrets, now_ms(), &Look::of_stdout(globals.color())))?;
    }
    Ok(exit::DONE)
}

/// A value that a person gives: from a file, from standard input, or typed unseen.
pub(super) fn value(from_file: Option<&Path>, name: &str) -> Result<String, CliError> {
    let unreadable = |place: &str, source: &io::Error| CliError::Usage {
        what: format!("the value of {name} cannot be read from {place}: {source}"),
        instead: Some("give text, by --from-file FILE or on standard input".to_owned()),
    };
    let mut text = String::new();
    match from_file {
        Some(path) => {
            text = std::fs::read_to_string(path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
        }
        None if io::stdin().is_terminal() => {
            note(&format!("the value of {name}, which is not shown:"));
            text = console::Term::stderr().read_secure_line().map_err(|error| unreadable("the terminal", &error))?;
        }
        None => {
            // A byte more than is allowed, so that what is too long is refused and not cut.
            let most = LONGEST_VALUE as u64 + 3;
            let read = io::stdin().lock().take(most).read_to_string(&mut text);
            read.map_err(|error| unreadable("standard input", &error))?;
        }
    }
    let value = text.strip_suffix('\n').unwrap_or(&text);
    Ok(value.strip_suffix('\r').unwrap_or(value).to_owned())
}

fn for_whom(secret: &SecretView) -> String {
    let mut text = secret.project.clone().unwrap_or_else(|| "all projects".to_owned());
    if let Some(branch) = &secret.branch {
        text += &format!(", branch {branch}");
    }
    if !secret.events.is_empty() {
        text += &format!(", event {}", events(secret));
    }
    text
}

fn events(secret: &SecretView) -> String {
    secret.events.iter().map(|event| event.name()).collect::<Vec<_>>().join(",")
}

fn shown(secrets: &[SecretView], now_ms: u64, look: &Look) -> String {
    let rows = secrets.iter().map(|secret| {
        let plain = |text: &str| cell(Tone::Plain, if text.is_empty() { "all" } else { text });
        let set = format!("{} ago", age(now_ms.saturating_sub(secret.set_ms)));
        let by = if secret.lost {
            format!("{}; its key is gone: set it again", secret.set_by)
        } else {
            secret.set_by.clone()
        };
        [
            plain(&secret.name),
            plain(secret.project.as_deref().unwrap_or_default()),
            plain(secret.branch.as_deref().unwrap_or_default()),
            plain(&events(secret)),
            plain(&set),
            cell(if secret.lost { Tone::Bad } else { Tone::Plain }, &by),
        ]
    });
    table(["SECRET", "PROJECT", "BRANCH", "EVENT", "SET", "BY"], rows, look)
}

fn event(text: &str) -> Result<TriggerKind, String> {
    let known = serde_json::from_value(serde_json::Value::from(text));
    known.map_err(|_| "write push, tag, pull_request, schedule, manual, upstream or injected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each() {
        let one = SecretView {
            name: "TOKEN".to_owned(),
            project: Some("example.org/a/b".to_owned()),
            branch: Some("main".to_owned()),
            events: vec![TriggerKind::Push, TriggerKind::Tag],
            set_by: "ada".to_owned(),
            set_ms: 1_000,
            lost: false,
        };
        let all = SecretView { project: None, branch: None, events: vec![], lost: true, ..one.clone() };
        assert_eq!(for_whom(&one), "example.org/a/b, branch main, event push,tag");
        assert_eq!(for_whom(&all), "all projects");
        let expect = "\
SECRET  PROJECT          BRANCH  EVENT     SET     BY
TOKEN   example.org/a/b  main    push,tag  3s ago  ada
TOKEN   all              all     all       3s ago  ada; its key is gone: set it again
";
        assert_eq!(shown(&[one, all], 4_000, &Look::plain(None)), expect);
        assert_eq!(event("pull_request"), Ok(TriggerKind::PullRequest));
        assert!(event("pull").unwrap_err().contains("pull_request"));
    }

    #[test]
    fn a_file_is_a_value_less_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        for (text, expect) in [("s3cret\n", "s3cret"), ("a\nb\r\n", "a\nb"), ("x\n\n", "x\n"), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(value(Some(&path), "T").unwrap(), expect);
        }
        let error = value(Some(Path::new("/nowhere/x")), "T").unwrap_err().to_string();
        assert!(error.contains("the value of T cannot be read from /nowhere/x"), "{error}");
    }
}
