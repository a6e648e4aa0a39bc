//! The coordinator of the model: rows that follow [`JobState::after`], answers after the commit, leases counted by its
//! own watching. It may die at any of the borders of a batch: before its commit, after it, and before the reports are
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ClaimId;
use protocol::state::{Happening, JobState};

use super::{Control, Event, LEASE, MAX_ATTEMPTS, Message, Phase, Report, Without, World, short};

/// How long a cancelled job's agent may go on.
const CANCEL_PATIENCE: u64 = 15_000;

/// How long an offer may lie before it is made again.
const OFFER_AGAIN: u64 = 8_000;

/// A pause of its own that counts for nobody's silence.
const OWN_GAP: u64 = 2_000;

/// How long it is away after its death.
const AWAY: u64 = 1_500;

/// What it knows. Only what is `stored` outlives it.
pub(super) struct Coordinator {
    pub(super) is_up: bool,
    pub(super) paused_until: u64,
    /// It hardly reads reports until then, for its disk is slow; it watches all the same.
    pub(super) busy_until: u64,
    /// Where it dies next: before the commit, after it, or after the answers.
    pub(super) dies_at: Option<u64>,
    /// When no report lay unread.
    pub(super) all_read_at: u64,
    back_at: u64,
    last_look: u64,
    leases: BTreeMap<ClaimId, Lease>,
    stored: Stored,
}

#[derive(Clone, Default)]
struct Stored {
    attempts: BTreeMap<ClaimId, Attempt>,
    denied: BTreeSet<ClaimId>,
    /// When each job was offered last.
    offered: BTreeMap<usize, u64>,
}

#[derive(Clone)]
struct Attempt {
    job: usize,
    agent: usize,
    last_seq: u64,
    not_twice: bool,
}

impl Stored {
    fn attempts_before(&self, job: usize, claim: ClaimId) -> u32 {
        let others = self.attempts.iter().filter(|(other, attempt)| **other != claim && attempt.job == job);
        u32::try_from(others.count()).unwrap_or(u32::MAX)
    }
}

struct Lease {
    life: usize,
    seen: u64,
    cancel_asked: Option<u64>,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self {
            is_up: true,
            paused_until: 0,
            busy_until: 0,
            dies_at: None,
            all_read_at: 0,
            back_at: 0,
            last_look: 0,
            leases: BTreeMap::new(),
            stored: Stored::default(),
        }
    }
}

/// What a transaction wants to have done once it is on the disk.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) controls: Vec<(usize, Control)>,
    /// Claims whose jobs were asked to end.
    pub(super) cancelled: Vec<ClaimId>,
    seen: Vec<(ClaimId, usize)>,
    gone: Vec<ClaimId>,
}

impl World {
    pub(super) fn coordinate(&mut self) -> Result<(), String> {
        if !self.coordinator.is_up {
            if self.now >= self.coordinator.back_at {
                self.resume();
            }
            return Ok(());
        }
        if self.now < self.coordinator.paused_until {
            return Ok(());
        }
        let most = if self.rough { self.chance.within(0..20) } else { 100 };
        let is_busy = self.now < self.coordinator.busy_until;
        if !is_busy || self.chance.percent(5) {
            self.batch(if is_busy { 1 } else { usize::try_from(most).unwrap_or(0) })?;
        }
        if self.reports.is_empty() {
            self.coordinator.all_read_at = self.now;
        }
        if self.coordinator.is_up {
            self.watch()?;
            self.offer();
        }
        Ok(())
    }

    /// One transaction's worth of reports, with a death at any of its borders.
    fn batch(&mut self, most: usize) -> Result<(), String> {
        let reports: Vec<Report> = self.reports.iter().take(most).cloned().collect();
        if reports.is_empty() {
            return Ok(());
        }
        let dies = self.coordinator.dies_at.take();
        let before = (
            self.coordinator.stored.clone(),
            self.jobs.iter().map(|job| (job.state.clone(), job.standing)).collect::<Vec<_>>(),
        );
        let turned = self.turned.clone();
        let mut answers = Answers::default();
        for report in &reports {
            self.apply(report, &mut answers)?;
        }
        if dies == Some(0) {
            // Nothing of it was committed, and all of it comes again.
            self.coordinator.stored = before.0;
            self.turned = turned;
            for (job, (state, standing)) in self.jobs.iter_mut().zip(before.1) {
                (job.state, job.standing) = (state, standing);
            }
            self.kill_coordinator();
            return Ok(());
        }
        if dies == Some(1) {
            // Committed; nobody was answered, and all of it comes again.
            self.kill_coordinator();
            return Ok(());
        }
        self.give(answers);
        if dies == Some(2) {
            self.kill_coordinator();
            return Ok(());
        }
        self.reports.drain(..reports.len());
        Ok(())
    }

