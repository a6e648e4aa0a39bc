//! What the farm does as a whole: looked up once for all that look at it within a moment.

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::JobKey;
use protocol::api::{IncidentView, WaitReason};
use tokio::time::Instant;

use super::said::{Since, When, short_repo};
use crate::intake::planning_key;
use crate::store::{HeldJob, RepoStrips};
use crate::web::Web;
use crate::web::api::Answer;
use crate::why::{AtWork, InQueue, at_work};

/// For how long what was found is believed, in times of what it took to find: so that whoever looks, however often,
/// takes no more than a tenth of the time.
const BELIEVED: u32 = 10;

/// For how long an incident is news.
const NEWS_MS: u64 = 24 * 60 * 60 * 1000;

/// The farm at a moment.
pub(super) struct Board {
    /// When, in milliseconds since 1970.
    pub(super) now_ms: u64,
    /// The last results of each branch.
    pub(super) repos: Vec<RepoStrips>,
    /// What agents work on.
    pub(super) runs: Vec<Running>,
    /// What waits for an agent, in order.
    pub(super) queue: Vec<Waiting>,
    /// How many jobs wait for an agent in all.
    pub(super) queued: usize,
    /// What waits for a person.
    pub(super) asks: Vec<Waiting>,
    /// What waits for its turn beside others.
    pub(super) turns: Vec<Waiting>,
    /// How many jobs wait for others of their own build.
    pub(super) behind: usize,
    /// How many incidents there were of late, and the newest.
    pub(super) incidents: (u64, Option<IncidentView>),
}

/// A job that an agent works on.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) build: u64,
    pub(super) repo: String,
    pub(super) branch: String,
    pub(super) job: String,
    pub(super) stages: Option<String>,
    pub(super) agent: String,
    pub(super) since: Since,
    pub(super) end: Option<String>,
}

/// A job that waits.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) build: u64,
    pub(super) repo: String,
    pub(super) branch: String,
    pub(super) job: String,
    pub(super) labels: String,
    pub(super) since: Since,
    pub(super) sentence: String,
}

/// The farm as it was looked at last.
#[derive(Default)]
pub(in crate::web) struct Boards {
    found: tokio::sync::Mutex<Option<(Instant, Duration, Arc<Board>)>>,
}

impl Boards {
    /// The farm now, or as it was a moment ago.
    pub(super) async fn look(&self, web: &Web) -> Answer<Arc<Board>> {
        // One looks; who waits for that takes what was found.
        let mut found = self.found.lock().await;
        if let Some((at, took, board)) = &*found
            && at.elapsed() < *took * BELIEVED
        {
            return Ok(board.clone());
        }
        let began = Instant::now();
        let board = Arc::new(look(web).await?);
        *found = Some((Instant::now(), began.elapsed(), board.clone()));
        Ok(board)
    }
}

async fn look(web: &Web) -> Answer<Board> {
    let (desk, now_ms) = (&web.desk, now_ms());
    let waits = web.waits.look(desk).await?;
    let (queue, queued) = waits.queue();
    let mut board = Board {
        now_ms,
        repos: desk.store.strips().await?,
        runs: at_work(desk).await?.into_iter().map(|work| running(work, now_ms)).collect(),
        queue: queue.iter().map(|job| in_queue(job, now_ms)).collect(),
        queued,
        asks: Vec::new(),
        turns: Vec::new(),
        behind: 0,
        // That they cannot be read keeps nobody from the builds.
        incidents: desk.store.incidents_since(now_ms.saturating_sub(NEWS_MS)).await.unwrap_or_default(),
    };
    for job in desk.store.all_held().await? {
        match job.held.why {
            WaitReason::Approval(_) => board.asks.push(held(&job, now_ms)),
            WaitReason::Needs { .. } => board.behind += 1,
            _ => board.turns.push(held(&job, now_ms)),
        }
    }
    Ok(board)
}

fn running(AtWork { work, forecast }: AtWork, now_ms: u64) -> Running {
    Running {
        build: work.build.0,
        repo: short_repo(&work.work.shown_repo()),
        branch: work.work.branch.as_ref().map(ToString::to_string).unwrap_or_default(),
        job: job_name(&work.work.key),
        stages: work.stages,
        agent: work.agent.to_string(),
        since: Since::new(work.started_ms, now_ms),
        end: forecast.in_words(),
    }
}

/// What people call a job: the one that plans its build has no name in a manifest.
fn job_name(key: &JobKey) -> String {
    if *key == planning_key() { "to be planned".to_owned() } else { key.to_string() }
}

fn in_queue(job: &InQueue, now_ms: u64) -> Waiting {
    Waiting {
        build: job.build.0,
        repo: short_repo(&job.repo),
        branch: job.branch.as_ref().map(ToString::to_string).unwrap_or_default(),
        job: job_name(&job.waiting.job),
        labels: job.labels.to_string(),
        since: Since::new(now_ms.saturating_sub(job.waiting.for_ms), now_ms),
        sentence: job.waiting.sentence.clone(),
    }
}

fn held(HeldJob { build, held }: &HeldJob, now_ms: u64) -> Waiting {
    Waiting {
        build: build.number.0,
        repo: short_repo(&build.repo),
        branch: build.branch.as_ref().map(ToString::to_string).unwrap_or_default(),
        job: held.key.to_string(),
        labels: String::new(),
        since: Since::new(held.created_ms, now_ms),
        sentence: held.why.to_string(),
    }
}

impl Board {
    /// One line about what was not as it should be of late.
    pub(super) fn news(&self) -> Option<News> {
        let (count, newest) = &self.incidents;
        let newest = newest.as_ref()?;
        Some(News {
            count: super::said::count(*count, "incident", "incidents"),
            about: newest.about.clone(),
            sentence: newest.sentence.clone(),
            when: When::new(newest.last_ms, self.now_ms),
        })
    }
}

/// What was not as it should be.
pub(super) struct News {
    pub(super) count: String,
    pub(super) about: String,
    pub(super) sentence: String,
    pub(super) when: When,
}
