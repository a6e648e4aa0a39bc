//! Where archives of artifacts are kept between the jobs of one build: a folder, or the farm's depot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use protocol::job::Depot;
use protocol::plan::Kept;

use super::artifacts::open_to_readers;
use super::digest::sha256_of;
use super::{CarryError, Collected, disk};
use crate::client::DepotClient;

/// A place for archives, each under its SHA-256.
#[derive(Debug, Clone)]
pub enum Shelf {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The coordinator's.
    Farm(Depot),
}

impl Shelf {
    /// Keeps an archive; one that is there already stays as it is. The file is taken.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn put(&self, what: &Collected) -> Result<(), CarryError> {
        match self {
            Self::Folder(folder) => {
                let target = folder.join(&what.sha256);
                let doing = || disk(format!("keep the artifacts in {}", folder.display()));
                fs::create_dir_all(folder).map_err(doing())?;
                open_to_readers(&what.archive).map_err(doing())?;
                moved(&what.archive, &target).map_err(doing())
            }
            Self::Farm(depot) => Ok(DepotClient::new(depot)?.put(&what.archive, &what.sha256).await?),
        }
    }

    /// Brings an archive into a folder, whole.
    ///
    /// # Errors
    /// When it is gone, damaged, or cannot be fetched.
    pub async fn fetch(&self, what: &Kept, into: &Path) -> Result<PathBuf, CarryError> {
        let path = match self {
            Self::Folder(folder) => folder.join(&what.sha256),
            Self::Farm(depot) => {
                fs::create_dir_all(into).map_err(disk(format!("make the folder {}", into.display())))?;
                let path = into.join(&what.sha256);
                if !DepotClient::new(depot)?.get(&what.sha256, &path).await? {
                    return Err(CarryError::Gone(what.stage.to_string()));
                }
                path
            }
        };
        match sha256_of(&path) {
            Ok(sha256) if sha256 == what.sha256 => Ok(path),
            Ok(_) => Err(CarryError::Damaged(path.display().to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CarryError::Gone(what.stage.to_string())),
            Err(error) => Err(disk(format!("read {}", path.display()))(error)),
        }
    }
}

/// Moves a file, to another disk too.
fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let part = to.with_extension("part");
            fs::copy(from, &part)?;
            fs::rename(&part, to)?;
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use protocol::plan::Artifacts;

    use super::*;

    #[tokio::test]
    async fn what_is_put_is_fetched_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("from")).unwrap();
        fs::write(at("from/app"), "x").unwrap();
        let paths = vec!["app".to_owned()];
        let what = Artifacts { paths, exclude: Vec::new(), when: Default::default(), expire_ms: None };
        let collected = super::super::collect(&at("from"), &what, &at("new"), &|| false).unwrap().unwrap();
        let shelf = Shelf::Folder(at("shelf"));
        shelf.put(&collected).await.unwrap();
        let (job, stage) = ("a".parse().unwrap(), "build".parse().unwrap());
        let Collected { files, bytes, sha256, .. } = collected;
        let kept = Kept { job, stage, files, bytes, sha256, after: None };
        let path = shelf.fetch(&kept, &at("to")).await.unwrap();
        assert_eq!(super::super::restore(&path, &at("from")).unwrap(), 1);
        fs::write(&path, "other").unwrap();
        assert!(matches!(shelf.fetch(&kept, &at("to")).await, Err(CarryError::Damaged(_))));
        fs::remove_file(&path).unwrap();
        let error = shelf.fetch(&kept, &at("to")).await.unwrap_err();
        assert_eq!(error.to_string(), "the artifacts of build are not kept any more; build its job again");
    }
}
