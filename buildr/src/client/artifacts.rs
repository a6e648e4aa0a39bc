//! What builds left: lists of archives, and their bytes.

use std::path::Path;

use protocol::BuildNumber;
use protocol::api::ArtifactView;
use reqwest::Method;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::{ClientError, Farm};

impl Farm {
    /// The archives of a build, in the order of its plan.
    ///
    /// # Errors
    /// As [`Farm::submit`].
    pub async fn artifacts(&self, number: BuildNumber) -> Result<Vec<ArtifactView>, ClientError> {
        self.get(&["builds", &number.0.to_string(), "artifacts"], &[]).await
    }

    /// Fetches an archive into a new file. Whether the bytes are right is for the caller to see.
    ///
    /// # Errors
    /// As [`Farm::submit`], and when the file cannot be written.
    pub async fn artifact(&self, number: BuildNumber, sha256: &str, into: &Path) -> Result<(), ClientError> {
        let local = |error: std::io::Error| ClientError::Local { path: into.to_owned(), reason: error.to_string() };
        let path = ["builds", &number.0.to_string(), "artifacts", sha256];
        let mut response = self.send(self.request(Method::GET, &path, &[])).await?;
        let mut file = File::create_new(into).await.map_err(local)?;
        while let Some(part) = self.part(&mut response).await? {
            file.write_all(&part).await.map_err(local)?;
        }
        file.flush().await.map_err(local)
    }
}
