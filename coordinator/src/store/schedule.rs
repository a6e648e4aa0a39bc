//! Which jobs wait, which of them are on their queues, and which come next.

use std::collections::BTreeSet;

use protocol::{Branch, BuildNumber, JobId, LabelSet, RepoUrl};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, Transaction, int, json, name, name_or_none, natural, to_json};

/// A job that can be put on its queue.
#[derive(Debug, Clone)]
pub(crate) struct Offerable {
    /// Which.
    pub(crate) id: JobId,
    /// Of which build.
    pub(crate) build: BuildNumber,
    /// Which repository.
    pub(crate) repo: RepoUrl,
    /// Which branch.
    pub(crate) branch: Option<Branch>,
}

/// How long a job waits before it is offered again after an agent took it that may not have it.
pub(crate) const POSTPONED_MS: u64 = 5_000;

/// The longest that a job waits before it is offered again. A time that lies further ahead is from before the clock was
/// set back, and counts as come.
pub(crate) const LONGEST_POSTPONED_MS: u64 = 30_000;

/// What waits for one label set.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// What their agents must have.
    pub(crate) labels: LabelSet,
    /// How many are on their queue already.
    pub(crate) on_offer: usize,
    /// When the oldest of these was put there.
    pub(crate) oldest_ms: Option<u64>,
    /// When the newest was.
    pub(crate) newest_ms: Option<u64>,
    /// Whether more could be put there.
    pub(crate) offerable: bool,
}

/// Label sets are found from one to the next, and of each only what is on offer is counted: that is a window's worth,
/// however many wait behind it.
pub(super) const WAITING: &str = "
    WITH RECURSIVE waits (labels) AS (
        SELECT min(labels) FROM jobs WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL
        UNION ALL
        SELECT (SELECT min(labels) FROM jobs
                WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels > waits.labels)
        FROM waits WHERE waits.labels IS NOT NULL
    ), sets AS (
        SELECT labels FROM waits WHERE labels IS NOT NULL
        UNION SELECT labels FROM jobs WHERE state = 'queued' AND offered_ms IS NOT NULL
    )
    SELECT s.labels, o.on_offer, o.oldest_ms, o.newest_ms,
           EXISTS (SELECT 1 FROM jobs
                   WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels = s.labels
                         AND (not_before_ms <= $1 OR not_before_ms > $1 + $2)) AS offerable
    FROM sets s
    LEFT JOIN (SELECT labels, count(*) AS on_offer, min(offered_ms) AS oldest_ms, max(offered_ms) AS newest_ms
               FROM jobs WHERE state = 'queued' AND offered_ms IS NOT NULL GROUP BY labels) o ON o.labels = s.labels";

/// Repositories are found from one to the next. Those whose first job comes later than the first jobs of as many others
/// as are asked for have none among the next.
pub(super) const NEXT_TO_OFFER: &str = "
    WITH RECURSIVE repos (repo) AS (
        SELECT min(repo) FROM jobs WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels = $2
        UNION ALL
        SELECT (SELECT min(repo) FROM jobs
                WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels = $2 AND repo > repos.repo)
        FROM repos WHERE repos.repo IS NOT NULL
    ), firsts AS (
        SELECT r.repo,
               (SELECT count(*) FROM jobs WHERE state <> 'ended' AND unmet = 0
                       AND (state = 'running' OR offered_ms IS NOT NULL) AND jobs.repo = r.repo) AS busy,
               (SELECT id FROM jobs
                WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels = $2 AND jobs.repo = r.repo
                      AND (not_before_ms <= $1 OR not_before_ms > $1 + $4)
                ORDER BY priority DESC, id LIMIT 1) AS first
        FROM repos r WHERE r.repo IS NOT NULL
    ), near AS (
        SELECT repo, busy FROM firsts WHERE first IS NOT NULL ORDER BY busy, first LIMIT 0 + $3
    )
    SELECT j.id, j.build, j.repo, b.branch,
           near.busy + row_number() OVER (PARTITION BY j.repo ORDER BY j.priority DESC, j.id) AS turn
    FROM near
    CROSS JOIN jobs j ON j.rowid IN (
        SELECT rowid FROM jobs
        WHERE state = 'queued' AND unmet = 0 AND offered_ms IS NULL AND labels = $2 AND jobs.repo = near.repo
              AND (not_before_ms <= $1 OR not_before_ms > $1 + $4)
        ORDER BY priority DESC, id LIMIT 0 + $3)
    CROSS JOIN builds b ON b.number = j.build
    ORDER BY turn, j.id LIMIT 0 + $3";

impl Waiting {
    /// Whether one of them was put there longer ago than `patience_ms`, or at a time that has not come: the clock was
    /// set back, and nobody knows how long ago it was.
    pub(crate) fn is_old(&self, now_ms: u64, patience_ms: u64) -> bool {
        self.oldest_ms.is_some_and(|oldest| oldest <= now_ms.saturating_sub(patience_ms))
            || self.newest_ms.is_some_and(|newest| newest > now_ms)
    }
}

pub(super) const TO_SEND_ON: &str =
    "SELECT id FROM jobs WHERE state <> 'ended' AND unmet < 0 AND child IS NULL ORDER BY id";

impl Store {
    /// What waits, by label set.
    pub(crate) async fn waiting(&self, now_ms: u64) -> Result<Vec<Waiting>, StoreError> {
        let query = sqlx::query(WAITING).bind(int(now_ms)).bind(int(LONGEST_POSTPONED_MS));
        let rows = query.fetch_all(&self.readers).await?;
        let waiting = |row: &SqliteRow| {
            Ok(Waiting {
                labels: json(row, "labels")?,
                on_offer: count(row, "on_offer")?,
                oldest_ms: row.try_get::<Option<i64>, _>("oldest_ms")?.map(natural),
                newest_ms: row.try_get::<Option<i64>, _>("newest_ms")?.map(natural),
                offerable: row.try_get("offerable")?,
            })
        };
        rows.iter().map(waiting).collect()
    }

