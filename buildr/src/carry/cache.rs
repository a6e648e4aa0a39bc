//! Caches: folders that later builds find again, kept on this machine.
//!
//! An entry is a folder per repository, branch and name. What a build gets is a copy of its own, never a shared inode,
//! so that no build can change what another one finds; what it leaves becomes the entry, whole, when its stage passed.
//! A branch finds its own entries first, then the default branch's. A build that is not trusted finds and never keeps.

mod entry;
mod naming;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;
use protocol::plan::{Cache, CachePolicy};

use super::{CarryError, disk};
use crate::executor::MountOrder;
use crate::folder::{self, Barred, Opened, is_removable};
use entry::{Making, Reading, Writing, is_aside, is_in_the_making, is_whole, shown, size, used};
use naming::{branch_folder, entry_name, legal};

/// A folder of this machine in which caches are kept.
#[derive(Debug, Clone)]
pub struct CacheStore {
    folder: PathBuf,
    cap_bytes: u64,
    /// As whom it works.
    user: Uid,
}

/// Whose caches a build finds.
#[derive(Debug, Clone)]
pub struct CacheScope {
    /// The repository, as text: two that are written otherwise share nothing.
    pub repo: String,
    /// The branch, or what stands for it.
    pub branch: String,
    /// The branch whose entries all others find too, when it is known.
    pub default_branch: Option<String>,
    /// Whether what the build leaves may be kept.
    pub trusted: bool,
}

/// A cache on its way through a stage.
#[derive(Debug)]
pub struct TakenCache {
    /// What the stage's container sees in places outside of the workspace.
    pub mounts: Vec<MountOrder>,
    /// The entry that was found, for people; nothing was without it.
    pub found: Option<String>,
    /// What a person should know of it, in sentences: which of its paths were passed over, and why.
    pub said: Vec<String>,
    /// Where it is kept when the stage passed; nowhere without it.
    entry: Option<PathBuf>,
    /// Where the stage reads and writes its paths, in their order: an entry has them under their numbers.
    places: Vec<(String, Place)>,
    workspace: PathBuf,
}

#[derive(Debug)]
enum Place {
    /// A path below the workspace, whose stages go on with it.
    Workspace(PathBuf),
    /// A folder of the job's own.
    Private(PathBuf),
}

impl CacheStore {
    /// Caches in this folder; when they are larger than `cap_bytes` together, those go that were used longest ago.
    #[must_use]
    pub fn at(folder: PathBuf, cap_bytes: u64) -> Self {
        Self { folder, cap_bytes, user: Uid::effective() }
    }

    /// Brings what is kept to where a stage expects it. Below the workspace it is put there, unless the path is there
    /// already; elsewhere it is mounted from `private`, an empty folder of the job's own.
    ///
    /// # Errors
    /// When a pattern cannot be understood, or the disk fails. Nothing that is there is a beginning like any other.
    pub fn take(
        &self,
        cache: &Cache,
        scope: &CacheScope,
        workspace: &Path,
        private: &Path,
    ) -> Result<TakenCache, CarryError> {
        let name = entry_name(cache, workspace)?;
        let found = if cache.policy == CachePolicy::Push { None } else { self.find(cache, scope, &name) };
        let mut taken = TakenCache {
            mounts: Vec::new(),
            found: found.as_ref().map(|(shown, _)| shown.clone()),
            entry: (scope.trusted && cache.policy != CachePolicy::Pull)
                .then(|| self.folder.join(branch_folder(&scope.repo, &scope.branch)).join(&name)),
            said: Vec::new(),
            places: Vec::new(),
            workspace: workspace.to_owned(),
        };
        let shared = found.map(|(_, entry)| Reading::of(entry)).transpose().map_err(disk("open a cache"))?.flatten();
        for (number, path) in cache.paths.iter().enumerate() {
            let kept = shared.as_ref().map(|reading| reading.entry.join(number.to_string())).filter(|it| it.exists());
            let doing = || disk(format!("bring the cache of {path}"));
            if let Some(relative) = below(path) {
                match kept.map(|kept| bring(&kept, workspace, &relative)).transpose().map_err(doing())? {
                    Some(Ok(left_out)) => taken.said.extend(told_of(path, &left_out)),
                    Some(Err(refused)) => taken.said.push(format!("the cache of {path} was not brought: {refused}")),
                    None => {}
                }
                taken.places.push((path.clone(), Place::Workspace(relative)));
                continue;
            }
            let at = private.join(format!("cache-{number}"));
            fs::create_dir_all(&at).map_err(doing())?;
            if let Some(kept) = kept {
                let left_out = folder::copy(&kept, &at, &|| false).map_err(doing())?;
                taken.said.extend(told_of(path, &left_out));
            }
            let source = at.clone();
            taken.mounts.push(MountOrder { source, target: path.clone(), read_only: false });
            taken.places.push((path.clone(), Place::Private(at)));
        }
        Ok(taken)
    }

