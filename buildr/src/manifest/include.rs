//! `include`: other files whose keys a manifest takes over.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use protocol::{CommitId, RepoUrl};

use super::node::{Entry, Node, Shape};
use super::source::{Problem, Source, Span, Spanned, Text, quoted};
use super::{MAX_BYTES, yaml};

/// The most files of one manifest.
const MAX_FILES: usize = 50;

/// How far files may include others that include others.
const MAX_DEPTH: usize = 8;

/// The most bytes of all files of one manifest.
const MAX_TOTAL: usize = 4 * MAX_BYTES;

const HELP: &str = "write `include: [ci/common.yml]`, or `include: [{repo: URL, ref: v3, file: rust.yml}]`";

/// A file of another repository, as `include` asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The repository, as it is written.
    pub repo: String,
    /// A commit, a tag or a branch; the repository's own HEAD without it.
    pub reference: Option<String>,
    /// The file's path from the repository's root.
    pub file: String,
}

impl RemoteFile {
    /// The repository for people, without a password that its address may hold.
    #[must_use]
    pub fn repo_shown(&self) -> String {
        match (self.repo.parse::<RepoUrl>(), self.repo.rsplit_once('@')) {
            (Ok(repo), _) => repo.to_string(),
            (Err(_), Some((_, place))) => format!("***@{place}"),
            (Err(_), None) => self.repo.clone(),
        }
    }
}

/// A file of another repository, brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// The commit that the reference meant.
    pub commit: CommitId,
}

/// Where files of other repositories come from. It may block.
pub trait Includes {
    /// Brings a file.
    ///
    /// # Errors
    /// Why it cannot be had, as one sentence for the person who wrote the `include`.
    fn fetch(&self, file: &RemoteFile) -> Result<Fetched, String>;
}

/// No files of other repositories: for where nothing may be fetched.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIncludes;

impl Includes for NoIncludes {
    fn fetch(&self, _: &RemoteFile) -> Result<Fetched, String> {
        Err("files of other repositories are not fetched here".to_owned())
    }
}

/// What a manifest took from another repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// What was asked for.
    pub file: RemoteFile,
    /// What that was when it was read.
    pub commit: CommitId,
}

/// Where files come from while one manifest is read.
pub(super) struct Sources<'a> {
    /// The project's folder; without one no local file can be included.
    pub(super) folder: Option<&'a Path>,
    pub(super) remote: &'a dyn Includes,
}

/// A manifest's texts, its top level with all that they say, and what was fetched for it.
pub(super) struct Whole {
    pub(super) source: Source,
    pub(super) root: Node,
    pub(super) included: Vec<Included>,
    /// What is allowed and probably not meant.
    pub(super) loose: Vec<(Span, RemoteFile)>,
}

/// Which file it is: by which a circle is found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Identity {
    Local(PathBuf),
    Remote(String, CommitId, String),
}

/// Reads a manifest and all that it includes.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn read(text: Text, path: Option<&Path>, sources: &Sources<'_>) -> Result<Whole, Problem> {
    let root = yaml::parse(&text)?;
    let total = text.text().len();
    let mut reader = Reader { sources, source: text.into(), included: Vec::new(), loose: Vec::new(), files: 1, total };
    let itself = path.and_then(|path| path.canonicalize().ok()).map(Identity::Local);
    let root = reader.with_includes(root, &itself.into_iter().collect::<Vec<_>>())?;
    let Reader { source, included, loose, .. } = reader;
    Ok(Whole { source, root, included, loose })
}

struct Reader<'a> {
    sources: &'a Sources<'a>,
    source: Source,
    included: Vec<Included>,
    loose: Vec<(Span, RemoteFile)>,
    files: usize,
    total: usize,
}

