//! A folder for each job, removed whatever happens: at the job's end, or by the next sweep.

use std::fs::{DirEntry, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use protocol::RepoUrl;
use uuid::Uuid;

use super::places::blocking;
use crate::executor::{Executor, ExecutorError};
use crate::folder;
use crate::git::Checkouts;
use crate::overlay::{self, Ground, Trial, Way};

/// The folder under which workspaces are made. Several processes may share it.
#[derive(Debug, Clone)]
pub struct WorkFolder {
    root: PathBuf,
    choice: WorkspaceChoice,
    /// How code comes into workspaces, once that is found out.
    settled: Arc<Mutex<Option<Settled>>>,
}

/// How the code of a repository may come into a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkspaceChoice {
    /// As an overlay where that can be had, else as a copy.
    #[default]
    Auto,
    /// As an overlay, or not at all.
    Overlay,
    /// As a copy.
    Copy,
}

/// How the code of a repository comes into workspaces, and why in no better way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// How.
    pub way: Way,
    /// Why there are no overlays; none when there are, or nobody wants them.
    pub because: Option<String>,
}

/// One job's folder. It holds a lock for as long as its process lives, so that a sweep sees whether it is in use.
#[derive(Debug)]
pub struct Workspace {
    folder: PathBuf,
    ground: Arc<Ground>,
    ahead: Option<Ahead>,
    _lock: File,
}

/// What a workspace was made for before its job was known.
#[derive(Debug)]
struct Ahead {
    repo: RepoUrl,
    /// The [`Ground::turn`] over which a container may stand.
    turn: u32,
}

/// Why a workspace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The disk refuses.
    #[error("failed to make a workspace in {}: {source}; choose another folder with --work-dir", folder.display())]
    Disk {
        /// Where.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Overlays are asked for and cannot be had.
    #[error(
        "workspaces cannot be overlays, as --workspace overlay asks: {because}; with --workspace auto they are copies then"
    )]
    NoOverlay {
        /// Why not.
        because: String,
    },
}

const CHECKOUT: &str = "app";
const LOCK: &str = "lock";

