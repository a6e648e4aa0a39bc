//! An agent one of whose tasks panics: its process ends, so that whoever watches over that begins it again.

use async_trait::async_trait;
use buildr::cli::jobs::JobArgs;
use buildr::executor::scripted::ScriptedExecutor;
use protocol::control::Control;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::memory::{MemoryAgent, MemoryBroker};
use protocol::link::{Health, JobDelivery};
use protocol::report::{JobEvent, LogChunk};
use protocol::{ClaimId, LabelSet};

use super::*;
use crate::config::Standalone;

/// What panics on a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    NextJob,
    Progress,
}

struct Falls {
    line: MemoryAgent,
    at: At,
}

#[async_trait]
impl AgentLink for Falls {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        assert!(self.at != At::NextJob, "the test says so");
        self.line.next_job(queues).await
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        let falls = self.at == At::Progress && matches!(report.said(), Report::Progress(_));
        assert!(!falls, "the test says so");
        self.line.report(report).await
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.line.log(chunk).await
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        self.line.next_control().await
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.line.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.line.health()
    }
}

/// How an agent ends that builds alone, has something left to say, and falls there.
async fn ends(at: At) -> Result<(), AgentError> {
    let folder = tempfile::tempdir().unwrap();
    let home = Arc::new(Home::open(&folder.path().join("state"), None).unwrap());
    let left = Spool::open(home.spool()).unwrap().begin(ClaimId::fresh()).unwrap();
    left.event(JobEvent::Settled { acknowledged: true }).unwrap();
    let config = Config::new(&JobArgs::default(), Vec::new()).unwrap();
    let config = Config { slots: 1, standalone: Standalone::Always, ..config };
    let broker = MemoryBroker::new();
    let link = Arc::new(Falls { line: broker.agent(home.name()), at });
    let work = WorkFolder::at(&folder.path().join("work")).unwrap();
    let executor = Arc::new(ScriptedExecutor::new());
    let running = run(config, home, BootId::fresh(), work, link, executor, Shutdown::default());
    tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends")
}

#[tokio::test]
async fn a_slot_that_panics_ends_the_agent() {
    assert!(matches!(ends(At::NextJob).await, Err(AgentError::Fault("slot"))));
}

#[tokio::test]
async fn a_sender_that_panics_ends_the_agent() {
    assert!(matches!(ends(At::Progress).await, Err(AgentError::Fault("sender of reports"))));
}
