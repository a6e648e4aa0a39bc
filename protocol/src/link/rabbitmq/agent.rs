//! An agent's end of the line.

use async_trait::async_trait;
use lapin::BasicProperties;
use serde::Serialize;
use std::borrow::Cow;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};

use super::RabbitSettings;
use super::address::Address;
use super::channel::Trouble;
use super::connection::{Line, Tasks};
use super::controls::{self, Controls};
use super::publish::{Outgoing, Unrouted, publish, publish_in_order};
use super::{jobs, message, topology};
use crate::control::Control;
use crate::id::{AgentId, BootId, LabelSet};
use crate::job::{ReplyTo, StatusMessage};
use crate::link::{AgentLink, Delivered, Health, JobDelivery, LinkError, queue_name};
use crate::report::{LogChunk, Report};
use crate::{task, wire};

/// An agent's end of the line over RabbitMQ.
pub struct RabbitAgent {
    agent: AgentId,
    line: Line,
    controls: std::sync::Arc<Controls>,
    heard: Mutex<mpsc::Receiver<Control>>,
    tasks: Tasks,
}

impl RabbitAgent {
    /// Begins to connect, and returns at once: [`AgentLink::health`] says how it goes.
    ///
    /// # Errors
    /// [`LinkError::BadSettings`] when it can never go well: the address or the certificates cannot be read.
    pub async fn connect(settings: RabbitSettings, agent: &AgentId, boot: BootId) -> Result<Self, LinkError> {
        Self::connect_listening(settings, agent, boot, controls::SILENCE).await
    }

    /// The same, for a farm whose coordinator says more often that it is there: after so much silence it is looked for anew.
    ///
    /// # Errors
    /// As [`RabbitAgent::connect`].
    #[expect(clippy::unused_async, reason = "it needs a runtime to run in, which an async function always has")]
    pub async fn connect_listening(
        settings: RabbitSettings,
        agent: &AgentId,
        boot: BootId,
        silence: Duration,
    ) -> Result<Self, LinkError> {
        let address = Address::read(&settings)?;
        // Two processes under one name are told apart on the broker's page by the beginning of their boot's id.
        let line = Line::new(address, format!("buildr-agent {agent} {boot:.8}"));
        let (controls, heard) = Controls::new(agent.clone(), silence);
        let listening = task::spawn("rabbitmq controls", controls.clone().run(line.clone()));
        let tasks = Tasks::start(&line, controls.clone()).with(listening);
        Ok(Self { agent: agent.clone(), line, controls, heard: Mutex::new(heard), tasks })
    }

    /// Closes the line for good: what is unsettled goes back, waiting calls end with [`LinkError::Closed`]. Returns
    /// when all is done.
    pub async fn close(&self) {
        self.tasks.close().await;
    }

    fn key(&self, report: &Report) -> Result<String, LinkError> {
        let agent = &self.agent;
        Ok(match report {
            Report::Hello(_) => format!("agent.{agent}.hello"),
            Report::Heartbeat(_) => format!("agent.{agent}.heartbeat"),
            Report::Bye { .. } => format!("agent.{agent}.bye"),
            Report::Claim(_) => format!("claim.{agent}"),
            Report::Abandoned { .. } => format!("agent.{agent}.abandoned"),
            Report::Rejected(_) => format!("agent.{agent}.rejected"),
            Report::Progress(_) | Report::Events(_) => format!("build.{agent}.progress"),
            Report::Said(_) => format!("agent.{agent}.said"),
            Report::Unknown => return Err(LinkError::Unsendable("it is of no known kind".to_owned())),
        })
    }

    async fn say(&self, report: &Report, mut properties: BasicProperties) -> Result<Delivered, LinkError> {
        let key = self.key(report)?;
        let body = wire::encode(report).map_err(|error| LinkError::Unsendable(error.to_string()))?;
        if let Some(user) = self.line.user() {
            properties = properties.with_user_id(user);
        }
        let outgoing = Outgoing {
            exchange: topology::EVENTS,
            key: &key,
            body: Cow::Borrowed(&body),
            properties,
            unrouted: Unrouted::Returned,
        };
        let delivered = publish(&self.line, outgoing).await?;
        if delivered == Delivered::Yes {
            self.controls.seek();
        }
        Ok(delivered)
    }

    fn log_key(&self) -> String {
        format!("build.{}.log", self.agent)
    }

    fn outgoing_log<'c>(&self, key: &'c str, chunk: &'c LogChunk) -> Result<Outgoing<'c>, LinkError> {
        let (mut properties, body) = message::log(chunk)?;
        if let Some(user) = self.line.user() {
            properties = properties.with_user_id(user);
        }
        let (exchange, unrouted) = (topology::EVENTS, Unrouted::Returned);
        Ok(Outgoing { exchange, key, body, properties, unrouted })
    }
}

#[async_trait]
impl AgentLink for RabbitAgent {
    async fn next_job(&self, queues: &[LabelSet]) -> Result<JobDelivery, LinkError> {
        let queues: Vec<String> = queues.iter().map(queue_name).collect();
        jobs::next_job(&self.line, &queues).await
    }

    async fn report(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.say(report, message::lasting_json()).await
    }

    async fn sign_of_life(&self, report: &Report) -> Result<Delivered, LinkError> {
        self.say(report, message::sign_of_life()).await
    }

    async fn log(&self, chunk: &LogChunk) -> Result<Delivered, LinkError> {
        let key = self.log_key();
        publish(&self.line, self.outgoing_log(&key, chunk)?).await
    }

    async fn log_all(&self, chunks: &[LogChunk]) -> (usize, Result<Delivered, LinkError>) {
        let key = self.log_key();
        match chunks.iter().map(|chunk| self.outgoing_log(&key, chunk)).collect() {
            Ok(outgoing) => publish_in_order(&self.line, outgoing).await,
            Err(error) => (0, Err(error)),
        }
    }

    async fn next_control(&self) -> Result<Control, LinkError> {
        let next = async { self.heard.lock().await.recv().await };
        self.line.closed().run_until_cancelled(next).await.flatten().ok_or(LinkError::Closed)
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        reply(&self.line, to, status).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.line.health()
    }
}

/// Tells the publisher of an injected job how it goes, from either end.
pub(super) async fn reply(line: &Line, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
    let body = json(status)?;
    let Some(properties) = message::reply(to).filter(|_| !to.is_forbidden() && !to.queue.is_empty()) else {
        return Ok(Delivered::Refused);
    };
    let mut unrouted = Unrouted::Returned;
    if to.queue.starts_with(topology::DIRECT_REPLIES) {
        // Such a message is delivered and returned all the same. Whether the publisher is still there has to be
        // asked before.
        unrouted = Unrouted::Dropped;
        let epoch = line.epoch_now()?;
        match topology::is_there(&epoch, &to.queue).await {
            Ok(()) => {}
            Err(Trouble::Missing(_)) => return Ok(Delivered::Unroutable),
            Err(trouble) => return Err(LinkError::Away(trouble.to_string())),
        }
    }
    publish(line, Outgoing { exchange: "", key: &to.queue, body: Cow::Borrowed(&body), properties, unrouted }).await
}

/// A message as JSON without an envelope, for readers who are not of the farm.
pub(super) fn json<T: Serialize>(message: &T) -> Result<Vec<u8>, LinkError> {
    serde_json::to_vec(message).map_err(|error| LinkError::Unsendable(error.to_string()))
}
