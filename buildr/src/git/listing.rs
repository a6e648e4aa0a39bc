//! What a repository offers, and which of it is meant.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use git2::{Remote, RemoteHead, Repository};
use protocol::{Branch, CommitId};

use super::error::GitError;

/// How many branches an error names.
const NAMED: usize = 8;

/// What a repository offered at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// Every ref by its full name, `HEAD` too, with the object that it names.
    pub(super) refs: BTreeMap<String, git2::Oid>,
    /// The full name of the branch that HEAD means.
    head: Option<String>,
}

/// The name of a ref that a server offers. Git takes any bytes for one, and git2 panics at what is no UTF-8: nobody asks
/// for such a ref here, and it is in nobody's way.
fn name_of<'h>(head: &'h RemoteHead<'_>) -> Option<&'h str> {
    catch_unwind(AssertUnwindSafe(|| head.name())).ok()
}

fn target_of<'h>(head: &'h RemoteHead<'_>) -> Option<&'h str> {
    catch_unwind(AssertUnwindSafe(|| head.symref_target())).ok().flatten()
}

/// What is to be checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) commit: git2::Oid,
    pub(super) branch: Option<Branch>,
    /// The commit was asked for by name, so a tip elsewhere does not matter.
    pub(super) pinned: Option<CommitId>,
}

impl Want {
    /// The whole name of the branch that a new repository for it is on at first.
    pub(super) fn head(&self) -> String {
        format!("refs/heads/{}", self.branch.as_ref().map_or("main", Branch::as_str))
    }
}

/// How that is asked for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// The tip of the branch that HEAD means.
    Head,
    /// The tip of a branch.
    Branch(Branch),
    /// A commit by its name; HEAD of a checkout is then on `branch`, if there is one.
    Commit { commit: CommitId, branch: Option<Branch> },
    /// A branch or a tag, whichever there is.
    Name(Branch),
}

impl Asked {
    /// By a branch, a commit, both or neither.
    pub(super) fn of(branch: Option<&Branch>, commit: Option<&CommitId>) -> Self {
        match (commit, branch) {
            (Some(commit), branch) => Self::Commit { commit: commit.clone(), branch: branch.cloned() },
            (None, Some(branch)) => Self::Branch(branch.clone()),
            (None, None) => Self::Head,
        }
    }
}

impl Listing {
    /// From a connection that is, or was, open.
    pub(super) fn of_remote(remote: &Remote<'_>) -> Result<Self, git2::Error> {
        let heads = remote.list()?;
        let named = heads.iter().find(|head| name_of(head) == Some("HEAD")).and_then(target_of).map(str::to_owned);
        // A server that does not say where HEAD points leaves us the branch with the same commit.
        let guessed = || remote.default_branch().ok().and_then(|name| name.as_str().ok().map(str::to_owned));
        let refs = heads.iter().filter_map(|head| Some((name_of(head)?, head.oid())));
        let refs = refs.filter(|(name, _)| !name.ends_with("^{}")).map(|(name, oid)| (name.to_owned(), oid)).collect();
        Ok(Self { head: named.or_else(guessed), refs })
    }

    /// From a repository on this machine's disk. Refs that lead nowhere are left out, as git itself does.
    pub(super) fn of_folder(source: &Repository) -> Result<Self, git2::Error> {
        let mut refs = BTreeMap::new();
        for reference in source.references()?.flatten() {
            if let (Ok(name), Ok(target)) = (reference.name(), reference.resolve()) {
                refs.extend(target.target().map(|oid| (name.to_owned(), oid)));
            }
        }
        let head = source.find_reference("HEAD")?;
        let tip = head.resolve().ok().and_then(|tip| tip.target());
        refs.extend(tip.map(|oid| ("HEAD".to_owned(), oid)));
        Ok(Self { head: head.symbolic_target().ok().flatten().map(str::to_owned), refs })
    }

    /// The same where nobody knows what HEAD means.
    pub(super) fn without_head(mut self) -> Self {
        self.refs.remove("HEAD");
        Self { head: None, ..self }
    }

    /// The branches and tags, which a mirror keeps; the rest (pull requests of years) only when asked for.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&String, &git2::Oid)> {
        self.refs.iter().filter(|(name, _)| name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
    }

    /// Finds what is meant.
    pub(super) fn resolve(&self, repo: &str, asked: &Asked) -> Result<Want, GitError> {
        let branch = match asked {
            Asked::Commit { commit, branch } => {
                let oid = git2::Oid::from_str(commit.as_str())
                    .map_err(|_| GitError::CommitGone { repo: repo.to_owned(), commit: commit.clone() })?;
                return Ok(Want { commit: oid, branch: branch.clone(), pinned: Some(commit.clone()) });
            }
            Asked::Name(name) => {
                return match self.named(name.as_str()) {
                    Some(commit) => Ok(Want { commit, branch: None, pinned: None }),
                    None if self.refs.is_empty() => Err(GitError::Empty { repo: repo.to_owned() }),
                    None => Err(self.no_branch(repo, name)),
                };
            }
            Asked::Branch(branch) => Some(branch),
            Asked::Head => None,
        };
        if self.refs.is_empty() {
            return Err(GitError::Empty { repo: repo.to_owned() });
        }
        if let Some(branch) = branch {
            return match self.refs.get(&format!("refs/heads/{branch}")) {
                Some(&commit) => Ok(Want { commit, branch: Some(branch.clone()), pinned: None }),
                None => Err(self.no_branch(repo, branch)),
            };
        }
        let head = self.head.as_deref();
        let Some(&commit) = self.refs.get("HEAD").or_else(|| head.and_then(|name| self.refs.get(name))) else {
            return Err(self.no_head(repo));
        };
        Ok(Want { commit, branch: self.head_branch(), pinned: None })
    }

