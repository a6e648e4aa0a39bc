//! The environment of a job's containers: what the manifest asks for, what the farm says, later wins.

use protocol::job::{SoFar, TriggerKind, WorkOrder};
use protocol::{Plan, StageName, StagePlan, Variable};

use super::places::{CHANGED, HAND_TARGET, HANDED, SUMMARY};
use super::{Rooms, Sourced};
use crate::plan::inherited;

/// What the containers of a job are told, apart from what only one of them is.
pub(super) struct Environment<'a> {
    order: &'a WorkOrder,
    plan: &'a Plan,
    rooms: &'a Rooms<'a>,
    /// What lies between the manifest's words and a person's own.
    usual: Vec<Variable>,
    /// What nobody else sets.
    told: Vec<Variable>,
}

/// What one container gets beyond what all get.
#[derive(Default)]
pub(super) struct Own<'a> {
    /// Handed on by what ended before.
    pub(super) handed: &'a [Variable],
    /// What it is given of the secrets.
    pub(super) secrets: &'a [Variable],
    /// How the build stands, for one that runs whatever happened before it.
    pub(super) so_far: Option<&'a SoFar>,
}

impl<'a> Environment<'a> {
    pub(super) fn of(order: &'a WorkOrder, plan: &'a Plan, sourced: &Sourced, rooms: &'a Rooms<'a>) -> Self {
        Self { order, plan, rooms, usual: usual(sourced), told: told(order, plan, sourced, rooms.agent) }
    }

    /// For `prepare`, which has no place for what it hands on.
    pub(super) fn for_prepare(&self, name: &StageName, more: &[Variable], secrets: &[Variable]) -> Vec<Variable> {
        let own = Own { secrets, ..Own::default() };
        self.of_all(&self.plan.inherit, more, &own, vec![Variable::new("BUILDR_STAGE", name.as_str())])
    }

    /// For a stage.
    pub(super) fn for_stage(&self, stage: &StagePlan, own: &Own<'_>) -> Vec<Variable> {
        let mut last = vec![
            Variable::new("BUILDR_STAGE", stage.name.as_str()),
            Variable::new("BUILDR_ENV", format!("{HAND_TARGET}/{HANDED}")),
            Variable::new("BUILDR_SUMMARY", format!("{HAND_TARGET}/{SUMMARY}")),
        ];
        if let Some(so_far) = own.so_far {
            last.push(Variable::new("BUILDR_BUILD_STATUS", so_far.outcome.name()));
            last.extend(so_far.stage.iter().map(|stage| Variable::new("BUILDR_FAILED_STAGE", stage.as_str())));
        }
        self.of_all(stage.inherit.as_ref().unwrap_or(&self.plan.inherit), &stage.environment, own, last)
    }

    fn of_all(&self, inherit: &[String], own: &[Variable], more: &Own<'_>, last: Vec<Variable>) -> Vec<Variable> {
        let mut all = self.inherited(inherit);
        let plan = self.plan.environment.iter().chain(own).chain(&self.plan.inputs).chain(&self.order.inputs);
        all.extend(plan.chain(&self.order.handed).chain(more.handed).chain(&self.usual).cloned());
        all.extend(more.secrets.iter().chain(self.rooms.more_environment).chain(&self.told).cloned());
        all.extend(last);
        all
    }

    fn inherited(&self, patterns: &[String]) -> Vec<Variable> {
        let own = self.rooms.own_environment;
        let passed = inherited(patterns, own.iter().map(|variable| variable.name.as_str()));
        own.iter().filter(|variable| passed.contains(&variable.name.as_str())).cloned().collect()
    }

    /// What reaches containers of the agent's own environment: a sentence each.
    pub(super) fn passed_on(&self) -> Vec<String> {
        let names = |patterns: &[String]| {
            let passed = self.inherited(patterns);
            passed.iter().map(|variable| variable.name.clone()).collect::<Vec<_>>().join(", ")
        };
        let all = names(&self.plan.inherit);
        let mut lines = Vec::new();
        if !all.is_empty() {
            lines.push(format!("passed on from this machine's environment: {all}"));
        }
        for stage in &self.plan.stages {
            match stage.inherit.as_deref().map(names) {
                Some(own) if own != all && own.is_empty() => {
                    lines.push(format!("to {} nothing of this machine's environment is passed on", stage.name));
                }
                Some(own) if own != all => {
                    lines.push(format!("passed on to {} from this machine's environment: {own}", stage.name));
                }
                _ => {}
            }
        }
        lines
    }
}

