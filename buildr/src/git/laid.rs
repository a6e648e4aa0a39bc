//! A checkout that is laid over a kept one: what the commit has otherwise is written, and nothing else.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use git2::Repository;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::CheckedOut;
use super::bring::{Brought, bring};
use super::change::{Change, unwritten};
use super::checkout::Write;
use super::error::GitError;
use super::listing::Asked;
use super::lower::{Lower, Lowers, Named, Spent};
use super::mirror::{Mirror, refs_of};
use super::names::Names;
use super::objects;
use super::order::Order;
use super::remote::{Progress, Session};
use super::spare;
use super::times;
use crate::folder;
use crate::overlay::{self, Ground, Way};

/// Between two looks whether another has made the kept checkout that both need.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Checks out what is asked for onto a ground, which is empty or lies ahead over a kept checkout of the same
/// repository; or leaves it empty. On a thread that may block.
pub(super) fn run(order: &Order, asked: &Asked, ground: &Ground, progress: &Progress) -> Result<CheckedOut, GitError> {
    let done = bring(order, asked, progress, |brought, shared| {
        order.writes()?;
        let laid = Laying { brought, ground };
        match laid.out() {
            // Written anew it would be no other.
            Err(error @ (GitError::Cancelled | GitError::Misleading { .. })) => Err(error),
            Ok(Some(done)) => Ok(done),
            other => {
                if let Err(error) = other {
                    tracing::warn!(%error, url = brought.session.url, "a kept checkout could not be used");
                    laid.lowers().forget();
                }
                laid.clear()?;
                Write { brought, into: ground.at() }.whole(shared)
            }
        }
    });
    if done.is_err() {
        ground.clear().map_err(GitError::disk("empty", ground.at()))?;
    }
    done
}

/// Lays a ground over the kept checkout of the order's repository, before anybody knows which commit is wanted; says
/// whether there is one. Nothing is fetched. On a thread that may block.
pub(super) fn ahead(order: &Order, ground: &Ground, progress: &Progress) -> Result<bool, GitError> {
    order.writes()?;
    if ground.way() != Way::Overlay {
        return Ok(false);
    }
    let session = Session::new(order, progress);
    let mirror = Mirror::new(&order.cache, &session.url, &order.locks);
    let Some(lower) = Lowers::of(mirror.folder()).current() else { return Ok(false) };
    let tree = lower.tree();
    ground.lay(&tree, lower.lock).map_err(GitError::disk("lay an overlay over", tree))?;
    Ok(true)
}

struct Laying<'a> {
    brought: &'a Brought<'a>,
    ground: &'a Ground,
}

