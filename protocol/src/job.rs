//! What lies on the queue, and the work order that only a grant carries.
//!
//! A queue message is a hint, never an authority: of a message that the coordinator made only the job's id is
//! read; of any other only `repo` and `branch`, as an untrusted trigger.

use std::fmt;
use std::ops::Not;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::credentials::RepoCredentials;
use crate::id::{BuildNumber, JobId, JobKey, StageName};
use crate::outcome::Outcome;
use crate::plan::{Clash, Kept, Plan, Variable};
use crate::source::{Branch, CommitId, RepoUrl};

/// The longest message that is looked at, in bytes. A work order by hand is two short texts.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// What a message on a job queue asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueMessage {
    /// A job of the coordinator's; all else is in its store.
    Job(JobId),
    /// A hand-written `{"repo": …, "branch": …}`.
    Injected {
        /// Which repository.
        repo: RepoUrl,
        /// Which branch; the remote's HEAD without one.
        branch: Option<Branch>,
    },
}

/// Why a message is no job: a sentence for whoever published it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// How many bytes are said of what is wrong with a message's JSON.
const LONGEST_FAULT: usize = 300;

impl Malformed {
    /// Of a message that is longer than any job.
    #[must_use]
    pub fn too_long(size: u64) -> Self {
        let limit = MAX_MESSAGE_BYTES >> 10;
        Self(format!("the message is {size} bytes long; a job is at most {limit} KiB"))
    }
}

impl QueueMessage {
    /// Reads a message's raw bytes, whatever its properties say.
    ///
    /// # Errors
    /// Says in one sentence what is wrong and what a message looks like.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Malformed::too_long(bytes.len() as u64));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let Body { job_id, repo, branch } = serde_json::from_slice(bytes).map_err(|error| {
            // It may hold all of a text that stands where it should not.
            let error = error.to_string();
            let error = &error[..error.floor_char_boundary(LONGEST_FAULT)];
            Malformed(format!(
                "the message is not a job ({error}); write {{\"repo\": \"https://…\", \"branch\": \"main\"}}"
            ))
        })?;
        if let Some(job) = job_id {
            return job.parse().map(Self::Job).map_err(|error| Malformed(format!("\"job_id\": {error}")));
        }
        let repo = repo.ok_or_else(|| {
            Malformed("the message names no \"repo\"; write {\"repo\": \"https://…\", \"branch\": \"main\"}".to_owned())
        })?;
        let repo = repo.parse().map_err(|error| Malformed(format!("\"repo\": {error}")))?;
        let branch = match branch.filter(|branch| !branch.is_empty()) {
            Some(branch) => Some(branch.parse().map_err(|error| Malformed(format!("\"branch\": {error}")))?),
            None => None,
        };
        Ok(Self::Injected { repo, branch })
    }
}

#[derive(Deserialize)]
struct Body {
    job_id: Option<String>,
    repo: Option<String>,
    branch: Option<String>,
}

/// What the coordinator puts on a queue. Only `job_id` counts; the rest is for people who look at the queue.
#[derive(Debug, Clone, Serialize)]
pub struct OfferBody {
    /// Which job.
    pub job_id: JobId,
    /// The build it belongs to.
    pub build: BuildNumber,
    /// The repository, without a password.
    pub repo: String,
    /// The branch.
    pub branch: Option<Branch>,
}

/// Where status messages about an injected job go: AMQP's `reply_to` and `correlation_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyTo {
    /// The queue.
    pub queue: String,
    /// Passed back as it came.
    pub correlation_id: Option<String>,
}

impl ReplyTo {
    /// Whether the farm's own queues would be written to: then it is refused.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.queue.starts_with("build_queue") || self.queue.starts_with("buildr.") || self.queue.len() > 255
    }
}

/// What is told to the publisher of an injected job, as JSON, at its beginning and its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusMessage {
    /// The repository, without a password.
    pub repo: String,
    /// The branch, when one was named or found.
    pub branch: Option<Branch>,
    /// The build's number, when a coordinator has given it one.
    pub build: Option<BuildNumber>,
    /// `rejected`, `running`, `passed`, `failed`, `errored` or `cancelled`.
    pub status: String,
    /// What happened and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Which commit, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
}

