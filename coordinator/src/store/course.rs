//! The course of builds: whose turn comes, who never will, and who has to end, after something happened to one job.
//! [`protocol::course`] decides; here is what it decides about, and what follows, all in the caller's transaction.

use std::collections::BTreeSet;

use protocol::course::{self, At, Member, Turn};
use protocol::outcome::{Ending, Outcome};
use protocol::state::{Happening, JobState};
use protocol::{AgentId, BuildNumber, ClaimId, JobId};
use sqlx::Row as _;

use super::members::{
    Course, Shared, at, courses, courses_of, job_group, members, shared, shared_group, waiting_in_groups,
};
use super::{StoreError, Transaction, int, json};

/// Whether a job or a build that is not over is in a group.
pub(super) const HAS_GROUPS: &str = "
    SELECT EXISTS (SELECT 1 FROM jobs WHERE grp IS NOT NULL AND state <> 'ended')
           OR EXISTS (SELECT 1 FROM builds b JOIN turns t ON t.build = b.number WHERE b.ended_ms IS NULL) AS found";

/// What followed in a transaction, to be said once it is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Claims that were asked to end.
    pub(crate) ending: Vec<AskedToEnd>,
    /// Builds that changed.
    pub(crate) builds: BTreeSet<BuildNumber>,
}

/// A claim that was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct AskedToEnd {
    /// Which.
    pub(crate) claim: ClaimId,
    /// Whose.
    pub(crate) agent: AgentId,
    /// Who and why, as a sentence.
    pub(crate) reason: String,
}

/// Who asks that a build ends. All leave its `finally` alone, but a person who asks for the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A person.
    Person,
    /// The farm, for nobody needs the build any more. That leaves alone, besides, what is in work and must not be cut short:
    /// jobs with a gate or a group.
    Needless,
    /// The build that began it, which was cancelled.
    Parent,
    /// Its own time limit.
    Time,
}

/// A build that is to be cancelled, and why.
struct Cancel {
    build: BuildNumber,
    reason: String,
    by: Asker,
}

/// What is still to be looked at.
#[derive(Default)]
struct Open {
    builds: BTreeSet<BuildNumber>,
    cancels: Vec<Cancel>,
}

impl Transaction {
    /// What followed so far; the next call gives what follows from here on.
    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Lets everything follow from what happened to a build: turns that come, jobs that are passed over or end with
    /// their lane, the build's own state, the job that waits for its end, and builds that wait for the same groups.
    pub(crate) async fn advance(&mut self, build: BuildNumber, now_ms: u64) -> Result<(), StoreError> {
        self.follow_up(Open { builds: BTreeSet::from([build]), cancels: Vec::new() }, now_ms).await
    }

    /// Asks all of a build to end, and the builds that it waits for. The first time its `finally` is left to run. Gives
    /// whether that changed something.
    pub(crate) async fn cancel(
        &mut self,
        build: BuildNumber,
        reason: &str,
        by: Asker,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut open = Open::default();
        let cancel = Cancel { build, reason: reason.to_owned(), by };
        let changed = self.ask_to_end(&cancel, &mut open, now_ms).await?;
        self.follow_up(open, now_ms).await?;
        Ok(changed)
    }

    async fn follow_up(&mut self, mut open: Open, now_ms: u64) -> Result<(), StoreError> {
        loop {
            if let Some(cancel) = open.cancels.pop() {
                self.ask_to_end(&cancel, &mut open, now_ms).await?;
                continue;
            }
            let Some(build) = open.builds.pop_first() else { return Ok(()) };
            self.effects.builds.insert(build);
            let mut jobs = members(&mut self.tx, build).await?;
            if self.take_turns(build, courses_of(&jobs)?, &mut open, now_ms).await? {
                jobs = members(&mut self.tx, build).await?;
            }
            if self.fold(build, &jobs, now_ms).await? {
                self.come_back(build, &mut open, now_ms).await?;
            }
            if !self.has_groups().await? {
                continue;
            }
            for other in waiting_in_groups(&mut self.tx, build).await? {
                if other != build && self.could_go_on(other).await? {
                    open.builds.insert(other);
                }
            }
        }
    }

    /// Whether anything on the farm is in a group: looked up once in a transaction, for on most farms nothing is.
    async fn has_groups(&mut self) -> Result<bool, StoreError> {
        if let Some(known) = self.grouped {
            return Ok(known);
        }
        let row = sqlx::query(HAS_GROUPS).fetch_one(&mut *self.tx).await?;
        let found = row.try_get("found")?;
        self.grouped = Some(found);
        Ok(found)
    }

