//! When builds begin by themselves, as the repositories' manifests say.

use protocol::api::ScheduleView;
use protocol::plan::Schedule;
use protocol::{Branch, BuildNumber, RepoUrl};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Build, Store, StoreError, Transaction, int, json, name, natural, to_json};

/// A schedule of a repository.
#[derive(Debug, Clone)]
pub(crate) struct Scheduled {
    /// Which repository, credentials included.
    pub(crate) repo: RepoUrl,
    /// What its manifest says.
    pub(crate) said: Schedule,
    /// The branch that is built where the schedule names none.
    pub(crate) default_branch: Branch,
    /// When it comes due next, in milliseconds since 1970; none when it never does.
    pub(crate) next_ms: Option<u64>,
    /// Who paused it, as that one said.
    pub(crate) paused_by: Option<String>,
    /// When it came due last, in milliseconds since 1970.
    pub(crate) last_due_ms: Option<u64>,
    last_build: Option<BuildNumber>,
    /// The build whose plan says it.
    pub(crate) since: BuildNumber,
}

impl Scheduled {
    /// Of which pipeline it is; the empty text for the one without a name.
    fn pipeline(&self) -> &str {
        self.said.pipeline.as_deref().unwrap_or_default()
    }

    /// What people see of it.
    fn view(self) -> ScheduleView {
        ScheduleView {
            repo: self.repo.to_string(),
            branch: self.said.branch.clone().unwrap_or(self.default_branch),
            schedule: self.said,
            next_ms: self.next_ms.filter(|_| self.paused_by.is_none()),
            paused_by: self.paused_by,
            last_due_ms: self.last_due_ms,
            last_build: self.last_build,
        }
    }
}

impl Store {
    /// All schedules, by repository, pipeline and name.
    pub(crate) async fn schedules(&self) -> Result<Vec<ScheduleView>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM schedules ORDER BY repo, pipeline, name").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(scheduled_of(row)?.view())).collect()
    }

    /// When the next schedule comes due that is not paused, in milliseconds since 1970.
    pub(crate) async fn next_due(&self) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT min(next_ms) AS next_ms FROM schedules WHERE next_ms IS NOT NULL AND paused_by IS NULL",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(row.try_get::<Option<i64>, _>("next_ms")?.map(natural))
    }
}

