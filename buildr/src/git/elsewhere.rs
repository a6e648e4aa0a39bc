//! What a build needs of other repositories: a branch of theirs, one file, or all their code beside its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use git2::ObjectType;
use protocol::{Branch, CommitId, RepoUrl};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::bring::{Brought, bring, list};
use super::checkout;
use super::credentials::public_url;
use super::error::GitError;
use super::folder::within;
use super::listing::Asked;
use super::{CheckedOut, Checkouts};

/// A branch, and the commit that it was at when somebody looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchAndCommit {
    /// The branch.
    pub branch: Branch,
    /// Its tip.
    pub commit: CommitId,
}

/// A file of a repository, with the commit that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAt {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// The commit, by its whole name: with it the same bytes are read again.
    pub commit: CommitId,
}

impl Checkouts {
    /// Finds the branch of another repository that goes with a build: `wanted`, or without one the branch of the same
    /// name as `ours` where it has that, else the one that its HEAD means. Nothing is fetched.
    ///
    /// Ends soon after `stop`, as [`Checkouts::check_out`] does.
    ///
    /// # Errors
    /// See [`GitError`]: among others when it does not have `wanted`, has no HEAD, or is empty.
    pub async fn resolve_branch(
        &self,
        repo: &RepoUrl,
        wanted: Option<&Branch>,
        ours: Option<&Branch>,
        stop: &CancellationToken,
    ) -> Result<BranchAndCommit, GitError> {
        let (wanted, ours) = (wanted.cloned(), ours.cloned());
        // There is nothing to tell while a list comes in.
        let (progress, _) = mpsc::channel(1);
        self.work(repo, stop, &progress, move |order, lines| {
            let (listing, url) = (list(order, lines)?, public_url(order.repo.reveal()));
            let same = ours.filter(|branch| listing.has_branch(branch));
            let want = listing.resolve(&url, &wanted.or(same).map_or(Asked::Head, Asked::Branch))?;
            let branch = want.branch.ok_or_else(|| listing.no_head(&url))?;
            Ok(BranchAndCommit { branch, commit: want.commit.to_string().parse().map_err(GitError::name)? })
        })
        .await
    }

    /// Checks out another repository into the folder `path` of a workspace, which must be new or empty; git does not
    /// see it in the workspace's own repository. What [`Checkouts::check_out`] says of credentials, progress and the
    /// end holds here too.
    ///
    /// # Errors
    /// See [`GitError`]: among others when `path` leads out of the workspace, also through a link.
    pub async fn check_out_beside(
        &self,
        repo: &RepoUrl,
        at: &BranchAndCommit,
        workspace: &Path,
        path: &str,
        stop: &CancellationToken,
        progress: mpsc::Sender<String>,
    ) -> Result<CheckedOut, GitError> {
        let asked = Asked::Commit { commit: at.commit.clone(), branch: Some(at.branch.clone()) };
        let (workspace, path) = (workspace.to_owned(), path.to_owned());
        self.work(repo, stop, &progress, move |order, lines| {
            let into = within(&workspace, &path)?;
            let done = checkout::run(order, &asked, &into, lines)?;
            exclude(&workspace, &path)?;
            Ok(done)
        })
        .await
    }

    /// Reads one file of a repository at `reference`: a commit's whole name, a branch or a tag; without one, the
    /// branch that its HEAD means. At most `limit` bytes.
    ///
    /// It goes through the mirror, and ends soon after `stop`, as [`Checkouts::check_out`] does.
    ///
    /// # Errors
    /// See [`GitError`]: among others when the file is not there, is no plain file, or is larger.
    pub async fn read_file_at(
        &self,
        repo: &RepoUrl,
        reference: Option<&str>,
        path: &str,
        limit: u64,
        stop: &CancellationToken,
    ) -> Result<FileAt, GitError> {
        let asked = match reference.map(|text| (text.parse::<CommitId>(), text)) {
            None => Asked::Head,
            Some((Ok(commit), _)) => Asked::Commit { commit, branch: None },
            Some((Err(_), text)) => Asked::Name(text.parse().map_err(GitError::name)?),
        };
        let path = path.to_owned();
        let (progress, _) = mpsc::channel(1);
        self.work(repo, stop, &progress, move |order, lines| {
            bring(order, &asked, lines, |brought, _shared| read(brought, &path, limit))
        })
        .await
    }
}

/// Reads a file from the mirror, which is held.
fn read(brought: &Brought<'_>, path: &str, limit: u64) -> Result<FileAt, GitError> {
    let url = &brought.session.url;
    let broken = GitError::mirror(url);
    let mirror = brought.mirror.open().map_err(&broken)?;
    let commit = mirror.find_object(brought.want.commit, None).and_then(|object| object.peel_to_commit());
    let commit = commit.map_err(&broken)?;
    let refused = |why: String| GitError::NoFile {
        repo: url.clone(),
        commit: checkout::commit_id(&commit),
        path: path.to_owned(),
        why,
    };
    let tree = commit.tree().map_err(&broken)?;
    let entry = tree.get_path(Path::new(path)).map_err(|_| refused("there is no such file".to_owned()))?;
    // A link's text is a path, and a folder's a list: neither is what somebody wants to read.
    if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == i32::from(git2::FileMode::Link) {
        return Err(refused("it is no plain file".to_owned()));
    }
    let (size, _) = mirror.odb().and_then(|objects| objects.read_header(entry.id())).map_err(&broken)?;
    if size as u64 > limit {
        return Err(refused(format!("it is {size} bytes long, and at most {limit} are taken")));
    }
    let blob = mirror.find_blob(entry.id()).map_err(&broken)?;
    Ok(FileAt { bytes: blob.content().to_vec(), commit: checkout::commit_id(&commit) })
}

/// Tells the git of the workspace, if there is one, to pass over a folder that is not its own.
fn exclude(workspace: &Path, path: &str) -> Result<(), GitError> {
    let list = workspace.join(".git/info/exclude");
    let failed = |source| GitError::Disk { doing: "write", path: list.clone(), source };
    if !workspace.join(".git").is_dir() {
        return Ok(());
    }
    fs::create_dir_all(workspace.join(".git/info")).map_err(failed)?;
    let special = |c: char| r"\*?[! #".contains(c).then_some('\\').into_iter().chain([c]);
    let line: String = path.trim_matches('/').chars().flat_map(special).collect();
    let mut list = File::options().append(true).create(true).open(&list).map_err(failed)?;
    writeln!(list, "/{line}/").map_err(failed)
}
