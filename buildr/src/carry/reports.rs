//! What test reports say: JUnit's XML, lcov's and Cobertura's coverage, and coverage that a test runner prints.

mod junit;
mod coverage;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;
use protocol::report::Tests;

use super::{CarryError, disk};
use crate::folder::{Barred, Entry, Globs, Opened, walk};

pub use coverage::CoverageInLog;

/// How much is read, whatever a stage has left: one report is in memory at a time.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Of all reports together: a hundred thousand tests with their output fit in it.
    bytes: u64,
    files: usize,
}

const LIMITS: Limits = Limits { bytes: 64 << 20, files: 10_000 };

/// The longest path of a report, in bytes, as with every program.
const LONGEST_PATH: usize = 4096;

/// How many of those that were not read are named one by one.
const NAMED: usize = 5;

/// What reports say.
#[derive(Debug, PartialEq, Eq)]
pub struct Told<T> {
    /// Together, as far as they were read.
    pub said: T,
    /// Which of them were not, as a sentence.
    pub left_out: Option<String>,
}

/// A text without the secrets that are known.
pub type Masked<'a> = dyn Fn(&str) -> String + 'a;

/// What all reports that are meant say together, in words that went through `masked`; nothing when none is there.
///
/// # Errors
/// When a pattern cannot be understood or a report cannot be read.
pub fn tests(workspace: &Path, globs: &[String], masked: &Masked<'_>) -> Result<Told<Option<Tests>>, CarryError> {
    tests_within(workspace, globs, masked, LIMITS)
}

fn tests_within(
    workspace: &Path,
    globs: &[String],
    masked: &Masked<'_>,
    limits: Limits,
) -> Result<Told<Option<Tests>>, CarryError> {
    let mut all: Option<Tests> = None;
    let left_out =
        each(workspace, globs, limits, |path, content| junit::add(all.get_or_insert_default(), path, content, masked))?;
    Ok(Told { said: all, left_out })
}

/// The covered part of the lines in a file of lcov's or Cobertura's, in hundredths of a per cent.
///
/// # Errors
/// When no such file is there, or it cannot be read.
pub fn coverage(workspace: &Path, file: &str) -> Result<Told<u32>, CarryError> {
    let mut covered = coverage::Covered::default();
    let mut found = false;
    let left_out = each(workspace, &[file.to_owned()], LIMITS, |path, content| {
        found = true;
        covered.add(path, content)
    })?;
    if found {
        return Ok(Told { said: covered.part(), left_out });
    }
    let not_there = || "it is not there; the stage wrote no such file".to_owned();
    Err(CarryError::Report { path: file.to_owned(), reason: left_out.unwrap_or_else(not_there) })
}

/// Copies the files that are meant into a folder, by the paths that they have in the workspace; nothing that is longer
/// than what is read. The folder may lie in a tree that the build writes to: no link that is there is followed.
///
/// # Errors
/// When a pattern cannot be understood, or something cannot be read or written.
pub fn copy(workspace: &Path, globs: &[String], into: &Path) -> Result<(), CarryError> {
    let wanted = Globs::new(globs)?;
    let mut opened = None;
    walk(workspace, &mut |entry: &Entry<'_>| {
        if entry.kind() != SFlag::S_IFREG || !wanted.matches(entry.path) {
            return Ok(());
        }
        let mut from = entry.open()?;
        if from.metadata()?.len() <= LIMITS.bytes {
            let to = match &mut opened {
                Some(to) => to,
                none => {
                    fs::create_dir_all(into)?;
                    none.insert(Opened::at(into)?)
                }
            };
            io::copy(&mut from, &mut to.replace(entry.path)?)?;
        }
        Ok(())
    })
    .map_err(disk("copy the reports"))
}

