//! `/api/v1/depot/<sha256>`: archives of artifacts, for those who hold a claim. Bytes go from the line to the disk and
//! back a piece at a time, and are kept only when they are what their name says.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use protocol::BuildNumber;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Web;
use super::api::Answer;
use super::refusal::Refusal;
use crate::depot::Archives;
use crate::store::AttemptState;

/// How much is read at once, in bytes.
const PIECE: usize = 128 << 10;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new().route("/{sha256}", get(fetch).head(look).put(bring)).layer(DefaultBodyLimit::disable())
}

/// The build whose archives somebody may have: the one of the claim that the token was made for, while it is current.
async fn admitted(web: &Web, headers: &HeaderMap) -> Answer<BuildNumber> {
    let refused = || {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            "only an agent that holds a job has its artifacts; the token that came with the grant is no longer, or never was, one of a current claim",
        )
    };
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
    let shown = Archives::read(token).ok_or_else(refused)?;
    let attempt = web.desk.store.attempt_of(shown.job, shown.attempt).await?.ok_or_else(refused)?;
    let current = attempt.state == AttemptState::Running && web.desk.archives.is_of(&shown, attempt.claim);
    if !current {
        return Err(refused());
    }
    web.desk.store.build_of(shown.job).await?.ok_or_else(refused)
}

/// How long an archive is that somebody wants to bring.
#[derive(Deserialize)]
struct Size {
    bytes: Option<u64>,
}

/// Of the build itself alone: what is not there is brought. One that is too long is refused here already, for who is
/// refused while he sends may hear no more than that the line broke.
async fn look(
    State(web): State<Arc<Web>>,
    Path(sha256): Path<String>,
    Query(size): Query<Size>,
    headers: HeaderMap,
) -> Answer<Response> {
    let build = admitted(&web, &headers).await?;
    let (_, length) = match open(&web, build, &sha256).await {
        Err(_) if size.bytes.is_some_and(|bytes| bytes > web.desk.config.artifact_limit) => {
            return Err(too_long(web.desk.config.artifact_limit));
        }
        opened => opened?,
    };
    Ok(([(CONTENT_LENGTH, length)], Body::empty()).into_response())
}

async fn fetch(State(web): State<Arc<Web>>, Path(sha256): Path<String>, headers: HeaderMap) -> Answer<Response> {
    let build = admitted(&web, &headers).await?;
    // What passed in an older build, and is not done again, left its archives there.
    let place = web.desk.store.carries_archive(build, &sha256).await?.unwrap_or(build);
    let (file, length) = match open(&web, build, &sha256).await {
        Err(_) if place != build => open(&web, place, &sha256).await?,
        opened => opened?,
    };
    Ok(([(CONTENT_LENGTH, length)], content(file)).into_response())
}

/// A file as an answer's body.
pub(super) fn content(file: File) -> Body {
    Body::from_stream(futures_util::stream::try_unfold(file, async |mut file| {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        io::Result::Ok((read > 0).then_some((piece, file)))
    }))
}

/// An archive of a build, and its length.
pub(super) async fn open(web: &Web, build: BuildNumber, sha256: &str) -> Answer<(File, u64)> {
    let missing = || Refusal::not_found("there is no such archive in this build, or it has expired");
    let path = web.desk.archives.path(build, sha256).ok_or_else(missing)?;
    let file = File::open(path).await.map_err(|_| missing())?;
    let length = file.metadata().await.map_err(|error| broken(&error))?.len();
    Ok((file, length))
}

async fn bring(
    State(web): State<Arc<Web>>,
    Path(sha256): Path<String>,
    Query(size): Query<Size>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let build = admitted(&web, &headers).await?;
    let archives = &web.desk.archives;
    let named = || Refusal::bad_request("an archive is named by the SHA-256 of its bytes, in lower-case hexadecimal");
    let path = archives.path(build, &sha256).ok_or_else(named)?;
    if fs::try_exists(&path).await.unwrap_or(false) {
        return Ok(StatusCode::OK);
    }
    let most = web.desk.config.artifact_limit;
    if size.bytes.is_some_and(|bytes| bytes > most) {
        return Err(too_long(most));
    }
    let folder = archives.make_folder(build).map_err(|error| broken(&error))?;
    let aside = folder.join(format!(".{}", uuid::Uuid::new_v4().simple()));
    let written = write(body, &aside, most).await;
    let done = match written {
        Ok(found) if found == sha256 => fs::rename(&aside, &path).await.map_err(|error| broken(&error)),
        Ok(_) => Err(Refusal::bad_request("the bytes are not what their name says; send them again")),
        Err(refusal) => Err(refusal),
    };
    if done.is_err() {
        fs::remove_file(&aside).await.ok();
    }
    done.map(|()| StatusCode::CREATED)
}

/// Writes a body to a new file, and gives its SHA-256.
async fn write(body: Body, into: &std::path::Path, most: u64) -> Answer<String> {
    let mut file = File::create_new(into).await.map_err(|error| broken(&error))?;
    let (mut digest, mut length) = (Sha256::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refusal::bad_request("the archive did not arrive whole; send it again"))?;
        length += piece.len() as u64;
        if length > most {
            return Err(too_long(most));
        }
        digest.update(&piece);
        file.write_all(&piece).await.map_err(|error| broken(&error))?;
    }
    file.sync_data().await.map_err(|error| broken(&error))?;
    Ok(HEXLOWER.encode(&digest.finalize()))
}

fn too_long(most: u64) -> Refusal {
    let sentence = format!(
        "an archive of artifacts is at most {} MiB on this farm; keep less, or have its owner raise --artifact-limit",
        most >> 20
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
}

fn broken(error: &io::Error) -> Refusal {
    tracing::error!(%error, "an archive of artifacts could not be kept or given");
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full {
        let sentence = "the coordinator's disk is full; make room there";
        return Refusal::new(StatusCode::INSUFFICIENT_STORAGE, sentence);
    }
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the archive cannot be used: {error}"))
}