    /// Gives turns to those of a build's jobs whose turn it is, and passes over those that never have one. Gives whether
    /// it did.
    async fn take_turns(
        &mut self,
        build: BuildNumber,
        mut jobs: Vec<Course>,
        open: &mut Open,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        if jobs.is_empty() {
            // It is yet to be planned.
            return Ok(false);
        }
        let waiting = self.take_shared(build).await?;
        let begun = |job: &Course| !waiting.iter().any(|shared| shared.is_of(job));
        let (mut changed, mut rounds) = (true, 0);
        while std::mem::take(&mut changed) {
            rounds += 1;
            let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
            for (place, failed) in course::to_end(&members) {
                let reason = format!("{failed} failed, and then the others beside it end too (fail_fast)");
                jobs[place].member.at = self.end_for(&jobs[place], failed.as_str(), &reason, open, now_ms).await?;
                changed = true;
            }
            for place in 0..jobs.len() {
                if !matches!(jobs[place].member.at, At::Waiting { .. }) {
                    continue;
                }
                // Looked at anew for each: the turn of one may fill the lane for the next.
                let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
                match course::turn(&members, place) {
                    Turn::Never(reason) => {
                        self.pass_over(jobs[place].id, reason, now_ms).await?;
                        jobs[place].member.at = At::Skipped;
                        changed = true;
                    }
                    Turn::Now if begun(&jobs[place]) && self.has_group(build, &jobs[place]).await? => {
                        self.give_turn(&jobs[place]).await?;
                        jobs[place].member.at = At::Begun { ending: false };
                        changed = true;
                    }
                    Turn::Now if begun(&jobs[place]) => self.is_ready(jobs[place].id).await?,
                    _ => {}
                }
            }
        }
        // In the last round nothing changed any more.
        Ok(rounds > 1)
    }