    /// Keeps what a stage that passed has left, in the place of what was kept before. Gives what a person should know of
    /// it, in sentences.
    ///
    /// # Errors
    /// When the disk fails, or soon after `stopped` says so; what was kept before then stays.
    pub fn keep(&self, taken: &TakenCache, stopped: &dyn Fn() -> bool) -> Result<Vec<String>, CarryError> {
        let mut said = Vec::new();
        let Some(entry) = &taken.entry else { return Ok(said) };
        let doing = || disk(format!("keep the cache {}", shown(entry)));
        let parent = entry.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent).map_err(doing())?;
        let made = Making::below(parent).map_err(doing())?;
        let mut anything = false;
        for (number, (path, place)) in taken.places.iter().enumerate() {
            let target = made.path().join(number.to_string());
            let left = match place {
                Place::Workspace(relative) => left_in(&taken.workspace, relative),
                // Nobody needs it any more: it need not be copied, if the store can get rid of it again.
                Place::Private(at) if is_removable(at, self.user) && fs::rename(at, &target).is_ok() => {
                    anything = true;
                    continue;
                }
                Place::Private(at) => Opened::at(at).map(Some).map(Ok),
            };
            match left.map_err(doing())? {
                Ok(Some(left)) => {
                    fs::create_dir(&target).map_err(doing())?;
                    let target = Opened::at(&target).map_err(doing())?;
                    let left_out = folder::copy_opened(&left, &target, stopped).map_err(doing())?;
                    said.extend(told_of(path, &left_out));
                    anything = true;
                }
                Ok(None) => {}
                Err(refused) => said.push(format!("the cache of {path} was not kept: {refused}")),
            }
        }
        if !anything {
            return Ok(said);
        }
        if stopped() {
            return Err(doing()(io::Error::other("it was cancelled")));
        }
        made.complete().and_then(|()| made.put_at(entry)).map_err(doing())?;
        self.make_room(entry);
        Ok(said)
    }

    /// An entry for this cache: of its own name, else the newest that a fallback names; on the branch, else on the
    /// default one.
    fn find(&self, cache: &Cache, scope: &CacheScope, name: &str) -> Option<(String, PathBuf)> {
        let mut branches = vec![scope.branch.as_str()];
        branches.extend(scope.default_branch.as_deref().filter(|branch| *branch != scope.branch));
        let folders: Vec<PathBuf> =
            branches.iter().map(|branch| self.folder.join(branch_folder(&scope.repo, branch))).collect();
        let exact = folders.iter().map(|folder| folder.join(name)).find(|entry| is_whole(entry));
        if let Some(entry) = exact {
            return Some((name.to_owned(), entry));
        }
        for fallback in &cache.fallback {
            let wanted = legal(fallback);
            for folder in &folders {
                let entries = fs::read_dir(folder).ok().into_iter().flatten().flatten();
                let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&wanted));
                let whole = named.map(|entry| entry.path()).filter(|path| !is_aside(path) && is_whole(path));
                let newest = whole.max_by_key(|path| used(path));
                if let Some(entry) = newest {
                    return Some((shown(&entry), entry));
                }
            }
        }
        None
    }

    /// Removes those that were used longest ago, until all fit. The one that was just kept stays, and so do those that
    /// somebody reads or replaces: they are waited for by nobody, and are found again the next time.
    fn make_room(&self, just_kept: &Path) {
        let mut entries: Vec<(u64, u64, PathBuf)> = Vec::new();
        for entry in self.entries() {
            entries.push((used(&entry), size(&entry), entry));
        }
        let mut all: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        entries.sort();
        for (_, bytes, entry) in entries {
            if all <= self.cap_bytes {
                break;
            }
            if entry == just_kept {
                continue;
            }
            match Writing::unless_in_use(&entry).and_then(|alone| alone.map(|it| it.set_aside(&entry)).transpose()) {
                Ok(Some(())) => all = all.saturating_sub(bytes),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, cache = %shown(&entry), "a cache cannot make room for others"),
            }
        }
        self.sweep();
    }

    /// Removes what was set aside, and what those left behind who were killed while they made an entry.
    fn sweep(&self) {
        for path in self.folders().into_iter().filter(|path| is_aside(path) && !is_in_the_making(path)) {
            if let Err(error) = folder::remove(&path) {
                // Such as another user's: it is tried again the next time.
                tracing::debug!(%error, folder = %path.display(), "what was left of a cache stays");
            }
        }
    }

    /// All entries of all repositories, in no order.
    fn entries(&self) -> Vec<PathBuf> {
        self.folders().into_iter().filter(|path| !is_aside(path) && is_whole(path)).collect()
    }

    /// All that lies where entries do.
    fn folders(&self) -> Vec<PathBuf> {
        let below = |folder: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).ok().into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        let branches = below(&self.folder).into_iter().flat_map(|repo| below(&repo));
        branches.flat_map(|branch| below(&branch)).collect()
    }

    /// How many bytes all of them take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries().iter().map(|entry| size(entry)).sum()
    }
}

