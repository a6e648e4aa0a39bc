//! Kept checkouts: of each repository one, beside its mirror, over which the workspaces of builds are laid.
//!
//! One is never changed once it is there. A new one is made aside and takes its place for builds that come then; the
//! old one goes when nobody holds its lock and no mount lies over it. None outlives a start of the machine: what was
//! written last may not have reached the disk, and nothing is synced here.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{SFlag, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::GitError;
use super::times;
use crate::folder::{self, Entry};
use crate::overlay;

/// What of a kept checkout builds see.
const TREE: &str = "tree";
/// Held shared by whoever uses it, alone by whoever removes it.
const LOCK: &str = "lock";
const FACTS: &str = "facts";
const SPENT: &str = "spent";
/// The name of the one that new builds lie over.
const CURRENT: &str = "current";

/// How these folders are laid out; others are made anew.
const LAYOUT: u32 = 2;

/// Files seem older than the list of them by at least this, so that git need not look into them to see that nothing
/// has changed: it compares whole seconds.
const OLDER: Duration = Duration::from_secs(2);

/// All kept checkouts of one repository.
pub(super) struct Lowers {
    folder: PathBuf,
}

/// One of them, in use as long as this lives.
pub(super) struct Lower {
    folder: PathBuf,
    pub(super) facts: Facts,
    pub(super) lock: File,
}

/// What is known of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    layout: u32,
    /// The commit, by its whole name.
    pub(super) commit: String,
    /// How many files and links it has, and their bytes, the objects of its `.git` among them.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The start of the machine in which it was made.
    boot: String,
    /// What git's settings on this machine say about how files are written.
    settings: String,
    /// The digest of the names that its `.git` has.
    pub(super) names: String,
    /// How many bytes of its own settings come before what they say of the branch.
    pub(super) settings_bytes: u64,
}

/// What the `.git` of a new one says besides its commit.
pub(super) struct Named {
    /// The digest of its names.
    pub(super) names: String,
    /// How many bytes of its settings come before what they say of the branch.
    pub(super) settings: u64,
}

/// What builds over it had to write to be what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spent {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The paths that some build since saw with other contents. What such a build made of them, and a cache kept, is
    /// newer than the files here: for tools that go by time they are touched.
    pub(super) turned: BTreeSet<String>,
    /// The commit of the last build.
    pub(super) last: Option<String>,
}

impl Lowers {
    /// Those beside a mirror.
    pub(super) fn of(mirror: &Path) -> Self {
        Self { folder: mirror.with_extension("lowers") }
    }

    /// The one that new builds lie over.
    pub(super) fn current(&self) -> Option<Lower> {
        Lower::open(self.folder.join(self.current_name()?))
    }

