//! The coordinator's own key: agents pin its public half when they are enrolled, and believe no other grant.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::identity::{Identity, IdentityError};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("the coordinator's key file {path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error(
        "the coordinator's key file {path} is of no use: {source}; agents that pinned the old key refuse a new one until they are enrolled again"
    )]
    Key {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: IdentityError,
    },
}

/// Reads the key in `folder`, or makes one there that only its owner can read.
///
/// # Errors
/// When it cannot be read, written, or is none.
pub(crate) fn load(folder: &Path) -> Result<Identity, KeyError> {
    let path = folder.join("coordinator.key");
    let key_error = |source| KeyError::Key { path: path.clone(), source };
    match fs::read(&path) {
        Ok(bytes) => Identity::from_bytes(&bytes).map_err(key_error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::generate().map_err(key_error)?;
            write_secret(&path, identity.to_bytes()).map_err(|source| KeyError::File { path: path.clone(), source })?;
            Ok(identity)
        }
        Err(source) => Err(KeyError::File { path, source }),
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path()).unwrap();
        let again = load(folder.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let path = folder.path().join("coordinator.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "no key").unwrap();
        assert!(matches!(load(folder.path()), Err(KeyError::Key { .. })));
    }
}
