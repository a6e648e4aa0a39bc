//! From another system's file to a manifest. The text is for a person to go on with: whatever could not be carried
//! over stands in it as a comment, and in a list beside it.
//!
//! `tree` is the source, and knows what nobody asked for; `notes` is what a person must know; `words` are the variables
//! that systems set, `conditions` their `when`, `draft` is the manifest while it is made. Then a room per system.

mod tree;
mod notes;
mod words;
mod conditions;
mod draft;
mod parts;
mod gitlab;
mod github;
mod travis;
mod woodpecker;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use notes::{Note, NoteKind};

use crate::manifest::{self, ManifestError, Node, Text};
use draft::Draft;
use tree::Tree;

/// A system whose files are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `.gitlab-ci.yml`
    Gitlab,
    /// `.github/workflows/*.yml`, and Forgejo's and Gitea's of the same language.
    Github,
    /// `.travis.yml`
    Travis,
    /// `.woodpecker.yml`, `.woodpecker/*.yml`
    Woodpecker,
    /// `.drone.yml`
    Drone,
}

impl Kind {
    /// Its own name, as a person writes it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Gitlab => "GitLab CI",
            Self::Github => "GitHub Actions",
            Self::Travis => "Travis CI",
            Self::Woodpecker => "Woodpecker CI",
            Self::Drone => "Drone",
        }
    }
}

/// What became of a file.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Of which system it is.
    pub kind: Kind,
    /// The manifest.
    pub manifest: String,
    /// What to know of it, in the order of the file.
    pub notes: Vec<Note>,
}

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is no YAML.
    #[error(transparent)]
    Source(#[from] ManifestError),
    /// Nobody knows whose file it is.
    #[error(
        "{name} is not known as a file of GitLab CI, GitHub Actions, Travis CI, Woodpecker or Drone; say whose it is with --from"
    )]
    Unknown {
        /// The file.
        name: String,
    },
    /// There is nothing to run in it.
    #[error(
        "{name} holds no {what}, so there is nothing to make a manifest of; see that it is the right file, and that --from is right"
    )]
    Empty {
        /// The file.
        name: String,
        /// What it should hold.
        what: &'static str,
    },
}

/// Makes a manifest of a file. `path` is what it is called; the system is guessed from that and from what stands in
/// it unless `kind` says it.
///
/// # Errors
/// [`ImportError`]: it is no YAML, nobody knows whose it is, or nothing in it runs.
pub fn import(bytes: &[u8], path: &Path, kind: Option<Kind>) -> Result<Imported, ImportError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (source, nodes) = documents(bytes, &name)?;
    let documents: Vec<Tree> = nodes.iter().map(|node| Tree::new(&source, node)).collect();
    let kind = kind.or_else(|| guess(path, &documents)).ok_or_else(|| ImportError::Unknown { name: name.clone() })?;
    let mut draft = Draft::new(kind);
    match kind {
        Kind::Gitlab => gitlab::read(&mut draft, &documents),
        Kind::Github => github::read(&mut draft, &documents),
        Kind::Travis => travis::read(&mut draft, &documents),
        Kind::Woodpecker | Kind::Drone => woodpecker::read(&mut draft, &documents),
    }
    if draft.stages.is_empty() {
        let what = match kind {
            Kind::Gitlab | Kind::Github => "jobs",
            Kind::Travis => "language and no script",
            Kind::Woodpecker | Kind::Drone => "steps",
        };
        return Err(ImportError::Empty { name, what });
    }
    for document in &documents {
        draft.notes.sweep(&mut draft.top, document);
    }
    let (manifest, notes) = draft.finish(&name);
    let mut notes = notes.into_list();
    notes.sort_by_key(|note| (note.line == 0, note.line));
    Ok(Imported { kind, manifest, notes })
}

/// The documents of a file. Woodpecker takes `- <<: *list` for the elements of that list, which is no YAML.
fn documents(bytes: &[u8], name: &str) -> Result<(Text, Vec<Node>), ManifestError> {
    const MERGED: &str = "- <<: *";
    match manifest::documents(bytes, name) {
        Err(error) => {
            let text = String::from_utf8_lossy(bytes);
            if !text.contains(MERGED) {
                return Err(error);
            }
            // Lists in lists are made flat wherever they are read.
            manifest::documents(text.replace(MERGED, "- *").as_bytes(), name)
        }
        read => read,
    }
}

/// Whose file it is, by its name, else by what stands in it.
fn guess(path: &Path, documents: &[Tree]) -> Option<Kind> {
    let text = path.to_string_lossy().to_lowercase();
    let named = [
        ("gitlab-ci", Kind::Gitlab),
        (".github/", Kind::Github),
        (".forgejo/", Kind::Github),
        (".gitea/", Kind::Github),
        ("travis", Kind::Travis),
        ("woodpecker", Kind::Woodpecker),
        ("drone", Kind::Drone),
    ];
    if let Some((_, kind)) = named.into_iter().find(|(part, _)| text.contains(part)) {
        return Some(kind);
    }
    let first = documents.first()?;
    let has = |key: &str| first.get(key).is_some();
    let scripted = || first.entries().iter().any(|(_, value)| value.get("script").is_some());
    if has("jobs") && (has("on") || first.get("jobs")?.entries().iter().any(|(_, job)| job.get("runs-on").is_some())) {
        Some(Kind::Github)
    } else if has("kind") {
        Some(Kind::Drone)
    } else if has("steps") || has("pipeline") {
        Some(Kind::Woodpecker)
    } else if has("language") || has("before_install") || has("install") {
        Some(Kind::Travis)
    } else if has("stages") || scripted() {
        Some(Kind::Gitlab)
    } else {
        None
    }
}