/// Why a build began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// Commits were pushed to a branch.
    Push,
    /// A change is proposed.
    PullRequest,
    /// A tag was pushed.
    Tag,
    /// Its time had come.
    Schedule,
    /// Somebody asked for it.
    Manual,
    /// Another build asked for it.
    Upstream,
    /// A message was written by hand into the queue.
    Injected,
    /// `buildr run` on somebody's own tree.
    Local,
}

impl TriggerKind {
    /// Its name as it stands on the wire, in the store and in `BUILDR_EVENT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PullRequest => "pull_request",
            Self::Tag => "tag",
            Self::Schedule => "schedule",
            Self::Manual => "manual",
            Self::Upstream => "upstream",
            Self::Injected => "injected",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for TriggerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that an agent is told about a job. It travels only sealed in a grant, never on a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// Which job.
    pub job: JobId,
    /// Which build; none for a job that an agent runs on its own.
    pub build: Option<BuildNumber>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Why it is built.
    pub trigger: TriggerKind,
    /// Where the code is.
    pub repo: RepoUrl,
    /// What opens it; else what the URL and the agent have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<RepoCredentials>,
    /// The branch; the remote's HEAD without one.
    pub branch: Option<Branch>,
    /// The commit that the build is pinned to, once an attempt has reported one.
    pub commit: Option<CommitId>,
    /// Whether an attempt has reported the commit: then it is this one, whatever the forge offers by now.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub pinned: bool,
    /// The branch that the repository's HEAD means, once an attempt has reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<Branch>,
    /// What to do; a job without a plan reads the manifest and plans.
    pub plan: Option<Plan>,
    /// Whether it may be given secrets and the Docker socket.
    pub trusted: bool,
    /// Variables whose values no log may show.
    #[serde(default)]
    pub secrets: Vec<Variable>,
    /// What began the build, beyond its kind.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
    /// The job's name within the build, once it is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
    /// Values that a person gave: when the build was started, and at the job's gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Variable>,
    /// What the jobs that it needs handed on by `$BUILDR_ENV`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handed: Vec<Variable>,
    /// For which names of these there is no last word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clashes: Vec<Clash>,
    /// What the jobs that it needs kept: restored before its first stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
    /// Where artifacts are fetched from and brought to; nowhere without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depot: Option<Depot>,
    /// How the build stands, for a job that runs whatever happened before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub so_far: Option<SoFar>,
}

impl WorkOrder {
    /// An order to build this repository, and nothing else.
    #[must_use]
    pub fn new(job: JobId, trigger: TriggerKind, repo: RepoUrl) -> Self {
        Self {
            job,
            build: None,
            attempt: 1,
            trigger,
            repo,
            credentials: None,
            branch: None,
            commit: None,
            pinned: false,
            default_branch: None,
            plan: None,
            trusted: false,
            secrets: Vec::new(),
            origin: Origin::default(),
            key: None,
            inputs: Vec::new(),
            handed: Vec::new(),
            clashes: Vec::new(),
            kept: Vec::new(),
            depot: None,
            so_far: None,
        }
    }
}

/// What began a build, beyond its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Origin {
    /// The tag, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The number of the pull request, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<u64>,
    /// The branch that the pull request is to go into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Branch>,
    /// The last commit of the branch whose build passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_green: Option<CommitId>,
    /// The builds that led to this one, the nearest last, each as `REPO#NUMBER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<String>,
    /// The schedule that came due, by its name in the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Who pushed it, or proposes it, as the forge says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The first line of the head commit's message, or the title of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the branch was before the push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CommitId>,
    /// The files that the push changed, as the forge says, where its list is whole and not long; empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whether the code is that of a pull request from another repository: of somebody who may not write to this one.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub fork: bool,
    /// The last commit of the pull request. The build's own commit is its merge with the target where the forge offers
    /// that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<CommitId>,
    /// How that begins, in hexadecimal digits, where the forge tells no more of it: what the branch has is built if it
    /// begins so, and nothing otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// The branch that the pull request comes from, in its own repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Branch>,
    /// The page of the change at its forge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The ref at which the forge may offer the merge of the pull request with its target, such as `refs/pull/7/merge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<String>,
}

