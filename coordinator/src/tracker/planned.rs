//! From a plan to jobs. A plan comes from a user's file, so it is believed only within its caps.

use std::collections::{HashMap, HashSet};

use protocol::JobKey;
use protocol::outcome::{Cause, Ending};
use protocol::plan::{BuildPlan, Concurrency, Downstream, Gate, MAX_JOBS, MAX_PLAN_BYTES, PlannedJob, Variable};
use protocol::state::JobState;

use super::Turn;
use crate::config::Supersede;
use crate::intake::{check_variables, planning_key};
use crate::store::{Asker, Attempt, Build, Job, StoreError};

/// How long a build's `finally` may take.
const FINALLY_MS: u64 = 5 * 60 * 1000;

/// The most labels that a job may ask for, and the most values that a gate does.
const MOST: usize = 32;

/// The most sealed values of a job: each takes its time to open.
const MOST_SEALED: usize = 64;

/// The longest name of a group or lane, and the longest question, in characters.
const LONGEST: usize = 500;

impl Turn<'_> {
    /// One job that this agent may run goes on in its slot; all else becomes jobs of their own, and the planning
    /// ends.
    pub(super) async fn planned(
        &mut self,
        attempt: &Attempt,
        job: &Job,
        jobs: &[PlannedJob],
        build: &BuildPlan,
    ) -> Result<(), StoreError> {
        if job.plan.is_some() {
            return Ok(());
        }
        let goes_on = PlannedJob::going_on(jobs, build);
        if let JobState::Running { cancelling: Some(reason), .. } = &job.state
            && goes_on.is_none()
        {
            // Its agent had made the plan when the word came. An only job that goes on is ended by its agent.
            return self.end(attempt, job, Ending::cancelled(reason.clone())).await;
        }
        if let Err(message) = check_plan(jobs, build) {
            self.end(attempt, job, Ending::errored(Cause::Limit, message)).await?;
            self.abort(attempt, "its plan was refused");
            return Ok(());
        }
        self.tx.plan_build(job.build, build, jobs).await?;
        let Some(known) = self.tx.build(job.build).await? else { return Ok(()) };
        self.supersede(&known, jobs, build).await?;
        self.schedules(&known, &build.schedules).await?;
        if let Some(only) = goes_on {
            self.tx.plan_job(job, only).await?;
            return self.tx.advance(job.build, self.now_ms).await;
        }
        for planned in jobs {
            self.tx.insert_planned(job.build, &guarded(planned), self.now_ms).await?;
        }
        self.end(attempt, job, Ending::passed()).await?;
        if jobs.len() == 1 {
            // An agent that is too old to know goes on with it.
            self.abort(attempt, "its plan became a job of its own");
        }
        Ok(())
    }

    /// Ends the older builds that this one makes needless, but nothing of them that must not be cut short.
    async fn supersede(&mut self, build: &Build, jobs: &[PlannedJob], plan: &BuildPlan) -> Result<(), StoreError> {
        let usual = match self.desk.config.supersede {
            Supersede::Never => false,
            Supersede::PullRequests => build.origin.pull_request.is_some(),
            Supersede::Always => true,
        };
        if !plan.cancel_superseded.unwrap_or(usual) {
            return Ok(());
        }
        if !self.tx.is_of_tip(build.number).await? {
            // An older commit that somebody wants to have again makes nothing needless.
            return Ok(());
        }
        for older in self.tx.superseded_by(build, jobs).await? {
            let reason = format!("superseded by {}", build.number);
            self.tx.cancel(older, &reason, Asker::Needless, self.now_ms).await?;
        }
        Ok(())
    }
}

/// A job as the farm takes it on: what a person let begin, or a group admits, is never begun twice, and what comes last
/// does not last.
fn guarded(planned: &PlannedJob) -> PlannedJob {
    let mut planned = planned.clone();
    let once = planned.gate.is_some() || planned.concurrency.is_some();
    for stage in &mut planned.plan.stages {
        stage.not_twice |= once;
        if planned.finally {
            stage.timeout_ms = Some(stage.timeout_ms.unwrap_or(FINALLY_MS).min(FINALLY_MS));
        }
    }
    planned
}

