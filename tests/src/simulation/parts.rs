//! The real parts, broken at random: a whole coordinator with its store, whole agents with their spools, in this
//! process, over lines in memory on which everything happens that may. In real time, for the store has threads of its
//! own, with leases of seconds; so a seed gives the same faults again, and not always at the same moment.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use protocol::api::{BuildView, Status, Submit};
use protocol::link::{AgentLink as _, CoordinatorLink as _};
use protocol::{BuildNumber, LabelSet};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::farm::{Farm, Repository, Rough, in_memory};

const AGENTS: [&str; 2] = ["ash", "birch"];

/// How long things are broken.
const ROUGH: Duration = Duration::from_secs(5);

/// How long the farm may take from then on until all is over: what is said again is said after ten seconds.
const CALM: Duration = Duration::from_secs(60);

const SHAPES: [(&str, &str); 6] = [
    ("passes", "image: x\nstages: [work]\nwork: {script: [print hello]}\n"),
    ("fails", "image: x\nstages: [work]\nwork: {script: [print hello, exit 3]}\n"),
    (
        "long",
        "image: x\nstages: [work, more]\nwork: {script: [bytes 100000, sleep 400]}\nmore: {script: [print hello]}\n",
    ),
    ("sleeps", "image: x\nstages: [work]\nwork: {script: [sleep 1500, print hello]}\n"),
    (
        "once",
        "image: x\nstages: [wait, deploy, tell]\nwait: {script: [sleep 200]}\ndeploy: {retry: never, script: [print deployed, sleep 300]}\ntell: {script: [sleep 300]}\n",
    ),
    ("endless", "image: x\nstages: [work]\nwork: {script: [print hello, hang]}\n"),
];

/// Runs the course of a seed.
///
/// # Errors
/// What is wrong with it; a part that panics is wrong too.
pub async fn run(seed: u64) -> Result<(), String> {
    let mut wrong = Vec::new();
    let course = in_memory(async |farm| {
        let mut course = Course { farm, chance: Chance::new(seed), builds: Vec::new(), cancelled: Vec::new() };
        wrong = course.go().await;
    });
    let ended = AssertUnwindSafe(course).catch_unwind().await;
    let panicked = ended.err().map(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast::<&str>().map_or("a panic".to_owned(), |text| (*text).to_owned()),
    });
    wrong.extend(panicked);
    if wrong.is_empty() { Ok(()) } else { Err(format!("seed {seed}: {}", wrong.join("\n"))) }
}

struct Course<'f> {
    farm: &'f mut Farm,
    chance: Chance,
    /// Each build, and its place among the shapes.
    builds: Vec<(BuildNumber, usize)>,
    cancelled: Vec<BuildNumber>,
}

