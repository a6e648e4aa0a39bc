//! Settings from TOML files, for the agent and the coordinator: flag > environment > file > default.
//!
//! Files are `/etc/buildr/<name>.toml` and, over it, `$XDG_CONFIG_HOME/buildr/<name>.toml`; a file that is named with
//! `--config` stands alone. A program reads its flags and environment with clap into options without defaults, this
//! into a struct with the same fields, and takes `flag.or(file).unwrap_or(default)`.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Table;

use super::{ProcessError, folders};

/// Reads the settings of the program `name` (`agent`, `coordinator`): from `explicit` alone when it is given, else
/// from the files in their usual places, of which none needs to be there.
///
/// `T` has `#[serde(deny_unknown_fields, default)]`, so that each file may hold some of the keys and no others.
///
/// # Errors
/// When a file cannot be read, or holds something wrong: then with file, line and column, and an unknown key by name.
pub fn settings<T: DeserializeOwned>(name: &str, explicit: Option<&Path>) -> Result<T, ProcessError> {
    match explicit {
        Some(path) => {
            let text = read(path)?;
            parse(path, &text)
        }
        None => layered(&places(name)),
    }
}

/// The files that [`settings`] reads when none is named, the weakest first.
#[must_use]
pub fn places(name: &str) -> Vec<PathBuf> {
    let file = format!("{name}.toml");
    let mut places = vec![Path::new("/etc/buildr").join(&file)];
    places.extend(folders::config().map(|folder| folder.join(file)));
    places
}

fn layered<T: DeserializeOwned>(places: &[PathBuf]) -> Result<T, ProcessError> {
    let mut merged = Table::new();
    for path in places {
        let text = match read(path) {
            Ok(text) => text,
            Err(ProcessError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Each file is checked by itself: once they are merged nobody could say where a wrong key stood.
        parse::<T>(path, &text)?;
        merged.extend(parse::<Table>(path, &text)?);
    }
    merged.try_into().map_err(|error: toml::de::Error| ProcessError::Settings {
        path: places.last().cloned().unwrap_or_default(),
        line: 1,
        column: 1,
        reason: error.message().to_owned(),
    })
}

fn read(path: &Path) -> Result<String, ProcessError> {
    let disk = |source| ProcessError::Disk { doing: "read the settings in", path: path.to_owned(), source };
    std::fs::read_to_string(path).map_err(disk)
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ProcessError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ProcessError::Settings {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            reason: error.message().trim_end().replace('\n', ", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        slots: Option<u32>,
        labels: Vec<String>,
    }

    fn check(system: Option<&str>, own: Option<&str>, expect: Result<Sample, &str>) {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("system.toml"), folder.path().join("own.toml")];
        for (path, text) in places.iter().zip([system, own]) {
            if let Some(text) = text {
                std::fs::write(path, text).unwrap();
            }
        }
        match (layered::<Sample>(&places), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn the_users_file_wins_key_by_key() {
        let both = Sample { slots: Some(2), labels: vec!["gpu".to_owned()] };
        check(None, None, Ok(Sample::default()));
        check(Some("slots = 1\nlabels = ['gpu']"), Some("slots = 2"), Ok(both));
        check(Some("slots = 1"), None, Ok(Sample { slots: Some(1), labels: vec![] }));
    }

    #[test]
    fn a_wrong_key_is_named_with_its_file() {
        check(
            Some("slots = 1\nslot = 2"),
            None,
            Err("system.toml:2:1: unknown field `slot`, expected `slots` or `labels`"),
        );
        check(Some("slots = 1"), Some("\n  slots = 'two'"), Err("own.toml:2:11: invalid type: string \"two\""));
        check(Some("slots = 1\nslots = 2"), None, Err("system.toml:2:1: duplicate key"));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.toml");
        let error = settings::<Sample>("agent", Some(&missing)).unwrap_err();
        assert!(error.to_string().contains("none.toml"), "{error}");
        std::fs::write(&missing, "slots = 3").unwrap();
        assert_eq!(settings::<Sample>("agent", Some(&missing)).unwrap().slots, Some(3));
    }
}
