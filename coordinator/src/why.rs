//! Why things are as they are, for people: what each job waits for, where each runs and until when, what was lost.
//! The choice of a reason is a pure function of facts; the rest of this room gathers them.

mod forecast;
mod story;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::api::{BusyQueue, Forecast, Loss, SeenAgent, WaitReason, WaitingJob};
use protocol::link::Health;
use protocol::{AgentId, Branch, BuildNumber, LabelSet};
use tokio::time::{Instant, timeout};

use crate::desk::Desk;
use crate::intake::planning_key;
use crate::presence::Capacity;
use crate::store::{InLine, InWork, LONGEST_POSTPONED_MS, StoreError, Work};

pub(crate) use story::why;

/// How long it is waited for the broker to say how much lies on a queue; somebody wants an answer.
const BACKLOG_WITHIN: Duration = Duration::from_secs(2);

/// How many of the agents that lack least are named.
const NEAREST: usize = 3;

/// What is known of a job that could run now.
struct Facts<'a> {
    line: &'a Line,
    labels: &'a LabelSet,
    capacity: &'a Capacity,
    last: Option<&'a SeenAgent>,
    /// Its place among those that wait for the same labels; 1 is the next.
    position: u32,
    /// For how long it has been on offer.
    offered_for_ms: Option<u64>,
    /// In how long it is offered again, when it is given a moment before.
    again_in_ms: Option<u64>,
    /// In how long it is expected to begin.
    expected_ms: Option<u64>,
}

/// How the line to the agents is.
enum Line {
    /// Open, with so many messages from before that are still to be read.
    Up {
        behind: u64,
    },
    Blocked {
        why: String,
        for_ms: u64,
    },
    Away {
        why: String,
        for_ms: u64,
    },
}

/// The first thing that stands in the job's way, from the farm's end to the agent's.
fn choose(facts: &Facts<'_>) -> WaitReason {
    let Capacity { agents, unapproved, paused, able, slots, free, .. } = facts.capacity;
    match facts.line {
        Line::Away { why, for_ms } => return WaitReason::BrokerAway { why: why.clone(), for_ms: *for_ms },
        Line::Blocked { why, for_ms } => return WaitReason::BrokerBlocked { why: why.clone(), for_ms: *for_ms },
        Line::Up { behind: backlog @ 1.. } => return WaitReason::CatchingUp { backlog: *backlog },
        Line::Up { behind: 0 } => {}
    }
    if let Some(in_ms) = facts.again_in_ms.filter(|_| !able.is_empty()) {
        return WaitReason::Later { in_ms };
    }
    match (agents, able.len(), paused.len()) {
        (0, _, _) => WaitReason::NoAgent { last: facts.last.cloned(), unapproved: unapproved.clone() },
        (_, 0, 0) => no_labels(facts),
        (_, 0, _) => WaitReason::AllPaused { agents: paused.clone() },
        _ if *free == 0 => WaitReason::AllBusy(BusyQueue {
            position: facts.position,
            slots: u32::try_from(*slots).unwrap_or(u32::MAX),
            expected_ms: facts.expected_ms,
        }),
        _ => match facts.offered_for_ms {
            Some(for_ms) => WaitReason::Offered { for_ms },
            None => WaitReason::NotYetOffered { position: facts.position },
        },
    }
}

fn no_labels(facts: &Facts<'_>) -> WaitReason {
    let mut nearest = facts.capacity.near.clone();
    nearest.sort_by_key(|agent| agent.lacks.iter().count());
    nearest.truncate(NEAREST);
    let agents = u32::try_from(facts.capacity.agents).unwrap_or(u32::MAX);
    WaitReason::NoLabels { labels: facts.labels.clone(), agents, nearest }
}

/// What waits on the whole farm, and why.
#[derive(Default)]
pub(crate) struct Waits {
    by_build: HashMap<BuildNumber, Vec<WaitingJob>>,
    /// The first of them, in the order in which they come to their turn.
    first: Vec<InQueue>,
    count: usize,
}

/// A job that waits for an agent, as a list of all of them shows it.
#[derive(Debug, Clone)]
pub(crate) struct InQueue {
    /// Its build.
    pub(crate) build: BuildNumber,
    /// Its place in the queue of the whole farm; 0 is the next.
    place: usize,
    /// The repository, as people see its URL.
    pub(crate) repo: String,
    /// The branch, once it is known.
    pub(crate) branch: Option<Branch>,
    /// What its agent must have.
    pub(crate) labels: LabelSet,
    /// Why it waits.
    pub(crate) waiting: WaitingJob,
}

/// How many jobs of the queue a list of it names.
const LISTED: usize = 200;

impl Waits {
    /// The first jobs of the queue, in the order in which they come to their turn, and how many there are in all.
    pub(crate) fn queue(&self) -> (&[InQueue], usize) {
        (&self.first, self.count)
    }

