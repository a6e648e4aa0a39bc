//! Builds of several jobs in the model: what each job needs, its gate, its lane, its group, and what comes last. Whose
//! turn it is decides [`protocol::course`], as it does in the coordinator; what must hold is looked at from outside.

use protocol::course::{self, At, Member, Place, Turn};
use protocol::outcome::Outcome;
use protocol::plan::{Concurrency, Lane, RunOn, TakeOrder};
use protocol::state::{Happening, JobState};
use protocol::{BuildNumber, JobKey};

use super::coordinator::Answers;
use super::{Control, Job, Without, World, name_of};
use crate::chance::Chance;

/// The groups that jobs of all builds share, with how many may be in each.
const GROUPS: [(&str, u32, TakeOrder); 3] =
    [("one", 1, TakeOrder::Build), ("two", 2, TakeOrder::Build), ("ready", 1, TakeOrder::Ready)];

/// When a job of a build may begin.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) build: u64,
    pub(super) key: JobKey,
    needs: Vec<JobKey>,
    run_on: RunOn,
    pub(super) finally: bool,
    pub(super) gated: bool,
    lane: Option<Lane>,
    pub(super) group: Option<Concurrency>,
}

/// What the store has of a job besides its state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether its turn has come.
    pub(super) turn: bool,
    pub(super) approved: bool,
    /// Whether it ever began.
    pub(super) ran: bool,
    /// Its place among those that wait for the same group, which goes by who was ready first.
    ready: Option<u64>,
    /// How often its build was asked to end.
    pub(super) cancels: u32,
}

/// The jobs of some builds.
pub(super) fn any(chance: &mut Chance) -> Vec<Job> {
    (1..=chance.within(1..5)).flat_map(|build| jobs_of(build, chance)).collect()
}

fn jobs_of(build: u64, chance: &mut Chance) -> Vec<Job> {
    let count = chance.within(1..6);
    let max = chance.percent(50).then_some(1 + u32::from(chance.percent(50)));
    let lane = Lane { name: "cells".to_owned(), max, fail_fast: chance.percent(50) };
    let mut jobs: Vec<Job> = Vec::new();
    for number in 0..count {
        let before = jobs.iter().map(|job| job.terms.key.clone());
        let needs = before.filter(|_| chance.percent(35)).collect();
        let run_on = *chance.one_of(&[RunOn::Passed, RunOn::Passed, RunOn::Passed, RunOn::Failed, RunOn::Always]);
        let group = chance.percent(35).then(|| {
            let (name, limit, order) = *chance.one_of(&GROUPS);
            Concurrency { group: name.to_owned(), limit, order }
        });
        let (gated, in_lane) = (chance.percent(15), chance.percent(30));
        let terms = Terms {
            build,
            key: format!("j{number}").parse().expect("a key"),
            needs,
            run_on,
            finally: false,
            gated,
            lane: in_lane.then(|| lane.clone()),
            group,
        };
        jobs.push(Job::any(terms, chance));
    }
    if chance.percent(40) {
        let terms = Terms {
            build,
            key: "finally".parse().expect("a key"),
            needs: Vec::new(),
            run_on: RunOn::Always,
            finally: true,
            gated: false,
            lane: None,
            group: None,
        };
        jobs.push(Job::any(terms, chance));
    }
    jobs
}

impl World {
    /// The places of a build's jobs, and what the course knows of them.
    fn members(&self, build: u64) -> (Vec<usize>, Vec<Member>) {
        let places: Vec<usize> = (0..self.jobs.len()).filter(|job| self.jobs[*job].terms.build == build).collect();
        let members = places.iter().map(|job| member(&self.jobs[*job])).collect();
        (places, members)
    }

    /// Lets everything follow from what happened, as the store does in the same transaction: until nothing more does.
    pub(super) fn advance(&mut self, answers: &mut Answers) -> Result<(), String> {
        let mut changed = true;
        while std::mem::take(&mut changed) {
            let mut builds: Vec<u64> = self.jobs.iter().map(|job| job.terms.build).collect();
            builds.dedup();
            for build in builds {
                changed |= self.advance_one(build, answers)?;
            }
        }
        Ok(())
    }

