//! The agent's line with its signature under all that it says: a password of the broker alone gives nobody its voice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use protocol::control::Control;
use protocol::identity::Signed;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{AgentLink, Delivered, Health, JobDelivery, LinkError};
use protocol::report::{LogChunk, Report, Said};
use protocol::{BootId, LabelSet};
use tokio::sync::watch;

use crate::home::Home;

/// A line on which reports are signed. Claims have a signature of their own, and pieces of logs are vouched for by
/// their claim's id.
pub(crate) struct Voice {
    link: Arc<dyn AgentLink>,
    home: Arc<Home>,
    boot: BootId,
    count: AtomicU64,
}

impl Voice {
    /// Signs with the key of this agent's home.
    pub(crate) fn new(link: Arc<dyn AgentLink>, home: Arc<Home>, boot: BootId) -> Self {
        Self { link, home, boot, count: AtomicU64::new(0) }
    }

    fn signed(&self, report: &Report) -> Result<Report, LinkError> {
        let said = Said {
            agent: self.home.name().clone(),
            boot: self.boot,
            count: self.count.fetch_add(1, Ordering::Relaxed) + 1,
            report: Box::new(report.clone()),
        };
        let signed = Signed::new(self.home.identity(), &said);
        signed.map(Report::Said).map_err(|error| LinkError::Unsendable(error.to_string()))
    }
}

#[async_trait]
impl AgentLink for Voice {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        self.link.next_job(queues).await
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        match report {
            Report::Claim(_) | Report::Said(_) => self.link.report(report).await,
            report => self.link.report(&self.signed(report)?).await,
        }
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.link.log(chunk).await
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        self.link.next_control().await
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.link.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }
}
