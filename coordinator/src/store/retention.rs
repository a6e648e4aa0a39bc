//! What is old: which builds, logs and artifacts are kept no longer, and how much room the rest takes.

use protocol::api::{ProjectKeeps, StorageView};
use protocol::{BuildNumber, JobId, RepoUrl};
use sqlx::Row as _;

use super::{Store, StoreError, Transaction, int, name, natural, to_json};

/// What is removed of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// All of it.
    Build,
    /// What its jobs printed.
    Logs,
    /// The files that they left.
    Artifacts,
}

/// Which builds are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Old {
    /// Those that ended before this, in milliseconds since 1970.
    pub(crate) before_ms: u64,
    /// But not the newest ones of their repository: so many.
    pub(crate) newest: u64,
}

/// Of which repositories, by their URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Among {
    /// Of these.
    These(Vec<String>),
    /// Of all others.
    Others(Vec<String>),
}

/// Builds that are over and that nothing else keeps. Never removed is what a person pinned, the last build of a branch
/// that passed, what another build took over that is under way or kept for one of these, what was begun by one that is
/// under way, and what somebody is still to hear of.
const NOT_KEPT: &str = "
    b.ended_ms <= $1 AND b.pinned = 0
    AND NOT (b.status = 'passed'
             AND b.number = (SELECT g.number FROM builds g WHERE g.repo = b.repo AND g.branch IS b.branch
                                    AND g.status = 'passed' ORDER BY g.number DESC LIMIT 1))
    AND NOT EXISTS (SELECT 1 FROM jobs l JOIN builds o ON o.number = l.build
                    WHERE l.carried_from = b.number
                          AND (o.ended_ms IS NULL OR o.pinned = 1
                               OR o.status = 'passed'
                                  AND o.number = (SELECT g.number FROM builds g
                                                  WHERE g.repo = o.repo AND g.branch IS o.branch AND g.status = 'passed'
                                                  ORDER BY g.number DESC LIMIT 1)))
    AND NOT EXISTS (SELECT 1 FROM jobs p JOIN builds o ON o.number = p.build
                    WHERE p.child = b.number AND o.ended_ms IS NULL)
    AND NOT EXISTS (SELECT 1 FROM notices n WHERE n.build = b.number)
    AND b.number NOT IN (SELECT n.number FROM builds n WHERE n.repo = b.repo ORDER BY n.number DESC LIMIT 0 + $2)
    AND (b.repo IN (SELECT value FROM json_each($3))) = $4";

