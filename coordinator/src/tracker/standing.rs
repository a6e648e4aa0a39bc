//! What a person says about an agent: that it should take no jobs for a while, or that it belongs to the farm no
//! longer.

use buildr::process::clock::now_ms;
use protocol::api::{Loss, Paused};
use protocol::control::Control;
use protocol::state::{Happening, JobState};
use protocol::{AgentId, JobId};
use tokio::time::Instant;

use super::Answers;
use super::enrolment::not_taken;
use crate::desk::Desk;
use crate::feed::Change;
use crate::presence::Belongs;
use crate::store::{Agent, StoreError, Transaction};

/// Why something cannot be said about an agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentRefusal {
    /// Nobody knows it.
    #[error("no agent called {0} has said hello; `buildr agents` lists those that have")]
    Unknown(AgentId),
    /// It lives in the coordinator's own process.
    #[error("agent {0} is the coordinator's own process, and cannot be revoked or forgotten; end `buildr up` instead")]
    ThisProcess(AgentId),
    /// It would be back with its next word.
    #[error("agent {0} is here; end it first, or revoke it with `buildr agent revoke {0}`")]
    Here(AgentId),
    /// Jobs of the farm are in its hands.
    #[error("agent {0} has jobs that are not over; wait for them, or revoke it with `buildr agent revoke {0}`")]
    Busy(AgentId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A person wants an agent to take no jobs. It hears of it at once, or with its next sign of life.
///
/// # Errors
/// When nobody knows the agent, or the store fails.
pub(crate) async fn pause(desk: &Desk, name: &AgentId, note: String, by: Option<String>) -> Result<(), AgentRefusal> {
    stand(desk, name, Some(Paused { note, by, since_ms: now_ms() })).await
}

/// A person wants an agent to take jobs again.
///
/// # Errors
/// When nobody knows the agent, or the store fails.
pub(crate) async fn resume(desk: &Desk, name: &AgentId) -> Result<(), AgentRefusal> {
    stand(desk, name, None).await
}

async fn stand(desk: &Desk, name: &AgentId, pause: Option<Paused>) -> Result<(), AgentRefusal> {
    let mut tx = desk.store.write().await?;
    let mut agent = known(&mut tx, name).await?;
    let note = pause.as_ref().map(|pause| pause.note.clone());
    agent.pause = pause;
    tx.put_agent(&agent).await?;
    tx.commit().await?;
    desk.presence.amend(name, |seen| {
        // What the agent said last about its pausing was this person's word, and holds no longer.
        if note.is_none()
            && let Some(said) = seen.said.as_mut().filter(|said| said.heard.is_some())
        {
            said.paused = None;
        }
        seen.note.clone_from(&note);
    });
    let mut answers = Answers::saying(Change::Agents);
    answers.tell(name, Control::Standing { note, boot: None });
    answers.give(desk).await;
    Ok(())
}

/// A person says that an agent belongs to the farm no longer: it gets nothing more, what it works on goes to others,
/// and neither a join token nor open enrolment lets its key back in. Gives how many jobs were taken from it.
///
/// # Errors
/// When nobody knows the agent, it is this process, or the store fails.
pub(crate) async fn revoke(desk: &Desk, name: &AgentId, reason: &str) -> Result<usize, AgentRefusal> {
    let mut tx = desk.store.write().await?;
    let mut agent = known(&mut tx, name).await?;
    refuse_own(desk, &agent)?;
    let now = now_ms();
    for key in std::iter::once(&agent.key).chain(&agent.refused_key) {
        tx.revoke_key(key, name, reason, now).await?;
    }
    agent.enrolled = false;
    agent.refused_key = None;
    agent.revoked = Some(reason.to_owned());
    tx.put_agent(&agent).await?;
    let mut answers = Answers::saying(Change::Agents);
    let mut taken = 0;
    for id in tx.jobs_with(name).await? {
        taken += usize::from(take_away(&mut tx, &mut answers, id, reason, now).await?);
    }
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.tell(name, Control::NotEnrolled { reason: not_taken(&agent), boot: None });
    desk.presence.amend(name, |seen| seen.belongs = Belongs::NoLonger);
    answers.give(desk).await;
    Ok(taken)
}

/// Gives a job of a revoked agent back to the farm. The attempt is lost; that it was is no fault of the job's, so it
/// has as many left as it needs.
async fn take_away(
    tx: &mut Transaction,
    answers: &mut Answers,
    id: JobId,
    reason: &str,
    now: u64,
) -> Result<bool, StoreError> {
    let Some(job) = tx.job(id).await? else { return Ok(false) };
    let JobState::Running { claim, agent, .. } = job.state.clone() else { return Ok(false) };
    let not_twice = tx.attempt(claim).await?.is_some_and(|attempt| attempt.not_twice);
    let (max_lost, max_attempts) = (u32::MAX, u32::MAX);
    let lost = Happening::Lost { claim, not_twice, lost_before: 0, max_lost, max_attempts };
    if tx.apply(&job, &lost, now).await?.is_err() {
        return Ok(false);
    }
    tx.lost_by(claim, &Loss::Revoked { why: reason.to_owned() }).await?;
    answers.gone(claim);
    answers.tell(&agent, Control::Abort { claim, reason: "the agent was revoked".to_owned() });
    answers.say(Change::Build(job.build));
    answers.say(Change::Log(job.build));
    Ok(true)
}

/// A person wants an agent that is gone to be listed no longer.
///
/// # Errors
/// When nobody knows the agent, it is here or has jobs, or the store fails.
pub(crate) async fn forget(desk: &Desk, name: &AgentId) -> Result<(), AgentRefusal> {
    let mut tx = desk.store.write().await?;
    let agent = known(&mut tx, name).await?;
    refuse_own(desk, &agent)?;
    if agent.revoked.is_none() && !desk.presence.is_silent(name, Instant::now()) {
        return Err(AgentRefusal::Here(name.clone()));
    }
    if !tx.jobs_with(name).await?.is_empty() {
        return Err(AgentRefusal::Busy(name.clone()));
    }
    tx.forget_agent(name).await?;
    tx.commit().await?;
    desk.presence.forget_agent(name);
    desk.feed.say(Change::Agents);
    Ok(())
}

async fn known(tx: &mut Transaction, name: &AgentId) -> Result<Agent, AgentRefusal> {
    tx.agent(name).await?.ok_or_else(|| AgentRefusal::Unknown(name.clone()))
}

fn refuse_own(desk: &Desk, agent: &Agent) -> Result<(), AgentRefusal> {
    let own = desk.config.known_agents.iter().any(|(name, key)| *name == agent.name && *key == agent.key);
    if own { Err(AgentRefusal::ThisProcess(agent.name.clone())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use protocol::api::{Approve, NearAgent, Status, WaitReason};
    use protocol::link::AgentLink as _;
    use protocol::report::{ClaimPhase, Heartbeat, HeldClaim, Report};
    use protocol::{BuildNumber, LabelSet};
    use tempfile::tempdir;

    use super::*;
    use crate::config::Enrolment;
    use crate::store::Snapshot;
    use crate::testing::{Agent, Farm, soon};
    use crate::tracker::{Approval, approve};
    use crate::why::waits;

    fn fingerprint(agent: &Agent) -> String {
        agent.identity.public().fingerprint()
    }

    async fn approved(farm: &Farm, agent: &Agent, labels: Option<&[&str]>) -> Approval {
        let labels = labels.map(|labels| LabelSet::new(labels.iter().copied()).unwrap());
        approve(&farm.desk, &agent.name, &Approve { fingerprint: fingerprint(agent), labels }).await.unwrap()
    }

    async fn note(agent: &Agent) -> Option<String> {
        match agent.hear(|control| matches!(control, Control::Standing { .. })).await {
            Control::Standing { note, .. } => note,
            other => panic!("{other:?}"),
        }
    }

    fn enrolled(control: &Control) -> bool {
        matches!(control, Control::Enrolled { .. })
    }

    fn refused(control: &Control) -> bool {
        matches!(control, Control::NotEnrolled { .. })
    }

    async fn reason_of(agent: &Agent) -> String {
        match agent.hear(refused).await {
            Control::NotEnrolled { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_pause_is_heard_at_once_and_again_until_it_is_known() {
        let folder = tempdir().unwrap();
        let farm = Farm::start(&folder).await;
        let agent = farm.agent("a1").await;
        pause(&farm.desk, &agent.name, "a new disk".to_owned(), Some("ada@laptop".to_owned())).await.unwrap();
        assert_eq!(note(&agent).await.as_deref(), Some("a new disk"));
        let capacity = farm.desk.presence.capacity(&LabelSet::default(), Instant::now());
        assert_eq!((capacity.free, capacity.paused.len()), (0, 1), "it counts before the agent says so itself");
        // It does not know of it, so it is told with its next sign of life; and a new process of it with its first.
        agent.heartbeat(&[]).await;
        assert_eq!(note(&agent).await.as_deref(), Some("a new disk"));
        agent.hello(&[], None).await;
        assert_eq!(note(&agent).await.as_deref(), Some("a new disk"));
        // Once it has heard, it is told no more.
        let claim = protocol::ClaimId::fresh();
        agent
            .report(Report::Heartbeat(Heartbeat {
                agent: agent.name.clone(),
                boot: agent.boot,
                claims: vec![HeldClaim { claim, phase: ClaimPhase::Running, waits_for: None }],
                slots: 2,
                paused: Some("a new disk".to_owned()),
                standing: Some("a new disk".to_owned()),
                draining: false,
                capacity: None,
                hears_several: false,
            }))
            .await;
        let next = agent.hear(|control| !matches!(control, Control::Beacon(_))).await;
        assert!(matches!(next, Control::Abort { .. }), "{next:?}");
        let (seen, _) = farm.desk.presence.sighting(&agent.name, Instant::now()).unwrap();
        assert_eq!(seen.why_paused().as_deref(), Some("paused by a person: a new disk"));
        assert_eq!(seen.said.unwrap().heard, seen.note);
        resume(&farm.desk, &agent.name).await.unwrap();
        assert_eq!(note(&agent).await, None);
        let (seen, _) = farm.desk.presence.sighting(&agent.name, Instant::now()).unwrap();
        assert_eq!(seen.why_paused(), None, "it need not say so itself first");
        pause(&farm.desk, &agent.name, "a new disk".to_owned(), None).await.unwrap();
        assert_eq!(note(&agent).await.as_deref(), Some("a new disk"));
        // What lay on the queue in that moment may still be granted.
        farm.submit().await;
        agent.work(&farm).await;
        farm.stop().await;
        // It outlives the coordinator.
        let farm = Farm::start(&folder).await;
        let agent = agent.on(&farm.broker);
        agent.heartbeat(&[]).await;
        assert_eq!(note(&agent).await.as_deref(), Some("a new disk"));
        resume(&farm.desk, &agent.name).await.unwrap();
        assert_eq!(note(&agent).await, None);
        let capacity = farm.desk.presence.capacity(&LabelSet::default(), Instant::now());
        assert!(capacity.paused.is_empty(), "{capacity:?}");
        farm.stop().await;
    }

    #[tokio::test]
    async fn a_revoked_agents_job_goes_to_another() {
        let folder = tempdir().unwrap();
        let farm = Farm::start(&folder).await;
        let bad = farm.agent("bad").await;
        let build = farm.submit().await;
        let (claimed, _) = bad.work(&farm).await;
        assert_eq!(revoke(&farm.desk, &bad.name, "stolen").await.unwrap(), 1);
        bad.hear(|control| matches!(control, Control::Abort { claim, .. } if *claim == claimed.claim)).await;
        assert!(reason_of(&bad).await.contains("was revoked (stolen)"));
        let Snapshot { view, .. } = farm.snapshot(build).await;
        assert_eq!((view.build.status, view.attempts[0].state.as_str()), (Status::Queued, "lost"));
        assert_eq!(view.attempts[0].loss, Some(Loss::Revoked { why: "stolen".to_owned() }));
        // Whatever it says now, it gets nothing.
        bad.heartbeat(&[(claimed.claim, ClaimPhase::Running)]).await;
        assert!(reason_of(&bad).await.contains("stolen"));
        let delivery = bad.take().await;
        bad.claim(&delivery).await;
        assert!(reason_of(&bad).await.contains("stolen"));
        drop(delivery);
        let good = farm.agent("good").await;
        let (again, grant) = good.work(&farm).await;
        assert_eq!((grant.order.build, grant.order.attempt), (Some(build), 2));
        good.finish(again.claim, protocol::Ending::passed()).await;
        farm.until_status(build, "passed").await;
        farm.stop().await;
    }

    #[tokio::test]
    async fn a_revoked_key_comes_back_by_a_persons_word_alone() {
        let folder = tempdir().unwrap();
        let token: protocol::identity::JoinToken = "open sesame".parse().unwrap();
        let by_token = Enrolment::ByToken(token.clone());
        let farm = Farm::with(&folder, |config| config.enrolment = by_token).await;
        let bad = Agent::new(&farm.broker, "bad");
        bad.hello(&["gpu"], Some(&token)).await;
        bad.hear(enrolled).await;
        revoke(&farm.desk, &bad.name, "stolen").await.unwrap();
        reason_of(&bad).await;
        bad.hello(&["gpu"], Some(&token)).await;
        assert!(reason_of(&bad).await.contains("stolen"));
        // Another key under its name does not come in by itself either.
        let heir = Agent::new(&farm.broker, "bad");
        heir.hello(&[], Some(&token)).await;
        assert!(reason_of(&heir).await.contains("stolen"));
        // Nor does the key under another name, after the name was forgotten.
        forget(&farm.desk, &bad.name).await.unwrap();
        let mut renamed = Agent::new(&farm.broker, "new");
        renamed.identity = bad.identity;
        renamed.hello(&["gpu"], Some(&token)).await;
        let reason = reason_of(&renamed).await;
        assert!(reason.contains("agent bad was revoked (stolen)"), "{reason}");
        assert_eq!(approved(&farm, &renamed, None).await, Approval::Done);
        renamed.hear(enrolled).await;
        farm.submit().await;
        renamed.work(&farm).await;
        farm.stop().await;
    }

    #[tokio::test]
    async fn what_was_compared_is_what_is_approved() {
        let folder = tempdir().unwrap();
        let farm = Farm::with(&folder, |config| config.enrolment = Enrolment::ByApproval).await;
        let first = Agent::new(&farm.broker, "a1");
        first.hello(&["gpu", "arm64"], None).await;
        first.hear(refused).await;
        // Between the look and the word another process says hello under that name.
        let second = Agent::new(&farm.broker, "a1");
        second.hello(&["gpu"], None).await;
        second.hear(refused).await;
        let shown = fingerprint(&second);
        assert_eq!(approved(&farm, &first, None).await, Approval::OtherKey { shown });
        let cuda = LabelSet::new(["cuda"]).unwrap();
        assert_eq!(approved(&farm, &second, Some(&["cuda"])).await, Approval::NotOffered { labels: cuda });
        assert_eq!(approved(&farm, &second, Some(&[])).await, Approval::Done);
        assert_eq!(approved(&farm, &second, Some(&[])).await, Approval::Before);
        let gpu = LabelSet::new(["gpu"]).unwrap();
        assert_eq!(farm.desk.presence.capacity(&gpu, Instant::now()).able.len(), 0);
        assert_eq!(approved(&farm, &second, None).await, Approval::Done);
        assert_eq!(farm.desk.presence.capacity(&gpu, Instant::now()).able.len(), 1);
        farm.stop().await;
    }

    #[tokio::test]
    async fn chosen_labels_stay_chosen() {
        let folder = tempdir().unwrap();
        let farm = Farm::start(&folder).await;
        let agent = Agent::new(&farm.broker, "a1");
        agent.hello(&["gpu", "arm64"], None).await;
        agent.hear(enrolled).await;
        assert_eq!(approved(&farm, &agent, Some(&["arm64"])).await, Approval::Done);
        agent.hear(enrolled).await;
        // Open enrolment takes what an agent offers, but not over a person's head.
        agent.hello(&["gpu", "arm64"], None).await;
        agent.hear(enrolled).await;
        let able = |label: &str| {
            let labels = LabelSet::new([label]).unwrap();
            farm.desk.presence.capacity(&labels, Instant::now()).able.len()
        };
        assert_eq!((able("arm64"), able("gpu")), (1, 0));
        farm.stop().await;
    }

    #[tokio::test]
    async fn who_is_here_or_at_work_is_not_forgotten() {
        let folder = tempdir().unwrap();
        let farm = Farm::start(&folder).await;
        let agent = farm.agent("a1").await;
        assert!(matches!(forget(&farm.desk, &agent.name).await, Err(AgentRefusal::Here(_))));
        farm.submit().await;
        agent.work(&farm).await;
        agent.report(Report::Bye { agent: agent.name.clone(), boot: agent.boot }).await;
        let mut changes = farm.desk.feed.listen();
        while !farm.desk.presence.is_silent(&agent.name, Instant::now()) {
            changes.next().await;
        }
        assert!(matches!(forget(&farm.desk, &agent.name).await, Err(AgentRefusal::Busy(_))));
        revoke(&farm.desk, &agent.name, "gone").await.unwrap();
        forget(&farm.desk, &agent.name).await.unwrap();
        assert!(matches!(forget(&farm.desk, &agent.name).await, Err(AgentRefusal::Unknown(_))));
        farm.stop().await;
    }

    #[tokio::test]
    async fn labels_that_nobody_approved_are_the_reason() {
        let folder = tempdir().unwrap();
        let farm = Farm::with(&folder, |config| config.enrolment = Enrolment::ByApproval).await;
        let agent = Agent::new(&farm.broker, "a1");
        agent.hello(&["gpu", "arm64"], None).await;
        agent.hear(refused).await;
        assert_eq!(approved(&farm, &agent, Some(&["arm64"])).await, Approval::Done);
        farm.broker.publish("build_queue.gpu", &br#"{"repo": "https://example.org/x"}"#[..], None, None);
        let gpu = || LabelSet::new(["gpu"]).unwrap();
        let delivery = soon("a job", agent.link.next_job(&[gpu()])).await.unwrap();
        let claimed = agent.claim(&delivery).await;
        agent.answer(&claimed, &farm.desk.identity.public()).await.unwrap_err();
        let reason = async || waits(&farm.desk).await.unwrap().of(BuildNumber(1))[0].why.clone();
        let nearest = vec![NearAgent { agent: agent.name.clone(), lacks: gpu(), unapproved: gpu() }];
        assert_eq!(reason().await, WaitReason::NoLabels { labels: gpu(), agents: 1, nearest });
        assert_eq!(approved(&farm, &agent, None).await, Approval::Done);
        let here = reason().await;
        assert!(matches!(here, WaitReason::Offered { .. } | WaitReason::NotYetOffered { .. }), "{here:?}");
        farm.stop().await;
    }
}