/// Whether a plan is one that the farm takes on.
fn check_plan(jobs: &[PlannedJob], build: &BuildPlan) -> Result<(), String> {
    if jobs.is_empty() && build.skipped.is_empty() {
        return Err("the plan has no job".to_owned());
    }
    if jobs.len() > MAX_JOBS {
        return Err(format!("the build has {} jobs, and {MAX_JOBS} are the most; make its matrix smaller", jobs.len()));
    }
    let bytes = serde_json::to_vec(&(jobs, build)).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > MAX_PLAN_BYTES {
        let limit = MAX_PLAN_BYTES >> 10;
        return Err(format!("the build's plan is larger than {limit} KiB; move long scripts into files"));
    }
    check_turns(build)?;
    let mut keys: HashSet<&JobKey> = HashSet::from([]);
    let reserved = planning_key();
    for job in jobs {
        if job.key == reserved || !keys.insert(&job.key) {
            return Err(format!("the build has two jobs of the name {:?}", job.key.as_str()));
        }
        check_terms(job).map_err(|wrong| format!("job {}: {wrong}", job.key))?;
    }
    check_finally(jobs)?;
    check_needs(jobs)
}

/// Whether what a job says about when it may begin can be kept.
fn check_terms(job: &PlannedJob) -> Result<(), String> {
    if job.labels.iter().count() > MOST {
        return Err(format!("it asks for more than {MOST} labels"));
    }
    if job.plan.secure_values().len() > MOST_SEALED {
        return Err(format!(
            "it has more than {MOST_SEALED} sealed values; have the farm keep some of them as secrets"
        ));
    }
    if let Some(gate) = &job.gate {
        check_gate(gate)?;
    }
    if let Some(terms) = &job.concurrency {
        check_group(terms)?;
    }
    if let Some(lane) = &job.lane {
        check_name("the lane", &lane.name)?;
        if lane.max == Some(0) {
            return Err("its lane has room for none (max: 0)".to_owned());
        }
    }
    job.downstream.as_ref().map_or(Ok(()), |downstream| check_downstream(job, downstream))
}

fn check_downstream(job: &PlannedJob, downstream: &Downstream) -> Result<(), String> {
    if !job.plan.stages.is_empty() {
        return Err("it begins another build, and has stages of its own".to_owned());
    }
    if downstream.wait && job.concurrency.is_some() {
        // Whoever has a turn waits for nothing but an agent, so that no two wait for each other.
        let instead = "give the group to a stage of that build instead";
        return Err(format!("it waits for another build, and must not hold a concurrency group meanwhile; {instead}"));
    }
    check_variables(&downstream.vars)
}

fn check_gate(gate: &Gate) -> Result<(), String> {
    if gate.ask.as_ref().is_some_and(|ask| ask.chars().count() > LONGEST) {
        return Err(format!("the question at its gate is longer than {LONGEST} characters"));
    }
    if gate.inputs.len() > MOST || gate.allow.len() > MOST {
        return Err(format!("its gate has more than {MOST} inputs or people"));
    }
    let mut names = HashSet::new();
    for input in &gate.inputs {
        let value = input.default.clone().unwrap_or_default();
        check_variables(&[Variable::new(&input.name, value)])?;
        if !names.insert(&input.name) {
            return Err(format!("its gate asks for {} twice", input.name));
        }
        let among = |value: &String| input.choices.is_empty() || input.choices.contains(value);
        if input.default.as_ref().is_some_and(|default| !among(default)) {
            return Err(format!("the default of {} is none of its choices", input.name));
        }
    }
    Ok(())
}

fn check_group(terms: &Concurrency) -> Result<(), String> {
    if terms.limit == 0 {
        return Err(format!("the concurrency group {} lets none begin (limit: 0)", terms.group));
    }
    check_name("the concurrency group", &terms.group)
}

/// Each pipeline waits for one turn at the most.
fn check_turns(build: &BuildPlan) -> Result<(), String> {
    let mut named = HashSet::new();
    for (pipeline, terms) in build.turns() {
        check_group(terms)?;
        if pipeline.is_some_and(|pipeline| pipeline == "*" || !named.insert(pipeline)) {
            return Err(format!("the turns of its pipelines are not one for each ({})", pipeline.unwrap_or_default()));
        }
    }
    if named.len() > MAX_JOBS { Err(format!("more than {MAX_JOBS} of its pipelines wait for turns")) } else { Ok(()) }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().count() > LONGEST || name.chars().any(char::is_control) {
        return Err(format!("the name of {what} is empty, longer than {LONGEST} characters, or not printable"));
    }
    Ok(())
}

/// A `finally`, of which each pipeline may have one, waits for all other jobs and for nothing else.
fn check_finally(jobs: &[PlannedJob]) -> Result<(), String> {
    for job in jobs.iter().filter(|job| job.finally) {
        let waits = job.gate.is_some() || job.concurrency.is_some() || job.lane.is_some() || job.downstream.is_some();
        if waits || !job.needs.is_empty() {
            return Err(format!("job {} comes last (finally), and waits for something besides", job.key));
        }
        if let Some(other) = jobs.iter().find(|other| other.needs.contains(&job.key)) {
            return Err(format!("job {} needs {}, which comes last (finally)", other.key, job.key));
        }
    }
    Ok(())
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
mod tests;
