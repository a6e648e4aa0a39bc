//! `buildr run`: the build of the folder at hand, by the same code as on the farm.

mod error;
mod life;
mod screen;

use std::io::{self, stdout};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::job::{TriggerKind, WorkOrder};
use protocol::source::InvalidSource;
use protocol::{JobId, RepoUrl, Variable, task};

use super::CliError;
use super::containers::{ContainerArgs, own_environment};
use super::globals::Globals;
use super::look::Look;
use super::secrets::SecretArgs;
use super::terminal::{Frame, Header, Next, Record, Style, Terminal};
use crate::executor::Stop;
use crate::executor::docker::DockerExecutor;
use crate::manifest;
use crate::process::folders;
use crate::runner::{self, Rooms, SocketMode, SocketPolicy, Source, WorkFolder};
use crate::sink::BuildSink as _;
use life::{Life, sweep};
use screen::{Screen, frame, stop_on_signals, tick};

pub(super) use error::RunError;

/// Where a run leaves its results, in the tree.
const OUT: &str = ".buildr-out";

/// Build the folder at hand, in containers, as the farm would
///
/// What is built is a copy: the files that git tracks and those that it does not ignore, changed or not. Ctrl-C cancels
/// and cleans up; a second one kills at once.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder with the .buildr.yml
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,

    /// Set a variable in every container; it wins over the manifest's (may be repeated)
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<Variable>,

    /// Show the output of all stages as it comes, where several run at once too
    #[arg(long, short)]
    verbose: bool,

    /// Print one JSON object per line, and nothing else: what happens, and what is printed
    #[arg(long)]
    json: bool,

    /// Where to leave the output of every stage and the files that are kept [default: .buildr-out in the folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Secrets.
    #[command(flatten)]
    secrets: SecretArgs,

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
    // What can be known to be wrong is said before anything is copied, pulled or waited for.
    manifest::load(&tree).map_err(RunError::Manifest)?;
    let secrets = args.secrets.read().map_err(RunError::Secrets)?;
    let life = Life::begin(&folders::cache("run")?)?;
    let connect = DockerExecutor::connect(args.containers.docker(&life.owner(), life.boot));
    let executor = connect.await.map_err(RunError::Executor)?;
    let work = args.containers.work_dir.clone().unwrap_or_else(|| life.folder.join("work"));
    let work = WorkFolder::at(&work).map_err(RunError::Work)?;
    sweep(&life, &work, &args.containers).await?;
    let order = order(&tree)?;
    let rooms = Rooms {
        source: Source::Tree(&tree),
        executor: &executor,
        work: &work,
        socket: &SocketPolicy { mode: SocketMode::Asked, ..SocketPolicy::default() },
        own_environment: &own_environment(),
        more_environment: &args.env,
        secrets: &secrets,
        times: args.containers.limits.times(),
        agent: "local",
        stage_parallelism: std::thread::available_parallelism().map_or(1, NonZero::get),
        archives: None,
    };
    let record = record(&args, &tree, &life)?;
    let frame = if args.json { Frame::Json } else { frame() };
    let style = Style { frame, look: Look::of_stdout(globals.color()), verbose: args.verbose };
    let terminal: Screen = Arc::new(Terminal::new(stdout(), style, record));
    terminal
        .header(&Header { version: env!("CARGO_PKG_VERSION"), project: name_of(&tree), ..Header::default() })
        .map_err(CliError::Output)?;
    let stop = Stop::new();
    let signals = task::spawn("signals", stop_on_signals(Arc::clone(&terminal), stop.clone()));
    let clock = task::spawn("clock", tick(Arc::clone(&terminal)));
    let ending = runner::run(&order, &rooms, &*terminal.of_job(None), &stop).await;
    clock.abort();
    signals.abort();
    match terminal.summary(&ending, &Next::default()) {
        // How the build ended is what was asked for, and nobody sees it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(CliError::Unread),
        written => written.map_err(CliError::Output)?,
    }
    Ok(ending.outcome.exit_code())
}

fn folder(path: &Path) -> Result<PathBuf, RunError> {
    match path.canonicalize() {
        Ok(tree) if tree.is_dir() => Ok(tree),
        Ok(tree) => Err(RunError::NotAFolder(tree)),
        Err(source) => Err(RunError::Disk { doing: "find the folder", path: path.to_owned(), source }),
    }
}

fn order(tree: &Path) -> Result<WorkOrder, RunError> {
    let repo: Result<RepoUrl, InvalidSource> = tree.to_string_lossy().parse();
    let repo = repo.map_err(|source| RunError::Name { path: tree.to_owned(), source })?;
    // A person's own tree, on a person's own machine.
    Ok(WorkOrder { trusted: true, ..WorkOrder::new(JobId::fresh(), TriggerKind::Local, repo) })
}

fn name_of(tree: &Path) -> String {
    tree.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The folder of the run. In the tree where nobody named another: unless that cannot be written, or another run does.
fn record(args: &Args, tree: &Path, life: &Life) -> Result<Record, RunError> {
    let problem = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Disk { doing: "write the results to", path, source }
    };
    if let Some(out) = &args.out {
        return Record::begin(out).map_err(problem(out))?.ok_or_else(|| RunError::Busy(out.clone()));
    }
    if let Ok(Some(record)) = Record::begin(&tree.join(OUT)) {
        return Ok(record);
    }
    let out = life.folder.join("out").join(life.boot.to_string());
    let record = Record::begin(&out).map_err(problem(&out))?;
    record.ok_or(RunError::Busy(out))
}
