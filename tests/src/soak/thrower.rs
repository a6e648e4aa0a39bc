//! Throws builds at the farm, tends them, and counts at the end what became of each.

use std::collections::HashMap;
use std::time::Duration;

use buildr::client::LogAddress;
use protocol::BuildNumber;
use protocol::api::{AttemptView, BuildRow, BuildView, Submit};
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::monkey::Harm;
use super::processes::Processes;
use super::shapes::{Right, Said, Shape, Way};
use super::tally::Tally;
use crate::chance::Chance;

/// How many builds are under way at most: more than the farm's slots, so that some wait.
const WINDOW: usize = 14;

/// How often the list of builds is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What throws.
pub(super) struct Thrower<'f> {
    farm: &'f Processes,
    builds: u32,
    chance: Mutex<Chance>,
    thrown: Mutex<Vec<Thrown>>,
    /// Held while a message is published by hand, and by whoever empties queues.
    pub(super) publishing: Mutex<()>,
}

/// One build that was thrown. Its branch is its own, so that it can be told from all others.
struct Thrown {
    shape: usize,
    branch: String,
    /// When it is to be cancelled.
    cancel_at: Option<Instant>,
    row: Option<BuildRow>,
}

impl<'f> Thrower<'f> {
    pub(super) fn new(farm: &'f Processes, builds: u32, chance: Chance) -> Self {
        let (chance, thrown, publishing) = (Mutex::new(chance), Mutex::default(), Mutex::default());
        Self { farm, builds, chance, thrown, publishing }
    }

