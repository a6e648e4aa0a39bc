//! What a person sees first: the last results of each branch, what waits for people or for its turn, and the plan of one
//! build.

use protocol::api::BuildRow;
use protocol::{BuildNumber, JobKey, Plan, RepoUrl};

use super::job_views::{Held, held};
use super::views::row_of;
use super::{Store, StoreError, int, json, name};

/// The last builds of one branch of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Strip {
    /// The branch; none of builds whose branch is not known.
    pub(crate) branch: Option<String>,
    /// The builds, the oldest first.
    pub(crate) builds: Vec<BuildRow>,
}

/// The branches of one repository of which something was built of late.
#[derive(Debug, Clone)]
pub(crate) struct RepoStrips {
    /// The repository, as people see its URL.
    pub(crate) repo: String,
    /// Its branches, the one that was built last first.
    pub(crate) strips: Vec<Strip>,
}

/// A job that waits for something else than an agent, with its build.
#[derive(Debug, Clone)]
pub(crate) struct HeldJob {
    /// Its build.
    pub(crate) build: BuildRow,
    /// The job, and what stands before it.
    pub(crate) held: Held,
}

/// How many repositories have strips: those that were built last.
const REPOS: i64 = 30;

/// How many branches of each.
const BRANCHES: usize = 6;

/// How many builds of a repository are looked through for them.
const LOOKED_THROUGH: i64 = 300;

/// How many builds a strip has.
const MARKS: i64 = 15;

/// How many builds are looked at for jobs that wait for people or for their turn.
const HELD_BUILDS: i64 = 100;

/// The repositories, the one that was built last first; each is found from the one before by an index.
pub(super) const NEWEST_REPOS: &str = "
    WITH RECURSIVE repos (repo) AS (
        SELECT min(repo) FROM builds
        UNION ALL SELECT (SELECT min(repo) FROM builds WHERE repo > repos.repo) FROM repos WHERE repos.repo IS NOT NULL
    )
    SELECT repo FROM repos WHERE repo IS NOT NULL
    ORDER BY (SELECT max(number) FROM builds WHERE builds.repo = repos.repo) DESC LIMIT 0 + $1";

/// The last builds of each branch of a repository. Their plans, which may be long, are not read for that.
const LAST_OF_BRANCHES: &str = "
    SELECT * FROM (
        SELECT *, row_number() OVER (PARTITION BY branch ORDER BY number DESC) AS place
        FROM (
            SELECT number, repo, branch, commit_id, subject, trigger, status, ending, created_ms, started_ms, ended_ms
            FROM builds WHERE repo = $1 ORDER BY number DESC LIMIT 0 + $2
        )
    ) WHERE place <= $3 ORDER BY number DESC";

/// The builds of which a job waits for something else than an agent.
const WITH_HELD: &str = "
    SELECT number, repo, branch, commit_id, subject, trigger, status, ending, created_ms, started_ms, ended_ms
    FROM builds WHERE number IN (SELECT build FROM jobs WHERE state <> 'ended' AND state = 'queued' AND unmet > 0)
    ORDER BY number LIMIT 0 + $1";

impl Store {
    /// The last results of each branch of the repositories that were built last.
    pub(crate) async fn strips(&self) -> Result<Vec<RepoStrips>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let repos = sqlx::query(NEWEST_REPOS).bind(REPOS).fetch_all(&mut *tx).await?;
        let mut all: Vec<RepoStrips> = Vec::new();
        for row in &repos {
            // Two that differ in what is hidden of them are one for people.
            let repo: RepoUrl = name(row, "repo")?;
            let rows = sqlx::query(LAST_OF_BRANCHES)
                .bind(repo.reveal())
                .bind(LOOKED_THROUGH)
                .bind(MARKS)
                .fetch_all(&mut *tx)
                .await?;
            let builds = rows.iter().map(row_of).collect::<Result<Vec<_>, StoreError>>()?;
            let shown = repo.to_string();
            match all.iter_mut().find(|known| known.repo == shown) {
                Some(known) => known.add(builds),
                None => {
                    let mut strips = RepoStrips { repo: shown, strips: Vec::new() };
                    strips.add(builds);
                    all.push(strips);
                }
            }
        }
        Ok(all)
    }

    /// The jobs that wait for a person, for their turn, or for others of their build: those of the oldest builds first.
    pub(crate) async fn all_held(&self) -> Result<Vec<HeldJob>, StoreError> {
        let mut tx = self.readers.begin().await?;
        let rows = sqlx::query(WITH_HELD).bind(HELD_BUILDS).fetch_all(&mut *tx).await?;
        let mut all = Vec::new();
        for row in &rows {
            let build = row_of(row)?;
            let jobs = held(&mut tx, build.number).await?;
            all.extend(jobs.into_iter().map(|held| HeldJob { build: build.clone(), held }));
        }
        Ok(all)
    }

    /// What the jobs of a build do, in the order of the plan.
    pub(crate) async fn plans_of(&self, build: BuildNumber) -> Result<Vec<(JobKey, Plan)>, StoreError> {
        let rows = sqlx::query("SELECT key, plan FROM jobs WHERE build = $1 AND plan IS NOT NULL ORDER BY rowid")
            .bind(int(build.0))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((name(row, "key")?, json(row, "plan")?))).collect()
    }
}

impl RepoStrips {
    /// Takes builds in, which come the newest first.
    fn add(&mut self, builds: Vec<BuildRow>) {
        for build in builds {
            let branch = build.branch.as_ref().map(ToString::to_string);
            match self.strips.iter().position(|strip| strip.branch == branch) {
                Some(place) => self.strips[place].builds.insert(0, build),
                None if self.strips.len() < BRANCHES => self.strips.push(Strip { branch, builds: vec![build] }),
                None => {}
            }
        }
    }
}
