//! A coordinator with its line in memory, and agents made of nothing but what they say: for the tests of all rooms.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::api::{Approval, Forge, ProjectKeeps};
use protocol::control::{Control, Grant, SignedGrant};
use protocol::identity::{Identity, JoinToken, OneTimeKey, PublicKey, Signed};
use protocol::job::{QueueMessage, TriggerKind};
use protocol::link::memory::{MemoryAgent, MemoryBroker};
use protocol::link::{AgentLink as _, JobDelivery};
use protocol::outcome::Ending;
use protocol::report::{
    Claim, ClaimPhase, ClaimSubject, Heartbeat, HeldClaim, Hello, JobEvent, LogChunk, Progress, Report, Said,
};
use protocol::{AgentId, BootId, BuildNumber, ClaimId, LabelSet, RepoUrl};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Enrolment};
use crate::desk::Desk;
use crate::intake::{self, Trigger};
use crate::store::{Project, Sealed, Snapshot};
use crate::{RunError, open, work};

/// Longer than anything here takes: what waits for more is broken.
const LONG: Duration = Duration::from_secs(120);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// A coordinator at work.
pub(crate) struct Farm {
    pub(crate) desk: Arc<Desk>,
    pub(crate) broker: MemoryBroker,
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Farm {
    /// One that takes any agent, with its state in `folder`.
    pub(crate) async fn start(folder: &TempDir) -> Self {
        Self::with(folder, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(folder: &TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(folder.path());
        config.enrolment = Enrolment::Open;
        change(&mut config);
        let broker = MemoryBroker::new();
        let desk = open(config, Arc::new(broker.coordinator())).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = protocol::task::spawn("coordinator", work(desk.clone(), listener, shutdown.clone()));
        Self { desk, broker, address, shutdown, running }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("the end", self.running).await.unwrap().unwrap();
    }

    /// Begins a build.
    pub(crate) async fn submit(&self) -> BuildNumber {
        let repo = "https://me:secret@example.org/x".parse().unwrap();
        let trigger = Trigger::new(repo, TriggerKind::Manual);
        intake::submit(&self.desk, &trigger, None).await.unwrap()
    }

    pub(crate) async fn snapshot(&self, build: BuildNumber) -> Snapshot {
        self.desk.store.snapshot(build).await.unwrap().unwrap()
    }

    /// Waits until a build is as it should be.
    pub(crate) async fn until(&self, build: BuildNumber, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut changes = self.desk.feed.listen();
        soon(what, async {
            loop {
                changes.catch_up();
                let snapshot = self.snapshot(build).await;
                if is_so(&snapshot) {
                    return snapshot;
                }
                changes.next().await;
            }
        })
        .await
    }

    /// Waits until a build stands so.
    pub(crate) async fn until_status(&self, build: BuildNumber, status: &str) -> Snapshot {
        self.until(build, status, |snapshot| snapshot.view.build.status.name() == status).await
    }

    /// An agent that has said hello and was enrolled.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        let agent = Agent::new(&self.broker, name);
        agent.hello(&[], None).await;
        agent.hear(|control| matches!(control, Control::Enrolled { .. })).await;
        agent
    }
}

/// The project of a repository, with nothing of its own.
pub(crate) fn project(url: RepoUrl, secret: Sealed) -> Project {
    Project {
        identity: url.identity(),
        key: url.identity(),
        url,
        forge: Forge::Generic,
        secret,
        credentials: None,
        default_branch: None,
        trusted: true,
        approval: Approval::default(),
        allowed: true,
        keeps: ProjectKeeps::default(),
        mail: Vec::new(),
        created_ms: 1,
    }
}

/// An agent that does what a test says.
pub(crate) struct Agent {
    pub(crate) name: AgentId,
    pub(crate) boot: BootId,
    pub(crate) identity: Identity,
    pub(crate) link: MemoryAgent,
    seqs: std::sync::Mutex<HashMap<ClaimId, u64>>,
    count: std::sync::atomic::AtomicU64,
}

/// A claim that was made, with what opens its grant.
pub(crate) struct Claimed {
    pub(crate) claim: ClaimId,
    key: OneTimeKey,
    report: Report,
}

impl Agent {
    pub(crate) fn new(broker: &MemoryBroker, name: &str) -> Self {
        let name: AgentId = name.parse().unwrap();
        let (boot, identity) = (BootId::fresh(), Identity::generate().unwrap());
        Self { link: broker.agent(&name), name, boot, identity, seqs: std::sync::Mutex::default(), count: 0.into() }
    }

    /// The same agent, on the line of a coordinator that began anew.
    pub(crate) fn on(self, broker: &MemoryBroker) -> Self {
        Self { link: broker.agent(&self.name), ..self }
    }

    pub(crate) async fn hello(&self, labels: &[&str], token: Option<&JoinToken>) {
        self.report(self.says_hello(labels, token)).await;
    }

    /// What it says of itself.
    pub(crate) fn says_hello(&self, labels: &[&str], token: Option<&JoinToken>) -> Report {
        let key = self.identity.public();
        Report::Hello(Hello {
            agent: self.name.clone(),
            boot: self.boot,
            join: token.map(|token| token.vouch(&self.name, &key)),
            key,
            labels: LabelSet::new(labels.iter().copied()).unwrap(),
            slots: 2,
            version: "0".to_owned(),
            host: "here".to_owned(),
        })
    }

    /// Says something, with its signature under it.
    pub(crate) async fn report(&self, report: Report) {
        if let Report::Claim(_) = report {
            return self.write(report).await;
        }
        self.write(self.signed(report)).await;
    }

    /// A report with this agent's signature.
    pub(crate) fn signed(&self, report: Report) -> Report {
        let count = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let said = Said { agent: self.name.clone(), boot: self.boot, count, report: Box::new(report) };
        Report::Said(Signed::new(&self.identity, &said).unwrap())
    }

    /// Puts a report on the line as it is.
    pub(crate) async fn write(&self, report: Report) {
        self.link.report(&report).await.unwrap();
    }

    /// Takes the next job from `build_queue`.
    pub(crate) async fn take(&self) -> JobDelivery {
        soon("a job", self.link.next_job(&[LabelSet::default()])).await.unwrap()
    }

    /// What a claim says about a delivery.
    pub(crate) fn subject(delivery: &JobDelivery) -> ClaimSubject {
        match QueueMessage::read(&delivery.body).unwrap() {
            QueueMessage::Job(job) => ClaimSubject::Job { job },
            QueueMessage::Injected { repo, branch } => ClaimSubject::Injected {
                repo,
                branch,
                message_id: delivery.message_id.clone(),
                digest: format!("{:?}", delivery.body),
                reply: delivery.reply.clone(),
            },
        }
    }

    /// Claims what a delivery asks for.
    pub(crate) async fn claim(&self, delivery: &JobDelivery) -> Claimed {
        self.claim_subject(Self::subject(delivery), &delivery.queue, delivery.redelivered).await
    }

    pub(crate) async fn claim_subject(&self, subject: ClaimSubject, queue: &str, redelivered: bool) -> Claimed {
        let (key, sealing) = OneTimeKey::generate();
        let claim = Claim {
            claim: ClaimId::fresh(),
            agent: self.name.clone(),
            boot: self.boot,
            subject,
            sealing,
            queue: queue.to_owned(),
            redelivered,
        };
        let report = Report::Claim(Signed::new(&self.identity, &claim).unwrap());
        self.report(report.clone()).await;
        Claimed { claim: claim.claim, key, report }
    }

    /// Says the same claim again.
    pub(crate) async fn repeat(&self, claimed: &Claimed) {
        self.report(claimed.report.clone()).await;
    }

    /// Waits for a control message that `wanted` picks.
    pub(crate) async fn hear(&self, wanted: impl Fn(&Control) -> bool) -> Control {
        soon("a control message", async {
            loop {
                let control = self.link.next_control().await.unwrap().told();
                if wanted(&control) {
                    return control;
                }
            }
        })
        .await
    }

    /// Waits for the answer to a claim: its grant, or why it was denied.
    pub(crate) async fn answer(&self, claimed: &Claimed, coordinator: &PublicKey) -> Result<Grant, String> {
        let is_answer = |control: &Control| match control {
            Control::Granted { claim, .. } | Control::Denied { claim, .. } => *claim == claimed.claim,
            _ => false,
        };
        match self.hear(is_answer).await {
            Control::Granted { grant, .. } => {
                let signed: SignedGrant = claimed.key.open(claimed.claim, &grant).unwrap();
                let grant = signed.verify(coordinator).unwrap();
                assert_eq!(grant.claim, claimed.claim);
                Ok(grant)
            }
            Control::Denied { reason, .. } => Err(reason),
            other => panic!("{other:?}"),
        }
    }

    /// Takes the next job, and is granted it.
    pub(crate) async fn work(&self, farm: &Farm) -> (Claimed, Grant) {
        let delivery = self.take().await;
        let claimed = self.claim(&delivery).await;
        let grant = self.answer(&claimed, &farm.desk.identity.public()).await.unwrap();
        assert!(delivery.ack().await);
        (claimed, grant)
    }

    pub(crate) async fn happened(&self, claim: ClaimId, event: JobEvent) {
        let seq = {
            let mut seqs = self.seqs.lock().unwrap();
            let seq = seqs.entry(claim).or_default();
            *seq += 1;
            *seq
        };
        self.report(Report::Progress(Progress { claim, seq, at_ms: 1, event })).await;
    }

    /// Says that a job ended, and waits until that is in the store.
    pub(crate) async fn finish(&self, claim: ClaimId, ending: Ending) {
        self.happened(claim, JobEvent::Finished { ending, spent: Vec::new() }).await;
        self.hear_recorded(claim).await;
    }

    pub(crate) async fn hear_recorded(&self, claim: ClaimId) {
        self.hear(|control| matches!(control, Control::Recorded { claim: of } if *of == claim)).await;
    }

    pub(crate) async fn log(&self, claim: ClaimId, log: &str, offset: u64, text: &'static str) {
        let bytes = Bytes::from_static(text.as_bytes());
        let chunk = LogChunk { claim, log: log.parse().unwrap(), offset, at_ms: 1, bytes, packed: false };
        self.link.log(&chunk).await.unwrap();
    }

    /// Waits until so many bytes of a log are kept, and gives how many they are.
    pub(crate) async fn hear_kept(&self, claim: ClaimId) -> u64 {
        match self.hear(|control| matches!(control, Control::LogKept { claim: of, .. } if *of == claim)).await {
            Control::LogKept { bytes, .. } => bytes,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn heartbeat(&self, claims: &[(ClaimId, ClaimPhase)]) {
        let held = |&(claim, phase): &(ClaimId, ClaimPhase)| HeldClaim { claim, phase, waits_for: None };
        self.beat(claims.iter().map(held).collect()).await;
    }

    /// A sign of life with a claim whose job goes on only when this event is noted.
    pub(crate) async fn heartbeat_waiting(&self, claim: ClaimId, seq: u64) {
        self.beat(vec![HeldClaim { claim, phase: ClaimPhase::Running, waits_for: Some(seq) }]).await;
    }

    /// A sign of life from which on several things may come in one message.
    pub(crate) async fn hears_several(&self) {
        self.life(Vec::new(), true).await;
    }

    async fn beat(&self, claims: Vec<HeldClaim>) {
        self.life(claims, false).await;
    }

    async fn life(&self, claims: Vec<HeldClaim>, hears_several: bool) {
        let agent = self.name.clone();
        self.report(Report::Heartbeat(Heartbeat {
            agent,
            boot: self.boot,
            claims,
            slots: 2,
            paused: None,
            standing: None,
            draining: false,
            capacity: None,
            hears_several,
        }))
        .await;
    }
}
