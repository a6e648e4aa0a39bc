//! Who has the broker's password and no key of the farm: what it forges gets nothing, and people are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::sync::Arc;

use coordinator::config::Enrolment;
use farm::farm::{Farm, over_rabbitmq, until};
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use protocol::api::{Approve, IncidentKind, IncidentView, Status};
use protocol::control::{Control, Grant, Told};
use protocol::identity::{Identity, OneTimeKey, Signed, seal};
use protocol::job::{QueueMessage, TriggerKind, WorkOrder};
use protocol::link::rabbitmq::{RabbitAgent, RabbitSettings};
use protocol::link::{AgentLink as _, Delivered};
use protocol::report::{
    Claim, ClaimPhase, ClaimSubject, Heartbeat, HeldClaim, Hello, JobEvent, Progress, Report, Said,
};
use protocol::{AgentId, BootId, ClaimId, Ending, JobId, LabelSet, wire};
use serde_json::json;

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";
const WAITS: &str = "image: x\nstages: [wait]\nwait: {script: [print begun, wait-file go, print let go]}\n";

/// Reads along what all agents report, as whoever may read the exchange can.
struct Ear {
    _connection: Connection,
    heard: Consumer,
}

impl Ear {
    async fn at(farm: &Farm) -> Self {
        let connection = Connection::connect(&farm.vhost().uri(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let (queue, none) = ("the-ear", FieldTable::default());
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, none.clone()).await.unwrap();
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.into(), "buildr.events".into(), "#".into(), bind, none.clone()).await.unwrap();
        let heard = channel.basic_consume(queue.into(), "ear".into(), BasicConsumeOptions::default(), none).await;
        Self { _connection: connection, heard: heard.unwrap() }
    }

    /// The next claim that somebody makes: as it was written, and what it says.
    async fn claim(&mut self) -> (Signed<Claim>, Claim) {
        let heard = async {
            loop {
                let delivery = self.heard.next().await.unwrap().unwrap();
                delivery.ack(BasicAckOptions::default()).await.unwrap();
                if let Ok(Report::Claim(signed)) = wire::decode(&delivery.data) {
                    let claim = signed.unverified().unwrap();
                    return (signed, claim);
                }
            }
        };
        tokio::time::timeout(farm::farm::PATIENCE, heard).await.unwrap()
    }
}

/// Whoever has the password of a broker's user, and a key that nobody knows.
struct Thief {
    line: Arc<RabbitAgent>,
    identity: Identity,
    name: AgentId,
    boot: BootId,
}

impl Thief {
    async fn at(uri: String, name: &str) -> Self {
        let (name, boot): (AgentId, _) = (name.parse().unwrap(), BootId::fresh());
        let line = Arc::new(RabbitAgent::connect(RabbitSettings::new(uri), &name, boot).await.unwrap());
        Self { line, identity: Identity::generate().unwrap(), name, boot }
    }

    async fn say(&self, report: &Report) {
        until("the thief's word to be taken", async || {
            matches!(self.line.report(report).await, Ok(Delivered::Yes)).then_some(())
        })
        .await;
    }

    fn signed(&self, agent: &AgentId, boot: BootId, report: &Report) -> Report {
        let said = Said { agent: agent.clone(), boot, count: 1 << 40, report: Box::new(report.clone()) };
        Report::Said(Signed::new(&self.identity, &said).unwrap())
    }

    fn claim(&self, agent: &AgentId, boot: BootId, job: JobId) -> (OneTimeKey, ClaimId, Report) {
        let (key, sealing) = OneTimeKey::generate();
        let claim = ClaimId::fresh();
        let content = Claim {
            claim,
            agent: agent.clone(),
            boot,
            subject: ClaimSubject::Job { job },
            sealing,
            queue: "build_queue".to_owned(),
            redelivered: false,
        };
        (key, claim, Report::Claim(Signed::new(&self.identity, &content).unwrap()))
    }