    fn add(&mut self, place: usize, job: &InLine, waiting: WaitingJob) {
        if place < LISTED {
            let InLine { build, work, labels, .. } = job;
            let (repo, branch) = (work.shown_repo(), work.branch.clone());
            let (labels, waiting) = (labels.clone(), waiting.clone());
            self.first.push(InQueue { build: *build, place, repo, branch, labels, waiting });
        }
        self.by_build.entry(job.build).or_default().push(waiting);
    }

    /// The jobs of a build that could run now and wait, in the order in which they come to their turn.
    pub(crate) fn of(&self, build: BuildNumber) -> &[WaitingJob] {
        self.by_build.get(&build).map_or(&[], Vec::as_slice)
    }
}

/// For how long what was found is believed, in times of what it took to find: so that whoever asks, however often, takes
/// no more than a tenth of the time.
const BELIEVED: u32 = 10;

/// What waits, as it was found a moment ago.
#[derive(Default)]
pub(crate) struct Kept {
    found: tokio::sync::Mutex<Option<Found>>,
}

struct Found {
    at: Instant,
    took: Duration,
    waits: Arc<Waits>,
}

impl Kept {
    /// Why each job that could run now waits. On a small farm that is as new as can be; where thousands wait it may be
    /// some tenths of a second old.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn look(&self, desk: &Desk) -> Result<Arc<Waits>, StoreError> {
        // One looks; who waits for that takes what was found.
        let mut found = self.found.lock().await;
        if let Some(Found { at, took, waits }) = &*found
            && at.elapsed() < *took * BELIEVED
        {
            return Ok(waits.clone());
        }
        Self::look_into(&mut found, desk).await
    }

    /// The same, looked at now: for whoever misses somebody in what was found last.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn look_again(&self, desk: &Desk) -> Result<Arc<Waits>, StoreError> {
        Self::look_into(&mut *self.found.lock().await, desk).await
    }

    async fn look_into(found: &mut Option<Found>, desk: &Desk) -> Result<Arc<Waits>, StoreError> {
        let began = Instant::now();
        let waits = Arc::new(waits(desk).await?);
        *found = Some(Found { at: Instant::now(), took: began.elapsed(), waits: waits.clone() });
        Ok(waits)
    }
}

/// Why each job that could run now waits.
///
/// # Errors
/// When the store fails.
pub(crate) async fn waits(desk: &Desk) -> Result<Waits, StoreError> {
    let in_line = desk.store.in_line().await?;
    if in_line.is_empty() {
        return Ok(Waits::default());
    }
    let line = line(desk).await;
    let in_work = desk.store.in_work().await?;
    let last = last_here(desk).await?;
    let mut waits = Waits { count: in_line.len(), ..Waits::default() };
    let mut queues: HashMap<LabelSet, Vec<InLine>> = HashMap::new();
    let mut places: HashMap<LabelSet, Vec<usize>> = HashMap::new();
    for (place, job) in in_line.into_iter().enumerate() {
        places.entry(job.labels.clone()).or_default().push(place);
        queues.entry(job.labels.clone()).or_default().push(job);
    }
    let mut history = History::new(desk);
    for (labels, queue) in queues {
        let capacity = desk.presence.capacity(&labels, Instant::now());
        let starts = starts(&mut history, &capacity, &in_work, &queue).await?;
        for ((position, job), expected_ms) in (1..).zip(&queue).zip(starts) {
            let now = now_ms();
            let facts = Facts {
                line: &line,
                labels: &labels,
                capacity: &capacity,
                last: last.as_ref(),
                position,
                offered_for_ms: job.offered_ms.map(|offered| now.saturating_sub(offered)),
                again_in_ms: again_in(job, now),
                expected_ms,
            };
            let place = places.get(&labels).and_then(|places| places.get(position as usize - 1)).copied();
            waits.add(place.unwrap_or(LISTED), job, waiting(job, choose(&facts), now));
        }
    }
    waits.first.sort_by_key(|job| job.place);
    Ok(waits)
}

fn waiting(job: &InLine, why: WaitReason, now: u64) -> WaitingJob {
    let (attempt, lost_with) = (job.lost + 1, job.lost_with.clone().filter(|_| job.lost > 0));
    let errored = match &job.loss {
        Some(Loss::Errored { cause, .. }) => Some(*cause),
        _ => None,
    };
    let sentence = WaitingJob::sentence(&why, attempt, lost_with.as_ref(), errored);
    let for_ms = now.saturating_sub(job.created_ms);
    WaitingJob { job: job.work.key.clone(), attempt, lost_with, errored, for_ms, why, sentence }
}

