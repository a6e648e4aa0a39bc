//! What is known of a build before it is planned: what began it, and on what.

use protocol::job::TriggerKind;
use protocol::{Branch, CommitId, Variable};

/// The platform that a farm's agents are usually of.
pub const USUAL_PLATFORM: &str = "linux/amd64";

/// What a plan goes by, beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The branch that is built, where there is one: of a pull request the one that it comes from.
    pub branch: Option<Branch>,
    /// The tag, in a build of one.
    pub tag: Option<String>,
    /// The commit; none for a tree outside git.
    pub commit: Option<CommitId>,
    /// Why it is built.
    pub event: TriggerKind,
    /// The branch that a pull request is to go into.
    pub target: Option<Branch>,
    /// The pull request's number.
    pub pull_request: Option<u64>,
    /// The repository's default branch, where it is known.
    pub default_branch: Option<Branch>,
    /// The files that the build is about, with `/` between folders; nothing when nobody knows from where to count:
    /// then every condition on paths holds.
    pub changed: Option<Vec<String>>,
    /// Values that a person or another build gave.
    pub inputs: Vec<Variable>,
    /// Variables that `if` may ask for beside the manifest's own. Never secrets.
    pub env: Vec<Variable>,
    /// The farm's usual platform, as `linux/amd64`: a stage for another one waits for an agent that offers it.
    pub platform: String,
}

impl Facts {
    /// A build of which only this is known.
    #[must_use]
    pub fn new(event: TriggerKind) -> Self {
        Self {
            branch: None,
            tag: None,
            commit: None,
            event,
            target: None,
            pull_request: None,
            default_branch: None,
            changed: None,
            inputs: Vec::new(),
            env: Vec::new(),
            platform: USUAL_PLATFORM.to_owned(),
        }
    }

    /// A build of a branch.
    #[must_use]
    pub fn of_branch(event: TriggerKind, branch: Branch) -> Self {
        Self { branch: Some(branch), ..Self::new(event) }
    }

    /// The whole name of what is built, as git has it; empty outside git.
    #[must_use]
    pub fn reference(&self) -> String {
        match (&self.tag, self.pull_request, &self.branch) {
            (Some(tag), _, _) => format!("refs/tags/{tag}"),
            (None, Some(number), _) if self.event == TriggerKind::PullRequest => format!("refs/pull/{number}/head"),
            (None, _, Some(branch)) => format!("refs/heads/{branch}"),
            (None, _, None) => String::new(),
        }
    }
}
