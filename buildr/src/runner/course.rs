//! The course of a build whose jobs are all carried out here: each in its turn, `finally` last.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use protocol::course::{self, At, Member, Turn};
use protocol::handing;
use protocol::job::{SoFar, WorkOrder};
use protocol::plan::{BuildPlan, Image, Kept, RunOn};
use protocol::report::JobEvent;
use protocol::{Cause, Ending, JobId, Outcome, PlannedJob, StageName, Variable};

use super::build::{Answer, Place, Ways};
use super::given::{Given, Template};
use super::platform::look;
use super::redact::Redactor;
use super::rest::{Ended, Rest};
use super::source::Sourced;
use super::tap::{Left, Tap};
use super::telling::{InTurn, JobLog};
use super::{Rooms, Runner};
use crate::executor::Stop;
use crate::ledger::Ledger;
use crate::sink::{BuildSink, EventSink as _};

/// How long `finally` may take.
const FINALLY_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// What the jobs of a build have in common.
pub(super) struct Build<'a> {
    pub(super) order: &'a WorkOrder,
    pub(super) rooms: &'a Rooms<'a>,
    pub(super) ways: &'a Ways<'a>,
    pub(super) sink: &'a dyn BuildSink,
    /// Ends all jobs but `finally`.
    pub(super) stop: &'a Stop,
    pub(super) redactor: &'a Redactor,
    /// Where the plan was made.
    pub(super) template: &'a Template,
    pub(super) sourced: &'a Sourced,
}

/// What is different for a job that runs on this machine in place of another.
#[derive(Default)]
struct How {
    /// A sentence for its log.
    note: Option<String>,
    /// What has to run here, or the job does not.
    image: Option<Image>,
}

/// Something that was waited for.
enum Step {
    Answered(usize, Answer),
    Ended(usize, Ended, Left),
    /// It turned out that this machine cannot run it.
    Impossible(usize, String),
}

type Waiting<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Step> + Send + 'a>>>;

/// How far a build is.
struct Course<'a> {
    build: &'a Build<'a>,
    jobs: &'a [PlannedJob],
    members: Vec<Member>,
    /// Of each job that began.
    stops: Vec<Stop>,
    asked: Vec<bool>,
    /// Whether a person has a question before them. They are asked one after the other, and the time that a gate waits
    /// begins with its question.
    asking: bool,
    inputs: Vec<Vec<Variable>>,
    left: Vec<Left>,
    endings: Vec<Option<Ending>>,
    /// Those that end because another of their lane failed.
    victims: Vec<bool>,
    running: usize,
}