    /// Only its group stands before a job. Where that goes by who was ready first, it has its place from now on.
    async fn is_ready(&mut self, id: JobId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE jobs SET ready = (SELECT coalesce(max(ready), 0) + 1 FROM jobs WHERE ready IS NOT NULL)
             WHERE id = $1 AND ready IS NULL AND terms ->> '$.concurrency.order' = 'ready'",
        )
        .bind(id.to_string())
        .execute(&mut *self.tx)
        .await?;
        Ok(())
    }

    /// Whether another build, which waits for a group, could go on if it were looked at: so that looking ends.
    async fn could_go_on(&mut self, build: BuildNumber) -> Result<bool, StoreError> {
        let mut shared = shared(&mut self.tx, build).await?;
        shared.retain(|shared| !shared.has_turn);
        for asks in &shared {
            if shared_group(&mut self.tx, build, asks).await?.is_ok() {
                return Ok(true);
            }
        }
        let jobs = courses(&mut self.tx, build).await?;
        let members: Vec<Member> = jobs.iter().map(|job| job.member.clone()).collect();
        for (place, job) in jobs.iter().enumerate() {
            let waits = job.terms.concurrency.is_some() && matches!(job.member.at, At::Waiting { .. });
            let waits = waits && !shared.iter().any(|shared| shared.is_of(job));
            if waits && course::turn(&members, place) == Turn::Now && self.has_group(build, job).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the turns that jobs of a build want together, where nothing stands before them. Gives those that wait.
    async fn take_shared(&mut self, build: BuildNumber) -> Result<Vec<Shared>, StoreError> {
        let mut waiting = Vec::new();
        for asks in shared(&mut self.tx, build).await? {
            if asks.has_turn {
                continue;
            }
            if shared_group(&mut self.tx, build, &asks).await?.is_err() {
                waiting.push(asks);
                continue;
            }
            sqlx::query("UPDATE turns SET turn = 1 WHERE build = $1 AND pipeline = $2")
                .bind(int(build.0))
                .bind(&asks.pipeline)
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(waiting)
    }

    async fn has_group(&mut self, build: BuildNumber, job: &Course) -> Result<bool, StoreError> {
        match &job.terms.concurrency {
            Some(terms) => Ok(job_group(&mut self.tx, build, job.id, terms).await?.is_ok()),
            None => Ok(true),
        }
    }

    async fn give_turn(&mut self, job: &Course) -> Result<(), StoreError> {
        let unmet = if job.terms.downstream.is_some() { -1 } else { 0 };
        self.left.downstream |= unmet < 0;
        sqlx::query("UPDATE jobs SET unmet = $2 WHERE id = $1")
            .bind(job.id.to_string())
            .bind(unmet)
            .execute(&mut *self.tx)
            .await?;
        Ok(())
    }

    async fn pass_over(&mut self, id: JobId, reason: String, now_ms: u64) -> Result<(), StoreError> {
        if let Some(job) = self.job(id).await? {
            // One that waits can always be passed over.
            self.step(&job, &Happening::PassedOver { reason }, now_ms).await?.ok();
        }
        Ok(())
    }

    /// A job ends because another one failed: that it is cancelled makes its build no worse. Gives where it stands now:
    /// one that nobody has is over at once.
    async fn end_for(
        &mut self,
        course: &Course,
        failed: &str,
        reason: &str,
        open: &mut Open,
        now_ms: u64,
    ) -> Result<At, StoreError> {
        let ending = At::Begun { ending: true };
        let Some(job) = self.job(course.id).await? else { return Ok(ending) };
        sqlx::query("UPDATE jobs SET ended_for = $2 WHERE id = $1")
            .bind(course.id.to_string())
            .bind(failed)
            .execute(&mut *self.tx)
            .await?;
        let asked = Happening::CancelAsked { reason: reason.to_owned() };
        let after = self.step(&job, &asked, now_ms).await?.ok();
        let stands = after.as_ref().map_or(ending, at);
        self.asked_to_end(after, reason, open);
        Ok(stands)
    }

    /// What is to be done about whoever has a job that was asked to end.
    fn asked_to_end(&mut self, after: Option<JobState>, reason: &str, open: &mut Open) {
        if let Some(JobState::Elsewhere { build, .. }) = &after {
            open.cancels.push(Cancel { build: *build, reason: reason.to_owned(), by: Asker::Parent });
        }
        self.say_asked_to_end(after, reason);
    }

    /// Its agent is told once this is on the disk.
    pub(super) fn say_asked_to_end(&mut self, after: Option<JobState>, reason: &str) {
        if let Some(JobState::Running { claim, agent, .. }) = after {
            self.effects.ending.push(AskedToEnd { claim, agent, reason: reason.to_owned() });
        }
    }

    async fn ask_to_end(&mut self, cancel: &Cancel, open: &mut Open, now_ms: u64) -> Result<bool, StoreError> {
        let again = self.note_cancel(cancel).await?;
        let asked = Happening::CancelAsked { reason: cancel.reason.clone() };
        let mut changed = false;
        for job in self.jobs(cancel.build).await? {
            let in_work = matches!(job.state, JobState::Running { .. } | JobState::Elsewhere { .. });
            let spared = cancel.by == Asker::Needless && in_work && job.terms.is_guarded();
            if spared || (job.terms.finally && !again) {
                continue;
            }
            let after = self.step(&job, &asked, now_ms).await?;
            changed |= after.is_ok();
            self.asked_to_end(after.ok(), &cancel.reason, open);
        }
        open.builds.insert(cancel.build);
        Ok(changed)
    }

    /// Writes down that a build was asked to end, and why at first. Gives whether a person asks who, or another, did before.
    async fn note_cancel(&mut self, cancel: &Cancel) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "UPDATE builds SET cancel_asked = coalesce(cancel_asked, $2), persons_asked = persons_asked + $3,
                    timed_out = timed_out OR ($4 AND cancel_asked IS NULL)
             WHERE number = $1 RETURNING persons_asked",
        )
        .bind(int(cancel.build.0))
        .bind(&cancel.reason)
        .bind(cancel.by == Asker::Person)
        .bind(cancel.by == Asker::Time)
        .fetch_optional(&mut *self.tx)
        .await?;
        let asked: i64 = row.map(|row| row.try_get("persons_asked")).transpose()?.unwrap_or(0);
        Ok(cancel.by == Asker::Person && asked > 1)
    }

    /// A job that waits for a build ends as that one does.
    async fn come_back(&mut self, build: BuildNumber, open: &mut Open, now_ms: u64) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT parent, ending FROM builds WHERE number = $1 AND ended_ms IS NOT NULL")
            .bind(int(build.0))
            .fetch_optional(&mut *self.tx)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let parent: Option<JobId> = super::name_or_none(&row, "parent")?;
        let Some(parent) = parent else { return Ok(()) };
        let ending: Ending = json(&row, "ending")?;
        let Some(job) = self.job(parent).await? else { return Ok(()) };
        let message = match ending.outcome {
            Outcome::Passed => None,
            outcome => Some(format!("build {build}, which it began, {}", ended_as(outcome, ending.message.as_deref()))),
        };
        let came_back = Happening::CameBack { ending: Ending::of(ending.outcome, message) };
        if matches!(job.state, JobState::Elsewhere { .. }) && self.step(&job, &came_back, now_ms).await?.is_ok() {
            open.builds.insert(job.build);
        }
        Ok(())
    }
}

fn ended_as(outcome: Outcome, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("ended as {outcome}: {message}"),
        None => format!("ended as {outcome}"),
    }
}