    async fn hello(&self) {
        let hello = Hello {
            agent: self.name.clone(),
            boot: self.boot,
            key: self.identity.public(),
            join: None,
            labels: LabelSet::default(),
            slots: 9,
            version: "0".to_owned(),
            host: "elsewhere".to_owned(),
        };
        self.say(&self.signed(&self.name, self.boot, &Report::Hello(hello))).await;
    }

    /// What the coordinator says to this name, up to a word that it does not belong to the farm.
    async fn until_not_enrolled(&self) {
        let heard = async {
            loop {
                match self.line.next_control().await.unwrap() {
                    Control::NotEnrolled { .. } => return,
                    Control::Granted { .. } => panic!("the thief was granted a job"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(farm::farm::PATIENCE, heard).await.unwrap();
    }
}

async fn forged(farm: &Farm, says: &str) -> IncidentView {
    until(says, async || {
        let noted = farm.api().client.incidents().await.unwrap().incidents;
        noted.into_iter().find(|noted| noted.kind == IncidentKind::Forged && noted.sentence.contains(says))
    })
    .await
}

#[tokio::test]
async fn a_stolen_password_gets_no_job() {
    over_rabbitmq(async |farm| {
        // No word of a job that a thief sits on before he is seen through.
        farm.config.lease = std::time::Duration::from_secs(60);
        farm.config.enrolment = Enrolment::ByApproval;
        farm.start_coordinator().await;
        let thief = Thief::at(farm.vhost().uri(), "thief").await;
        let number = farm.api().begin(PASSES).await;
        let delivery = thief.line.next_job(&[LabelSet::default()]).await.unwrap();
        let Ok(QueueMessage::Job(job)) = delivery.message() else { panic!("{delivery:?}") };
        // Nobody of that name; then one whom nobody approved.
        thief.say(&thief.claim(&thief.name, thief.boot, job).2).await;
        thief.until_not_enrolled().await;
        thief.hello().await;
        thief.until_not_enrolled().await;
        thief.say(&thief.claim(&thief.name, thief.boot, job).2).await;
        thief.until_not_enrolled().await;
        // In the name of one that belongs to the farm.
        farm.start_agent("oak", 1).await;
        let fingerprint = farm.until_known("oak").await.fingerprint;
        let oak: AgentId = "oak".parse().unwrap();
        farm.api().client.approve(&oak, &Approve { fingerprint, labels: None }).await.unwrap();
        farm.until_here("oak").await;
        thief.say(&thief.claim(&oak, thief.boot, job).2).await;
        forged(farm, "a claim in its name was made with another key").await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Queued);
        assert!(farm.api().build(number).await.attempts.is_empty());
        delivery.requeue().await;
        thief.line.close().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!((view.attempts.len(), view.attempts[0].agent.as_str()), (1, "oak"));
    })
    .await;
}

/// What would end, give up or keep alive a job, said in its agent's name.
fn words(oak: &AgentId, boot: BootId, held: ClaimId) -> [Report; 5] {
    let event = |event| Report::Progress(Progress { claim: held, seq: 1_000, at_ms: 1, event });
    let beat = Heartbeat {
        agent: oak.clone(),
        boot,
        claims: vec![HeldClaim { claim: held, phase: ClaimPhase::Ended, waits_for: None }],
        slots: 0,
        paused: Some("forged".to_owned()),
        standing: None,
        draining: true,
        capacity: None,
        hears_several: false,
    };
    [
        event(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }),
        event(JobEvent::Planned { jobs: Vec::new(), build: protocol::plan::BuildPlan::default() }),
        Report::Abandoned { agent: oak.clone(), claim: held },
        Report::Bye { agent: oak.clone(), boot },
        Report::Heartbeat(beat),
    ]
}

#[tokio::test]
async fn forged_words_about_a_running_job_change_nothing() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        let mut ear = Ear::at(farm).await;
        farm.start_agent("oak", 1).await;
        farm.until_here("oak").await;
        let number = farm.api().begin(WAITS).await;
        let (recorded, claim) = ear.claim().await;
        farm.api().until_in_stage(number, 1, "wait").await;
        let thief = Thief::at(farm.vhost().uri(), "thief").await;
        let (oak, boot, held) = (claim.agent.clone(), claim.boot, claim.claim);
        let words = words(&oak, boot, held);
        for report in &words {
            thief.say(report).await;
            thief.say(&thief.signed(&oak, boot, report)).await;
        }
        // The claim itself, as it was written: what it is answered is sealed to its maker. And with another's content.
        thief.say(&Report::Claim(recorded.clone())).await;
        let text = serde_json::to_string(&recorded).unwrap().replace(&held.reveal(), &ClaimId::fresh().reveal());
        thief.say(&Report::Claim(serde_json::from_str(&text).unwrap())).await;
        forged(farm, "said in its name with another key").await;
        forged(farm, "an event of a job without a signature").await;
        forged(farm, "a goodbye without a signature").await;
        forged(farm, "a claim in its name was made with another key").await;
        // Bodies that pretend to be this job, or one that never was.
        let ClaimSubject::Job { job } = claim.subject else { panic!("{claim:?}") };
        let vhost = farm.vhost();
        for job in [job, JobId::fresh()] {
            let body = json!({"job_id": job, "repo": "file:///etc", "branch": "main"}).to_string();
            vhost.publish("", "build_queue", body.as_bytes(), json!({})).await;
        }
        let view = farm.api().build(number).await;
        assert_eq!((view.build.status, view.attempts.len()), (Status::Running, 1), "{view:#?}");
        farm.folders("oak").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        // Of a job that is over.
        let body = json!({"job_id": job, "repo": "file:///etc"}).to_string();
        vhost.publish("", "build_queue", body.as_bytes(), json!({})).await;
        let last = farm.api().begin(PASSES).await;
        farm.api().until_is(last, Status::Passed).await;
        let view = farm.api().build(number).await;
        assert_eq!((view.build.status, view.attempts.len()), (Status::Passed, 1), "{view:#?}");
        assert_eq!(farm.api().builds().await.len(), 2);
        let laid = until("the job that never was", async || vhost.drain("buildr.dead").await.pop()).await;
        let reason = laid.0["headers"]["x-buildr-reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("knows no job"), "{reason}");
        assert!(vhost.drain("build_queue").await.is_empty());
        thief.line.close().await;
    })
    .await;
}

