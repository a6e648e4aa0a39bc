//! Where the programs of the farm keep things: state, cache, settings, and the token by which the command line of
//! this machine's user may write. All live where XDG says; root's, unless it says something, in `/var/lib/buildr`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::Uid;

use super::ProcessError;

/// Where the program `name` (`agent`, `coordinator`) keeps what must outlive it. It is not made by this call.
///
/// # Errors
/// When the user has no home.
pub fn state(name: &str) -> Result<PathBuf, ProcessError> {
    Places::here().state(name)
}

/// Where the program `name` keeps what it could have again. It is not made by this call.
///
/// # Errors
/// When the user has no home.
pub fn cache(name: &str) -> Result<PathBuf, ProcessError> {
    Places::here().cache(name)
}

/// Where the user's own files of settings lie; nothing when the user has no home.
#[must_use]
pub fn config() -> Option<PathBuf> {
    Places::here().xdg("XDG_CONFIG_HOME", ".config")
}

/// Keeps the token of the farm that listens on `port` of this machine, so that its user's command line finds it. The
/// file is the user's alone (0600, in a folder of 0700). Gives the file, to be removed when the farm ends.
///
/// # Errors
/// When it cannot be written, or somebody else could read it.
pub fn write_token(port: u16, token: &str) -> Result<PathBuf, ProcessError> {
    Places::here().write_token(port, token)
}

/// The token of the farm that listens on `port` of this machine, if this user started it.
///
/// # Errors
/// When there is one that cannot be read.
pub fn read_token(port: u16) -> Result<Option<String>, ProcessError> {
    Places::here().read_token(port)
}

/// The files in which [`read_token`] looks.
#[must_use]
pub fn token_places(port: u16) -> Vec<PathBuf> {
    let places = Places::here();
    places.runtime().iter().map(|folder| token_file(folder, port)).collect()
}

/// What decides where things lie.
struct Places {
    user: Uid,
    variable: fn(&str) -> Option<OsString>,
    shared: PathBuf,
}

impl Places {
    fn here() -> Self {
        Self { user: Uid::effective(), variable: |name| std::env::var_os(name), shared: PathBuf::from("/tmp") }
    }

    fn state(&self, name: &str) -> Result<PathBuf, ProcessError> {
        if self.is_root_without("XDG_STATE_HOME") {
            return Ok(Path::new("/var/lib/buildr").join(name));
        }
        let missing = ProcessError::NoHome { what: "state", variable: "XDG_STATE_HOME" };
        self.xdg("XDG_STATE_HOME", ".local/state").map(|folder| folder.join(name)).ok_or(missing)
    }

    fn cache(&self, name: &str) -> Result<PathBuf, ProcessError> {
        if self.is_root_without("XDG_CACHE_HOME") {
            // Beside the state, so that a container needs one folder to be shared with the daemon.
            return Ok(Path::new("/var/lib/buildr").join(name).join("cache"));
        }
        let missing = ProcessError::NoHome { what: "caches", variable: "XDG_CACHE_HOME" };
        self.xdg("XDG_CACHE_HOME", ".cache").map(|folder| folder.join(name)).ok_or(missing)
    }

    /// Whether the system's folder is meant. One who became root by sudo may have another user's variable, and root's
    /// files must not come to lie in that user's home.
    fn is_root_without(&self, variable: &str) -> bool {
        let others = |path: PathBuf| fs::metadata(path).is_ok_and(|found| found.uid() != self.user.as_raw());
        self.user.is_root() && self.absolute(variable).is_none_or(others)
    }

    fn xdg(&self, variable: &str, under_home: &str) -> Option<PathBuf> {
        let base = self.absolute(variable).or_else(|| Some(self.absolute("HOME")?.join(under_home)))?;
        Some(base.join("buildr"))
    }

