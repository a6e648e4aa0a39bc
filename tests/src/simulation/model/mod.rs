//! The protocol as a small machine. One call of [`run`] is one course of events; what it finds wrong it says with the
//! last things that happened.

mod agent;
mod builds;
mod coordinator;

use std::collections::{BTreeMap, VecDeque};

use protocol::outcome::{Ending, Outcome};
use protocol::state::JobState;
use protocol::{AgentId, ClaimId};

use crate::chance::Chance;
use agent::Life;
use builds::{Standing, Terms};
use coordinator::{Answers, Coordinator};

/// One step of time, in milliseconds.
const STEP: u64 = 100;

const LEASE: u64 = 5_000;
const HEARTBEAT: u64 = 1_000;
const MAX_ATTEMPTS: u32 = 2;

/// Longer than a course.
const ENDLESS: u64 = 10 * (ROUGH + CALM);

/// How long things are broken.
const ROUGH: u64 = 60_000;

/// How long the farm may take from then on until nothing is open any more.
const CALM: u64 = 90_000;

/// One stage of a job's script.
#[derive(Debug, Clone, Copy)]
struct Stage {
    takes: u64,
    not_twice: bool,
}

/// A job: what it does, where the store has it, and what truly happened.
struct Job {
    terms: Terms,
    stages: Vec<Stage>,
    fails: bool,
    state: JobState,
    standing: Standing,
    /// How often each stage that must not run twice began.
    begun: BTreeMap<usize, u32>,
    /// How often it was begun at all.
    runs: u32,
}

/// What is said to the coordinator.
#[derive(Debug, Clone)]
enum Report {
    Claim { life: usize, claim: ClaimId, job: usize },
    Abandoned { claim: ClaimId },
    Heartbeat { life: usize, held: Vec<(ClaimId, Phase, Option<u64>)> },
    Progress { claim: ClaimId, seq: u64, event: Event },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Pending,
    Running,
    Ended,
}

#[derive(Debug, Clone)]
enum Event {
    Started { not_twice: bool },
    Done,
    Finished(Ending),
}

/// What the coordinator says.
#[derive(Debug, Clone)]
enum Control {
    Granted(ClaimId),
    Denied(ClaimId),
    Cancel(ClaimId),
    Abort(ClaimId),
    Recorded(ClaimId),
    Noted(ClaimId, u64),
}

/// A message on the queue: for which job, and in which life's hands it is.
#[derive(Debug, Clone, Copy)]
struct Message {
    id: u64,
    job: usize,
}

/// A rule of the farm that a course may do without, to see that the others find it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// All rules hold.
    Nothing,
    /// A stage that must not run twice begins without waiting for the coordinator.
    Waiting,
    /// The store forgets that such a stage began.
    Memory,
    /// A pause of the coordinator's own counts for the agents' silence.
    OwnPause,
    /// Leases end though reports lie unread.
    Backlog,
    /// Results are not sent again.
    Resending,
    /// Heartbeats are not answered with what is not as it should be.
    Healing,
    /// Jobs are offered before their turn.
    Turns,
}

/// All of it.
struct World {
    without: Without,
    chance: Chance,
    now: u64,
    jobs: Vec<Job>,
    queue: VecDeque<Message>,
    /// Messages that are in some life's hands.
    held: BTreeMap<u64, (usize, Message)>,
    next_message: u64,
    reports: VecDeque<Report>,
    /// On their way: when they arrive, for all lives of which name.
    controls: Vec<(u64, usize, Control)>,
    lives: Vec<Life>,
    coordinator: Coordinator,
    /// How each claim truly ended, by its agent.
    truth: BTreeMap<ClaimId, Ending>,
    claims: u64,
    /// The newest build that had its turn in each group.
    turned: BTreeMap<String, u64>,
    told: VecDeque<String>,
    rough: bool,
}

