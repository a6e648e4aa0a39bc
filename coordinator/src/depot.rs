//! The depot: archives of artifacts on their way between the jobs of a build, and for people until they expire.
//!
//! They lie in the state folder as `artifacts/<build>/<sha256>`. Who holds a current claim may bring what its job
//! keeps and fetch what its build has, by a token that comes with the grant. The token is made from the claim and the
//! coordinator's own key, so that it needs no place in the store, a repeated grant has the same one, and nobody who
//! reads it learns the claim.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::identity::Identity;
use protocol::job::Depot;
use protocol::{BuildNumber, ClaimId, JobId};
use sha2::Sha256;

/// What the key is used for here: a token of another use is none of these.
const PURPOSE: &[u8] = b"buildr depot 1";

/// Where archives lie, and who may have them.
#[derive(Clone)]
pub(crate) struct Archives {
    folder: PathBuf,
    key: Vec<u8>,
    /// How agents reach it, once the listener is there.
    url: OnceLock<String>,
}

/// What somebody who shows a token claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Which job's attempt.
    pub(crate) job: JobId,
    /// Which attempt.
    pub(crate) attempt: u32,
    proof: String,
}

impl Archives {
    /// Archives in a coordinator's state folder.
    pub(crate) fn new(state_dir: &Path, identity: &Identity) -> Self {
        Self { folder: state_dir.join("artifacts"), key: identity.to_bytes().to_vec(), url: OnceLock::new() }
    }

    /// Says how agents reach it. The first word stays.
    pub(crate) fn reached_by(&self, url: &str) {
        self.url.get_or_init(|| url.trim_end_matches('/').to_owned());
    }

    /// How agents reach it, once that is known.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.get().map(String::as_str)
    }

    /// What an attempt's grant carries; nothing while nobody could reach it.
    pub(crate) fn for_attempt(&self, job: JobId, attempt: u32, claim: ClaimId) -> Option<Depot> {
        let url = self.url.get()?.clone();
        Some(Depot { url, token: format!("{job}.{attempt}.{}", self.proof(claim)) })
    }

    /// Reads a token; what it says is true when [`Archives::is_of`] says so.
    pub(crate) fn read(token: &str) -> Option<Shown> {
        let mut parts = token.splitn(3, '.');
        let (job, attempt, proof) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Shown { job: job.parse().ok()?, attempt: attempt.parse().ok()?, proof: proof.to_owned() })
    }

    /// Whether the token was made for this claim.
    pub(crate) fn is_of(&self, shown: &Shown, claim: ClaimId) -> bool {
        subtle::ConstantTimeEq::ct_eq(shown.proof.as_bytes(), self.proof(claim).as_bytes()).into()
    }

    /// Where an archive lies. The name must be a SHA-256: nothing else is looked for.
    pub(crate) fn path(&self, build: BuildNumber, sha256: &str) -> Option<PathBuf> {
        let legal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_hash = sha256.len() == 64 && sha256.bytes().all(legal);
        is_hash.then(|| self.folder.join(build.0.to_string()).join(sha256))
    }

    /// Makes the folder of a build's archives.
    ///
    /// # Errors
    /// When the disk does not have it.
    pub(crate) fn make_folder(&self, build: BuildNumber) -> io::Result<PathBuf> {
        let folder = self.folder.join(build.0.to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Removes an archive; one that is gone is no error.
    ///
    /// # Errors
    /// When it stays.
    pub(crate) fn remove(&self, build: BuildNumber, sha256: &str) -> io::Result<()> {
        match self.path(build, sha256).map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes all archives of a build; where there are none that is no error.
    ///
    /// # Errors
    /// When some of them stay.
    pub(crate) fn remove_all(&self, build: BuildNumber) -> io::Result<()> {
        match fs::remove_dir_all(self.folder.join(build.0.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn proof(&self, claim: ClaimId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(PURPOSE);
        mac.update(claim.reveal().as_bytes());
        HEXLOWER.encode(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_it_for_one_claim() {
        let archives = Archives::new(Path::new("/s"), &Identity::generate().unwrap());
        let (job, claim) = (JobId::fresh(), ClaimId::fresh());
        assert_eq!(archives.for_attempt(job, 1, claim), None, "nobody could reach it yet");
        archives.reached_by("http://h:1/");
        let depot = archives.for_attempt(job, 1, claim).unwrap();
        assert_eq!(depot.url, "http://h:1");
        assert_eq!(archives.for_attempt(job, 1, claim).unwrap(), depot, "a repeated grant has the same");
        assert!(!depot.token.contains(&claim.reveal()));
        let shown = Archives::read(&depot.token).unwrap();
        assert_eq!((shown.job, shown.attempt), (job, 1));
        assert!(archives.is_of(&shown, claim));
        assert!(!archives.is_of(&shown, ClaimId::fresh()));
        assert!(!Archives::new(Path::new("/s"), &Identity::generate().unwrap()).is_of(&shown, claim));
        for bad in ["", "x", "a.b.c", "..", &format!("{job}.x.y")] {
            assert_eq!(Archives::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_hashes_are_names() {
        let archives = Archives::new(Path::new("/s"), &Identity::generate().unwrap());
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(archives.path(BuildNumber(7), &hash), Some(PathBuf::from(format!("/s/artifacts/7/{hash}"))));
        for bad in ["", "../../etc/passwd", &hash[1..], &hash.to_uppercase(), &format!("{hash}/")] {
            assert_eq!(archives.path(BuildNumber(7), bad), None, "{bad}");
        }
    }
}