/// What wins over a manifest, and not over a person.
fn usual(sourced: &Sourced) -> Vec<Variable> {
    let mut usual = vec![
        // Containers often run as another user than the owner of the checkout, which git would refuse.
        Variable::new("GIT_CONFIG_COUNT", "1"),
        Variable::new("GIT_CONFIG_KEY_0", "safe.directory"),
        Variable::new("GIT_CONFIG_VALUE_0", "*"),
    ];
    if let Some(seconds) = sourced.committed_s {
        usual.push(Variable::new("SOURCE_DATE_EPOCH", seconds.to_string()));
    }
    usual
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
    ];
    // Of a merge that a forge made, the forge's words say more.
    let proposed = order.origin.pull_request.is_some();
    let message = order.origin.message.as_ref().filter(|_| proposed).unwrap_or(&sourced.subject);
    let author = order.origin.author.as_ref().filter(|_| proposed).unwrap_or(&sourced.author);
    told.push(Variable::new("BUILDR_COMMIT_MESSAGE", &**message));
    told.push(Variable::new("BUILDR_COMMIT_AUTHOR", &**author));
    let mut tell = |name: &str, value: Option<String>| {
        told.extend(value.map(|value| Variable::new(name, value)));
    };
    let origin = &order.origin;
    let text = |branch: &protocol::Branch| branch.as_str().to_owned();
    tell("BUILDR_LOCAL", (order.trigger == TriggerKind::Local).then(|| "true".to_owned()));
    tell("BUILDR_BUILD_NUMBER", order.build.map(|build| build.0.to_string()));
    tell("BUILDR_JOB", order.key.as_ref().map(|key| key.as_str().to_owned()));
    tell("BUILDR_PIPELINE", plan.pipeline.clone());
    tell("BUILDR_BRANCH", sourced.branch.as_ref().or(origin.source.as_ref()).map(text));
    tell("BUILDR_DEFAULT_BRANCH", sourced.default_branch.as_ref().map(text));
    tell("BUILDR_TAG", origin.tag.clone());
    tell("BUILDR_PR", origin.pull_request.map(|number| number.to_string()));
    tell("BUILDR_PR_TARGET", origin.target.as_ref().map(text));
    tell("BUILDR_PR_SOURCE", origin.source.as_ref().map(text));
    tell("BUILDR_PR_HEAD", origin.head.as_ref().map(|commit| commit.as_str().to_owned()));
    tell("BUILDR_PR_FORK", origin.fork.then(|| "true".to_owned()));
    tell("BUILDR_PREV_COMMIT", origin.before.as_ref().map(|commit| commit.as_str().to_owned()));
    tell("BUILDR_CHANGE_URL", origin.link.clone());
    let merged = origin.merge.as_ref().filter(|_| origin.head.is_some() && origin.head != sourced.commit);
    let reference = match (&origin.tag, origin.pull_request, &sourced.branch) {
        (Some(tag), ..) => Some(format!("refs/tags/{tag}")),
        (None, Some(_), _) if merged.is_some() => merged.cloned(),
        (None, Some(number), _) => Some(format!("refs/pull/{number}/head")),
        (None, None, branch) => branch.as_ref().map(|branch| format!("refs/heads/{branch}")),
    };
    tell("BUILDR_SCHEDULE", origin.schedule.clone());
    tell("BUILDR_REF", reference);
    tell("BUILDR_COMMIT", sourced.commit.as_ref().map(|commit| commit.as_str().to_owned()));
    tell("BUILDR_LAST_GREEN", origin.last_green.as_ref().map(|commit| commit.as_str().to_owned()));
    tell("BUILDR_CHANGED_FILES", sourced.changed.as_ref().map(|_| format!("{HAND_TARGET}/{CHANGED}")));
    told
}

#[cfg(test)]
mod tests {
    use protocol::JobId;
    use protocol::job::Origin;

    use super::*;

    fn sourced(commit: char) -> Sourced {
        Sourced {
            commit: Some(commit.to_string().repeat(40).parse().unwrap()),
            branch: None,
            subject: "Merge b into a".to_owned(),
            author: "Forge".to_owned(),
            committed_s: None,
            default_branch: None,
            changed: None,
            is_whole_commit: true,
        }
    }

    #[track_caller]
    fn check(origin: Origin, commit: char, expect: &[(&str, Option<&str>)]) {
        let repo = "https://example.org/a/b".parse().unwrap();
        let order = WorkOrder { origin, ..WorkOrder::new(JobId::fresh(), TriggerKind::PullRequest, repo) };
        let told = told(&order, &Plan::new("x", vec![]), &sourced(commit), "oak");
        for (name, expect) in expect {
            let found: Vec<&str> = told.iter().filter(|one| one.name == *name).map(|one| one.value.as_str()).collect();
            assert_eq!(found, expect.iter().copied().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn what_a_pull_request_is_told() {
        let head = "b".repeat(40);
        let origin = Origin {
            pull_request: Some(7),
            target: Some("main".parse().unwrap()),
            source: Some("topic".parse().unwrap()),
            head: Some(head.parse().unwrap()),
            merge: Some("refs/pull/7/merge".to_owned()),
            message: Some("A proposal".to_owned()),
            author: Some("mallory".to_owned()),
            fork: true,
            ..Origin::default()
        };
        let of_both = [
            ("BUILDR_PR", Some("7")),
            ("BUILDR_PR_TARGET", Some("main")),
            ("BUILDR_PR_SOURCE", Some("topic")),
            ("BUILDR_BRANCH", Some("topic")),
            ("BUILDR_PR_HEAD", Some(&*head)),
            ("BUILDR_PR_FORK", Some("true")),
            ("BUILDR_COMMIT_MESSAGE", Some("A proposal")),
            ("BUILDR_COMMIT_AUTHOR", Some("mallory")),
        ];
        check(origin.clone(), 'c', &of_both);
        check(origin.clone(), 'c', &[("BUILDR_REF", Some("refs/pull/7/merge"))]);
        check(origin.clone(), 'b', &[("BUILDR_REF", Some("refs/pull/7/head"))]);
        let own = Origin { fork: false, message: None, author: None, ..origin };
        check(own, 'c', &[("BUILDR_PR_FORK", None), ("BUILDR_COMMIT_MESSAGE", Some("Merge b into a"))]);
    }
}
