//! `buildr project …`: the repositories whose forges begin builds on the farm.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::api::{AddedProject, Approval, ChangeProject, Forge, Keep, NewProject, ProjectKeeps, ProjectView};
use protocol::{Branch, RepoUrl};

use super::credentials::CredentialArgs;
use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::{CliError, exit, note, say};

/// Have pushes and pull requests of a repository begin builds
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add a repository, and say what to enter at its forge
    Add(AddArgs),
    /// List the projects
    List {
        /// Print JSON, as the farm's API has it
        #[arg(long)]
        json: bool,
    },
    /// Show one project
    Show {
        /// Its name, such as github.com/ada/cronline, or a URL of its repository
        project: String,
        /// Print JSON, as the farm's API has it
        #[arg(long)]
        json: bool,
    },
    /// Change what is given of a project
    Change(ChangeArgs),
    /// Have its webhooks begin nothing more; its builds stay
    Remove {
        /// Its name, or a URL of its repository
        project: String,
    },
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// How agents clone it: over https or ssh
    url: RepoUrl,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Its name, or a URL of its repository
    project: String,
    /// Another way to the same repository
    #[arg(long, value_name = "URL")]
    url: Option<RepoUrl>,
    #[command(flatten)]
    settings: Settings,
    /// Take its webhooks, or keep them and begin nothing
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    allowed: Option<bool>,
}

#[derive(Debug, clap::Args)]
struct Settings {
    /// What kind of server it lies on: github, gitlab, gitea, forgejo, bitbucket, bitbucket_dc or generic; known for the
    /// large public ones
    #[arg(long)]
    forge: Option<Forge>,
    /// What its webhooks are signed with; a good one is made when none is given. Others on this machine see it here
    #[arg(long, conflicts_with = "secret_file")]
    secret: Option<String>,
    /// The same, read from a file; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The branch that its HEAD means; its forge says it otherwise
    #[arg(long, value_name = "BRANCH")]
    default_branch: Option<Branch>,
    /// Whether builds of its own branches may have secrets and keep caches: yes (as it is without this) or no
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
    trusted: Option<bool>,
    /// Which builds wait for a maintainer: none, forks (as it is without this), pull_requests or all
    #[arg(long)]
    approval: Option<Approval>,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    keeps: KeepArgs,
    /// Who gets a mail when a branch of it breaks or is fixed, where the farm sends mail: addresses, or `nobody`
    #[arg(long, value_name = "ADDRESS,…|nobody", value_delimiter = ',')]
    mail_to: Vec<String>,
}

/// For how long its builds are kept, where that is not what the farm's settings say. Pinned builds and the last one of
/// each branch that passed are kept in any case.
#[derive(Debug, Clone, Copy, clap::Args)]
struct KeepArgs {
    /// Keep its newest N builds, or all; `farm` is what the farm's settings say. A word here or in --keep-days takes the
    /// place of both of the farm's; with both, a build is kept as long as one of them keeps it
    #[arg(long, value_name = "N|all|farm")]
    keep_builds: Option<Keep>,
    /// Keep its builds for so many days after their end
    #[arg(long, value_name = "DAYS|all|farm")]
    keep_days: Option<Keep>,
    /// Keep what its jobs printed for so many days; `all` is as long as the build
    #[arg(long, value_name = "DAYS|all|farm")]
    keep_logs_days: Option<Keep>,
    /// Keep the files that its jobs left for so many days, where the manifest says no less; `all` is as long as the build
    #[arg(long, value_name = "DAYS|all|farm")]
    keep_artifacts_days: Option<Keep>,
}

impl From<KeepArgs> for ProjectKeeps {
    fn from(said: KeepArgs) -> Self {
        Self {
            builds: said.keep_builds,
            days: said.keep_days,
            logs_days: said.keep_logs_days,
            artifacts_days: said.keep_artifacts_days,
        }
    }
}

impl Settings {
    /// Who gets mail; none where nothing is said of it.
    fn mail(&self) -> Option<Vec<String>> {
        match &self.mail_to[..] {
            [] => None,
            [nobody] if nobody == "nobody" => Some(Vec::new()),
            some => Some(some.to_vec()),
        }
    }

