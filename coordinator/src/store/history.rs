//! How long work of a kind took before.

use protocol::{Branch, JobKey, RepoUrl};
use sqlx::Row as _;

use super::{Store, StoreError, natural};

/// What kind of work a job is: what took long once will take long again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    /// The repository as the store has it, credentials included: never to be shown.
    pub(crate) repo: String,
    /// The branch, once it is known.
    pub(crate) branch: Option<Branch>,
    /// The job's key within its build.
    pub(crate) key: JobKey,
}

impl Work {
    /// The repository, as people see its URL.
    pub(crate) fn shown_repo(&self) -> String {
        // The store wrote it, so it is one.
        self.repo.parse::<RepoUrl>().map(|repo| repo.to_string()).unwrap_or_default()
    }
}

/// How many of the last times are looked at.
const TIMES: i64 = 9;

/// How many of the repository's newest builds are looked through for them.
const LOOKED_THROUGH: i64 = 200;

pub(super) const TIMES_ON_BRANCH: &str = "
    SELECT a.ended_ms - a.started_ms AS took_ms
    FROM (SELECT number FROM builds WHERE repo = $1 AND branch = $2 ORDER BY number DESC LIMIT 0 + $4) AS b
    CROSS JOIN jobs j ON j.build = b.number AND ($3 IS NULL OR j.key = $3) CROSS JOIN attempts a ON a.job = j.id
    WHERE a.state = 'passed' ORDER BY b.number DESC LIMIT 0 + $5";

pub(super) const TIMES_ON_ANY: &str = "
    SELECT a.ended_ms - a.started_ms AS took_ms
    FROM (SELECT number FROM builds WHERE repo = $1 AND $2 IS NULL ORDER BY number DESC LIMIT 0 + $4) AS b
    CROSS JOIN jobs j ON j.build = b.number AND ($3 IS NULL OR j.key = $3) CROSS JOIN attempts a ON a.job = j.id
    WHERE a.state = 'passed' ORDER BY b.number DESC LIMIT 0 + $5";

impl Store {
    /// How long such work took lately, in milliseconds: the middle one of the last times that it passed, on its
    /// branch or else on any. None when it never did. A job that is yet to be planned has no key of its own, so any
    /// job of such a build that began with it counts.
    pub(crate) async fn usual_ms(&self, work: &Work, unplanned: &JobKey) -> Result<Option<u64>, StoreError> {
        for branch in [work.branch.as_ref(), None] {
            let mut times = self.times(work, branch, Some(&work.key)).await?;
            if times.is_empty() && work.key == *unplanned {
                times = self.times(work, branch, None).await?;
            }
            times.sort_unstable();
            if let Some(middle) = times.get(times.len() / 2) {
                return Ok(Some(*middle));
            }
            if branch.is_none() {
                break;
            }
        }
        Ok(None)
    }

    async fn times(&self, work: &Work, branch: Option<&Branch>, key: Option<&JobKey>) -> Result<Vec<u64>, StoreError> {
        // Each with an index of its own: not all builds of a repository are looked through for those of a branch.
        let statement = if branch.is_some() { TIMES_ON_BRANCH } else { TIMES_ON_ANY };
        let rows = sqlx::query(statement)
            .bind(&work.repo)
            .bind(branch.map(Branch::as_str))
            .bind(key.map(JobKey::as_str))
            .bind(LOOKED_THROUGH)
            .bind(TIMES)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(natural(row.try_get("took_ms")?))).collect()
    }
}