#[tokio::test]
async fn who_comes_as_another_user_of_the_broker_is_not_heard() {
    over_rabbitmq(async |farm| {
        farm.start_coordinator().await;
        let user = farm.vhost().add_user("secret", ["^buildr\\.agent\\..*", ".*", ".*"]).await;
        let honest = Thief::at(farm.vhost().uri_as(&user, "secret"), "elm").await;
        honest.hello().await;
        until("elm to be enrolled", async || farm.until_known("elm").await.enrolled.then_some(())).await;
        // The same key, so the signature is good; the broker says that it is somebody else.
        let bye = Report::Bye { agent: honest.name.clone(), boot: honest.boot };
        let said = honest.signed(&honest.name, honest.boot, &bye);
        let other = Thief::at(farm.vhost().uri(), "elm").await;
        other.say(&said).await;
        let noted = forged(farm, "came from the user guest, not from the broker's user").await;
        assert!(noted.about == "elm" && noted.sentence.contains(&user), "{noted:?}");
        // And with no user at all.
        let body = wire::encode(&said).unwrap();
        farm.vhost().publish("buildr.events", "agent.elm.said", &body, json!({})).await;
        forged(farm, "came without a user's name").await;
        other.line.close().await;
        honest.line.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_forged_grant_starts_nothing() {
    over_rabbitmq(async |farm| {
        farm.config.beacon = std::time::Duration::from_secs(15);
        farm.start_coordinator().await;
        farm.start_agent("oak", 1).await;
        farm.until_here("oak").await;
        let repository = farm::farm::Repository::with_manifest(PASSES);
        let mut ear = Ear::at(farm).await;
        farm.kill_coordinator().await;
        farm.vhost().publish("", "build_queue", &repository.message(), json!({})).await;
        let (_, claim) = ear.claim().await;
        let thief = Identity::generate().unwrap();
        let order =
            WorkOrder { trusted: true, ..WorkOrder::new(JobId::fresh(), TriggerKind::Manual, repository.url()) };
        let grant = Grant {
            claim: claim.claim,
            order,
            lease_ms: 60_000,
            heartbeat_ms: 1_000,
            reads_events: false,
            reads_packed: false,
        };
        let signed = Signed::new(&thief, &grant).unwrap();
        let (_, another) = OneTimeKey::generate();
        // Signed by nobody that the agent knows; and sealed for somebody else.
        for key in [&another, &claim.sealing] {
            let control = Control::Granted { claim: claim.claim, grant: seal(key, claim.claim, &signed).unwrap() };
            let body = wire::encode(&control).unwrap();
            farm.vhost().publish("buildr.control", "agent.oak", &body, json!({})).await;
        }
        // It gives the message back and asks for it anew: with another claim. The first may be said again before.
        while ear.claim().await.1.claim == claim.claim {}
        assert!(!farm.folders("oak").has_cloned(), "the forged grant was believed");
        farm.start_coordinator().await;
        let views = farm.api().until_all_over(1).await;
        assert_eq!((views.len(), views[0].build.status), (1, Status::Passed), "{views:#?}");
    })
    .await;
}

#[tokio::test]
async fn forged_orders_move_no_agent() {
    over_rabbitmq(async |farm| {
        farm.config.lease = std::time::Duration::from_secs(60);
        farm.start_coordinator().await;
        let mut ear = Ear::at(farm).await;
        farm.start_agent("oak", 1).await;
        farm.until_here("oak").await;
        let number = farm.api().begin(WAITS).await;
        let (_, Claim { claim, agent, .. }) = ear.claim().await;
        farm.api().until_said(number, "wait", "begun").await;
        farm.stop_coordinator().await;
        farm.folders("oak").let_go().await;
        farm.folders("oak").until_a_result().await;
        farm.vhost().purge("buildr.events.v1").await;
        farm.vhost().purge("buildr.logs.v1").await;
        let thief = Identity::generate().unwrap();
        let log: protocol::LogName = "wait".parse().unwrap();
        let job = protocol::LogName::of_job();
        let all_kept = Control::LogKept { claim, log: log.clone(), bytes: 1 << 40 };
        for order in [
            Control::Recorded { claim },
            Control::LogKept { claim, log, bytes: 1 << 40 },
            Control::LogKept { claim, log: job, bytes: 1 << 40 },
            Control::Several { controls: vec![Control::Recorded { claim }, all_kept] },
            Control::Abort { claim, reason: "forged".to_owned() },
            Control::Standing { note: Some("forged".to_owned()), boot: None },
        ] {
            let told = Told { agent: agent.clone(), control: Box::new(order.clone()) };
            let signed = Control::Told(Signed::new(&thief, &told).unwrap());
            for control in [order, signed] {
                let body = wire::encode(&control).unwrap();
                farm.vhost().publish("buildr.control", "agent.oak", &body, json!({})).await;
            }
        }
        // The result and its log are still on the agent's disk, and nowhere else.
        farm.start_coordinator().await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert!(view.attempts[0].logs.iter().all(|log| log.complete), "{view:#?}");
        assert_eq!(farm.api().log(number, "wait").await, "begun\nlet go\n");
    })
    .await;
}
