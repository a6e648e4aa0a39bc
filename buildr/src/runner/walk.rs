//! The walk through the stages of one job: each when those that it waits for are over, so many at once as may be, and
//! none that need not run any more.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use protocol::plan::RunOn;
use protocol::{Cause, Ending, Outcome, StageName, StageOutcome, StagePlan, Variable};
use tokio::sync::Notify;

use super::graph::Graph;
use super::handing;
use super::job::Job;
use super::joining;
use super::stage::{Done, StageRun};
use super::telling::sentence;
use crate::executor::Stop;

/// What the stages of a job came to.
pub(super) struct Walked {
    pub(super) ending: Ending,
    /// What they hand on to other jobs.
    pub(super) handed: Vec<Variable>,
}

/// Where one stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Running,
    /// It passed, or its failure is allowed.
    Passed,
    /// It ended badly, or was stopped for another that did.
    Failed,
    /// It was passed over, and nothing is wrong with that.
    Skipped,
    /// It was passed over because something before it failed.
    Missed,
}

impl Fate {
    fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Missed)
    }
}

struct Walk<'a> {
    job: &'a Job<'a>,
    graph: Graph,
    fates: Vec<Fate>,
    stops: Vec<Stop>,
    handed: Vec<Vec<Variable>>,
    /// Artifacts of stages that worked on copies, which are not in the workspace yet.
    kept: Vec<Option<PathBuf>>,
    workspace: PathBuf,
    bad: Option<Ending>,
    begins: Begins,
}

/// How things stand before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// As they should.
    Well,
    /// Something that all stages need is not there.
    Badly,
    /// The image that stages without one of their own start from is not there.
    WithoutImage,
}

/// Goes through a job's stages; `bad` is what went wrong before the first of them.
///
/// # Errors
/// When what happens cannot be kept.
pub(super) async fn walk(job: &Job<'_>, begins: Begins, bad: Option<Ending>) -> Result<Walked, Ending> {
    let stages = &job.plan.stages;
    let graph = Graph::of(stages).map_err(|error| {
        let message = format!("the plan of this job cannot be carried out: {error}");
        Ending::errored(Cause::Manifest, message)
    })?;
    let walk = Walk {
        job,
        graph,
        fates: vec![Fate::Waiting; stages.len()],
        stops: stages.iter().map(|_| job.stop.part()).collect(),
        handed: vec![Vec::new(); stages.len()],
        kept: vec![None; stages.len()],
        workspace: job.checkout.clone(),
        bad,
        begins,
    };
    walk.go().await
}

impl<'a> Walk<'a> {
    async fn go(mut self) -> Result<Walked, Ending> {
        let at_once = self.job.stages_at_once();
        let mut running = FuturesUnordered::new();
        let (mut lost, mut foreseen) = (None, None);
        let mut begun = Arc::<Notify>::default();
        let mut over = VecDeque::new();
        loop {
            while lost.is_none() && over.is_empty() && running.len() < at_once {
                let Some(place) = self.next() else { break };
                match beside(self.begin(place), &mut running, &mut over).await {
                    Ok(Some(run)) => {
                        self.fates[place] = Fate::Running;
                        begun = Arc::clone(&run.begun);
                        running.push(async move { (place, run.run().await) });
                    }
                    Ok(None) => {}
                    Err(ending) => lost = Some(ending),
                }
            }
            let next = if lost.is_none() { self.foreseen() } else { None };
            let unseen = next.filter(|_| next != foreseen);
            let ended = tokio::select! {
                biased;
                ended = async { over.pop_front() }, if !over.is_empty() => ended,
                ended = running.next() => ended,
                // Not before: what is made ahead is for whoever comes first.
                () = begun.notified(), if unseen.is_some() => {
                    unseen.into_iter().for_each(|place| self.run_of(place, None).stand_by());
                    foreseen = next;
                    continue;
                }
            };
            match ended {
                None => break,
                Some((place, Ok(done))) => self.ended(place, done),
                Some((_, Err(ending))) => {
                    // It cannot be told what the others do either.
                    self.job.stop.cancel();
                    lost.get_or_insert(ending);
                }
            }
        }
        drop(running);
        match lost {
            Some(ending) => Err(ending),
            None => self.finish().await,
        }
    }

    /// One that waits for nothing any more.
    fn next(&self) -> Option<usize> {
        let is_next = |&place: &usize| {
            self.fates[place] == Fate::Waiting && self.graph.needs(place).all(|need| self.fates[need].is_over())
        };
        (0..self.fates.len()).find(is_next)
    }

