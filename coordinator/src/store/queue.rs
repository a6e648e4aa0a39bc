//! Who stands where in the queue, and who works: what is needed to say when a job's turn comes.

use protocol::api::Loss;
use protocol::{AgentId, BuildNumber, JobKey, LabelSet};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::history::Work;
use super::{Store, StoreError, json, json_or_none, name, name_or_none, natural, small};

/// A job that waits for an agent.
#[derive(Debug, Clone)]
pub(crate) struct InLine {
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// What its agent must have.
    pub(crate) labels: LabelSet,
    /// What is to be done, for its history.
    pub(crate) work: Work,
    /// How many attempts at it came to nothing.
    pub(crate) lost: u32,
    /// With which agent the last of them was.
    pub(crate) lost_with: Option<AgentId>,
    /// How, where that is written down.
    pub(crate) loss: Option<Loss>,
    /// Before when it is not offered, in milliseconds since 1970; 0 when it is at any time.
    pub(crate) not_before_ms: u64,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// When the broker confirmed it last; none while it is not on offer.
    pub(crate) offered_ms: Option<u64>,
}

/// A job that an agent works on.
#[derive(Debug, Clone)]
pub(crate) struct InWork {
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// Who works on it.
    pub(crate) agent: AgentId,
    /// What is done, for its history.
    pub(crate) work: Work,
    /// When the agent began, in milliseconds since 1970.
    pub(crate) started_ms: u64,
    /// The stages that it is in; none while the code is fetched, and between stages.
    pub(crate) stages: Option<String>,
}

/// How far down the queue it is looked: who stands behind is told that there is no telling.
const LOOKED_AT: i64 = 5_000;

impl Store {
    /// The jobs that could run now if an agent had a slot for them, in the order in which they come to their turn:
    /// those on offer as the broker has them, then the others as the dispatcher will offer them.
    pub(crate) async fn in_line(&self) -> Result<Vec<InLine>, StoreError> {
        let rows = sqlx::query(
            "WITH turns AS (
                 SELECT j.id, j.build, j.key, j.labels, j.state, j.attempts, j.created_ms, j.offered_ms, j.not_before_ms,
                        b.repo, b.branch,
                        row_number() OVER (
                            PARTITION BY b.repo ORDER BY j.state = 'queued', j.offered_ms IS NULL, b.priority DESC, j.id
                        ) AS turn
                 FROM jobs j JOIN builds b ON b.number = j.build
                 WHERE j.state <> 'ended' AND j.unmet = 0
             )
             SELECT turns.*, a.agent AS lost_with, a.loss
             FROM turns LEFT JOIN attempts a ON turns.attempts > 0 AND a.rowid =
                  (SELECT max(rowid) FROM attempts WHERE job = turns.id AND state IN ('lost', 'errored'))
             WHERE turns.state = 'queued' ORDER BY offered_ms IS NULL, offered_ms, turn, turns.id LIMIT 0 + $1",

        )
        .bind(LOOKED_AT)
        .fetch_all(&self.readers)
        .await?;
        let in_line = |row: &SqliteRow| {
            Ok(InLine {
                build: BuildNumber(natural(row.try_get("build")?)),
                labels: json(row, "labels")?,
                work: work_of(row)?,
                lost: small(row.try_get("attempts")?),
                lost_with: name_or_none(row, "lost_with")?,
                loss: json_or_none(row, "loss")?,
                not_before_ms: natural(row.try_get("not_before_ms")?),
                created_ms: natural(row.try_get("created_ms")?),
                offered_ms: row.try_get::<Option<i64>, _>("offered_ms")?.map(natural),
            })
        };
        rows.iter().map(in_line).collect()
    }

    /// The jobs that agents work on.
    pub(crate) async fn in_work(&self) -> Result<Vec<InWork>, StoreError> {
        let rows = sqlx::query(
            "SELECT j.build, j.key, j.agent, b.repo, b.branch, a.started_ms,
                    (SELECT group_concat(s.name, ', ') FROM stages s WHERE s.claim = j.claim AND s.result IS NULL) AS stages
             FROM jobs j JOIN builds b ON b.number = j.build JOIN attempts a ON a.claim = j.claim
             WHERE j.state <> 'ended' AND j.state = 'running' ORDER BY a.rowid",
        )
        .fetch_all(&self.readers)
        .await?;
        let in_work = |row: &SqliteRow| {
            Ok(InWork {
                build: BuildNumber(natural(row.try_get("build")?)),
                agent: name(row, "agent")?,
                work: work_of(row)?,
                started_ms: natural(row.try_get("started_ms")?),
                stages: row.try_get("stages")?,
            })
        };
        rows.iter().map(in_work).collect()
    }
}

fn work_of(row: &SqliteRow) -> Result<Work, StoreError> {
    let key: JobKey = name(row, "key")?;
    Ok(Work { repo: row.try_get("repo")?, branch: name_or_none(row, "branch")?, key })
}
