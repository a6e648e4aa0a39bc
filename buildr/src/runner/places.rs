//! The folders of one job on this machine: the workspace, copies of it, and what containers see beside it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::Plan;
use protocol::plan::Image;

use crate::carry::CarryError;
use crate::executor::{Executor, ExecutorError, MountOrder, Stop};
use crate::folder;
use crate::overlay;

/// Where a stage finds what it hands on, in its container.
pub(super) const HAND_TARGET: &str = "/run/buildr/hand";

/// The file for variables, in [`HAND_TARGET`].
pub(super) const HANDED: &str = "env";

/// The file for a summary, in [`HAND_TARGET`].
pub(super) const SUMMARY: &str = "summary";

/// The list of the files that the build changes, in [`HAND_TARGET`].
pub(super) const CHANGED: &str = "changed";

/// The name of the folder that is [`HAND_TARGET`] for the first stage of a job, where it was made before the job came.
const HAND_AHEAD: &str = "hand-ahead";

/// The folder of one job, in which all others of it are made.
pub(super) struct Places<'a> {
    folder: &'a Path,
    made: AtomicU32,
    /// Where a stage to come will find what it hands on, when that was made before its turn.
    hand_ahead: Mutex<Option<PathBuf>>,
    executor: &'a dyn Executor,
    /// What its stages run in, each once.
    images: Vec<&'a Image>,
}

impl<'a> Places<'a> {
    pub(super) fn new(folder: &'a Path, executor: &'a dyn Executor, plan: &'a Plan) -> Self {
        let mut images = vec![&plan.image];
        for image in plan.stages.iter().filter_map(|stage| stage.image.as_ref()) {
            if !images.contains(&image) {
                images.push(image);
            }
        }
        // Such a folder is there when a container stands ready that sees it.
        let hand_ahead = Mutex::new(Some(folder.join(HAND_AHEAD)).filter(|hand| hand.is_dir()));
        Self { folder, made: AtomicU32::new(0), hand_ahead, executor, images }
    }

    /// The path of a folder that is not there yet.
    pub(super) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{what}-{number}"))
    }

    /// Copies a workspace, to which nobody writes as long as the copy is in use. Gives the copy, and a sentence about
    /// what had to be left out of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) async fn copy(&self, of: &Path, stop: &Stop) -> io::Result<(PathBuf, Option<String>)> {
        let (of, to, stop) = (of.to_owned(), self.fresh("view"), stop.clone());
        let copied = to.clone();
        let left_out = blocking(move || {
            fs::create_dir(&copied)?;
            fs::set_permissions(&copied, fs::metadata(&of)?.permissions())?;
            copy_or_lay(&of, &copied, &|| stop.is_cancelled())
        })
        .await?;
        let said = folder::named(&left_out)
            .map(|names| format!("left out of a copy of the workspace, as only another user may read it: {names}"));
        Ok((to, said))
    }

    /// The folder in which a stage hands on values and a summary, as its container sees it. Nobody had it before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn hand(&self, changed: Option<&[String]>) -> io::Result<MountOrder> {
        let ahead = self.ahead().take();
        let source = match ahead {
            Some(source) => source,
            None => make_hand(self.fresh("hand"))?,
        };
        if let Some(changed) = changed {
            let lines: String = changed.iter().map(|path| format!("{path}\n")).collect();
            fs::write(source.join(CHANGED), lines)?;
            fs::set_permissions(source.join(CHANGED), Permissions::from_mode(0o444))?;
        }
        Ok(hand_at(source))
    }

    /// The same, of the next stage that asks for it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn hand_ahead(&self) -> io::Result<MountOrder> {
        let mut ahead = self.ahead();
        let source = match &*ahead {
            Some(source) => source.clone(),
            None => ahead.insert(make_hand(self.fresh("hand"))?).clone(),
        };
        Ok(hand_at(source))
    }

    fn ahead(&self) -> MutexGuard<'_, Option<PathBuf>> {
        // Each change is one step.
        self.hand_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies all that lies in a folder into a workspace, also where only a container may write. Its image is one of this
    /// job's: another build's would have its hands in this one's files.
    ///
    /// # Errors
    /// When it could not.
    pub(super) async fn bring(&self, from: &Path, workspace: &Path) -> Result<(), ExecutorError> {
        self.executor.bring(from, workspace, &self.images).await
    }

    /// Removes what is not needed any more. What stays goes with the job's folder.
    pub(super) async fn discard(&self, folder: &Path) {
        let mounted = folder.to_owned();
        let unmounted = blocking(move || overlay::remove(&mounted)).await;
        let unmounted = unmounted.map_err(|source| ExecutorError::Disk { doing: "unmount".to_owned(), source });
        let removed = match unmounted {
            Ok(()) => self.executor.discard(folder).await,
            error => error,
        };
        if let Err(error) = removed {
            tracing::debug!(%error, "a folder stays until its job is over");
        }
    }
}

/// The folder in which the first stage of a job hands on, in the folder of a job that is not known yet.
///
/// # Errors
/// When the disk refuses.
pub(super) fn first_hand(folder: &Path) -> io::Result<MountOrder> {
    Ok(hand_at(make_hand(folder.join(HAND_AHEAD))?))
}

fn make_hand(source: PathBuf) -> io::Result<PathBuf> {
    fs::create_dir(&source)?;
    // Whichever user the container runs as.
    fs::set_permissions(&source, Permissions::from_mode(0o777))?;
    for name in [HANDED, SUMMARY] {
        fs::write(source.join(name), "")?;
        fs::set_permissions(source.join(name), Permissions::from_mode(0o666))?;
    }
    Ok(source)
}

fn hand_at(source: PathBuf) -> MountOrder {
    MountOrder { source, target: HAND_TARGET.to_owned(), read_only: false }
}

/// Makes an empty folder what another one is, to which nobody writes as long as the new one is in use: an overlay over
/// the same as that where that is one, else a copy. Gives what it may not read, and has left out.
pub(super) fn copy_or_lay(from: &Path, to: &Path, stopped: &dyn Fn() -> bool) -> io::Result<Vec<PathBuf>> {
    if let Some(layers) = overlay::lowers_of(from) {
        match overlay::lay(&layers, to) {
            Ok(()) => return Ok(Vec::new()),
            // Such as one that lies over too many.
            Err(error) => tracing::debug!(%error, "a workspace is copied, not laid over"),
        }
    }
    folder::copy(from, to, stopped)
}

/// Work on the disk, on a thread that may wait for it.
pub(super) async fn blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

/// Such work on a stage's files, which has errors of its own.
pub(super) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CarryError> + Send + 'static,
) -> Result<T, CarryError> {
    let done = blocking(move || Ok::<_, io::Error>(work())).await;
    done.unwrap_or_else(|source| Err(CarryError::Disk { doing: "work on a stage's files".to_owned(), source }))
}
