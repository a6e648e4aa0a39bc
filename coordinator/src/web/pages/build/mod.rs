//! One build's page: the verdict first, then what failed with the lines that say why, then all the rest.

mod artifacts;
mod failure;
mod first_error;
mod grid;
mod jobs;
mod shown;
mod trigger;
mod verdict;
mod waterfall;

use std::io;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Redirect, Response};
use buildr::process::clock::now_ms;
use protocol::api::{BuildView, Timeline, Why};
use protocol::{BuildNumber, JobKey, Plan};

use super::live::Part;
use super::{Onlooker, answer, sorry};
use crate::store::Archived;
use crate::timeline::timeline;
use crate::web::Web;
use crate::web::api::{Answer, Whole, number, whole};
use crate::web::refusal::Refusal;
use crate::web::shared::Seen;
use crate::why;
pub(super) use artifacts::page as artifact;
use failure::Failure;
use shown::{BuildPage, LogShown};

/// All that the page of a build is made of.
pub(in crate::web) struct Facts {
    view: BuildView,
    why: Why,
    timeline: Timeline,
    plans: Vec<(JobKey, Plan)>,
    failures: Vec<Failure>,
    logs: Vec<LogShown>,
    artifacts: Vec<Archived>,
    /// When it was looked up, in milliseconds since 1970.
    now_ms: u64,
}

impl Facts {
    async fn of(web: &Web, whole: &Whole) -> Answer<Self> {
        let number = whole.view.build.number;
        let (store, now_ms) = (&web.desk.store, now_ms());
        let times = store.times_of(number).await?;
        let times = times.ok_or_else(|| Refusal::not_found(format!("there is no build {number}")))?;
        let unread = |error: io::Error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        Ok(Self {
            why: why::why(&web.desk, whole.view.clone(), whole.waiting.clone()).await?,
            timeline: timeline(&times, now_ms),
            plans: store.plans_of(number).await?,
            failures: failure::failures(web, whole).await.map_err(unread)?,
            logs: shown::logs(web, whole).await?,
            artifacts: store.archives(number).await?,
            view: whole.view.clone(),
            now_ms,
        })
    }
}

pub(super) async fn page(State(web): State<Arc<Web>>, Path(text): Path<String>, onlooker: Onlooker) -> Response {
    match facts(&web, &text).await {
        Ok(facts) => answer(Ok(BuildPage::new(&facts, &onlooker))),
        Err(refusal) => sorry(refusal),
    }
}

async fn facts(web: &Web, text: &str) -> Answer<Facts> {
    let whole = whole(web, number(text)?).await?;
    Facts::of(web, &whole).await
}

/// A stage by its name leads to its place on the page: the one that failed, where several jobs have one of that name.
pub(super) async fn stage(State(web): State<Arc<Web>>, Path((text, stage)): Path<(String, String)>) -> Response {
    match place_of(&web, &text, &stage).await {
        Ok((number, anchor)) => Redirect::to(&format!("/builds/{}#{anchor}", number.0)).into_response(),
        Err(refusal) => sorry(refusal),
    }
}

/// The same of a stage whose name is that of something that can be done with a build.
pub(super) async fn stage_in_path(web: State<Arc<Web>>, Path(text): Path<String>, uri: Uri) -> Response {
    let stage = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    self::stage(web, Path((text, stage))).await
}

async fn place_of(web: &Web, text: &str, stage: &str) -> Answer<(BuildNumber, String)> {
    let number = number(text)?;
    let Whole { view, .. } = whole(web, number).await?;
    let failed = verdict::failed_stages(&view).into_iter().find(|failed| failed.stage.name.as_str() == stage);
    let failed = failed.map(|failed| failed.attempt.attempt);
    let ran = || {
        let has = |attempt: &&protocol::api::AttemptView| attempt.stages.iter().any(|one| one.name.as_str() == stage);
        view.attempts.iter().rev().find(has).map(|attempt| attempt.attempt)
    };
    let attempt = failed.or_else(ran);
    let attempt =
        attempt.ok_or_else(|| Refusal::not_found(format!("build {number} has no stage {stage:?} that ran")))?;
    Ok((number, jobs::anchor(attempt, stage)))
}

/// The parts of the page that change. Looked up once for all who look at the build.
pub(super) async fn parts(web: &Web, seen: &Seen, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    let facts =
        seen.page.get_or_try_init(async || Ok::<_, Refusal>(Arc::new(Facts::of(web, &seen.whole).await?))).await?;
    let page = BuildPage::new(facts, onlooker);
    Ok(vec![
        Part::new("verdict", &page.as_verdict())?,
        Part::new("failures", &page.as_failures())?,
        Part::new("gates", &page.as_gates())?,
        Part::new("story", &page.as_story())?,
        Part::new("rail", &page.as_rail())?,
        Part::keyed("logs", &page.as_logs(), &shown::heads(&facts.logs))?,
        Part::new("facts", &page.as_facts())?,
    ])
}