impl Reader<'_> {
    /// The top level with the keys of what it includes before its own. Where a key stands in both, its own holds.
    fn with_includes(&mut self, root: Node, within: &[Identity]) -> Result<Node, Problem> {
        let Shape::Map(entries) = root.value else { return Ok(root) };
        let Some(include) = entries.iter().find(|entry| entry.key.value == "include") else {
            return Ok(Spanned { value: Shape::Map(entries), span: root.span });
        };
        if listed_as_stages(&entries).contains("include") {
            return Ok(Spanned { value: Shape::Map(entries), span: root.span });
        }
        let mut found: Vec<Entry> = Vec::new();
        let mut asked = Vec::new();
        elements(&include.value, include.key.span, &mut asked);
        for (element, place) in asked {
            found.extend(self.element(element, place, within)?);
        }
        let mut merged = last_of_each(found, &entries);
        merged.extend(entries);
        Ok(Spanned { value: Shape::Map(merged), span: root.span })
    }

    /// What one element of `include` contributes.
    fn element(&mut self, element: &Node, place: Span, within: &[Identity]) -> Result<Vec<Entry>, Problem> {
        match &element.value {
            Shape::Scalar { text, .. } if !text.trim().is_empty() => self.file_beside(text, place, within),
            Shape::Map(entries) => {
                let mut found = Vec::new();
                for file in self.remote_files(entries, place)? {
                    found.extend(self.fetched(&file, place, within)?);
                }
                Ok(found)
            }
            other => {
                let message = format!("\"include\" lists files, and here stands {}", other.kind());
                Err(self.source.problem(place, message, HELP))
            }
        }
    }

    /// A path: of the project's folder, or of the repository whose file names it.
    fn file_beside(&mut self, path: &str, place: Span, within: &[Identity]) -> Result<Vec<Entry>, Problem> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            let message = format!("{} leads out of the project's folder", quoted(path));
            return Err(self.source.problem(
                place,
                message,
                "write a path from the project's folder down, without `..`",
            ));
        }
        if let Some(Identity::Remote(repo, commit, _)) = within.last() {
            let file = RemoteFile { repo: repo.clone(), reference: Some(commit.to_string()), file: path.to_owned() };
            return self.fetched(&file, place, within);
        }
        let (whole, bytes) = self.local(path).map_err(|why| {
            let help = "see that the file is there and in the repository; paths begin in the project's folder";
            self.source.problem(place, format!("{} cannot be included: {why}", quoted(path)), help)
        })?;
        self.text(path, &bytes, Identity::Local(whole), place, within)
    }

    /// Reads a file below the folder. The rest of the disk is not the manifest's to read.
    fn local(&self, path: &str) -> Result<(PathBuf, Vec<u8>), String> {
        let folder = self.sources.folder.ok_or("no folder is known here that it could be in")?;
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let whole = folder.join(path).canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        })?;
        if !whole.starts_with(&folder) {
            return Err("it is a link that leads out of the project's folder".to_owned());
        }
        if !whole.is_file() {
            return Err("it is no regular file".to_owned());
        }
        let file = std::fs::File::open(&whole).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok((whole, bytes))
    }

    /// `{repo, ref, file}`, where `file` may be several.
    fn remote_files(&mut self, entries: &[Entry], place: Span) -> Result<Vec<RemoteFile>, Problem> {
        let (mut repo, mut reference, mut files) = (None, None, Vec::new());
        for entry in entries {
            let mut texts = Vec::new();
            elements(&entry.value, entry.key.span, &mut texts);
            let texts: Option<Vec<String>> = texts
                .iter()
                .map(|(node, _)| match &node.value {
                    Shape::Scalar { text, .. } if !text.trim().is_empty() => Some(text.clone()),
                    _ => None,
                })
                .collect();
            let Some(texts) = texts else {
                let message = format!("{} of an include is text", quoted(&entry.key.value));
                return Err(self.source.problem(entry.place(), message, HELP));
            };
            match (entry.key.value.as_str(), texts.as_slice()) {
                ("repo", [one]) => repo = Some(one.clone()),
                ("ref", [one]) => reference = Some(one.clone()),
                ("file", _) => files = texts,
                ("repo" | "ref", _) => {
                    let message = format!("{} of an include is one text", quoted(&entry.key.value));
                    return Err(self.source.problem(entry.place(), message, HELP));
                }
                (other, _) => {
                    let message = format!("an include has no key {}", quoted(other));
                    return Err(self.source.problem(entry.key.span, message, HELP));
                }
            }
        }
        match repo {
            Some(repo) if !files.is_empty() => {
                let file = |file| RemoteFile { repo: repo.clone(), reference: reference.clone(), file };
                Ok(files.into_iter().map(file).collect())
            }
            _ => Err(self.source.problem(place, "this include does not say both its `repo` and its `file`", HELP)),
        }
    }

    fn fetched(&mut self, file: &RemoteFile, place: Span, within: &[Identity]) -> Result<Vec<Entry>, Problem> {
        let wanted =
            if file.reference.is_some() { "see that it is there, and that this machine may read it" } else { HELP };
        let fetched = self.sources.remote.fetch(file).map_err(|why| {
            let message = format!("{} of {} cannot be included: {why}", quoted(&file.file), quoted(&file.repo_shown()));
            self.source.problem(place, message, wanted)
        })?;
        let moves = |reference: &str| matches!(reference, "main" | "master" | "develop" | "trunk" | "HEAD");
        if file.reference.as_deref().is_none_or(moves) {
            self.loose.push((place, file.clone()));
        }
        self.included.push(Included { file: file.clone(), commit: fetched.commit.clone() });
        let name = format!("{}@{}", file.file, fetched.commit.short());
        let identity = Identity::Remote(file.repo.clone(), fetched.commit, file.file.clone());
        self.text(&name, &fetched.bytes, identity, place, within)
    }

    /// The entries of an included file.
    fn text(
        &mut self,
        name: &str,
        bytes: &[u8],
        identity: Identity,
        place: Span,
        within: &[Identity],
    ) -> Result<Vec<Entry>, Problem> {
        if within.contains(&identity) {
            let message = format!("{} includes itself, by way of the files between", quoted(name));
            return Err(self.source.problem(place, message, "take one of these includes out"));
        }
        self.files += 1;
        self.total += bytes.len();
        if self.files > MAX_FILES || self.total > MAX_TOTAL || within.len() > MAX_DEPTH {
            let message = "too much is included from here on";
            let help = format!(
                "include at most {MAX_FILES} files, {} MiB and {MAX_DEPTH} files one in the other",
                MAX_TOTAL >> 20
            );
            return Err(self.source.problem(place, message, help));
        }
        let text = super::text(bytes, name)?;
        let parsed = yaml::parse(&text)?;
        let start = self.source.add(text);
        let root = parsed.on(start);
        match &root.value {
            Shape::Map(_) | Shape::Null => {}
            other => {
                let message = format!("{} is included, so it is a map of keys, not {}", quoted(name), other.kind());
                return Err(self.source.problem(root.span, message, "write keys and values in it, as in a manifest"));
            }
        }
        let within = [within, &[identity]].concat();
        let Shape::Map(mut entries) = self.with_includes(root, &within)?.value else { return Ok(Vec::new()) };
        entries.retain(|entry| entry.key.value != "include");
        Ok(entries)
    }
}