impl WorkFolder {
    /// Uses a folder, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be made or found.
    pub fn at(root: &Path) -> Result<Self, WorkspaceError> {
        let problem = |source| WorkspaceError::Disk { folder: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(problem)?;
        // The daemon is given this path, so links in it must be followed here.
        let root = root.canonicalize().map_err(problem)?;
        Ok(Self { root, choice: WorkspaceChoice::Copy, settled: Arc::default() })
    }

    /// The same, in which the code of repositories comes into workspaces as `choice` has it. Without this it is copied.
    #[must_use]
    pub fn with(self, choice: WorkspaceChoice) -> Self {
        Self { choice, settled: Arc::default(), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Finds out how code comes into workspaces here, unless that is known: whether this process may mount, and whether
    /// the executor's containers see what it mounts. While that cannot be told they are copies. `kept` is the folder
    /// beside whose mirrors checkouts are kept.
    ///
    /// # Errors
    /// When overlays were asked for and cannot be had.
    pub async fn settle(&self, executor: &dyn Executor, kept: &Path) -> Result<Settled, WorkspaceError> {
        if let Some(settled) = self.settled() {
            return Ok(settled);
        }
        let tried = match self.choice {
            WorkspaceChoice::Copy => Some(Err(None)),
            WorkspaceChoice::Auto | WorkspaceChoice::Overlay => {
                self.try_overlay(executor).await.map(|tried| tried.map_err(Some))
            }
        };
        let settled = match tried {
            Some(Ok(())) => Settled { way: Way::Overlay, because: None },
            Some(Err(Some(because))) if self.choice == WorkspaceChoice::Overlay => {
                return Err(WorkspaceError::NoOverlay { because });
            }
            Some(Err(because)) => Settled { way: self.copies(kept).await, because },
            None => {
                let because = "whether containers see what is mounted here cannot be told yet".to_owned();
                return Ok(Settled { way: Way::Plain, because: Some(because) });
            }
        };
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(settled.clone());
        Ok(settled)
    }

    /// Why overlays cannot be had here, if not; nothing while nobody can tell.
    async fn try_overlay(&self, executor: &dyn Executor) -> Option<Result<(), String>> {
        let root = self.root.clone();
        let tried = blocking(move || {
            // While this is held no sweep takes it away.
            let lock = File::open(&root)?;
            lock.lock_shared()?;
            let trial = Trial::make(root.join(format!(".{}", Uuid::new_v4().simple())))?;
            let nonce = trial.nonce()?;
            Ok::<_, io::Error>((lock, trial, nonce))
        });
        let (lock, trial, nonce) = match tried.await {
            Ok(tried) => tried,
            Err(error) => return Some(Err(format!("an overlay in {} failed: {error}", self.root.display()))),
        };
        let seen = executor.sees(&nonce).await;
        let ended = blocking(move || {
            drop((trial, lock));
            Ok::<_, io::Error>(())
        });
        // It cannot fail: what stays is said by the trial itself.
        ended.await.ok();
        let why = "containers do not see what this process mounts; share its mounts with the Docker daemon";
        seen.map(|seen| if seen { Ok(()) } else { Err(why.to_owned()) })
    }

    /// How copies are made here.
    async fn copies(&self, kept: &Path) -> Way {
        let (kept, root) = (kept.to_owned(), self.root.clone());
        let shares = blocking(move || {
            // As the first checkout would: private repositories are kept there.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&kept)?;
            Ok::<_, io::Error>(overlay::shares_blocks(&kept, &root))
        })
        .await;
        if shares.unwrap_or(false) { Way::Reflink } else { Way::Plain }
    }

    fn settled(&self) -> Option<Settled> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes an empty workspace. Into it code comes as [`WorkFolder::settle`] has found; before that, as a copy.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn open(&self) -> Result<Workspace, WorkspaceError> {
        let folder = self.root.join(Uuid::new_v4().simple().to_string());
        let making = self.root.join(format!(".{}", Uuid::new_v4().simple()));
        let made = || -> io::Result<File> {
            // While this is held no sweep touches what is being made.
            let root = File::open(&self.root)?;
            root.lock_shared()?;
            // The lock is taken before the folder can be seen under its own name: a sweep never finds it unlocked.
            // In it lies a repository's code, and what stages hand on: nobody else on this machine looks into it.
            std::fs::DirBuilder::new().mode(0o700).create(&making)?;
            let lock = File::create(making.join(LOCK))?;
            lock.lock()?;
            std::fs::create_dir(making.join(CHECKOUT))?;
            std::fs::rename(&making, &folder)?;
            Ok(lock)
        };
        let lock = made().map_err(|source| {
            std::fs::remove_dir_all(&making).ok();
            WorkspaceError::Disk { folder: self.root.clone(), source }
        })?;
        let way = self.settled().unwrap_or_default().way;
        let ground = Arc::new(Ground::new(folder.join(CHECKOUT), way));
        Ok(Workspace { folder, ground, ahead: None, _lock: lock })
    }

    /// Removes the workspaces of processes that are no more. Returns how many.
    ///
    /// # Errors
    /// When something stays: all the rest is removed, and what stays is left to the next sweep.
    pub async fn sweep(&self, executor: &dyn Executor) -> Result<usize, ExecutorError> {
        let problem = |source| ExecutorError::Disk { doing: format!("look through {}", self.root.display()), source };
        let (mut removed, mut failed) = (self.sweep_half_made().map_err(problem)?, None);
        for entry in std::fs::read_dir(&self.root).map_err(problem)? {
            let entry = entry.map_err(problem)?;
            let folder = entry.path();
            // Whatever else lies there is somebody else's, also when it has a lock of its own.
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_folder || !is_workspace(&entry) {
                continue;
            }
            let Ok(lock) = File::open(folder.join(LOCK)) else {
                // Nothing, unless its process ended between its lock and itself. What is not empty is somebody else's.
                removed += usize::from(std::fs::remove_dir(&folder).is_ok());
                continue;
            };
            if lock.try_lock().is_ok() {
                // The mounts of a process that was killed are still there.
                overlay::unmount_below(&folder).map_err(problem)?;
                match remove(&folder, executor).await {
                    Ok(()) => removed += 1,
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// Removes what somebody died over, or met a full disk with, before it was a workspace. No clock is asked how old
    /// it is: nobody makes one while this goes on.
    fn sweep_half_made(&self) -> io::Result<usize> {
        let root = File::open(&self.root)?;
        if root.try_lock().is_err() {
            return Ok(0);
        }
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            if is_being_made(&entry) {
                overlay::unmount_below(&entry.path())?;
                folder::remove(&entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Whether it has the name of a workspace that is not yet whole. No other name is ours to remove, with all that is in it,
/// without its lock.
fn is_being_made(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let digits = name.to_str().and_then(|name| name.strip_prefix('.'));
    digits.is_some_and(|digits| Uuid::try_parse(digits).is_ok())
}

/// Whether it has the name of a workspace.
fn is_workspace(entry: &DirEntry) -> bool {
    entry.file_name().to_str().is_some_and(|name| Uuid::try_parse(name).is_ok())
}

/// Removes a workspace from the disk, its lock last: whoever finds what is half removed sees by it whose that is.
async fn remove(folder: &Path, executor: &dyn Executor) -> Result<(), ExecutorError> {
    let doing = || format!("look through {}", folder.display());
    let problem = |source| ExecutorError::Disk { doing: doing(), source };
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        if entry.file_name() != LOCK {
            executor.discard(&entry.path()).await?;
        }
    }
    executor.discard(folder).await
}

impl Workspace {
    /// Where the code goes, and what containers see.
    #[must_use]
    pub fn checkout(&self) -> PathBuf {
        self.folder.join(CHECKOUT)
    }

    /// The same, as that into which code comes. It may be laid ahead over what is kept of a repository
    /// ([`crate::git::Checkouts::lay_ahead`]), before a job is known and before a container is started over it.
    #[must_use]
    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// The folder that it lies in, where the job may make others.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes it ready for a job of `repo` that is not known yet; says whether a container may be started over it. Not
    /// where code will come as an overlay, and nothing is kept of the repository to lie over.
    pub async fn foresee(&mut self, checkouts: &Checkouts, repo: &RepoUrl) -> bool {
        let laid = match self.ground.way() {
            Way::Overlay => checkouts.lay_ahead(repo, &self.ground).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "a workspace does not stand ready");
                false
            }),
            Way::Reflink | Way::Plain => true,
        };
        self.ahead = Some(Ahead { repo: repo.clone(), turn: self.ground.turn() });
        laid
    }

    /// Whether a job of this repository may have it.
    pub(super) fn suits(&self, repo: &RepoUrl) -> bool {
        self.ground.lower().is_none() || self.ahead.as_ref().is_none_or(|ahead| ahead.repo == *repo)
    }

    /// Whether another folder has come to its path since a container could be started over it.
    pub(super) fn has_turned(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.turn != self.ground.turn())
    }

    /// Takes all out of it that lies in its checkout.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) async fn empty(&self) -> io::Result<()> {
        let ground = Arc::clone(&self.ground);
        blocking(move || {
            ground.clear()?;
            ground.turned();
            let permissions = std::fs::metadata(ground.at())?.permissions();
            folder::remove(ground.at())?;
            std::fs::create_dir(ground.at())?;
            std::fs::set_permissions(ground.at(), permissions)
        })
        .await
    }

    /// Removes it before any job had it, with what stands ready over it. What stays is left to the next sweep.
    pub async fn let_go(self, executor: &dyn Executor) {
        if let Err(error) = executor.stand_down(&self.checkout()).await {
            tracing::warn!(%error, "what stood ready stays until the next sweep");
        }
        if let Err(error) = self.discard(executor).await {
            tracing::warn!(%error, "a workspace stays until the next sweep");
        }
    }

    /// Removes it, with all that containers left in it.
    ///
    /// # Errors
    /// When something of it stays.
    pub async fn discard(self, executor: &dyn Executor) -> Result<(), ExecutorError> {
        let Self { folder, ground, ahead: _, _lock } = self;
        if ground.way() == Way::Overlay {
            let below = folder.clone();
            let unmounted = blocking(move || {
                ground.clear()?;
                overlay::unmount_below(&below)
            });
            let doing = || format!("unmount what is in {}", folder.display());
            unmounted.await.map_err(|source| ExecutorError::Disk { doing: doing(), source })?;
        }
        remove(&folder, executor).await
    }
}
