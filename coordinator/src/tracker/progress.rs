//! What happens in a job. Events of a claim that is not current are kept under its attempt and change nothing else.

use std::collections::{HashMap, HashSet};

use protocol::control::Control;
use protocol::outcome::{Cause, Ending};
use protocol::plan::{MAX_JOBS, MAX_PLAN_BYTES, PlannedJob};
use protocol::report::{JobEvent, Progress};
use protocol::state::{Happening, JobState};
use protocol::{ClaimId, JobKey};

use super::Turn;
use crate::feed::Change;
use crate::intake::planning_key;
use crate::store::{Attempt, AttemptState, Job, NewJob, Settled, StoreError};

const NOT_CURRENT: &str = "the claim is no longer current";

impl Turn<'_> {
    pub(super) async fn progress(&mut self, progress: &Progress) -> Result<(), StoreError> {
        let Some(attempt) = self.tx.attempt(progress.claim).await? else {
            // Whose it is nobody knows; its agent's next heartbeat names it, and is answered.
            tracing::warn!("an event of the unknown claim {:?} changes nothing", progress.claim);
            return Ok(());
        };
        let Some(job) = self.tx.job(attempt.job).await? else { return Ok(()) };
        let current = job.state.claim() == Some(attempt.claim);
        if current && progress.seq > attempt.last_seq + 1 {
            // What lies between was lost on its way, such as with a queue that somebody emptied. Events are taken in
            // order, so the agent goes back to where this store is.
            let noted = Control::Noted { claim: attempt.claim, seq: attempt.last_seq };
            self.answers.tell(&attempt.agent, noted);
            return Ok(());
        }
        if progress.seq > attempt.last_seq {
            self.tx.took_event(attempt.claim, progress.seq).await?;
            if current {
                self.happened(&attempt, &job, &progress.event).await?;
            } else {
                self.note(&attempt, &progress.event).await?;
            }
            self.answers.say(Change::Build(job.build));
        }
        match (&progress.event, attempt.state) {
            // Whatever became of it, the agent need not keep it.
            (JobEvent::Finished { .. }, _) => {
                self.answers.tell(&attempt.agent, Control::Recorded { claim: attempt.claim });
            }
            (JobEvent::StageStarted { not_twice: true, .. }, _) if current => {
                self.may_begin(&attempt, &job, attempt.last_seq.max(progress.seq));
            }
            (JobEvent::StageStarted { not_twice: true, .. }, _) | (_, AttemptState::Lost | AttemptState::Abandoned) => {
                self.abort(&attempt, NOT_CURRENT);
            }
            _ => {}
        }
        Ok(())
    }

    /// What a stage that must not run twice waits for: from now on its attempt is the job's last. One that is asked to
    /// end begins nothing more.
    pub(super) fn may_begin(&mut self, attempt: &Attempt, job: &Job, seq: u64) {
        let claim = attempt.claim;
        let control = match &job.state {
            JobState::Running { cancelling: Some(reason), .. } => Control::Cancel { claim, reason: reason.clone() },
            _ => Control::Noted { claim, seq },
        };
        self.answers.tell(&attempt.agent, control);
    }

    async fn happened(&mut self, attempt: &Attempt, job: &Job, event: &JobEvent) -> Result<(), StoreError> {
        match event {
            JobEvent::CheckedOut { commit, branch, subject, author } => {
                self.tx.pin(job.build, commit.as_ref(), branch.as_ref(), subject, author).await
            }
            JobEvent::Planned { jobs, .. } => self.planned(attempt, job, jobs).await,
            JobEvent::Finished { ending } => self.end(attempt, job, ending.clone()).await,
            JobEvent::StageStarted { stage, not_twice, .. } => {
                // An agent that is too old to ask begins it all the same; that it began is remembered then too.
                let planned = job.plan.iter().flat_map(|plan| &plan.stages).find(|planned| planned.name == *stage);
                if *not_twice || planned.is_some_and(|planned| planned.not_twice) {
                    self.tx.begins_not_twice(attempt.claim).await?;
                }
                self.note(attempt, event).await
            }
            _ => self.note(attempt, event).await,
        }
    }

    /// Writes down what concerns the attempt alone.
    async fn note(&mut self, attempt: &Attempt, event: &JobEvent) -> Result<(), StoreError> {
        let claim = attempt.claim;
        match event {
            JobEvent::Settled { acknowledged: true } => self.tx.settle(claim, Settled::Acknowledged).await,
            JobEvent::Settled { acknowledged: false } => self.tx.settle(claim, Settled::Again).await,
            JobEvent::StageStarted { stage, image, .. } => self.tx.stage_started(claim, stage, image).await,
            JobEvent::StageEnded { stage, result, duration_ms } => {
                self.tx.stage_ended(claim, stage, result, *duration_ms).await
            }
            JobEvent::LogComplete { log, total } => self.tx.log_complete(claim, log, *total).await,
            JobEvent::CheckedOut { .. }
            | JobEvent::Planned { .. }
            | JobEvent::Finished { .. }
            | JobEvent::ImageFound { .. }
            | JobEvent::StageTried { .. }
            | JobEvent::ArtifactsKept { .. }
            | JobEvent::TestsRead { .. }
            | JobEvent::CoverageRead { .. }
            | JobEvent::HandedOn { .. }
            | JobEvent::Summary { .. }
            | JobEvent::Unknown => Ok(()),
        }
    }

    /// One job that this agent may run goes on in its slot; all else becomes jobs of their own, and the planning
    /// ends. A plan comes from a user's file, so it is believed only within its caps.
    async fn planned(&mut self, attempt: &Attempt, job: &Job, jobs: &[PlannedJob]) -> Result<(), StoreError> {
        if job.plan.is_some() {
            return Ok(());
        }
        if let Err(message) = check_plan(jobs) {
            self.end(attempt, job, Ending::errored(Cause::Limit, message)).await?;
            self.abort(attempt, "its plan was refused");
            return Ok(());
        }
        if let [only] = jobs {
            let agent = self.tx.agent(&attempt.agent).await?;
            if agent.is_some_and(|agent| only.labels.satisfied_by(&agent.approved)) {
                return self.tx.plan_job(job, &only.key, &only.plan).await;
            }
        }
        for planned in jobs {
            let new = NewJob {
                key: planned.key.clone(),
                needs: planned.needs.clone(),
                labels: planned.labels.clone(),
                plan: Some(planned.plan.clone()),
            };
            self.tx.insert_job(job.build, &new, self.now_ms).await?;
        }
        self.end(attempt, job, Ending::passed()).await
    }

    async fn end(&mut self, attempt: &Attempt, job: &Job, ending: Ending) -> Result<(), StoreError> {
        let finished = Happening::Finished { claim: attempt.claim, ending };
        if self.tx.apply(job, &finished, self.now_ms).await?.is_ok() {
            self.gone(attempt.claim);
        }
        Ok(())
    }

    fn gone(&mut self, claim: ClaimId) {
        self.answers.gone(claim);
        self.answers.say(Change::Agents);
        self.answers.say(Change::Outbox);
    }

    fn abort(&mut self, attempt: &Attempt, reason: &str) {
        self.answers.tell(&attempt.agent, Control::Abort { claim: attempt.claim, reason: reason.to_owned() });
    }
}

