//! How an entry of the caches is called, and the folder in which it lies.

use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use nix::sys::stat::SFlag;
use protocol::plan::Cache;
use sha2::{Digest as _, Sha256};

use super::super::digest::Digesting;
use super::super::{CarryError, disk};
use crate::folder::{Entry, Globs, walk};

/// The folder of a branch's entries, below the store's.
pub(super) fn branch_folder(repo: &str, branch: &str) -> PathBuf {
    PathBuf::from(short_hash(&[repo.as_bytes()])).join(format!(
        "{}-{}",
        legal(branch),
        short_hash(&[branch.as_bytes()])
    ))
}

/// A text as part of a file's name.
pub(super) fn legal(text: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let text: String = text.chars().map(legal).take(80).collect();
    text.trim_start_matches('.').to_owned()
}

/// The name of a cache's entry: what it is called, and a hash of its paths and of the files that it depends on.
pub(super) fn entry_name(cache: &Cache, workspace: &Path) -> Result<String, CarryError> {
    let mut parts: Vec<Vec<u8>> = cache.paths.iter().map(|path| path.clone().into_bytes()).collect();
    parts.push(b"key".to_vec());
    if !cache.key.is_empty() {
        let wanted = Globs::new(&cache.key)?;
        let mut files = Vec::new();
        walk(workspace, &mut |entry: &Entry<'_>| {
            if entry.kind() == SFlag::S_IFREG && wanted.matches(entry.path) {
                let mut digesting = Digesting::looking();
                io::copy(&mut entry.open()?, &mut digesting)?;
                files.push((entry.path.to_path_buf(), digesting.finish().2));
            }
            Ok(())
        })
        .map_err(disk("read the files of a cache's key"))?;
        files.sort();
        for (path, digest) in files {
            parts.push(path.into_os_string().into_encoded_bytes());
            parts.push(digest);
        }
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let name = cache.name.as_deref().map(legal).filter(|name| !name.is_empty());
    Ok(format!("{}-{}", name.as_deref().unwrap_or("cache"), short_hash(&parts)))
}

/// 16 digits of a hash over parts, none of which can run into the next.
fn short_hash(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    HEXLOWER.encode(&digest.finalize()[..8])
}
