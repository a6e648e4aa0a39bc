//! `buildr run`: the build of the folder at hand, by the same code as on the farm.

mod error;
mod life;
mod screen;
mod selection;
mod differences;
mod owner;
mod results;
mod shell;
mod aftermath;
pub(super) mod repro;

use std::io::stdout;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use protocol::job::WorkOrder;
use protocol::plan::Kept;
use protocol::source::InvalidSource;
use protocol::{Ending, JobId, JobKey, Outcome, RepoUrl, StageName, Variable, task};

use super::containers::{ContainerArgs, own_environment};
use super::globals::Globals;
use super::look::Look;
use super::occasion::OccasionArgs;
use super::secrets::{SecretArgs, from_environment};
use super::terminal::{Frame, Header, Next, Style, Terminal};
use super::{CliError, elsewhere};
use crate::carry::cache::CacheStore;
use crate::executor::KeepContainers;
use crate::executor::Stop;
use crate::executor::docker::{DockerExecutor, DockerSettings};
use crate::git::{self, TreeCopy};
use crate::manifest;
use crate::plan::Facts;
use crate::process::folders;
use crate::runner::{self, Rooms, SocketMode, SocketPolicy, Source, Ways, WorkFolder};
use aftermath::Aftermath;
use differences::Here;
use life::{Life, sweep};
use owner::{Owner, can_ask, word};
use screen::{Hearing, Screen, frame, hear_signals, tick};
use selection::{Selected, SelectionArgs};

pub(super) use error::RunError;
pub(super) use life::{is_of_a_run, one_goes_on};

/// How large the caches of this machine's runs may become together.
const CACHE_BYTES: u64 = 20 << 30;

/// Build the folder at hand, in containers, as the farm would
///
/// What is built is a copy: the files that git tracks and those that it does not ignore, changed or not. Ctrl-C cancels
/// and cleans up; a second one kills at once. The output of every stage and the files that it keeps are in .buildr-out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder with the .buildr.yml
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,

    /// Which stages.
    #[command(flatten)]
    selection: SelectionArgs,

    /// For which occasion.
    #[command(flatten)]
    occasion: OccasionArgs,

    /// Set a variable in every container; it wins over the manifest's (may be repeated)
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<Variable>,

    /// Secrets.
    #[command(flatten)]
    secrets: SecretArgs,

    /// A secret whose value is that of the environment's variable of this name (may be repeated)
    #[arg(long = "secret", value_name = "NAME")]
    own_secrets: Vec<String>,

    /// Build what is committed, and nothing else
    #[arg(long)]
    committed: bool,

    /// Mount the folder itself, not a copy: what git ignores is there (target, node_modules), and what a build writes
    /// stays. Its jobs run one after the other, and each sees what those before it left
    #[arg(long, conflicts_with = "committed")]
    in_place: bool,

    /// Pull no image and fetch nothing: what is not on this machine is an error that names it. Files that are included from
    /// other repositories are what they were when they were fetched last
    #[arg(long)]
    offline: bool,

    /// Prepare anew, and begin without caches. Caches are kept for later runs all the same, the prepared image is not: the
    /// next run takes the earlier one again
    #[arg(long)]
    no_cache: bool,

    /// When a stage fails, open a shell in its container, with its workspace and its environment
    #[arg(long)]
    shell: bool,

    /// Keep the container and the workspace of a stage that fails, and say how to look into them
    #[arg(long)]
    keep: bool,

    /// Answer every question with yes: gates open with --input and their defaults
    #[arg(long, short)]
    yes: bool,

    /// How many jobs run at once [default: the cores]
    #[arg(long, short, value_name = "N", conflicts_with = "in_place")]
    jobs: Option<NonZero<usize>>,

    /// Show the output of all stages as it comes, where several run at once too
    #[arg(long, short)]
    verbose: bool,

    /// Show at the end where the time went: a bar for each part, with its milliseconds
    #[arg(long, conflicts_with = "json")]
    timeline: bool,

    /// Print one JSON object per line, and nothing else: what happens, and what is printed
    #[arg(long)]
    json: bool,

    /// Where to leave the output of every stage and the files that are kept: a folder that is new, empty, or an earlier
    /// run's [default: .buildr-out in the folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// How containers are run.
    #[command(flatten)]
    containers: ContainerArgs,
}