    /// Which one that is.
    pub(super) fn current_name(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(CURRENT)).ok()
    }

    /// The one that a ground lies over; none when it is of another repository.
    pub(super) fn under(&self, tree: &Path) -> Option<Lower> {
        let folder = tree.parent().filter(|folder| folder.parent() == Some(&self.folder))?;
        Lower::open(folder.to_owned())
    }

    /// Waits for the right to make one: nothing while another has it.
    pub(super) fn turn(&self) -> Result<Option<File>, GitError> {
        let failed = |source| GitError::Disk { doing: "make", path: self.folder.clone(), source };
        // Private repositories are in there: for this user alone.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(failed)?;
        let lock = File::options().create(true).truncate(false).write(true).open(self.folder.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Makes one of a commit by `fill`, which writes into a new folder, and swaps it in for builds to come. `turned` are
    /// the paths that builds over the present one see otherwise. Only with [`Lowers::turn`].
    pub(super) fn make(
        &self,
        commit: &str,
        turned: BTreeSet<String>,
        fill: impl FnOnce(&Path) -> Result<Named, GitError>,
    ) -> Result<Lower, GitError> {
        let old = self.current_name().map(|name| self.folder.join(name));
        let open = old.as_deref().is_some_and(wants_open_now);
        self.sweep();
        let name = Uuid::new_v4().simple().to_string();
        let (aside, folder) = (self.folder.join(format!(".{name}")), self.folder.join(&name));
        let failed = |source| GitError::Disk { doing: "make", path: aside.clone(), source };
        let began = SystemTime::now();
        let made = || -> Result<Lower, GitError> {
            fs::create_dir(&aside).map_err(failed)?;
            let lock = File::create(aside.join(LOCK)).map_err(failed)?;
            lock.lock_shared().map_err(failed)?;
            let tree = aside.join(TREE);
            let Named { names, settings: settings_bytes } = fill(&tree)?;
            let (files, bytes) = settle(&tree, open, began - OLDER).map_err(failed)?;
            let boot = boot().map_err(failed)?;
            let settings = settings();
            let commit = commit.to_owned();
            let facts = Facts { layout: LAYOUT, commit, files, bytes, boot, settings, names, settings_bytes };
            write(&aside.join(FACTS), &facts).map_err(failed)?;
            times::note(&tree)?;
            // From here on builds that begin wait, so nobody takes the old one after this look at it.
            self.forget();
            let is_used = old.is_some_and(|old| !remove_unused(&old, &self.folder));
            let turned = if is_used { turned } else { BTreeSet::new() };
            write(&aside.join(SPENT), &Spent { turned, ..Spent::default() }).map_err(failed)?;
            fs::rename(&aside, &folder).map_err(failed)?;
            Ok(Lower { folder: folder.clone(), facts, lock })
        };
        let made = made().inspect_err(|_| _ = folder::remove(&aside))?;
        // At once: nobody reads half a name.
        let new = self.folder.join(format!(".{}", Uuid::new_v4().simple()));
        fs::write(&new, &name).and_then(|()| fs::rename(&new, self.folder.join(CURRENT))).map_err(failed)?;
        Ok(made)
    }

    /// New builds do not lie over it any more.
    pub(super) fn forget(&self) {
        fs::remove_file(self.folder.join(CURRENT)).ok();
    }

    /// Removes all that nobody uses, and says whether nothing is left.
    pub(super) fn remove(&self) -> bool {
        match self.turn() {
            _ if !self.folder.is_dir() => true,
            Ok(Some(_turn)) => {
                self.forget();
                self.sweep() && folder::remove(&self.folder).is_ok()
            }
            _ => false,
        }
    }

    /// Removes what new builds do not lie over and nobody uses, and what was never completed; says whether nothing but
    /// the current one is left. Only with [`Lowers::turn`].
    fn sweep(&self) -> bool {
        let current = self.current_name();
        let Ok(entries) = fs::read_dir(&self.folder) else { return true };
        let mut all = true;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(|name| Uuid::try_parse(name.trim_start_matches('.')).is_ok());
            if !is_ours || current.as_deref() == name.to_str() {
                continue;
            }
            all &= remove_unused(&entry.path(), &self.folder);
        }
        all
    }
}

/// Whether what comes after this one is to be open.
fn wants_open_now(lower: &Path) -> bool {
    let tree = lower.join(TREE);
    overlay::wants_open(&tree) || overlay::is_open(&tree)
}

/// Removes a kept checkout unless somebody uses it, and says whether it is gone.
fn remove_unused(lower: &Path, folder: &Path) -> bool {
    let lock = File::open(lower.join(LOCK)).ok();
    // The lock of a process that was killed is gone, and its mounts may still be there.
    if lock.as_ref().is_some_and(|lock| lock.try_lock().is_err()) || overlay::is_in_use(&lower.join(TREE)) {
        return false;
    }
    // Set aside first: nobody takes half of it for a whole one.
    let gone = folder.join(format!(".{}", Uuid::new_v4().simple()));
    let moved = fs::rename(lower, &gone).and_then(|()| folder::remove(&gone));
    if let Err(error) = &moved {
        tracing::debug!(%error, folder = %lower.display(), "a kept checkout stays");
    }
    moved.is_ok()
}

