//! Taking one job: a place at the queues for as long as somebody waits, and for one message.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use futures_util::stream::StreamExt as _;
use futures_util::task::noop_waker;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;

use super::channel::{OwnedChannel, Trouble};
use super::connection::{Epoch, Line, Standing};
use super::screen::consumer_tag;
use super::{message, topology};
use crate::job::{MAX_MESSAGE_BYTES, ReplyTo};
use crate::link::{JobDelivery, LinkError, Settle};

/// How long to wait before looking again for a queue that is missing and may not be made.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long after a refusal it is tried again to read a queue: somebody may have been given the right to it, or another
/// who had it alone is gone.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// How long is waited at queues before they are read anew: when one is removed at the moment at which it begins to be
/// read, the broker does not always say so.
const READ_ANEW: Duration = Duration::from_secs(20);

/// How long to wait after something unexpected, so that it cannot become a busy loop.
const AFTER_TROUBLE: Duration = Duration::from_millis(500);

/// Waits for a job on any of these queues.
pub(super) async fn next_job(line: &Line, queues: &[String]) -> Result<JobDelivery, LinkError> {
    loop {
        let epoch = line.epoch().await?;
        match line.during(&epoch, wait_at(&epoch, queues)).await? {
            Some(Ok(Some(job))) => return Ok(job),
            None | Some(Ok(None)) => {}
            Some(Err(trouble)) => {
                tracing::debug!(%trouble, "waiting for jobs was interrupted");
                line.pause(AFTER_TROUBLE).await;
            }
        }
    }
}

/// One wait. `None`: something changed at the queues, begin anew.
async fn wait_at(epoch: &Arc<Epoch>, queues: &[String]) -> Result<Option<JobDelivery>, Trouble> {
    let mut seat = Seat::take(epoch).await?;
    let mut absent = false;
    for queue in queues {
        if !is_there(epoch, queue).await? {
            absent = true;
        } else if !matches!(epoch.standing(queue), Some(Standing::Unreadable(since)) if since.elapsed() < READ_AGAIN) {
            seat.consume(queue).await?;
        }
    }
    let idle = seat.channel.consumers().is_empty();
    let look_again = if absent || idle { LOOK_AGAIN } else { READ_ANEW };
    let first = tokio::select! {
        first = seat.first() => first,
        () = tokio::time::sleep(look_again) => None,
    };
    let Some((queue, delivery)) = first else {
        // A queue went away, or may have come.
        queues.iter().for_each(|queue| epoch.forget_declared(queue));
        return Ok(None);
    };
    seat.leave().await?;
    Ok(Some(seat.into_job(queue, delivery)))
}

async fn is_there(epoch: &Epoch, queue: &str) -> Result<bool, Trouble> {
    if epoch.standing(queue).is_some() {
        return Ok(true);
    }
    match topology::declare_job_queue(epoch, queue).await {
        Ok(()) => Ok(true),
        Err(Trouble::Missing(reason)) => {
            tracing::debug!(queue, reason, "this queue does not exist, and this user may not make it");
            Ok(false)
        }
        Err(other) => Err(other),
    }
}

/// A channel on which each consumer may hold one message.
struct Seat {
    epoch: Arc<Epoch>,
    channel: OwnedChannel,
}

impl Seat {
    async fn take(epoch: &Arc<Epoch>) -> Result<Self, Trouble> {
        let channel = match epoch.seats.take() {
            Some(channel) => channel,
            None => {
                let channel = OwnedChannel::open(&epoch.consume, &epoch.sweeper).await?;
                channel.raw().basic_qos(1, BasicQosOptions::default()).await?;
                channel
            }
        };
        Ok(Self { epoch: epoch.clone(), channel })
    }

    async fn consume(&mut self, queue: &str) -> Result<(), Trouble> {
        let (options, tag) = (BasicConsumeOptions::default(), consumer_tag(MAX_MESSAGE_BYTES));
        let consuming = self.channel.raw().basic_consume(queue.into(), tag.into(), options, FieldTable::default());
        match consuming.await.map_err(Trouble::from) {
            Ok(consumer) => {
                self.channel.keep(consumer);
                Ok(())
            }
            Err(trouble) => {
                let standing = matches!(trouble, Trouble::Refused(_)).then(|| Standing::Unreadable(Instant::now()));
                if standing.is_some() {
                    tracing::warn!(queue, %trouble, "this user may not read this queue; no job is taken from it");
                }
                self.epoch.set_standing(queue, standing);
                Err(trouble)
            }
        }
    }

    /// Waits for the first message, and says on which queue it lay. `None`: one of the queues went away.
    async fn first(&mut self) -> Option<(String, Delivery)> {
        std::future::poll_fn(|cx| {
            for consumer in self.channel.consumers() {
                match consumer.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(delivery))) => {
                        return Poll::Ready(Some((consumer.queue().to_string(), delivery)));
                    }
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Gives up the place at the queues, so that nothing more arrives, and puts back what came besides the first.
    async fn leave(&mut self) -> Result<(), Trouble> {
        let channel = self.channel.raw().clone();
        let mut consumers = std::mem::take(self.channel.consumers());
        // A lone consumer that holds its one message can get no other before that is acknowledged, which the broker
        // reads after this: no need to wait for its answer.
        let options = BasicCancelOptions { nowait: consumers.len() == 1 };
        let left = try_join_all(consumers.iter().map(|consumer| channel.basic_cancel(consumer.tag(), options))).await;
        let mut surplus = Vec::new();
        let waker = noop_waker();
        for consumer in &mut consumers {
            while let Poll::Ready(Some(delivery)) = consumer.poll_next_unpin(&mut Context::from_waker(&waker)) {
                surplus.extend(delivery.ok());
            }
        }
        *self.channel.consumers() = consumers;
        left?;
        for delivery in surplus {
            delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await?;
        }
        self.channel.consumers().clear();
        Ok(())
    }

    fn into_job(self, queue: String, delivery: Delivery) -> JobDelivery {
        let Delivery { data, properties, redelivered, acker, .. } = delivery;
        let (message_id, reply) = said_about(&properties);
        let settle = Box::new(SettleJob { seat: self, acker });
        let whole_size = message::whole_size(&properties);
        JobDelivery::new(data.into(), queue, redelivered, settle)
            .with_properties(message_id, reply)
            .cut_from(whole_size)
    }
}

fn said_about(properties: &BasicProperties) -> (Option<String>, Option<ReplyTo>) {
    let text = |property: &Option<lapin::types::ShortString>| {
        property.as_ref().map(ToString::to_string).filter(|text| !text.is_empty())
    };
    let correlation_id = properties.correlation_id().as_ref().map(ToString::to_string);
    let reply = text(properties.reply_to()).map(|queue| ReplyTo { queue, correlation_id });
    (text(properties.message_id()), reply)
}

struct SettleJob {
    seat: Seat,
    acker: lapin::Acker,
}

impl SettleJob {
    /// The channel holds nothing more: the next job may be taken with it.
    fn free(self) {
        let Seat { epoch, channel } = self.seat;
        epoch.seats.put(channel);
    }
}

#[async_trait]
impl Settle for SettleJob {
    async fn ack(self: Box<Self>) -> bool {
        let counted = matches!(self.acker.ack(BasicAckOptions::default()).await, Ok(true));
        if counted {
            self.free();
        }
        counted
    }

    async fn requeue(self: Box<Self>) {
        // When it cannot be said, the end of the channel says it.
        if matches!(self.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await, Ok(true)) {
            self.free();
        }
    }
}
