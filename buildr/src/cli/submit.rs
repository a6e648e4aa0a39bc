//! `buildr submit`: begins a build on the farm.

use std::io;
use std::path::Path;

use protocol::api::Submit;
use protocol::source::InvalidSource;
use protocol::{Branch, CommitId, RepoUrl};

use super::globals::Globals;
use super::look::Look;
use super::time::now;
use super::watch::{Frame, Selection, Watched, exit_code, watch};
use super::{CliError, exit, say, status};

/// Build a repository on the farm
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A URL, or a folder on the farm's own machine; what is committed there is built
    repo: String,
    /// Which branch; without it, the one that the repository's HEAD names
    #[arg(long, short)]
    branch: Option<Branch>,
    /// Which tag, in place of a branch
    #[arg(long, conflicts_with = "branch")]
    tag: Option<String>,
    /// Which commit; without it the newest one
    #[arg(long, value_name = "ID")]
    commit: Option<CommitId>,
    /// A value that the manifest asks for under `inputs`; may be given several times
    #[arg(long = "input", short, value_name = "NAME=VALUE", value_parser = super::assignment)]
    inputs: Vec<(String, String)>,
    /// Follow the output, and end with the build's exit code
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { repo, branch, tag, commit, inputs, watch: watches } = args;
    let repo = repository(&repo, Path::new("."))?;
    let farm = globals.farm()?;
    let view = farm.submit(&Submit { repo, branch, tag, commit, inputs: inputs.into_iter().collect() }).await?;
    let number = view.build.number;
    let branch = view.build.branch.as_ref().map(|branch| format!(", branch {branch}")).unwrap_or_default();
    let accepted = format!("build {number} of {}{branch}\n", super::builds::short_name(&view.build.repo));
    if !watches {
        say(&format!("{accepted}follow it with: {}\n", globals.command(&format!("logs {} -f", number.0))))?;
        return Ok(exit::DONE);
    }
    let watched = async {
        say(&accepted)?;
        let Watched::Over(view) = watch(&farm, number, Selection::default(), Frame::News, globals).await? else {
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

/// What a person means by a repository: a URL, or a folder that is there.
fn repository(text: &str, here: &Path) -> Result<RepoUrl, CliError> {
    let usage = |what| CliError::Usage { what, instead: None };
    let parsed = text.parse::<RepoUrl>();
    if parsed.as_ref().is_ok_and(|url| !url.is_local()) {
        return parsed.map_err(|error| usage(error.to_string()));
    }
    // Without links and `..`: the farm looks from another folder.
    let folder = if text.is_empty() { None } else { here.join(text).canonicalize().ok() };
    match (folder, parsed) {
        (Some(path), _) => {
            let shown = path.display();
            let path = path.to_str().ok_or_else(|| usage(format!("the path {shown} is not UTF-8")))?;
            path.parse().map_err(|error| usage(format!("{path}: {error}")))
        }
        // Not on this machine; perhaps on the farm's.
        (None, Ok(url)) => Ok(url),
        (None, Err(InvalidSource::RelativePath(_))) => Err(CliError::Usage {
            what: format!("{text:?} is neither a URL nor a folder that is there"),
            instead: Some("a URL such as https://example.org/team/project.git, or the path of a repository".to_owned()),
        }),
        (None, Err(error)) => Err(usage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_as_people_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("sub/with space")).unwrap();
        std::fs::create_dir(root.join("a:b")).unwrap();
        let root_text = root.to_str().unwrap();
        let check = |text: &str, expect: Result<&str, &str>| match (repository(text, &root), expect) {
            (Ok(url), Ok(expect)) => assert_eq!(url.reveal(), expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (got, expect) => panic!("{text}: {got:?} instead of {expect:?}"),
        };
        let sub = format!("{root_text}/sub");
        check("https://example.org/x.git", Ok("https://example.org/x.git"));
        check("git@example.org:x.git", Ok("git@example.org:x.git"));
        check(".", Ok(root_text));
        check("sub", Ok(&sub));
        check("sub/../sub/", Ok(&sub));
        check("./a:b", Ok(&format!("{root_text}/a:b")));
        check("a:b", Ok("a:b"));
        check(&sub, Ok(&sub));
        check("/only/on/the/farm", Ok("/only/on/the/farm"));
        check("missing", Err("\"missing\" is neither a URL nor a folder"));
        check("sub/with space", Ok(&format!("{sub}/with space")));
        check("ext::sh", Err("is not a way to a repository"));
        check("-x", Err("begins with '-'"));
        check("", Err("empty"));
    }
}