    /// Lets a stage begin, unless it is passed over (`None`).
    async fn begin(&mut self, place: usize) -> Result<Option<StageRun<'a>>, Ending> {
        let alone = self.graph.is_alone(place);
        let stage = &self.job.plan.stages[place];
        if alone && stage.skip.is_none() && !self.job.stop.is_cancelled() {
            // Before it is decided: whoever runs only when something failed is to see that this did.
            self.join().await;
        }
        if let Err((fate, reason)) = self.decide(place) {
            self.fates[place] = fate;
            let result = StageOutcome::Skipped { reason };
            self.job.tell_end(&stage.name, result).await?;
            return Ok(None);
        }
        let before = self.graph.before(place);
        let archives = before.iter().filter_map(|&before| self.kept[before].clone()).collect();
        Ok(Some(self.run_of(place, (!alone).then_some(archives))))
    }

    /// A stage as it would be run now.
    fn run_of(&self, place: usize, copy_with: Option<Vec<PathBuf>>) -> StageRun<'a> {
        let before = self.graph.before(place);
        StageRun {
            job: self.job,
            stage: &self.job.plan.stages[place],
            stop: self.stops[place].clone(),
            workspace: self.workspace.clone(),
            copy_with,
            handed: before.iter().flat_map(|&before| self.handed[before].iter().cloned()).collect(),
            begun: Arc::default(),
        }
    }

    /// The one that runs next on the workspace as it is, if all goes well with those that run.
    fn foreseen(&self) -> Option<usize> {
        let running = |&place: &usize| self.fates[place] == Fate::Running;
        // Of those that may be tried again another workspace stays.
        let moves = |place: usize| self.run_of(place, None).most_tries() > 1 && !self.job.in_place;
        if (0..self.fates.len()).filter(running).any(|place| self.graph.is_alone(place) && moves(place)) {
            return None;
        }
        let is_next = |&place: &usize| {
            let waits_for_running = |need: usize| self.fates[need].is_over() || self.fates[need] == Fate::Running;
            self.fates[place] == Fate::Waiting
                && self.job.plan.stages[place].skip.is_none()
                && self.graph.needs(place).all(waits_for_running)
        };
        let next = (0..self.fates.len()).find(is_next)?;
        (self.graph.is_alone(next) && self.decide(next).is_ok()).then_some(next)
    }

    /// Whether a stage runs, now that all before it is over; else why not.
    fn decide(&self, place: usize) -> Result<(), (Fate, String)> {
        let stage = &self.job.plan.stages[place];
        if let Some(reason) = &stage.skip {
            return Err((Fate::Skipped, reason.clone()));
        }
        if self.job.stop.is_cancelled() {
            return Err((Fate::Missed, "the build was cancelled".to_owned()));
        }
        let failed = self.graph.before(place).iter().any(|&before| self.fates[before].is_bad());
        let failed = failed || self.job.failed_before() || self.begins != Begins::Well;
        match stage.run_on {
            RunOn::Passed => self.decide_passed(place)?,
            RunOn::Failed if !failed => {
                return Err((Fate::Skipped, "it runs only when something before it failed".to_owned()));
            }
            RunOn::Failed | RunOn::Always => {}
        }
        if self.begins == Begins::WithoutImage && stage.image.is_none() {
            let reason = "prepare failed, and this stage starts from what it makes";
            return Err((Fate::Missed, reason.to_owned()));
        }
        Ok(())
    }

    /// The same, of a stage that runs only when all is well.
    fn decide_passed(&self, place: usize) -> Result<(), (Fate, String)> {
        let stages = &self.job.plan.stages;
        let stage = &stages[place];
        let missed = |reason| Err((Fate::Missed, reason));
        let all_end = self.job.plan.fail_fast || self.begins != Begins::Well;
        if let Some(bad) = self.bad.as_ref().filter(|_| all_end) {
            return missed(reason_of(bad));
        }
        let name = |place: usize| &stages[place].name;
        if let Some(&bad) = self.graph.before(place).iter().find(|&&before| self.fates[before] == Fate::Failed) {
            return missed(format!("{} failed", name(bad)));
        }
        if self.job.failed_before() && stages.iter().any(|stage| stage.run_on != RunOn::Passed) {
            return missed("the build failed before".to_owned());
        }
        // What is not named is only an order.
        let skipped = |&need: &usize| stage.needs.is_some() && self.fates[need] == Fate::Skipped;
        match self.graph.needs(place).find(skipped) {
            Some(need) => Err((Fate::Skipped, format!("it needs {}, which was skipped", name(need)))),
            None => Ok(()),
        }
    }

    /// Takes in how a stage ended.
    fn ended(&mut self, place: usize, done: Done) {
        let stage = &self.job.plan.stages[place];
        self.kept[place] = done.archive;
        if let Some(workspace) = done.workspace {
            self.workspace = workspace;
        }
        let victim = done.outcome == StageOutcome::Cancelled && !self.job.stop.is_cancelled();
        self.fates[place] = match &done.outcome {
            StageOutcome::Passed | StageOutcome::AllowedFailure { .. } => Fate::Passed,
            _ => Fate::Failed,
        };
        let ending = meaning(&done.outcome, stage).or_else(|| self.conflict(place, &done.handed));
        self.handed[place] = done.handed;
        if let Some(ending) = ending.filter(|_| !victim) {
            self.fates[place] = Fate::Failed;
            self.fail(ending);
        }
    }

    /// Something went wrong: what runs beside it need not go on.
    fn fail(&mut self, ending: Ending) {
        let (cancelled, reason) = (ending.outcome == Outcome::Cancelled, reason_of(&ending));
        if self.bad.is_none() || cancelled {
            self.bad = Some(ending);
        }
        if self.job.plan.fail_fast {
            let running = (0..self.fates.len()).filter(|&place| self.fates[place] == Fate::Running);
            for place in running.filter(|&place| self.job.plan.stages[place].run_on == RunOn::Passed) {
                self.stops[place].cancel_because(&reason);
            }
        }
    }

    /// Two stages of which none waits for the other may not hand on two values for one name.
    fn conflict(&self, place: usize, handed: &[Variable]) -> Option<Ending> {
        let stages = &self.job.plan.stages;
        let others = (0..stages.len()).filter(|&other| other != place && !self.graph.are_ordered(place, other));
        let (other, name) =
            others.filter_map(|other| Some((other, handing::conflict(handed, &self.handed[other])?))).next()?;
        let (one, other) = (&stages[other].name, &stages[place].name);
        let message = format!(
            "{one} and {other} run at the same time and hand on different values for {name}; let one wait for the \
             other, or use two names"
        );
        Some(Ending::errored(Cause::Manifest, message).in_stage(other))
    }

    /// Brings what stages on copies have left into the workspace. A stage whose files cannot be brought has failed: nobody
    /// goes on without them.
    async fn join(&mut self) {
        let mut left: Vec<(usize, PathBuf)> = Vec::new();
        for (place, kept) in self.kept.iter_mut().enumerate() {
            left.extend(kept.take().map(|archive| (place, archive)));
        }
        let stages = &self.job.plan.stages;
        let joined = joining::join(&self.job.places, &self.workspace, &left, &self.graph, |place| &stages[place].name);
        let Err(error) = joined.await else { return };
        let ending = Ending::errored(error.cause(), sentence(&error));
        let ending = match error.stage() {
            Some(place) => {
                self.fates[place] = Fate::Failed;
                ending.in_stage(&stages[place].name)
            }
            // Nobody knows which of them are there.
            None => {
                left.iter().for_each(|&(place, _)| self.fates[place] = Fate::Failed);
                ending
            }
        };
        self.fail(ending);
    }

    async fn finish(mut self) -> Result<Walked, Ending> {
        if !self.job.stop.is_cancelled() {
            self.join().await;
        }
        if self.job.stop.is_cancelled() && self.bad.is_none() {
            self.bad = Some(Ending::cancelled("cancelled between two stages"));
        }
        let mut handed: Vec<Variable> = Vec::new();
        for place in in_order(&self.graph, self.fates.len()) {
            for value in std::mem::take(&mut self.handed[place]) {
                handed.retain(|earlier| earlier.name != value.name);
                handed.push(value);
            }
        }
        Ok(Walked { ending: self.bad.unwrap_or_else(Ending::passed), handed })
    }
}

