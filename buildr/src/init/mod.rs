//! A first manifest for a project: looks at the folder, and writes what would build and test it. Nothing is run.
//!
//! `folder` is how the project is looked at, `part` what a language needs; each language has a file, and `compose`
//! makes one manifest of all that was found.

mod folder;
mod part;
mod rust;
mod python;
mod node;
mod go;
mod java;
mod c;
mod container;
mod compose;
#[cfg(test)]
mod tests;

use std::path::Path;

use folder::Folder;

/// A manifest, and what it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// What was found, each with the file that tells it: "Rust (Cargo.toml)".
    pub found: Vec<String>,
    /// The text of the manifest.
    pub manifest: String,
}

/// Looks at a project's folder. `image` is the image to use in place of the languages' own; where it is a bare Debian
/// or Ubuntu, `prepare` installs what the languages need.
///
/// A folder in which nothing is known gets a manifest with one stage, to be filled in.
#[must_use]
pub fn propose(folder: &Path, image: Option<&str>) -> Proposal {
    let folder = Folder::new(folder);
    let parts = [
        rust::part(&folder),
        go::part(&folder),
        java::part(&folder),
        c::part(&folder),
        python::part(&folder),
        node::part(&folder),
        container::part(&folder),
    ];
    let parts: Vec<part::Part> = parts.into_iter().flatten().collect();
    let found = parts.iter().map(|part| format!("{} ({})", part.title, part.told_by)).collect();
    Proposal { found, manifest: compose::manifest(&parts, image) }
}
