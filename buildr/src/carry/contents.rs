//! What is in an archive of artifacts, for people to see: names and sizes, and none of it unpacked.
//!
//! An archive comes from a build, so it may be anything. How much of it is read, how many files are named, how long a
//! name may be and how much memory it takes are bounded, whatever stands in it.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use protocol::api::{ArtifactFile, ArtifactFiles};

use super::{CarryError, disk};

/// How many files are named.
const FILES: usize = 1000;

/// How much of an archive is looked through, in bytes of what is in it: most of a second's work.
const READ: u64 = 256 << 20;

/// The longest name that is shown, in bytes.
const LONGEST: u64 = 4096;

/// What unpacking may hold in memory, as a power of two: eight times what our own archives need.
const WINDOW: u32 = 23;

/// The names and sizes of what is in an archive. Blocks.
///
/// # Errors
/// When it cannot be read, or is no archive of artifacts.
pub fn contents(archive: &Path) -> Result<ArtifactFiles, CarryError> {
    let doing = || disk(format!("look into {}", archive.display()));
    let file = File::open(archive).map_err(doing())?;
    within(file, (FILES, READ)).map_err(doing())
}

/// The same of any bytes, up to so many files, and so many bytes unpacked.
fn within(bytes: impl Read, (most, read): (usize, u64)) -> io::Result<ArtifactFiles> {
    let left = Cell::new(read);
    let mut unpacked = zstd::Decoder::new(bytes)?;
    unpacked.window_log_max(WINDOW)?;
    let mut archive = tar::Archive::new(Bounded { from: unpacked, left: &left });
    let mut found = ArtifactFiles::default();
    match list(&mut archive, most, &mut found) {
        // It was not the archive that came to its end.
        Err(_) if left.get() == 0 => found.more = true,
        listed => found.more = listed?,
    }
    Ok(found)
}

/// Names files until there are no more, or enough; says whether there are more.
fn list(archive: &mut tar::Archive<impl Read>, most: usize, found: &mut ArtifactFiles) -> io::Result<bool> {
    // A name that is too long for a header stands before it, as a file of its own.
    let (mut long_name, mut long_link) = (None, None);
    // As they lie there: put together by the library, a name would be read whole, however long.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            long_name = Some(said(&mut entry)?);
            continue;
        }
        if kind.is_gnu_longlink() {
            long_link = Some(said(&mut entry)?);
            continue;
        }
        let (name, target) = (long_name.take(), long_link.take());
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if !is_link && !kind.is_file() {
            continue;
        }
        if found.files.len() >= most {
            return Ok(true);
        }
        let path = name.unwrap_or_else(|| text(&entry.header().path_bytes()));
        let own = || entry.header().link_name_bytes().map(|bytes| text(&bytes));
        let link = if is_link { target.or_else(own) } else { None };
        found.files.push(ArtifactFile { path, bytes: entry.header().size()?, link });
    }
    Ok(false)
}

/// A name that stands in an entry of its own.
fn said(entry: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    entry.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(text(&bytes))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Gives so many bytes, and then an error.
struct Bounded<'a, R> {
    from: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.left.get()).unwrap_or(usize::MAX));
        if most == 0 && !into.is_empty() {
            return Err(io::Error::other("enough was looked through"));
        }
        let read = self.from.read(&mut into[..most])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use protocol::plan::Artifacts;

    use super::*;

    fn file(path: &str, bytes: u64) -> ArtifactFile {
        ArtifactFile { path: path.to_owned(), bytes, link: None }
    }

    #[test]
    fn names_and_sizes_of_what_was_collected() {
        let folder = tempfile::tempdir().unwrap();
        let (from, long) = (folder.path().join("from"), "l".repeat(150));
        fs::create_dir_all(from.join("out/deep")).unwrap();
        fs::write(from.join("out/app"), "program").unwrap();
        fs::write(from.join("out/deep").join(&long), "xy").unwrap();
        fs::write(from.join("out/<b>"), "").unwrap();
        symlink("/etc/passwd", from.join("out/link")).unwrap();
        symlink(format!("/{long}"), from.join("out/long-link")).unwrap();
        let what =
            Artifacts { paths: vec!["out".to_owned()], exclude: Vec::new(), when: Default::default(), expire_ms: None };
        let collected = super::super::collect(&from, &what, &folder.path().join("new"), &|| false).unwrap().unwrap();
        let mut found = contents(&collected.archive).unwrap();
        found.files.sort_by(|a, b| a.path.cmp(&b.path));
        let link = |path: &str, to: &str| ArtifactFile { link: Some(to.to_owned()), ..file(path, 0) };
        let expect = [
            file("out/<b>", 0),
            file("out/app", 7),
            file(&format!("out/deep/{long}"), 2),
            link("out/link", "/etc/passwd"),
            link("out/long-link", &format!("/{long}")),
        ];
        assert_eq!((&*found.files, found.more), (&expect[..], false));
        let some = within(File::open(&collected.archive).unwrap(), (2, READ)).unwrap();
        assert_eq!((some.files.len(), some.more), (2, true));
    }

    fn packed(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        build(&mut archive);
        zstd::encode_all(&*archive.into_inner().unwrap(), 1).unwrap()
    }

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.as_mut_bytes()[..9].copy_from_slice(b"../../etc");
        header.set_cksum();
        header
    }

    #[test]
    fn whatever_stands_in_it_the_bounds_hold() {
        // A file that unpacks to far more than is looked through.
        let bomb = packed(|archive| {
            archive.append(&header(tar::EntryType::Regular, 8 << 20), io::repeat(0).take(8 << 20)).unwrap();
            archive.append(&header(tar::EntryType::Regular, 1), &b"x"[..]).unwrap();
        });
        assert!(bomb.len() < 8 << 10);
        let found = within(&*bomb, (10, 1 << 20)).unwrap();
        assert_eq!((&*found.files, found.more), (&[file("../../etc", 8 << 20)][..], true));
        // A name of a megabyte.
        let name = vec![b'n'; 1 << 20];
        let long = packed(|archive| {
            archive.append(&header(tar::EntryType::GNULongName, name.len() as u64), &*name).unwrap();
            archive.append(&header(tar::EntryType::Regular, 1), &b"x"[..]).unwrap();
        });
        let found = within(&*long, (10, READ)).unwrap();
        assert_eq!((found.files.len(), found.files[0].path.len()), (1, 4096));
        for odd in [&b"no archive at all"[..], &zstd::encode_all(&[7; 1024][..], 1).unwrap(), &bomb[..bomb.len() / 2]] {
            assert!(within(odd, (10, READ)).is_err());
        }
    }
}
