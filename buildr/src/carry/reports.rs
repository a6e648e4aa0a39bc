//! What test reports say: JUnit's XML, lcov's and Cobertura's coverage, and coverage that a test runner prints.

mod junit;
mod coverage;

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use nix::sys::stat::SFlag;
use protocol::report::Tests;

use super::{CarryError, disk};
use crate::folder::{Entry, Globs, walk};

pub use coverage::CoverageInLog;

/// The longest report that is read, in bytes: a hundred thousand tests with their output fit in it.
const MAX_BYTES: u64 = 64 << 20;

/// What all reports that are meant say together; nothing when none is there.
///
/// # Errors
/// When a pattern cannot be understood or a report cannot be read.
pub fn tests(workspace: &Path, globs: &[String]) -> Result<Option<Tests>, CarryError> {
    let mut all: Option<Tests> = None;
    for (path, content) in contents(workspace, globs)? {
        junit::add(all.get_or_insert_default(), &path, &content)?;
    }
    Ok(all)
}

/// The covered part of the lines in a file of lcov's or Cobertura's, in hundredths of a per cent.
///
/// # Errors
/// When no such file is there, or it cannot be read.
pub fn coverage(workspace: &Path, file: &str) -> Result<u32, CarryError> {
    let found = contents(workspace, &[file.to_owned()])?;
    if found.is_empty() {
        let reason = "it is not there; the stage wrote no such file".to_owned();
        return Err(CarryError::Report { path: file.to_owned(), reason });
    }
    coverage::of_files(&found)
}

/// Copies the files that are meant into a folder, by the paths that they have in the workspace; nothing that is longer
/// than what is read.
///
/// # Errors
/// When a pattern cannot be understood, or something cannot be read or written.
pub fn copy(workspace: &Path, globs: &[String], into: &Path) -> Result<(), CarryError> {
    let wanted = Globs::new(globs)?;
    walk(workspace, &mut |entry: &Entry<'_>| {
        if entry.kind() == SFlag::S_IFREG && wanted.matches(entry.path) {
            let (mut from, to) = (entry.open()?, into.join(entry.path));
            if from.metadata()?.len() <= MAX_BYTES {
                to.parent().map_or(Ok(()), fs::create_dir_all)?;
                io::copy(&mut from, &mut fs::File::create(to)?)?;
            }
        }
        Ok(())
    })
    .map_err(disk("copy the reports"))
}

/// The files that are meant, in the order of their names, with what is in them.
fn contents(workspace: &Path, globs: &[String]) -> Result<Vec<(String, Vec<u8>)>, CarryError> {
    let wanted = Globs::new(globs)?;
    let (mut found, mut too_long) = (Vec::new(), None);
    walk(workspace, &mut |entry: &Entry<'_>| {
        if entry.kind() == SFlag::S_IFREG && wanted.matches(entry.path) {
            let mut content = Vec::new();
            entry.open()?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
            let path = entry.path.display().to_string();
            if content.len() as u64 > MAX_BYTES {
                too_long = Some(path);
            } else {
                found.push((path, content));
            }
        }
        Ok(())
    })
    .map_err(disk("read the reports"))?;
    if let Some(path) = too_long {
        return Err(CarryError::Report { path, reason: format!("it is longer than {} MiB", MAX_BYTES >> 20) });
    }
    found.sort();
    Ok(found)
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
        let got = tests(folder.path(), &["r/*.xml".to_owned()]).unwrap().unwrap();
        assert_eq!((got.passed, got.failed, got.skipped, got.duration_ms), (2, 2, 1, 375));
        assert_eq!(got.failures[0].name, "tests.test_a::test_two");
        assert_eq!(got.failures[0].message, "assert 1 == 2");
        assert_eq!(got.failures[0].file.as_deref(), Some("tests/test_a.py:7"));
        assert_eq!(tests(folder.path(), &["none/*.xml".to_owned()]).unwrap(), None);
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
    fn what_is_no_report_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.xml"), "<testsuite><testcase></testsuite>").unwrap();
        let error = tests(folder.path(), &["a.xml".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("the report a.xml cannot be read: "), "{error}");
        let error = coverage(folder.path(), "lcov.info").unwrap_err().to_string();
        assert_eq!(error, "the report lcov.info cannot be read: it is not there; the stage wrote no such file");
        // A link that leads out is not followed.
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("lcov.info")).unwrap();
        assert!(coverage(folder.path(), "lcov.info").is_err());
    }
}
