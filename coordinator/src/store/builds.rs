//! Builds: one trigger on one commit. A build stands where its jobs stand.

use protocol::api::Status;
use protocol::job::{Origin, ReplyTo, StatusMessage, TriggerKind};
use protocol::outcome::{Cause, Ending, Outcome};
use protocol::{Branch, BuildNumber, CommitId, JobId, RepoUrl, Variable};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{StoreError, Transaction, int, json_or_none, name, name_or_none, natural, to_json};

/// A build that is to begin.
#[derive(Debug, Clone)]
pub(crate) struct NewBuild {
    /// Which repository, credentials included.
    pub(crate) repo: RepoUrl,
    /// Which branch; the remote's HEAD without one.
    pub(crate) branch: Option<Branch>,
    /// Why.
    pub(crate) trigger: TriggerKind,
    /// Whether its jobs may be given secrets and the Docker socket.
    pub(crate) trusted: bool,
    /// Who wants to hear how it goes.
    pub(crate) reply: Option<ReplyTo>,
    /// What began it, beyond its kind.
    pub(crate) origin: Origin,
    /// The commit, when one was named.
    pub(crate) commit: Option<CommitId>,
    /// The values that it was given.
    pub(crate) inputs: Vec<Variable>,
    /// The job in whose place it is begun.
    pub(crate) parent: Option<JobId>,
}

/// A build as its grants and replies need it.
#[derive(Debug, Clone)]
pub(crate) struct Build {
    /// Its number.
    pub(crate) number: BuildNumber,
    /// Which repository, credentials included.
    pub(crate) repo: RepoUrl,
    /// Which branch, once it is known.
    pub(crate) branch: Option<Branch>,
    /// The commit that it is pinned to, once an attempt has reported one.
    pub(crate) commit: Option<CommitId>,
    /// Whether one has.
    pub(crate) pinned: bool,
    /// The branch that the repository's HEAD means, once an attempt has reported it.
    pub(crate) default_branch: Option<Branch>,
    /// Why.
    pub(crate) trigger: TriggerKind,
    /// Whether its jobs may be given secrets and the Docker socket.
    pub(crate) trusted: bool,
    /// What began it, beyond its kind.
    pub(crate) origin: Origin,
    /// The values that it was given.
    pub(crate) inputs: Vec<Variable>,
    /// Whether it was asked for without a branch.
    pub(crate) of_head: bool,
    /// Where it stands.
    pub(crate) status: Status,
    /// How it ended, once it has.
    pub(crate) ending: Option<Ending>,
    reply: Option<ReplyTo>,
    told_running: bool,
}

impl Transaction {
    /// Begins a build, without a job as yet.
    pub(crate) async fn insert_build(&mut self, build: &NewBuild, now_ms: u64) -> Result<BuildNumber, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO builds (repo, branch, trigger, trusted, status, created_ms, reply_queue, reply_correlation,
                                 origin, inputs, commit_id, of_head, parent, of_tip, identity)
             VALUES ($1, $2, $3, $4, 'queued', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(build.repo.reveal())
        .bind(build.branch.as_ref().map(Branch::as_str))
        .bind(build.trigger.name())
        .bind(build.trusted)
        .bind(int(now_ms))
        .bind(build.reply.as_ref().map(|reply| reply.queue.as_str()))
        .bind(build.reply.as_ref().and_then(|reply| reply.correlation_id.as_deref()))
        .bind(to_json("origin", &build.origin)?)
        .bind(to_json("inputs", &build.inputs)?)
        .bind(build.commit.as_ref().map(CommitId::as_str))
        .bind(build.branch.is_none() && build.origin.tag.is_none() && build.commit.is_none())
        .bind(build.parent.map(|parent| parent.to_string()))
        // What is pushed is what the branch has now, and a pull request likewise.
        .bind(build.commit.is_none() || matches!(build.trigger, TriggerKind::Push | TriggerKind::PullRequest))
        .bind(build.repo.identity())
        .execute(&mut *self.tx)
        .await?;
        Ok(BuildNumber(natural(inserted.last_insert_rowid())))
    }