    pub(super) fn give(&mut self, answers: Answers) {
        for (claim, life) in answers.seen {
            let now = self.now;
            let lease = self.coordinator.leases.entry(claim);
            lease.or_insert(Lease { life, seen: now, cancel_asked: None }).seen = now;
        }
        for claim in answers.gone {
            self.coordinator.leases.remove(&claim);
        }
        for claim in answers.cancelled {
            let now = self.now;
            if let Some(lease) = self.coordinator.leases.get_mut(&claim) {
                lease.cancel_asked.get_or_insert(now);
            }
        }
        for (agent, control) in answers.controls {
            self.say(agent, control);
        }
    }

    fn apply(&mut self, report: &Report, answers: &mut Answers) -> Result<(), String> {
        match report {
            Report::Claim { life, claim, job } => self.claimed(*life, *claim, *job, answers),
            Report::Abandoned { claim } => {
                match self.coordinator.stored.attempts.get(claim).map(|attempt| attempt.job) {
                    Some(job) => self.happen(job, &Happening::Abandoned { claim: *claim }, answers)?,
                    None => _ = self.coordinator.stored.denied.insert(*claim),
                }
                Ok(())
            }
            Report::Heartbeat { life, held } => {
                let agent = self.lives[*life].name;
                for (claim, phase, waits_for) in held {
                    self.held(agent, *life, *claim, *phase, *waits_for, answers);
                }
                Ok(())
            }
            Report::Progress { claim, seq, event } => self.progress(*claim, *seq, event, answers),
        }
    }

    fn claimed(&mut self, life: usize, claim: ClaimId, job: usize, answers: &mut Answers) -> Result<(), String> {
        let agent = self.lives[life].name;
        if self.coordinator.stored.attempts.contains_key(&claim) {
            let current = self.jobs[job].state.claim() == Some(claim);
            let over = matches!(self.jobs[job].state, JobState::Ended(_)) && self.truth.contains_key(&claim);
            let control = match (current, over) {
                (true, _) => Control::Granted(claim),
                (false, true) => Control::Recorded(claim),
                (false, false) => Control::Denied(claim),
            };
            answers.controls.push((agent, control));
            return Ok(());
        }
        let taken =
            self.claimed_by(job, agent, claim).filter(|taken| self.jobs[job].state.clone().after(taken).is_ok());
        let Some(taken) = taken.filter(|_| !self.coordinator.stored.denied.contains(&claim)) else {
            self.coordinator.stored.denied.insert(claim);
            answers.controls.push((agent, Control::Denied(claim)));
            return Ok(());
        };
        self.happen(job, &taken, answers)?;
        let attempt = Attempt { job, agent, last_seq: 0, not_twice: false };
        self.coordinator.stored.attempts.insert(claim, attempt);
        answers.seen.push((claim, life));
        answers.controls.push((agent, Control::Granted(claim)));
        Ok(())
    }

    fn held(
        &mut self,
        agent: usize,
        life: usize,
        claim: ClaimId,
        phase: Phase,
        waits_for: Option<u64>,
        answers: &mut Answers,
    ) {
        let attempt = self.coordinator.stored.attempts.get(&claim).filter(|attempt| attempt.agent == agent);
        let state = attempt.map(|attempt| &self.jobs[attempt.job].state).filter(|state| state.claim() == Some(claim));
        if let (Some(attempt), Some(state)) = (attempt, state) {
            answers.seen.push((claim, life));
            if self.without == Without::Healing {
                return;
            }
            let control = match (phase, state) {
                (Phase::Pending, _) => Control::Granted(claim),
                (Phase::Running, JobState::Running { cancelling: Some(_), .. }) => Control::Cancel(claim),
                (Phase::Running, _) if waits_for.is_some() => Control::Noted(claim, attempt.last_seq),
                (Phase::Running | Phase::Ended, _) => return,
            };
            answers.controls.push((agent, control));
            return;
        }
        if self.without == Without::Healing {
            return;
        }
        let known = attempt.is_some() || self.coordinator.stored.denied.contains(&claim);
        match phase {
            Phase::Pending if known => answers.controls.push((agent, Control::Denied(claim))),
            Phase::Pending => {}
            Phase::Running => answers.controls.push((agent, Control::Abort(claim))),
            Phase::Ended => answers.controls.push((agent, Control::Recorded(claim))),
        }
    }