/// Does something while those that run go on, for one of them may have what it waits for, such as the turn to tell
/// something. Those that end meanwhile are kept for afterwards.
async fn beside<T, R: Future>(
    work: impl Future<Output = T>,
    running: &mut FuturesUnordered<R>,
    over: &mut VecDeque<R::Output>,
) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(ended) = running.next() => over.push_back(ended),
        }
    }
}

/// The stages in an order in which each stands after what it waits for.
fn in_order(graph: &Graph, count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by_key(|&place| (graph.before(place).len(), place));
    places
}

/// Why what comes later does not run.
pub(super) fn reason_of(ending: &Ending) -> String {
    match (&ending.stage, ending.outcome) {
        (_, Outcome::Cancelled) => "the build was cancelled".to_owned(),
        (Some(culprit), outcome) => format!("{culprit} {}", outcome.name()),
        (None, outcome) => format!("the build {}", outcome.name()),
    }
}

/// What a stage's end means for its job, when it is bad.
pub(super) fn meaning(outcome: &StageOutcome, stage: &StagePlan) -> Option<Ending> {
    ending_of(outcome, &stage.name)
}

/// The same, of anything with a stage's name.
pub(super) fn ending_of(outcome: &StageOutcome, stage: &StageName) -> Option<Ending> {
    let ending = match outcome {
        StageOutcome::Passed | StageOutcome::AllowedFailure { .. } | StageOutcome::Skipped { .. } => return None,
        StageOutcome::Failed { end } => Ending::of(Outcome::Failed, Some(format!("{stage} failed: {end}"))),
        StageOutcome::Errored { cause, message, again } => Ending::errored(*cause, message.clone()).or_again(*again),
        StageOutcome::Cancelled => Ending::cancelled(format!("cancelled during {stage}")),
    };
    Some(ending.in_stage(stage))
}