/// Whether a plan is one that the farm takes on.
fn check_plan(jobs: &[PlannedJob]) -> Result<(), String> {
    if jobs.is_empty() {
        return Err("the plan has no job".to_owned());
    }
    if jobs.len() > MAX_JOBS {
        return Err(format!("the build has {} jobs, and {MAX_JOBS} are the most; make its matrix smaller", jobs.len()));
    }
    let bytes = serde_json::to_vec(jobs).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > MAX_PLAN_BYTES {
        let limit = MAX_PLAN_BYTES >> 10;
        return Err(format!("the build's plan is larger than {limit} KiB; move long scripts into files"));
    }
    let mut keys: HashSet<&JobKey> = HashSet::from([]);
    let reserved = planning_key();
    for job in jobs {
        if job.key == reserved || !keys.insert(&job.key) {
            return Err(format!("the build has two jobs of the name {:?}", job.key.as_str()));
        }
    }
    check_needs(jobs)
}

/// Whether each job can come to its turn: all that it needs is there, and nothing needs itself.
fn check_needs(jobs: &[PlannedJob]) -> Result<(), String> {
    let mut open: HashMap<&JobKey, HashSet<&JobKey>> = HashMap::new();
    for job in jobs {
        let needs: HashSet<&JobKey> = job.needs.iter().collect();
        if needs.len() < job.needs.len() {
            return Err(format!("job {} needs one job twice", job.key));
        }
        open.insert(&job.key, needs);
    }
    for job in jobs {
        if let Some(missing) = job.needs.iter().find(|need| !open.contains_key(need)) {
            return Err(format!("job {} needs {missing}, which is not there", job.key));
        }
    }
    while !open.is_empty() {
        let ready: Vec<&JobKey> = open.iter().filter(|(_, needs)| needs.is_empty()).map(|(key, _)| *key).collect();
        if ready.is_empty() {
            let mut keys: Vec<&str> = open.keys().map(|key| key.as_str()).collect();
            keys.sort_unstable();
            return Err(format!("the jobs {} need each other in a circle", keys.join(", ")));
        }
        for key in ready {
            open.remove(key);
            open.values_mut().for_each(|needs| {
                needs.remove(key);
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Plan;

    fn job(key: &str, needs: &[&str]) -> PlannedJob {
        let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new())) }
    }

    #[track_caller]
    fn check(jobs: &[PlannedJob], expect: Result<(), &str>) {
        match (check_plan(jobs), expect) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(expect)) if got.contains(expect) => {}
            (got, expect) => panic!("{got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn a_plan_is_believed_within_its_caps() {
        check(&[job("a", &[])], Ok(()));
        check(&[job("c", &["a", "b"]), job("a", &[]), job("b", &["a"])], Ok(()));
        check(&[], Err("no job"));
        check(&[job("a", &[]), job("a", &[])], Err("two jobs"));
        check(&[job("(plan)", &[])], Err("two jobs"));
        check(&[job("a", &["x"])], Err("needs x, which is not there"));
        check(&[job("a", &["b", "b"]), job("b", &[])], Err("twice"));
        check(&[job("a", &["b"]), job("b", &["a"]), job("c", &[])], Err("a, b need each other"));
        check(&[job("a", &["a"])], Err("circle"));
        let many: Vec<PlannedJob> = (0..=MAX_JOBS).map(|number| job(&number.to_string(), &[])).collect();
        check(&many, Err("257 jobs"));
        let mut long = job("a", &[]);
        long.plan.image = "x".repeat(MAX_PLAN_BYTES).into();
        check(&[long], Err("larger than 1024 KiB"));
    }
}
