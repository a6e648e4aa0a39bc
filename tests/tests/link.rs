//! The contract of the link, held by both: the one in memory, and the one over RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use farm::contract::link::{self as contract, LinkRig, soon};
use farm::rabbit::{Vhost, with_vhost};
use protocol::job::ReplyTo;
use protocol::link::memory::{LOG_BOUND_BYTES, MemoryBroker};
use protocol::link::rabbitmq::{RabbitAgent, RabbitCoordinator, RabbitSettings};
use protocol::link::{AgentLink, CoordinatorLink, DeadLetter, Health};
use protocol::{AgentId, BootId};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};

macro_rules! contract {
    ($($clause:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $clause() {
                super::contract::$clause(&super::MemoryRig::default()).await;
            })*
        }

        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                super::with_vhost(|vhost| async {
                    let rig = super::RabbitRig::new(vhost);
                    super::contract::$clause(&rig).await;
                    super::LinkRig::close(&rig).await;
                })
                .await;
            })*
        }
    };
}

contract! {
    jobs_come_in_order
    a_dropped_job_comes_again
    a_requeued_job_comes_first
    a_dropped_wait_loses_nothing
    two_agents_take_one_job_each
    a_busy_agent_holds_nothing_back
    offers_go_by_label
    a_message_arrives_as_published
    reports_come_in_order
    a_dropped_batch_comes_again_in_order
    batches_are_settled_apart
    a_dropped_wait_loses_no_report
    nobody_hears_reports_without_a_coordinator
    the_backlog_counts_what_is_unsettled
    an_unreadable_report_is_handed_over
    controls_go_to_one_or_all
    logs_arrive_byte_by_byte
    logs_are_bounded
    replies_go_to_their_publisher
    the_dead_are_laid_aside
    closing_ends_all_calls
}

#[derive(Default)]
struct MemoryRig(MemoryBroker);

#[async_trait]
impl LinkRig for MemoryRig {
    async fn coordinator(&self) -> Arc<dyn CoordinatorLink> {
        Arc::new(self.0.coordinator())
    }
    async fn agent(&self, name: &str) -> Arc<dyn AgentLink> {
        Arc::new(self.0.agent(&name.parse().unwrap()))
    }
    async fn publish(&self, queue: &str, body: &[u8], message_id: Option<&str>, reply: Option<ReplyTo>) {
        self.0.publish(queue, body.to_owned(), message_id.map(str::to_owned), reply);
    }
    async fn publish_report(&self, body: &[u8]) {
        self.0.publish_report(body.to_owned());
    }
    async fn declare_replies(&self, queue: &str) {
        self.0.declare_replies(queue);
    }
    async fn replies(&self, queue: &str) -> Vec<(Option<String>, Bytes)> {
        self.0.replies(queue)
    }
    async fn dead(&self) -> Vec<DeadLetter> {
        self.0.dead()
    }
    async fn bound_logs(&self) -> usize {
        LOG_BOUND_BYTES
    }
    async fn close(&self) {
        self.0.close();
    }
}

struct RabbitRig {
    vhost: Vhost,
    agents: Mutex<Vec<Arc<RabbitAgent>>>,
    coordinators: Mutex<Vec<Arc<RabbitCoordinator>>>,
}

impl RabbitRig {
    fn new(vhost: Vhost) -> Self {
        Self { vhost, agents: Mutex::default(), coordinators: Mutex::default() }
    }
}

async fn up(mut health: watch::Receiver<Health>) {
    soon(health.wait_for(|health| matches!(health, Health::Up(_)))).await.unwrap();
}

#[async_trait]
impl LinkRig for RabbitRig {
    async fn coordinator(&self) -> Arc<dyn CoordinatorLink> {
        let link = Arc::new(RabbitCoordinator::connect(RabbitSettings::new(self.vhost.uri())).await.unwrap());
        up(link.health()).await;
        self.coordinators.lock().await.push(link.clone());
        link
    }
    async fn agent(&self, name: &str) -> Arc<dyn AgentLink> {
        let name: AgentId = name.parse().unwrap();
        let settings = RabbitSettings::new(self.vhost.uri());
        let link = Arc::new(RabbitAgent::connect(settings, &name, BootId::fresh()).await.unwrap());
        up(link.health()).await;
        self.agents.lock().await.push(link.clone());
        link
    }
    async fn publish(&self, queue: &str, body: &[u8], message_id: Option<&str>, reply: Option<ReplyTo>) {
        let mut properties = json!({});
        if let Some(id) = message_id {
            properties["message_id"] = id.into();
        }
        if let Some(ReplyTo { queue, correlation_id }) = reply {
            properties["reply_to"] = queue.into();
            properties["correlation_id"] = correlation_id.into();
        }
        self.vhost.publish("", queue, body, properties).await;
    }
    async fn publish_report(&self, body: &[u8]) {
        self.vhost.publish("buildr.events", "claim.stranger", body, json!({})).await;
    }
    async fn declare_replies(&self, queue: &str) {
        self.vhost.declare(queue, json!({})).await;
    }
    async fn replies(&self, queue: &str) -> Vec<(Option<String>, Bytes)> {
        let messages = self.vhost.drain(queue).await;
        let read = |(properties, body): (Value, Vec<u8>)| {
            assert_eq!(properties["content_type"], "application/json");
            assert!(properties.get("reply_to").is_none());
            (properties["correlation_id"].as_str().map(str::to_owned), body.into())
        };
        messages.into_iter().map(read).collect()
    }
    async fn dead(&self) -> Vec<DeadLetter> {
        let messages = self.vhost.drain("buildr.dead").await;
        let read = |(properties, body): (Value, Vec<u8>)| {
            assert_eq!(properties["delivery_mode"], 2);
            let header = |key: &str| properties["headers"][key].as_str().unwrap().to_owned();
            DeadLetter { body: body.into(), queue: header("x-buildr-queue"), reason: header("x-buildr-reason") }
        };
        messages.into_iter().map(read).collect()
    }
    async fn bound_logs(&self) -> usize {
        // The real bound is more than a test should fill a broker with. One that an operator made is used as it is.
        let bound = 256 << 10;
        let arguments = json!({"x-max-length-bytes": bound, "x-overflow": "reject-publish"});
        self.vhost.declare("buildr.logs.v1", arguments).await;
        bound
    }
    async fn close(&self) {
        for agent in self.agents.lock().await.drain(..) {
            agent.close().await;
        }
        for coordinator in self.coordinators.lock().await.drain(..) {
            coordinator.close().await;
        }
    }
}