    /// Writes down who asked for a build, as that one said.
    pub(crate) async fn asked_by(&mut self, number: BuildNumber, by: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE builds SET asked_by = $2 WHERE number = $1")
            .bind(int(number.0))
            .bind(by)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    /// One build.
    pub(crate) async fn build(&mut self, number: BuildNumber) -> Result<Option<Build>, StoreError> {
        let row = sqlx::query("SELECT * FROM builds WHERE number = $1")
            .bind(int(number.0))
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(build_of).transpose()
    }

    /// The builds that led to one, the nearest first: each began the one before it.
    pub(crate) async fn upstream_of(&mut self, number: BuildNumber) -> Result<Vec<Build>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE chain (number, depth) AS (
                 SELECT $1, 0
                 UNION ALL
                 SELECT j.build, depth + 1 FROM chain
                 JOIN builds b ON b.number = chain.number JOIN jobs j ON j.id = b.parent WHERE depth < 100
             )
             SELECT builds.* FROM chain JOIN builds ON builds.number = chain.number WHERE depth > 0 ORDER BY depth",
        )
        .bind(int(number.0))
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(build_of).collect()
    }

    /// The commit of the newest build of the same branch that passed. A scheduled one may have run other stages than
    /// those of a push, so it counts for scheduled ones alone; what was only proposed counts for none.
    pub(crate) async fn last_green(&mut self, build: &Build) -> Result<Option<CommitId>, StoreError> {
        let Some(branch) = &build.branch else { return Ok(None) };
        let row = sqlx::query(
            "SELECT commit_id FROM builds WHERE repo = $1 AND branch = $2 AND number < $3 AND status = 'passed'
                    AND commit_id IS NOT NULL AND (trigger <> 'schedule' OR $4) AND origin ->> '$.pull_request' IS NULL
             ORDER BY number DESC LIMIT 1",
        )
        .bind(build.repo.reveal())
        .bind(branch.as_str())
        .bind(int(build.number.0))
        .bind(build.trigger == TriggerKind::Schedule)
        .fetch_optional(&mut *self.tx)
        .await?;
        row.map(|row| name(&row, "commit_id")).transpose()
    }

    /// Pins a build to the first commit that is reported for it. Later ones change nothing. Of a pull request that may be
    /// its merge in the place of its head, and what it is about is what its forge said.
    pub(crate) async fn pin(
        &mut self,
        number: BuildNumber,
        commit: Option<&CommitId>,
        (branch, default_branch): (Option<&Branch>, Option<&Branch>),
        subject: &str,
        author: &str,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE builds SET commit_id = $2, branch = coalesce(branch, $3), default_branch = $6,
                    subject = coalesce(CASE trigger WHEN 'pull_request' THEN origin ->> '$.message' END, $4),
                    author = coalesce(CASE trigger WHEN 'pull_request' THEN origin ->> '$.author' END, $5)
             WHERE number = $1 AND subject IS NULL
                   AND (commit_id IS NULL OR commit_id = $2
                        OR (origin ->> '$.merge' IS NOT NULL AND commit_id = origin ->> '$.head'))",
        )
        .bind(int(number.0))
        .bind(commit.map(CommitId::as_str))
        .bind(branch.map(Branch::as_str))
        .bind(first_line(subject))
        .bind(first_line(author))
        .bind(default_branch.map(Branch::as_str))
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Folds the jobs of a build, which [`members`](super::members::members) found, into where it stands, and puts what
    /// its publisher wants to hear into the outbox. Gives whether its end may be another job's too.
    pub(super) async fn fold(
        &mut self,
        number: BuildNumber,
        members: &[SqliteRow],
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let (status, ending) = folded(members)?;
        let (status, ending) = self.timed_out(number, status, ending).await?;
        let ended_ms = ending.is_some().then(|| int(now_ms));
        let begins = matches!(status, Status::Running | Status::Cancelling);
        let folded = sqlx::query(
            "UPDATE builds SET status = $2, ending = $3, ended_ms = $4,
                    started_ms = CASE WHEN $5 THEN coalesce(started_ms, $6) ELSE started_ms END
             WHERE number = $1 AND ended_ms IS NULL
             RETURNING reply_queue IS NOT NULL AS has_publisher, parent IS NOT NULL AND ended_ms IS NOT NULL AS comes_back",
        )
        .bind(int(number.0))
        .bind(status.name())
        .bind(ending.as_ref().map(|ending| to_json("ending", ending)).transpose()?)
        .bind(ended_ms)
        .bind(begins)
        .bind(int(now_ms))
        .fetch_optional(&mut *self.tx)
        .await?;
        // Most builds were begun by nobody who waits for their end.
        let (has_publisher, comes_back) = match &folded {
            Some(row) => (row.try_get("has_publisher")?, row.try_get("comes_back")?),
            None => (true, true),
        };
        if has_publisher {
            self.tell_publisher(number).await?;
        }
        self.want_statuses(number).await?;
        if folded.is_some() && ending.is_some() {
            self.want_notice(number, now_ms).await?;
        }
        Ok(comes_back)
    }

    /// What was cancelled because it took too long, and for nothing else before, was not ended by a person.
    async fn timed_out(
        &mut self,
        number: BuildNumber,
        status: Status,
        ending: Option<Ending>,
    ) -> Result<(Status, Option<Ending>), StoreError> {
        let Some(cancelled) = ending.as_ref().filter(|ending| ending.outcome == Outcome::Cancelled) else {
            return Ok((status, ending));
        };
        let row = sqlx::query("SELECT timed_out, cancel_asked FROM builds WHERE number = $1")
            .bind(int(number.0))
            .fetch_one(&mut *self.tx)
            .await?;
        if !row.try_get::<bool, _>("timed_out")? {
            return Ok((status, ending));
        }
        let reason: Option<String> = row.try_get("cancel_asked")?;
        let message = reason.or_else(|| cancelled.message.clone()).unwrap_or_default();
        let ending = Ending { stage: cancelled.stage.clone(), ..Ending::errored(Cause::Limit, message) };
        Ok((Status::Errored, Some(ending)))
    }

    /// The publisher of an injected job hears of the beginning once, and of the end.
    async fn tell_publisher(&mut self, number: BuildNumber) -> Result<(), StoreError> {
        let Some(build) = self.build(number).await? else { return Ok(()) };
        let Some(reply) = &build.reply else { return Ok(()) };
        match (&build.ending, build.status) {
            (Some(ending), _) => {
                self.insert_reply(reply, &build.status_message(ending.outcome.name(), ending.message.clone())).await?;
                // Once: an end is never left, but a late job of the build may be folded in again.
                sqlx::query("UPDATE builds SET reply_queue = NULL WHERE number = $1")
                    .bind(int(number.0))
                    .execute(&mut *self.tx)
                    .await?;
            }
            (None, Status::Running) if !build.told_running => {
                self.insert_reply(reply, &build.status_message("running", None)).await?;
                sqlx::query("UPDATE builds SET told_running = 1 WHERE number = $1")
                    .bind(int(number.0))
                    .execute(&mut *self.tx)
                    .await?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}

impl Build {
    fn status_message(&self, status: &str, message: Option<String>) -> StatusMessage {
        StatusMessage {
            repo: self.repo.to_string(),
            branch: self.branch.clone(),
            build: Some(self.number),
            status: status.to_owned(),
            message,
            commit: self.commit.clone(),
        }
    }
}

/// A status by its name.
pub(super) fn status(text: &str) -> Result<Status, StoreError> {
    use Status::{Cancelled, Cancelling, Errored, Failed, Passed, Queued, Running};
    [Queued, Running, Cancelling, Passed, Failed, Errored, Cancelled]
        .into_iter()
        .find(|status| status.name() == text)
        .ok_or_else(|| StoreError::Damaged { what: "status", reason: format!("{text:?} is none") })
}

/// The status of what ended so.
pub(super) fn status_of(outcome: Outcome) -> Status {
    match outcome {
        Outcome::Passed => Status::Passed,
        Outcome::Failed => Status::Failed,
        Outcome::Errored { .. } => Status::Errored,
        Outcome::Cancelled => Status::Cancelled,
    }
}

fn trigger(text: &str) -> Result<TriggerKind, StoreError> {
    use TriggerKind::{Injected, Local, Manual, PullRequest, Push, Schedule, Tag, Upstream};
    [Push, PullRequest, Tag, Schedule, Manual, Upstream, Injected, Local]
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| StoreError::Damaged { what: "trigger", reason: format!("{text:?} is none") })
}

pub(super) fn build_of(row: &SqliteRow) -> Result<Build, StoreError> {
    let reply = row.try_get::<Option<String>, _>("reply_queue")?;
    let correlation_id = row.try_get("reply_correlation")?;
    Ok(Build {
        number: BuildNumber(natural(row.try_get("number")?)),
        repo: name(row, "repo")?,
        branch: name_or_none(row, "branch")?,
        commit: name_or_none(row, "commit_id")?,
        pinned: row.try_get::<Option<&str>, _>("subject")?.is_some(),
        default_branch: name_or_none(row, "default_branch")?,
        trigger: trigger(row.try_get("trigger")?)?,
        trusted: row.try_get("trusted")?,
        origin: json_or_none(row, "origin")?.unwrap_or_default(),
        inputs: json_or_none(row, "inputs")?.unwrap_or_default(),
        of_head: row.try_get("of_head")?,
        status: status(row.try_get("status")?)?,
        ending: json_or_none(row, "ending")?,
        reply: reply.map(|queue| ReplyTo { queue, correlation_id }),
        told_running: row.try_get("told_running")?,
    })
}

pub(super) fn folded(jobs: &[SqliteRow]) -> Result<(Status, Option<Ending>), StoreError> {
    let mut status = Status::Queued;
    let mut over = 0;
    // An end that counts, and that of the build's last job, which counts in its own way.
    let (mut worst, mut last): (Option<Ending>, Option<Ending>) = (None, None);
    for row in jobs {
        let cancelling = row.try_get::<Option<&str>, _>("cancelling")?.is_some();
        let is_there = |column| Ok::<_, StoreError>(row.try_get::<Option<&str>, _>(column)?.is_some());
        let elsewhere = row.try_get::<Option<i64>, _>("child")?.is_some();
        match row.try_get::<&str, _>("state")? {
            "running" if cancelling => status = Status::Cancelling,
            "queued" if elsewhere && cancelling => status = Status::Cancelling,
            "running" if status != Status::Cancelling => status = Status::Running,
            "queued" if elsewhere && status != Status::Cancelling => status = Status::Running,
            _ => {}
        }
        let Some(ending) = json_or_none::<Ending>(row, "ending")? else { continue };
        over += 1;
        let for_another = is_there("ended_for")? && ending.outcome == Outcome::Cancelled;
        if is_there("skipped")? || for_another {
            continue;
        }
        if row.try_get::<bool, _>("finally")? {
            last = Some(last.map_or_else(|| ending.clone(), |last| worse(last, ending.clone())));
        } else {
            worst = Some(worst.map_or_else(|| ending.clone(), |worst| worse(worst, ending.clone())));
        }
    }
    if over < jobs.len() || jobs.is_empty() {
        // Between two of its jobs a build is under way, though no agent works on it at this moment.
        let between = status == Status::Queued && over > 0;
        return Ok((if between { Status::Running } else { status }, None));
    }
    let ending = with_last(worst.unwrap_or_else(Ending::passed), last);
    Ok((status_of(ending.outcome), Some(ending)))
}

/// A `finally` that did not pass makes a build failed that had passed, and changes nothing else.
fn with_last(worst: Ending, last: Option<Ending>) -> Ending {
    match last {
        Some(last) if worst.outcome == Outcome::Passed && last.outcome != Outcome::Passed => {
            let what = last.message.unwrap_or_else(|| last.outcome.to_string());
            Ending { stage: last.stage, ..Ending::of(Outcome::Failed, Some(format!("finally: {what}"))) }
        }
        _ => worst,
    }
}

fn worse(one: Ending, other: Ending) -> Ending {
    // Of two that are equally bad the first one stays: it came first.
    if one.outcome.worse(other.outcome) == one.outcome { one } else { other }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").chars().take(500).collect()
}
