//! A git repository made on the spot.

use std::path::{Path, PathBuf};

use git2::{IndexAddOption, RepositoryInitOptions, Signature};
use protocol::{CommitId, RepoUrl};

/// A repository with its branch `main`, which lives as long as this.
pub struct Repository {
    folder: tempfile::TempDir,
    git: git2::Repository,
}

impl Repository {
    /// One without a commit.
    ///
    /// # Panics
    /// When the disk refuses; so do the others.
    #[must_use]
    pub fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder for a repository");
        let mut options = RepositoryInitOptions::new();
        options.initial_head("main").external_template(false);
        let git = git2::Repository::init_opts(folder.path(), &options).expect("a repository");
        Self { folder, git }
    }

    /// One whose first commit has these files.
    #[must_use]
    pub fn with(files: &[(&str, &str)]) -> Self {
        let repository = Self::empty();
        repository.commit(files);
        repository
    }

    /// One whose first commit has this manifest.
    #[must_use]
    pub fn with_manifest(manifest: &str) -> Self {
        Self::with(&[(".buildr.yml", manifest)])
    }

    /// Writes these files, and commits all that is there.
    pub fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        for (path, text) in files {
            let path = self.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it lies in the repository")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let mut index = self.git.index().expect("an index");
        index.add_all(["*"], IndexAddOption::FORCE, None).expect("files in the index");
        index.write().expect("the index on the disk");
        let tree = self.git.find_tree(index.write_tree().expect("a tree")).expect("the tree");
        let author = Signature::now("Ada", "ada@example.org").expect("an author");
        let parent = self.git.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let commit = self.git.commit(Some("HEAD"), &author, &author, "a change", &tree, &parents).expect("a commit");
        commit.to_string().parse().expect("a commit's name")
    }

    /// Makes a branch at the last commit.
    pub fn branch(&self, name: &str) {
        let commit = self.git.head().and_then(|head| head.peel_to_commit()).expect("a commit");
        self.git.branch(name, &commit, false).expect("a branch");
    }

    /// Adds a commit with these files to a branch, on which HEAD is neither before nor after.
    pub fn on(&self, branch: &str, files: &[(&str, &str)]) {
        let name = format!("refs/heads/{branch}");
        let tip = self.git.find_reference(&name).and_then(|found| found.peel_to_commit()).expect("the branch");
        let tree = tip.tree().expect("its tree");
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, text) in files {
            let blob = self.git.blob(text.as_bytes()).expect("a file");
            update.upsert(*path, blob, git2::FileMode::Blob);
        }
        let tree = update.create_updated(&self.git, &tree).and_then(|id| self.git.find_tree(id)).expect("a tree");
        let author = Signature::now("Ada", "ada@example.org").expect("an author");
        self.git.commit(Some(&name), &author, &author, "a change", &tree, &[&tip]).expect("a commit");
    }

    /// Its work tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What agents clone it from.
    #[must_use]
    pub fn url(&self) -> RepoUrl {
        let path: PathBuf = self.path().canonicalize().expect("it is there");
        path.to_str().expect("a path of letters").parse().expect("an absolute path")
    }

    /// A message by hand that asks for it.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        format!("{{\"repo\": \"{}\", \"branch\": \"main\"}}", self.url().reveal()).into_bytes()
    }
}