/// Goes through the files that are meant, in the order of their names, with what is in each. Gives a sentence about
/// those that were passed over.
fn each(
    workspace: &Path,
    globs: &[String],
    limits: Limits,
    mut with: impl FnMut(&str, &[u8]) -> Result<(), CarryError>,
) -> Result<Option<String>, CarryError> {
    let doing = || disk("read the reports");
    let mut left_out = LeftOut::default();
    let paths = meant(workspace, &Globs::new(globs)?, limits.files, &mut left_out).map_err(doing())?;
    let (opened, mut left) = (Opened::at(workspace).map_err(doing())?, limits.bytes);
    for path in paths {
        let file = match opened.file(&path) {
            Ok(Some(file)) => file,
            // It went away meanwhile.
            Ok(None) | Err(Barred::Link(_) | Barred::NoFolder(_)) => continue,
            Err(barred) => return Err(doing()(barred.into())),
        };
        let mut content = Vec::new();
        // A file with holes is long and takes no place on the disk: none of one that is too long is read.
        let may_fit = file.metadata().map_err(doing())?.len() <= left;
        if may_fit {
            file.take(left + 1).read_to_end(&mut content).map_err(doing())?;
        }
        match left.checked_sub(content.len() as u64).filter(|_| may_fit) {
            Some(still) => left = still,
            None => {
                left_out.note(&path);
                continue;
            }
        }
        with(&path.display().to_string(), &content)?;
    }
    Ok(left_out.sentence(limits))
}

/// The paths of the files that are meant; of too many those that come first by their names.
fn meant(workspace: &Path, wanted: &Globs, most: usize, left_out: &mut LeftOut) -> io::Result<BTreeSet<PathBuf>> {
    let mut paths = BTreeSet::new();
    walk(workspace, &mut |entry: &Entry<'_>| {
        if entry.kind() != SFlag::S_IFREG || !wanted.matches(entry.path) {
            return Ok(());
        }
        if entry.path.as_os_str().len() > LONGEST_PATH {
            left_out.note(entry.path);
        } else if paths.insert(entry.path.to_owned())
            && paths.len() > most
            && let Some(last) = paths.pop_last()
        {
            left_out.note(&last);
        }
        Ok(())
    })?;
    Ok(paths)
}

/// Files that were not read.
#[derive(Debug, Default)]
struct LeftOut {
    names: Vec<String>,
    more: usize,
}

impl LeftOut {
    fn note(&mut self, path: &Path) {
        if self.names.len() < NAMED {
            self.names.push(cut(&path.display().to_string()));
        } else {
            self.more += 1;
        }
    }

    fn sentence(mut self, limits: Limits) -> Option<String> {
        if self.more > 0 {
            self.names.push(format!("{} more", self.more));
        }
        let (files, mib) = (limits.files, limits.bytes >> 20);
        (!self.names.is_empty()).then(|| {
            format!(
                "not read as a report, for of a stage's no more than {files} files and {mib} MiB in all are: {}",
                self.names.join(", ")
            )
        })
    }
}

/// At most the first KiB of a text.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(1 << 10)].to_owned()
}

#[cfg(test)]
mod test {
    use super::*;

    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="0" failures="1" skipped="1" tests="3" time="0.5">
<testcase classname="tests.test_a" name="test_one" time="0.25" />
<testcase classname="tests.test_a" name="test_two" time="0.125" file="tests/test_a.py" line="7"><failure message="assert 1 == 2">def test_two():
&gt; assert 1 == 2</failure></testcase>
<testcase classname="tests.test_a" name="test_three" time="0"><skipped type="pytest.skip" message="no net">x</skipped></testcase>
</testsuite></testsuites>"#;