    fn secret(&self) -> Result<Option<String>, CliError> {
        match &self.secret_file {
            Some(path) => read_secret(path).map(Some),
            None => Ok(self.secret.clone()),
        }
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

fn read_secret(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(4096).read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(path).map(|found| text = found),
    };
    read.map_err(|error| CliError::Usage {
        what: format!("the secret in {} cannot be read: {error}", path.display()),
        instead: None,
    })?;
    Ok(text.trim().to_owned())
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    match args.what {
        What::Add(AddArgs { url, settings }) => {
            let secret = settings.secret()?;
            let given = secret.is_some();
            let mail = settings.mail().unwrap_or_default();
            let Settings { forge, default_branch, trusted, approval, credentials, keeps, .. } = settings;
            let (credentials, keeps) = (credentials.read()?, keeps.into());
            let new = NewProject { url, forge, secret, default_branch, trusted, approval, credentials, keeps, mail };
            let added = farm.add_project(&new).await?;
            say(&to_enter(&added, given))?;
        }
        What::List { json } => {
            let projects = farm.projects().await?;
            if json {
                say(&super::json(&projects))?;
            } else if projects.is_empty() {
                note("no project; add one with `buildr project add URL`");
            } else {
                say(&shown(&projects, &Look::of_stdout(globals.color())))?;
            }
        }
        What::Show { project, json } => {
            let project = farm.project(&project).await?;
            say(&if json { super::json(&project) } else { told(&project) })?;
        }
        What::Change(ChangeArgs { project, url, settings, allowed }) => {
            let secret = settings.secret()?;
            let mail = settings.mail();
            let Settings { forge, default_branch, trusted, approval, credentials, keeps, .. } = settings;
            let (credentials, keeps) = (credentials.read()?, keeps.into());
            let change = ChangeProject {
                url,
                forge,
                secret,
                default_branch,
                trusted,
                approval,
                allowed,
                credentials,
                keeps,
                mail,
            };
            say(&told(&farm.change_project(&project, &change).await?))?;
        }
        What::Remove { project } => {
            let removed = farm.remove_project(&project).await?;
            say(&format!("{}\n", clean(&removed.message)))?;
        }
    }
    Ok(exit::DONE)
}

fn shown(projects: &[ProjectView], look: &Look) -> String {
    let rows = projects.iter().map(|project| {
        let plain = |text: &str| cell(Tone::Plain, text);
        let yes = |is: bool| plain(if is { "yes" } else { "no" });
        let state = if project.allowed { plain("") } else { cell(Tone::Odd, "takes no webhooks") };
        [
            plain(&project.identity),
            plain(project.forge.name()),
            plain(project.default_branch.as_ref().map_or("-", |branch| branch.as_str())),
            yes(project.trusted),
            plain(project.approval.name()),
            state,
        ]
    });
    table(["PROJECT", "FORGE", "BRANCH", "TRUSTED", "APPROVAL", "STATE"], rows, look)
}

fn told(project: &ProjectView) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let branch = project.default_branch.as_ref().map_or("not known yet", |branch| branch.as_str());
    let credentials = match &project.credentials {
        Some(own) => own.to_string(),
        None => "what the agents have".to_owned(),
    };
    let mail = match &project.mail[..] {
        [] => "those whom the farm names".to_owned(),
        own => format!("{}, and those whom the farm names", own.join(", ")),
    };
    let kept = match project.keeps.is_farms() {
        true => format!("as the farm's settings say: {}", project.kept),
        false => project.kept.to_string(),
    };
    let lines = [
        ("project", project.identity.as_str()),
        ("cloned from", &project.url),
        ("cloned with", &credentials),
        ("forge", project.forge.name()),
        ("webhooks come to", &project.hook_url),
        ("default branch", branch),
        ("trusted", yes(project.trusted)),
        ("approval", project.approval.name()),
        ("takes webhooks", yes(project.allowed)),
        ("kept", &kept),
        ("mail goes to", &mail),
    ];
    lines.map(|(name, value)| format!("{name:<18}{}\n", clean(value))).concat()
}

