//! For those who watch over the farm: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops
//! programs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use buildr::process::clock::now_ms;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use protocol::api::AgentView;

use super::Web;
use super::agents;
use super::api::Answer;
use super::health::trouble;
use super::refusal::Refusal;
use crate::store::Measures;

/// The bounds of the waits that are told apart, in seconds: from what nobody notices to an hour.
const WAITS: [f64; 12] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// An agent that was silent for longer is not counted among those at work, in milliseconds.
const SILENT_MS: u64 = 60_000;

pub(super) fn router() -> Router<Arc<Web>> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "it lives\n"))
        .route("/readyz", get(ready))
}

/// How long jobs waited, as far as it was counted.
pub(super) struct Waits {
    counted: tokio::sync::Mutex<i64>,
    seconds: Histogram,
}

impl Waits {
    /// None as yet, of those behind a place in the order of the attempts.
    pub(super) fn since(place: i64) -> Self {
        Self { counted: tokio::sync::Mutex::new(place), seconds: Histogram::new(WAITS) }
    }
}

/// Whether builds can go on now; a sentence says why not.
async fn ready(State(web): State<Arc<Web>>) -> Response {
    match trouble(&web).1 {
        None => "ready\n".into_response(),
        Some(message) => (StatusCode::SERVICE_UNAVAILABLE, message + "\n").into_response(),
    }
}

async fn metrics(State(web): State<Arc<Web>>) -> Answer<Response> {
    let measures = web.desk.store.measures().await?;
    let agents = agents::all(&web).await?;
    let mut counted = web.queue_waits.counted.lock().await;
    let (last, waits) = web.desk.store.waits_since(*counted).await?;
    for ms in waits {
        web.queue_waits.seconds.observe(seconds(ms));
    }
    *counted = last;
    drop(counted);
    let mut text = String::new();
    let registry = registry(&measures, &agents, &web.queue_waits.seconds);
    encode(&mut text, &registry).map_err(|error| {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be told: {error}"))
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// A number with a name and a value of it, such as `status="passed"`.
type Named = Family<[(&'static str, String); 1], Gauge>;

fn registry(measures: &Measures, agents: &[AgentView], waits: &Histogram) -> Registry {
    let mut registry = Registry::with_prefix("buildr");
    let named = |label: &'static str, values: &[(String, u64)]| {
        let family = Named::default();
        for (name, value) in values {
            family.get_or_create(&[(label, name.clone())]).set(signed(*value));
        }
        family
    };
    let number = |value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(signed(value));
        gauge
    };
    let Measures { builds, queued, oldest_ms, running, log_bytes, incidents, dead_letters } = measures;
    registry.register("builds", "Builds that are kept, by status", named("status", builds));
    registry.register("jobs_queued", "Jobs that could run if an agent had a slot for them", number(*queued));
    registry.register("jobs_running", "Jobs that run", number(*running));
    let oldest: Gauge<f64, AtomicU64> = Gauge::default();
    oldest.set(oldest_ms.map_or(0.0, |since| seconds(now_ms().saturating_sub(since))));
    let help = "How long the job has waited that waits for the longest";
    registry.register_with_unit("oldest_wait", help, Unit::Seconds, oldest);
    let help = "How long jobs that wait for no other waited for an agent";
    registry.register_with_unit("queue_wait", help, Unit::Seconds, waits.clone());
    let here: Vec<&AgentView> =
        agents.iter().filter(|agent| agent.enrolled && agent.seen_ms_ago.is_some_and(|ms| ms <= SILENT_MS)).collect();
    registry.register("agents", "Agents that gave a sign of life of late", number(here.len() as u64));
    let slots = here.iter().map(|agent| u64::from(agent.slots)).sum();
    registry.register("slots", "Jobs that these agents can run at once", number(slots));
    let busy = here.iter().map(|agent| u64::from(agent.running)).sum();
    registry.register("slots_busy", "Jobs that they run now", number(busy));
    registry.register_with_unit("log", "Logs that are kept", Unit::Bytes, number(*log_bytes));
    registry.register("incidents", "What was not as it should be, by kind", named("kind", incidents));
    registry.register("dead_letters", "Messages that were laid aside", number(*dead_letters));
    registry
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