    #[test]
    fn reports_of_several_files_are_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("r")).unwrap();
        fs::write(folder.path().join("r/a.xml"), PYTEST).unwrap();
        let suite = r#"<testsuite name="s"><testcase name="x"><error/></testcase><testcase name="y"/></testsuite>"#;
        fs::write(folder.path().join("r/b.xml"), suite).unwrap();
        let got = tests(folder.path(), &["r/*.xml".to_owned()], &str::to_owned).unwrap().said.unwrap();
        assert_eq!((got.passed, got.failed, got.skipped, got.duration_ms), (2, 2, 1, 375));
        assert_eq!(got.failures[0].name, "tests.test_a::test_two");
        assert_eq!(got.failures[0].message, "assert 1 == 2");
        assert_eq!(got.failures[0].file.as_deref(), Some("tests/test_a.py:7"));
        assert_eq!(
            tests(folder.path(), &["none/*.xml".to_owned()], &str::to_owned).unwrap(),
            Told { said: None, left_out: None }
        );
    }

    #[test]
    fn files_with_holes_are_left_out_and_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in 0..12 {
            let file = fs::File::create(folder.path().join(format!("b{name:02}.xml"))).unwrap();
            file.set_len(LIMITS.bytes - 1).unwrap();
        }
        fs::write(folder.path().join("a.xml"), PYTEST).unwrap();
        fs::write(folder.path().join("z.xml"), PYTEST).unwrap();
        let Told { said, left_out } = tests(folder.path(), &["*.xml".to_owned()], &str::to_owned).unwrap();
        assert_eq!(said.unwrap().failed, 2, "what is short is read, before and after");
        assert_eq!(
            left_out.unwrap(),
            "not read as a report, for of a stage's no more than 10000 files and 64 MiB in all are: b00.xml, b01.xml, \
             b02.xml, b03.xml, b04.xml, 7 more"
        );
        fs::File::create(folder.path().join("lcov.info")).unwrap().set_len(LIMITS.bytes + 1).unwrap();
        let error = coverage(folder.path(), "lcov.info").unwrap_err().to_string();
        assert!(error.starts_with("the report lcov.info cannot be read: not read as a report, for of"), "{error}");
    }

    #[test]
    fn of_many_files_the_first_are_read() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["d", "b", "a", "c"] {
            let suite = format!("<testsuite><testcase name=\"{name}\"><error/></testcase></testsuite>");
            fs::write(folder.path().join(name), suite).unwrap();
        }
        let read = |limits| tests_within(folder.path(), &["?".to_owned()], &str::to_owned, limits).unwrap();
        let names = |tests: Option<Tests>| tests.unwrap().failures.into_iter().map(|it| it.name).collect::<Vec<_>>();
        let Told { said, left_out } = read(Limits { files: 3, ..LIMITS });
        assert_eq!(names(said), ["a", "b", "c"]);
        assert!(left_out.unwrap().ends_with("no more than 3 files and 64 MiB in all are: d"));
        // Two of them fit.
        let Told { said, left_out } = read(Limits { bytes: 130, ..LIMITS });
        assert_eq!(names(said), ["a", "b"]);
        assert!(left_out.unwrap().ends_with(": c, d"));
    }

    #[test]
    fn copies_have_the_paths_of_what_they_are_of() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, into) = (folder.path().join("tree"), folder.path().join("into"));
        fs::create_dir_all(tree.join("r/s")).unwrap();
        for name in ["r/s/a.xml", "lcov.info", "other"] {
            fs::write(tree.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", tree.join("r/link.xml")).unwrap();
        copy(&tree, &["r/**/*.xml".to_owned(), "lcov.info".to_owned()], &into).unwrap();
        for name in ["r/s/a.xml", "lcov.info"] {
            assert_eq!(fs::read_to_string(into.join(name)).unwrap(), name);
        }
        assert!(!into.join("other").exists() && !into.join("r/link.xml").exists());
    }

    #[test]
    fn copies_go_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["tree/r", "outside", "into"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("tree/r/a.xml"), "new").unwrap();
        fs::write(at("outside/a.xml"), "old").unwrap();
        let copied = |into: &str| copy(&at("tree"), &["r/*".to_owned()], &at(into));
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
        link("outside", "into/r");
        assert!(copied("into").is_err());
        fs::remove_file(at("into/r")).unwrap();
        // A file is made anew in the place of whatever stood there.
        fs::create_dir(at("into/r")).unwrap();
        link("outside/a.xml", "into/r/a.xml");
        copied("into").unwrap();
        copied("into").unwrap();
        assert_eq!(fs::read_to_string(at("into/r/a.xml")).unwrap(), "new");
        link("outside", "link");
        assert!(copied("link").is_err());
        assert_eq!(fs::read_to_string(at("outside/a.xml")).unwrap(), "old");
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_report_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.xml"), "<testsuite><testcase></testsuite>").unwrap();
        let error = tests(folder.path(), &["a.xml".to_owned()], &str::to_owned).unwrap_err().to_string();
        assert!(error.starts_with("the report a.xml cannot be read: "), "{error}");
        let error = coverage(folder.path(), "lcov.info").unwrap_err().to_string();
        assert_eq!(error, "the report lcov.info cannot be read: it is not there; the stage wrote no such file");
        // A link that leads out is not followed.
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("lcov.info")).unwrap();
        assert!(coverage(folder.path(), "lcov.info").is_err());
    }
}