    /// Throws all of them, and tends them meanwhile.
    pub(super) async fn throw(&self) {
        let mut order: Vec<usize> = Vec::new();
        for number in 0..self.builds {
            while self.open().await >= WINDOW {
                self.look().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if order.is_empty() {
                // All shapes take turns, in an order that chance gives.
                order.extend(0..self.farm.shapes.len());
                let mut chance = self.chance.lock().await;
                for place in (1..order.len()).rev() {
                    let other = usize::try_from(chance.within(0..place as u64 + 1)).unwrap_or(0);
                    order.swap(place, other);
                }
            }
            let shape = order.pop().unwrap_or(0);
            self.throw_one(number, shape).await;
            let pause = self.chance.lock().await.within(0..400);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn throw_one(&self, number: u32, place: usize) {
        let shape = &self.farm.shapes[place];
        let repository = &self.farm.repositories[place];
        let branch = format!("b{number}");
        if shape.has_branch {
            repository.branch(&branch);
        }
        let wait = self.chance.lock().await.within(0..8_000);
        let cancel_at = (shape.right == Right::Cancelled).then(|| Instant::now() + Duration::from_millis(wait));
        match shape.way {
            Way::Submitted => {
                self.thrown.lock().await.push(Thrown { shape: place, branch: branch.clone(), cancel_at, row: None });
                self.submit(place, &branch).await;
            }
            Way::ByHand { queue, with_id } => {
                let message = json!({"repo": repository.url().reveal(), "branch": branch}).to_string();
                let properties = if with_id { json!({"message_id": format!("soak-{number}")}) } else { json!({}) };
                let held = self.publishing.lock().await;
                // Known before it can be taken, so that nobody empties the queue under it.
                self.thrown.lock().await.push(Thrown { shape: place, branch, cancel_at, row: None });
                while !self.farm.vhost.offer(queue, message.as_bytes(), properties.clone()).await {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                drop(held);
            }
        }
    }

    /// Submits until it is sure that it arrived: an answer may be lost, and then the list of builds tells.
    async fn submit(&self, place: usize, branch: &str) {
        let url = self.farm.repositories[place].url();
        let order = Submit::new(url, Some(branch.parse().expect("a branch")));
        loop {
            if self.farm.api.submit(&order).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            while !self.look().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if self.thrown.lock().await.iter().any(|thrown| thrown.branch == branch && thrown.row.is_some()) {
                return;
            }
        }
    }

    /// Looks at the list of builds, and cancels what is to be cancelled. Whether the farm answered.
    async fn look(&self) -> bool {
        let Some(rows) = self.rows().await else { return false };
        let mut thrown = self.thrown.lock().await;
        let mut to_cancel = Vec::new();
        for one in thrown.iter_mut() {
            one.row = rows.get(&one.branch).and_then(|rows| rows.first()).cloned().or(one.row.take());
            if let (Some(at), Some(row)) = (one.cancel_at, &one.row)
                && at <= Instant::now()
                && !row.status.is_over()
            {
                to_cancel.push(row.number);
            }
        }
        drop(thrown);
        for number in to_cancel {
            // What is not heard is asked again at the next look.
            self.farm.api.cancel(number, Some("the soak says so".to_owned())).await.ok();
        }
        true
    }

    /// All builds, by branch.
    async fn rows(&self) -> Option<HashMap<String, Vec<BuildRow>>> {
        let mut all: HashMap<String, Vec<BuildRow>> = HashMap::new();
        let mut before = None;
        loop {
            let page = self.farm.api.builds(before, 100).await.ok()?;
            for row in page.builds {
                let branch = row.branch.as_ref().map(ToString::to_string).unwrap_or_default();
                all.entry(branch).or_default().push(row);
            }
            before = page.next;
            if before.is_none() {
                return Some(all);
            }
        }
    }

    async fn open(&self) -> usize {
        let over = |thrown: &&Thrown| !thrown.row.as_ref().is_some_and(|row| row.status.is_over());
        self.thrown.lock().await.iter().filter(over).count()
    }

    /// Whether a message that was published by hand may still lie on a queue as nobody's build.
    pub(super) async fn has_unadopted(&self) -> bool {
        let by_hand = |thrown: &Thrown| self.farm.shapes[thrown.shape].way != Way::Submitted;
        self.thrown.lock().await.iter().any(|thrown| thrown.row.is_none() && by_hand(thrown))
    }

    /// How far things are.
    pub(super) async fn so_far(&self) -> String {
        let thrown = self.thrown.lock().await.len();
        format!("{thrown} of {} builds thrown, {} not over", self.builds, self.open().await)
    }

    /// Waits until all are over and their logs told to the end, or until the time is over.
    pub(super) async fn until_over(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            if self.look().await && self.open().await == 0 {
                break;
            }
            if Instant::now() > end {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Counts.
    pub(super) async fn count(&self, harm: &[Harm], all_over: bool) -> Tally {
        let mut tally = Tally::default();
        let rows = self.rows().await.unwrap_or_default();
        for thrown in self.thrown.lock().await.iter() {
            let shape = &self.farm.shapes[thrown.shape];
            tally.submitted += 1;
            let found = rows.get(&thrown.branch).map(Vec::as_slice).unwrap_or_default();
            let without_id = matches!(shape.way, Way::ByHand { with_id: false, .. });
            match found.len() {
                0 => tally.lost.push(format!("{} {}", shape.name, thrown.branch)),
                1 if found[0].status.is_over() => tally.once += 1,
                1 => tally.stuck.push(format!("{} build {}", shape.name, found[0].number)),
                _ if without_id && harm.iter().any(|harm| harm.returns_messages) => {
                    tally.once += 1;
                    tally.without_id_doubled += 1;
                }
                _ => tally.twice.push(format!("{} {}", shape.name, thrown.branch)),
            }
            tally.without_id += u32::from(without_id);
            for row in found.iter().filter(|row| row.status.is_over()) {
                self.judge(shape, row.number, harm, &mut tally).await;
            }
        }
        if !all_over {
            println!("not all builds were over in time");
        }
        tally
    }

    async fn judge(&self, shape: &Shape, number: BuildNumber, harm: &[Harm], tally: &mut Tally) {
        let Some(view) = self.whole(number).await else {
            return tally.wrong.push(format!("{} build {number}: its logs do not come to an end", shape.name));
        };
        let begun = self.farm.counter.begun(number.0);
        if let Some(wrong) = shape.wrong(&view, begun) {
            tally.wrong.push(format!("{} build {number}: {wrong}", shape.name));
        }
        if shape.right == Right::OnceAtMost && view.build.status.name() == "errored" {
            tally.unknown += 1;
            tally.unknown_not_begun += u32::from(begun == 0);
        }
        for attempt in view.attempts.iter().filter(|attempt| attempt.state == "lost") {
            tally.attempts_lost += 1;
            let until = attempt.ended_ms.unwrap_or(u64::MAX);
            let is_just = |harm: &Harm| harm.agent == attempt.agent && harm.overlaps(attempt.started_ms, until);
            // A job that is cancelled and whose agent does not answer is ended without it.
            if shape.right != Right::Cancelled && !harm.iter().any(is_just) {
                tally.wrong.push(format!("{} build {number}: {} lost it, and was well", shape.name, attempt.agent));
            }
        }
        self.judge_logs(shape, &view, tally).await;
    }

    async fn judge_logs(&self, shape: &Shape, view: &BuildView, tally: &mut Tally) {
        let build = view.build.number;
        let passed = || view.attempts.iter().filter(|attempt| attempt.state == "passed");
        for (attempt, log) in passed().flat_map(|attempt| attempt.logs.iter().map(move |log| (attempt, log))) {
            if log.missing > 0 {
                let AttemptView { job, attempt, .. } = attempt;
                let log = format!("{} of {job}, attempt {attempt}, lacks {} bytes", log.name, log.missing);
                tally.incomplete.push(format!("build {build}: {log}"));
            }
        }
        for Said { job, log: name, bytes: expect } in &shape.logs {
            // Of a build of one job the last attempt tells; a job that is one of several is looked for.
            let of = |attempt: &&AttemptView| job.is_none_or(|job| attempt.job == job);
            let Some(last) = view.attempts.iter().rfind(of).filter(|last| last.state == "passed") else { continue };
            let log = name.parse().expect("a log's name");
            let mut reader = self.farm.api.log(LogAddress { build, attempt: last.attempt, log }, 0, u64::MAX);
            let mut all = Vec::new();
            while let Ok(Some(bytes)) = reader.next().await {
                all.extend_from_slice(&bytes);
            }
            tally.bytes_sent += expect.len() as u64;
            // Before them stand the lines that show the commands.
            let from = all.len().saturating_sub(expect.len());
            if all[from..] == expect[..] && (from == 0 || all[from - 1] == b'\n') {
                tally.bytes_stored += expect.len() as u64;
            } else {
                tally.bytes_stored += all.len() as u64;
                tally.wrong.push(format!("{} build {build}: the log {name} is another", shape.name));
            }
        }
    }

    /// A build with logs that are complete or told to be incomplete.
    async fn whole(&self, number: BuildNumber) -> Option<BuildView> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(view) = self.farm.api.build(number).await {
                // Of an agent that went silent nobody waits for more.
                let mut told = view.attempts.iter().filter(|attempt| attempt.state != "lost");
                if told.all(|attempt| attempt.logs.iter().all(|log| log.complete || log.missing > 0)) {
                    return Some(view);
                }
            }
            if Instant::now() > end {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
