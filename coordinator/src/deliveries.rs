//! From what a forge delivered to builds. A delivery is in the store before the forge hears that it came; here it is
//! read from there, and its verdict is written in the transaction that begins or ends builds. So none is lost or
//! handled twice, wherever this coordinator ends in between.

use std::sync::Arc;
use std::time::Duration;

use buildr::process::clock::now_ms;
use protocol::api::Approval;
use protocol::job::TriggerKind;
use protocol::{BuildNumber, CommitId};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::feed::Change;
use crate::hook::{self, Told, TriggerFacts, Unreadable, Verdict};
use crate::intake::{self, IntakeError, Trigger};
use crate::store::{Asker, Delivery, Project, StoreError, Transaction};
use crate::tracker::Answers;

/// How often it looks even though nothing was said.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Handles deliveries until `shutdown`.
pub(crate) async fn run(desk: Arc<Desk>, shutdown: CancellationToken) {
    let mut changes = desk.feed.listen();
    loop {
        changes.catch_up();
        if let Err(error) = look(&desk).await {
            tracing::warn!("deliveries of forges wait to be handled: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changes.next_of(|change| change == Change::Deliveries) => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(desk: &Desk) -> Result<(), StoreError> {
    for number in desk.store.open_deliveries().await? {
        match handle(desk, number).await {
            // Tried again it would be no other.
            Err(error) if error.is_about_the_content() => give_up(desk, number, &error).await?,
            done => done?,
        }
    }
    Ok(())
}

async fn give_up(desk: &Desk, number: u64, error: &StoreError) -> Result<(), StoreError> {
    tracing::error!("delivery {number} cannot be handled: {error}");
    let mut tx = desk.store.write().await?;
    tx.handled(number, &format!("refused: {error}"), &[]).await?;
    tx.commit().await
}

async fn handle(desk: &Desk, number: u64) -> Result<(), StoreError> {
    let mut tx = desk.store.write().await?;
    let Some(delivery) = tx.open_delivery(number).await? else { return Ok(()) };
    let Some(project) = tx.project(&delivery.view.project).await? else { return Ok(()) };
    let mut work =
        Work { desk, tx: &mut tx, project: &project, delivery: &delivery, now_ms: now_ms(), builds: Vec::new() };
    let verdict = match read(&project, &delivery) {
        Ok(told) => work.follow(told).await?,
        Err(unreadable) => format!("refused: {unreadable}"),
    };
    let builds = work.builds;
    tx.handled(number, &verdict, &builds).await?;
    let mut answers = Answers::saying(Change::Deliveries);
    builds.iter().for_each(|build| answers.say(Change::Build(*build)));
    answers.follow(tx.take_effects());
    tx.commit().await?;
    tracing::info!("delivery {number} of {}: {verdict}", project.identity);
    answers.give(desk).await;
    Ok(())
}

/// Reads a delivery that came to a project's address.
///
/// # Errors
/// When it cannot be understood, or is about another repository.
pub(crate) fn read(project: &Project, delivery: &Delivery) -> Result<Told, Unreadable> {
    let told = hook::read(delivery.view.forge, &delivery.headers, &delivery.body)?;
    match told.repositories.as_slice() {
        [] => Ok(told),
        named if named.iter().any(|identity| project.covers(identity)) => Ok(told),
        named => {
            let (named, own) = (named.join(", "), &project.identity);
            Err(Unreadable::because(format!("the delivery is about {named}, and this is the address of {own}")))
        }
    }
}

/// One delivery on its way.
struct Work<'w> {
    desk: &'w Desk,
    tx: &'w mut Transaction,
    project: &'w Project,
    delivery: &'w Delivery,
    now_ms: u64,
    builds: Vec<BuildNumber>,
}

impl Work<'_> {
    /// Does what it asks for, and says what that was.
    async fn follow(&mut self, told: Told) -> Result<String, StoreError> {
        if let Some(branch) = told.default_branch.filter(|branch| self.project.default_branch.as_ref() != Some(branch))
        {
            let project = Project { default_branch: Some(branch), ..self.project.clone() };
            self.tx.change_project(&project).await?;
        }
        let mut said = Vec::new();
        for verdict in told.verdicts {
            said.push(match verdict {
                Verdict::Ping => "ping".to_owned(),
                Verdict::Ignored(why) => format!("ignored: {why}"),
                _ if !self.project.allowed => "ignored: the project takes no webhooks at present".to_owned(),
                Verdict::Cancel { pull_request, reason } => self.cancel(pull_request, &reason).await?,
                Verdict::Build(facts) => self.begin(*facts, self.delivery.view.redelivers.is_some()).await?,
                Verdict::Again(commit) => self.again(&commit).await?,
            });
        }
        Ok(said.join("; "))
    }

    async fn cancel(&mut self, pull_request: u64, reason: &str) -> Result<String, StoreError> {
        let mut cancelled = Vec::new();
        for (build, _) in self.tx.open_of_request(&self.project.identity, pull_request).await? {
            if self.tx.cancel(build, reason, Asker::Needless, self.now_ms).await? {
                cancelled.push(build.to_string());
            }
        }
        Ok(match cancelled.as_slice() {
            [] => format!("{reason}; no build of it goes on"),
            [one] => format!("{reason}; build {one} is cancelled"),
            several => format!("{reason}; builds {} are cancelled", several.join(", ")),
        })
    }

    /// `again`: somebody asked once more for what was pushed or proposed before.
    async fn begin(&mut self, facts: TriggerFacts, again: bool) -> Result<String, StoreError> {
        if self.project.is_owner() {
            return Ok("ignored: it names no repository of the owner's".to_owned());
        }
        if let Some(built) = self.built(&facts).await? {
            return Ok(format!("ignored: build {built} is of the same commit"));
        }
        let trigger = trigger(self.project, &facts);
        let (build, _) = match intake::begin(self.tx, &self.desk.config, &trigger, self.now_ms).await {
            Ok(begun) => begun,
            Err(IntakeError::Store(error)) => return Err(error),
            Err(refusal @ IntakeError::LocalRepo(_)) => return Ok(format!("refused: {refusal}")),
        };
        let view = &self.delivery.view;
        let who = facts.origin.author.as_ref().map(|who| format!(" ({who})")).unwrap_or_default();
        self.tx.asked_by(build, &format!("a webhook from {}, delivery {}{who}", view.forge, view.number)).await?;
        self.builds.push(build);
        if again {
            self.tx.pushed_again(build).await?;
        } else {
            self.tx.came_late(build).await?;
        }
        if let Some(pull_request) = facts.origin.pull_request
            && self.tx.is_of_tip(build).await?
        {
            self.supersede(pull_request, build).await?;
        }
        let waits = if trigger.approval.is_some() { ", which waits for approval" } else { "" };
        Ok(format!("build {build}{waits}"))
    }

    /// What a webhook began of this commit, again: with the same facts, so that a stranger's code stays a stranger's.
    async fn again(&mut self, commit: &CommitId) -> Result<String, StoreError> {
        let Some(old) = self.tx.begun_by_push(&self.project.url, commit).await? else {
            return Ok(format!("ignored: nothing was built of {} that could be built again", commit.short()));
        };
        let commit = old.origin.head.clone().or(old.commit);
        let branch = old.branch.filter(|_| old.trigger == TriggerKind::Push);
        let facts = TriggerFacts { kind: old.trigger, branch, commit, origin: old.origin, unless_built: false };
        self.begin(facts, true).await
    }

    async fn built(&mut self, facts: &TriggerFacts) -> Result<Option<BuildNumber>, StoreError> {
        let commit = facts.commit.as_ref().map(CommitId::as_str).or(facts.origin.short.as_deref());
        match (facts.origin.pull_request, commit) {
            (Some(pull_request), Some(commit)) if facts.unless_built => {
                self.tx.built_of_request(&self.project.url, pull_request, commit).await
            }
            _ => Ok(None),
        }
    }

    /// What waits for a maintainer is of a commit that is not the pull request's last any more.
    async fn supersede(&mut self, pull_request: u64, by: BuildNumber) -> Result<(), StoreError> {
        for (build, waits) in self.tx.open_of_request(&self.project.identity, pull_request).await? {
            if waits && build != by {
                self.tx.cancel(build, &format!("superseded by {by}"), Asker::Needless, self.now_ms).await?;
            }
        }
        Ok(())
    }
}

/// What begins the build. Code of those who may not write to the repository is never trusted, whatever the project is.
fn trigger(project: &Project, facts: &TriggerFacts) -> Trigger {
    Trigger {
        branch: facts.branch.clone(),
        commit: facts.commit.clone(),
        origin: facts.origin.clone(),
        trusted: Some(project.trusted && !facts.origin.fork),
        approval: waits(project.approval, facts).then(|| question(facts)),
        ..Trigger::new(project.url.clone(), facts.kind)
    }
}

fn waits(approval: Approval, facts: &TriggerFacts) -> bool {
    match approval {
        Approval::None => false,
        Approval::Forks => facts.origin.fork,
        Approval::PullRequests => facts.kind == TriggerKind::PullRequest,
        Approval::All => true,
    }
}

fn question(facts: &TriggerFacts) -> String {
    let origin = &facts.origin;
    let what = match (origin.pull_request, &origin.tag, &facts.branch) {
        (Some(number), ..) if origin.fork => format!("pull request #{number} from another repository"),
        (Some(number), ..) => format!("pull request #{number}"),
        (None, Some(tag), _) => format!("the tag {tag}"),
        (None, None, branch) => format!("a push to {}", branch.as_ref().map_or("HEAD", |branch| branch.as_str())),
    };
    let who = origin.author.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
    let at = facts.commit.as_ref().map(|commit| format!(", at {}", commit.short())).unwrap_or_default();
    format!("{what}{who}{at}")
}
