//! The agents of the model: lives that take messages, claim, work, and report from their spool.

use protocol::ClaimId;
use protocol::outcome::{Cause, Ending};

use super::{Control, Event, HEARTBEAT, Phase, Report, STEP, Without, World, short};

/// How long an unanswered claim waits before it is said again.
const CLAIM_AGAIN: u64 = 3_000;

/// How long it is said again, before it is given up.
const CLAIM_GIVEN_UP: u64 = 12_000;

/// How long the coordinator may be silent before what was said is said again.
const AGAIN: u64 = 10_000;

/// How many steps of a stage its daemon lives through, about.
const FAILS_ONCE_IN: u64 = 300;

/// One life of an agent. Lives of one name hear the same.
pub(super) struct Life {
    pub(super) name: usize,
    slots: usize,
    pub(super) alive: bool,
    pub(super) cut_until: u64,
    /// Since when it has been alive and connected without a break.
    pub(super) well_since: u64,
    next_beat: u64,
    pub(super) works: Vec<Work>,
    /// What is on its disk of works that died with it.
    spooled: Vec<Work>,
}

/// One claim at an agent.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) claim: ClaimId,
    pub(super) job: usize,
    pub(super) phase: Phase,
    message: Option<u64>,
    began: u64,
    said_last: u64,
    events: Vec<Event>,
    sent: usize,
    noted: u64,
    stage: usize,
    /// When the present stage is over, while one runs.
    until: Option<u64>,
    waits_for: Option<u64>,
    stop: bool,
    /// Whether nobody wants to hear of it any more.
    unwanted: bool,
}

impl Life {
    pub(super) fn new(name: usize, slots: usize) -> Self {
        let (works, spooled) = (Vec::new(), Vec::new());
        Self { name, slots, alive: true, cut_until: 0, well_since: 0, next_beat: 0, works, spooled }
    }

    pub(super) fn is_connected(&self, now: u64) -> bool {
        self.alive && self.cut_until <= now
    }

    pub(super) fn holds(&self, claim: ClaimId) -> bool {
        self.works.iter().any(|work| work.claim == claim)
    }
}

impl Work {
    /// What an agent's disk holds of it.
    fn is_finished(&self) -> bool {
        matches!(self.events.last(), Some(Event::Finished(_)))
    }
}

impl World {
    pub(super) fn agents_act(&mut self) -> Result<(), String> {
        for life in 0..self.lives.len() {
            if !self.lives[life].alive {
                continue;
            }
            if !self.lives[life].is_connected(self.now) {
                self.lives[life].well_since = self.now + STEP;
            }
            self.take(life);
            for place in 0..self.lives[life].works.len() {
                self.ask(life, place);
                self.work(life, place);
                self.send(life, place);
            }
            self.lives[life].works.retain(|work| !(work.unwanted && work.phase == Phase::Ended));
            self.beat(life);
        }
        Ok(())
    }

    fn take(&mut self, life: usize) {
        let it = &self.lives[life];
        let busy = it.works.iter().filter(|work| work.phase != Phase::Ended).count();
        // It takes nothing while it does not hear the coordinator.
        if !it.is_connected(self.now) || busy >= it.slots || !self.coordinator.is_up {
            return;
        }
        let Some(message) = self.queue.pop_front() else { return };
        let claim = self.fresh_claim();
        self.held.insert(message.id, (life, message));
        self.tell(&format!("agent {} takes job {} with {}", self.lives[life].name, message.job, short(claim)));
        self.lives[life].works.push(Work {
            claim,
            job: message.job,
            phase: Phase::Pending,
            message: Some(message.id),
            began: self.now,
            said_last: 0,
            events: Vec::new(),
            sent: 0,
            noted: 0,
            stage: 0,
            until: None,
            waits_for: None,
            stop: false,
            unwanted: false,
        });
    }

