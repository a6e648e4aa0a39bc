//! Values that a stage hands on: what it wrote to the file that `$BUILDR_ENV` names.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use protocol::Variable;

use crate::manifest::{is_name, is_reserved};

/// The most bytes that one stage may hand on: they travel with the orders of later jobs.
pub(super) const MAX_HANDED: usize = 64 << 10;

/// Why what a stage wrote cannot be handed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandError {
    /// A line says nothing that is known.
    #[error("line {line} of $BUILDR_ENV is not NAME=VALUE, with a NAME of letters, digits and _")]
    Line { line: usize },
    /// The name is buildr's own.
    #[error("line {line} of $BUILDR_ENV sets {name}, which only buildr sets; hand it on under another name")]
    Reserved { line: usize, name: String },
    /// A text over several lines has no end.
    #[error("line {line} of $BUILDR_ENV begins a text with <<{end}, and no later line is {end}")]
    Open { line: usize, end: String },
    /// Containers have no such value.
    #[error("$BUILDR_ENV holds bytes that are no text")]
    NoText,
    /// It is longer than what is handed on.
    #[error("$BUILDR_ENV is longer than {} KiB; hand on files by artifacts", MAX_HANDED >> 10)]
    TooLong,
    /// The disk.
    #[error("$BUILDR_ENV cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// The values in a file, of each name the last one. One that is not there, or no file, hands on nothing.
pub(super) fn read(file: &Path) -> Result<Vec<Variable>, HandError> {
    match contents(file, MAX_HANDED)? {
        Contents::None => Ok(Vec::new()),
        Contents::Longer(_) => Err(HandError::TooLong),
        Contents::Whole(bytes) => parse(std::str::from_utf8(&bytes).map_err(|_| HandError::NoText)?),
    }
}

/// What is in a file that a container may have put anything in the place of.
pub(super) enum Contents {
    /// Nothing that could be read.
    None,
    /// All.
    Whole(Vec<u8>),
    /// The beginning of what is longer than it may be.
    Longer(Vec<u8>),
}

/// Reads a regular file of at most so many bytes; no link is followed.
pub(super) fn contents(file: &Path, most: usize) -> io::Result<Contents> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let opened = match open(file, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ELOOP) => return Ok(Contents::None),
        Err(error) => return Err(error.into()),
    };
    if !opened.metadata()?.is_file() {
        return Ok(Contents::None);
    }
    let mut bytes = Vec::new();
    opened.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() <= most {
        return Ok(if bytes.is_empty() { Contents::None } else { Contents::Whole(bytes) });
    }
    bytes.truncate(most);
    Ok(Contents::Longer(bytes))
}

/// `NAME=VALUE` as it stands, or `NAME<<END`, the lines of the value, and `END`. Empty lines, and those that begin with
/// `#`, say nothing.
fn parse(text: &str) -> Result<Vec<Variable>, HandError> {
    if text.contains('\0') {
        return Err(HandError::NoText);
    }
    let mut values: Vec<Variable> = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((said, line)) = lines.next() {
        if said.trim().is_empty() || said.starts_with('#') {
            continue;
        }
        let (name, value) = match (said.split_once('='), said.split_once("<<")) {
            (Some((name, value)), _) if is_name(name) => (name, value.to_owned()),
            (_, Some((name, end))) if is_name(name) && !end.trim().is_empty() => {
                let end = end.trim();
                let mut value = Vec::new();
                loop {
                    match lines.next() {
                        Some((last, _)) if last == end => break,
                        Some((more, _)) => value.push(more),
                        None => return Err(HandError::Open { line, end: end.to_owned() }),
                    }
                }
                (name, value.join("\n"))
            }
            _ => return Err(HandError::Line { line }),
        };
        if is_reserved(name) || name == "BUILDR" {
            return Err(HandError::Reserved { line, name: name.to_owned() });
        }
        values.retain(|earlier| earlier.name != name);
        values.push(Variable::new(name, value));
    }
    Ok(values)
}

/// The name that two have different values for, if there is one.
pub(super) fn conflict<'v>(one: &'v [Variable], other: &[Variable]) -> Option<&'v str> {
    let differs = |value: &&Variable| other.iter().any(|it| it.name == value.name && it.value != value.value);
    one.iter().find(differs).map(|value| value.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Result<&[(&str, &str)], &str>) {
        match (parse(text), expect) {
            (Ok(got), Ok(expect)) => {
                let got: Vec<_> = got.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
                assert_eq!(got, expect, "{text:?}");
            }
            (Err(error), Err(expect)) => assert!(error.to_string().starts_with(expect), "{error}"),
            (got, expect) => panic!("{text:?}: {got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn values_as_they_are_written() {
        check("", Ok(&[]));
        check("A=1\nB=two words  \n\n# no\nC=\n", Ok(&[("A", "1"), ("B", "two words  "), ("C", "")]));
        check("A=\"1\"\r\nB=x=y<<z\r\n", Ok(&[("A", "\"1\""), ("B", "x=y<<z")]));
        check("A=1\nB=2\nA=3", Ok(&[("B", "2"), ("A", "3")]));
        check("A<<END\none\n\n B=2\nEND\nC=3\n", Ok(&[("A", "one\n\n B=2"), ("C", "3")]));
        check("A<< EOF\nEOF", Ok(&[("A", "")]));
        check("A<<E=F\nx\nE=F\n", Ok(&[("A", "x")]));
    }

    #[test]
    fn what_cannot_be_handed_on() {
        check("A=1\nmake: done\n", Err("line 2 of $BUILDR_ENV is not NAME=VALUE"));
        check("1A=1", Err("line 1"));
        check("A B=1", Err("line 1"));
        check("A<<\nx", Err("line 1"));
        check("CI=no", Err("line 1 of $BUILDR_ENV sets CI, which only buildr sets"));
        check("\nBUILDR_STAGE=x", Err("line 2 of $BUILDR_ENV sets BUILDR_STAGE"));
        check("A<<END\nx\n", Err("line 1 of $BUILDR_ENV begins a text with <<END"));
        check("A=\0", Err("$BUILDR_ENV holds bytes that are no text"));
    }

    #[test]
    fn a_container_may_put_anything_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(read(&at("none")).unwrap().is_empty());
        std::fs::write(at("secret"), "A=1").unwrap();
        assert_eq!(read(&at("secret")).unwrap(), [Variable::new("A", "1")]);
        symlink(at("secret"), at("link")).unwrap();
        assert!(read(&at("link")).unwrap().is_empty());
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        assert!(read(&at("pipe")).unwrap().is_empty());
        std::fs::create_dir(at("folder")).unwrap();
        assert!(read(&at("folder")).unwrap().is_empty());
        std::fs::write(at("long"), "A=".to_owned() + &"x".repeat(MAX_HANDED)).unwrap();
        assert!(matches!(read(&at("long")), Err(HandError::TooLong)));
        std::fs::write(at("bytes"), b"A=\xff").unwrap();
        assert!(matches!(read(&at("bytes")), Err(HandError::NoText)));
    }

    #[test]
    fn two_values_for_one_name() {
        let one = [Variable::new("A", "1"), Variable::new("B", "2")];
        assert_eq!(conflict(&one, &[Variable::new("B", "2")]), None);
        assert_eq!(conflict(&one, &[Variable::new("C", "1"), Variable::new("B", "3")]), Some("B"));
    }
}
