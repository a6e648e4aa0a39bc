//! `/api/v1/builds/N/artifacts`: what a build left, for whoever may look at it. Agents bring and fetch the same archives
//! at `depot`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use buildr::carry;
use protocol::BuildNumber;
use protocol::api::{ArtifactFiles, ArtifactView};
use tokio::sync::Semaphore;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, no_such_build, number};
use super::depot;
use super::pages::said::short_repo;
use super::refusal::Refusal;
use crate::store::Archived;

/// How many archives are looked into at once: each takes a processor for up to a second.
const LOOKS: usize = 2;

/// The longest name that a file is saved by, in bytes, before its ending.
const LONGEST_NAME: usize = 120;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(download)).routes(routes!(files))
}

/// Room for looking into archives.
pub(super) struct Looks(Semaphore);

impl Default for Looks {
    fn default() -> Self {
        Self(Semaphore::new(LOOKS))
    }
}

/// The archives that a build left, in the order of its plan.
#[utoipa::path(
    get,
    path = "/builds/{number}/artifacts",
    operation_id = "list_artifacts",
    params(("number" = u64, Path, description = "The build's number.")),
    responses((status = 200, description = "All of them, those too whose time is over.", body = Vec<ArtifactView>), (status = 404))
)]
async fn list(State(web): State<Arc<Web>>, Path(text): Path<String>) -> Answer<Json<Vec<ArtifactView>>> {
    let number = number(&text)?;
    let archives = web.desk.store.archives(number).await?;
    if archives.is_empty() && web.desk.store.times_of(number).await?.is_none() {
        return Err(no_such_build(number));
    }
    Ok(Json(archives.into_iter().map(|one| one.view).collect()))
}

/// An archive: a tar compressed with zstd.
#[utoipa::path(
    get,
    path = "/builds/{number}/artifacts/{sha256}",
    operation_id = "download_artifacts",
    params(("number" = u64, Path, description = "The build's number."), ("sha256" = String, Path, description = "The archive, by the SHA-256 of its bytes.")),
    responses((status = 200, description = "Its bytes.", content_type = "application/zstd", body = String), (status = 404), (status = 410))
)]
async fn download(State(web): State<Arc<Web>>, Path((text, sha256)): Path<(String, String)>) -> Answer<Response> {
    let number = number(&text)?;
    let Archived { view, place } = archive(&web, number, &sha256).await?;
    let (file, length) = depot::open(&web, place, &sha256).await?;
    let repo = web.desk.store.times_of(number).await?.map(|times| times.build.repo).unwrap_or_default();
    let name = format!("attachment; filename=\"{}\"", file_name(&repo, number, &view));
    let head = [
        (header::CONTENT_TYPE, "application/zstd".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((head, depot::content(file)).into_response())
}

/// What is in an archive; of a long one its beginning.
#[utoipa::path(
    get,
    path = "/builds/{number}/artifacts/{sha256}/files",
    operation_id = "list_artifact_files",
    params(("number" = u64, Path, description = "The build's number."), ("sha256" = String, Path, description = "The archive, by the SHA-256 of its bytes.")),
    responses((status = 200, description = "Its files.", body = ArtifactFiles), (status = 404), (status = 410), (status = 422))
)]
async fn files(
    State(web): State<Arc<Web>>,
    Path((text, sha256)): Path<(String, String)>,
) -> Answer<Json<ArtifactFiles>> {
    let archived = archive(&web, number(&text)?, &sha256).await?;
    Ok(Json(contents(&web, &archived).await?))
}

/// An archive of a build whose time is not over.
pub(super) async fn archive(web: &Web, number: BuildNumber, sha256: &str) -> Answer<Archived> {
    let mut archives = web.desk.store.archives(number).await?;
    archives.retain(|one| one.view.sha256 == sha256);
    // Two stages may have left the same; it is there as long as one of them keeps it.
    archives.sort_by_key(|one| one.view.expired);
    match archives.into_iter().next() {
        Some(one) if one.view.expired => {
            let sentence = format!("the artifacts of {} are not kept any more; do the build again", one.view.stage);
            Err(Refusal::new(StatusCode::GONE, sentence))
        }
        Some(one) => Ok(one),
        None => Err(Refusal::not_found(format!(
            "build {number} has no such archive; `buildr artifacts {number}` lists them"
        ))),
    }
}

/// What is in an archive.
pub(super) async fn contents(web: &Web, Archived { view, place }: &Archived) -> Answer<ArtifactFiles> {
    let missing = || Refusal::not_found("the archive is not there any more");
    let path = web.desk.archives.path(*place, &view.sha256).ok_or_else(missing)?;
    if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
        return Err(missing());
    }
    // It is never closed.
    let _room = web.looks.0.acquire().await.ok();
    let looked = tokio::task::spawn_blocking(move || carry::contents(&path)).await;
    match looked {
        Ok(Ok(files)) => Ok(files),
        Ok(Err(error)) => {
            tracing::warn!(%error, "an archive of build {place} cannot be looked into");
            let sentence = "this archive cannot be looked into; it can still be downloaded";
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, sentence))
        }
        Err(error) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// What an archive is saved as: `widget-12-unit.tar.zst`. Nothing in it leads anywhere, whatever the names are.
fn file_name(repo: &str, number: BuildNumber, view: &ArtifactView) -> String {
    let repo = short_repo(repo);
    let repo = repo.rsplit('/').next().unwrap_or_default();
    let (job, stage) = (view.job.as_str(), view.stage.as_str());
    // A cell of a matrix is mostly called as its only stage is.
    let what = if job.starts_with(stage) { job.to_owned() } else { format!("{job}-{stage}") };
    let mut name = String::new();
    for c in format!("{repo}-{}-{what}", number.0).chars() {
        match c {
            c if c.is_ascii_alphanumeric() || "._".contains(c) => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.truncate(LONGEST_NAME);
    format!("{}.tar.zst", name.trim_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_by(job: &str, stage: &str) -> ArtifactView {
        ArtifactView {
            job: job.parse().unwrap(),
            stage: stage.parse().unwrap(),
            files: 1,
            bytes: 1,
            sha256: String::new(),
            carried_from: None,
            expires_ms: None,
            expired: false,
        }
    }

    #[test]
    fn names_of_downloads() {
        for (repo, job, stage, expect) in [
            ("https://example.org/acme/widget.git", "build", "build", "widget-12-build.tar.zst"),
            ("https://example.org/acme/widget", "build", "package", "widget-12-build-package.tar.zst"),
            ("x", "unit (os=debian, rust=1.90)", "unit", "x-12-unit-os-debian-rust-1.90.tar.zst"),
            ("/srv/…", "\"; filename=../../x", "s", "12-filename-..-..-x-s.tar.zst"),
            ("", "a\u{202e}b", "s", "12-a-b-s.tar.zst"),
        ] {
            assert_eq!(file_name(repo, BuildNumber(12), &left_by(job, stage)), expect);
        }
        let view = left_by(&"j".repeat(200), "s");
        assert!(file_name("x", BuildNumber(1), &view).len() <= LONGEST_NAME + 8);
    }
}
