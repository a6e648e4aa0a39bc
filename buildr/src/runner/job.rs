//! One job from its code to its end: what all of its containers share, and the order in which things happen.

use std::path::PathBuf;

use protocol::job::WorkOrder;
use protocol::report::{JobEvent, Part};
use protocol::{Cause, Ending, Outcome, Plan, StageName, StageOutcome, Variable};

use super::environment::Environment;
use super::foreseen::Foreseen;
use super::places::Places;
use super::redact::Redactor;
use super::rest::Rest;
use super::secrets::Vault;
use super::services::ServiceLogs;
use super::source::Sourced;
use super::telling::{JobLog, sentence, told_badly};
use super::walk::{Begins, Walked, walk};
use super::workspace::Workspace;
use super::{Rooms, Runner, prepare};
use crate::carry::Shelf;
use crate::executor::{ExecutorError, Sandbox, SandboxOrder, Served, Stop};
use crate::ledger::Ledger;
use crate::sink::EventSink;

/// What every container of a job has in common.
pub(super) struct Job<'a> {
    pub(super) order: &'a WorkOrder,
    pub(super) rooms: &'a Rooms<'a>,
    pub(super) sink: &'a dyn EventSink,
    pub(super) stop: &'a Stop,
    pub(super) redactor: &'a Redactor,
    pub(super) ledger: &'a Ledger,
    pub(super) log: &'a JobLog<'a>,
    pub(super) plan: &'a Plan,
    pub(super) sourced: &'a Sourced,
    pub(super) environment: Environment<'a>,
    pub(super) secrets: Vault,
    pub(super) places: Places<'a>,
    pub(super) sandbox: &'a dyn Sandbox,
    /// The checkout, as the sandbox was opened over it.
    pub(super) checkout: PathBuf,
    /// Whether that is a person's own tree: then nothing takes its place.
    pub(super) in_place: bool,
    /// The services of the job, once they are ready.
    pub(super) services: Option<Served>,
    /// Where artifacts are brought to.
    pub(super) shelf: Option<Shelf>,
}

impl<'a> Job<'a> {
    /// Opens its sandbox, with what its owner lets it have.
    async fn open(
        runner: &Runner<'a>,
        plan: &'a Plan,
        sourced: &'a Sourced,
        workspace: &'a Workspace,
        log: &'a JobLog<'a>,
        rest: &'a mut Rest,
    ) -> Result<Self, Ending> {
        let Runner { order, rooms, sink, stop, redactor, ledger } = *runner;
        let in_place = rooms.source.checkout(workspace).1;
        let sandbox_order = place(order, rooms, plan, workspace)?;
        let checkout = sandbox_order.workspace.clone();
        rest.foreseen = Foreseen::of(plan, &sandbox_order, in_place);
        let opening = ledger.open(Part::Start, None);
        if workspace.has_turned() {
            // What stands ready sees a folder that is no more.
            rooms.executor.stand_down(&checkout).await.map_err(|error| ending_of(&error, stop))?;
        }
        let sandbox = rooms.executor.open(sandbox_order).await.map_err(|error| ending_of(&error, stop))?;
        drop(opening);
        let sandbox: &dyn Sandbox = &**rest.sandbox.insert(sandbox);
        let depot = order.depot.clone().map(Shelf::Farm);
        Ok(Self {
            order,
            rooms,
            sink,
            stop,
            redactor,
            ledger,
            log,
            plan,
            sourced,
            environment: Environment::of(order, plan, sourced, rooms),
            secrets: Vault::of(order, rooms.secrets, plan),
            places: Places::new(workspace.folder(), rooms.executor, plan),
            sandbox,
            checkout,
            in_place,
            services: None,
            shelf: depot.or_else(|| rooms.archives.map(|folder| Shelf::Folder(folder.to_owned()))),
        })
    }

    /// Tells what happens.
    pub(super) async fn tell(&self, event: JobEvent) -> Result<(), Ending> {
        self.sink.emit(event).await.map_err(|error| told_badly(&error))
    }

    /// Tells the end of a stage that never ran.
    pub(super) async fn tell_end(&self, stage: &StageName, result: StageOutcome) -> Result<(), Ending> {
        self.tell(JobEvent::StageEnded { stage: stage.clone(), result, duration_ms: 0 }).await
    }

