//! The environment of a job's containers: what the manifest asks for, what the farm says, later wins.

use protocol::job::{TriggerKind, WorkOrder};
use protocol::{Plan, StageName, Variable};

use super::{Rooms, Sourced};
use crate::plan::inherited;

/// The variables that every container of a job gets.
pub(super) struct Environment {
    common: Vec<Variable>,
    /// What wins over the stage's own name and all the rest.
    last: Vec<Variable>,
}

impl Environment {
    pub(super) fn of(order: &WorkOrder, plan: &Plan, sourced: &Sourced, rooms: &Rooms<'_>) -> Self {
        let own = rooms.own_environment;
        let passed = inherited(&plan.inherit, own.iter().map(|variable| variable.name.as_str()));
        let mut common: Vec<Variable> =
            own.iter().filter(|variable| passed.contains(&variable.name.as_str())).cloned().collect();
        common.extend(plan.environment.iter().cloned());
        common.extend(told(order, plan, sourced, rooms.agent));
        let own = rooms.secrets.iter().filter(|_| order.trusted);
        let last = own.chain(&order.secrets).chain(rooms.more_environment).cloned().collect();
        Self { common, last }
    }

    pub(super) fn for_stage(&self, stage: &StageName) -> Vec<Variable> {
        let mut all = self.common.clone();
        all.push(Variable::new("BUILDR_STAGE", stage.as_str()));
        all.extend(self.last.iter().cloned());
        all
    }
}

/// What the farm tells a script about its build.
fn told(order: &WorkOrder, plan: &Plan, sourced: &Sourced, agent: &str) -> Vec<Variable> {
    let mut told = vec![
        Variable::new("CI", "true"),
        Variable::new("BUILDR", "1"),
        Variable::new("BUILDR_AGENT", agent),
        Variable::new("BUILDR_ATTEMPT", order.attempt.to_string()),
        Variable::new("BUILDR_EVENT", order.trigger.name()),
        Variable::new("BUILDR_REPO", order.repo.short_name()),
        Variable::new("BUILDR_REPO_URL", order.repo.to_string()),
        Variable::new("BUILDR_WORKSPACE", &*plan.workspace),
        Variable::new("BUILDR_COMMIT_MESSAGE", &*sourced.subject),
        Variable::new("BUILDR_COMMIT_AUTHOR", &*sourced.author),
        // Containers often run as another user than the owner of the checkout, which git would refuse.
        Variable::new("GIT_CONFIG_COUNT", "1"),
        Variable::new("GIT_CONFIG_KEY_0", "safe.directory"),
        Variable::new("GIT_CONFIG_VALUE_0", "*"),
    ];
    if order.trigger == TriggerKind::Local {
        told.push(Variable::new("BUILDR_LOCAL", "true"));
    }
    if let Some(build) = order.build {
        told.push(Variable::new("BUILDR_BUILD_NUMBER", build.0.to_string()));
    }
    if let Some(branch) = &sourced.branch {
        told.push(Variable::new("BUILDR_BRANCH", branch.as_str()));
        told.push(Variable::new("BUILDR_REF", format!("refs/heads/{branch}")));
    }
    if let Some(commit) = &sourced.commit {
        told.push(Variable::new("BUILDR_COMMIT", commit.as_str()));
    }
    if let Some(seconds) = sourced.committed_s {
        told.push(Variable::new("SOURCE_DATE_EPOCH", seconds.to_string()));
    }
    told
}
