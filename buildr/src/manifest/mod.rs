//! The manifest: the file in the repository, as it is written.
//!
//! [`load_project`] finds and reads those of a folder. In it: `place` says which files these are, `yaml` makes nodes
//! of a text (and is the only file that knows the YAML crate), `include` brings other files' nodes, `keys` is the
//! registry of what there is, `habits` is what is no good one, `check` makes a [`Manifest`] of them and collects all that is wrong, and `source` shows a person where. What a manifest means is
//! [`crate::plan`]'s.

mod source;
mod node;
mod yaml;
mod writer;
mod words;
mod globs;
pub(crate) mod keys;
mod variable;
mod language;
mod include;
mod check;
mod place;
mod project;
mod habits;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use habits::habits;
pub use include::{Fetched, Included, Includes, NoIncludes, RemoteFile};
pub use keys::schema::schema;
pub use language::Manifest;
pub use place::find;
pub use project::{Pipeline, Project, ProjectReading, load_file, load_project};
pub use source::Problem;

pub(crate) use globs::too_large;
pub(crate) use language::{
    Artifacts, Cache, Concurrency, Condition, Coverage, Element, Globs, Image, Inherit, Manual, Matrix, Need, Prepare,
    Repo, Reports, RetrySaid, Service, Stage, Trigger, When,
};
pub(crate) use node::{Node, Shape};
pub(crate) use source::Text;
pub(crate) use source::{Source, Span, Spanned, quoted};
pub(crate) use variable::{is_inheritable, is_name, is_reserved};
pub(crate) use writer::{Map, Value};

/// The longest manifest that is read, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A manifest that was understood, and what its author should know all the same.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What it says.
    pub manifest: Manifest,
    /// What is allowed and probably not meant, in the order of the file; the first twenty.
    pub warnings: Vec<Problem>,
}

/// Why there is no manifest to go by. Each text is for the person who wrote it, and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The folder has none.
    #[error(
        "there is no manifest{}; write a file .buildr.yml in the project's folder, and three lines will do:\n\n  \
         image: ubuntu:latest\n  build:\n    script: echo \"it builds\"\n\n\
         `buildr init` writes one for the project at hand",
        if *.pipelines { ": the folder .buildr has no file that ends with .yml" } else { "" },
    )]
    Missing {
        /// Whether a folder `.buildr` is there.
        pipelines: bool,
    },
    /// A link with the name of a manifest leads out of the folder.
    #[error("{name} is a link that leads out of its folder, which buildr does not follow; put the file itself there")]
    Outside {
        /// The link.
        name: String,
    },
    /// What has the name of a manifest is a folder, a device or the like.
    #[error("{name} is not a regular file; remove it, and write the manifest in a file of this name")]
    NotAFile {
        /// Which.
        name: String,
    },
    /// A file of the folder `.buildr` whose name cannot be a pipeline's.
    #[error(
        "{name} cannot be a pipeline's file; give it a name of letters, digits, `-`, `_` and `.` before the ending"
    )]
    BadPipeline {
        /// Which.
        name: String,
    },
    /// Two files of one pipeline.
    #[error("there are two files for the pipeline {name}, {} and {}; keep one of them", files[0], files[1])]
    PipelineTwice {
        /// Which.
        name: String,
        /// Both.
        files: [String; 2],
    },
    /// More pipelines than a build can have.
    #[error("the folder .buildr has {count} pipelines, and {most} are the most; put several into one file")]
    TooManyPipelines {
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// The disk or its permissions stand against it.
    #[error("{} could not be read; see that it exists and that this user may read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is written there is wrong.
    #[error("{}", told(.problems, *.more))]
    Faulty {
        /// What, in the order of the file.
        problems: Vec<Problem>,
        /// How much more there is of the kind.
        more: usize,
    },
}

impl From<Problem> for ManifestError {
    fn from(problem: Problem) -> Self {
        Self::Faulty { problems: vec![problem], more: 0 }
    }
}

/// Problems one below the other.
fn told(problems: &[Problem], more: usize) -> String {
    let mut paragraphs: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if more > 0 {
        paragraphs.push(format!("and {more} more like these"));
    }
    paragraphs.join("\n\n")
}

/// Finds and reads the manifest at the root of a folder, without files of other repositories.
///
/// # Errors
/// When there is none, when it cannot be read, and when something in it is wrong: then all of that at once.
pub fn load(folder: &Path) -> Result<Reading, ManifestError> {
    let path = find(folder)?;
    let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let sources = include::Sources { folder: Some(folder), remote: &NoIncludes };
    from_file(&path, &shown, &sources).map(|(reading, _)| reading)
}

/// Reads a manifest. `file_name` is what errors call it. Nothing can be included.
///
/// # Errors
/// [`ManifestError::Faulty`]: a text that is too long, no UTF-8 or no YAML is told by its first fault, anything
/// else by all of its faults.
pub fn read(bytes: &[u8], file_name: &str) -> Result<Reading, ManifestError> {
    let sources = include::Sources { folder: None, remote: &NoIncludes };
    from_bytes(bytes, file_name, None, &sources).map(|(reading, _)| reading)
}

/// Reads any YAML, of one document or several, and asks nothing about what it means: other systems' files.
///
/// # Errors
/// [`ManifestError::Faulty`] with the first thing that is not YAML, or is too large.
pub(crate) fn documents(bytes: &[u8], file_name: &str) -> Result<(Text, Vec<Node>), ManifestError> {
    let text = text(bytes, file_name)?;
    let nodes = yaml::parse_all(&text)?;
    Ok((text, nodes))
}

/// Reads a manifest from its file, with what it includes. `shown` is what errors call it.
fn from_file(
    path: &Path,
    shown: &str,
    sources: &include::Sources<'_>,
) -> Result<(Reading, Vec<Included>), ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // One byte more than is allowed tells that there are too many; the rest of them is never read.
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    from_bytes(&bytes, shown, Some(path), sources)
}

fn from_bytes(
    bytes: &[u8],
    shown: &str,
    path: Option<&Path>,
    sources: &include::Sources<'_>,
) -> Result<(Reading, Vec<Included>), ManifestError> {
    let whole = include::read(text(bytes, shown)?, path, sources)?;
    let (manifest, warnings) = check::manifest(whole.source, &whole.root, &whole.loose)
        .map_err(|told| ManifestError::Faulty { problems: told.problems, more: told.more })?;
    Ok((Reading { manifest, warnings }, whole.included))
}

fn text(bytes: &[u8], file_name: &str) -> Result<Text, Problem> {
    if bytes.len() > MAX_BYTES {
        let start = String::from_utf8_lossy(&bytes[..200]).into_owned();
        let limit = MAX_BYTES >> 20;
        return Err(Text::new(file_name, start).problem(
            Span::new(0..0),
            format!("the manifest is longer than {limit} MiB"),
            "write what is long in files of the repository, and run these in a `script`",
        ));
    }
    // Some editors begin a file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map(|text| Text::new(file_name, text.to_owned())).map_err(|error| {
        let at = error.valid_up_to();
        let shown = Text::new(file_name, String::from_utf8_lossy(bytes).into_owned());
        shown.problem(
            Span::new(at..at + char::REPLACEMENT_CHARACTER.len_utf8()),
            "this byte is not UTF-8, the encoding of manifests",
            "write the file in UTF-8; an editor's \"save with encoding\" does it",
        )
    })
}