impl Course<'_> {
    async fn go(&mut self) -> Vec<String> {
        let rough = Rough::new(Chance::new(self.chance.number()));
        self.farm.rough = Some(rough.clone());
        self.farm.config.lease = Duration::from_secs(2);
        self.farm.config.heartbeat = Duration::from_millis(300);
        self.farm.config.beacon = Duration::from_millis(500);
        let repositories: Vec<Repository> = SHAPES.iter().map(|(_, text)| Repository::with_manifest(text)).collect();
        self.farm.start_coordinator().await;
        for agent in AGENTS {
            self.farm.start_agent(agent, 1).await;
        }
        let end = Instant::now() + ROUGH;
        while Instant::now() < end {
            if self.builds.len() < 8 && self.chance.percent(40) {
                self.submit(&repositories).await;
            }
            self.break_something().await;
            tokio::time::sleep(Duration::from_millis(self.chance.within(20..300))).await;
        }
        rough.calm_down();
        self.mend_all().await;
        self.look_at_all().await
    }

    async fn submit(&mut self, repositories: &[Repository]) {
        let place = usize::try_from(self.chance.within(0..SHAPES.len() as u64)).unwrap_or(0);
        if self.farm.has_coordinator() {
            let order = Submit::new(repositories[place].url(), None);
            let view = self.farm.api().client.submit(&order).await.expect("a build");
            self.builds.push((view.build.number, place));
        }
    }

    async fn break_something(&mut self) {
        let agent = *self.chance.one_of(&AGENTS);
        let time = Duration::from_millis(self.chance.within(0..1_500));
        match self.chance.within(0..14) {
            0 | 1 => {
                self.farm.agent(agent).kill().await;
                tokio::time::sleep(time).await;
                self.farm.start_agent(agent, 1).await;
            }
            2 if self.farm.agent(agent).lives() => {
                self.farm.agent(agent).drain();
                self.farm.agent(agent).kill().await;
                self.farm.start_agent(agent, 1).await;
            }
            3 | 4 => {
                if let Some(breaker) = self.farm.agent(agent).breaker() {
                    breaker.cut();
                    // Longer than a lease, or shorter.
                    tokio::time::sleep(time * 2).await;
                    breaker.mend(self.chance.within(2..1 << 40));
                }
            }
            5 | 6 => {
                self.farm.kill_coordinator().await;
                tokio::time::sleep(time).await;
                self.farm.start_coordinator().await;
            }
            7 => {
                self.farm.stop_coordinator().await;
                self.farm.start_coordinator().await;
            }
            8 => {
                // Somebody takes a job off the queue and throws it away.
                let thief = self.farm.memory().agent(&"thief".parse().expect("a name"));
                let queues = [LabelSet::default()];
                if let Ok(Ok(delivery)) = tokio::time::timeout(time / 20, thief.next_job(&queues)).await {
                    delivery.ack().await;
                }
            }
            9 => {
                // Or reports.
                let thief = self.farm.memory().coordinator();
                if let Ok(Ok(batch)) = tokio::time::timeout(time / 20, thief.next_reports(20)).await {
                    batch.ack().await;
                }
            }
            10 if !self.builds.is_empty() => {
                let (number, _) = *self.chance.one_of(&self.builds);
                self.cancel(number).await;
            }
            _ => {}
        }
    }

    async fn cancel(&mut self, number: BuildNumber) {
        self.cancelled.push(number);
        self.farm.api().client.cancel(number, None).await.expect("an answer");
    }

    async fn mend_all(&mut self) {
        for agent in AGENTS {
            if let Some(breaker) = self.farm.agent(agent).breaker() {
                breaker.mend(1 << 41);
            }
        }
        for (number, place) in self.builds.clone() {
            if SHAPES[place].0 == "endless" {
                self.cancel(number).await;
            }
        }
    }

    async fn look_at_all(&mut self) -> Vec<String> {
        let end = Instant::now() + CALM;
        let mut wrong = Vec::new();
        for (number, place) in self.builds.clone() {
            match self.over(number, end).await {
                Ok(view) => wrong.extend(self.judge(&view, place).await),
                Err(view) => wrong.push(format!("it is stuck: {view:#?}")),
            }
        }
        let listed = self.farm.api().builds().await.len();
        if listed != self.builds.len() {
            wrong.push(format!("{} builds were begun, and {listed} are there", self.builds.len()));
        }
        for agent in AGENTS {
            let folders = self.farm.folders(agent).clone();
            while !folders.left_of_jobs().is_empty() {
                if Instant::now() > end {
                    wrong.push(format!("something is left of {agent}: {:?}", folders.left_of_jobs()));
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        wrong
    }

    /// A build that is over, with logs that are whole or told not to be.
    async fn over(&self, number: BuildNumber, end: Instant) -> Result<BuildView, Box<BuildView>> {
        loop {
            let view = self.farm.api().build(number).await;
            let told = view.attempts.last().filter(|last| last.state != "lost" && last.state != "abandoned");
            let whole = told.is_none_or(|last| last.logs.iter().all(|log| log.complete || log.missing > 0));
            if view.build.status.is_over() && whole {
                return Ok(view);
            }
            if Instant::now() > end {
                return Err(Box::new(view));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn judge(&self, view: &BuildView, place: usize) -> Vec<String> {
        let (shape, number) = (SHAPES[place].0, view.build.number);
        let states: Vec<&str> = view.attempts.iter().map(|attempt| attempt.state.as_str()).collect();
        let ran = states.iter().filter(|state| **state != "abandoned").count();
        let message = view.build.message.as_deref().unwrap_or_default();
        let lost_twice = ran == 2 && states.iter().filter(|state| **state == "lost").count() == 2;
        let is_right = match (shape, view.build.status) {
            (_, Status::Cancelled) => self.cancelled.contains(&number),
            (_, Status::Errored) if message.contains("went silent, as agents did in all") => lost_twice,
            ("once", Status::Errored) => message.contains("must not run twice"),
            ("fails", Status::Failed) => true,
            ("passes" | "long" | "sleeps" | "once", Status::Passed) => true,
            _ => false,
        };
        let mut wrong = Vec::new();
        if !is_right || ran > 2 {
            wrong
                .push(format!("build {number} ({shape}) ended as {:?} {message:?} with {states:?}", view.build.status));
        }
        let mut deployed = 0;
        for (attempt, place) in view.attempts.iter().zip(1..) {
            for log in &attempt.logs {
                let bytes = self.farm.api().log_of(number, place, log.name.as_str()).await;
                deployed += bytes.windows(8).filter(|part| *part == b"deployed").count();
                let ended = attempt.state == "passed" || attempt.state == "failed";
                if ended && (log.missing > 0 || log.bytes != bytes.len() as u64) {
                    wrong.push(format!("build {number} ({shape}): {} lacks {} bytes", log.name, log.missing));
                }
            }
            let long = attempt.logs.iter().find(|log| log.name.as_str() == "work" && shape == "long");
            if attempt.state == "passed" && shape == "long" && long.is_none_or(|log| log.bytes != 100_000) {
                wrong.push(format!("build {number} ({shape}): its log is {long:?}"));
            }
        }
        if deployed > 1 || (shape == "once" && view.build.status == Status::Passed && deployed != 1) {
            wrong.push(format!("build {number}: what must not run twice began {deployed} times"));
        }
        wrong
    }
}
