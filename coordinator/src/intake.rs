//! From a trigger to a build with its first job, in one transaction.

use buildr::process::clock::now_ms;
use protocol::job::{ReplyTo, TriggerKind};
use protocol::{Branch, BuildNumber, JobId, JobKey, LabelSet, RepoUrl};

use crate::config::{Config, LocalRepos};
use crate::desk::Desk;
use crate::feed::Change;
use crate::store::{NewBuild, NewJob, StoreError, Transaction};

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
    let mut tx = desk.store.write().await?;
    let (build, _) = begin(&mut tx, &desk.config, trigger, now_ms()).await?;
    if let Some(by) = by {
        tx.asked_by(build, by).await?;
    }
    tx.commit().await?;
    desk.feed.say(Change::Build(build));
    Ok(build)
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
    if trigger.repo.is_local() && config.local_repos == LocalRepos::Refused {
        return Err(IntakeError::LocalRepo(trigger.repo.clone()));
    }
    let build = NewBuild {
        repo: trigger.repo.clone(),
        branch: trigger.branch.clone(),
        trigger: trigger.kind,
        trusted: is_trusted(config, trigger),
        reply: trigger.reply.clone(),
    };
    let build = tx.insert_build(&build, now_ms).await?;
    let job = NewJob { key: planning_key(), needs: Vec::new(), labels: trigger.labels.clone(), plan: None };
    let job = tx.insert_job(build, &job, now_ms).await?;
    Ok((build, job))
}

/// The key of a job that is yet to be planned. No planned job has it, for no stage's name begins so.
pub(crate) fn planning_key() -> JobKey {
    "(plan)".parse().expect("it is a key of printable characters")
}

/// Whoever has the API's token may start trusted builds; a message that anybody may have published starts one only
/// for a repository that an administrator lists.
fn is_trusted(config: &Config, trigger: &Trigger) -> bool {
    match trigger.kind {
        TriggerKind::Injected => config.trusted_repos.iter().any(|glob| glob.matches(&trigger.repo)),
        _ => true,
    }
}
