//! The agent's own folder: its name, its key, the coordinator it trusts, and a lock so that no two processes
//! are one agent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use protocol::AgentId;
use protocol::identity::{Identity, IdentityError, PublicKey};

/// How folders begin in which jobs of one build leave something for each other.
const ARCHIVES: &str = "archives-";

/// The folder, held for as long as this lives.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    name: AgentId,
    identity: Identity,
    _lock: File,
}

/// What can be wrong with the agent's folder.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The disk refuses.
    #[error("failed to {doing} {}: {source}; choose another folder with --state-dir", path.display())]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("another agent already runs from {}; give each its own --state-dir", .0.display())]
    InUse(PathBuf),
    /// The key file is damaged. It is never written over: the agent would be another one.
    #[error("the key in {} cannot be used ({source}); restore the file, or delete it and have the agent approved anew", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// The coordinator is not the one that this agent was enrolled with.
    #[error("the coordinator's key is not the one that this agent trusts; if it was set up anew, delete {} and enrol the agent again", .0.display())]
    AnotherCoordinator(PathBuf),
}

const COORDINATOR: &str = "coordinator.key";
const SEEN: &str = "coordinator.seen";
const NOTE: &str = "paused";

impl Home {
    /// Opens the folder, and makes what is missing in it.
    ///
    /// # Errors
    /// When another process has it, or the disk refuses.
    pub fn open(folder: &Path, name: Option<AgentId>) -> Result<Self, HomeError> {
        let problem = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| HomeError::Disk { doing, path, source }
        };
        std::fs::create_dir_all(folder).map_err(problem("make the folder", folder))?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(problem("close to others", folder))?;
        let lock_file = folder.join("lock");
        let lock = File::create(&lock_file).map_err(problem("write", &lock_file))?;
        lock.try_lock().map_err(|_| HomeError::InUse(folder.to_owned()))?;
        let name = named(folder, name)?;
        let identity = identity(&folder.join("agent.key"))?;
        let folder = folder.canonicalize().map_err(problem("find", folder))?;
        sweep_archives(&folder);
        Ok(Self { folder, name, identity, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The agent's name.
    #[must_use]
    pub fn name(&self) -> &AgentId {
        &self.name
    }

    /// What everything that this agent makes in Docker is labelled with. The folder is part of it, for two agents of
    /// one name on one machine must not sweep each other's things.
    #[must_use]
    pub fn label(&self) -> String {
        use data_encoding::HEXLOWER;
        use sha2::{Digest as _, Sha256};
        let folder = Sha256::digest(self.folder.as_os_str().as_encoded_bytes());
        format!("{}-{}", self.name, HEXLOWER.encode(&folder[..4]))
    }

    /// What it signs with.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where what is not yet the coordinator's is kept.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.folder.join("spool")
    }

    /// A folder for what the jobs of one build leave for each other. It goes with what this gives; that of a process
    /// which was killed is removed when the next one opens this home.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn archives(&self) -> io::Result<tempfile::TempDir> {
        tempfile::Builder::new().prefix(ARCHIVES).tempdir_in(&self.folder)
    }

    /// Where mirrors of repositories are kept.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        self.folder.join("mirrors")
    }

    /// Whether this agent ever belonged to a coordinator's farm: then it never builds on its own by itself.
    #[must_use]
    pub fn has_seen_coordinator(&self) -> bool {
        self.folder.join(SEEN).exists()
    }

    /// Remembers that there is one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remember_coordinator(&self) -> Result<(), HomeError> {
        let path = self.folder.join(SEEN);
        if path.exists() { Ok(()) } else { write_private(&path, b"") }
    }

    /// Where it stands what images this agent pulled.
    #[must_use]
    pub fn pulled_images(&self) -> PathBuf {
        self.folder.join("images.json")
    }

    /// The note with which a person paused this agent.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn note(&self) -> Result<Option<String>, HomeError> {
        let path = self.folder.join(NOTE);
        match std::fs::read(&path) {
            // Whatever became of its bytes: while the file is there, somebody wants no jobs to be taken.
            Ok(note) => Ok(Some(String::from_utf8_lossy(&note).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Disk { doing: "read", path, source }),
        }
    }

    /// Keeps the note, or forgets it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn keep_note(&self, note: Option<&str>) -> Result<(), HomeError> {
        let path = self.folder.join(NOTE);
        match note {
            Some(note) => write_private(&path, note.as_bytes()),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(|source| HomeError::Disk { doing: "remove", path, source }),
            },
        }
    }

    /// The key that grants must be signed with, once one is trusted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn coordinator(&self) -> Result<Option<PublicKey>, HomeError> {
        let path = self.folder.join(COORDINATOR);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let key = PublicKey::try_from(text.trim().to_owned());
                key.map(Some).map_err(|source| HomeError::Key { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(HomeError::Disk { doing: "read", path, source }),
        }
    }

    /// Trusts a coordinator's key from now on. The first one stays.
    ///
    /// # Errors
    /// When another is trusted already, or the disk refuses.
    pub fn pin(&self, key: &PublicKey) -> Result<(), HomeError> {
        let path = self.folder.join(COORDINATOR);
        match self.coordinator()? {
            Some(pinned) if pinned == *key => Ok(()),
            Some(_) => Err(HomeError::AnotherCoordinator(path)),
            None => write_private(&path, String::from(key.clone()).as_bytes()),
        }
    }
}