    /// The next jobs of a label set to be put on its queue. Repositories take turns, counted with what of theirs
    /// runs or is on offer; within one the oldest comes first.
    pub(crate) async fn next_to_offer(
        &self,
        labels: &LabelSet,
        most: usize,
        now_ms: u64,
    ) -> Result<Vec<Offerable>, StoreError> {
        let rows = sqlx::query(NEXT_TO_OFFER)
            .bind(int(now_ms))
            .bind(to_json("labels", labels)?)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .bind(int(LONGEST_POSTPONED_MS))
            .fetch_all(&self.readers)
            .await?;
        let offerable = |row: &SqliteRow| {
            Ok(Offerable {
                id: name(row, "id")?,
                build: BuildNumber(natural(row.try_get("build")?)),
                repo: name(row, "repo")?,
                branch: name_or_none(row, "branch")?,
            })
        };
        rows.iter().map(offerable).collect()
    }

    /// The jobs in whose place another build is to be begun now.
    pub(crate) async fn to_send_on(&self) -> Result<Vec<JobId>, StoreError> {
        let rows = sqlx::query(TO_SEND_ON).fetch_all(&self.readers).await?;
        rows.iter().map(|row| name(row, "id")).collect()
    }

    /// The label sets for which there are queues: what jobs ask for now, and what agents could take, so that a message
    /// by hand on such a queue is taken, though the farm never had a job for it.
    pub(crate) async fn label_queues(&self) -> Result<BTreeSet<LabelSet>, StoreError> {
        let mut sets: BTreeSet<LabelSet> = self.label_sets().await?.into_iter().collect();
        sets.extend(self.approved_label_sets().await?);
        Ok(sets)
    }

    /// The label sets of all jobs that are not over.
    async fn label_sets(&self) -> Result<Vec<LabelSet>, StoreError> {
        let rows =
            sqlx::query("SELECT DISTINCT labels FROM jobs WHERE state <> 'ended'").fetch_all(&self.readers).await?;
        rows.iter().map(|row| json(row, "labels")).collect()
    }
}

impl Store {
    /// What agents of the farm could be asked for: each of their labels, and all of one agent's together.
    async fn approved_label_sets(&self) -> Result<Vec<LabelSet>, StoreError> {
        let rows =
            sqlx::query("SELECT DISTINCT approved_labels FROM agents WHERE enrolled").fetch_all(&self.readers).await?;
        let mut sets = Vec::new();
        for row in &rows {
            let all: LabelSet = json(row, "approved_labels")?;
            sets.extend(all.iter().filter_map(|label| LabelSet::new([label]).ok()));
            sets.push(all);
        }
        Ok(sets)
    }
}

impl Transaction {
    /// The broker has these jobs.
    pub(crate) async fn offered(&mut self, jobs: &[JobId], now_ms: u64) -> Result<(), StoreError> {
        for job in jobs {
            sqlx::query("UPDATE jobs SET offered_ms = $2 WHERE id = $1 AND state = 'queued'")
                .bind(job.to_string())
                .bind(int(now_ms))
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(())
    }

    /// Has jobs of a label set offered again whose offer is not younger than `before_ms`, or from a time after `now_ms`,
    /// before the clock was set back. Gives how many.
    pub(crate) async fn offer_again(
        &mut self,
        labels: &LabelSet,
        before_ms: u64,
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "UPDATE jobs SET offered_ms = NULL
             WHERE state <> 'ended' AND state = 'queued' AND labels = $1 AND (offered_ms <= $2 OR offered_ms > $3)",
        )
        .bind(to_json("labels", labels)?)
        .bind(int(before_ms))
        .bind(int(now_ms))
        .execute(&mut *self.tx)
        .await?;
        Ok(done.rows_affected())
    }

    /// Has every waiting job offered again: nobody knows what still lies on the queues.
    pub(crate) async fn offer_all_again(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET offered_ms = NULL WHERE state <> 'ended' AND state = 'queued'")
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// Has one job offered again, but not before a time.
    pub(crate) async fn postpone(&mut self, job: JobId, until_ms: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE jobs SET offered_ms = NULL, not_before_ms = $2 WHERE id = $1 AND state = 'queued'")
            .bind(job.to_string())
            .bind(int(until_ms))
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }
}

fn count(row: &SqliteRow, column: &'static str) -> Result<usize, StoreError> {
    let found: Option<i64> = row.try_get(column)?;
    Ok(found.and_then(|found| usize::try_from(found).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_old_after_its_time_and_after_the_clock_was_set_back() {
        let check = |offers: Option<(u64, u64)>, now_ms: u64, expect: bool| {
            let (oldest_ms, newest_ms) = offers.unzip();
            let waiting = Waiting { labels: LabelSet::default(), on_offer: 1, oldest_ms, newest_ms, offerable: false };
            assert_eq!(waiting.is_old(now_ms, 100), expect, "{offers:?} at {now_ms}");
        };
        check(None, 1000, false);
        check(Some((950, 990)), 1000, false);
        check(Some((950, 1000)), 1000, false);
        check(Some((900, 990)), 1000, true);
        check(Some((950, 1001)), 1000, true);
        check(Some((5000, 5000)), 1000, true);
        // Forward: it is offered once more, which does no harm, for its claim decides.
        check(Some((950, 990)), 3_600_000, true);
    }
}
