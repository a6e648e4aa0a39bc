//! Everything that the farm has on a broker, declared in this one place.
//!
//! ```text
//! default exchange ─→ build_queue, build_queue.<labels>    durable, no arguments
//! buildr.submit  (direct) ─→ build_queue                   for submitters without a right on the default exchange
//! buildr.events  (topic)  ─→ buildr.events.v1              durable: what agents report
//!                         ─→ buildr.logs.v1                durable, bounded: what stages print
//! buildr.control (topic)  ─→ buildr.agent.<id>.<random>    exclusive, one for each connection of an agent
//! buildr.dead                                              durable: messages laid aside
//! ```
//! Job queues carry no argument, so that one made by hand or by policy is as good as ours. The others have a version
//! in their name: arguments cannot be changed, so other arguments would be another name.

use std::collections::BTreeMap;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::channel::{OwnedChannel, Trouble};
use super::connection::{Epoch, Standing};
use crate::id::{AgentId, LabelSet};
use crate::link::{BUILD_QUEUE, queue_name};

/// What agents report, by routing key.
pub(super) const EVENTS: &str = "buildr.events";
/// Reports, in order.
pub(super) const EVENTS_QUEUE: &str = "buildr.events.v1";
/// Pieces of logs, in order.
pub(super) const LOGS_QUEUE: &str = "buildr.logs.v1";
/// What the coordinator says to agents.
pub(super) const CONTROL: &str = "buildr.control";
/// Messages laid aside.
pub(super) const DEAD_QUEUE: &str = "buildr.dead";
/// The routing key of what is said to all agents.
pub(super) const ALL_AGENTS: &str = "agents.all";

/// What the names of RabbitMQ's direct replies begin with: queues that exist as long as who waits for the answer.
pub(super) const DIRECT_REPLIES: &str = "amq.rabbitmq.reply-to.";

/// Where submitters without a right on the default exchange publish.
pub(super) const SUBMIT: &str = "buildr.submit";

/// How many bytes of log lie at the broker before agents are told to keep theirs.
const LOG_BOUND_BYTES: i64 = 256 << 20;

/// The routing key of what is said to one agent.
pub(super) fn control_key(agent: &AgentId) -> String {
    format!("agent.{agent}")
}

/// Declares all that the coordinator needs, and the queues of these label sets.
pub(super) async fn declare_all(epoch: &Epoch, labels: &[LabelSet]) -> Result<(), Trouble> {
    let mut declare = Declare::on(epoch);
    declare.exchange(EVENTS, ExchangeKind::Topic).await?;
    declare.exchange(CONTROL, ExchangeKind::Topic).await?;
    declare.exchange(SUBMIT, ExchangeKind::Direct).await?;
    declare.queue(EVENTS_QUEUE, FieldTable::default()).await?;
    let bound = BTreeMap::from([
        ("x-max-length-bytes".into(), AMQPValue::LongLongInt(LOG_BOUND_BYTES)),
        ("x-overflow".into(), AMQPValue::LongString("reject-publish".into())),
    ]);
    declare.queue(LOGS_QUEUE, bound.into()).await?;
    declare.queue(DEAD_QUEUE, FieldTable::default()).await?;
    declare.queue(BUILD_QUEUE, FieldTable::default()).await?;
    for labels in labels {
        declare.queue(&queue_name(labels), FieldTable::default()).await?;
    }
    declare.bind(EVENTS_QUEUE, EVENTS, "claim.#").await?;
    declare.bind(EVENTS_QUEUE, EVENTS, "agent.#").await?;
    declare.bind(EVENTS_QUEUE, EVENTS, "build.*.progress").await?;
    declare.bind(LOGS_QUEUE, EVENTS, "build.*.log").await?;
    declare.bind(BUILD_QUEUE, SUBMIT, BUILD_QUEUE).await
}

