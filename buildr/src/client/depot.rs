//! The farm's depot: archives of artifacts on their way between the jobs of a build, under their SHA-256.
//!
//! What opens it is not the farm's token but a claim's own, which came with the grant and holds as long as the claim.

use std::path::Path;
use std::time::Duration;

use protocol::job::Depot;
use reqwest::{Body, Method, StatusCode};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;
use url::Url;

use super::{ANSWER_TIME, ClientError, Farm};

/// The slowest line that an archive is sent over, in bytes a second: below it something is broken.
const SLOWEST: u64 = 64 << 10;

/// A depot that can be asked for archives.
#[derive(Debug, Clone)]
pub struct DepotClient(Farm);

impl DepotClient {
    /// The depot that a grant names; nothing is asked yet.
    ///
    /// # Errors
    /// When its address is none.
    pub fn new(depot: &Depot) -> Result<Self, ClientError> {
        let bad = || ClientError::Address { server: depot.url.clone(), reason: "it is no URL" };
        let server: Url = depot.url.parse().map_err(|_| bad())?;
        Farm::new(server, Some(depot.token.clone())).map(Self)
    }

    /// Brings an archive; one that is there already is not sent again.
    ///
    /// # Errors
    /// When the depot is away, or refuses it.
    pub async fn put(&self, archive: &Path, sha256: &str) -> Result<(), ClientError> {
        let file = File::open(archive).await.map_err(|error| self.local(archive, &error))?;
        let length = file.metadata().await.map_err(|error| self.local(archive, &error))?.len();
        let size = [("bytes", length.to_string())];
        let head = self.0.send(self.0.request(Method::HEAD, &["depot", sha256], &size)).await;
        let request = self.0.request(Method::PUT, &["depot", sha256], &size);
        let request = match head {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {
                request.header("content-length", length).body(Body::wrap_stream(ReaderStream::new(file)))
            }
            // Without its bytes: what stands in the way is said in the answer, which has none to a HEAD.
            Err(error) if error.is_too_large() => request,
            Err(error) => return Err(error),
        };
        let limit = ANSWER_TIME + Duration::from_secs(length / SLOWEST);
        let answer = tokio::time::timeout(limit, request.send()).await.map_err(|_| self.0.silent())?;
        let response = answer.map_err(|error| ClientError::of(&self.0.server, &error))?;
        self.0.good(response).await.map(|_| ())
    }

    /// Fetches an archive into a new file; `false` when it is not there.
    ///
    /// # Errors
    /// When the depot is away. Whether the bytes are right is for the caller to see.
    pub async fn get(&self, sha256: &str, into: &Path) -> Result<bool, ClientError> {
        let mut response = match self.0.send(self.0.request(Method::GET, &["depot", sha256], &[])).await {
            Ok(response) => response,
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut file = File::create(into).await.map_err(|error| self.local(into, &error))?;
        while let Some(part) = self.0.part(&mut response).await? {
            file.write_all(&part).await.map_err(|error| self.local(into, &error))?;
        }
        file.flush().await.map_err(|error| self.local(into, &error))?;
        Ok(true)
    }

    fn local(&self, path: &Path, error: &std::io::Error) -> ClientError {
        ClientError::Local { path: path.to_owned(), reason: error.to_string() }
    }
}

/// Whether the depot answered, and has no such archive.
fn is_missing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } => *status == StatusCode::NOT_FOUND,
        // To HEAD there is no sentence.
        ClientError::Foreign { status, .. } => *status == Some(StatusCode::NOT_FOUND),
        _ => false,
    }
}