    /// The XDG rules: a relative path in one of these variables is to be ignored.
    fn absolute(&self, variable: &str) -> Option<PathBuf> {
        (self.variable)(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The folders in which a token may lie, the best first. A session has XDG_RUNTIME_DIR where a service has not,
    /// and one who became root by sudo may have another user's: so it counts only when it is the user's own.
    fn runtime(&self) -> Vec<PathBuf> {
        let own = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.uid() == self.user.as_raw());
        let session = self.absolute("XDG_RUNTIME_DIR").filter(own).map(|folder| folder.join("buildr"));
        session.into_iter().chain([self.shared.join(format!("buildr-{}", self.user))]).collect()
    }

    fn write_token(&self, port: u16, token: &str) -> Result<PathBuf, ProcessError> {
        let folder = self.runtime().swap_remove(0);
        let disk = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::Disk { doing, path, source }
        };
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(disk("make the folder", &folder))?,
        }
        self.check_private(&folder)?;
        let file = token_file(&folder, port);
        // Made aside with 0600 and moved into place: at no time is it there in part or readable by others.
        let mut aside = tempfile::NamedTempFile::new_in(&folder).map_err(disk("write the token into", &folder))?;
        aside.write_all(token.as_bytes()).map_err(disk("write the token to", &file))?;
        aside.persist(&file).map_err(|error| disk("write the token to", &file)(error.error))?;
        Ok(file)
    }

    /// The newest of those that are there: an older one was left by a farm that no longer listens.
    fn read_token(&self, port: u16) -> Result<Option<String>, ProcessError> {
        let mut newest: Option<(SystemTime, PathBuf)> = None;
        for folder in self.runtime() {
            // What others could have put there is not this user's token.
            if self.check_private(&folder).is_err() {
                continue;
            }
            let file = token_file(&folder, port);
            let Ok(found) = fs::symlink_metadata(&file) else { continue };
            let written = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if self.is_private(&found) && newest.as_ref().is_none_or(|(best, _)| written > *best) {
                newest = Some((written, file));
            }
        }
        let Some((_, path)) = newest else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            // The farm ended between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProcessError::Disk { doing: "read the token in", path, source }),
        }
    }

    fn check_private(&self, folder: &Path) -> Result<(), ProcessError> {
        let disk = |source| ProcessError::Disk { doing: "look at the folder", path: folder.to_owned(), source };
        let found = fs::symlink_metadata(folder).map_err(disk)?;
        if found.is_dir() && self.is_private(&found) {
            return Ok(());
        }
        Err(ProcessError::OpenFolder { path: folder.to_owned(), owner: found.uid(), mode: found.mode() & 0o777 })
    }

    fn is_private(&self, found: &Metadata) -> bool {
        !found.is_symlink() && found.uid() == self.user.as_raw() && found.mode() & 0o077 == 0
    }
}

fn token_file(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("token-{port}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn in_folder(shared: &Path) -> Places {
        Places { user: Uid::effective(), variable: |_| None, shared: shared.to_owned() }
    }

    #[test]
    fn places_follow_the_user_and_xdg() {
        let person = Uid::from_raw(1000);
        let with = |user, variable| Places { user, variable, shared: PathBuf::from("/tmp") };
        let shown = |places: &Places| {
            let show = |path: Result<PathBuf, ProcessError>| path.map(|path| path.display().to_string());
            (show(places.state("agent")).unwrap_or_default(), show(places.cache("agent")).unwrap_or_default())
        };
        let check = |places: &Places, state: &str, cache: &str| {
            assert_eq!(shown(places), (state.to_owned(), cache.to_owned()));
        };
        check(&with(Uid::from_raw(0), |_| None), "/var/lib/buildr/agent", "/var/lib/buildr/agent/cache");
        let all = |name: &str| Some(format!("/{name}").into());
        check(&with(Uid::from_raw(0), all), "/XDG_STATE_HOME/buildr/agent", "/XDG_CACHE_HOME/buildr/agent");
        check(&with(person, |_| None), "", "");
        let home = |name: &str| (name == "HOME").then(|| "/home/ann".into());
        check(&with(person, home), "/home/ann/.local/state/buildr/agent", "/home/ann/.cache/buildr/agent");
        let relative = |name: &str| Some(if name == "HOME" { "/home/ann".into() } else { "relative".into() });
        check(&with(person, relative), "/home/ann/.local/state/buildr/agent", "/home/ann/.cache/buildr/agent");
        check(&with(person, all), "/XDG_STATE_HOME/buildr/agent", "/XDG_CACHE_HOME/buildr/agent");
    }

    #[test]
    fn a_token_is_kept_for_its_user_alone() {
        let shared = tempfile::tempdir().unwrap();
        let places = in_folder(shared.path());
        assert_eq!(places.read_token(8700).unwrap(), None);
        let file = places.write_token(8700, "first").unwrap();
        assert_eq!(places.write_token(8700, "second").unwrap(), file, "a restart writes over it");
        assert_eq!(places.read_token(8700).unwrap().as_deref(), Some("second"));
        assert_eq!(places.read_token(8701).unwrap(), None, "another farm has another token");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_not_trusted() {
        let shared = tempfile::tempdir().unwrap();
        let places = in_folder(shared.path());
        let folder = places.write_token(8700, "secret").unwrap().parent().unwrap().to_owned();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(places.read_token(8700).unwrap(), None);
        let error = places.write_token(8700, "secret").unwrap_err();
        assert!(error.to_string().contains("mode 755"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), &folder).unwrap();
        assert!(matches!(places.write_token(8700, "secret"), Err(ProcessError::OpenFolder { .. })));
    }

    #[test]
    fn another_users_runtime_folder_does_not_count() {
        let stranger = Uid::from_raw(Uid::effective().as_raw() + 1);
        let variable = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| std::env::temp_dir().into_os_string());
        let places = Places { user: stranger, variable, shared: PathBuf::from("/shared") };
        assert_eq!(places.runtime(), [PathBuf::from(format!("/shared/buildr-{stranger}"))]);
    }
}
