//! A new repository of the fewest files that git takes for one. libgit2's own beginning makes three times as many, and
//! writes the settings anew for each of them: most of what it costs to copy a small tree.

use std::fs;
use std::io;
use std::path::Path;

use git2::{Oid, Repository};

use super::error::GitError;

/// What git would write at the beginning.
const SETTINGS: &str =
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n";

/// Where `HEAD` is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head<'a> {
    /// On a branch, which need not be there, by its whole name.
    On(&'a str),
    /// At a commit.
    At(Oid),
}

/// Makes one in a folder, with its own settings behind those that each has; without a template, which may bring hooks of
/// this user.
pub(super) fn make(into: &Path, head: Head<'_>, settings: &str) -> Result<Repository, GitError> {
    let git = into.join(".git");
    let written = || -> io::Result<()> {
        fs::create_dir_all(&git)?;
        // Git makes the others when it has something for them. Scripts put files into the last two, as every clone has them.
        for folder in ["objects", "refs", "hooks", "info"] {
            fs::create_dir(git.join(folder))?;
        }
        fs::write(git.join("config"), [SETTINGS, settings].concat())?;
        let head = match head {
            Head::On(name) => format!("ref: {name}\n"),
            Head::At(commit) => format!("{commit}\n"),
        };
        fs::write(git.join("HEAD"), head)
    };
    written().map_err(GitError::disk("make a repository in", into))?;
    Repository::open(into).map_err(GitError::tree("make a repository in", into))
}

/// A section of a file of settings.
pub(super) fn section(name: &str, subsection: Option<&str>, settings: &[(&str, &str)]) -> String {
    let within = subsection.map(|text| format!(" {}", quoted(text))).unwrap_or_default();
    let lines = settings.iter().map(|(name, value)| format!("\t{name} = {}\n", quoted(value)));
    format!("[{name}{within}]\n{}", lines.collect::<String>())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_takes_it_for_a_repository() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("a/b");
        let odd = "https://example.org/a \"b\\c;#d.git";
        let settings =
            section("remote", Some("or\"ig\\in"), &[("url", odd)]) + &section("core", None, &[("eol", "lf")]);
        let repository = make(&into, Head::On("refs/heads/new/one"), &settings).unwrap();
        assert!(!repository.is_bare());
        let found = repository.find_reference("HEAD").unwrap();
        assert_eq!(found.symbolic_target().unwrap(), Some("refs/heads/new/one"));
        let config = repository.config().unwrap();
        assert_eq!(config.get_string("remote.or\"ig\\in.url").unwrap(), odd);
        assert_eq!(config.get_string("core.eol").unwrap(), "lf");
        let git = |arguments: &[&str]| {
            let ran = std::process::Command::new("git").arg("-C").arg(&into).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{arguments:?}: {ran:?}");
            String::from_utf8(ran.stdout).unwrap()
        };
        std::fs::write(into.join("file"), "text").unwrap();
        git(&["add", "file"]);
        git(&["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "first"]);
        assert_eq!(git(&["symbolic-ref", "HEAD"]).trim(), "refs/heads/new/one");
        git(&["fsck", "--strict"]);
    }

    #[test]
    fn its_head_may_be_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let commit: Oid = "0123456789012345678901234567890123456789".parse().unwrap();
        let repository = make(folder.path(), Head::At(commit), "").unwrap();
        assert_eq!(repository.find_reference("HEAD").unwrap().target(), Some(commit));
    }
}
