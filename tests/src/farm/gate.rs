//! An agent's line that a test can hold shut: what is said waits, and nothing is heard, as behind a network that is
//! slow beyond measure. And single messages can be lost on it. The agent itself does not see it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use protocol::LabelSet;
use protocol::control::Control;
use protocol::job::{ReplyTo, StatusMessage};
use protocol::link::{AgentLink, Delivered, Health, JobDelivery, LinkError};
use protocol::report::{Events, JobEvent, LogChunk, Progress, Report};
use tokio::sync::watch;

/// Whether something passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// All of it.
    Open,
    /// Nothing.
    Shut,
}

/// One message that is lost once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The next report that a stage begins which must not run twice, as with a queue that somebody empties.
    Started,
    /// The next word of the coordinator that such a stage may begin.
    Noted,
    /// The next word of the coordinator that it keeps bytes of a log.
    Kept,
    /// The next piece of a log.
    Piece,
}

/// What is yet to be lost on a line.
pub(super) type Losses = Arc<Mutex<Vec<Lost>>>;

/// A line with a gate in it.
pub(super) struct GatedLink {
    pub(super) line: Arc<dyn AgentLink>,
    pub(super) gate: watch::Receiver<Gate>,
    pub(super) losses: Losses,
}

impl GatedLink {
    async fn pass(&self) -> Result<(), LinkError> {
        let open = self.gate.clone().wait_for(|gate| *gate == Gate::Open).await.map(drop);
        open.map_err(|_| LinkError::Closed)
    }

    fn loses(&self, what: Lost) -> bool {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.iter().position(|lost| *lost == what).map(|place| losses.remove(place)).is_some()
    }
}

/// Whether it says that a stage begins which must not run twice.
fn begins(report: &Report) -> bool {
    let begins = |event: &JobEvent| matches!(event, JobEvent::StageStarted { not_twice: true, .. });
    match report.said() {
        Report::Progress(Progress { event, .. }) => begins(&event),
        Report::Events(Events { events, .. }) => events.iter().any(|moment| begins(&moment.event)),
        _ => false,
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
        if begins(report) && self.loses(Lost::Started) {
            return Ok(Delivered::Yes);
        }
        self.line.report(report).await
    }

    async fn sign_of_life(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.pass().await?;
        self.line.sign_of_life(report).await
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        self.pass().await?;
        if self.loses(Lost::Piece) {
            return Ok(Delivered::Yes);
        }
        self.line.log(chunk).await
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        loop {
            let control = self.line.next_control().await?;
            self.pass().await?;
            let lost = match control.told() {
                Control::Noted { .. } => self.loses(Lost::Noted),
                Control::LogKept { .. } => self.loses(Lost::Kept),
                Control::Several { controls } => {
                    let kept = controls.iter().filter(|control| matches!(control, Control::LogKept { .. }));
                    // Each word counts, however many come together.
                    kept.filter(|_| self.loses(Lost::Kept)).count() > 0
                }
                _ => false,
            };
            if !lost {
                return Ok(control);
            }
        }
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        self.pass().await?;
        self.line.reply(to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.line.health()
    }
}