/// Carries out the jobs of a plan. Gives the fold of their ends.
pub(super) async fn carry_out(build: &Build<'_>, jobs: &[PlannedJob], plan: &BuildPlan) -> Ending {
    let count = jobs.len();
    let mut course = Course {
        build,
        jobs,
        members: jobs.iter().map(Member::planned).collect(),
        stops: jobs.iter().map(|job| if job.finally { Stop::new() } else { build.stop.part() }).collect(),
        asked: vec![false; count],
        asking: false,
        inputs: vec![Vec::new(); count],
        left: (0..count).map(|_| Left::default()).collect(),
        endings: vec![None; count],
        victims: vec![false; count],
        running: 0,
    };
    let late = async {
        if let Some(limit) = plan.timeout_ms.map(Duration::from_millis) {
            tokio::time::sleep(limit).await;
            build.stop.cancel_because(&format!("the build took longer than {} s", limit.as_secs()));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = course.run() => {}
        // It does not end by itself.
        () = late => {}
    }
    course.fold()
}

impl<'a> Course<'a> {
    async fn run(&mut self) {
        let mut waiting: Waiting<'a> = FuturesUnordered::new();
        // What jobs leave is cleared away while others go on.
        let mut clearing = FuturesUnordered::new();
        let mut cancelled = false;
        loop {
            self.go_on(&mut waiting);
            if self.members.iter().all(|member| matches!(member.at, At::Ended(_) | At::Skipped)) {
                break;
            }
            let stop = self.build.stop;
            let step = tokio::select! {
                () = stop.cancelled(), if !cancelled => {
                    cancelled = true;
                    continue;
                }
                Some(()) = clearing.next() => continue,
                step = waiting.next() => step,
            };
            match step {
                Some(Step::Answered(place, answer)) => self.answered(place, answer),
                Some(Step::Ended(place, Ended { ending, rest }, left)) => {
                    self.ended(place, ending, left);
                    clearing.push(rest.clear(self.build.rooms.executor));
                }
                Some(Step::Impossible(place, reason)) => self.impossible(place, &reason),
                // Nothing runs, and nothing can begin: the edges are a circle.
                None => {
                    self.pass_over_rest("it waits for what never ends");
                    break;
                }
            }
        }
        while clearing.next().await.is_some() {}
    }

    /// Begins what may begin, and passes over what never will.
    fn go_on(&mut self, waiting: &mut Waiting<'a>) {
        loop {
            let mut changed = false;
            for (place, failed) in course::to_end(&self.members) {
                self.victims[place] = true;
                self.members[place].at = At::Begun { ending: true };
                self.stops[place]
                    .cancel_because(&format!("{failed} failed, and then the others beside it are not run"));
            }
            for place in 0..self.jobs.len() {
                if matches!(self.members[place].at, At::Waiting { .. }) {
                    changed |= self.turn(place, waiting);
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// Looks at one that waits; says whether it waits no more.
    fn turn(&mut self, place: usize, waiting: &mut Waiting<'a>) -> bool {
        let job = &self.jobs[place];
        if self.build.stop.is_cancelled() && !job.finally {
            return self.pass_over(place, "the build was cancelled");
        }
        match course::turn(&self.members, place) {
            Turn::Never(reason) => self.pass_over(place, &reason),
            Turn::Gate if !self.asked[place] && !self.asking => match self.build.ways.gatekeeper.place(job) {
                // Nobody is asked about what is not done here anyway.
                Place::Nowhere(reason) => self.leave_out(place, &reason),
                Place::Here | Place::Instead(_) | Place::IfItRuns(..) => {
                    self.asked[place] = true;
                    self.asking = true;
                    waiting.push(Box::pin(ask(self.build, job, place)));
                    false
                }
            },
            Turn::Now if self.running < self.build.ways.jobs.max(1) => match self.build.ways.gatekeeper.place(job) {
                Place::Nowhere(reason) => self.leave_out(place, &reason),
                Place::Here => self.begin(place, How::default(), waiting),
                Place::Instead(note) => self.begin(place, How { note: Some(note), image: None }, waiting),
                Place::IfItRuns(image, note) => self.begin(place, How { note, image: Some(image) }, waiting),
            },
            Turn::Now | Turn::Gate | Turn::Lane(_) | Turn::Needs(_) => false,
        }
    }

    fn begin(&mut self, place: usize, how: How, waiting: &mut Waiting<'a>) -> bool {
        let order = self.order(place);
        self.members[place].at = At::Begun { ending: false };
        self.members[place].ran = true;
        self.running += 1;
        let stop = self.stops[place].clone();
        waiting.push(Box::pin(run(self.build, &self.jobs[place], place, order, how, stop)));
        true
    }

    fn pass_over(&mut self, place: usize, reason: &str) -> bool {
        self.members[place].at = At::Skipped;
        self.build.sink.passed_over(&self.jobs[place].key, reason);
        true
    }

    /// Passes over what cannot run here; what a person asked for by its name is an error then.
    fn leave_out(&mut self, place: usize, reason: &str) -> bool {
        let job = &self.jobs[place];
        if !self.build.ways.gatekeeper.insists(job) {
            return self.pass_over(place, reason);
        }
        let ending = Ending::errored(Cause::Daemon, format!("{} does not run here: {reason}", job.key));
        self.members[place].at = At::Ended(ending.outcome);
        self.endings[place] = Some(ending);
        true
    }

    fn impossible(&mut self, place: usize, reason: &str) {
        self.running -= 1;
        self.members[place].ran = false;
        self.leave_out(place, reason);
    }

    fn pass_over_rest(&mut self, reason: &str) {
        for place in 0..self.jobs.len() {
            if matches!(self.members[place].at, At::Waiting { .. }) {
                self.pass_over(place, reason);
            }
        }
    }

    fn answered(&mut self, place: usize, answer: Answer) {
        self.asking = false;
        if !matches!(self.members[place].at, At::Waiting { .. }) {
            return;
        }
        match answer {
            Answer::Open(values) => {
                self.inputs[place] = values;
                self.members[place].at = At::Waiting { approved: true };
            }
            Answer::Skip(reason) => {
                self.leave_out(place, &reason);
            }
        }
    }

    fn ended(&mut self, place: usize, ending: Ending, left: Left) {
        self.running -= 1;
        self.members[place].at = At::Ended(ending.outcome);
        self.left[place] = left;
        self.endings[place] = Some(ending);
    }

    /// What a job is told: what those that it needs have left, and how the build stands.
    fn order(&self, place: usize) -> WorkOrder {
        let (build, job) = (self.build, &self.jobs[place]);
        let before = course::before(&self.members, place);
        let handed: Vec<_> = before.iter().map(|&before| (before, self.left[before].handed.clone())).collect();
        let (handed, clashes) = handing::values(&self.members, &handed);
        let mut kept: Vec<Kept> = build.ways.gatekeeper.kept(job);
        kept.extend(before.iter().flat_map(|&before| self.left[before].kept.iter().cloned()));
        handing::order(&self.members, &mut kept);
        let mut plan = job.plan.clone();
        for stage in &mut plan.stages {
            stage.not_twice |= job.gate.is_some() || job.concurrency.is_some();
        }
        WorkOrder {
            job: JobId::fresh(),
            plan: Some(plan),
            key: Some(job.key.clone()),
            commit: build.sourced.commit.clone(),
            branch: build.sourced.branch.clone(),
            inputs: build.order.inputs.iter().chain(&self.inputs[place]).cloned().collect(),
            handed,
            clashes,
            kept,
            so_far: (job.finally || job.run_on != RunOn::Passed).then(|| self.so_far()),
            ..build.order.clone()
        }
    }

    /// How the build stands, without those that another's failure ended.
    fn so_far(&self) -> SoFar {
        let (outcome, stage) = self.worst().map_or((Outcome::Passed, None), |(ending, stage)| (ending.outcome, stage));
        let outcome = if self.build.stop.is_cancelled() { Outcome::Cancelled } else { outcome };
        SoFar { outcome, stage }
    }

    /// The worst end of all but `finally`, the first of several, and the stage that failed first.
    fn worst(&self) -> Option<(&Ending, Option<StageName>)> {
        let counts = |place: &usize| !self.jobs[*place].finally && !self.victims[*place];
        let ends = || (0..self.jobs.len()).filter(counts).filter_map(|place| self.endings[place].as_ref());
        let worst = ends().fold(None::<&Ending>, |worst, ending| match worst {
            Some(worst) if worst.outcome.worse(ending.outcome) == worst.outcome => Some(worst),
            _ => Some(ending),
        })?;
        let failed = ends().find(|ending| matches!(ending.outcome, Outcome::Failed | Outcome::Errored { .. }));
        Some((worst, failed.and_then(|ending| ending.stage.clone())))
    }

    fn fold(&self) -> Ending {
        let ending = self.worst().map_or_else(Ending::passed, |(ending, _)| ending.clone());
        let stop = self.build.stop;
        if stop.is_cancelled() && ending.outcome != Outcome::Cancelled {
            let message = stop.reason().map_or_else(|| "cancelled".to_owned(), |reason| format!("cancelled: {reason}"));
            return Ending::cancelled(message);
        }
        let finally = (0..self.jobs.len()).filter(|&place| self.jobs[place].finally);
        let bad = finally.filter_map(|place| self.endings[place].as_ref()).find(|end| end.outcome != Outcome::Passed);
        match bad {
            Some(bad) if ending.outcome == Outcome::Passed => Ending { outcome: Outcome::Failed, ..bad.clone() },
            _ => ending,
        }
    }
}

async fn ask(build: &Build<'_>, job: &PlannedJob, place: usize) -> Step {
    let Some(gate) = &job.gate else { return Step::Answered(place, Answer::Open(Vec::new())) };
    let late = async {
        match gate.timeout_ms {
            Some(limit) => tokio::time::sleep(Duration::from_millis(limit)).await,
            None => std::future::pending().await,
        }
    };
    let answer = tokio::select! {
        biased;
        () = build.stop.cancelled() => Answer::Skip("the build was cancelled".to_owned()),
        answer = build.ways.gatekeeper.answer(job, gate) => answer,
        () = late => Answer::Skip("nobody let it begin in time".to_owned()),
    };
    Step::Answered(place, answer)
}

async fn run(build: &Build<'_>, job: &PlannedJob, place: usize, order: WorkOrder, how: How, stop: Stop) -> Step {
    let sink = build.sink.of_job(Some(&job.key));
    let tap = Tap::new(sink.as_ref(), &job.key);
    let turns = InTurn::new(&tap);
    let log = JobLog::new(&turns, build.redactor);
    if let Some(note) = &how.note {
        log.say(note).await;
    }
    if let Some(image) = &how.image
        && let Err(reason) = look(build.rooms, image, &stop, &log).await
    {
        if let Err(error) = log.complete().await {
            tracing::error!(%error, "why a job does not run here could not be told whole");
        }
        return Step::Impossible(place, reason);
    }
    let given = Given { template: build.template, sourced: build.sourced, log };
    let (rooms, redactor, ledger) = (build.rooms, build.redactor, &Ledger::default());
    let runner = Runner { order: &order, rooms, sink: &turns, stop: &stop, redactor, ledger };
    let running = runner.run(Some(given));
    let ended = if job.finally { in_time(running, build.stop, &stop).await } else { running.await };
    let finished = JobEvent::Finished { ending: ended.ending.clone(), spent: ledger.spans() };
    if let Err(error) = turns.emit(finished).await {
        tracing::error!(%error, "a job's end could not be told");
    }
    Step::Ended(place, ended, tap.left())
}

/// `finally` goes on after a cancel, and ends with a second one or when its time is over.
async fn in_time(running: impl Future<Output = Ended>, build: &Stop, stop: &Stop) -> Ended {
    let mut running = std::pin::pin!(running);
    let killed = async {
        build.killed().await;
        stop.kill();
        std::future::pending::<()>().await;
    };
    let late = async {
        tokio::time::sleep(FINALLY_TIMEOUT).await;
        stop.cancel_because(&format!("finally took longer than {} min", FINALLY_TIMEOUT.as_secs() / 60));
        std::future::pending::<()>().await;
    };
    // Neither of the two ends by itself.
    let why = tokio::select! {
        ended = &mut running => return ended,
        () = killed => "killed",
        () = late => "too late",
    };
    Ended { ending: Ending::cancelled(why), rest: Rest::default() }
}
