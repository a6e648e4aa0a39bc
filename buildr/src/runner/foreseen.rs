//! What is known of a stage's container before its stage begins, so that it can be started before: the next stage's
//! while the present one runs, and that of a job which nobody has asked for yet.
//!
//! It is known where nothing of it depends on what runs before: not of a stage that works on a copy, sees services of
//! its own, secrets as files or caches.

use std::io;

use protocol::plan::RunOn;
use protocol::{Plan, StagePlan};

use super::graph::Graph;
use super::places;
use super::stage::StageRun;
use super::workspace::Workspace;
use crate::executor::{SandboxOrder, StageOrder, StandbyOrder};

/// What the next job like one that has been carried out would probably begin with.
#[derive(Debug, Clone)]
pub struct Foreseen {
    standby: Box<StandbyOrder>,
    /// Whether it starts from what `prepare` left, and that is not known yet.
    waits_for_prepare: bool,
}

impl Foreseen {
    /// What another job of this plan would begin with, if that can be known.
    pub(super) fn of(plan: &Plan, place: &SandboxOrder, in_place: bool) -> Option<Self> {
        let place_of_first = plan.stages.iter().position(|stage| stage.skip.is_none())?;
        let first = &plan.stages[place_of_first];
        let is_alone = Graph::of(&plan.stages).is_ok_and(|graph| graph.is_alone(place_of_first));
        let is_known = plan.services.is_empty() && is_alone && !in_place;
        if !is_known || !can_be_foreseen(first) || first.retry.is_some() || !first.secrets.is_empty() {
            return None;
        }
        let order = StageOrder::new(first.name.clone(), Vec::new(), std::time::Duration::ZERO);
        let stage = StageOrder {
            image: first.image.clone(),
            docker: first.docker,
            resources: first.resources,
            privileged: first.privileged,
            ..order
        };
        let place = SandboxOrder { job: String::new(), ..place.clone() };
        let waits_for_prepare = plan.prepare.is_some() && stage.image.is_none();
        Some(Self { standby: Box::new(StandbyOrder { place, stage, prepared: None }), waits_for_prepare })
    }

    /// The same, once it is known what `prepare` left. Nothing where that is not for other jobs.
    pub(super) fn started_from(mut self, prepared: Option<String>) -> Option<Self> {
        if self.waits_for_prepare {
            self.standby.prepared = Some(prepared?);
        }
        Some(self)
    }

    /// What stands ready for a job in this workspace.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn in_workspace(&self, workspace: &Workspace) -> io::Result<StandbyOrder> {
        let StandbyOrder { place, stage, prepared } = StandbyOrder::clone(&self.standby);
        let mounts = vec![places::first_hand(workspace.folder())?];
        Ok(StandbyOrder {
            place: SandboxOrder { workspace: workspace.checkout(), ..place },
            stage: StageOrder { mounts, ..stage },
            prepared,
        })
    }
}

/// Whether all is known of which a stage's container is made.
fn can_be_foreseen(stage: &StagePlan) -> bool {
    stage.services.is_empty() && stage.cache.is_empty() && stage.run_on != RunOn::Failed
}

impl StageRun<'_> {
    /// Has its container started before its turn, if all is known of which it is made.
    pub(super) fn stand_by(&self) {
        let Self { job, stage, .. } = self;
        if !can_be_foreseen(stage) || self.most_tries() > 1 && !job.in_place || self.copy_with.is_some() {
            return;
        }
        // What is denied is told at its turn.
        let Ok(given) = job.secrets.given(&stage.name, &stage.secrets) else { return };
        if given.has_files() {
            return;
        }
        match job.places.hand_ahead() {
            Ok(hand) => job.sandbox.stand_by(&self.order_over(&self.workspace, vec![hand], &given)),
            Err(error) => tracing::debug!(%error, "no container stands ready"),
        }
    }
}