/// Runs the course of a seed.
///
/// # Errors
/// What is wrong with it, and what happened before.
pub fn run(seed: u64, without: Without) -> Result<(), String> {
    let mut world = World::new(seed, without);
    let course = world.course();
    course.map_err(|wrong| {
        let told: Vec<String> = world.told.iter().cloned().collect();
        format!("seed {seed}, at {} ms: {wrong}\n{}", world.now, told.join("\n"))
    })
}

impl World {
    fn new(seed: u64, without: Without) -> Self {
        let mut chance = Chance::new(seed);
        let jobs = builds::any(&mut chance);
        let lives = (0..usize::try_from(chance.within(1..4)).unwrap_or(1)).map(|name| Life::new(name, 1)).collect();
        Self {
            without,
            chance,
            now: 0,
            jobs,
            queue: VecDeque::new(),
            held: BTreeMap::new(),
            next_message: 0,
            reports: VecDeque::new(),
            controls: Vec::new(),
            lives,
            coordinator: Coordinator::default(),
            truth: BTreeMap::new(),
            claims: 0,
            turned: BTreeMap::new(),
            told: VecDeque::new(),
            rough: true,
        }
    }

    fn course(&mut self) -> Result<(), String> {
        self.advance(&mut Answers::default())?;
        while self.now < ROUGH + CALM {
            self.now += STEP;
            if self.now < ROUGH {
                self.break_something()?;
            } else if self.rough {
                self.calm_down();
            }
            self.carry_controls();
            self.agents_act()?;
            self.coordinate()?;
            self.look()?;
            if !self.rough {
                self.end_the_endless()?;
                self.answer_gates()?;
            }
            if !self.rough && self.is_done() {
                return self.look_at_ends();
            }
        }
        Err(format!("something is still open: {}", self.open().join("; ")))
    }

    /// What must hold at every moment.
    fn look(&self) -> Result<(), String> {
        for (number, job) in self.jobs.iter().enumerate() {
            if let Some((stage, times)) = job.begun.iter().find(|(_, times)| **times > 1) {
                return Err(format!("stage {stage} of job {number} must not run twice, and began {times} times"));
            }
            if job.runs > MAX_ATTEMPTS {
                return Err(format!("job {number} was run {} times", job.runs));
            }
        }
        self.look_at_turns()
    }

    fn open(&self) -> Vec<String> {
        let mut open = Vec::new();
        for (number, job) in self.jobs.iter().enumerate() {
            if !job.state.is_over() {
                open.push(format!("job {number} is {:?}", job.state));
            }
        }
        for life in self.lives.iter().filter(|life| life.alive) {
            open.extend(
                life.works
                    .iter()
                    .map(|work| format!("agent {} holds {} ({:?})", life.name, short(work.claim), work.phase)),
            );
        }
        if !self.queue.is_empty() {
            open.push(format!("{} messages on the queue", self.queue.len()));
        }
        if !self.held.is_empty() {
            open.push(format!("{} messages in somebody's hands", self.held.len()));
        }
        open
    }

    fn is_done(&self) -> bool {
        self.open().is_empty()
    }

    fn tell(&mut self, what: &str) {
        const LAST: usize = 60;
        if self.told.len() == LAST {
            self.told.pop_front();
        }
        self.told.push_back(format!("{:>7} {what}", self.now));
    }

    fn fresh_claim(&mut self) -> ClaimId {
        self.claims += 1;
        let number = self.claims;
        format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap_or_else(|_| ClaimId::fresh())
    }

    fn break_something(&mut self) -> Result<(), String> {
        if !self.chance.percent(6) {
            return Ok(());
        }
        let life = usize::try_from(self.chance.within(0..self.lives.len() as u64)).unwrap_or(0);
        let time = self.now + self.chance.within(0..12_000);
        match self.chance.within(0..15) {
            0 | 1 => self.kill(life),
            2 => self.cut(life, time),
            3 => self.revive(life),
            4 => self.begin_another_life(life),
            5 => {
                self.tell("the coordinator pauses");
                self.coordinator.paused_until = time;
            }
            6 => self.kill_coordinator(),
            7 => {
                self.tell("the job queue is emptied");
                self.queue.clear();
            }
            // What a slow coordinator has not read for long holds all signs of life: nothing is promised when that is
            // emptied.
            8 if !self.is_behind() => {
                self.tell(&format!("{} reports are lost", self.reports.len()));
                self.reports.clear();
            }
            9 => self.coordinator.dies_at = Some(self.chance.within(0..3)),
            10 => {
                self.tell("the coordinator's disk is slow");
                self.coordinator.busy_until = time;
            }
            11 => {
                let job = usize::try_from(self.chance.within(0..self.jobs.len() as u64)).unwrap_or(0);
                self.cancel_build(self.jobs[job].terms.build)?;
            }
            _ => self.answer_gates()?,
        }
        Ok(())
    }