    fn progress(&mut self, claim: ClaimId, seq: u64, event: &Event, answers: &mut Answers) -> Result<(), String> {
        let Some(attempt) = self.coordinator.stored.attempts.get_mut(&claim) else { return Ok(()) };
        let (job, agent) = (attempt.job, attempt.agent);
        let current = self.jobs[job].state.claim() == Some(claim);
        if current && seq > attempt.last_seq + 1 {
            answers.controls.push((agent, Control::Noted(claim, attempt.last_seq)));
            return Ok(());
        }
        let is_new = seq > attempt.last_seq;
        attempt.last_seq = attempt.last_seq.max(seq);
        let last_seq = attempt.last_seq;
        let remembers = self.without != Without::Memory;
        if is_new && current && remembers && matches!(event, Event::Started { not_twice: true }) {
            attempt.not_twice = true;
        }
        let not_twice = attempt.not_twice;
        if let Event::Finished(ending) = event {
            if is_new {
                let (ending, max_attempts) = (ending.clone(), MAX_ATTEMPTS);
                self.happen(job, &Happening::Finished { claim, ending, not_twice, max_attempts }, answers)?;
            }
            answers.controls.push((agent, Control::Recorded(claim)));
        } else if !current {
            answers.controls.push((agent, Control::Abort(claim)));
        } else if matches!(event, Event::Started { not_twice: true }) {
            let control = match &self.jobs[job].state {
                JobState::Running { cancelling: Some(_), .. } => Control::Cancel(claim),
                _ => Control::Noted(claim, last_seq),
            };
            answers.controls.push((agent, control));
        }
        Ok(())
    }

    /// Lets something happen to a job, and to others what follows from that.
    fn happen(&mut self, job: usize, happening: &Happening, answers: &mut Answers) -> Result<(), String> {
        self.change(job, happening, answers)?;
        self.advance(answers)
    }

    pub(super) fn agent_of(&self, claim: ClaimId) -> Option<usize> {
        self.coordinator.stored.attempts.get(&claim).map(|attempt| attempt.agent)
    }

    pub(super) fn coordinator_listens(&self) -> bool {
        self.coordinator.is_up && self.now >= self.coordinator.paused_until
    }

    /// Lets something happen to a job, by the farm's own rules, and looks whether these held.
    pub(super) fn change(&mut self, job: usize, happening: &Happening, answers: &mut Answers) -> Result<(), String> {
        let before = self.jobs[job].state.clone();
        let Ok(after) = before.clone().after(happening) else { return Ok(()) };
        if let JobState::Ended(ending) = &before {
            return Err(format!("job {job} had ended as {} and became {after:?}", ending.outcome));
        }
        if let (Happening::Finished { claim, ending, .. }, JobState::Ended(recorded)) = (happening, &after)
            && (recorded != ending || self.truth.get(claim) != Some(ending))
        {
            return Err(format!("job {job} is recorded as {recorded:?}, and ended as {:?}", self.truth.get(claim)));
        }
        if let Some(claim) = before.claim().filter(|claim| after.claim() != Some(*claim)) {
            answers.gone.push(claim);
        }
        let told = match &after {
            JobState::Queued { attempts } => format!("is queued, {attempts} attempts lost"),
            JobState::Running { claim, attempt, .. } => format!("is run, attempt {attempt}, under {}", short(*claim)),
            JobState::Elsewhere { build, .. } => format!("is build {build}"),
            JobState::Ended(ending) => format!("has ended: {}", ending.outcome),
            JobState::Skipped { reason } => format!("is skipped: {reason}"),
        };
        self.tell(&format!("job {job} {told}"));
        self.jobs[job].standing.ran = match (happening, &after) {
            (Happening::Claimed { .. }, _) => true,
            // What was given up before its grant came did not begin, unless it had before.
            (Happening::Abandoned { .. }, JobState::Queued { attempts: 0 }) => false,
            _ => self.jobs[job].standing.ran,
        };
        self.jobs[job].state = after;
        self.coordinator.stored.offered.remove(&job);
        Ok(())
    }

