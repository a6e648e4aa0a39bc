//! Secrets of this machine's owner, in files: for builds that are trusted, and never in a log.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use protocol::Variable;

use super::containers::own_environment;
use crate::runner::SHORTEST_SECRET;

/// The longest value, in bytes: what a program's environment takes for one variable on Linux, less a name.
const LONGEST: usize = 100 << 10;

/// The files with secrets, which `buildr run`, an agent and `buildr up` take alike.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretArgs {
    /// Secrets for trusted builds, masked in every log: a file of lines NAME=VALUE (# begins a comment, a value may be
    /// quoted), or NAME=FILE for a file that holds one value. Others may not read it (may be repeated)
    #[arg(long = "secret-file", id = "secret_file", value_name = "FILE|NAME=FILE")]
    pub files: Vec<String>,
}

/// Why a secret cannot be used. No text holds a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("failed to read the secrets in {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Everybody on the machine can read it.
    #[error(
        "{} can be read by every user of this machine (mode {mode:03o}), so it holds no secrets; run: chmod o-rwx {}",
        path.display(),
        path.display()
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A line is no NAME=VALUE.
    #[error("{}:{line}: this is not NAME=VALUE, with a NAME of letters, digits and _ - . /", path.display())]
    Line {
        /// In which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// The name is one that buildr sets itself.
    #[error("{}: {name} is a variable of buildr's own; give the secret another name", path.display())]
    Name {
        /// In which file.
        path: PathBuf,
        /// Which.
        name: String,
    },
    /// The environment has no such variable.
    #[error("the environment has no variable {0:?} to take a secret from; set it, or use --secret-file {0}=FILE")]
    Unset(String),
    /// So short that every log would be full of masks.
    #[error(
        "{}: the value of {name} has {length} characters, too few to be masked in logs; a secret has {SHORTEST_SECRET} or more",
        path.display()
    )]
    Short {
        /// In which file.
        path: PathBuf,
        /// Which.
        name: String,
        /// How many.
        length: usize,
    },
    /// Longer than a program can take.
    #[error("{}: the value of {name} is longer than {} KiB, which no program takes as a variable", path.display(), LONGEST >> 10)]
    Long {
        /// In which file.
        path: PathBuf,
        /// Which.
        name: String,
    },
}

impl SecretArgs {
    /// Reads them all; of two values for one name the later counts.
    ///
    /// # Errors
    /// Says what is wrong with which file, and never a value.
    pub fn read(&self) -> Result<Vec<Variable>, SecretError> {
        let mut secrets = Vec::new();
        for argument in &self.files {
            // A file whose path looks like that is meant, where there is one.
            let given = argument.split_once('=').filter(|(name, _)| is_name(name) && !Path::new(argument).exists());
            match given {
                Some((name, path)) => {
                    let path = Path::new(path);
                    let text = text(path)?;
                    let value = text.strip_suffix('\n').unwrap_or(&text);
                    secrets.push(checked(path, name, value.strip_suffix('\r').unwrap_or(value))?);
                }
                None => lines(Path::new(argument), &mut secrets)?,
            }
        }
        Ok(secrets)
    }
}

/// The values of these variables of this process's environment.
///
/// # Errors
/// When one is not set, or cannot be a secret.
pub(super) fn from_environment(names: &[String]) -> Result<Vec<Variable>, SecretError> {
    let (place, own) = (Path::new("the environment"), own_environment());
    let of = |name: &String| match own.iter().find(|variable| variable.name == *name) {
        Some(variable) if is_name(name) => checked(place, name, &variable.value),
        _ => Err(SecretError::Unset(name.clone())),
    };
    names.iter().map(of).collect()
}

fn lines(path: &Path, secrets: &mut Vec<Variable>) -> Result<(), SecretError> {
    for (line, number) in text(path)?.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || SecretError::Line { path: path.to_owned(), line: number };
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let (name, value) = (name.trim(), value.trim());
        if !is_name(name) {
            return Err(wrong());
        }
        let within = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
        secrets.push(checked(path, name, within('"').or_else(|| within('\'')).unwrap_or(value))?);
    }
    Ok(())
}

