//! Partial clones: what a filter leaves out is fetched when git first needs it. libgit2 cannot do that, so it is done by
//! the `git` program, and without a mirror, which would hold everything.

use std::path::Path;

use git2::Repository;

use super::CheckedOut;
use super::bring::list;
use super::checkout::{self, commit_id, told_of};
use super::credentials::public_url;
use super::error::GitError;
use super::folder::Fresh;
use super::listing::{Asked, Listing, Want};
use super::made::{self, Head};
use super::order::Order;
use super::program::Program;
use super::remote::Progress;

/// What is fetched of a repository, beside the commit itself.
const SPECS: [&str; 2] = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];

/// Checks out what is asked for into the new or empty folder `into`, without what the filter leaves out and nothing
/// needs, or leaves it as it was. On a thread that may block.
pub(super) fn run(
    order: &Order,
    asked: &Asked,
    filter: &str,
    into: &Path,
    progress: &Progress,
) -> Result<CheckedOut, GitError> {
    order.talks()?;
    let listing = list(order, progress)?;
    let want = listing.resolve(&public_url(order.repo.reveal()), asked)?;
    order.writes()?;
    let fresh = Fresh::new(into)?;
    let done = Partial { order, into, filter, progress }.fill(&listing, &want)?;
    fresh.keep();
    Ok(done)
}

struct Partial<'a> {
    order: &'a Order,
    into: &'a Path,
    filter: &'a str,
    progress: &'a Progress,
}

impl Partial<'_> {
    fn fill(&self, listing: &Listing, want: &Want) -> Result<CheckedOut, GitError> {
        let url = public_url(self.order.repo.reveal());
        let failed = |error| GitError::tree("write the checkout to", self.into)(error);
        // The empty repository that git fills.
        let repository = made::make(self.into, Head::On(&want.head()), &[], "")?;
        self.configure(&repository, &url, listing, want).map_err(failed)?;
        self.progress.say(format!("fetching {url}, filtered by {}", self.filter));
        self.fetch(&SPECS)?;
        if repository.find_commit(want.commit).is_err() {
            let commit = want.commit.to_string();
            // Whether a server gives a commit by its name is its own matter; what counts is whether it is there.
            let by_name = self.fetch(&[&commit]);
            let gone = || want.pinned.clone().map(|commit| GitError::CommitGone { repo: url.clone(), commit });
            repository.find_commit(want.commit).map_err(|_| gone().or(by_name.err()).unwrap_or(GitError::Cancelled))?;
        }
        self.write(want)?;
        let repository = Repository::open(self.into).map_err(failed)?;
        let commit = repository.find_commit(want.commit).map_err(failed)?;
        let (subject, author) = told_of(&commit);
        self.progress.say(format!("checked out {:.8}: {subject}", want.commit.to_string()));
        let committed_s = commit.time().seconds();
        let (branch, default_branch) = (want.branch.clone(), checkout::default_branch(listing));
        Ok(CheckedOut { commit: commit_id(&commit), branch, subject, author, committed_s, default_branch })
    }

    fn configure(&self, repository: &Repository, url: &str, listing: &Listing, want: &Want) -> Result<(), git2::Error> {
        checkout::configure(repository, url, listing, want)?;
        let mut config = repository.config()?;
        config.set_i64("core.repositoryformatversion", 1)?;
        config.set_str("extensions.partialclone", "origin")?;
        config.set_bool("remote.origin.promisor", true)?;
        config.set_str("remote.origin.partialclonefilter", self.filter)
    }

    fn fetch(&self, specs: &[&str]) -> Result<(), GitError> {
        let filter = format!("--filter={}", self.filter);
        let arguments =
            ["fetch", "--progress", "--no-tags", &filter, "origin"].into_iter().chain(specs.iter().copied());
        self.program().run(self.into, arguments)
    }

    fn write(&self, want: &Want) -> Result<(), GitError> {
        let commit = want.commit.to_string();
        let how = match &want.branch {
            Some(branch) => ["-B", branch.as_str()],
            None => ["--detach", "--quiet"],
        };
        self.program()
            .run(self.into, ["checkout", "--force", "--progress"].into_iter().chain(how).chain([commit.as_str()]))
    }

    fn program(&self) -> Program<'_> {
        let Self { order, progress, .. } = *self;
        Program { order, progress, doing: "make a partial clone of", settings: &[] }
    }
}

/// Whether it is one of git's filters that a clone can be asked for.
pub(super) fn is_filter(text: &str) -> bool {
    let number = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.split_once(':') {
        Some(("blob", "none")) => true,
        Some(("tree", depth)) => number(depth),
        Some(("blob", limit)) => {
            let size = limit.strip_prefix("limit=");
            size.is_some_and(|size| number(size.strip_suffix(['k', 'm', 'g']).unwrap_or(size)))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_filter;

    #[test]
    fn filters() {
        for (text, expect) in [
            ("blob:none", true),
            ("blob:limit=0", true),
            ("blob:limit=10m", true),
            ("tree:0", true),
            ("tree:12", true),
            ("tree:", false),
            ("tree:x", false),
            ("blob:limit=", false),
            ("blob:limit=m", false),
            ("blob:limit=1 --upload-pack=id", false),
            ("sparse:oid=main:x", false),
            ("combine:blob:none+tree:0", false),
            ("none", false),
            ("", false),
        ] {
            assert_eq!(is_filter(text), expect, "{text:?}");
        }
    }
}