/// The name that was given, or the one of last time, or one made of the machine's.
fn named(folder: &Path, given: Option<AgentId>) -> Result<AgentId, HomeError> {
    let path = folder.join("name");
    let before = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if let Some(name) = given.or_else(|| before.clone()) {
        // Written only when it is news: an agent begins on a full disk too.
        if before.as_ref() != Some(&name) {
            write_private(&path, name.as_str().as_bytes())?;
        }
        return Ok(name);
    }
    let host: String = gethostname::gethostname()
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let name = format!("{}-{:04x}", host.trim_matches('-'), rand::random::<u16>());
    let name: AgentId = name.trim_start_matches('-').parse().expect("letters, digits and '-' make a name");
    write_private(&path, name.as_str().as_bytes())?;
    Ok(name)
}

fn identity(path: &Path) -> Result<Identity, HomeError> {
    let bad = |source| HomeError::Key { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => Identity::from_bytes(&bytes).map_err(bad),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = Identity::generate().map_err(bad)?;
            write_private(path, identity.to_bytes())?;
            Ok(identity)
        }
        Err(source) => Err(HomeError::Disk { doing: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().map_err(|source| {
        std::fs::remove_file(&new).ok();
        HomeError::Disk { doing: "write", path: path.to_owned(), source }
    })
}

/// Removes what a process that was killed had for the jobs of its builds. Nobody else has this home.
fn sweep_archives(folder: &Path) {
    let entries = std::fs::read_dir(folder).ok().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(ARCHIVES)) {
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, folder = %entry.path().display(), "what a build had left stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_the_same_one_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let first = Home::open(folder.path(), None).unwrap();
        let (name, key) = (first.name().clone(), first.identity().public());
        assert!(matches!(Home::open(folder.path(), None), Err(HomeError::InUse(_))));
        drop(first);
        let again = Home::open(folder.path(), None).unwrap();
        assert_eq!((again.name(), again.identity().public()), (&name, key));
    }

    #[test]
    fn what_a_killed_process_had_for_its_jobs_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path(), None).unwrap();
        let left = home.archives().unwrap().keep();
        std::fs::write(left.join("0123"), "x").unwrap();
        let other = home.spool();
        std::fs::create_dir_all(&other).unwrap();
        drop(home);
        let home = Home::open(folder.path(), None).unwrap();
        assert!(!left.exists() && other.exists());
        let own = home.archives().unwrap();
        assert!(Home::open(folder.path(), None).is_err());
        assert!(own.path().exists(), "what is in use is nobody else's to sweep");
    }

    #[test]
    fn a_damaged_key_is_told_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        drop(Home::open(folder.path(), None).unwrap());
        let key = folder.path().join("agent.key");
        for damaged in [&b""[..], b"half"] {
            std::fs::write(&key, damaged).unwrap();
            let error = Home::open(folder.path(), None).unwrap_err();
            assert!(matches!(error, HomeError::Key { .. }), "{error}");
            assert!(error.to_string().contains("agent.key cannot be used"), "{error}");
            assert_eq!(std::fs::read(&key).unwrap(), damaged, "it was written over");
        }
        // Not even a file: what cannot be read is not written over either.
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir(&key).unwrap();
        let error = Home::open(folder.path(), None).unwrap_err();
        assert!(error.to_string().starts_with("failed to read"), "{error}");
        assert!(key.is_dir());
    }

    #[test]
    fn the_first_coordinator_stays() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path(), Some("a".parse().unwrap())).unwrap();
        let (mine, other) = (Identity::generate().unwrap().public(), Identity::generate().unwrap().public());
        assert!(!home.has_seen_coordinator());
        home.remember_coordinator().unwrap();
        assert!(home.has_seen_coordinator());
        home.pin(&mine).unwrap();
        home.pin(&mine).unwrap();
        assert!(matches!(home.pin(&other), Err(HomeError::AnotherCoordinator(_))));
        assert_eq!(home.coordinator().unwrap(), Some(mine));
    }
}