/// Copies what is kept to below the workspace, unless something is there. What stands in its way is given as a
/// sentence: a repository, or a stage, could else choose what is written on this machine.
///
/// Gives what had to be left out.
fn bring(kept: &Path, workspace: &Path, relative: &Path) -> io::Result<Result<Vec<PathBuf>, String>> {
    match Opened::at(workspace)?.make(relative) {
        Ok(Some(at)) => folder::copy_opened(&Opened::at(kept)?, &at, &|| false).map(Ok),
        Ok(None) => Ok(Ok(Vec::new())),
        Err(barred) => refused(barred).map(Err),
    }
}

/// What a stage has left below the workspace, if that is a folder; or a sentence about what stands in its way, by which
/// it could else choose what is read of this machine.
fn left_in(workspace: &Path, relative: &Path) -> io::Result<Result<Option<Opened>, String>> {
    match Opened::at(workspace)?.below(relative) {
        Ok(left) => Ok(Ok(left)),
        Err(Barred::NoFolder(_)) => Ok(Ok(None)),
        Err(barred) => refused(barred).map(Err),
    }
}

fn told_of(path: &str, left_out: &[PathBuf]) -> Option<String> {
    let names = folder::named(left_out)?;
    Some(format!("left out of the cache of {path}, as only another user may read it: {names}"))
}

fn refused(barred: Barred) -> io::Result<String> {
    match barred {
        Barred::Disk { source, .. } => Err(source),
        Barred::Link(_) => Ok(format!("{barred}, and no cache follows a link; name the folder that it leads to")),
        barred => Ok(format!("{barred}; name a folder of the workspace")),
    }
}

