//! `buildr statuses`: which forges are told how builds go.

use std::path::{Path, PathBuf};

use protocol::RepoUrl;
use protocol::api::{ReportTo, ReportView};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::{CliError, exit, note, say};

/// Show which forges are told how builds go; tell another one, or no longer
///
/// A commit has one status for each pipeline, buildr/NAME, which leads to its build.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tell this repository's forge from now on
    #[arg(long, value_name = "REPO", requires = "token_file", conflicts_with_all = ["remove", "json"])]
    set: Option<RepoUrl>,
    /// What kind it is: github, gitlab, gitea, forgejo or bitbucket [default: known for the large public ones]
    #[arg(long, value_name = "KIND", requires = "set")]
    forge: Option<String>,
    /// A file with a token that may write statuses there; `-` reads it from the input
    #[arg(long, value_name = "FILE", requires = "set")]
    token_file: Option<PathBuf>,
    /// Where its API is [default: where such a forge usually has it]
    #[arg(long, value_name = "URL", requires = "set")]
    api: Option<String>,
    /// Tell this repository's forge no longer
    #[arg(long, value_name = "REPO", conflicts_with = "json")]
    remove: Option<RepoUrl>,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let Args { set, forge, token_file, api, remove, json } = args;
    let done = match (set, token_file, remove) {
        (Some(repo), Some(file), _) => {
            Some(farm.report_to(&ReportTo { repo, forge, api, token: token(&file)? }).await?)
        }
        (_, _, Some(repo)) => Some(farm.report_no_more(repo).await?),
        _ => None,
    };
    if let Some(done) = done {
        say(&format!("{}\n", clean(&done.message)))?;
        return Ok(exit::DONE);
    }
    let all = farm.reporting().await?;
    if json {
        say(&super::json(&all))?;
    } else if all.is_empty() {
        note("no forge is told: buildr statuses --set REPO --token-file FILE");
    } else {
        say(&shown(&all, &Look::of_stdout(globals.color())))?;
    }
    Ok(exit::DONE)
}

fn token(file: &Path) -> Result<String, CliError> {
    let read =
        if file == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let wrong = |error| CliError::Usage {
        what: format!("the token in {} cannot be read: {error}", file.display()),
        instead: None,
    };
    Ok(read.map_err(wrong)?.trim().to_owned())
}

fn shown(all: &[ReportView], look: &Look) -> String {
    let plain = |text: &str| cell(Tone::Plain, text);
    let rows = all.iter().map(|view| {
        let state = match &view.trouble {
            Some(trouble) => cell(Tone::Bad, trouble),
            None => plain("is told"),
        };
        let waiting = view.waiting.to_string();
        [plain(&view.repository), plain(&view.forge), plain(&view.api), plain(&waiting), state]
    });
    table(["REPOSITORY", "FORGE", "API", "WAITING", "STATE"], rows, look)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each() {
        let view = |trouble: Option<&str>| ReportView {
            repository: "example.org/x".to_owned(),
            forge: "gitea".to_owned(),
            api: "https://example.org/api/v1".to_owned(),
            waiting: 2,
            trouble: trouble.map(str::to_owned),
            trouble_ms: None,
        };
        let text = shown(&[view(None), view(Some("it answered 401 Unauthorized"))], &Look::plain(None));
        let expect = "\
REPOSITORY     FORGE  API                         WAITING  STATE
example.org/x  gitea  https://example.org/api/v1  2        is told
example.org/x  gitea  https://example.org/api/v1  2        it answered 401 Unauthorized
";
        assert_eq!(text, expect);
    }
}
