//! What a run leaves in its folder, `.buildr-out/` of the tree unless it is told another: the whole output of every
//! stage, the files that were kept, copies of its reports, and how it all ended.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use protocol::{JobKey, LogName, StageName};

use super::account::Account;

/// The folders that every run begins anew.
const OF_ONE_RUN: [&str; 2] = ["logs", REPORTS];
/// The folder with copies of the reports.
const REPORTS: &str = "reports";
/// The files that every run writes anew.
const FILES: [&str; 2] = ["result.json", "summary.md"];
/// Who writes there in this moment.
const LOCK: &str = ".lock";
/// What hides the folder from git.
const IGNORED: &str = ".gitignore";
/// The folder with the archives of all that was kept, by their SHA-256.
pub(crate) const ARCHIVES: &str = "archives";
/// The folder with the files that were kept.
const ARTIFACTS: &str = "artifacts";
/// What is there from run to run, and written to as it is found.
const LASTING: [&str; 4] = [LOCK, IGNORED, ARTIFACTS, ARCHIVES];

/// The folder of one run. While it is held, no other run writes there.
#[derive(Debug)]
pub(crate) struct Record {
    folder: PathBuf,
    files: HashMap<PathBuf, File>,
    _lock: File,
}

impl Record {
    /// Whether a run may begin anew in this folder without the loss of anything else: it is missing or empty, or an
    /// earlier run began there.
    ///
    /// # Errors
    /// When it cannot be looked into.
    pub(crate) fn may_begin(folder: &Path) -> io::Result<bool> {
        match fs::read_dir(folder) {
            Ok(mut entries) => Ok(folder.join(LOCK).is_file() || entries.next().transpose()?.is_none()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Begins anew in this folder, which is made; what an earlier run kept of its stages' files stays. `None` when
    /// another run writes there now.
    ///
    /// # Errors
    /// When the disk refuses, or a link in it would lead what is written to another place.
    pub(crate) fn begin(folder: &Path) -> io::Result<Option<Self>> {
        fs::create_dir_all(folder)?;
        if let Some(link) = LASTING.iter().map(|name| folder.join(name)).find(|path| path.is_symlink()) {
            return Err(io::Error::other(format!("{} is a link; remove it", link.display())));
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        // Git sees nothing of it, whatever the tree's own rules say; but for what somebody wrote there.
        match OpenOptions::new().create_new(true).write(true).open(folder.join(IGNORED)) {
            Ok(mut ignored) => ignored.write_all(b"*\n")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        for name in OF_ONE_RUN {
            remove(&folder.join(name))?;
        }
        for name in FILES {
            match fs::remove_file(folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Some(Self { folder: folder.to_owned(), files: HashMap::new(), _lock: lock }))
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a log stands.
    pub(crate) fn log_path(&self, account: &Account, job: Option<&JobKey>, log: &LogName) -> PathBuf {
        let folder = self.folder.join("logs");
        let folder = match job {
            Some(job) if account.has_several_jobs() => folder.join(file_name(job.as_str())),
            _ => folder,
        };
        folder.join(format!("{}.log", log.title()))
    }

    /// Where the archives of kept files lie, by their SHA-256.
    pub(crate) fn archives(&self) -> PathBuf {
        self.folder.join(ARCHIVES)
    }

    /// Where the kept files of a stage are put.
    pub(crate) fn artifacts_path(&self, account: &Account, job: Option<&JobKey>, stage: &StageName) -> PathBuf {
        self.folder.join(ARTIFACTS).join(file_name(&account.title(job, stage)))
    }

    /// Where copies of a stage's reports are put.
    pub(crate) fn reports_path(&self, account: &Account, job: Option<&JobKey>, stage: &StageName) -> PathBuf {
        self.folder.join(REPORTS).join(file_name(&account.title(job, stage)))
    }

    /// Adds to a log.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn add(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.files.contains_key(path) {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            self.files.insert(path.to_owned(), file);
        }
        self.files.get_mut(path).map_or(Ok(()), |file| file.write_all(bytes))
    }

    /// No more will be added to a log.
    pub(crate) fn close(&mut self, path: &Path) {
        self.files.remove(path);
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.folder.join(name), text)
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A job's key as the name of a folder. Two keys that differ only in what a name cannot hold are told apart by a number
/// made of the whole.
pub(crate) fn file_name(key: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || " -_.=,()".contains(c);
    let name: String = key.chars().map(|c| if legal(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.').trim();
    if name == key && name.len() <= 120 {
        return name.to_owned();
    }
    // FNV-1a: the same name each time.
    let number = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{} {:08x}", &name[..name.len().min(120)], number >> 32)
}

/// The first and the last lines of a log, and how many lie between them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The first.
    pub(crate) head: Vec<Vec<u8>>,
    /// How many are left out.
    pub(crate) between: usize,
    /// The last.
    pub(crate) tail: std::collections::VecDeque<Vec<u8>>,
}

/// Reads the first `head` and the last `tail` lines of a log; nothing of one that was never written.
pub(crate) fn excerpt(path: &Path, head: usize, tail: usize) -> Excerpt {
    let mut excerpt = Excerpt::default();
    let Ok(file) = File::open(path) else { return excerpt };
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return excerpt,
            Ok(_) => {}
        }
        if excerpt.head.len() < head {
            excerpt.head.push(line);
            continue;
        }
        excerpt.tail.push_back(line);
        if excerpt.tail.len() > tail {
            excerpt.tail.pop_front();
            excerpt.between += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::testing::once_let_go;

    #[test]
    fn a_run_begins_anew_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("out");
        let mut record = Record::begin(&folder).unwrap().unwrap();
        let account = Account::default();
        let log = record.log_path(&account, None, &LogName::of_job());
        record.add(&log, b"one\n").unwrap();
        record.add(&log, b"two").unwrap();
        record.close(&log);
        record.add(&log, b"\n").unwrap();
        record.write("result.json", "{}").unwrap();
        assert_eq!(fs::read_to_string(folder.join("logs/job.log")).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(folder.join(".gitignore")).unwrap(), "*\n");
        assert!(Record::begin(&folder).unwrap().is_none());
        drop(record);
        fs::create_dir(folder.join("artifacts")).unwrap();
        let record = once_let_go("nobody writes to it any more", || Record::begin(&folder).unwrap());
        assert!(folder.join("artifacts").exists());
        assert!(!folder.join("logs").exists() && !record.folder().join("result.json").exists());
    }

    #[test]
    fn a_folder_of_other_things_is_not_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("out");
        assert!(Record::may_begin(&folder).unwrap());
        fs::create_dir(&folder).unwrap();
        assert!(Record::may_begin(&folder).unwrap());
        fs::write(folder.join(".gitignore"), "target\n").unwrap();
        assert!(!Record::may_begin(&folder).unwrap());
        assert!(Record::may_begin(&folder.join(".gitignore")).is_err());
        // Whoever has begun there may begin again, and what git is told stays.
        Record::begin(&folder).unwrap().unwrap();
        assert!(Record::may_begin(&folder).unwrap());
        assert_eq!(fs::read_to_string(folder.join(".gitignore")).unwrap(), "target\n");
    }

    #[test]
    fn what_would_lead_elsewhere_is_not_written_to() {
        let parent = tempfile::tempdir().unwrap();
        for name in LASTING {
            let (folder, outside) = (parent.path().join("out"), parent.path().join("outside"));
            fs::create_dir(&folder).unwrap();
            fs::create_dir(&outside).unwrap();
            std::os::unix::fs::symlink(outside.join("new"), folder.join(name)).unwrap();
            let error = Record::begin(&folder).unwrap_err().to_string();
            assert!(error.contains(name) && error.ends_with("is a link; remove it"), "{error}");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
            fs::remove_dir_all(&folder).unwrap();
            fs::remove_dir(&outside).unwrap();
        }
        // What a run begins anew is removed, and nothing that it leads to.
        let folder = parent.path().join("out");
        fs::create_dir_all(&folder).unwrap();
        fs::create_dir(parent.path().join("kept")).unwrap();
        for name in OF_ONE_RUN.into_iter().chain(FILES) {
            std::os::unix::fs::symlink(parent.path().join("kept"), folder.join(name)).unwrap();
        }
        Record::begin(&folder).unwrap().unwrap().write("result.json", "{}").unwrap();
        assert!(parent.path().join("kept").is_dir() && folder.join("result.json").is_file());
    }

    #[test]
    fn a_jobs_key_is_a_folders_name() {
        for same in ["build", "unit (rust=1.90)", "build..package"] {
            assert_eq!(file_name(same), same);
        }
        let (slash, dash) = (file_name("web/unit 2/5"), file_name("web-unit 2-5"));
        assert!(slash.starts_with("web-unit 2-5 ") && slash != dash && !slash.contains('/'), "{slash}");
        assert_ne!(file_name(".."), "..");
        assert!(file_name(&"ü".repeat(100)).len() < 200);
    }

    #[test]
    fn of_a_long_log_the_middle_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        fs::write(&path, "1\n2\n3\n4\n5\nlast").unwrap();
        let text = |lines: &[&str]| lines.iter().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
        let got = excerpt(&path, 2, 2);
        assert_eq!((got.head, got.between, Vec::from(got.tail)), (text(&["1\n", "2\n"]), 2, text(&["5\n", "last"])));
        let got = excerpt(&path, 3, 3);
        assert_eq!((got.head.len(), got.between, got.tail.len()), (3, 0, 3));
        assert_eq!(excerpt(&folder.path().join("none"), 1, 1), Excerpt::default());
    }
}
