//! Folders that the daemon does not see are carried to it: into volumes of the container before it starts, and back
//! once it has ended, so that this machine's folders stay the truth.
//!
//! A volume has no name and goes with its container. What comes back is unpacked beside the folder and takes its
//! contents' place only when it is whole.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use bytes::{Buf as _, Bytes};
use futures_util::{StreamExt as _, stream};
use nix::sys::stat::SFlag;
use tokio::sync::mpsc;

use super::super::{ExecutorError, MountOrder};
use super::container::Container;
use super::engine::Engine;
use crate::folder::{self, Entry};

/// How many pieces may wait between the disk and the daemon: enough that neither waits for the other.
const BOUND: usize = 16;

/// How large such a piece is.
const PIECE: usize = 64 << 10;

/// The volumes that take these in: where each is mounted, and whether it begins with what the image has there. A file
/// lies in a volume that stands in its folder's place.
pub(super) fn folders(mounts: &[MountOrder]) -> Vec<(String, bool)> {
    let mut folders: Vec<(String, bool)> = Vec::new();
    for mount in mounts {
        let is_folder = mount.source.is_dir();
        let folder = if is_folder { mount.target.clone() } else { parent_of(&mount.target) };
        // What lies in the root itself is brought into the container's own files.
        if folder != "/" && !folders.iter().any(|(known, _)| *known == folder) {
            folders.push((folder, !is_folder));
        }
    }
    folders
}

/// Brings all of it into the volumes of a container that has not been started.
pub(super) async fn bring(container: &Container, mounts: &[MountOrder]) -> Result<(), ExecutorError> {
    for mount in mounts {
        let is_folder = mount.source.is_dir();
        let target = if is_folder { mount.target.clone() } else { parent_of(&mount.target) };
        let name = Path::new(&mount.target).file_name().unwrap_or_default().to_owned();
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(BOUND);
        let source = mount.source.clone();
        let packed = tokio::task::spawn_blocking(move || {
            let mut archive = tar::Builder::new(io::BufWriter::with_capacity(PIECE, Pipe(sender.clone())));
            let packed = if is_folder { pack(&source, &mut archive) } else { pack_file(&source, &name, &mut archive) };
            let packed = packed.and_then(|()| archive.into_inner()?.flush());
            if let Err(error) = &packed {
                // The daemon must not take a part for the whole.
                let _ = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
            }
            packed
        });
        let pieces = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let options = UploadToContainerOptionsBuilder::default().path(&target).build();
        let body = bollard::body_try_stream(pieces);
        let brought = container.engine.long.upload_to_container(&container.id, Some(options), body).await;
        let doing = || format!("bring {} to the daemon", mount.source.display());
        // A daemon that hangs up says why better than the pipe to it.
        match (packed.await.unwrap_or_else(|error| Err(io::Error::other(error))), brought) {
            (_, Ok(())) => {}
            (Err(source), _) if source.kind() != io::ErrorKind::BrokenPipe => {
                return Err(ExecutorError::Disk { doing: doing(), source });
            }
            (_, Err(error)) => return Err(container.engine.failed(doing(), &error)),
        }
    }
    Ok(())
}

/// Fetches back what a container has left in these folders.
pub(super) async fn fetch(engine: &Engine, container: &str, mounts: &[MountOrder]) -> Result<(), ExecutorError> {
    for mount in mounts.iter().filter(|mount| !mount.read_only && mount.source.is_dir()) {
        let doing = || format!("bring {} back from the daemon", mount.source.display());
        let (sender, receiver) = mpsc::channel(BOUND);
        let folder = mount.source.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            replace(&folder, Drain { receiver, piece: Bytes::new(), ended: false })
        });
        let options = DownloadFromContainerOptionsBuilder::default().path(&mount.target).build();
        let mut pieces = std::pin::pin!(engine.long.download_from_container(container, Some(options)));
        let mut broken = None;
        loop {
            let piece = match pieces.next().await {
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    broken = Some(engine.failed(doing(), &error));
                    break;
                }
                // Only so it is whole.
                None => Bytes::new(),
            };
            let ends = piece.is_empty();
            // When nobody takes it any more, the unpacking says why.
            if sender.send(piece).await.is_err() || ends {
                break;
            }
        }
        drop(sender);
        let unpacked = unpacked.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Some(error) = broken {
            return Err(error);
        }
        unpacked.map_err(|source| ExecutorError::Disk { doing: doing(), source })?;
    }
    Ok(())
}

fn parent_of(path: &str) -> String {
    Path::new(path).parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned()
}

/// All that is in a folder, and its own mode. Sockets and the like stay behind.
fn pack(folder: &Path, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
    let own = fs::metadata(folder)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&own);
    header.set_size(0);
    archive.append_data(&mut header, "./", io::empty())?;
    folder::walk(folder, &mut |entry: &Entry<'_>| {
        let mut header = header_of(entry);
        match entry.kind() {
            SFlag::S_IFLNK => {
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, entry.path, entry.target()?)
            }
            SFlag::S_IFDIR => {
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, entry.path, io::empty())
            }
            SFlag::S_IFREG => {
                let size = u64::try_from(entry.stat.st_size).unwrap_or_default();
                header.set_size(size);
                // Whoever writes to it meanwhile cannot spoil the rest of the archive.
                let exactly = entry.open()?.take(size).chain(io::repeat(0)).take(size);
                archive.append_data(&mut header, entry.path, exactly)
            }
            _ => Ok(()),
        }
    })?;
    archive.finish()
}

fn pack_file(file: &Path, name: &std::ffi::OsStr, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
    archive.append_path_with_name(file, name)?;
    archive.finish()
}

