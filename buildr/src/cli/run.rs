//! `buildr run`: the build of the folder at hand, by the same code as on the farm.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use protocol::job::{TriggerKind, WorkOrder};
use protocol::source::InvalidSource;
use protocol::{BootId, JobId, RepoUrl, Variable, task};

use super::containers::{ContainerArgs, own_environment};
use super::globals::Globals;
use super::secrets::{SecretArgs, SecretError};
use super::terminal::{Frame, Style, Terminal};
use super::{CliError, exit};
use crate::executor::docker::DockerExecutor;
use crate::executor::{Executor as _, ExecutorError, Stop};
use crate::manifest::{self, ManifestError};
use crate::process::folders;
use crate::process::signals::Signals;
use crate::runner::{self, Rooms, SocketMode, SocketPolicy, Source, WorkFolder, WorkspaceError};

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

/// Why a build could not even begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// There is nothing to build.
    #[error("{} is not a folder; `buildr run` takes the folder with the .buildr.yml", .0.display())]
    NotAFolder(PathBuf),
    /// The folder's name cannot be used.
    #[error("the folder {} cannot be named", path.display())]
    Name {
        path: PathBuf,
        #[source]
        source: InvalidSource,
    },
    /// Something on the disk.
    #[error("failed to {doing} {}", path.display())]
    Disk {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// There is no manifest to go by.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The secrets.
    #[error(transparent)]
    Secrets(SecretError),
    /// The folder for workspaces.
    #[error(transparent)]
    Work(#[from] WorkspaceError),
    /// The daemon.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
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
    let frame = if stdout().is_terminal() { Frame::Headings } else { Frame::Prefixes };
    let terminal = Terminal::new(stdout(), Style { frame, color: globals.color().is_on(&stdout()) });
    let stop = Stop::new();
    let signals = task::spawn("signals", stop_on_signals(stop.clone()));
    let ending = runner::run(&order, &rooms, &terminal, &stop).await;
    signals.abort();
    match terminal.summary(&ending) {
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

/// The first signal cancels and cleans up, the second kills. The third is for one whose output nobody takes off: it
/// ends where it stands, and what it leaves is removed by the next run.
async fn stop_on_signals(stop: Stop) {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return tracing::error!(%error, "Ctrl-C is not heard"),
    };
    signals.hear_hangup();
    signals.next().await;
    // The terminal may be gone.
    writeln!(io::stderr(), "\ncancelling, and cleaning up (again: kill at once)").ok();
    stop.cancel();
    signals.next().await;
    writeln!(io::stderr(), "killing (again: end here; the next run removes what is left)").ok();
    stop.kill();
    signals.next().await;
    std::process::exit(exit::CANCELLED.into());
}

/// One run of this command. Several may go on at once; a lock file each tells which of them still live.
struct Life {
    folder: PathBuf,
    boot: BootId,
    _lock: File,
}

const OWNER: &str = "run-";

impl Life {
    fn begin(folder: &Path) -> Result<Self, RunError> {
        let lives = folder.join("lives");
        let problem = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Disk { doing, path, source }
        };
        std::fs::create_dir_all(&lives).map_err(problem("make the folder", &lives))?;
        let boot = BootId::fresh();
        let path = lives.join(boot.to_string());
        let lock = File::create(&path).map_err(problem("write", &path))?;
        lock.lock().map_err(problem("lock", &path))?;
        Ok(Self { folder: folder.to_owned(), boot, _lock: lock })
    }

    /// What everything that this run makes is labelled with.
    fn owner(&self) -> String {
        format!("{OWNER}{}", self.boot)
    }

    /// The runs that died without cleaning up.
    fn dead(&self) -> Result<Vec<(PathBuf, BootId)>, RunError> {
        let lives = self.folder.join("lives");
        let problem = |source| RunError::Disk { doing: "look through", path: lives.clone(), source };
        let mut dead = Vec::new();
        for entry in std::fs::read_dir(&lives).map_err(problem)? {
            let path = entry.map_err(problem)?.path();
            let Some(boot) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()) else {
                continue;
            };
            if boot != self.boot && File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
                dead.push((path, boot));
            }
        }
        Ok(dead)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // What stays is found dead by the next run.
        std::fs::remove_file(self.folder.join("lives").join(self.boot.to_string())).ok();
    }
}

/// Removes what runs that were killed have left.
async fn sweep(life: &Life, work: &WorkFolder, containers: &ContainerArgs) -> Result<(), RunError> {
    let mut swept = false;
    for (path, boot) in life.dead()? {
        let theirs = DockerExecutor::connect(containers.docker(&format!("{OWNER}{boot}"), life.boot)).await?;
        theirs.sweep().await?;
        work.sweep(&theirs).await?;
        std::fs::remove_file(path).ok();
        swept = true;
    }
    if swept {
        tracing::info!("removed what earlier runs had left");
    }
    Ok(())
}