    fn advance_one(&mut self, build: u64, answers: &mut Answers) -> Result<bool, String> {
        let (places, members) = self.members(build);
        if let Some((place, failed)) = course::to_end(&members).into_iter().next() {
            self.ask_to_end(places[place], &format!("{failed} failed"), answers)?;
            return Ok(true);
        }
        for (place, job) in places.iter().enumerate() {
            if !matches!(members[place].at, At::Waiting { .. }) {
                continue;
            }
            match course::turn(&members, place) {
                Turn::Never(reason) => {
                    self.change(*job, &Happening::PassedOver { reason }, answers)?;
                    return Ok(true);
                }
                Turn::Now if self.has_group(*job) => {
                    self.tell(&format!("it is the turn of job {job}"));
                    self.jobs[*job].standing.turn = true;
                    self.turned(*job)?;
                    return Ok(true);
                }
                Turn::Now => self.is_ready(*job),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Only its group stands before a job.
    fn is_ready(&mut self, job: usize) {
        let by_time = self.jobs[job].terms.group.as_ref().is_some_and(|group| group.order == TakeOrder::Ready);
        if by_time && self.jobs[job].standing.ready.is_none() {
            let last = self.jobs.iter().filter_map(|job| job.standing.ready).max();
            self.jobs[job].standing.ready = Some(last.unwrap_or(0) + 1);
        }
    }

    fn has_group(&self, job: usize) -> bool {
        let terms = &self.jobs[job].terms;
        let Some(group) = &terms.group else { return true };
        let mut others = Vec::new();
        for (other, it) in self.jobs.iter().enumerate() {
            let same = it.terms.group.as_ref().is_some_and(|own| own.group == group.group);
            if other == job || !same || it.state.is_over() {
                continue;
            }
            let (places, members) = self.members(it.terms.build);
            let place = places.iter().position(|place| *place == other).unwrap_or_default();
            let in_line = course::is_in_line(&members, place);
            let was_first =
                it.standing.ready.is_some_and(|at| self.jobs[job].standing.ready.is_none_or(|own| at < own));
            others.push(Place { build: BuildNumber(it.terms.build), holds: it.standing.turn, in_line, was_first });
        }
        course::group(BuildNumber(terms.build), group, &others, None).is_ok()
    }

    /// A turn was given: nobody may have been overtaken.
    fn turned(&mut self, job: usize) -> Result<(), String> {
        let it = &self.jobs[job];
        let Some(group) = it.terms.group.as_ref().filter(|group| group.order == TakeOrder::Build) else {
            return Ok(());
        };
        let waited = self.waits_for_people(job);
        let newest = self.turned.entry(group.group.clone()).or_default();
        if *newest > it.terms.build && !waited {
            return Err(format!("job {job} of build {} was overtaken by build {newest}", it.terms.build));
        }
        *newest = (*newest).max(it.terms.build);
        Ok(())
    }

    /// Whether a person was asked before a job.
    fn waits_for_people(&self, job: usize) -> bool {
        let (places, members) = self.members(self.jobs[job].terms.build);
        let Some(place) = places.iter().position(|place| *place == job) else { return false };
        members[place].gated || course::before(&members, place).into_iter().any(|before| members[before].gated)
    }

    pub(super) fn ask_to_end(&mut self, job: usize, reason: &str, answers: &mut Answers) -> Result<(), String> {
        let asked = Happening::CancelAsked { reason: reason.to_owned() };
        self.change(job, &asked, answers)?;
        if let JobState::Running { claim, .. } = &self.jobs[job].state {
            answers.cancelled.push(*claim);
            if let Some(agent) = self.agent_of(*claim) {
                answers.controls.push((agent, Control::Cancel(*claim)));
            }
        }
        Ok(())
    }

    /// Somebody asks a build to end: the first time what comes last is left to run.
    pub(super) fn cancel_build(&mut self, build: u64) -> Result<(), String> {
        if !self.coordinator_listens() {
            return Ok(());
        }
        self.tell(&format!("somebody cancels build {build}"));
        let mut answers = Answers::default();
        for job in 0..self.jobs.len() {
            if self.jobs[job].terms.build != build {
                continue;
            }
            self.jobs[job].standing.cancels += 1;
            if !self.jobs[job].terms.finally || self.jobs[job].standing.cancels > 1 {
                self.ask_to_end(job, "by me", &mut answers)?;
            }
        }
        self.advance(&mut answers)?;
        self.give(answers);
        Ok(())
    }

    /// Somebody says at each gate that is open whether the job may begin.
    pub(super) fn answer_gates(&mut self) -> Result<(), String> {
        if !self.coordinator_listens() {
            return Ok(());
        }
        for job in 0..self.jobs.len() {
            let (places, members) = self.members(self.jobs[job].terms.build);
            let place = places.iter().position(|place| *place == job).unwrap_or_default();
            let waits = matches!(members[place].at, At::Waiting { .. });
            if !waits || course::turn(&members, place) != Turn::Gate {
                continue;
            }
            let mut answers = Answers::default();
            if self.chance.percent(75) {
                self.tell(&format!("somebody approves job {job}"));
                self.jobs[job].standing.approved = true;
            } else {
                let passed_over = Happening::PassedOver { reason: "rejected".to_owned() };
                self.change(job, &passed_over, &mut answers)?;
            }
            self.advance(&mut answers)?;
            self.give(answers);
        }
        Ok(())
    }

    /// What must hold at every moment, whatever the rules of turns are.
    pub(super) fn look_at_turns(&self) -> Result<(), String> {
        for (name, limit, _) in GROUPS {
            let of_group = |job: &&Job| job.terms.group.as_ref().is_some_and(|group| group.group == name);
            let begun = |job: &&Job| job.standing.turn && !job.state.is_over();
            let inside = self.jobs.iter().filter(of_group).filter(begun).count();
            if inside > limit as usize {
                return Err(format!("{inside} jobs are in group {name}, and {limit} may be"));
            }
        }
        for (number, job) in self.jobs.iter().enumerate() {
            if matches!(job.state, JobState::Skipped { .. }) && job.runs > 0 {
                return Err(format!("job {number} was passed over, and had begun"));
            }
            if !matches!(job.state, JobState::Running { .. }) {
                continue;
            }
            let siblings = || self.jobs.iter().filter(|other| other.terms.build == job.terms.build);
            let before = siblings().filter(|other| {
                other.terms.key != job.terms.key && (job.terms.finally || job.terms.needs.contains(&other.terms.key))
            });
            let mut before = before.map(|other| &other.state);
            if let Some(open) = before.find(|state| !state.is_over()) {
                return Err(format!("job {number} runs before its turn: something before it is {open:?}"));
            }
            if job.terms.gated && !job.standing.approved {
                return Err(format!("job {number} runs before its turn: nobody approved it"));
            }
            if let Some(lane) = job.terms.lane.as_ref().and_then(|lane| Some((lane, lane.max?))) {
                let of_lane = |other: &&Job| other.terms.lane.as_ref().is_some_and(|own| own.name == lane.0.name);
                let running = |other: &&Job| matches!(other.state, JobState::Running { .. });
                let at_once = siblings().filter(of_lane).filter(running).count();
                if at_once > lane.1 as usize {
                    return Err(format!("{at_once} of a lane run, and {} may", lane.1));
                }
            }
        }
        Ok(())
    }

    /// What must hold once all is over.
    pub(super) fn look_at_ends(&self) -> Result<(), String> {
        for job in self.jobs.iter().filter(|job| job.terms.finally) {
            let others =
                || self.jobs.iter().filter(|other| other.terms.build == job.terms.build && !other.terms.finally);
            let ran = others().any(|other| other.standing.ran);
            let skipped = matches!(job.state, JobState::Skipped { .. });
            if ran == skipped {
                return Err(format!(
                    "build {}: something of it ran is {ran}, and finally {:?}",
                    job.terms.build, job.state
                ));
            }
        }
        for job in
            self.jobs.iter().filter(|job| job.standing.cancels == 0 && !job.terms.gated && job.terms.lane.is_none())
        {
            let skipped = matches!(job.state, JobState::Skipped { .. });
            let passed = |key: &JobKey| {
                self.jobs.iter().any(|other| {
                    let it = other.terms.build == job.terms.build && other.terms.key == *key;
                    it && matches!(&other.state, JobState::Ended(ending) if ending.outcome == Outcome::Passed)
                })
            };
            let all = job.terms.needs.iter().all(passed);
            if job.terms.run_on == RunOn::Passed && !job.terms.finally && all == skipped {
                return Err(format!(
                    "build {}: {} is {:?}, though all it needs passed is {all}",
                    job.terms.build, job.terms.key, job.state
                ));
            }
        }
        Ok(())
    }

    /// Whether a job may be put on the queue.
    pub(super) fn is_offered(&self, job: usize) -> bool {
        self.jobs[job].standing.turn || self.without == Without::Turns
    }

    /// Whether a claim of an agent for a job that waits is looked at.
    pub(super) fn claimed_by(&mut self, job: usize, agent: usize, claim: protocol::ClaimId) -> Option<Happening> {
        self.is_offered(job).then(|| Happening::Claimed { claim, agent: name_of(agent) })
    }
}

fn member(job: &Job) -> Member {
    let Terms { key, needs, run_on, finally, gated, lane, .. } = &job.terms;
    let at = match &job.state {
        JobState::Queued { .. } if !job.standing.turn => At::Waiting { approved: job.standing.approved },
        JobState::Queued { .. } => At::Begun { ending: false },
        JobState::Running { cancelling, .. } | JobState::Elsewhere { cancelling, .. } => {
            At::Begun { ending: cancelling.is_some() }
        }
        JobState::Ended(ending) => At::Ended(ending.outcome),
        JobState::Skipped { .. } => At::Skipped,
    };
    let (finally, gated, ran) = (*finally, *gated, job.standing.ran);
    let (key, needs, lane) = (key.clone(), needs.clone(), lane.clone());
    Member { key, needs, run_on: *run_on, finally, gated, elsewhere: false, lane, at, ran }
}
