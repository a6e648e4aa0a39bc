//! From a trigger to a build with its first job, in one transaction.

use std::sync::Arc;

use buildr::process::clock::now_ms;
use protocol::api::PLANNING_KEY;
use protocol::job::{Origin, ReplyTo, TriggerKind};
use protocol::{Branch, BuildNumber, CommitId, JobId, JobKey, LabelSet, RepoUrl, Variable};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LocalRepos};
use crate::desk::Desk;
use crate::feed::Change;
use crate::store::{AskedFor, NewBuild, StoreError, Transaction};

/// Why a build should begin.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    /// Which repository.
    pub(crate) repo: RepoUrl,
    /// Which branch; the remote's HEAD without one.
    pub(crate) branch: Option<Branch>,
    /// What happened.
    pub(crate) kind: TriggerKind,
    /// What the agent that plans must have.
    pub(crate) labels: LabelSet,
    /// Who wants to hear how it goes.
    pub(crate) reply: Option<ReplyTo>,
    /// What happened, beyond its kind.
    pub(crate) origin: Origin,
    /// Which commit, when one was named.
    pub(crate) commit: Option<CommitId>,
    /// The values that it is given.
    pub(crate) inputs: Vec<Variable>,
    /// The job in whose place it is begun.
    pub(crate) parent: Option<JobId>,
    /// Whether it is trusted, where that is known; else its kind decides.
    pub(crate) trusted: Option<bool>,
    /// What a maintainer is asked before anything of it begins.
    pub(crate) approval: Option<String>,
}

impl Trigger {
    /// To build this repository, and nothing else.
    pub(crate) fn new(repo: RepoUrl, kind: TriggerKind) -> Self {
        Self {
            repo,
            branch: None,
            kind,
            labels: LabelSet::default(),
            reply: None,
            origin: Origin::default(),
            commit: None,
            inputs: Vec::new(),
            parent: None,
            trusted: None,
            approval: None,
        }
    }
}

/// Why a trigger begins no build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It names a folder on an agent's disk.
    #[error(
        "{0} lies on an agent's own disk, and this farm does not build from there; give a URL that every agent can reach, or start the coordinator and the agents with --local-repos"
    )]
    LocalRepo(RepoUrl),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Begins a build for somebody who may do so: `by`, as that one says.
///
/// # Errors
/// When the repository is refused, or the store fails.
pub(crate) async fn submit(desk: &Desk, trigger: &Trigger, by: Option<&str>) -> Result<BuildNumber, IntakeError> {
    let asked = AskedFor { by: by.map(str::to_owned), ..asked_for(&desk.config, trigger, now_ms())? };
    let build = desk.store.begin_build(asked).await?;
    desk.feed.say(Change::Build(build));
    Ok(build)
}

/// Begins what is submitted, until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    desk.store.begin_builds(shutdown).await;
}

/// Begins a build in a transaction of the caller's.
///
/// # Errors
/// When the repository is refused, and then nothing was written; or when the store fails.
pub(crate) async fn begin(
    tx: &mut Transaction,
    config: &Config,
    trigger: &Trigger,
    now_ms: u64,
) -> Result<(BuildNumber, JobId), IntakeError> {
    Ok(tx.begin_build(&asked_for(config, trigger, now_ms)?).await?)
}

fn asked_for(config: &Config, trigger: &Trigger, now_ms: u64) -> Result<AskedFor, IntakeError> {
    let may_be = may_be_trusted(config, &trigger.repo, trigger.kind)?;
    let build = NewBuild {
        repo: trigger.repo.clone(),
        branch: trigger.branch.clone(),
        trigger: trigger.kind,
        trusted: trigger.trusted.unwrap_or(may_be),
        reply: trigger.reply.clone(),
        origin: trigger.origin.clone(),
        commit: trigger.commit.clone(),
        inputs: trigger.inputs.clone(),
        parent: trigger.parent,
    };
    let (labels, approval) = (trigger.labels.clone(), trigger.approval.clone());
    Ok(AskedFor { build, key: planning_key(), labels, by: None, approval, now_ms })
}

/// The key of a job that is yet to be planned. No planned job has it, for no stage's name begins so.
pub(crate) fn planning_key() -> JobKey {
    PLANNING_KEY.parse().expect("it is a key of printable characters")
}

/// The most values that are handed from one to the other.
const MOST_VARIABLES: usize = 256;

/// The most bytes that they take together.
const VARIABLES_BYTES: usize = 64 << 10;

/// Whether these are variables that a container can have: what people and users' containers say is checked here.
///
/// # Errors
/// Says what is wrong with them.
pub(crate) fn check_variables(variables: &[Variable]) -> Result<(), String> {
    let bytes: usize = variables.iter().map(|variable| variable.name.len() + variable.value.len()).sum();
    if variables.len() > MOST_VARIABLES || bytes > VARIABLES_BYTES {
        let limit = VARIABLES_BYTES >> 10;
        return Err(format!("at most {MOST_VARIABLES} values of {limit} KiB together can be handed on"));
    }
    for Variable { name, value } in variables {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{name:?} is no name of a variable; write letters, digits and '_'"));
        }
        if value.contains('\0') {
            return Err(format!("the value of {name} holds a NUL"));
        }
        if name == "CI" || name.starts_with("BUILDR_") {
            return Err(format!("{name} is one of buildr's own variables, and cannot be set"));
        }
    }
    Ok(())
}

/// Whether a build that begins so may be trusted. Whoever has the API's token may start trusted builds; a message that
/// anybody may have published starts one only for a repository that an administrator lists.
///
/// # Errors
/// When the repository is refused.
pub(crate) fn may_be_trusted(config: &Config, repo: &RepoUrl, kind: TriggerKind) -> Result<bool, IntakeError> {
    if repo.is_local() && config.local_repos == LocalRepos::Refused {
        return Err(IntakeError::LocalRepo(repo.clone()));
    }
    Ok(match kind {
        TriggerKind::Injected => config.trusted_repos.iter().any(|glob| glob.matches(repo)),
        _ => true,
    })
}