/// What a person enters at the forge. The secret is shown here, and never again.
fn to_enter(added: &AddedProject, given: bool) -> String {
    let AddedProject { project, secret } = added;
    let secret = if given { "the one that you gave" } else { secret };
    let place = match project.forge {
        Forge::GitHub => {
            "Settings › Webhooks › Add webhook; content type application/json; events: pushes and pull requests"
        }
        Forge::GitLab => {
            "Settings › Webhooks › Add new webhook; secret token; push events, tag push events and merge request events"
        }
        Forge::Gitea | Forge::Forgejo => {
            "Settings › Webhooks › Add webhook; POST, application/json; push, and pull request with its synchronization"
        }
        Forge::Bitbucket => {
            "Repository settings › Webhooks › Add webhook; repository push; pull request created, updated, merged, declined"
        }
        Forge::BitbucketDc => {
            "Repository settings › Webhooks › Create webhook; push; pull request opened, source branch updated, modified, merged, declined, deleted"
        }
        Forge::Generic => {
            "a POST of JSON such as {\"branch\": \"main\", \"commit\": \"…\"}, with `Authorization: Bearer SECRET` or X-Hub-Signature-256"
        }
    };
    format!(
        "{} is a project now. Enter at its forge:\n\n  where   {place}\n  URL     {}\n  secret  {}\n\n{}",
        clean(&project.identity),
        clean(&project.hook_url),
        clean(secret),
        if given { "" } else { "The secret is not shown again; `buildr project change --secret` sets another.\n" },
    )
}

#[cfg(test)]
mod tests {
    use protocol::api::{CredentialsKind, CredentialsView, Keeps};

    use super::*;

    fn project() -> ProjectView {
        ProjectView {
            identity: "github.com/ada/cronline".to_owned(),
            url: "https://***@github.com/ada/cronline.git".to_owned(),
            forge: Forge::GitHub,
            default_branch: None,
            trusted: true,
            approval: Approval::Forks,
            allowed: true,
            hook_url: "https://ci.example.org/hooks/github/abc".to_owned(),
            created_ms: 1,
            credentials: None,
            keeps: ProjectKeeps::default(),
            kept: Keeps::default(),
            mail: Vec::new(),
        }
    }

    #[test]
    fn a_row_for_each() {
        let odd = ProjectView { allowed: false, default_branch: Some("main".parse().unwrap()), ..project() };
        let expect = "\
PROJECT                  FORGE   BRANCH  TRUSTED  APPROVAL  STATE
github.com/ada/cronline  github  -       yes      forks
github.com/ada/cronline  github  main    yes      forks     takes no webhooks
";
        let got = shown(&[project(), odd], &Look::plain(None));
        let got: String = got.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn a_secret_that_was_given_is_not_repeated() {
        let added = AddedProject { project: project(), secret: "0123456789abcdef".to_owned() };
        let made = to_enter(&added, false);
        assert!(made.contains("secret  0123456789abcdef") && made.contains("/hooks/github/abc"), "{made}");
        let given = to_enter(&added, true);
        assert!(!given.contains("0123456789abcdef"), "{given}");
        assert!(!told(&project()).contains("0123456789abcdef"));
    }

    #[test]
    fn what_its_owners_set_is_told() {
        let plain = told(&project());
        for line in [
            "cloned with       what the agents have",
            "kept              as the farm's settings say: builds without end",
            "mail goes to      those whom the farm names",
        ] {
            assert!(plain.contains(line), "{line} is not in\n{plain}");
        }
        let credentials = CredentialsView {
            fingerprint: Some("SHA256:x".to_owned()),
            ..CredentialsView::new(CredentialsKind::DeployKey)
        };
        let keeps = ProjectKeeps { builds: Some(Keep::Last(5)), ..ProjectKeeps::default() };
        let own = told(&ProjectView {
            credentials: Some(CredentialsView { lost: true, ..credentials }),
            keeps,
            kept: keeps.over(&Keeps::default()),
            mail: vec!["a…@example.org".to_owned()],
            ..project()
        });
        for line in [
            "cloned with       a deploy key, SHA256:x; it was sealed with a key that is gone: set it again",
            "kept              the newest 5 builds of each repository",
            "mail goes to      a…@example.org, and those whom the farm names",
        ] {
            assert!(own.contains(line), "{line} is not in\n{own}");
        }
    }
}