/// In how long a job is tried again that the farm failed.
fn again_in(job: &InLine, now: u64) -> Option<u64> {
    let errored = matches!(job.loss, Some(Loss::Errored { .. }));
    let left = job.not_before_ms.checked_sub(now).filter(|left| (1..=LONGEST_POSTPONED_MS).contains(left));
    left.filter(|_| errored)
}

/// How the line is. What was said before it came up counts only until all of it was read once.
async fn line(desk: &Desk) -> Line {
    let health = desk.link.health().borrow().clone();
    let for_ms = milliseconds(desk.presence.line.for_how_long(&health, Instant::now()));
    match health {
        Health::Away { reason } => Line::Away { why: reason, for_ms },
        Health::Blocked { reason } => Line::Blocked { why: reason, for_ms },
        Health::Up(connection) => Line::Up { behind: behind(desk, connection).await },
    }
}

/// How many messages from before this connection are still to be read, as far as that is known.
pub(crate) async fn behind(desk: &Desk, connection: u64) -> u64 {
    if !desk.presence.line.is_behind(connection) {
        return 0;
    }
    match timeout(BACKLOG_WITHIN, desk.link.backlog()).await {
        Ok(Ok(0)) => {
            desk.presence.line.caught_up(connection);
            0
        }
        Ok(Ok(backlog)) => u64::try_from(backlog).unwrap_or(u64::MAX),
        // Who cannot be asked is soon seen to be away.
        Ok(Err(_)) | Err(_) => 0,
    }
}

async fn last_here(desk: &Desk) -> Result<Option<SeenAgent>, StoreError> {
    let last = desk.store.last_here().await?;
    Ok(last.map(|(agent, seen_ms)| SeenAgent { agent, ago_ms: now_ms().saturating_sub(seen_ms) }))
}

async fn starts(
    history: &mut History<'_>,
    capacity: &Capacity,
    in_work: &[InWork],
    queue: &[InLine],
) -> Result<Vec<Option<u64>>, StoreError> {
    // Only where all slots are taken is it a question of time.
    if capacity.free > 0 || capacity.slots == 0 {
        return Ok(vec![None; queue.len()]);
    }
    let mut slots = Vec::new();
    for work in in_work.iter().filter(|work| capacity.able.contains(&work.agent)) {
        slots.push(history.end(work).await?.expected_ms);
    }
    let mut usual = Vec::with_capacity(queue.len());
    for job in queue {
        // Behind one whose time nobody knows there may be no forecast, and none beyond a few hundred is of use.
        let known = if usual.len() < FORECAST { history.usual(&job.work).await? } else { None };
        usual.push(known);
    }
    Ok(forecast::starts(slots, usual))
}

/// For how many jobs of a queue it is looked up how long such work takes.
const FORECAST: usize = 500;

/// How long work took before, looked up once for each kind.
struct History<'d> {
    desk: &'d Desk,
    known: HashMap<Work, Option<u64>>,
}

impl<'d> History<'d> {
    fn new(desk: &'d Desk) -> Self {
        Self { desk, known: HashMap::new() }
    }

    async fn usual(&mut self, work: &Work) -> Result<Option<u64>, StoreError> {
        if let Some(known) = self.known.get(work) {
            return Ok(*known);
        }
        let usual = self.desk.store.usual_ms(work, &planning_key()).await?;
        self.known.insert(work.clone(), usual);
        Ok(usual)
    }

    /// When work that goes on is expected to end.
    async fn end(&mut self, work: &InWork) -> Result<Forecast, StoreError> {
        let elapsed = now_ms().saturating_sub(work.started_ms);
        Ok(forecast::end(self.usual(&work.work).await?, elapsed))
    }
}

/// In how long all that each agent works on is expected to be over; agents without work are not among them.
///
/// # Errors
/// When the store fails.
pub(crate) async fn until_free(desk: &Desk) -> Result<HashMap<AgentId, Option<u64>>, StoreError> {
    let mut history = History::new(desk);
    let mut until: HashMap<AgentId, Option<u64>> = HashMap::new();
    for work in desk.store.in_work().await? {
        let remaining = history.end(&work).await?.expected_ms;
        let entry = until.entry(work.agent).or_insert(Some(0));
        // One of which nothing is known leaves nothing known of all.
        *entry = entry.zip(remaining).map(|(one, other)| one.max(other));
    }
    Ok(until)
}

/// A job that an agent works on.
#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    /// What is known of it.
    pub(crate) work: InWork,
    /// When it is expected to end.
    pub(crate) forecast: Forecast,
}

/// The jobs that agents work on, the oldest first.
///
/// # Errors
/// When the store fails.
pub(crate) async fn at_work(desk: &Desk) -> Result<Vec<AtWork>, StoreError> {
    let mut history = History::new(desk);
    let mut all = Vec::new();
    for work in desk.store.in_work().await? {
        let forecast = history.end(&work).await?;
        all.push(AtWork { work, forecast });
    }
    Ok(all)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
