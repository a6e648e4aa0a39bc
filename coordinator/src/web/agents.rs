//! `/api/v1/agents`: who belongs to the farm, and what a person says about one.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use protocol::AgentId;
use protocol::api::{AgentView, Approve, Forgotten, Pause, Revoke};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Web;
use super::api::{Answer, Path, asked_by, json, json_or_default, said};
use super::refusal::Refusal;
use crate::store::Agent;
use crate::tracker::{self, AgentRefusal, Approval};
use crate::why::until_free;

type Body = Result<Bytes, BytesRejection>;

pub(super) fn router() -> OpenApiRouter<Arc<Web>> {
    OpenApiRouter::default()
        .routes(routes!(agents))
        .routes(routes!(agent))
        .routes(routes!(approve))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(revoke))
        .routes(routes!(forget))
}

/// The agents of the farm, and those that wait for approval.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "list_agents",
    responses((status = 200, description = "All of them.", body = Vec<AgentView>))
)]
async fn agents(State(web): State<Arc<Web>>) -> Answer<Json<Vec<AgentView>>> {
    Ok(Json(all(&web).await?))
}

/// One agent.
#[utoipa::path(
    get,
    path = "/{name}",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    responses((status = 200, description = "The agent.", body = AgentView), (status = 404))
)]
async fn agent(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Answer<Json<AgentView>> {
    one(&web, &agent_name(&name)?).await
}

/// Lets an agent belong to the farm, by the very key that was compared.
#[utoipa::path(
    post,
    path = "/{name}/approve",
    operation_id = "approve_agent",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    request_body = Approve,
    responses((status = 200, description = "The agent.", body = AgentView), (status = 404), (status = 409))
)]
async fn approve(State(web): State<Arc<Web>>, Path(name): Path<String>, body: Body) -> Answer<Json<AgentView>> {
    let name = agent_name(&name)?;
    approved(&web, &name, &json(body)?).await?;
    one(&web, &name).await
}

/// Takes an agent into the farm by the key that a person compared.
pub(super) async fn approved(web: &Web, name: &AgentId, asked: &Approve) -> Answer<()> {
    match tracker::approve(&web.desk, name, asked).await? {
        Approval::Done => {
            tracing::info!("agent {name} is approved with the key {}", asked.fingerprint);
            Ok(())
        }
        Approval::Before => Ok(()),
        Approval::Unknown => Err(AgentRefusal::Unknown(name.clone()).into()),
        Approval::OtherKey { shown } => Err(Refusal::conflict(format!(
            "agent {name} shows the key {shown} by now, and not {}; compare it with what the agent prints, and approve that one if it is right",
            asked.fingerprint
        ))),
        Approval::NotOffered { labels } => Err(Refusal::conflict(format!(
            "agent {name} does not offer {labels}; start it with --labels, or approve some of those that it offers"
        ))),
    }
}

/// Lets an agent take no more jobs.
#[utoipa::path(
    post,
    path = "/{name}/pause",
    operation_id = "pause_agent",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    request_body = Option<Pause>,
    responses((status = 200, description = "The agent.", body = AgentView), (status = 404), (status = 409))
)]
async fn pause(
    State(web): State<Arc<Web>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<AgentView>> {
    let name = agent_name(&name)?;
    let Pause { note } = json_or_default(body)?;
    let note = said(note).unwrap_or_else(|| "no reason given".to_owned());
    tracker::pause_agent(&web.desk, &name, note, asked_by(&headers)).await?;
    one(&web, &name).await
}

/// Lets an agent take jobs again.
#[utoipa::path(
    post,
    path = "/{name}/resume",
    operation_id = "resume_agent",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    responses((status = 200, description = "The agent.", body = AgentView), (status = 404), (status = 409))
)]
async fn resume(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Answer<Json<AgentView>> {
    let name = agent_name(&name)?;
    tracker::resume_agent(&web.desk, &name).await?;
    one(&web, &name).await
}

/// Takes an agent and its key out of the farm; its jobs go to others.
#[utoipa::path(
    post,
    path = "/{name}/revoke",
    operation_id = "revoke_agent",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    request_body = Option<Revoke>,
    responses((status = 200, description = "The agent.", body = AgentView), (status = 404), (status = 409))
)]
async fn revoke(State(web): State<Arc<Web>>, Path(name): Path<String>, body: Body) -> Answer<Json<AgentView>> {
    let name = agent_name(&name)?;
    let Revoke { reason } = json_or_default(body)?;
    revoked(&web, &name, reason).await?;
    one(&web, &name).await
}

/// Ends that an agent belongs to the farm.
pub(super) async fn revoked(web: &Web, name: &AgentId, reason: Option<String>) -> Answer<()> {
    let reason = said(reason).unwrap_or_else(|| "no reason given".to_owned());
    let taken = tracker::revoke(&web.desk, name, &reason).await?;
    tracing::warn!("agent {name} is revoked ({reason}); {taken} jobs go to others");
    Ok(())
}

/// Strikes an agent off the list that is not here any more.
#[utoipa::path(
    post,
    path = "/{name}/forget",
    operation_id = "forget_agent",
    params(("name" = AgentId, Path, description = "The agent's name.")),
    responses((status = 200, description = "What was done.", body = Forgotten), (status = 404), (status = 409))
)]
async fn forget(State(web): State<Arc<Web>>, Path(name): Path<String>) -> Answer<Json<Forgotten>> {
    let name = agent_name(&name)?;
    tracker::forget(&web.desk, &name).await?;
    Ok(Json(Forgotten { message: format!("agent {name} is forgotten; a key of it that was revoked stays refused") }))
}

/// All agents, with what was seen of them.
pub(super) async fn all(web: &Web) -> Answer<Vec<AgentView>> {
    let desk = &web.desk;
    let now = Instant::now();
    let mut until = until_free(desk).await?;
    let mut add = |(agent, view): (Agent, AgentView)| {
        let free_ms = until.remove(&agent.name).unwrap_or(Some(0));
        let view = AgentView { free_ms, ..view };
        match desk.presence.sighting(&agent.name, now) {
            None => view,
            Some((sighting, ago)) => {
                let paused = sighting.why_paused();
                let said = sighting.said.unwrap_or_default();
                AgentView {
                    slots: sighting.slots,
                    paused,
                    heard: said.heard == sighting.note,
                    draining: said.draining,
                    capacity: said.capacity,
                    seen_ms_ago: Some(milliseconds(ago)),
                    ..view
                }
            }
        }
    };
    Ok(desk.store.agents().await?.into_iter().map(&mut add).collect())
}

async fn one(web: &Web, name: &AgentId) -> Answer<Json<AgentView>> {
    let view = all(web).await?.into_iter().find(|view| view.name == name.as_str());
    Ok(Json(view.ok_or_else(|| AgentRefusal::Unknown(name.clone()))?))
}

pub(super) fn agent_name(text: &str) -> Answer<AgentId> {
    text.parse().map_err(|error: protocol::id::InvalidName| Refusal::bad_request(error.to_string()))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