/// Of several entries of one key the last one, but none of the keys of `own`.
fn last_of_each(mut found: Vec<Entry>, own: &[Entry]) -> Vec<Entry> {
    let mut keys: HashSet<String> = own.iter().map(|entry| entry.key.value.clone()).collect();
    found.reverse();
    found.retain(|entry| keys.insert(entry.key.value.clone()));
    found.reverse();
    found
}

/// The keys of which `stages` makes stages.
pub(super) fn listed_as_stages(entries: &[Entry]) -> HashSet<&str> {
    let mut listed = HashSet::new();
    for stages in entries.iter().filter(|entry| entry.key.value == "stages") {
        let Shape::List(elements) = &stages.value.value else { continue };
        for element in elements {
            let group = if let Shape::List(group) = &element.value { group } else { std::slice::from_ref(element) };
            listed.extend(group.iter().filter_map(|node| match &node.value {
                Shape::Scalar { text, .. } => Some(text.as_str()),
                _ => None,
            }));
        }
    }
    listed
}

/// A value or the elements of a list, lists in it flattened, each with the place to point at.
fn elements<'n>(node: &'n Node, otherwise: Span, into: &mut Vec<(&'n Node, Span)>) {
    let place = node.place_or(otherwise);
    match &node.value {
        Shape::List(list) => list.iter().for_each(|element| elements(element, place, into)),
        _ => into.push((node, place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::worked_ms;

    fn entries<K: ToString>(keys: impl IntoIterator<Item = K>) -> Vec<Entry> {
        let entry = |(number, key): (usize, K)| Entry {
            key: Spanned { value: key.to_string(), span: Span::new(number..number) },
            value: Spanned { value: Shape::Null, span: Span::new(0..0) },
        };
        keys.into_iter().enumerate().map(entry).collect()
    }

    #[test]
    fn of_several_entries_of_a_key_the_last_one_holds() {
        let left = last_of_each(entries(["a", "b", "a", "c", "d"]), &entries(["c", "e"]));
        let left: Vec<(&str, usize)> =
            left.iter().map(|entry| (entry.key.value.as_str(), entry.key.span.start)).collect();
        assert_eq!(left, [("b", 1), ("a", 2), ("d", 4)]);
    }

    #[test]
    fn many_keys_are_taken_over_in_no_time() {
        let (found, own) = (entries((0..100_000).chain(50_000..150_000)), entries(140_000..200_000));
        let start = worked_ms();
        assert_eq!(last_of_each(found, &own).len(), 140_000);
        assert!(worked_ms() - start < 5_000, "{} ms", worked_ms() - start);
    }
}