    fn watch(&mut self) -> Result<(), String> {
        let now = self.now;
        let gap = now - std::mem::replace(&mut self.coordinator.last_look, now);
        if gap > OWN_GAP && self.without != Without::OwnPause {
            for lease in self.coordinator.leases.values_mut() {
                lease.seen = now;
                lease.cancel_asked = lease.cancel_asked.map(|_| now);
            }
            return Ok(());
        }
        let mut answers = Answers::default();
        let leases = &self.coordinator.leases;
        let read = self.reports.is_empty() || self.without == Without::Backlog;
        let silent = |lease: &Lease| read && now - lease.seen > LEASE;
        let lost: Vec<(ClaimId, usize)> =
            leases.iter().filter(|(_, lease)| silent(lease)).map(|(claim, lease)| (*claim, lease.life)).collect();
        let patience = |lease: &Lease| lease.cancel_asked.is_some_and(|asked| now - asked > CANCEL_PATIENCE);
        let overdue: Vec<ClaimId> =
            leases.iter().filter(|(_, lease)| patience(lease)).map(|(claim, _)| *claim).collect();
        for (claim, life) in lost {
            self.check_silence(claim, life)?;
            let Some(attempt) = self.coordinator.stored.attempts.get(&claim).cloned() else { continue };
            // Nothing else goes wrong with an attempt here.
            let lost_before = self.coordinator.stored.attempts_before(attempt.job, claim);
            let lost = Happening::Lost {
                claim,
                not_twice: attempt.not_twice,
                lost_before,
                max_lost: MAX_ATTEMPTS,
                max_attempts: MAX_ATTEMPTS,
            };
            self.happen(attempt.job, &lost, &mut answers)?;
            answers.gone.push(claim);
            answers.controls.push((attempt.agent, Control::Abort(claim)));
        }
        for claim in overdue {
            let Some(attempt) = self.coordinator.stored.attempts.get(&claim).cloned() else { continue };
            self.happen(attempt.job, &Happening::CancelOverdue { claim }, &mut answers)?;
            answers.gone.push(claim);
            answers.controls.push((attempt.agent, Control::Abort(claim)));
        }
        self.give(answers);
        Ok(())
    }

    /// Nobody who is alive and connected, and holds a claim, loses it.
    fn check_silence(&self, claim: ClaimId, life: usize) -> Result<(), String> {
        let it = &self.lives[life];
        let well = it.alive && it.is_connected(self.now) && self.now - it.well_since.min(self.now) > LEASE + 1_000;
        if well && it.holds(claim) {
            return Err(format!("agent {} is well, and lost {}", it.name, short(claim)));
        }
        Ok(())
    }

    fn offer(&mut self) {
        for job in 0..self.jobs.len() {
            let offered = self.coordinator.stored.offered.get(&job).copied();
            let old = offered.is_none_or(|at| self.now - at > OFFER_AGAIN);
            if matches!(self.jobs[job].state, JobState::Queued { .. }) && old && self.is_offered(job) {
                self.next_message += 1;
                self.queue.push_back(Message { id: self.next_message, job });
                self.coordinator.stored.offered.insert(job, self.now);
            }
        }
    }

    pub(super) fn kill_coordinator(&mut self) {
        self.tell("the coordinator dies");
        self.coordinator.is_up = false;
        self.coordinator.back_at = self.now + AWAY;
        self.coordinator.leases.clear();
    }

    /// Begins again from what is stored: every running claim counts as seen just now.
    fn resume(&mut self) {
        self.tell("the coordinator is back");
        self.coordinator.is_up = true;
        self.coordinator.last_look = self.now;
        self.coordinator.stored.offered.clear();
        for job in &self.jobs {
            if let JobState::Running { claim, cancelling, .. } = &job.state {
                let holder = self.lives.iter().position(|life| life.holds(*claim)).unwrap_or(0);
                let cancel_asked = cancelling.as_ref().map(|_| self.now);
                self.coordinator.leases.insert(*claim, Lease { life: holder, seen: self.now, cancel_asked });
            }
        }
    }
}