/// Makes sure that a job queue is there.
///
/// # Errors
/// [`Trouble::Missing`] when it is not and this user may not make it.
pub(super) async fn declare_job_queue(epoch: &Epoch, name: &str) -> Result<(), Trouble> {
    Declare::on(epoch).queue(name, FieldTable::default()).await
}

/// Looks whether a queue is there, without making it.
///
/// # Errors
/// [`Trouble::Missing`] when it is not.
pub(super) async fn is_there(epoch: &Epoch, queue: &str) -> Result<(), Trouble> {
    let name = ShortString::try_new(queue).map_err(|error| Trouble::Missing(error.to_string()))?;
    let channel = OwnedChannel::open(&epoch.consume, &epoch.sweeper).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.raw().queue_declare(name, options, FieldTable::default()).await?;
    Ok(())
}

/// Declares on throw-away channels, because a refusal closes the channel that it is said on.
struct Declare<'a> {
    epoch: &'a Epoch,
    channel: Option<OwnedChannel>,
}

impl<'a> Declare<'a> {
    fn on(epoch: &'a Epoch) -> Self {
        Self { epoch, channel: None }
    }

    async fn channel(&mut self) -> Result<&Channel, Trouble> {
        if !self.channel.as_ref().is_some_and(OwnedChannel::is_open) {
            self.channel = None;
        }
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => OwnedChannel::open(&self.epoch.consume, &self.epoch.sweeper).await?,
        };
        Ok(self.channel.insert(channel).raw())
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<(), Trouble> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        if self.epoch.standing(name) != Some(Standing::AsItIs) {
            let declared = self.channel().await?.queue_declare(name.into(), options, arguments).await;
            let Some(()) = self.settled(name, declared.map(drop))? else { return Ok(()) };
        }
        let options = QueueDeclareOptions { passive: true, ..options };
        let found = self.channel().await?.queue_declare(name.into(), options, FieldTable::default()).await;
        self.looked_for(name, found.map(drop))
    }

    async fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), Trouble> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        if self.epoch.standing(name) != Some(Standing::AsItIs) {
            let channel = self.channel().await?;
            let declared = channel.exchange_declare(name.into(), kind.clone(), options, FieldTable::default()).await;
            let Some(()) = self.settled(name, declared)? else { return Ok(()) };
        }
        let options = ExchangeDeclareOptions { passive: true, ..options };
        let found = self.channel().await?.exchange_declare(name.into(), kind, options, FieldTable::default()).await;
        self.looked_for(name, found)
    }

    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Trouble> {
        let binding = format!("{exchange} → {key} → {queue}");
        if self.epoch.standing(&binding) == Some(Standing::AsItIs) {
            return Ok(());
        }
        let (channel, options) = (self.channel().await?, QueueBindOptions::default());
        let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await;
        // There is no way to look for a binding: one that may not be made is hoped to be there.
        self.settled(&binding, bound).map(drop)
    }

    fn looked_for(&self, name: &str, found: Result<(), lapin::Error>) -> Result<(), Trouble> {
        let found = found.map_err(Trouble::from);
        if found.is_err() {
            self.epoch.set_standing(name, None);
        }
        found
    }

    /// Takes note of a declaration's end. `Some`: it has to be looked whether the thing is there as somebody else
    /// made it.
    fn settled(&self, name: &str, declared: Result<(), lapin::Error>) -> Result<Option<()>, Trouble> {
        match declared.map_err(Trouble::from) {
            Ok(()) => {
                self.epoch.set_standing(name, Some(Standing::Declared));
                Ok(None)
            }
            Err(Trouble::Differs(reason)) => {
                tracing::warn!(name, reason, "RabbitMQ has this with other settings; it is used as it is");
                self.epoch.set_standing(name, Some(Standing::AsItIs));
                Ok(Some(()))
            }
            Err(Trouble::Refused(reason)) => {
                tracing::debug!(name, reason, "this user may not declare it; it is used as it is");
                self.epoch.set_standing(name, Some(Standing::AsItIs));
                Ok(Some(()))
            }
            Err(other) => Err(other),
        }
    }
}
