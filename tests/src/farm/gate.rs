//! An agent's line that a test can hold shut: what is said waits, and nothing is heard, as behind a network that is
//! slow beyond measure. The agent itself does not see it.

use std::sync::Arc;

use async_trait::async_trait;
use protocol::LabelSet;
use protocol::control::Control;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{AgentLink, Delivered, Health, JobDelivery, LinkError};
use protocol::report::{LogChunk, Report};
use tokio::sync::watch;

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// All of it.
    Open,
    /// Nothing.
    Shut,
}

/// A line with a gate in it.
pub(super) struct GatedLink {
    pub(super) line: Arc<dyn AgentLink>,
    pub(super) gate: watch::Receiver<Gate>,
}

impl GatedLink {
    async fn pass(&self) -> Result<(), LinkError> {
        let open = self.gate.clone().wait_for(|gate| *gate == Gate::Open).await.map(drop);
        open.map_err(|_| LinkError::Closed)
    }
}

#[async_trait]
impl AgentLink for GatedLink {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        self.pass().await?;
        self.line.next_job(queues).await
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.pass().await?;
        self.line.report(report).await
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.pass().await?;
        self.line.log(chunk).await
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        let control = self.line.next_control().await?;
        self.pass().await?;
        Ok(control)
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.pass().await?;
        self.line.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.line.health()
    }
}