fn variable(text: &str) -> Result<Variable, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
            Ok(Variable::new(name, value))
        }
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// Builds, shows it, and ends with the build's exit code.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let tree = folder(&args.path)?;
    if args.shell && !shell::is_possible() {
        let what = "--shell needs a terminal to be opened on".to_owned();
        return Err(CliError::Usage { what, instead: Some("buildr run --keep".to_owned()) });
    }
    // What can be known to be wrong is said before anything is copied, pulled or waited for.
    manifest::load_project(&tree, &elsewhere::repositories(args.offline)?).map_err(RunError::Manifest)?;
    let mut secrets = args.secrets.read().map_err(RunError::Secrets)?;
    secrets.extend(from_environment(&args.own_secrets).map_err(RunError::Secrets)?);
    let life = Life::begin(&folders::cache("run")?)?;
    let docker = args.containers.docker(&life.owner(), life.boot);
    let connect = DockerExecutor::connect(DockerSettings { offline: args.offline, ..docker });
    let stop = Stop::new();
    // Each waits for another: the one for the daemon, the other for the disk.
    let (executor, seen) = tokio::join!(connect, git::describe_tree(&tree, stop.token()));
    let (executor, seen) = (executor.map_err(RunError::Executor)?, seen.map_err(RunError::Tree)?);
    let work = args.containers.work_dir.clone().unwrap_or_else(|| life.folder.join("work"));
    let work = WorkFolder::at(&work).map_err(RunError::Work)?;
    sweep(&life, &work, &args.containers).await?;
    let header = header(&tree, &seen, executor.version());
    let platform = executor.platform();
    let (record, earlier) = results::begin(args.out.as_deref(), &tree, &life)?;
    let frame = if args.json { Frame::Json } else { frame() };
    let style = Style { frame, look: Look::of_stdout(globals.color()), verbose: args.verbose };
    let screen: Screen = Arc::new(Terminal::new(stdout(), style, record));
    screen.header(&header).map_err(CliError::unseen)?;
    let build = Build {
        args: &args,
        tree: &tree,
        seen: &seen,
        life: &life,
        executor: &executor,
        platform: platform.as_deref(),
        work: &work,
        secrets: &secrets,
        earlier: &earlier,
        screen: &screen,
    };
    // Heard until the results are left, too.
    let (ending, _hearing) = build.carry_out(stop).await?;
    // What came to nothing before it had a plan takes nothing away either.
    let takes_over = args.selection.is_partial() || !screen.look_at(|account, _| account.is_planned());
    let earlier = if takes_over { earlier } else { Vec::new() };
    let then = |header: &Header| next(&args, &screen, header, &ending);
    over(&screen, &header, &ending, (&earlier, args.timeline), then)
}

/// All that a build on this machine is made with.
struct Build<'a> {
    args: &'a Args,
    tree: &'a Path,
    seen: &'a TreeCopy,
    life: &'a Life,
    executor: &'a DockerExecutor,
    platform: Option<&'a str>,
    work: &'a WorkFolder,
    secrets: &'a [Variable],
    earlier: &'a [Kept],
    screen: &'a Screen,
}

impl Build<'_> {
    /// Gives how it ended, and what is to be held as long as signals are heard.
    async fn carry_out(&self, stop: Stop) -> Result<(Ending, Hearing), RunError> {
        let Self { args, tree, life, executor, secrets, screen, .. } = *self;
        let archives = screen.look_at(|_, record| record.archives());
        let reports = |job: Option<&JobKey>, stage: &StageName| {
            screen.look_at(|account, record| record.reports_path(account, job, stage))
        };
        let caches = CacheStore::at(life.folder.join("caches"), CACHE_BYTES);
        let looked_into = args.keep || args.shell;
        let aftermath = self.aftermath();
        let own_environment = own_environment();
        let facts = args.occasion.facts(facts(self.seen));
        let order = order(tree, &facts)?;
        // Without a home it had ended before.
        let mirrors = elsewhere::mirrors(args.offline).ok();
        let rooms = Rooms {
            includes: mirrors.as_ref(),
            source: self.source(),
            executor,
            work: self.work,
            socket: &SocketPolicy { mode: SocketMode::Asked, ..SocketPolicy::default() },
            own_environment: &own_environment,
            more_environment: &args.env,
            secrets,
            times: args.containers.limits.times(),
            agent: "local",
            stage_parallelism: cores(),
            archives: Some(&archives),
            reports: Some(&reports),
            caches: Some(&caches),
            keep: if looked_into { KeepContainers::Failed } else { KeepContainers::Nothing },
            visitor: looked_into.then_some(&aftermath),
            ready: Mutex::default(),
        };
        let owner = self.owner(&own_environment, &facts.inputs);
        // All jobs have the one tree, and would write over each other.
        let jobs = if args.in_place { 1 } else { args.jobs.map_or_else(cores, NonZero::get) };
        let ways = Ways { jobs, gatekeeper: &owner };
        let problem = |source| RunError::Disk { doing: "hear signals in", path: tree.to_owned(), source };
        let signals = hear_signals(Arc::clone(screen), stop.clone()).map_err(problem)?;
        let clock = task::spawn("clock", tick(Arc::clone(screen)));
        let ending = runner::run_build(&order, &rooms, &ways, &**screen, &stop).await;
        clock.abort();
        Ok((ending, signals))
    }

    fn source(&self) -> Source<'_> {
        match (self.args.committed, self.args.in_place) {
            (true, _) => Source::Committed(self.tree),
            (_, true) => Source::InPlace(self.tree),
            _ => Source::Tree(self.tree),
        }
    }

    fn aftermath(&self) -> Aftermath<'_> {
        Aftermath {
            screen: Arc::clone(self.screen),
            executor: self.executor,
            shell: self.args.shell,
            kept: self.args.keep.then(|| self.life.folder.join("kept")),
            seen: Mutex::default(),
        }
    }

    fn owner<'o>(&'o self, own_environment: &'o [Variable], inputs: &'o [Variable]) -> Owner<'o> {
        let args = self.args;
        Owner {
            screen: Arc::clone(self.screen),
            selection: &args.selection,
            occasion: &args.occasion,
            earlier: self.earlier,
            here: Here {
                tree: self.seen,
                committed: args.committed,
                in_place: args.in_place,
                secrets: self.secrets,
                more_environment: &args.env,
                own_environment,
                network: args.containers.network.as_deref(),
                platform: self.platform,
            },
            inputs,
            yes: args.yes,
            no_cache: args.no_cache,
            can_ask: can_ask() && !args.json,
            selected: Mutex::new(Selected::default()),
            typing: tokio::sync::Mutex::default(),
        }
    }
}

