//! Which file of a folder is the manifest.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use protocol::StageName;

use super::ManifestError;

/// The names under which a manifest is looked for, in this order.
const NAMES: [&str; 3] = [".buildr.yml", ".buildr.yaml", ".buildr"];

/// Finds the manifest at the root of a folder.
///
/// # Errors
/// When there is none, or when what has the name is no file within the folder. The file is not opened.
pub fn find(folder: &Path) -> Result<PathBuf, ManifestError> {
    for name in NAMES {
        let path = folder.join(name);
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ManifestError::Unreadable { path, source }),
        };
        // As a folder it is a place for several pipelines, and no manifest.
        if name == PIPELINES && path.is_dir() {
            continue;
        }
        return within(folder, &path, &found, name).map(|()| path);
    }
    let pipelines = folder.join(PIPELINES).is_dir();
    Err(ManifestError::Missing { pipelines })
}

/// A manifest of a folder: one pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The pipeline's name; none for the one that stands at the root of the folder.
    pub(super) name: Option<String>,
    /// The file.
    pub(super) path: PathBuf,
    /// The file as people know it: from the folder down.
    pub(super) shown: String,
}

/// Finds the manifests of a folder: the one at its root, then those of its folder `.buildr`, by their names.
///
/// # Errors
/// When there is none, or when what has the name is no file within the folder. No file is opened.
pub(super) fn all(folder: &Path) -> Result<Vec<Place>, ManifestError> {
    let mut places = match find(folder) {
        Ok(path) => {
            let shown = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            vec![Place { name: None, path, shown }]
        }
        Err(ManifestError::Missing { pipelines: true }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let pipelines = folder.join(PIPELINES);
    let is_folder = pipelines.is_dir() && places.iter().all(|place| place.path != pipelines);
    let found = if is_folder { pipelines_of(folder, &pipelines)? } else { Vec::new() };
    if found.is_empty() && places.is_empty() {
        return Err(ManifestError::Missing { pipelines: is_folder });
    }
    if let Some(also) = found.iter().find(|place| place.name.as_deref() == Some(DEFAULT))
        && let Some(root) = places.first()
    {
        return Err(ManifestError::PipelineTwice {
            name: DEFAULT.to_owned(),
            files: [root.shown.clone(), also.shown.clone()],
        });
    }
    places.extend(found);
    Ok(places)
}

/// The folder of several pipelines.
const PIPELINES: &str = ".buildr";

/// What the pipeline at the root is called beside others.
const DEFAULT: &str = "default";

/// The most pipelines of one project.
const MAX_PIPELINES: usize = 64;

fn pipelines_of(folder: &Path, pipelines: &Path) -> Result<Vec<Place>, ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: pipelines.to_owned(), source };
    let inside = pipelines.canonicalize().map_err(unreadable)?;
    if !inside.starts_with(folder.canonicalize().map_err(unreadable)?) {
        return Err(ManifestError::Outside { name: PIPELINES.to_owned() });
    }
    let mut places: Vec<Place> = Vec::new();
    for entry in std::fs::read_dir(pipelines).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_manifest = path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_manifest || stem.starts_with('.') {
            continue;
        }
        let shown = format!("{PIPELINES}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if stem.parse::<StageName>().is_err() {
            return Err(ManifestError::BadPipeline { name: shown });
        }
        if let Some(same) = places.iter().find(|place| place.name.as_ref() == Some(&stem)) {
            return Err(ManifestError::PipelineTwice { name: stem, files: [same.shown.clone(), shown] });
        }
        let found = path.symlink_metadata().map_err(unreadable)?;
        within(folder, &path, &found, &shown)?;
        places.push(Place { name: Some(stem), path, shown });
    }
    if places.len() > MAX_PIPELINES {
        return Err(ManifestError::TooManyPipelines { count: places.len(), most: MAX_PIPELINES });
    }
    places.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(places)
}

/// Refuses what is no regular file, and links that lead out of the folder: on a farm the folder is somebody
/// else's checkout, and the rest of the disk is not theirs to read.
fn within(folder: &Path, path: &Path, found: &Metadata, name: &str) -> Result<(), ManifestError> {
    let unreadable = |source| ManifestError::Unreadable { path: path.to_owned(), source };
    let mut is_file = found.is_file();
    if found.is_symlink() {
        let target = path.canonicalize().map_err(unreadable)?;
        if !target.starts_with(folder.canonicalize().map_err(unreadable)?) {
            return Err(ManifestError::Outside { name: name.to_owned() });
        }
        is_file = target.metadata().map_err(unreadable)?.is_file();
    }
    if is_file { Ok(()) } else { Err(ManifestError::NotAFile { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[track_caller]
    fn check(prepare: impl FnOnce(&Path), expect: &str) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("project");
        fs::create_dir(&folder).unwrap();
        fs::write(outer.path().join("secret"), "image: x").unwrap();
        prepare(&folder);
        let got = match find(&folder) {
            Ok(path) => path.strip_prefix(&folder).unwrap().display().to_string(),
            Err(error) => error.to_string().replace(&folder.display().to_string(), "FOLDER"),
        };
        assert!(got.starts_with(expect), "expected {expect}\ngot      {got}");
    }

    fn write(folder: &Path, names: &[&str]) {
        for name in names {
            fs::write(folder.join(name), "image: x").unwrap();
        }
    }

    #[test]
    fn names_in_their_order() {
        check(|at| write(at, &[".buildr", ".buildr.yaml", ".buildr.yml"]), ".buildr.yml");
        check(|at| write(at, &[".buildr", ".buildr.yaml"]), ".buildr.yaml");
        check(|at| write(at, &[".buildr"]), ".buildr");
        check(|_| (), "there is no manifest; write a file .buildr.yml");
        check(|at| write(at, &["buildr.yml"]), "there is no manifest; write a file .buildr.yml");
    }

    #[test]
    fn buildr_as_a_folder_is_no_manifest() {
        check(|at| fs::create_dir(at.join(".buildr")).unwrap(), "there is no manifest: the folder .buildr");
        check(
            |at| {
                fs::create_dir(at.join(".buildr")).unwrap();
                write(at, &[".buildr.yml"]);
            },
            ".buildr.yml",
        );
        check(|at| fs::create_dir(at.join(".buildr.yml")).unwrap(), ".buildr.yml is not a regular file");
    }

    #[test]
    fn what_cannot_be_read_to_its_end_is_never_opened() {
        let fifo = |at: &Path, name: &str| nix::unistd::mkfifo(&at.join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(|at| fifo(at, ".buildr.yml"), ".buildr.yml is not a regular file");
        check(
            |at| {
                fifo(at, "pipe");
                symlink("pipe", at.join(".buildr.yml")).unwrap();
            },
            ".buildr.yml is not a regular file",
        );
    }

    #[test]
    fn links_stay_within_the_folder() {
        check(
            |at| {
                write(at, &["ci.yml"]);
                symlink("ci.yml", at.join(".buildr.yml")).unwrap();
            },
            ".buildr.yml",
        );
        for target in ["../secret", "/dev/zero", "/proc/self/environ"] {
            check(|at| symlink(target, at.join(".buildr.yml")).unwrap(), ".buildr.yml is a link that leads out");
        }
        check(|at| symlink("nothing", at.join(".buildr.yml")).unwrap(), "FOLDER/.buildr.yml could not be read");
        check(|at| symlink(".buildr.yml", at.join(".buildr.yml")).unwrap(), "FOLDER/.buildr.yml could not be read");
        check(|at| symlink(".", at.join(".buildr.yml")).unwrap(), ".buildr.yml is not a regular file");
    }
}
