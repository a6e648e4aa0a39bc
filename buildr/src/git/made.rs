//! A new repository, as a clone's begins. libgit2's own beginning makes files to try the disk with, and some that nobody
//! needs, and writes the settings anew for each of them: three times as many, most of what it costs to copy a small tree.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use git2::{Oid, Repository};

use super::error::GitError;

/// Where `HEAD` is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Head<'a> {
    /// On a branch, which need not be there, by its whole name.
    On(&'a str),
    /// At a commit.
    At(Oid),
}

impl Head<'_> {
    /// What stands in the file.
    pub(super) fn text(self) -> String {
        match self {
            Self::On(name) => format!("ref: {name}\n"),
            Self::At(commit) => format!("{commit}\n"),
        }
    }
}

/// Makes one in a folder, with these settings of `core` in the place of those that git would find out, and more sections
/// behind them; without a template, which may bring hooks of this user.
pub(super) fn make(into: &Path, head: Head<'_>, core: &[(&str, &str)], sections: &str) -> Result<Repository, GitError> {
    let git = into.join(".git");
    let written = || -> io::Result<()> {
        fs::create_dir_all(&git)?;
        // Git itself needs but two of them; scripts look into the others, and put files there, as every clone has them.
        for folder in ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "hooks", "info"] {
            fs::create_dir(git.join(folder))?;
        }
        let file = git.join("HEAD");
        fs::write(&file, head.text())?;
        let filemode = if keeps_modes(&file)? { "true" } else { "false" };
        let found =
            [("repositoryformatversion", "0"), ("filemode", filemode), ("bare", "false"), ("logallrefupdates", "true")];
        // Each once: git does not change what stands there twice.
        let found = found.into_iter().filter(|(name, _)| core.iter().all(|(given, _)| given != name));
        let core: Vec<(&str, &str)> = found.chain(core.iter().copied()).collect();
        fs::write(git.join("config"), section("core", None, &core) + sections)
    };
    written().map_err(GitError::disk("make a repository in", into))?;
    Repository::open(into).map_err(GitError::tree("make a repository in", into))
}

/// Whether the disk knows which files may be executed: some of Windows or of a network do not.
fn keeps_modes(file: &Path) -> io::Result<bool> {
    let before = fs::metadata(file)?.permissions();
    let other = Permissions::from_mode(before.mode() ^ 0o100);
    if fs::set_permissions(file, other.clone()).is_err() {
        return Ok(false);
    }
    let after = fs::metadata(file)?.permissions();
    fs::set_permissions(file, before)?;
    Ok(after.mode() & 0o100 == other.mode() & 0o100)
}

/// A section of a file of settings.
pub(super) fn section(name: &str, subsection: Option<&str>, settings: &[(&str, &str)]) -> String {
    let within = subsection.map(|text| format!(" {}", quoted(text))).unwrap_or_default();
    let is_plain = |value: &str| value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@+*".contains(&byte));
    let value = |value: &str| if is_plain(value) { value.to_owned() } else { quoted(value) };
    let lines = settings.iter().map(|(name, text)| format!("\t{name} = {}\n", value(text)));
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
        let sections = section("remote", Some("or\"ig\\in"), &[("url", odd)]);
        let core = [("eol", "lf"), ("filemode", "false")];
        let repository = make(&into, Head::On("refs/heads/new/one"), &core, &sections).unwrap();
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
        assert_eq!(git(&["config", "core.filemode"]), "false\n");
        git(&["config", "core.filemode", "true"]);
        git(&["init", "--quiet"]);
    }

    #[test]
    fn its_head_may_be_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let commit: Oid = "0123456789012345678901234567890123456789".parse().unwrap();
        let repository = make(folder.path(), Head::At(commit), &[], "").unwrap();
        assert!(repository.config().unwrap().get_bool("core.filemode").unwrap(), "a disk for tests keeps modes");
        assert_eq!(repository.find_reference("HEAD").unwrap().target(), Some(commit));
    }
}