impl Transaction {
    /// The schedules of a repository, however its address was written when they were put down.
    pub(crate) async fn schedules_of(&mut self, repo: &RepoUrl) -> Result<Vec<Scheduled>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM schedules ORDER BY build DESC, pipeline, name").fetch_all(&mut *self.tx).await?;
        let all = rows.iter().map(scheduled_of).collect::<Result<Vec<_>, _>>()?;
        let identity = repo.identity();
        Ok(all.into_iter().filter(|schedule| schedule.repo.identity() == identity).collect())
    }

    /// All schedules that have a name, whatever their repository.
    pub(crate) async fn schedules_named(&mut self, named: &str) -> Result<Vec<Scheduled>, StoreError> {
        let rows = sqlx::query("SELECT * FROM schedules WHERE name = $1 ORDER BY repo, pipeline")
            .bind(named)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(scheduled_of).collect()
    }

    /// Puts these schedules in the place of those `before`.
    pub(crate) async fn put_schedules(
        &mut self,
        before: &[Scheduled],
        schedules: &[Scheduled],
    ) -> Result<(), StoreError> {
        for schedule in before {
            sqlx::query("DELETE FROM schedules WHERE repo = $1 AND pipeline = $2 AND name = $3")
                .bind(schedule.repo.reveal())
                .bind(schedule.pipeline())
                .bind(&schedule.said.name)
                .execute(&mut *self.tx)
                .await?;
        }
        for schedule in schedules {
            sqlx::query(
                "INSERT INTO schedules (repo, pipeline, name, said, default_branch, build, next_ms, paused_by,
                                        last_due_ms, last_build)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 ON CONFLICT DO NOTHING",
            )
            .bind(schedule.repo.reveal())
            .bind(schedule.pipeline())
            .bind(&schedule.said.name)
            .bind(to_json("schedule", &schedule.said)?)
            .bind(schedule.default_branch.as_str())
            .bind(int(schedule.since.0))
            .bind(schedule.next_ms.map(int))
            .bind(&schedule.paused_by)
            .bind(schedule.last_due_ms.map(int))
            .bind(schedule.last_build.map(|build| int(build.0)))
            .execute(&mut *self.tx)
            .await?;
        }
        Ok(())
    }

    /// The schedule that came due first and has not been carried out, if one has come due by now.
    pub(crate) async fn due(&mut self, now_ms: u64) -> Result<Option<Scheduled>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM schedules WHERE next_ms IS NOT NULL AND next_ms <= $1 AND paused_by IS NULL
             ORDER BY next_ms LIMIT 1",
        )
        .bind(int(now_ms))
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(scheduled_of).transpose()
    }

    /// Those that come due later than that.
    pub(crate) async fn schedules_beyond(&mut self, ms: u64) -> Result<Vec<Scheduled>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM schedules WHERE next_ms > $1").bind(int(ms)).fetch_all(&mut *self.tx).await?;
        rows.iter().map(scheduled_of).collect()
    }

    /// A schedule came due, and began a build unless that was refused; it comes due again at `next_ms`.
    pub(crate) async fn was_due(
        &mut self,
        schedule: &Scheduled,
        (due_ms, build): (u64, Option<BuildNumber>),
        next_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE schedules SET next_ms = $4, last_due_ms = $5, last_build = coalesce($6, last_build)
             WHERE repo = $1 AND pipeline = $2 AND name = $3",
        )
        .bind(schedule.repo.reveal())
        .bind(schedule.pipeline())
        .bind(&schedule.said.name)
        .bind(next_ms.map(int))
        .bind(int(due_ms))
        .bind(build.map(|build| int(build.0)))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Pauses a schedule, or lets it go on at `next_ms`.
    pub(crate) async fn pause_schedule(
        &mut self,
        schedule: &Scheduled,
        paused_by: Option<&str>,
        next_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE schedules SET paused_by = $4, next_ms = $5 WHERE repo = $1 AND pipeline = $2 AND name = $3",
        )
        .bind(schedule.repo.reveal())
        .bind(schedule.pipeline())
        .bind(&schedule.said.name)
        .bind(paused_by)
        .bind(next_ms.map(int))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// A push is done again, for somebody asked for that: it is of its branch's tip no longer where another commit was
    /// pushed since. Of a pull request likewise.
    pub(crate) async fn pushed_again(&mut self, build: BuildNumber) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE builds AS b SET of_tip = 0 WHERE number = $1 AND EXISTS (
                 SELECT 1 FROM builds n
                 WHERE n.repo = b.repo AND n.branch = b.branch AND n.of_tip = 1
                       AND n.trigger = 'push' AND b.trigger = 'push' AND n.commit_id <> b.commit_id
                       AND n.number < b.number AND n.number > (
                           SELECT max(o.number) FROM builds o
                           WHERE o.repo = b.repo AND o.branch = b.branch AND o.trigger = 'push'
                                 AND o.commit_id = b.commit_id AND o.number < b.number)
                 UNION ALL
                 SELECT 1 FROM builds n
                 WHERE n.repo = b.repo AND n.origin ->> '$.pull_request' = b.origin ->> '$.pull_request' AND n.of_tip = 1
                       AND n.trigger = 'pull_request' AND b.trigger = 'pull_request'
                       AND n.origin ->> '$.head' <> b.origin ->> '$.head'
                       AND n.number < b.number AND n.number > (
                           SELECT max(o.number) FROM builds o
                           WHERE o.repo = b.repo AND o.origin ->> '$.pull_request' = b.origin ->> '$.pull_request'
                                 AND o.trigger = 'pull_request' AND o.origin ->> '$.head' = b.origin ->> '$.head'
                                 AND o.number < b.number))",
        )
        .bind(int(build.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// What a build is of was pushed, or proposed, before what is known already, and is heard of only now: it is of its
    /// branch's tip no longer. A branch that was set back says that it stood where it is known to have stood.
    pub(crate) async fn came_late(&mut self, build: BuildNumber) -> Result<(), StoreError> {
        sqlx::query(
            "WITH b AS (SELECT repo, branch, trigger, origin ->> '$.before' AS before, origin ->> '$.pull_request' AS request,
                               coalesce(origin ->> '$.head', commit_id) AS pushed FROM builds WHERE number = $1),
                  known AS (SELECT n.number, n.origin ->> '$.before' AS before,
                                   coalesce(n.origin ->> '$.head', n.commit_id) AS pushed
                            FROM builds n JOIN b ON n.repo = b.repo AND n.trigger = b.trigger AND n.of_tip = 1
                                 AND n.number < $1 AND n.number > $1 - 1000
                                 AND CASE b.trigger WHEN 'push' THEN n.branch = b.branch
                                                    WHEN 'pull_request' THEN n.origin ->> '$.pull_request' = b.request
                                                    ELSE 0 END)
             UPDATE builds SET of_tip = 0
             WHERE number = $1 AND EXISTS (SELECT 1 FROM known JOIN b ON known.before = b.pushed)
                   AND (SELECT pushed FROM known ORDER BY number DESC LIMIT 1) IS NOT (SELECT before FROM b)",
        )
        .bind(int(build.0))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Whether a build that began later than this one was planned, of which the repository's schedules could be taken too.
    pub(crate) async fn is_scheduled_by_a_newer(&mut self, build: &Build) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT EXISTS (
                 SELECT 1 FROM builds
                 WHERE repo = $1 AND number > $2 AND of_tip = 1 AND trusted = 1 AND branch = default_branch
                       AND plan IS NOT NULL AND origin ->> '$.pull_request' IS NULL AND origin ->> '$.tag' IS NULL) AS found",
        )
        .bind(build.repo.reveal())
        .bind(int(build.number.0))
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(row.try_get("found")?)
    }

    /// Whether a build is of what its branch had when it began, and not of a commit that somebody named.
    pub(crate) async fn is_of_tip(&mut self, build: BuildNumber) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT of_tip FROM builds WHERE number = $1")
            .bind(int(build.0))
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.map(|row| row.try_get("of_tip")).transpose()?.unwrap_or(false))
    }
}

impl Scheduled {
    /// One that comes due first at `next_ms`, with what is known of the one that it takes the place of.
    pub(crate) fn new(
        (repo, since): (RepoUrl, BuildNumber),
        said: Schedule,
        default_branch: Branch,
        next_ms: Option<u64>,
        before: Option<&Self>,
    ) -> Self {
        let (last_due_ms, last_build) = before.map_or((None, None), |it| (it.last_due_ms, it.last_build));
        let paused_by = before.and_then(|it| it.paused_by.clone());
        Self { repo, said, default_branch, next_ms, paused_by, last_due_ms, last_build, since }
    }
}

fn scheduled_of(row: &SqliteRow) -> Result<Scheduled, StoreError> {
    let moment = |column| Ok::<_, StoreError>(row.try_get::<Option<i64>, _>(column)?.map(natural));
    Ok(Scheduled {
        repo: name(row, "repo")?,
        said: json(row, "said")?,
        default_branch: name(row, "default_branch")?,
        next_ms: moment("next_ms")?,
        paused_by: row.try_get("paused_by")?,
        last_due_ms: moment("last_due_ms")?,
        last_build: moment("last_build")?.map(BuildNumber),
        since: BuildNumber(natural(row.try_get("build")?)),
    })
}
