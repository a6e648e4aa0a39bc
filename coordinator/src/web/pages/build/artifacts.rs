//! What a build left: its archives, as rows on its page, and the page of one with what is in it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use buildr::process::clock::now_ms;
use protocol::api::{ArtifactFile, ArtifactFiles, ArtifactView, BuildView};

use super::Facts;
use super::verdict::title;
use crate::web::Web;
use crate::web::api::{Answer, number, whole};
use crate::web::artifacts::{archive, contents};
use crate::web::pages::said::{When, count, size};
use crate::web::pages::{Frame, Here, Onlooker, answer};

/// An archive, as a row of a table.
pub(super) struct ArtifactShown {
    pub(super) stage: String,
    pub(super) files: u64,
    pub(super) size: String,
    pub(super) sha256: String,
    /// The older build that made it.
    pub(super) carried_from: Option<u64>,
    /// When its time is over.
    pub(super) expires: Option<When>,
    pub(super) expired: bool,
}

/// The page of an archive.
#[derive(Template)]
#[template(path = "artifact.html")]
struct ArtifactPage {
    frame: Frame,
    build: u64,
    one: ArtifactShown,
    /// How many files there are.
    count: String,
    /// Where its bytes are.
    download: String,
    files: Vec<FileShown>,
    /// Whether there are more than those.
    more: bool,
    /// Why they cannot be shown.
    unread: Option<String>,
    /// The command that unpacks it.
    command: String,
}

/// A file in an archive.
struct FileShown {
    path: String,
    size: String,
    link: Option<String>,
}

/// The archives of a build, as its page lists them.
pub(super) fn artifacts(Facts { view, artifacts, now_ms, .. }: &Facts) -> Vec<ArtifactShown> {
    artifacts.iter().map(|one| shown(view, &one.view, *now_ms)).collect()
}

fn shown(build: &BuildView, one: &ArtifactView, now_ms: u64) -> ArtifactShown {
    ArtifactShown {
        stage: title(build, one.job.as_str(), one.stage.as_str()),
        files: one.files,
        size: size(one.bytes),
        sha256: one.sha256.clone(),
        carried_from: one.carried_from.map(|build| build.0),
        expires: one.expires_ms.map(|at| When::new(at, now_ms)),
        expired: one.expired,
    }
}

pub(in crate::web::pages) async fn page(
    State(web): State<Arc<Web>>,
    Path((text, sha256)): Path<(String, String)>,
    onlooker: Onlooker,
) -> Response {
    answer(artifact(&web, (&text, &sha256), &onlooker).await)
}

async fn artifact(web: &Web, (text, sha256): (&str, &str), onlooker: &Onlooker) -> Answer<ArtifactPage> {
    let number = number(text)?;
    let build = whole(web, number).await?.view;
    let archived = archive(web, number, sha256).await?;
    let (found, unread) = match contents(web, &archived).await {
        Ok(found) => (found, None),
        Err(refusal) => (ArtifactFiles::default(), Some(refusal.sentence)),
    };
    let view = &archived.view;
    let one = shown(&build, view, now_ms());
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.=/".contains(c));
    let word = |text: &str| if plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) };
    Ok(ArtifactPage {
        frame: Frame::new(format!("Artifacts of {}, #{}", one.stage, number.0), Here::Elsewhere).named(onlooker),
        build: number.0,
        count: count(one.files, "file", "files"),
        download: format!("/api/v1/builds/{}/artifacts/{}", number.0, view.sha256),
        files: found.files.into_iter().map(file_shown).collect(),
        more: found.more,
        unread,
        command: format!("buildr artifacts {} --job {} --out artifacts", number.0, word(view.job.as_str())),
        one,
    })
}

fn file_shown(ArtifactFile { path, bytes, link }: ArtifactFile) -> FileShown {
    let size = if link.is_some() { String::new() } else { size(bytes) };
    FileShown { path, size, link }
}