    /// Whether reports lie unread because the coordinator is slow, and not because it stands still.
    fn is_behind(&self) -> bool {
        const LONG: u64 = 2_000;
        let stands_still = self.now < self.coordinator.paused_until;
        let long_unread = self.now - self.coordinator.all_read_at > LONG;
        self.now < self.coordinator.busy_until || (long_unread && !stands_still)
    }

    /// From now on nothing fails, and whoever is dead lives again.
    fn calm_down(&mut self) {
        self.tell("from here on nothing fails");
        self.rough = false;
        self.coordinator.paused_until = 0;
        self.coordinator.busy_until = 0;
        self.coordinator.dies_at = None;
        for life in 0..self.lives.len() {
            self.lives[life].cut_until = 0;
            self.revive(life);
        }
    }

    /// Somebody cancels what would never end.
    fn end_the_endless(&mut self) -> Result<(), String> {
        for job in 0..self.jobs.len() {
            let Job { terms, stages, standing, state, .. } = &self.jobs[job];
            let endless = stages.iter().any(|stage| stage.takes == ENDLESS) && !state.is_over();
            // What comes last is ended by a second cancel.
            let often = if terms.finally { 2 } else { 1 };
            if endless && standing.cancels < often {
                self.cancel_build(terms.build)?;
            }
        }
        Ok(())
    }

    fn say(&mut self, name: usize, control: Control) {
        if self.rough && self.chance.percent(12) {
            return;
        }
        let late = if self.rough { self.chance.within(0..1_500) } else { 0 };
        self.controls.push((self.now + late, name, control.clone()));
        if self.rough && self.chance.percent(6) {
            let later = self.now + self.chance.within(0..6_000);
            self.controls.push((later, name, control));
        }
    }

    fn carry_controls(&mut self) {
        let now = self.now;
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.controls).into_iter().partition(|(at, ..)| *at <= now);
        self.controls = waiting;
        for (_, name, control) in due {
            for life in 0..self.lives.len() {
                if self.lives[life].name == name && self.lives[life].is_connected(now) {
                    self.hear(life, &control);
                }
            }
        }
    }
}

impl Job {
    fn any(terms: Terms, chance: &mut Chance) -> Self {
        // What a person let begin, and what a group admits, is never begun twice.
        let once = terms.gated || terms.group.is_some();
        let stage = |chance: &mut Chance| {
            let takes = if chance.percent(3) { ENDLESS } else { chance.within(0..4_000) };
            Stage { takes, not_twice: chance.percent(25) || once }
        };
        let stages = (0..chance.within(1..4)).map(|_| stage(chance)).collect();
        let state = JobState::Queued { attempts: 0 };
        let (fails, standing) = (chance.percent(20), Standing::default());
        Self { terms, stages, fails, state, standing, begun: BTreeMap::new(), runs: 0 }
    }

    fn ending(&self) -> Ending {
        let outcome = if self.fails { Outcome::Failed } else { Outcome::Passed };
        Ending::of(outcome, None)
    }
}

/// A claim as it is told here.
fn short(claim: ClaimId) -> String {
    let text = claim.reveal();
    format!("claim {}", text.rsplit('-').next().unwrap_or_default().trim_start_matches('0'))
}

fn name_of(agent: usize) -> AgentId {
    format!("agent-{agent}").parse().unwrap_or_else(|_| unreachable!("it is a name"))
}
