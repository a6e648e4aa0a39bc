//! A project's folder, as far as its build can be told from it: files of its root, and the beginnings of their texts.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The most that is read of a file, in bytes: what tells how a project is built is short.
const MOST: u64 = 256 << 10;

/// The most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 2_000;

/// A folder to look at.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Whether there is a regular file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.path.join(name).is_file()
    }

    /// Whether there is a folder of this name.
    pub(super) fn has_folder(&self, name: &str) -> bool {
        self.path.join(name).is_dir()
    }

    /// The first of these files that is there.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().find(|name| self.has(name)).copied()
    }

    /// The beginning of a file's text; empty when it cannot be read.
    pub(super) fn text(&self, name: &str) -> String {
        let mut bytes = Vec::new();
        let path = self.path.join(name);
        if path.is_file() {
            // What cannot be read tells nothing, which is what an empty text tells.
            if let Ok(file) = fs::File::open(path) {
                file.take(MOST).read_to_end(&mut bytes).ok();
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Names of files in the root, or in a folder of it, sorted.
    pub(super) fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path.join(folder)).into_iter().flatten().take(MOST_ENTRIES).flatten();
        let files = entries.filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The folder's own name, as far as an image may be called it.
    pub(super) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        let name = name.trim_matches(['-', '_']).to_owned();
        if name.is_empty() { "app".to_owned() } else { name }
    }

    /// Whether a text of these files holds one of these words.
    pub(super) fn mentions(&self, names: &[&str], words: &[&str]) -> bool {
        names.iter().any(|name| {
            let text = self.text(name);
            words.iter().any(|word| text.contains(word))
        })
    }
}