/// A path below the workspace, as it lies there; nothing for one that is elsewhere.
fn below(path: &str) -> Option<PathBuf> {
    if path.starts_with('/') || path == "~" || path.starts_with("~/") {
        return None;
    }
    // `..` cannot lead out: the manifest's reader refuses it, and here it is left out.
    Some(Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::folder::testing::{as_nobody, once_let_go};

    struct Rig {
        folder: tempfile::TempDir,
        store: CacheStore,
    }

    impl Rig {
        fn new(cap_bytes: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = CacheStore::at(folder.path().join("store"), cap_bytes);
            Self { folder, store }
        }

        /// A build on a branch with this lock file: gives what it found, and leaves `leaves`.
        fn build(&self, cache: &Cache, branch: &str, trusted: bool, lock: &str, leaves: &str) -> Option<String> {
            let at = tempfile::tempdir_in(self.folder.path()).unwrap();
            let (workspace, private) = (at.path().join("app"), at.path().join("private"));
            fs::create_dir(&workspace).unwrap();
            fs::write(workspace.join("lock"), lock).unwrap();
            let scope = CacheScope {
                repo: "r".to_owned(),
                branch: branch.to_owned(),
                default_branch: Some("main".to_owned()),
                trusted,
            };
            let taken = self.store.take(cache, &scope, &workspace, &private).unwrap();
            let place = taken.mounts.first().map_or_else(|| workspace.join("deps"), |mount| mount.source.clone());
            let found = fs::read_to_string(place.join("x")).ok();
            assert_eq!(found.is_some(), taken.found.is_some());
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("x"), leaves).unwrap();
            self.store.keep(&taken, &|| false).unwrap();
            found
        }

        /// Builds until what that leaves is all that is kept.
        fn until_alone(&self, cache: &Cache, lock: &str, leaves: &str) {
            once_let_go("all that is not in use makes room, and what was just kept stays", || {
                self.build(cache, "main", true, lock, leaves);
                (self.store.entries().len() == 1).then_some(())
            });
        }
    }

    fn cache(path: &str, policy: CachePolicy) -> Cache {
        let (paths, key) = (vec![path.to_owned()], vec!["lock".to_owned()]);
        Cache { paths, name: Some("deps".to_owned()), key, fallback: Vec::new(), policy }
    }

    #[test]
    fn what_one_build_leaves_the_next_one_finds() {
        for path in ["deps", "/var/cache/deps", "~/.deps"] {
            let (rig, cache) = (Rig::new(u64::MAX), cache(path, CachePolicy::Both));
            assert_eq!(rig.build(&cache, "main", true, "1", "one"), None);
            assert_eq!(rig.build(&cache, "main", true, "1", "two").as_deref(), Some("one"), "{path}");
            assert_eq!(rig.build(&cache, "main", true, "1", "three").as_deref(), Some("two"));
            // Another key is another cache, unless a fallback names it.
            assert_eq!(rig.build(&cache, "main", true, "2", "other"), None);
            let with_fallback = Cache { fallback: vec!["deps-".to_owned()], ..cache };
            assert!(rig.build(&with_fallback, "main", true, "3", "new").is_some());
        }
    }

    /// What is found and said of a cache of this path when a stage begins, and said when it has ended.
    fn through(rig: &Rig, path: &str, workspace: &Path, script: impl FnOnce()) -> (Vec<String>, Vec<String>) {
        let private = tempfile::tempdir_in(rig.folder.path()).unwrap();
        let scope = CacheScope { repo: "r".to_owned(), branch: "main".to_owned(), default_branch: None, trusted: true };
        let cache = Cache { key: Vec::new(), ..cache(path, CachePolicy::Both) };
        let taken = rig.store.take(&cache, &scope, workspace, private.path()).unwrap();
        script();
        let kept = rig.store.keep(&taken, &|| false).unwrap();
        (taken.said, kept)
    }

    #[test]
    fn no_link_leads_a_cache_out_of_the_workspace() {
        for (path, link) in [("out/.ssh", "out"), ("a/out/.ssh", "a/out"), ("out", "out"), ("./a/../out/x/", "a/out")] {
            let rig = Rig::new(u64::MAX);
            let at = |name: &str| rig.folder.path().join(name);
            for folder in ["first/a", "second/a", "host/.ssh", "host/x"] {
                fs::create_dir_all(at(folder)).unwrap();
            }
            fs::write(at("host/.ssh/key"), "secret").unwrap();
            let refused = format!("{link} is a link, and no cache follows a link; name the folder that it leads to");
            // A script puts a link there: nothing of the machine is kept.
            let (begins, ends) =
                through(&rig, path, &at("first"), || symlink(at("host"), at("first").join(link)).unwrap());
            assert!(begins.is_empty() && ends.len() == 1 && ends[0].ends_with(&refused), "{begins:?} {ends:?}");
            assert!(rig.store.entries().is_empty(), "{path}");
            // Something is kept, and then a commit has a link there: nothing is written to the machine.
            fs::remove_file(at("first").join(link)).unwrap();
            let real = at("first").join(below(path).unwrap());
            let (_, ends) = through(&rig, path, &at("first"), || {
                fs::create_dir_all(&real).unwrap();
                fs::write(real.join("evil"), "x").unwrap();
            });
            assert!(ends.is_empty() && rig.store.entries().len() == 1, "{ends:?}");
            fs::remove_dir_all(at("host")).unwrap();
            fs::create_dir(at("host")).unwrap();
            symlink(at("host"), at("second").join(link)).unwrap();
            let (begins, _) = through(&rig, path, &at("second"), || {});
            assert!(begins.len() == 1 && begins[0].ends_with(&refused), "{begins:?}");
            assert_eq!(fs::read_dir(at("host")).unwrap().count(), 0, "{path}");
        }
    }

    #[test]
    fn branches_find_the_default_branchs_and_never_write_there() {
        let (rig, cache) = (Rig::new(u64::MAX), cache("deps", CachePolicy::Both));
        rig.build(&cache, "main", true, "1", "main");
        assert_eq!(rig.build(&cache, "topic", true, "1", "topic").as_deref(), Some("main"));
        assert_eq!(rig.build(&cache, "topic", true, "1", "topic").as_deref(), Some("topic"));
        assert_eq!(rig.build(&cache, "main", true, "1", "main").as_deref(), Some("main"));
        assert_eq!(rig.build(&cache, "other", true, "1", "x").as_deref(), Some("main"), "never topic's");
    }

    #[test]
    fn who_is_not_trusted_finds_and_never_keeps() {
        let (rig, both) = (Rig::new(u64::MAX), cache("deps", CachePolicy::Both));
        rig.build(&both, "main", false, "1", "evil");
        assert_eq!(rig.build(&both, "main", true, "1", "good"), None);
        assert_eq!(rig.build(&both, "main", false, "1", "evil").as_deref(), Some("good"));
        assert_eq!(rig.build(&both, "main", true, "1", "good").as_deref(), Some("good"));
        let (pull, push) = (cache("deps", CachePolicy::Pull), cache("deps", CachePolicy::Push));
        assert_eq!(rig.build(&push, "main", true, "1", "pushed"), None);
        assert_eq!(rig.build(&pull, "main", true, "1", "no").as_deref(), Some("pushed"));
        assert_eq!(rig.build(&pull, "main", true, "1", "no").as_deref(), Some("pushed"));
    }

    #[test]
    fn the_oldest_make_room() {
        let (rig, cache) = (Rig::new(1), cache("deps", CachePolicy::Both));
        rig.build(&cache, "main", true, "1", "one");
        rig.until_alone(&cache, "2", "two");
        assert_eq!(rig.build(&cache, "main", true, "2", "two").as_deref(), Some("two"));
    }

    #[test]
    fn nobody_waits_for_a_cache_that_is_in_use_to_make_room() {
        let (rig, cache) = (Rig::new(1), cache("deps", CachePolicy::Both));
        rig.build(&cache, "main", true, "1", "one");
        let first = rig.store.entries().remove(0);
        let reading = Reading::of(first.clone()).unwrap().unwrap();
        std::thread::scope(|scope| {
            let (sender, done) = std::sync::mpsc::channel();
            let rig = &rig;
            let cache = &cache;
            scope.spawn(move || {
                rig.build(cache, "main", true, "2", "two");
                sender.send(()).unwrap();
            });
            let soon = done.recv_timeout(std::time::Duration::from_secs(20));
            assert!(first.is_dir(), "nobody takes it away from its reader");
            drop(reading);
            assert!(soon.is_ok(), "what is kept waits for nobody who reads another cache");
        });
        rig.until_alone(&cache, "3", "three");
    }

    /// Keeps a folder of the job's own, as `user`. Says whether it was moved.
    fn moved(rig: &mut Rig, user: Uid) -> bool {
        rig.store.user = user;
        let (workspace, private) = (rig.folder.path().join("w"), tempfile::tempdir_in(rig.folder.path()).unwrap());
        fs::create_dir_all(&workspace).unwrap();
        let scope = CacheScope { repo: "r".to_owned(), branch: "main".to_owned(), default_branch: None, trusted: true };
        let cache = cache("/var/cache/deps", CachePolicy::Both);
        let taken = rig.store.take(&cache, &scope, &workspace, private.path()).unwrap();
        fs::write(taken.mounts[0].source.join("x"), "x").unwrap();
        assert_eq!(rig.store.keep(&taken, &|| false).unwrap(), Vec::<String>::new());
        assert!(rig.store.entries()[0].join("0/x").is_file());
        !taken.mounts[0].source.exists()
    }

    #[test]
    fn what_could_not_be_removed_again_is_copied() {
        let mut rig = Rig::new(u64::MAX);
        let own = Uid::effective();
        assert!(moved(&mut rig, own), "all of it is ours");
        assert!(!moved(&mut rig, Uid::from_raw(own.as_raw() + 1)), "somebody else's");
        assert!(moved(&mut rig, Uid::from_raw(0)), "root may remove all");
    }

    #[test]
    fn what_nobody_uses_is_swept() {
        let (rig, cache) = (Rig::new(u64::MAX), cache("deps", CachePolicy::Both));
        rig.build(&cache, "main", true, "1", "one");
        let parent = rig.store.entries()[0].parent().unwrap().to_owned();
        let count = || fs::read_dir(&parent).unwrap().filter(|it| it.as_ref().unwrap().path().is_dir()).count();
        for left in [".old-x/0", ".new-x/0", ".new-y"] {
            fs::create_dir_all(parent.join(left)).unwrap();
        }
        fs::write(parent.join(".old-x/whole"), "1").unwrap();
        let making = Making::below(&parent).unwrap();
        fs::create_dir(making.path().join("0")).unwrap();
        making.complete().unwrap();
        assert_eq!(rig.store.entries().len(), 1, "what is made is no entry yet");
        rig.build(&cache, "main", true, "1", "two");
        assert_eq!(count(), 2, "the entry, and the one that is being made");
        making.put_at(&parent.join("other")).unwrap();
        assert_eq!(rig.store.entries().len(), 2);
        drop(Making::below(&parent).unwrap());
        assert_eq!(count(), 2, "one that is not completed goes at once");
    }

    #[test]
    fn what_may_not_be_read_is_told() {
        let rig = Rig::new(u64::MAX);
        let at = |name: &str| rig.folder.path().join(name);
        let mode = |name: &str, mode| fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
        for (folder, open) in [("", 0o777), ("w", 0o755), ("w/deps/shut", 0o000)] {
            fs::create_dir_all(at(folder)).unwrap();
            mode(folder, open);
        }
        fs::write(at("w/deps/x"), "x").unwrap();
        let (_, ends) = as_nobody(|| through(&rig, "deps", &at("w"), || {}));
        assert_eq!(ends, ["left out of the cache of deps, as only another user may read it: shut"]);
        assert!(rig.store.entries()[0].join("0/x").is_file());
        mode("w/deps/shut", 0o755);
        fs::set_permissions(rig.store.entries()[0].join("0/shut"), Permissions::from_mode(0o755)).unwrap();
    }
}