    /// Says a claim, again and again, and gives it up when nobody answers.
    fn ask(&mut self, life: usize, place: usize) {
        let (now, connected) = (self.now, self.lives[life].is_connected(self.now));
        let work = &mut self.lives[life].works[place];
        if work.phase != Phase::Pending {
            return;
        }
        if now - work.began > CLAIM_GIVEN_UP {
            let (claim, message) = (work.claim, work.message.take());
            (work.phase, work.unwanted) = (Phase::Ended, true);
            self.tell(&format!("{} is given up", short(claim)));
            if connected {
                self.reports.push_back(Report::Abandoned { claim });
            }
            self.give_back(message);
            return;
        }
        if connected && (work.said_last == 0 || now - work.said_last >= CLAIM_AGAIN) {
            work.said_last = now;
            let (claim, job) = (work.claim, work.job);
            self.reports.push_back(Report::Claim { life, claim, job });
        }
    }

    fn work(&mut self, life: usize, place: usize) {
        let now = self.now;
        let work = &mut self.lives[life].works[place];
        if work.phase != Phase::Running {
            return;
        }
        let stages = &self.jobs[work.job].stages;
        if work.stop {
            let ending = Ending::cancelled("it was asked to end");
            return self.finish(life, place, ending);
        }
        if let Some(seq) = work.waits_for {
            if work.noted < seq && self.without != Without::Waiting {
                return;
            }
            work.waits_for = None;
            work.until = Some(now + stages[work.stage].takes);
            *self.jobs[work.job].begun.entry(work.stage).or_default() += 1;
            let (job, stage, claim) = (work.job, work.stage, short(work.claim));
            return self.tell(&format!("job {job} begins stage {stage} under {claim}"));
        }
        if work.until.is_some() && self.rough && self.chance.within(0..FAILS_ONCE_IN) == 0 {
            // That something began which must not be done twice is the coordinator's to know, whatever is said here.
            let ending = Ending::errored(Cause::Daemon, "the daemon went away").or_again(true);
            return self.finish(life, place, ending);
        }
        match work.until {
            Some(until) if now < until => {}
            Some(_) => {
                work.until = None;
                work.stage += 1;
                work.events.push(Event::Done);
            }
            None if work.stage == stages.len() => {
                let ending = self.jobs[work.job].ending();
                self.finish(life, place, ending);
            }
            None => {
                let not_twice = stages[work.stage].not_twice;
                work.events.push(Event::Started { not_twice });
                if not_twice {
                    work.waits_for = Some(work.events.len() as u64);
                } else {
                    work.until = Some(now + stages[work.stage].takes);
                }
            }
        }
    }

    fn finish(&mut self, life: usize, place: usize, ending: Ending) {
        let work = &mut self.lives[life].works[place];
        work.events.push(Event::Finished(ending.clone()));
        work.phase = Phase::Ended;
        work.said_last = self.now;
        let claim = work.claim;
        self.tell(&format!("{} ended: {}", short(claim), ending.outcome));
        self.truth.insert(claim, ending);
    }

    /// Sends what its spool holds.
    fn send(&mut self, life: usize, place: usize) {
        if !self.lives[life].is_connected(self.now) {
            return;
        }
        let now = self.now;
        let work = &mut self.lives[life].works[place];
        if work.phase == Phase::Pending {
            return;
        }
        while let Some(event) = work.events.get(work.sent) {
            let (claim, seq, event) = (work.claim, work.sent as u64 + 1, event.clone());
            self.reports.push_back(Report::Progress { claim, seq, event });
            work.sent += 1;
            work.said_last = now;
        }
        let awaited = work.is_finished() || work.waits_for.is_some_and(|seq| work.noted < seq);
        if awaited && now - work.said_last > AGAIN && self.without != Without::Resending {
            work.sent = 0;
        }
    }

    fn beat(&mut self, life: usize) {
        let it = &mut self.lives[life];
        if !it.is_connected(self.now) || self.now < it.next_beat {
            return;
        }
        it.next_beat = self.now + HEARTBEAT;
        let held = it.works.iter().map(|work| (work.claim, work.phase, work.waits_for)).collect();
        self.reports.push_back(Report::Heartbeat { life, held });
    }

