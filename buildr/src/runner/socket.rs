//! Who may have the Docker socket, which is root on the agent's machine.

use std::fmt;

use protocol::job::WorkOrder;
use protocol::{Plan, RepoGlob, RepoUrl, StageName};

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

/// A stage asks for the socket and does not get it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) stage: StageName,
    why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} asks for the Docker socket (docker: true), and this agent {}", self.stage, self.why)
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
        let refuse = |why: String| Err(Refusal { stage: asking.name.clone(), why });
        match self.mode {
            SocketMode::Always => Ok(SocketGrant::Always),
            SocketMode::Asked => Ok(SocketGrant::Asked),
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
            SocketMode::Trusted => Ok(SocketGrant::Asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::job::TriggerKind;
    use protocol::{JobId, StagePlan};

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
}
