//! What an agent is told to do: the work order of a grant, with all that the build knows by then.

use protocol::control::{Control, Grant};
use protocol::job::{Origin, WorkOrder};
use protocol::outcome::{Cause, Ending};
use protocol::{Branch, Plan, RepoCredentials, RepoUrl, Variable, wire};

use super::Turn;
use crate::store::{Attempt, Build, Job, Received, SealedFor, StoreError};

impl Turn<'_> {
    /// Grants a current claim: the first time, and again whenever its agent has not heard of it.
    pub(super) async fn grant(&mut self, attempt: &Attempt, job: &Job) -> Result<(), StoreError> {
        let Some(build) = self.tx.build(job.build).await? else { return Ok(()) };
        let config = &self.desk.config;
        let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (lease_ms, heartbeat_ms) = (milliseconds(config.lease), milliseconds(config.heartbeat));
        let order = self.order(attempt, job, build).await?;
        let grant =
            Grant { claim: attempt.claim, order, lease_ms, heartbeat_ms, reads_events: true, reads_packed: true };
        if !travels(&grant) {
            return self.too_much(attempt).await;
        }
        self.answers.grant(&attempt.agent, attempt.sealing.clone(), grant);
        Ok(())
    }

    /// What the job is given fits into no message, so no agent would ever hear of it: that is how it ends.
    async fn too_much(&mut self, attempt: &Attempt) -> Result<(), StoreError> {
        // As it is since it was taken.
        let Some(job) = self.tx.job(attempt.job).await? else { return Ok(()) };
        let most = wire::MAX_BYTES >> 20;
        let why = format!(
            "the values that it is given by other jobs, its plan and its secrets are together more than the {most} MiB that a message may have; hand large values on as artifacts"
        );
        self.end(attempt, &job, Ending::errored(Cause::Limit, why)).await?;
        let reason = "its order is too long for a message".to_owned();
        self.answers.tell(&attempt.agent, Control::Denied { claim: attempt.claim, reason });
        Ok(())
    }

    async fn order(&mut self, attempt: &Attempt, job: &Job, build: Build) -> Result<WorkOrder, StoreError> {
        let origin = match job.plan {
            Some(_) => build.origin.clone(),
            // What changed since then may decide what is planned.
            None => Origin { last_green: self.tx.last_green(&build).await?, ..build.origin.clone() },
        };
        let received = match job.plan {
            Some(_) => self.tx.received(job.build, job.id).await?,
            // It needs no other.
            None => Received::default(),
        };
        let answered = job.answer.iter().flat_map(|answer| &answer.inputs);
        let inputs = build.inputs.iter().chain(answered).cloned().collect();
        let secrets = self.secrets_of(&build, job.plan.as_ref()).await?;
        let (repo, credentials) = self.opened(build.repo).await?;
        Ok(WorkOrder {
            secrets,
            credentials,
            build: Some(build.number),
            attempt: attempt.attempt,
            branch: build.branch,
            commit: build.commit,
            pinned: build.pinned,
            default_branch: build.default_branch,
            plan: job.plan.clone(),
            trusted: build.trusted,
            origin,
            key: job.plan.is_some().then(|| job.key.clone()),
            inputs,
            handed: received.values,
            clashes: received.clashes,
            kept: received.kept,
            so_far: received.so_far,
            depot: self.desk.archives.for_attempt(job.id, attempt.attempt, attempt.claim),
            ..WorkOrder::new(job.id, build.trigger, repo)
        })
    }

    /// How a repository is fetched: by what its project has of its own, at the project's URL and at no other, whoever
    /// named the repository. That goes for every build of it, also of a pull request from elsewhere: its agent fetches by
    /// it, no stage gets it, and the code is the project's own offer. A URL with a password stays as it is.
    async fn opened(&mut self, repo: RepoUrl) -> Result<(RepoUrl, Option<RepoCredentials>), StoreError> {
        if repo.is_local() || repo.secret().is_some() {
            return Ok((repo, None));
        }
        let Some((url, owner, sealed)) = self.tx.credentials_for(&repo.identity()).await? else {
            return Ok((repo, None));
        };
        let text = self.desk.vault.open_text(SealedFor::Credentials, &owner, &sealed);
        let credentials = text.and_then(|text| serde_json::from_str(&text).ok());
        // What does not open any more is said at the project and at the coordinator's start; the clone says what lacks.
        Ok(if credentials.is_some() { (url, credentials) } else { (repo, None) })
    }

    /// What the farm keeps for a build, and what its plan has sealed: for trusted builds alone, and never for what
    /// comes from a fork. Of two of one name the one that is meant more closely counts.
    async fn secrets_of(&mut self, build: &Build, plan: Option<&Plan>) -> Result<Vec<Variable>, StoreError> {
        if !build.trusted || build.origin.fork {
            return Ok(Vec::new());
        }
        let vault = &self.desk.vault;
        let project = build.repo.identity();
        let branch = build.branch.as_ref().map(Branch::as_str);
        let mut kept = self.tx.secrets_for(&project).await?;
        kept.retain(|secret| secret.scope.fits(branch, build.trigger));
        kept.sort_by_key(|secret| (secret.scope.closeness(), secret.id));
        let mut secrets: Vec<Variable> = Vec::new();
        for secret in kept {
            // What no key opens is said where the secrets are listed, and by the stage that asks for it.
            let Some(value) = vault.open(&secret) else { continue };
            secrets.retain(|earlier| earlier.name != secret.scope.name);
            secrets.push(Variable::new(secret.scope.name, value));
        }
        for sealed in plan.into_iter().flat_map(Plan::secure_values) {
            // The plan is a user's: what does not open for this project is not given, and its stage says so.
            if let Ok(value) = vault.open_secure(&project, sealed) {
                secrets.push(Variable::new(sealed, value));
            }
        }
        Ok(secrets)
    }
}

/// Whether a grant fits into a message: it travels sealed, as text within a text, of which four letters stand for three.
fn travels(grant: &Grant) -> bool {
    let Ok(text) = serde_json::to_string(grant) else { return false };
    // Within a text it is twice as long at most.
    text.len() < wire::MAX_BYTES / 3
        || serde_json::to_string(&text).is_ok_and(|within| within.len() < wire::MAX_BYTES / 3 * 2)
}
