//! Whose code is built, and where it lies: `clone`, `repos`, `workspace` and `dir`.

use protocol::RepoUrl;
use protocol::plan::{CloneOptions, Submodules};

use super::findings::{Findings, Keys, shown};
use crate::manifest::keys::{CLONE, REPO};
use crate::manifest::language::Repo;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Spanned, quoted};

/// What `clone` says: `false` for an empty workspace, or a map.
pub(super) fn clone(entry: &Entry, findings: &mut Findings<'_>) -> CloneOptions {
    let mut clone = CloneOptions::default();
    match &entry.value.value {
        Shape::Scalar { truth: Some(truth), .. } => clone.none = !truth,
        Shape::Map(_) => {
            for entry in findings.entries(entry, &Keys::of("clone", &CLONE), "clone: {depth: 50, submodules: true}") {
                match entry.key.value.as_str() {
                    "depth" => clone.depth = findings.count_of(entry, 1..=1_000_000),
                    "submodules" => clone.submodules = submodules(entry, findings),
                    "lfs" => clone.lfs = findings.flag(entry).unwrap_or_default(),
                    _ => clone.filter = filter(entry, findings),
                }
            }
        }
        other => {
            let message = format!("\"clone\" is `false` or a map, and here stands {}", shown(other));
            findings.error(entry.place(), message, "write `clone: false` for none, or `clone: {depth: 50}`");
        }
    }
    clone
}

fn submodules(entry: &Entry, findings: &mut Findings<'_>) -> Submodules {
    match &entry.value.value {
        Shape::Scalar { truth: Some(true), .. } => Submodules::Direct,
        Shape::Scalar { truth: Some(false), .. } => Submodules::None,
        Shape::Scalar { text, .. } if text == "recursive" => Submodules::Recursive,
        other => {
            let message = format!("\"submodules\" is `true`, `false` or `recursive`, and here stands {}", shown(other));
            findings.error(entry.place(), message, "write `submodules: recursive` for those of submodules too");
            Submodules::None
        }
    }
}

/// A filter as git has them.
fn filter(entry: &Entry, findings: &mut Findings<'_>) -> Option<String> {
    const HELP: &str = "write `filter: blob:none`, `filter: blob:limit=1m` or `filter: tree:0`";
    let filter = findings.word(entry, HELP)?.value;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = |text: &str| number(text.strip_suffix(['k', 'm', 'g']).unwrap_or(text));
    let known = filter == "blob:none"
        || filter.strip_prefix("blob:limit=").is_some_and(limit)
        || filter.strip_prefix("tree:").is_some_and(number);
    if !known {
        findings.error(entry.place(), format!("{} is no filter of git's", quoted(&filter)), HELP);
    }
    known.then_some(filter)
}

/// What `repos` says: names, each with a URL or more.
pub(super) fn repos(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Repo> {
    const EXAMPLE: &str = "repos: {lib: {url: \"https://git.example.org/lib.git\", path: deps/lib}}";
    let Shape::Map(entries) = &entry.value.value else {
        let message = format!("\"repos\" is a map of names, and here stands {}", entry.value.value.kind());
        findings.error(entry.place(), message, format!("write `{EXAMPLE}`"));
        return Vec::new();
    };
    entries.iter().filter_map(|entry| repo(entry, findings)).collect()
}

fn repo(entry: &Entry, findings: &mut Findings<'_>) -> Option<Repo> {
    let name = entry.key.clone();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.value.is_empty() || name.value.starts_with('.') || name.value.len() > 63 || !name.value.chars().all(legal) {
        let message = format!("{} cannot name a repository here", quoted(&name.value));
        findings.error(name.span, message, "write 1 to 63 letters, digits, `-`, `_` or `.`");
        return None;
    }
    if matches!(entry.value.value, Shape::Scalar { .. }) {
        return url(entry, findings).map(|url| Repo { name, url, path: None, branch: None });
    }
    let keys = Keys { owner: format!("the repository {}", quoted(&name.value)), map: &REPO };
    let example = format!("{}: {{url: \"https://git.example.org/{}.git\"}}", name.value, name.value);
    let before = findings.count();
    let (mut its_url, mut path, mut branch) = (None, None, None);
    for entry in findings.entries(entry, &keys, &example) {
        match entry.key.value.as_str() {
            "url" => its_url = url(entry, findings),
            "path" => {
                let text = findings.word(entry, "write `path: deps/lib`, a folder below the workspace");
                path = text.filter(|path| findings.stays_below(path, "the folder of a repository"));
            }
            _ => branch = findings.word(entry, "write `branch: same` for the build's own, or a branch's name"),
        }
    }
    if its_url.is_none() && findings.count() == before {
        findings.error(name.span, format!("{} has no \"url\"", keys.owner), format!("write `{example}`"));
    }
    its_url.map(|url| Repo { name, url, path, branch })
}

/// The URL of a repository, or its path on this machine.
pub(super) fn url(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<String>> {
    const HELP: &str = "write `https://git.example.org/team/lib.git` or `git@git.example.org:team/lib.git`";
    let url = findings.word(entry, HELP)?;
    if !url.value.contains("${")
        && let Err(error) = url.value.parse::<RepoUrl>()
    {
        findings.error(entry.place(), format!("{} names no repository: {error}", quoted(&url.value)), HELP);
        return None;
    }
    Some(url)
}

/// Where the checkout is mounted.
pub(super) fn workspace(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<String>> {
    const HELP: &str = "write `workspace: /src`: an absolute path, as containers have it";
    /// Folders that an image needs for itself.
    const TAKEN: [&str; 9] = ["", "/bin", "/dev", "/etc", "/lib", "/proc", "/run", "/sys", "/usr"];
    let path = findings.word(entry, HELP)?;
    let bare = path.value.trim_end_matches('/');
    let odd = !path.value.starts_with('/')
        || path.value.contains([':', '\n'])
        || bare.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    if odd || TAKEN.contains(&bare) {
        let message = format!("{} cannot be where the checkout is", quoted(&path.value));
        findings.error(entry.place(), message, HELP);
        return None;
    }
    Some(Spanned { value: bare.to_owned(), span: path.span })
}

/// Where scripts begin: below the workspace, or absolute.
pub(super) fn dir(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<String>> {
    const HELP: &str = "write `dir: crates/api`: a folder below the workspace";
    let dir = findings.word(entry, HELP)?;
    if dir.value.split('/').any(|part| part == "..") {
        let message = format!("\"dir\" goes down only, and {} goes up", quoted(&dir.value));
        findings.error(entry.place(), message, HELP);
        return None;
    }
    Some(dir)
}