impl Store {
    /// When the newest build was begun, in milliseconds since 1970.
    pub(crate) async fn newest_build_ms(&self) -> Result<Option<u64>, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT created_ms FROM builds ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.readers)
            .await?;
        Ok(newest.map(natural))
    }

    /// Some builds of which something is kept no longer, the oldest first; at most so many.
    pub(crate) async fn old_builds(
        &self,
        what: Removed,
        old: Old,
        among: &Among,
        most: u32,
    ) -> Result<Vec<BuildNumber>, StoreError> {
        self.find_old(what, old, among, "1", "ORDER BY b.ended_ms LIMIT 0 + $5", most.into()).await
    }

    /// Whether one of them still is what it was found to be: while others went, somebody may have pinned it, or begun a
    /// build that takes over what it did.
    pub(crate) async fn is_old(
        &self,
        build: BuildNumber,
        what: Removed,
        old: Old,
        among: &Among,
    ) -> Result<bool, StoreError> {
        Ok(!self.find_old(what, old, among, "b.number = $5", "", int(build.0)).await?.is_empty())
    }

    /// Builds of which something is kept no longer. `which` and `order` say which of them, by a fifth value.
    async fn find_old(
        &self,
        what: Removed,
        old: Old,
        among: &Among,
        which: &str,
        order: &str,
        fifth: i64,
    ) -> Result<Vec<BuildNumber>, StoreError> {
        let (repos, are) = match among {
            Among::These(repos) => (repos, true),
            Among::Others(repos) => (repos, false),
        };
        let still = match what {
            Removed::Build => "1",
            Removed::Logs => {
                "b.logs_removed_ms IS NULL AND EXISTS (SELECT 1 FROM logs l JOIN attempts a ON a.claim = l.claim
                                                       JOIN jobs j ON j.id = a.job WHERE j.build = b.number)"
            }
            Removed::Artifacts => {
                "b.artifacts_removed_ms IS NULL AND EXISTS (SELECT 1 FROM kept k JOIN attempts a ON a.claim = k.claim
                                                            JOIN jobs j ON j.id = a.job WHERE j.build = b.number)"
            }
        };
        let statement = format!("SELECT b.number FROM builds b WHERE {which} AND {NOT_KEPT} AND {still} {order}");
        // It is put together of what stands here.
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(int(old.before_ms))
            .bind(int(old.newest))
            .bind(to_json("repositories", repos)?)
            .bind(are)
            .bind(fifth)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok(BuildNumber(natural(row.try_get("number")?)))).collect()
    }

    /// The URLs of the repositories whose projects have rules of their own, with these.
    pub(crate) async fn kept_otherwise(&self) -> Result<Vec<(Vec<String>, ProjectKeeps)>, StoreError> {
        let projects = self.projects().await?;
        let mut all: Vec<(Vec<String>, ProjectKeeps)> =
            projects.iter().map(|project| (Vec::new(), project.keeps)).collect();
        if all.iter().any(|(_, keeps)| !keeps.is_farms()) {
            let rows = sqlx::query("SELECT DISTINCT repo FROM builds").fetch_all(&self.readers).await?;
            for row in rows {
                let repo: RepoUrl = name(&row, "repo")?;
                let identity = repo.identity();
                // A repository's own word counts before its owner's, and a group's before that of the group around it.
                let covering = projects.iter().enumerate().filter(|(_, project)| project.covers(&identity));
                let nearest = covering.max_by_key(|(_, project)| (!project.is_owner(), project.identity.len()));
                if let Some((place, _)) = nearest {
                    all[place].0.push(repo.reveal().to_owned());
                }
            }
        }
        all.retain(|(_, keeps)| !keeps.is_farms());
        Ok(all)
    }

    /// The jobs of a build, of which each has a folder of logs.
    pub(crate) async fn jobs_of(&self, build: BuildNumber) -> Result<Vec<JobId>, StoreError> {
        let rows =
            sqlx::query("SELECT id FROM jobs WHERE build = $1").bind(int(build.0)).fetch_all(&self.readers).await?;
        rows.iter().map(|row| name(row, "id")).collect()
    }

    /// How many builds there are, and how much room they take; what the disk has is not known here.
    pub(crate) async fn storage(&self) -> Result<StorageView, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM builds) AS builds, (SELECT count(*) FROM builds WHERE pinned = 1) AS pinned,
                    (SELECT min(created_ms) FROM builds) AS oldest_ms,
                    (SELECT coalesce(sum(bytes), 0) FROM logs) AS logs,
                    (SELECT coalesce(sum(bytes), 0) FROM
                        (SELECT DISTINCT j.build, k.sha256, k.bytes FROM kept k
                         JOIN attempts a ON a.claim = k.claim JOIN jobs j ON j.id = a.job)) AS artifacts,
                    (SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()) AS database",
        )
        .fetch_one(&self.readers)
        .await?;
        let number = |column| Ok::<_, StoreError>(natural(row.try_get::<i64, _>(column)?));
        Ok(StorageView {
            builds: number("builds")?,
            pinned: number("pinned")?,
            oldest_ms: row.try_get::<Option<i64>, _>("oldest_ms")?.map(natural),
            logs_bytes: number("logs")?,
            artifacts_bytes: number("artifacts")?,
            database_bytes: number("database")?,
            ..StorageView::default()
        })
    }
}

