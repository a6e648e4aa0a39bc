//! Images that a `prepare` has made and that later builds of the same contents start from.
//!
//! Such an image is known by its key: what it is made from and by. It bears no owner's label, for it is everybody's on
//! this daemon, but one that tells until when it is kept. Images that are made at the same time by two processes are
//! alike; the later one takes the name.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use nix::sys::stat::SFlag;
use protocol::Variable;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use super::super::{ExecutorError, PrepareOrder, Stop};
use super::commit;
use super::engine::{self, Engine};
use super::image::Image;
use super::labels;
use super::powers::Powers;
use crate::folder::{self, Entry, Globs};

/// How long a prepared image is kept for later builds.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The repository of prepared images.
pub(super) const REPOSITORY: &str = "buildr-prepared";

/// Variables that differ from build to build. What is made must not depend on them, and its key does not.
const OF_ONE_BUILD: [&str; 2] = ["BUILDR", "SOURCE_DATE_EPOCH"];

/// Variables of that kind on which it does depend: they are the manifest's own.
const OF_THE_MANIFEST: [&str; 2] = ["BUILDR_MATRIX_", "BUILDR_INPUT_"];

/// The prepared images that are being made now, by their keys.
#[derive(Debug, Default)]
pub(super) struct Making(Mutex<HashMap<String, Arc<Turn<()>>>>);

impl Making {
    /// Waits until nobody else makes this one; nothing when it was told to stop.
    pub(super) async fn begin(&self, key: &str, stop: &Stop) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(key.to_owned()).or_default())
        };
        tokio::select! {
            turn = turn.lock_owned() => Some(turn),
            () = stop.cancelled() => None,
        }
    }
}

/// The name of the image with this key.
pub(super) fn name(key: &str, powers: &Powers) -> String {
    format!("{}:{key}", commit::repository(REPOSITORY, powers))
}

/// The image with this key, if there is one whose time is not over.
pub(super) async fn find(
    engine: &Engine,
    powers: &Powers,
    key: &str,
    base: &Image,
) -> Result<Option<Image>, ExecutorError> {
    let found = match engine.quick.inspect_image(&name(key, powers)).await {
        Ok(found) => found,
        Err(error) if engine::is_absent(&error) => return Ok(None),
        Err(error) => return Err(engine.failed("look for a prepared image", &error)),
    };
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(found.id.filter(|_| !labels::is_over(&labels)).map(|id| Image { id, ..base.clone() }))
}

/// What a prepared image is known by: all that it is made from.
///
/// # Errors
/// When one of the files cannot be read.
pub(super) fn key(order: &PrepareOrder, base: &Image, mount: &str, copy: &Path) -> io::Result<String> {
    let mut hash = Hash(Sha256::new());
    hash.add(b"buildr-prepared-1");
    for part in [&base.id, base.platform.as_deref().unwrap_or_default(), base.user(), mount] {
        hash.add(part.as_bytes());
    }
    hash.add(order.stage.shell.as_deref().unwrap_or_default().as_bytes());
    hash.list(base.entrypoint.iter().flatten().map(String::as_bytes));
    hash.list(order.stage.script.iter().map(String::as_bytes));
    let variables = order.stage.environment.iter().filter(|variable| counts(variable));
    hash.list(variables.flat_map(|variable| [variable.name.as_bytes(), variable.value.as_bytes()]));
    let mut files = Vec::new();
    folder::walk(copy, &mut |entry: &Entry<'_>| {
        let mut content = Hash(Sha256::new());
        content.add(&(u32::from(entry.mode() & 0o111 != 0)).to_be_bytes());
        match entry.kind() {
            SFlag::S_IFLNK => content.add(entry.target()?.as_os_str().as_encoded_bytes()),
            SFlag::S_IFREG => {
                io::copy(&mut entry.open()?, &mut content)?;
            }
            _ => return Ok(()),
        }
        files.push((entry.path.to_owned(), content.0.finalize()));
        Ok(())
    })?;
    files.sort();
    for (path, content) in files {
        hash.add(path.as_os_str().as_encoded_bytes());
        hash.add(&content);
    }
    Ok(HEXLOWER.encode(&hash.0.finalize()[..20]))
}

/// Whether a variable is part of the key.
fn counts(variable: &Variable) -> bool {
    let name = variable.name.as_str();
    OF_THE_MANIFEST.iter().any(|beginning| name.starts_with(beginning))
        || !OF_ONE_BUILD.iter().any(|one| name == *one || name.starts_with(&format!("{one}_")))
}

/// What a `prepare` with `files` sees of the workspace.
///
/// # Errors
/// The glob that is none, as a sentence.
pub(super) fn globs(files: &[String]) -> Result<Globs, ExecutorError> {
    Globs::new(files).map_err(|error| ExecutorError::Refused(format!("prepare.files: {error}")))
}

/// Lists and parts are told apart by their lengths.
struct Hash(Sha256);

impl Hash {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn list<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) {
        let parts: Vec<_> = parts.collect();
        self.add(&(parts.len() as u64).to_be_bytes());
        parts.into_iter().for_each(|part| self.add(part));
    }
}

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ImageConfig;

    use super::super::super::StageOrder;
    use super::*;

    fn order(script: &[&str], environment: &[(&str, &str)]) -> PrepareOrder {
        let script = script.iter().map(|command| (*command).to_owned()).collect();
        let mut stage = StageOrder::new("prepare".parse().unwrap(), script, Duration::from_secs(1));
        stage.environment = environment.iter().map(|(name, value)| Variable::new(*name, *value)).collect();
        PrepareOrder { stage, files: None, cache: true }
    }

    #[test]
    fn a_key_is_all_that_an_image_is_made_from_and_nothing_of_one_build() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/a"), "1").unwrap();
        let image = |id: &str| Image {
            name: "x".to_owned(),
            id: id.to_owned(),
            config: ImageConfig::default(),
            digest: String::new(),
            user: None,
            entrypoint: None,
            platform: None,
        };
        let of = |order: &PrepareOrder, id: &str| key(order, &image(id), "/app", folder.path()).unwrap();
        let plain = of(&order(&["a", "b"], &[("A", "1")]), "1");
        assert_eq!(plain.len(), 40);
        let same = [("BUILDR_COMMIT", "x"), ("A", "1"), ("BUILDR", "1"), ("SOURCE_DATE_EPOCH", "7")];
        assert_eq!(of(&order(&["a", "b"], &same), "1"), plain);
        for other in [
            of(&order(&["ab"], &[("A", "1")]), "1"),
            of(&order(&["a", "b"], &[("A", "2")]), "1"),
            of(&order(&["a", "b"], &[("A", "1"), ("BUILDR_MATRIX_X", "1")]), "1"),
            of(&order(&["a", "b"], &[("A", "1")]), "2"),
        ] {
            assert_ne!(other, plain);
        }
        std::fs::write(folder.path().join("sub/a"), "2").unwrap();
        let changed = of(&order(&["a", "b"], &[("A", "1")]), "1");
        std::fs::rename(folder.path().join("sub/a"), folder.path().join("sub/b")).unwrap();
        let moved = of(&order(&["a", "b"], &[("A", "1")]), "1");
        assert!(changed != plain && moved != plain && moved != changed);
    }

    #[test]
    fn a_glob_that_is_none_names_its_key() {
        let error = globs(&["[".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("prepare.files: \"[\" is not a pattern of paths: "), "{error}");
    }
}