    pub(super) fn hear(&mut self, life: usize, control: &Control) {
        let claim = match control {
            Control::Granted(claim)
            | Control::Denied(claim)
            | Control::Cancel(claim)
            | Control::Abort(claim)
            | Control::Recorded(claim)
            | Control::Noted(claim, _) => *claim,
        };
        let Some(work) = self.lives[life].works.iter_mut().find(|work| work.claim == claim) else { return };
        match (control, work.phase) {
            (Control::Granted(_), Phase::Pending) => {
                work.phase = Phase::Running;
                self.jobs[work.job].runs += 1;
                // Whether it counts or not: the work goes on.
                let message = work.message.take();
                self.settle(life, message);
            }
            (Control::Denied(_), Phase::Pending) => {
                (work.phase, work.unwanted) = (Phase::Ended, true);
                let message = work.message.take();
                self.settle(life, message);
            }
            (Control::Cancel(_), Phase::Running) => work.stop = true,
            (Control::Abort(_) | Control::Recorded(_), Phase::Running) => (work.stop, work.unwanted) = (true, true),
            (Control::Abort(_) | Control::Recorded(_), Phase::Ended) => work.unwanted = true,
            // It forgets the claim, and gives the message back.
            (Control::Recorded(_), Phase::Pending) => {
                (work.phase, work.unwanted) = (Phase::Ended, true);
                let message = work.message.take();
                self.give_back(message);
            }
            (Control::Noted(_, seq), Phase::Running | Phase::Ended) => {
                work.noted = work.noted.max(*seq);
                work.sent = work.sent.min(usize::try_from(work.noted).unwrap_or(usize::MAX));
            }
            _ => {}
        }
    }

    fn settle(&mut self, life: usize, message: Option<u64>) {
        if let Some(id) = message
            && self.held.get(&id).is_some_and(|(holder, _)| *holder == life)
        {
            self.held.remove(&id);
        }
    }

    fn give_back(&mut self, message: Option<u64>) {
        if let Some((_, message)) = message.and_then(|id| self.held.remove(&id)) {
            self.queue.push_front(message);
        }
    }

    /// The broker takes back what a life holds whose line is gone.
    fn take_back(&mut self, life: usize) {
        let held: Vec<u64> = self.held.iter().filter(|(_, (holder, _))| *holder == life).map(|(id, _)| *id).collect();
        held.into_iter().for_each(|id| self.give_back(Some(id)));
    }

    pub(super) fn cut(&mut self, life: usize, until: u64) {
        if self.lives[life].alive {
            self.tell(&format!("the line of agent {} is cut until {until}", self.lives[life].name));
            self.lives[life].cut_until = until;
            self.take_back(life);
        }
    }

    pub(super) fn kill(&mut self, life: usize) {
        if !self.lives[life].alive {
            return;
        }
        self.tell(&format!("agent {} is killed", self.lives[life].name));
        self.take_back(life);
        let it = &mut self.lives[life];
        it.alive = false;
        let works = std::mem::take(&mut it.works);
        it.spooled.extend(works.into_iter().filter(|work| work.phase != Phase::Pending && !work.unwanted));
    }

    /// Starts it again, with what its last life left on the disk.
    pub(super) fn revive(&mut self, life: usize) {
        if self.lives[life].alive {
            return;
        }
        let (now, name) = (self.now, self.lives[life].name);
        self.tell(&format!("agent {name} lives again"));
        let slots = self.lives[life].slots;
        // What was not finished its lease ends; of what was, the result is sent until it is recorded.
        let left = std::mem::take(&mut self.lives[life].spooled).into_iter().filter(Work::is_finished);
        let works = left.map(|work| Work { phase: Phase::Ended, sent: 0, said_last: now, ..work }).collect();
        self.lives[life] = Life { works, well_since: now, ..Life::new(name, slots) };
    }

    /// Another process goes by the same name: both hear what is said to it.
    pub(super) fn begin_another_life(&mut self, life: usize) {
        const MOST: usize = 6;
        if self.lives.len() < MOST {
            let (name, now) = (self.lives[life].name, self.now);
            self.tell(&format!("another process calls itself agent {name}"));
            self.lives.push(Life { well_since: now, ..Life::new(name, 1) });
        }
    }
}
