//! All jobs of one build in one process: on a laptop, and at an agent that knows no coordinator.

use async_trait::async_trait;
use protocol::job::WorkOrder;
use protocol::plan::{BuildPlan, Gate, Image, Kept};
use protocol::report::JobEvent;
use protocol::{Cause, Ending, Outcome, PlannedJob, Variable};

use super::course::{self, Build};
use super::given::Template;
use super::redact::Redactor;
use super::source::{Source, Sourced};
use super::telling::{InTurn, JobLog};
use super::workspace::Workspace;
use super::{Foreseen, Rooms, Runner, job, planning};
use crate::executor::Stop;
use crate::ledger::Ledger;
use crate::plan::Planned;
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
    /// Yes, if containers of this image run here, which is for another platform than a farm's usual one; and with a
    /// sentence for the job's log, where more is different.
    IfItRuns(Image, Option<String>),
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

    /// Whether less, or something else, is done than the manifest says.
    fn narrows(&self) -> bool {
        false
    }

    /// Whether a person asked for this very job, so that it is an error when it cannot run here, and not only passed
    /// over.
    fn insists(&self, _job: &PlannedJob) -> bool {
        false
    }
}

/// Lets in whoever asks for nothing: no person is asked, and no other machine is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

#[async_trait]
impl Gatekeeper for NobodyToAsk {
    async fn answer(&self, _job: &PlannedJob, _gate: &Gate) -> Answer {
        Answer::Skip("a person has to let it begin, and nobody can be asked here".to_owned())
    }

    fn place(&self, job: &PlannedJob) -> Place {
        match job.downstream {
            Some(_) => Place::Nowhere("another build is begun only by a farm with a coordinator".to_owned()),
            None => Place::Here,
        }
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
    let Ok(redactor) = Redactor::for_order(order, rooms.secrets) else {
        // Nothing may be printed that might hold them.
        return Ending::errored(Cause::Limit, "the secrets of this build are too long to be masked in its logs");
    };
    let before = sink.of_job(None);
    let turns = InTurn::new(before.as_ref());
    let ledger = &Ledger::default();
    let planner = Runner { order, rooms, sink: &turns, stop, redactor: &redactor, ledger };
    let log = JobLog::new(&turns, &redactor);
    let workspace = match rooms.workspace(&order.repo).await {
        Ok(workspace) => workspace,
        Err(error) => return Ending::errored(Cause::Daemon, error.to_string()),
    };
    if !ways.gatekeeper.narrows() {
        begin_ahead(&planner, &workspace).await;
    }
    let planned = planned(&planner, ways, &workspace, &log).await;
    let jobs = planned.as_ref().map_or(0, |(_, jobs, _)| jobs.len());
    let template = &Template::new(workspace, rooms, jobs);
    let ending = match planned {
        Ok((sourced, jobs, plan)) => {
            // What comes now is said by the jobs.
            let said = planner.finish(Ending::passed(), log).await;
            sink.spent(&ledger.spans());
            if said.outcome == Outcome::Passed {
                let build = Build { order, rooms, ways, sink, stop, redactor: &redactor, template, sourced: &sourced };
                course::carry_out(&build, &jobs, &plan).await
            } else {
                said
            }
        }
        Err(ending) => planner.finish(ending, log).await,
    };
    if let Some(workspace) = template.rest() {
        workspace.let_go(rooms.executor).await;
    }
    ending
}

/// Has the container of the only job's first stage begun, so that it starts while the code is brought: as the manifest is
/// now in the person's tree. Whoever is wrong about that has begun a container in vain.
async fn begin_ahead(planner: &Runner<'_>, workspace: &Workspace) {
    let Runner { order, rooms, stop, .. } = *planner;
    let (Source::Tree(tree) | Source::Committed(tree)) = rooms.source else { return };
    let Some(Planned { jobs, .. }) = planning::foretell(order, rooms, tree, stop).await else { return };
    let [job] = &*jobs else { return };
    let waits =
        job.gate.is_some() || job.downstream.is_some() || job.plan.stages.iter().all(|stage| stage.skip.is_some());
    let place = if waits { None } else { job::place(order, rooms, &job.plan, workspace).ok() };
    let foreseen = place.and_then(|place| Foreseen::of(&job.plan, &place, false)?.started_from(None));
    let Some(Ok(standby)) = foreseen.map(|foreseen| foreseen.in_workspace(workspace)) else { return };
    if let Err(error) = rooms.executor.stand_by(standby).await {
        tracing::debug!(%error, "nothing stands ready");
    }
}

/// The code and the plan, told before anything of it runs.
async fn planned(
    planner: &Runner<'_>,
    ways: &Ways<'_>,
    workspace: &Workspace,
    log: &JobLog<'_>,
) -> Result<(Sourced, Vec<PlannedJob>, BuildPlan), Ending> {
    let sourced = planner.code(workspace, log).await?;
    let Planned { mut jobs, mut build, .. } = planner.plan(workspace, &sourced, log).await?;
    let wrong = |message| Ending::errored(Cause::Manifest, message);
    ways.gatekeeper.look_over(&mut jobs, &mut build).map_err(wrong)?;
    planner.tell(JobEvent::Planned { jobs: jobs.clone(), build: build.clone() }).await?;
    Ok((sourced, jobs, build))
}