fn header_of(entry: &Entry<'_>) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode());
    header.set_uid(entry.stat.st_uid.into());
    header.set_gid(entry.stat.st_gid.into());
    header.set_mtime(u64::try_from(entry.stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    header
}

/// Puts what an archive has, below its one folder, in the place of what is in a folder.
fn replace(folder: &Path, mut archive: impl Read) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(folder);
    let aside = tempfile::Builder::new().prefix(".buildr-carried-").tempdir_in(parent)?;
    let (new, old) = (aside.path().join("new"), aside.path().join("old"));
    fs::create_dir(&new)?;
    fs::create_dir(&old)?;
    unpack(&mut archive, &new)?;
    // What follows the last entry tells whether it is the last one.
    io::copy(&mut archive, &mut io::sink())?;
    let Some(whole) = fs::read_dir(&new)?.next().transpose()?.map(|entry| entry.path()) else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon sent nothing"));
    };
    // A container may put anything in the place of its folder: a link there would lead out of the archive.
    if !fs::symlink_metadata(&whole)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "the container left something else in its place"));
    }
    take_all(folder, &old)?;
    take_all(&whole, folder)?;
    fs::set_permissions(folder, fs::metadata(&whole)?.permissions())?;
    // What cannot be entered is entered all the same by whoever owns it.
    folder::remove(&aside.keep())
}

fn take_all(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Unpacks files, folders and links; nothing leaves the folder. Folders get their modes last, for one that may not be
/// written to could not be filled.
fn unpack(archive: &mut impl Read, into: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    let mut folders = Vec::new();
    let into = into.canonicalize()?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            folders.push(entry);
        } else if kind.is_file() || kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_sparse() {
            entry.unpack_in(&into)?;
        }
    }
    folders.sort_by(|one, other| other.path_bytes().cmp(&one.path_bytes()));
    folders.into_iter().try_for_each(|mut folder| folder.unpack_in(&into).map(drop))
}

/// What is written to it goes to the daemon.
struct Pipe(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the daemon sends is read from it. An empty piece is the end, and nothing else is.
struct Drain {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl Read for Drain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            self.piece = self.receiver.blocking_recv().ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ended = self.piece.is_empty();
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_folder_goes_and_comes_back_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let (here, there) = (parent.path().join("here"), parent.path().join("there"));
        fs::create_dir_all(here.join("a/b")).unwrap();
        fs::write(here.join("a/b/run"), "x").unwrap();
        fs::set_permissions(here.join("a/b/run"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::set_permissions(here.join("a/b"), fs::Permissions::from_mode(0o500)).unwrap();
        fs::set_permissions(&here, fs::Permissions::from_mode(0o770)).unwrap();
        symlink("/etc/passwd", here.join("link")).unwrap();
        let long = "long".repeat(60);
        fs::write(here.join(&long), vec![7; 200_000]).unwrap();
        fs::create_dir(&there).unwrap();
        fs::write(there.join("gone"), "").unwrap();

        let mut packed = tar::Builder::new(Vec::new());
        pack(&here, &mut packed).unwrap();
        // As a daemon sends it: below the folder's own name.
        let mut sent = tar::Builder::new(Vec::new());
        let packed = packed.into_inner().unwrap();
        for entry in tar::Archive::new(&packed[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path =
                Path::new("app").join(entry.path().unwrap().strip_prefix("./").unwrap_or(&entry.path().unwrap()));
            let mut header = entry.header().clone();
            match entry.link_name().unwrap().map(|link| link.into_owned()) {
                Some(link) => sent.append_link(&mut header, path, link).unwrap(),
                None => sent.append_data(&mut header, path, &mut entry).unwrap(),
            }
        }
        let sent = sent.into_inner().unwrap();
        replace(&there, &sent[..]).unwrap();
        let mode = |path: &str| fs::metadata(there.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode(""), mode("a/b"), mode("a/b/run")), (0o770, 0o500, 0o751));
        assert_eq!(fs::read_link(there.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read(there.join(&long)).unwrap(), vec![7; 200_000]);
        assert!(!there.join("gone").exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2, "nothing stays beside it");
        assert!(replace(&there, &sent[..sent.len() / 2]).is_err(), "half an archive replaces nothing");
        assert!(there.join(&long).exists());
        fs::set_permissions(there.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(here.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn nothing_is_unpacked_outside() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut sent = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        sent.append_link(&mut header, "app/out", parent.path()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        sent.append_data(&mut header, "app/out/written", &b"x"[..]).unwrap();
        assert!(replace(&folder, &sent.into_inner().unwrap()[..]).is_err());
        assert!(!parent.path().join("written").exists());
    }

    #[test]
    fn a_file_lies_in_its_folders_place() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("token");
        fs::write(&file, "").unwrap();
        let mount = |source: &Path, target: &str| MountOrder {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only: true,
        };
        let mounts = [mount(parent.path(), "/app"), mount(&file, "/run/secrets/a"), mount(&file, "/run/secrets/b")];
        assert_eq!(folders(&mounts), [("/app".to_owned(), false), ("/run/secrets".to_owned(), true)]);
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_leads_nowhere() {
        let parent = tempfile::tempdir().unwrap();
        let (here, elsewhere) = (parent.path().join("here"), parent.path().join("elsewhere"));
        for folder in [&here, &elsewhere] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("kept"), "x").unwrap();
        }
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_uid(nix::unistd::geteuid().as_raw().into());
        header.set_gid(nix::unistd::getegid().as_raw().into());
        header.set_mtime(1);
        header.set_size(0);
        archive.append_link(&mut header, "hand", &elsewhere).unwrap();
        let archive = archive.into_inner().unwrap();
        let error = replace(&here, &archive[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{error}");
        for folder in [&here, &elsewhere] {
            assert!(folder.join("kept").is_file(), "{}", folder.display());
        }
    }
}
