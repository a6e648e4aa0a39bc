//! Who may have the Docker socket or a privileged container: either is root on the agent's machine.

use std::fmt;

use protocol::job::WorkOrder;
use protocol::{Plan, RepoGlob, RepoUrl, StageName, StagePlan};

use crate::executor::SocketGrant;

/// The agent's word on the Docker socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketPolicy {
    /// Who gets it.
    pub mode: SocketMode,
    /// Which repositories, for [`SocketMode::Trusted`].
    pub trusted_repos: Vec<RepoGlob>,
}

/// Who gets the Docker socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketMode {
    /// Nobody.
    Never,
    /// Stages that ask for it (`docker: true`), of builds that the order trusts and of repositories on the list.
    #[default]
    Trusted,
    /// Stages that ask for it, of any repository: a person's own machine.
    Asked,
    /// Every stage, asked or not.
    Always,
}

/// A stage asks for what it does not get.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) stage: StageName,
    what: &'static str,
    why: String,
}

const SOCKET: &str = "the Docker socket (docker: true)";
const PRIVILEGED: &str = "a privileged container (privileged: true)";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} asks for {}, and this agent {}", self.stage, self.what, self.why)
    }
}

impl SocketPolicy {
    /// Whether a repository is on the list.
    #[must_use]
    pub fn trusts(&self, repo: &RepoUrl) -> bool {
        self.trusted_repos.iter().any(|glob| glob.matches(repo))
    }

    /// What the stages of a job get, or why a stage that asks cannot have it.
    pub(super) fn decide(&self, order: &WorkOrder, plan: &Plan) -> Result<SocketGrant, Refusal> {
        let Some(asking) = plan.stages.iter().find(|stage| stage.docker) else {
            return Ok(if self.mode == SocketMode::Always { SocketGrant::Always } else { SocketGrant::Never });
        };
        self.grant(order, &asking.name, SOCKET)?;
        Ok(if self.mode == SocketMode::Always { SocketGrant::Always } else { SocketGrant::Asked })
    }

    /// Whether the stages and services of a job that ask for privileges get them: by the same rule, as it is the same
    /// power.
    pub(super) fn decide_privileged(&self, order: &WorkOrder, plan: &Plan) -> Result<bool, Refusal> {
        let asks = |stage: &&StagePlan| stage.privileged || stage.services.iter().any(|service| service.privileged);
        let asking = plan.stages.iter().find(asks).map(|stage| &stage.name);
        let of_job = plan.services.iter().any(|service| service.privileged);
        let first = plan.stages.first().map(|stage| &stage.name).filter(|_| of_job);
        match asking.or(first) {
            Some(stage) => self.grant(order, stage, PRIVILEGED).map(|()| true),
            None => Ok(false),
        }
    }

    fn grant(&self, order: &WorkOrder, stage: &StageName, what: &'static str) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal { stage: stage.clone(), what, why });
        match self.mode {
            SocketMode::Always | SocketMode::Asked => Ok(()),
            SocketMode::Never => {
                refuse("gives it to nobody (docker_socket = \"never\"); set docker_socket = \"trusted\" and list the repository in trusted_repos".to_owned())
            }
            SocketMode::Trusted if !self.trusts(&order.repo) => refuse(format!(
                "gives it only to the repositories in its trusted_repos, where {} is not; add it there, or set docker_socket = \"always\" to give it to every stage",
                order.repo
            )),
            SocketMode::Trusted if !order.trusted => refuse(format!(
                "gives it only to builds that the coordinator trusts; start the coordinator with --trusted-repos '{}'",
                order.repo
            )),
            SocketMode::Trusted => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::JobId;
    use protocol::job::TriggerKind;

    fn order(trusted: bool) -> WorkOrder {
        WorkOrder {
            trusted,
            ..WorkOrder::new(JobId::fresh(), TriggerKind::Manual, "https://git.example.org/infra/x".parse().unwrap())
        }
    }

    fn plan(docker: bool) -> Plan {
        let stage = StagePlan { docker, ..StagePlan::new("push".parse().unwrap(), vec!["true".to_owned()]) };
        Plan::new("x", vec![stage])
    }

    #[track_caller]
    fn check(mode: SocketMode, listed: bool, trusted: bool, asks: bool, expect: Result<SocketGrant, &str>) {
        let trusted_repos = if listed { vec!["https://git.example.org/infra/*".parse().unwrap()] } else { Vec::new() };
        let policy = SocketPolicy { mode, trusted_repos };
        let got = policy.decide(&order(trusted), &plan(asks));
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect),
            (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{refusal}"),
            (got, expect) => panic!("{mode:?} {listed} {trusted} {asks}: {got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn who_gets_the_socket() {
        use SocketGrant as Grant;
        use SocketMode as Mode;
        check(Mode::Never, true, true, true, Err("docker_socket = \"never\""));
        check(Mode::Never, true, true, false, Ok(Grant::Never));
        check(Mode::Trusted, true, true, true, Ok(Grant::Asked));
        check(Mode::Trusted, true, true, false, Ok(Grant::Never));
        check(Mode::Trusted, false, true, true, Err("trusted_repos"));
        check(Mode::Trusted, true, false, true, Err("--trusted-repos"));
        check(Mode::Asked, false, false, true, Ok(Grant::Asked));
        check(Mode::Asked, false, false, false, Ok(Grant::Never));
        check(Mode::Always, false, false, false, Ok(Grant::Always));
        check(Mode::Always, false, false, true, Ok(Grant::Always));
    }

    #[test]
    fn who_gets_privileges() {
        let stage = |privileged| StagePlan { privileged, ..StagePlan::new("build".parse().unwrap(), Vec::new()) };
        let mut service: protocol::plan::Service =
            serde_json::from_value(serde_json::json!({"name": "db", "image": "x"})).unwrap();
        service.privileged = true;
        let of_job = Plan { services: vec![service.clone()], ..Plan::new("x", vec![stage(false)]) };
        let of_stage = Plan::new("x", vec![StagePlan { services: vec![service], ..stage(false) }]);
        let policy = |mode| SocketPolicy { mode, trusted_repos: Vec::new() };
        for plan in [Plan::new("x", vec![stage(true)]), of_job, of_stage] {
            assert_eq!(policy(SocketMode::Asked).decide_privileged(&order(false), &plan), Ok(true));
            let refusal = policy(SocketMode::Trusted).decide_privileged(&order(true), &plan).unwrap_err();
            assert!(refusal.to_string().starts_with("stage build asks for a privileged container"), "{refusal}");
        }
        let plain = Plan::new("x", vec![stage(false)]);
        assert_eq!(policy(SocketMode::Never).decide_privileged(&order(false), &plain), Ok(false));
    }
}
