//! Whether overlays can be had, found out by making one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// A small overlay in a folder of its own, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Trial {
    folder: PathBuf,
    merged: PathBuf,
}

impl Trial {
    /// Makes an overlay in `folder`, which is new, and does to it what builds do.
    ///
    /// # Errors
    /// Why workspaces cannot be overlays there.
    pub(crate) fn make(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let trial = Self { merged: folder.join("merged"), folder };
        let lower = trial.folder.join("lower");
        for made in [&lower, &lower.join("folder"), &trial.merged] {
            fs::create_dir(made)?;
        }
        fs::write(lower.join("file"), "kept")?;
        fs::write(lower.join("folder/file"), "kept")?;
        super::lay(std::slice::from_ref(&lower), &trial.merged)?;
        let at = |name: &str| trial.merged.join(name);
        fs::write(at("file"), "changed")?;
        fs::rename(at("folder"), at("renamed"))?;
        fs::remove_file(at("renamed/file"))?;
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let kept = text(lower.join("file")) == "kept" && text(lower.join("folder/file")) == "kept";
        let done = text(at("file")) == "changed" && !at("folder").exists() && !at("renamed/file").exists();
        if !kept || !done {
            return Err(io::Error::other("an overlay here is not what it should be"));
        }
        Ok(trial)
    }

    /// A new folder that only those see who see the overlay.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn nonce(&self) -> io::Result<PathBuf> {
        let nonce = self.merged.join(Uuid::new_v4().simple().to_string());
        fs::create_dir(&nonce)?;
        Ok(nonce)
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let removed = super::remove(&self.merged).and_then(|()| crate::folder::remove(&self.folder));
        if let Err(error) = removed {
            tracing::warn!(%error, folder = %self.folder.display(), "what was made to try overlays stays until a sweep");
        }
    }
}

/// Whether a copy of a file in one folder shares its blocks when it is made in the other.
pub(crate) fn shares_blocks(from: &Path, to: &Path) -> bool {
    let tried = || -> io::Result<()> {
        let mut original = tempfile::tempfile_in(from)?;
        io::Write::write_all(&mut original, &[1; 4096])?;
        let copy: File = tempfile::tempfile_in(to)?;
        rustix::fs::ioctl_ficlone(&copy, &original)?;
        Ok(())
    };
    tried().is_ok()
}
