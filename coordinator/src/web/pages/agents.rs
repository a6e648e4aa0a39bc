//! The agents of the farm: what each has room for, what it does, and whether it is well.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use protocol::api::{AgentView, Role, coming, span};
use protocol::report::Capacity;

use super::board::{Board, Running};
use super::live::Part;
use super::said::size;
use super::{Frame, Here, Onlooker, answer};
use crate::web::Web;
use crate::web::agents::all;
use crate::web::api::Answer;

#[derive(Template)]
#[template(path = "agents.html", blocks = ["agents"])]
struct AgentsPage {
    frame: Frame,
    agents: Vec<AgentShown>,
}

struct AgentShown {
    name: String,
    /// The state whose mark and colour it has.
    tone: &'static str,
    word: &'static str,
    why: Option<String>,
    running: u32,
    slots: u32,
    free: Option<String>,
    seen: String,
    disk: Option<Disk>,
    machine: Option<String>,
    version: String,
    host: String,
    labels: Vec<String>,
    fingerprint: String,
    jobs: Vec<Running>,
    is_paused: bool,
}

struct Disk {
    text: String,
    /// In per cent.
    used: u64,
    low: bool,
}

pub(super) async fn page(State(web): State<Arc<Web>>, onlooker: Onlooker) -> Response {
    answer(agents(&web, &onlooker).await)
}

/// The part of the page that changes.
pub(super) async fn parts(web: &Web, onlooker: &Onlooker) -> Answer<Vec<Part>> {
    Ok(vec![Part::new("agents", &agents(web, onlooker).await?.as_agents())?])
}

async fn agents(web: &Web, onlooker: &Onlooker) -> Answer<AgentsPage> {
    let board = web.boards.look(web).await?;
    let agents = all(web).await?.into_iter().map(|agent| shown(agent, &board)).collect();
    let frame = Frame::new("Agents", Here::Agents).live_if(true, "/live/agents").seen_by(onlooker, Role::Admin);
    Ok(AgentsPage { frame, agents })
}

fn shown(agent: AgentView, board: &Board) -> AgentShown {
    let (tone, word, why) = standing(&agent);
    AgentShown {
        tone,
        word,
        why,
        running: agent.running,
        slots: agent.slots,
        free: agent.free_ms.filter(|ms| *ms > 0).map(coming),
        seen: seen(&agent, board.now_ms),
        disk: agent.capacity.as_ref().and_then(disk),
        machine: agent.capacity.as_ref().map(|it| format!("{} cores, {} of memory", it.cores, size(it.memory_bytes))),
        jobs: board.runs.iter().filter(|job| job.agent == agent.name).cloned().collect(),
        is_paused: agent.pause.is_some(),
        name: agent.name,
        version: agent.version,
        host: agent.host,
        labels: agent.labels,
        fingerprint: agent.fingerprint,
    }
}

/// The first thing that a person should know of it.
fn standing(agent: &AgentView) -> (&'static str, &'static str, Option<String>) {
    if let Some(why) = &agent.revoked {
        return ("cancelled", "revoked", Some(why.clone()));
    }
    if !agent.enrolled {
        let why = format!("Compare its key with what it prints, then run: buildr agent approve {}", agent.name);
        return ("approval", "waits for approval", Some(why));
    }
    if let Some(pause) = &agent.pause {
        let by = pause.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        return ("paused", "paused", Some(format!("{}{by}", pause.note)));
    }
    if agent.seen_ms_ago.is_none() {
        return ("lost", "away", None);
    }
    if agent.draining {
        return ("paused", "draining", Some("It ends when its jobs are over.".to_owned()));
    }
    if let Some(why) = &agent.paused {
        return ("paused", "takes no jobs", Some(why.clone()));
    }
    if agent.running > 0 { ("running", "working", None) } else { ("passed", "idle", None) }
}

fn seen(agent: &AgentView, now_ms: u64) -> String {
    match (agent.seen_ms_ago, agent.last_seen_ms) {
        // A sign of life comes every few seconds: that it came is all there is to say of it.
        (Some(ago), _) if ago < 60_000 => "less than a minute ago".to_owned(),
        (Some(ago), _) => format!("{} ago", span(ago)),
        (None, Some(at)) => format!("{} ago", span(now_ms.saturating_sub(at))),
        (None, None) => "never".to_owned(),
    }
}

fn disk(capacity: &Capacity) -> Option<Disk> {
    let Capacity { disk_free_bytes: free, disk_total_bytes: total, .. } = *capacity;
    let used = total.saturating_sub(free).saturating_mul(100).checked_div(total)?;
    Some(Disk { text: format!("{} of {} free", size(free), size(total)), used, low: used >= 90 })
}
