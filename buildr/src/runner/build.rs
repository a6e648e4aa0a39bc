//! All jobs of one build in one process: on a laptop, and at an agent that knows no coordinator.

use async_trait::async_trait;
use protocol::job::WorkOrder;
use protocol::plan::{BuildPlan, Gate, Kept};
use protocol::{Ending, PlannedJob, Variable};

use super::Rooms;
use crate::executor::Stop;
use crate::sink::BuildSink;

/// How the jobs of a build are gone about by one process.
pub struct Ways<'a> {
    /// The most jobs that run at once, at least 1.
    pub jobs: usize,
    /// Who decides what a farm's people and its other agents would.
    pub gatekeeper: &'a dyn Gatekeeper,
}

/// What became of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The job begins, with these values for the gate's inputs.
    Open(Vec<Variable>),
    /// It does not, for this reason: the end of the sentence "skipped: …". What needs it is skipped too.
    Skip(String),
}

/// Whether a job runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// As anywhere.
    Here,
    /// Yes, and this is different from where it would run: a sentence for the job's log.
    Instead(String),
    /// No, for this reason: the end of the sentence "skipped: …". What needs it is skipped too.
    Nowhere(String),
}

/// Decides what a farm's people and its other agents would.
#[async_trait]
pub trait Gatekeeper: Send + Sync {
    /// The plan, before it is told and before anything of it runs. Whoever wants only some of it takes out jobs (and
    /// the edges to them), or gives stages a [`protocol::StagePlan::skip`].
    ///
    /// # Errors
    /// A sentence for the person who asked for what the plan does not have; then nothing runs.
    fn look_over(&self, _jobs: &mut Vec<PlannedJob>, _build: &mut BuildPlan) -> Result<(), String> {
        Ok(())
    }

    /// What earlier builds kept of stages that are left out of this one, to be restored before the job's first stage,
    /// beside what the jobs that it needs kept now.
    fn kept(&self, _job: &PlannedJob) -> Vec<Kept> {
        Vec::new()
    }

    /// Whether a job with a gate, which could begin now, does. Others go on meanwhile. Dropped when the build is
    /// cancelled.
    async fn answer(&self, job: &PlannedJob, gate: &Gate) -> Answer;

    /// Whether a job that asks for labels or another platform runs here.
    fn place(&self, job: &PlannedJob) -> Place;
}

/// Lets in whoever asks for nothing: no person is asked, and no other machine is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

#[async_trait]
impl Gatekeeper for NobodyToAsk {
    async fn answer(&self, _job: &PlannedJob, _gate: &Gate) -> Answer {
        Answer::Skip("a person has to let it begin, and nobody can be asked here".to_owned())
    }

    fn place(&self, _job: &PlannedJob) -> Place {
        Place::Here
    }
}

/// Carries out a whole build: its code and its plan, then all of its jobs as their edges, gates and lanes allow,
/// `finally` last. Gives the fold of their endings; each job's own is told to its sink as
/// [`protocol::report::JobEvent::Finished`].
///
/// [`Stop::cancel`] ends all jobs, and `finally` runs; [`Stop::kill`] ends that too.
pub async fn run_build(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    ways: &Ways<'_>,
    sink: &dyn BuildSink,
    stop: &Stop,
) -> Ending {
    let _ = ways;
    let sink = sink.of_job(None);
    super::run(order, rooms, sink.as_ref(), stop).await
}
