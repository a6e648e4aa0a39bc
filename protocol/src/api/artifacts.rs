//! What a build left: the archives of its stages, and what is in one.

use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{BuildNumber, JobKey, StageName};
use crate::plan::Kept;

/// One archive: `GET /api/v1/builds/N/artifacts` gives a list, in the order of the plan. Its bytes, a tar compressed with
/// zstd: `GET /api/v1/builds/N/artifacts/SHA256`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Of which job.
    pub job: JobKey,
    /// Of which stage of it.
    pub stage: StageName,
    /// How many files are in it.
    pub files: u64,
    /// How long it is.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
    /// The older build in which the job passed that is not done again in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<BuildNumber>,
    /// When its time is over, in milliseconds since 1970; without it it is kept as long as its build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    /// Whether its time is over: its bytes are gone.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub expired: bool,
}

impl ArtifactView {
    /// The same as jobs hand it on.
    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            job: self.job.clone(),
            stage: self.stage.clone(),
            files: self.files,
            bytes: self.bytes,
            sha256: self.sha256.clone(),
            after: None,
        }
    }
}

/// `GET /api/v1/builds/N/artifacts/SHA256/files`: what is in an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactFiles {
    /// Its files, in the order in which they lie there.
    pub files: Vec<ArtifactFile>,
    /// Whether there are more: of a long archive only the beginning is looked at.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub more: bool,
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactFile {
    /// Where it lay in the workspace, as the build named it: to be read, never to be followed.
    pub path: String,
    /// How long it is.
    pub bytes: u64,
    /// What it points to, of a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}