/// The file's text, if it is one that others may not read.
fn text(path: &Path) -> Result<String, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

fn checked(path: &Path, name: &str, value: &str) -> Result<Variable, SecretError> {
    let (path, length) = (path.to_owned(), value.len());
    match name {
        "CI" | "BUILDR" => Err(SecretError::Name { path, name: name.to_owned() }),
        _ if name.starts_with("BUILDR_") => Err(SecretError::Name { path, name: name.to_owned() }),
        _ if length < SHORTEST_SECRET => Err(SecretError::Short { path, name: name.to_owned(), length }),
        _ if length > LONGEST => Err(SecretError::Long { path, name: name.to_owned() }),
        _ => Ok(Variable::new(name, value)),
    }
}

/// Whether a manifest may ask for a secret by this name.
fn is_name(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.len() <= 128 && text.chars().all(part)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::fs::{self, Permissions};

    use super::*;

    /// Reads a file of this text and mode, by its path or as NAME=FILE.
    fn read(name: Option<&str>, text: &str, mode: u32) -> Result<Vec<Variable>, SecretError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let path = path.to_str().unwrap();
        SecretArgs { files: vec![name.map_or_else(|| path.to_owned(), |name| format!("{name}={path}"))] }.read()
    }

    #[track_caller]
    fn check(name: Option<&str>, text: &str, expect: Result<&[(&str, &str)], &str>) {
        match (read(name, text, 0o640), expect) {
            (Ok(got), Ok(expect)) => {
                let expect: Vec<_> = expect.iter().map(|(name, value)| Variable::new(*name, *value)).collect();
                assert_eq!(got, expect);
            }
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                // No name of a folder has such a sign by chance.
                assert!(!error.to_string().contains("s%"), "a value is told: {error}");
            }
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn files_are_read_as_the_help_says() {
        check(
            None,
            "# mine\n\nTOKEN=s3cret\nexport B = 'a bc'\nC=\"x=y#\"\n",
            Ok(&[("TOKEN", "s3cret"), ("B", "a bc"), ("C", "x=y#")]),
        );
        check(Some("KEY"), "line one\nline two\n", Ok(&[("KEY", "line one\nline two")]));
        check(Some("prod/ssh-1.key"), "s3cret\n", Ok(&[("prod/ssh-1.key", "s3cret")]));
        check(None, "prod/token=s3cret\n", Ok(&[("prod/token", "s3cret")]));
        check(None, "", Ok(&[]));
    }

    #[test]
    fn a_file_with_such_a_path_is_read() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = Path::new(folder.path().file_name().unwrap()).join("a=b");
        fs::write(&path, "TOKEN=s3cret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        assert_eq!(SecretArgs { files: vec![path] }.read().unwrap(), [Variable::new("TOKEN", "s3cret")]);
    }

    #[test]
    fn what_cannot_be_used_is_said_without_its_value() {
        check(None, "TOKEN=s%", Err("the value of TOKEN has 2 characters"));
        check(None, "TOKEN=", Err("has 0 characters"));
        check(None, "A=long enough\ns%cret\n", Err("secrets:2: this is not NAME=VALUE"));
        check(None, "1X=s%cret", Err(":1: this is not"));
        check(None, "BUILDR_STAGE=s%cret", Err("buildr's own"));
        check(None, "CI=s%cret", Err("buildr's own"));
        check(Some("KEY"), &"s%".repeat(60_000), Err("longer than 100 KiB"));
        let error = read(None, "TOKEN=s%cret", 0o644).unwrap_err();
        assert!(error.to_string().contains("chmod o-rwx"), "{error}");
        let error = SecretArgs { files: vec!["/nowhere/x".to_owned()] }.read().unwrap_err();
        assert!(error.to_string().contains("/nowhere/x") && error.source().is_some(), "{error}");
    }
}
