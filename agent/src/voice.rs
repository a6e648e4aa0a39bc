//! The agent's line with signatures: its own under all that it says, and the coordinator's under all on which it lets go
//! of something. A password of the broker alone gives nobody the voice of either.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use protocol::control::{Control, Told};
use protocol::identity::{PublicKey, Signed};
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{AgentLink, Delivered, Health, JobDelivery, LinkError};
use protocol::report::{LogChunk, Report, Said};
use protocol::{BootId, LabelSet};
use tokio::sync::watch;

use crate::home::Home;

/// A line on which reports are signed, and orders are looked at. Claims have a signature of their own, and pieces of logs are vouched for by
/// their claim's id.
pub(crate) struct Voice {
    link: Arc<dyn AgentLink>,
    home: Arc<Home>,
    boot: BootId,
    count: AtomicU64,
    coordinator: Mutex<Option<PublicKey>>,
    /// What was said together and is not heard yet.
    said: Mutex<VecDeque<Control>>,
}

impl Voice {
    /// Signs with the key of this agent's home.
    pub(crate) fn new(link: Arc<dyn AgentLink>, home: Arc<Home>, boot: BootId) -> Self {
        Self { link, home, boot, count: AtomicU64::new(0), coordinator: Mutex::default(), said: Mutex::default() }
    }

    /// What the coordinator told this agent, if it did.
    fn told(&self, signed: &Signed<Told>) -> Option<Control> {
        let told = signed.verify(&self.coordinator()?).ok()?;
        (told.agent == *self.home.name()).then_some(*told.control)
    }

    /// The coordinator's key, once it is pinned: from then on it stays.
    fn coordinator(&self) -> Option<PublicKey> {
        let mut known = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = self.home.coordinator().ok().flatten();
        }
        known.clone()
    }

    fn said(&self) -> MutexGuard<'_, VecDeque<Control>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
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
            Report::Hello(_) | Report::Heartbeat(_) => self.link.sign_of_life(&self.signed(report)?).await,
            report => self.link.report(&self.signed(report)?).await,
        }
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.link.log(chunk).await
    }

    async fn log_all(&self, chunks: &[LogChunk]) -> (usize, Result<Delivered, LinkError>) {
        self.link.log_all(chunks).await
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        loop {
            if let Some(control) = self.said().pop_front() {
                return Ok(control);
            }
            match self.link.next_control().await? {
                Control::Told(signed) => match self.told(&signed) {
                    Some(Control::Several { controls }) => self.said().extend(controls),
                    Some(control) => return Ok(control),
                    None => tracing::warn!("something was said in the coordinator's name that it did not say"),
                },
                control if control.is_weighty() => {
                    tracing::warn!("something was said in the coordinator's name without its signature");
                }
                control => return Ok(control),
            }
        }
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.link.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }
}