impl Lower {
    /// None when it cannot be used, or is being removed.
    fn open(folder: PathBuf) -> Option<Self> {
        let lock = File::open(folder.join(LOCK)).ok()?;
        lock.try_lock_shared().ok()?;
        // Read under the lock: one that was removed meanwhile is not there any more.
        let facts: Facts = read(&folder.join(FACTS))?;
        let is_fit = facts.layout == LAYOUT && facts.boot == boot().ok()? && facts.settings == settings();
        is_fit.then_some(Self { folder, facts, lock })
    }

    /// Whether every user may write to it.
    pub(super) fn is_open(&self) -> bool {
        overlay::is_open(&self.tree())
    }

    /// What builds see.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    /// What was spent over it so far; none when that cannot be read.
    pub(super) fn spent(&self) -> Option<Spent> {
        let mut file = File::open(self.folder.join(SPENT)).ok()?;
        file.lock_shared().ok()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Adds to what was spent, and gives what it was before. To be called before anything is written over it.
    pub(super) fn spend(&self, more: Spent) -> io::Result<Spent> {
        let mut file = File::options().read(true).write(true).open(self.folder.join(SPENT))?;
        file.lock()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let before: Spent = serde_json::from_slice(&text)?;
        let mut after = before.clone();
        after.files += more.files;
        after.bytes += more.bytes;
        after.turned.extend(more.turned);
        after.last = more.last.or(after.last);
        if after != before {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(&after)?)?;
        }
        Ok(before)
    }

    /// Whether it costs less to make a new one than to go on: what builds wrote over it, with so much more, is as much
    /// as it is itself. So whatever is built, no more than twice is written of what would have to be.
    pub(super) fn is_worn(&self, files: u64, bytes: u64) -> bool {
        let Some(spent) = self.spent() else { return true };
        let wants_open = !self.is_open() && overlay::wants_open(&self.tree());
        wants_open || spent.files + files > self.facts.files || spent.bytes + bytes > self.facts.bytes
    }
}

/// Makes a new kept checkout what builds need: modes and times. Gives how many files it has, and their bytes.
fn settle(tree: &Path, open: bool, time: SystemTime) -> io::Result<(u64, u64)> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(io::Error::other)?;
    let time = TimeSpec::from_duration(Duration::from_secs(since.as_secs()));
    let (mut files, mut bytes) = (0, 0);
    if open {
        fs::set_permissions(tree, Permissions::from_mode(0o777))?;
        overlay::mark_open(tree)?;
    }
    let mut folders = Vec::new();
    folder::walk(tree, &mut |entry: &Entry<'_>| {
        if entry.is_folder() {
            folders.push(entry.path.to_owned());
        } else {
            files += 1;
            bytes += u64::try_from(entry.stat.st_size).unwrap_or_default();
        }
        let wanted = folder::opened(entry.mode(), entry.is_folder());
        if open && entry.kind() != SFlag::S_IFLNK && wanted != entry.mode() {
            entry.set_mode(wanted)?;
        }
        let path = tree.join(entry.path);
        utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    })?;
    Ok((files, bytes))
}

/// Which start of the machine this is.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What git's settings on this machine say about how files are written. A kept checkout that was written by others is
/// not what a new one would be.
fn settings() -> String {
    const KEYS: [&str; 5] = ["core.autocrlf", "core.eol", "core.safecrlf", "core.symlinks", "core.attributesfile"];
    let Ok(config) = git2::Config::open_default().and_then(|mut config| config.snapshot()) else {
        return String::new();
    };
    let own = std::env::home_dir().map(|home| home.join(".config/git/attributes"));
    let attributes = config.get_path("core.attributesfile").ok().or(own);
    let attributes = attributes.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let values = KEYS.map(|key| config.get_string(key).unwrap_or_default());
    format!("{}\n{attributes}", values.join(" "))
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, what: &impl Serialize) -> io::Result<()> {
    fs::write(path, serde_json::to_vec(what)?)
}