    /// The branch that HEAD means.
    pub(super) fn head_branch(&self) -> Option<Branch> {
        self.head.as_deref().and_then(|name| name.strip_prefix("refs/heads/")?.parse().ok())
    }

    pub(super) fn has_branch(&self, branch: &Branch) -> bool {
        self.refs.contains_key(&format!("refs/heads/{branch}"))
    }

    pub(super) fn no_head(&self, repo: &str) -> GitError {
        GitError::NoHead { repo: repo.to_owned(), hint: self.branches() }
    }

    /// What a branch or a tag of this name holds; a tag may be an object of its own, which names a commit.
    fn named(&self, name: &str) -> Option<git2::Oid> {
        let places = ["refs/heads/", "refs/tags/"].map(|place| format!("{place}{name}"));
        places.iter().find_map(|place| self.refs.get(place).copied())
    }

    fn no_branch(&self, repo: &str, branch: &Branch) -> GitError {
        GitError::NoBranch { repo: repo.to_owned(), branch: branch.clone(), hint: self.hint(branch.as_str()) }
    }

    /// What somebody who wrote `wrong` may have meant.
    fn hint(&self, wrong: &str) -> String {
        if self.refs.contains_key(&format!("refs/tags/{wrong}")) {
            return format!("There is a tag of that name, which is no branch. {}", self.branches());
        }
        let near = self.branch_names().map(|name| (distance(wrong, name), name)).min();
        match near {
            Some((steps, name)) if steps <= 1 + wrong.chars().count() / 4 => format!("Did you mean {name:?}?"),
            _ => self.branches(),
        }
    }

    fn branches(&self) -> String {
        let count = self.branch_names().count();
        let named: Vec<_> = self.branch_names().take(NAMED).collect();
        match count {
            0 => "It has no branch at all.".to_owned(),
            _ if count <= NAMED => format!("Its branches: {}.", named.join(", ")),
            _ => format!("Its branches: {} and {} more.", named.join(", "), count - NAMED),
        }
    }

    fn branch_names(&self) -> impl Iterator<Item = &str> {
        self.refs.keys().filter_map(|name| name.strip_prefix("refs/heads/"))
    }
}

/// How many letters must change to make one word of the other; case counts for nothing.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(branches: &[&str]) -> Listing {
        let oid = git2::Oid::from_str(&"a".repeat(40)).unwrap();
        let refs = branches.iter().map(|b| (format!("refs/heads/{b}"), oid));
        Listing { refs: refs.chain([("refs/tags/v1".to_owned(), oid)]).collect(), head: None }
    }

    #[test]
    fn a_missing_branch_comes_with_what_may_be_meant() {
        let check = |branches: &[&str], wrong: &str, expect: &str| {
            let wrong: Branch = wrong.parse().unwrap();
            let error = listing(branches).resolve("/r", &Asked::Branch(wrong.clone())).unwrap_err();
            assert_eq!(error.to_string(), format!("/r has no branch {:?}. {expect}", wrong.as_str()));
        };
        check(&["main", "next"], "develop", "Its branches: main, next.");
        check(&["main", "next"], "mai", "Did you mean \"main\"?");
        check(&["main", "next"], "Main", "Did you mean \"main\"?");
        check(&["release/1.0", "next"], "release/1.1", "Did you mean \"release/1.0\"?");
        check(&["main"], "v1", "There is a tag of that name, which is no branch. Its branches: main.");
        let many: Vec<String> = (0..20).map(|i| format!("b{i:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, "something", "Its branches: b00, b01, b02, b03, b04, b05, b06, b07 and 12 more.");
        check(&[], "x", "It has no branch at all.");
    }

    #[test]
    fn no_head_and_nothing_at_all_are_told_apart() {
        let error = listing(&["main"]).resolve("/r", &Asked::Head).unwrap_err();
        assert!(matches!(error, GitError::NoHead { .. }), "{error}");
        let error = Listing::default().resolve("/r", &Asked::Head).unwrap_err();
        assert!(matches!(error, GitError::Empty { .. }), "{error}");
    }

    #[test]
    fn a_ref_whose_name_is_no_text_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let source = Repository::init(folder.path()).unwrap();
        let me = git2::Signature::now("me", "me@example.org").unwrap();
        let tree = source.find_tree(source.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let tip = source.commit(Some("refs/heads/main"), &me, &me, "first", &tree, &[]).unwrap();
        let line = [tip.to_string().as_bytes(), b" refs/tags/v\xe9\n"].concat();
        std::fs::write(source.path().join("packed-refs"), line).unwrap();
        let url = format!("file://{}", folder.path().display());
        let mut remote = source.remote_anonymous(&url).unwrap();
        remote.connect(git2::Direction::Fetch).unwrap();
        assert!(remote.list().unwrap().iter().any(|head| name_of(head).is_none()), "it is offered");
        let listing = Listing::of_remote(&remote).unwrap();
        assert_eq!(listing.refs.get("refs/heads/main"), Some(&tip));
        assert!(listing.refs.keys().all(|name| !name.contains("tags")), "{listing:?}");
    }
}