impl Transaction {
    /// Forgets a build, or what is said of its logs or artifacts. What lay on the disk is gone by now.
    pub(crate) async fn remove(&mut self, build: BuildNumber, what: Removed, now_ms: u64) -> Result<(), StoreError> {
        match what {
            Removed::Build => self.remove_build(build).await,
            Removed::Logs => {
                self.each_of(build, &[DELETE_LOGS]).await?;
                self.note_removed("UPDATE builds SET logs_removed_ms = $2 WHERE number = $1", build, now_ms).await
            }
            Removed::Artifacts => {
                self.each_of(build, &[FADE, NOTE_EXPIRED, DELETE_KEPT]).await?;
                self.note_removed("UPDATE builds SET artifacts_removed_ms = $2 WHERE number = $1", build, now_ms).await
            }
        }
    }

    async fn remove_build(&mut self, build: BuildNumber) -> Result<(), StoreError> {
        self.attempts.clear();
        self.each_of(
            build,
            &[
                DELETE_KEPT,
                DELETE_EXPIRED,
                DELETE_LOGS,
                "DELETE FROM stages WHERE claim IN (SELECT a.claim FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.build = $1)",
                "DELETE FROM attempts WHERE job IN (SELECT id FROM jobs WHERE build = $1)",
                "DELETE FROM adoptions WHERE job IN (SELECT id FROM jobs WHERE build = $1)",
                "DELETE FROM turns WHERE build = $1",
                "DELETE FROM notices WHERE build = $1",
                "DELETE FROM statuses WHERE build = $1 AND told >= version",
                "DELETE FROM images WHERE build = $1",
                // Those that are left are over, and only say by whom they were begun, or whom they began.
                "UPDATE builds SET parent = NULL WHERE parent IN (SELECT id FROM jobs WHERE build = $1)",
                "UPDATE jobs SET child = NULL WHERE child = $1",
                "DELETE FROM jobs WHERE build = $1",
                "DELETE FROM builds WHERE number = $1",
            ],
        )
        .await
    }

    async fn each_of(&mut self, build: BuildNumber, statements: &[&'static str]) -> Result<(), StoreError> {
        for statement in statements {
            sqlx::query(*statement).bind(int(build.0)).execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    async fn note_removed(
        &mut self,
        statement: &'static str,
        build: BuildNumber,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(statement).bind(int(build.0)).bind(int(now_ms)).execute(&mut *self.tx).await?;
        Ok(())
    }

    /// Says whether a person wants a build kept. Gives whether it is there.
    pub(crate) async fn pin_build(&mut self, build: BuildNumber, pinned: bool) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE builds SET pinned = $2 WHERE number = $1")
            .bind(int(build.0))
            .bind(pinned)
            .execute(&mut *self.tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }
}

const DELETE_LOGS: &str =
    "DELETE FROM logs WHERE claim IN (SELECT a.claim FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.build = $1)";

const DELETE_KEPT: &str =
    "DELETE FROM kept WHERE claim IN (SELECT a.claim FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.build = $1)";

/// What they were is still said.
const NOTE_EXPIRED: &str = "
    INSERT OR REPLACE INTO expired (claim, stage, files, bytes, sha256)
    SELECT claim, stage, files, bytes, sha256 FROM kept
    WHERE claim IN (SELECT a.claim FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.build = $1)";

const DELETE_EXPIRED: &str = "DELETE FROM expired WHERE claim IN (SELECT a.claim FROM attempts a JOIN jobs j ON j.id = a.job WHERE j.build = $1)";

/// Who takes over what such an attempt left finds that it is gone.
const FADE: &str = "
    UPDATE attempts SET faded = 1
    WHERE job IN (SELECT id FROM jobs WHERE build = $1) AND EXISTS (SELECT 1 FROM kept WHERE kept.claim = attempts.claim)";