impl Origin {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A place of the coordinator's for artifacts, reached over HTTP by those who hold a claim.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depot {
    /// Its address: an archive is at `<url>/<sha256>`.
    pub url: String,
    /// Opens it, for as long as the claim is current. Secret.
    pub token: String,
}

impl fmt::Debug for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Depot({})", self.url)
    }
}

/// How a build stands while its last job is yet to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoFar {
    /// The worst of its jobs' ends.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The stage that failed first, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expect: &str) {
        let got = match QueueMessage::read(body.as_bytes()) {
            Ok(QueueMessage::Job(job)) => format!("job {job}"),
            Ok(QueueMessage::Injected { repo, branch }) => {
                format!("injected {repo} {}", branch.map_or("HEAD".to_owned(), |branch| branch.to_string()))
            }
            Err(error) => format!("error: {error}"),
        };
        assert!(got.starts_with(expect), "{body}\n  expected {expect}\n  got      {got}");
    }

    #[test]
    fn what_people_write_by_hand() {
        check(r#"{"repo": "https://e.org/x", "branch": "main"}"#, "injected https://e.org/x main");
        check(r#"{"repo": "https://e.org/x"}"#, "injected https://e.org/x HEAD");
        check(r#"{"repo": "https://e.org/x", "branch": null}"#, "injected https://e.org/x HEAD");
        check(r#"{"repo": "https://e.org/x", "branch": "", "more": [1]}"#, "injected https://e.org/x HEAD");
        check("\u{feff}{\"repo\": \"/srv/x\"}\n", "injected /srv/x HEAD");
    }

    #[test]
    fn of_a_coordinators_job_only_the_id_is_read() {
        let id = JobId::fresh();
        check(&format!(r#"{{"job_id": "{id}", "repo": "ext::sh -c id"}}"#), &format!("job {id}"));
        check(r#"{"job_id": "nonsense"}"#, "error: \"job_id\": \"nonsense\" is not a UUID");
    }

    #[test]
    fn what_is_no_job() {
        for body in ["", "hello", "[]", "3", "null", "{}", r#"{"repo": 3}"#, r#"{"repo": "x"}"#, "\u{0}\u{1}"] {
            check(body, "error: ");
        }
        check(r#"{"repo": "ext::sh -c id"}"#, "error: \"repo\":");
        check(r#"{"repo": "https://e.org/x", "branch": "-x"}"#, "error: \"branch\":");
        check(&"[".repeat(60_000), "error: ");
        check(
            r#"{"repo": "https://e.org/x", "repo": "https://e.org/y"}"#,
            "error: the message is not a job (duplicate",
        );
        check(r#"{"repo": "https://e.org/x\u0000"}"#, "error: \"repo\": the repository holds a control");
        check(r#"{"repo": ["https://e.org/x"]}"#, "error: the message is not a job (invalid type");
        check(r#"{"repo": "https://e.org/x", "branch": {"a": 1}}"#, "error: the message is not a job (invalid type");
        check(r#"{"repo": "https://e.org/x", "branch": "a\nb"}"#, "error: \"branch\": the branch holds a control");
        check(r#"{"job_id": 7}"#, "error: the message is not a job (invalid type");
        check(r#"{"repo": "https://e.org/x", "n": 1e999}"#, "injected https://e.org/x HEAD");
        check(
            r#"{"repo": "https://e.org/x"} {"repo": "https://e.org/y"}"#,
            "error: the message is not a job (trailing",
        );
        check(
            &format!("{{\"repo\": \"https://e.org/x\", \"deep\": {}", "{\"a\":".repeat(10_000)),
            "error: the message is",
        );
        check(
            &format!(r#"{{"repo": "https://e.org/{}"}}"#, "x".repeat(3000)),
            "error: \"repo\": the repository is longer",
        );
        check(&" ".repeat(MAX_MESSAGE_BYTES + 1), "error: the message is 65537 bytes long");
    }

    #[test]
    fn a_reply_never_goes_to_the_farms_own_queues() {
        for (queue, forbidden) in
            [("build_queue", true), ("build_queue.x", true), ("buildr.dead", true), ("mine", false)]
        {
            assert_eq!(ReplyTo { queue: queue.to_owned(), correlation_id: None }.is_forbidden(), forbidden, "{queue}");
        }
    }
}
