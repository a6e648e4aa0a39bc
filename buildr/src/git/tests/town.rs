//! Several repositories side by side, and what a manifest asks of their checkouts.

use protocol::plan::{CloneOptions, Submodules};

use super::*;

/// Several repositories side by side.
pub(super) struct Town {
    pub(super) folder: TempDir,
    pub(super) checkouts: Checkouts,
}

impl Town {
    pub(super) fn new() -> Self {
        set_up_libgit2();
        let folder = tempfile::tempdir().unwrap();
        let policy = ClonePolicy { local_repos: true, home: None, ..ClonePolicy::default() };
        let checkouts = Checkouts::new(folder.path().join("cache"), policy);
        Self { folder, checkouts }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn url(&self, name: &str) -> RepoUrl {
        self.path(name).to_str().unwrap().parse().unwrap()
    }

    /// A commit on main of the repository `name`, which is made when it is not there. A file's text, or a submodule's
    /// commit; `a/b` is a file in a folder.
    pub(super) fn commit(&self, name: &str, entries: &[(&str, What<'_>)]) -> Oid {
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main").external_template(false).bare(true).mkpath(true);
        let repository = Repository::init_opts(self.path(name), &options).unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, what) in entries {
            match what {
                What::Text(text) => {
                    update.upsert(*path, repository.blob(text.as_bytes()).unwrap(), git2::FileMode::Blob)
                }
                What::LinkTo(text) => {
                    update.upsert(*path, repository.blob(text.as_bytes()).unwrap(), git2::FileMode::Link)
                }
                What::Module(commit) => update.upsert(*path, *commit, git2::FileMode::Commit),
            };
        }
        let empty = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let base = parent.as_ref().map_or(empty, |parent| parent.tree().unwrap());
        let tree = repository.find_tree(update.create_updated(&repository, &base).unwrap()).unwrap();
        let author = Signature::now("Ada", "ada@example.org").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some("HEAD"), &author, &author, "a commit", &tree, &parents).unwrap()
    }

    pub(super) async fn fetch(
        &self,
        url: &RepoUrl,
        options: &CloneOptions,
        into: &str,
    ) -> (Result<(), GitError>, Vec<String>) {
        let (stop, into) = (CancellationToken::new(), self.path(into));
        if !into.exists() {
            let (unheard, _) = mpsc::channel(1);
            if let Err(error) = self.checkouts.check_out(url, None, None, &into, &stop, unheard).await {
                return (Err(error), Vec::new());
            }
        }
        let (sender, mut lines) = mpsc::channel(4);
        let read = async {
            let mut all = Vec::new();
            while let Some(line) = lines.recv().await {
                all.push(line);
            }
            all
        };
        tokio::join!(self.checkouts.apply_options(url, &into, options, &stop, sender), read)
    }

    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

#[derive(Clone, Copy)]
pub(super) enum What<'a> {
    Text(&'a str),
    LinkTo(&'a str),
    Module(Oid),
}

pub(super) fn modules(submodules: Submodules) -> CloneOptions {
    CloneOptions { submodules, ..CloneOptions::default() }
}

pub(super) fn listed(path: &str, url: &str) -> String {
    format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n")
}
