//! The API's part about what is found in one log.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use protocol::LogName;
use protocol::api::{LogHit, LogHits};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, asked};
use super::logs::{Which, one, unreadable};
use super::refusal::Refusal;
use crate::log_view::{self, Asked, Wanted};

/// How many hits are given when nothing is said, and at most.
const HITS: usize = 100;
const HITS_MOST: usize = 1000;

/// How many searches go on at once: each takes a processor for up to some seconds.
const SEARCHES: usize = 2;

/// Room for searches.
pub(super) struct Searches(Arc<Semaphore>);

impl Default for Searches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SEARCHES)))
    }
}

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default().routes(routes!(find))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FindQuery {
    /// Of this attempt; of the last one that has it without.
    #[param(maximum = 4294967295_u32)]
    attempt: Option<u32>,
    /// Of the job with this key.
    job: Option<String>,
    /// What is looked for.
    #[param(required, min_length = 1, max_length = 999)]
    q: Option<String>,
    /// Whether that is a regular expression.
    regex: Option<bool>,
    /// Whether capitals count.
    case: Option<bool>,
    /// From the line with this number on: `next` of the answer before.
    #[param(maximum = 18446744073709551615_u64)]
    from: Option<u64>,
    /// How many hits, 100 when nothing is said, and 1000 at most.
    #[param(maximum = 18446744073709551615_u64)]
    limit: Option<usize>,
}

/// The lines of a log in which something is found.
#[utoipa::path(
    get,
    path = "/builds/{number}/logs/{log}/search",
    operation_id = "search_log",
    params(("number" = u64, Path, description = "The build's number."), ("log" = LogName, Path, description = "The log's name, as the build has it."), FindQuery),
    responses((status = 200, description = "In order, and from which line to go on.", body = LogHits), (status = 404), (status = 410))
)]
async fn find(
    State(web): State<Arc<Web>>,
    Path(path): Path<(String, String)>,
    query: Result<Query<FindQuery>, QueryRejection>,
) -> Answer<Json<LogHits>> {
    let FindQuery { attempt, job, q, regex, case, from, limit } = asked(query)?;
    let how = Asked { regex: regex.unwrap_or(false), case: case.unwrap_or(false) };
    let wanted = Wanted::new(&q.unwrap_or_default(), how).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let log = one(&web, &path, &Which { attempt, job }).await?;
    let (files, place) = (web.desk.store.log_files().clone(), &log.mark.place);
    let ground = web.indexes.ground(&files, place, log.mark.bytes, from.unwrap_or(1)).await;
    let (_, ground) = ground.map_err(unreadable)?;
    let most = limit.unwrap_or(HITS).clamp(1, HITS_MOST);
    // It is never closed.
    let room = web.searches.0.clone().acquire_owned().await.ok();
    let gone = CancellationToken::new();
    // Who does not wait any more drops this.
    let _waits = gone.clone().drop_guard();
    let searching = move || {
        let _room = room;
        log_view::search(&files, &ground, &wanted, most, &|| gone.is_cancelled())
    };
    let found = tokio::task::spawn_blocking(searching).await.map_err(unreadable)?.map_err(unreadable)?;
    let hit = |hit: log_view::Hit| LogHit { line: hit.line, before: hit.before, found: hit.found, after: hit.after };
    Ok(Json(LogHits { hits: found.hits.into_iter().map(hit).collect(), next: found.next }))
}
