//! The broker alone: what a message costs when nobody does anything with it.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};

/// How many messages are on their way at once.
const WINDOW: usize = 64;

/// Durable messages of so many bytes a second, published with confirms on one connection, and consumed and acknowledged on another.
pub(crate) async fn confirmed(uri: &str, count: usize, bytes: usize) -> Result<f64> {
    protocol_tls();
    let sending = Connection::connect(uri, ConnectionProperties::default()).await?;
    let taking = Connection::connect(uri, ConnectionProperties::default()).await?;
    let (sender, taker) = (sending.create_channel().await?, taking.create_channel().await?);
    sender.confirm_select(ConfirmSelectOptions::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    sender.queue_declare("bench".into(), durable, FieldTable::default()).await?;
    taker.basic_qos(u16::try_from(WINDOW * 2)?, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = taker.basic_consume("bench".into(), "bench".into(), options, FieldTable::default()).await?;
    let began = Instant::now();
    let body = vec![b'x'; bytes];
    let publish = stream::iter(0..count).map(|_| async {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let confirm = sender.basic_publish("".into(), "bench".into(), options, &body, properties).await?.await?;
        ensure!(confirm.is_ack(), "the broker refused a message");
        Ok(())
    });
    let publish = async {
        let mut confirms = publish.buffer_unordered(WINDOW);
        while let Some(confirm) = confirms.next().await {
            confirm?;
        }
        anyhow::Ok(())
    };
    let take = async {
        for _ in 0..count {
            let delivery = consumer.next().await.context("a delivery")??;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publish, take)?;
    let took = began.elapsed().as_secs_f64();
    sending.close(200, "done".into()).await.ok();
    taking.close(200, "done".into()).await.ok();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    Ok(count as f64 / took)
}

/// The one provider of cryptography, which lapin asks for even without TLS.
fn protocol_tls() {
    buildr::process::tls::install();
}