impl Laying<'_> {
    fn lowers(&self) -> Lowers {
        Lowers::of(self.brought.mirror.folder())
    }

    fn clear(&self) -> Result<(), GitError> {
        self.ground.clear().and_then(|()| empty(self.ground.at())).map_err(GitError::disk("empty", self.ground.at()))
    }

    /// The checkout; none when this ground takes none of this kind.
    fn out(&self) -> Result<Option<CheckedOut>, GitError> {
        let Brought { order, mirror, want, session, .. } = *self.brought;
        if self.ground.way() == Way::Plain {
            return Ok(None);
        }
        let failed = |error: git2::Error| self.write().not_written(&error);
        let objects = mirror.open().map_err(failed)?;
        let ahead = self.ground.lower().map(|tree| self.lowers().under(&tree));
        let names = &Names::of(self.brought, refs_of(&objects).map_err(failed)?)?;
        let (lower, change) = match ahead {
            Some(Some(lower)) => {
                let change = self.change(&objects, &lower).map_err(failed)?;
                (lower, change)
            }
            // It lies over another repository.
            Some(None) => {
                self.clear()?;
                self.lower(&objects, names)?
            }
            None => self.lower(&objects, names)?,
        };
        let spent = Spent { files: change.files(), bytes: change.bytes, turned: change.written(), last: None };
        let before = self.spend(&lower, Spent { last: Some(want.commit.to_string()), ..spent })?;
        if self.ground.lower().is_none() {
            self.lay(&lower, order)?;
        }
        let commit = objects.find_commit(want.commit).map_err(failed)?;
        let git = self.ground.at().join(".git");
        objects::copy_objects(&mirror.folder().join("objects"), &git.join("objects"), &order.stop)?;
        // Names tell the commit too: where they are the same, nothing else is otherwise.
        if lower.facts.names != names.digest() {
            names.write(&git, lower.facts.settings_bytes)?;
            if !change.is_empty() {
                self.write_files(&change)?;
            }
            names.write_head(&git)?;
        }
        session.go_on()?;
        self.touch(&before, &change, &lower, &commit)?;
        if lower.is_open() && self.ground.way() == Way::Overlay {
            overlay::open_written(self.ground.at()).map_err(GitError::disk("open", self.ground.at()))?;
        }
        Ok(Some(self.write().done(&commit)))
    }

    /// The kept checkout to lie over, made when there is none that is worth it, and what is to be written over it.
    fn lower(&self, objects: &Repository, names: &Names) -> Result<(Lower, Change), GitError> {
        let Brought { order, want, .. } = *self.brought;
        let lowers = self.lowers();
        loop {
            let mut turned = Default::default();
            if let Some(lower) = lowers.current() {
                // One that cannot be compared is of commits that are no more.
                if let Ok(change) = self.change(objects, &lower) {
                    if !lower.is_worn(change.files(), change.bytes) {
                        return Ok((lower, change));
                    }
                    turned = lower.spent().map(|spent| spent.turned).unwrap_or_default();
                    turned.extend(change.written());
                }
            }
            let before = lowers.current_name();
            match lowers.turn()? {
                // Somebody else may have made one while we looked.
                Some(_turn) if lowers.current_name() == before => {
                    let lower = lowers.make(&want.commit.to_string(), turned, |tree| {
                        Write { brought: self.brought, into: tree }.bare_of_names()?;
                        let git = tree.join(".git");
                        let settings = fs::metadata(git.join("config")).map_err(GitError::disk("read", &git))?.len();
                        names.write(&git, settings)?;
                        names.write_head(&git)?;
                        Ok(Named { names: names.digest(), settings })
                    })?;
                    return Ok((lower, Change::default()));
                }
                Some(_) => {}
                None => {
                    let wait = async { order.stop.run_until_cancelled(tokio::time::sleep(BETWEEN_LOOKS)).await };
                    order.runtime.block_on(wait).ok_or(GitError::Cancelled)?;
                }
            }
        }
    }

    fn change(&self, objects: &Repository, lower: &Lower) -> Result<Change, git2::Error> {
        Change::between(objects, lower.facts.commit.parse()?, self.brought.want.commit)
    }

    fn spend(&self, lower: &Lower, more: Spent) -> Result<Spent, GitError> {
        lower.spend(more).map_err(GitError::disk("note what is written over", lower.tree()))
    }

    /// Makes the ground what the kept checkout is.
    fn lay(&self, lower: &Lower, order: &Order) -> Result<(), GitError> {
        let (tree, at) = (lower.tree(), self.ground.at());
        if self.ground.way() == Way::Overlay {
            let kept = lower.lock.try_clone().map_err(GitError::disk("lock", tree.clone()))?;
            return self.ground.lay(&tree, kept).map_err(GitError::disk("lay an overlay over", tree));
        }
        let copied = folder::copy(&tree, at, &|| order.stop.is_cancelled());
        let left_out = copied.map_err(GitError::disk("copy to", at))?;
        match left_out.first() {
            Some(path) => Err(GitError::disk("read", path)(io::ErrorKind::PermissionDenied.into())),
            None if order.stop.is_cancelled() => Err(GitError::Cancelled),
            None => times::note(at),
        }
    }

    fn write_files(&self, change: &Change) -> Result<(), GitError> {
        let (write, at) = (self.write(), self.ground.at());
        let failed = |error: &git2::Error| write.not_written(error);
        let repository = Repository::open(at).map_err(|error| failed(&error))?;
        let commit = repository.find_commit(self.brought.want.commit).map_err(|error| failed(&error))?;
        write.look_at_gitmodules(&repository, &commit)?;
        change.apply(&repository, at, &commit, failed)?;
        self.brought.session.go_on()
    }

    /// Makes those files new that are here as they were kept, and that a build since saw otherwise. What comes with a
    /// cache of that build would else seem to be made of these.
    fn touch(&self, before: &Spent, change: &Change, lower: &Lower, commit: &git2::Commit<'_>) -> Result<(), GitError> {
        let mut files = 0;
        let written = change.written();
        let tree = commit.tree().map_err(|error| self.write().not_written(&error))?;
        for path in before.turned.iter().filter(|path| !written.contains(*path)).filter_map(|path| unwritten(path)) {
            let path = Path::new(OsStr::from_bytes(&path));
            // Only what the commit has: no way leads through a link there.
            if tree.get_path(path).is_ok_and(|entry| entry.kind() == Some(git2::ObjectType::Blob)) {
                let (place, now) = (self.ground.at().join(path), TimeSpec::UTIME_NOW);
                let touched = utimensat(AT_FDCWD, &place, &now, &now, UtimensatFlags::NoFollowSymlink);
                touched.map_err(|error| GitError::disk("touch", place)(error.into()))?;
                files += 1;
            }
        }
        let upper = overlay::upper_of(self.ground.at());
        let bytes = upper.map_or(0, |upper| spare::size(&upper.join(".git/objects")));
        self.spend(lower, Spent { files, bytes, ..Spent::default() }).map(drop)
    }

    fn write(&self) -> Write<'_> {
        Write { brought: self.brought, into: self.ground.at() }
    }
}

/// Takes out what came into a folder.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        folder::remove(&entry?.path())?;
    }
    Ok(())
}
