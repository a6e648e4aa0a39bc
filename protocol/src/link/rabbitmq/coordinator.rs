//! The coordinator's end of the line.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lapin::message::Delivery;
use lapin::types::ShortString;
use tokio::sync::watch;

use super::RabbitSettings;
use super::address::Address;
use super::agent::{json, reply};
use super::channel::Trouble;
use super::connection::{Epoch, Line, Prepare, Tasks};
use super::feed::Feed;
use super::publish::{Outgoing, Unrouted, publish, publish_in_order};
use super::{message, topology};
use crate::control::Control;
use crate::id::LabelSet;
use crate::job::{OfferBody, ReplyTo, StatusMessage};
use crate::link::{
    Address as To, BadMessage, Batch, CoordinatorLink, DeadLetter, Delivered, Health, Incoming, IncomingLog, LinkError,
    queue_name,
};
use crate::report::MAX_CHUNK_BYTES;
use crate::wire::{self, DecodeError};

/// The coordinator's end of the line over RabbitMQ.
pub struct RabbitCoordinator {
    line: Line,
    reports: Feed,
    logs: Feed,
    tasks: Tasks,
}

impl RabbitCoordinator {
    /// Begins to connect and to declare what the farm needs, and returns at once: [`CoordinatorLink::health`] says
    /// how it goes.
    ///
    /// # Errors
    /// [`LinkError::BadSettings`] when it can never go well: the address or the certificates cannot be read.
    #[expect(clippy::unused_async, reason = "it needs a runtime to run in, which an async function always has")]
    pub async fn connect(settings: RabbitSettings) -> Result<Self, LinkError> {
        let line = Line::new(Address::read(&settings)?, "buildr-coordinator".to_owned());
        let reports = Feed::new(line.clone(), topology::EVENTS_QUEUE, wire::MAX_BYTES);
        let logs = Feed::new(line.clone(), topology::LOGS_QUEUE, MAX_CHUNK_BYTES);
        let tasks = Tasks::start(&line, Arc::new(DeclareAll));
        Ok(Self { line, reports, logs, tasks })
    }

    /// Closes the line for good: what is unsettled goes back, waiting calls end with [`LinkError::Closed`]. Returns
    /// when all is done.
    pub async fn close(&self) {
        self.tasks.close().await;
    }
}

struct DeclareAll;

#[async_trait]
impl Prepare for DeclareAll {
    async fn prepare(&self, epoch: &Arc<Epoch>) -> Result<(), Trouble> {
        topology::declare_all(epoch, &[]).await.map_err(|trouble| match trouble {
            Trouble::Missing(what) => Trouble::Missing(format!(
                "{what}, and this user may not make it; let it configure ^(build_queue|buildr\\.).*$"
            )),
            other => other,
        })
    }
}

#[async_trait]
impl CoordinatorLink for RabbitCoordinator {
    async fn offer(&self, labels: &LabelSet, offer: &OfferBody) -> Result<(), LinkError> {
        let body = json(offer)?;
        let queue = queue_name(labels);
        let id = ShortString::from(offer.job_id.to_string());
        let properties = message::lasting_json().with_message_id(id).with_type("buildr.job.v1".into());
        let send = || {
            publish(
                &self.line,
                Outgoing {
                    exchange: "",
                    key: &queue,
                    body: Cow::Borrowed(&body),
                    properties: properties.clone(),
                    unrouted: Unrouted::Returned,
                },
            )
        };
        let mut delivered = send().await?;
        if delivered == Delivered::Unroutable {
            // Nobody has offered there yet, or somebody has removed it.
            let epoch = self.line.epoch_now()?;
            let declared = topology::declare_job_queue(&epoch, &queue).await;
            declared.map_err(|trouble| LinkError::Away(format!("the queue {queue} cannot be made: {trouble}")))?;
            delivered = send().await?;
        }
        match delivered {
            Delivered::Yes => Ok(()),
            Delivered::Unroutable | Delivered::NoFarm => {
                Err(LinkError::Away(format!("the queue {queue} does not last")))
            }
            Delivered::Full => Err(LinkError::Away(format!("the queue {queue} is full"))),
            Delivered::Refused => Err(LinkError::Away(format!("this user may not write to the queue {queue}"))),
        }
    }

    async fn next_reports(&self, most: usize) -> Result<Batch<Incoming>, LinkError> {
        let (deliveries, settle) = self.reports.next(most).await?;
        Ok(Batch::new(deliveries.into_iter().map(incoming).collect(), settle))
    }

    async fn next_logs(&self, most: usize) -> Result<Batch<IncomingLog>, LinkError> {
        let (deliveries, settle) = self.logs.next(most).await?;
        Ok(Batch::new(deliveries.into_iter().map(incoming_log).collect(), settle))
    }

    async fn backlog(&self) -> Result<usize, LinkError> {
        self.reports.backlog().await
    }

    async fn control(&self, to: &To, control: &Control) -> Result<Delivered, LinkError> {
        self.control_all(to, std::slice::from_ref(control)).await
    }

    async fn control_all(&self, to: &To, controls: &[Control]) -> Result<Delivered, LinkError> {
        let key = match to {
            To::Agent(agent) => topology::control_key(agent),
            To::All => topology::ALL_AGENTS.to_owned(),
        };
        let outgoing = |control: &Control| {
            let body = wire::encode(control).map_err(|error| LinkError::Unsendable(error.to_string()))?;
            Ok(Outgoing {
                exchange: topology::CONTROL,
                key: &key,
                body: Cow::Owned(body),
                properties: message::passing_json(),
                unrouted: Unrouted::Returned,
            })
        };
        let outgoing = controls.iter().map(outgoing).collect::<Result<_, LinkError>>()?;
        publish_in_order(&self.line, outgoing).await.1
    }

    async fn reply(&self, to: &ReplyTo, status: &StatusMessage) -> Result<Delivered, LinkError> {
        reply(&self.line, to, status).await
    }

    async fn bury(&self, dead: &DeadLetter) -> Result<(), LinkError> {
        let properties = message::dead(dead);
        let outgoing = Outgoing {
            exchange: "",
            key: topology::DEAD_QUEUE,
            body: Cow::Borrowed(&dead.body),
            properties,
            unrouted: Unrouted::Returned,
        };
        match publish(&self.line, outgoing).await? {
            Delivered::Yes => Ok(()),
            other => Err(LinkError::Away(format!("{} takes no message ({other:?})", topology::DEAD_QUEUE))),
        }
    }

    async fn ensure(&self, queues: &[LabelSet]) -> Result<(), LinkError> {
        let epoch = self.line.epoch_now()?;
        tokio::select! {
            done = topology::declare_all(&epoch, queues) => done.map_err(|trouble| LinkError::Away(trouble.to_string())),
            silent = self.line.until_silent(&epoch) => Err(silent),
        }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.line.health()
    }
}

fn incoming(delivery: Delivery) -> Incoming {
    let body = Bytes::from(delivery.data);
    let user = delivery.properties.user_id().as_ref().map(ToString::to_string);
    let read = match message::whole_size(&delivery.properties) {
        Some(size) => Err(DecodeError::TooLong(size)),
        None => wire::decode(&body),
    };
    Incoming { user, report: read.map_err(|error| BadMessage { body, reason: error.to_string() }) }
}

fn incoming_log(delivery: Delivery) -> IncomingLog {
    let body = Bytes::from(delivery.data);
    let user = delivery.properties.user_id().as_ref().map(ToString::to_string);
    let chunk = message::read_log(&delivery.properties, body.clone());
    IncomingLog { user, chunk: chunk.map_err(|reason| BadMessage { body, reason }) }
}