fn header(tree: &Path, seen: &TreeCopy, docker: Option<&str>) -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION"),
        project: tree.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned()),
        commit: seen.commit.as_ref().map(|commit| commit.short().to_owned()),
        branch: seen.branch.as_ref().map(ToString::to_string),
        changed: seen.changed,
        docker: docker.map(plain),
    }
}

/// Leaves the results, and shows how it ended.
fn over(
    screen: &Screen,
    header: &Header,
    ending: &Ending,
    (earlier, timeline): (&[Kept], bool),
    next: impl FnOnce(&Header) -> Next,
) -> Result<u8, CliError> {
    let took = u64::try_from(screen.took().as_millis()).unwrap_or(u64::MAX);
    let written = screen.look_at(|account, record| results::write(account, record, header, ending, earlier, took));
    let told = match written {
        Ok(()) => Ok(()),
        Err(error) => screen.note(&format!("the results could not be left in their folder: {error}")),
    };
    let shown = told.and_then(|()| if timeline { screen.timeline() } else { Ok(()) });
    // How the build ended is what was asked for.
    shown.and_then(|()| screen.summary(ending, &next(header))).map_err(CliError::unseen)?;
    Ok(ending.outcome.exit_code())
}

/// What a person may want to do now.
fn next(args: &Args, screen: &Screen, header: &Header, ending: &Ending) -> Next {
    let mut commands = Vec::new();
    if ending.outcome == Outcome::Failed {
        let failed = screen.look_at(|account, _| {
            let failed = account.stages.iter().find(|stage| stage.is_bad());
            failed.map(|stage| (stage.stage.to_string(), stage.stage.as_str() == "prepare"))
        });
        let path = if args.path == Path::new(".") {
            String::new()
        } else {
            format!(" {}", word(&args.path.to_string_lossy()))
        };
        if let Some((stage, false)) = failed {
            let again = format!("buildr run{path} --from {}", word(&stage));
            commands.push(("again from there", again.clone()));
            if !args.shell {
                commands.push(("a shell in it", format!("{again} --shell")));
            }
        }
        if header.commit.is_some() {
            commands.push(("on the farm", format!("buildr submit {} --watch", word(&args.path.to_string_lossy()))));
        }
    }
    Next { commands }
}

/// A version without what a distribution adds to it.
fn plain(version: &str) -> String {
    version.split_once('+').map_or(version, |(plain, _)| plain).to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

fn folder(path: &Path) -> Result<PathBuf, RunError> {
    match path.canonicalize() {
        Ok(tree) if tree.is_dir() => Ok(tree),
        Ok(tree) => Err(RunError::NotAFolder(tree)),
        Err(source) => Err(RunError::Disk { doing: "find the folder", path: path.to_owned(), source }),
    }
}

/// What is known of the build before its plan.
fn facts(tree: &TreeCopy) -> Facts {
    Facts {
        branch: tree.branch.clone(),
        commit: tree.commit.clone(),
        default_branch: tree.default_branch.clone(),
        ..Facts::new(protocol::job::TriggerKind::Local)
    }
}

fn order(tree: &Path, facts: &Facts) -> Result<WorkOrder, RunError> {
    let repo: Result<RepoUrl, InvalidSource> = tree.to_string_lossy().parse();
    let repo = repo.map_err(|source| RunError::Name { path: tree.to_owned(), source })?;
    let mut order = WorkOrder::new(JobId::fresh(), facts.event, repo);
    // A person's own tree, on a person's own machine.
    order.trusted = true;
    order.branch.clone_from(&facts.branch);
    order.origin.tag.clone_from(&facts.tag);
    order.origin.target.clone_from(&facts.target);
    order.inputs.clone_from(&facts.inputs);
    Ok(order)
}