    /// The most stages that run at once.
    pub(super) fn stages_at_once(&self) -> usize {
        let asked = self.plan.stage_parallelism.and_then(|most| usize::try_from(most).ok());
        self.rooms.stage_parallelism.min(asked.unwrap_or(usize::MAX)).max(1)
    }

    /// Whether the build had failed before this job began.
    pub(super) fn failed_before(&self) -> bool {
        let outcome = self.order.so_far.as_ref().map(|so_far| so_far.outcome);
        matches!(outcome, Some(Outcome::Failed | Outcome::Errored { .. }))
    }

    /// `prepare`, services, stages.
    async fn carry_out(&mut self) -> Result<Walked, Ending> {
        for line in self.environment.passed_on() {
            self.log.say(&line).await;
        }
        if let Some(bad) = prepare::run(self).await? {
            return walk(self, Begins::WithoutImage, Some(bad)).await;
        }
        if let Err(bad) = self.receive().await {
            return walk(self, Begins::Badly, Some(bad)).await;
        }
        if self.plan.services.is_empty() {
            return walk(self, Begins::Well, None).await;
        }
        let stop = self.stop;
        let mut logs = ServiceLogs::new(&self.plan.services, None, self.sink, self.redactor);
        let (orders, pumping) = logs.begin(stop);
        let work = async {
            let opening = self.ledger.open(Part::Services, None);
            let served = self.sandbox.serve(orders, None, stop).await;
            drop(opening);
            match served {
                Ok(served) => {
                    self.services = Some(served.clone());
                    let walked = walk(self, Begins::Well, None).await;
                    self.sandbox.dismiss(served).await;
                    walked
                }
                Err(error) => {
                    let bad = ending_of(&error, stop);
                    walk(self, Begins::Badly, Some(bad)).await
                }
            }
        };
        let (walked, ()) = tokio::join!(work, pumping);
        logs.complete().await.map_err(|error| told_badly(&error))?;
        walked
    }

    /// Tells what later jobs receive. What holds a secret stays here.
    async fn hand_on(&self, handed: Vec<Variable>) -> Result<(), Ending> {
        let (values, secret): (Vec<_>, Vec<_>) =
            handed.into_iter().partition(|value| self.redactor.text(&value.value) == value.value);
        for Variable { name, .. } in secret {
            self.log.say(&format!("{name} holds a secret, so it is not handed on to other jobs")).await;
        }
        if values.is_empty() { Ok(()) } else { self.tell(JobEvent::HandedOn { values }).await }
    }
}

/// The place of a job, with what its owner lets it have.
///
/// # Errors
/// The job's end, when it asks for more.
pub(super) fn place(
    order: &WorkOrder,
    rooms: &Rooms<'_>,
    plan: &Plan,
    workspace: &Workspace,
) -> Result<SandboxOrder, Ending> {
    let refused =
        |refusal: super::socket::Refusal| Ending::errored(Cause::Limit, refusal.to_string()).in_stage(&refusal.stage);
    Ok(SandboxOrder {
        job: order.job.to_string(),
        workspace: rooms.source.checkout(workspace).0,
        mount: plan.workspace.clone(),
        image: plan.image.clone(),
        docker_socket: rooms.socket.decide(order, plan).map_err(refused)?,
        privileged: rooms.socket.decide_privileged(order, plan).map_err(refused)?,
        keep: rooms.keep,
    })
}

/// From an open sandbox to the job's end, once its code and its plan are there. What is to be closed and may be
/// foreseen is in `rest`.
///
/// # Errors
/// An end before the first stage, so that `?` reads well.
pub(super) async fn carry_out(
    runner: &Runner<'_>,
    plan: &Plan,
    sourced: &Sourced,
    workspace: &Workspace,
    log: &JobLog<'_>,
    rest: &mut Rest,
) -> Result<Ending, Ending> {
    let mut job = Job::open(runner, plan, sourced, workspace, log, rest).await?;
    match job.carry_out().await {
        Ok(Walked { ending, handed }) => job.hand_on(handed).await.map(|()| ending),
        Err(ending) => Err(ending),
    }
}

fn ending_of(error: &ExecutorError, stop: &Stop) -> Ending {
    if stop.is_cancelled() {
        Ending::cancelled("cancelled before the first stage")
    } else {
        Ending::errored(error.cause(), sentence(error)).or_again(error.passes())
    }
}
