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

/// How much of a key the command to approve it carries, in characters.
const KEY_SHOWN: usize = 12;

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
    /// The key that waits for approval, when one does; else its own.
    fingerprint: String,
    /// Its own, where it does not stand there already.
    key: Option<String>,
    jobs: Vec<Running>,
    is_paused: bool,
    /// It belongs to the farm, so that its taking jobs is a question.
    is_enrolled: bool,
    /// What a person is asked to approve, and what there is to say to that.
    asked: Option<Asked>,
    /// It can be told to belong to the farm no longer.
    may_revoke: bool,
    /// It is gone, and can be listed no longer.
    may_forget: bool,
}

/// A key or labels that nobody approved.
struct Asked {
    /// What is to be done before it is approved.
    sentence: &'static str,
    /// Whether its key is to be compared; else it is known.
    is_new_key: bool,
    /// Whether a person has told it to go.
    was_revoked: bool,
    /// Each that it offers, and whether it is ticked.
    labels: Vec<(String, bool)>,
    button: &'static str,
    command: String,
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
    let own = |agent: &AgentView| {
        let known = &web.desk.config.known_agents;
        known.iter().any(|(name, key)| name.as_str() == agent.name && key.fingerprint() == agent.fingerprint)
    };
    let agents = all(web).await?.into_iter().map(|agent| shown(own(&agent), agent, &board)).collect();
    let frame = Frame::new("Agents", Here::Agents).live_if(true, "/live/agents").seen_by(onlooker, Role::Admin);
    Ok(AgentsPage { frame, agents })
}

/// `is_own`: it lives in the coordinator's own process.
fn shown(is_own: bool, agent: AgentView, board: &Board) -> AgentShown {
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
        is_enrolled: agent.enrolled,
        key: match (&agent.enrolled_key, agent.enrolled) {
            (Some(key), _) => Some(key.clone()),
            (None, true) => Some(agent.fingerprint.clone()),
            (None, false) => None,
        },
        asked: asked(&agent),
        may_revoke: !is_own && agent.revoked.is_none(),
        may_forget: !is_own && agent.running == 0 && (agent.revoked.is_some() || agent.seen_ms_ago.is_none()),
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
        return ("approval", "waits for approval", None);
    }
    if agent.enrolled_key.is_some() {
        let why = "Another process goes by its name, with another key. It gets no job.".to_owned();
        return ("approval", "shows another key", Some(why));
    }
    if let Some(pause) = &agent.pause {
        let by = pause.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        let runs = match agent.running {
            0 => "",
            _ => " It takes no new jobs, and what runs there goes on to its end.",
        };
        let end = if pause.note.ends_with(['.', '!', '?']) || runs.is_empty() { "" } else { "." };
        return ("paused", "paused", Some(format!("{}{by}{end}{runs}", pause.note)));
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

/// What there is to approve of it: its key, or labels that it offers.
fn asked(agent: &AgentView) -> Option<Asked> {
    let is_new_key = !agent.enrolled || agent.enrolled_key.is_some();
    let is_new = |label: &String| !agent.labels.contains(label);
    if !is_new_key && !agent.offered.iter().any(is_new) {
        return None;
    }
    let (sentence, button) = match (&agent.revoked, is_new_key) {
        (Some(_), _) => {
            ("It was revoked, and gets nothing. Who approves it again vouches for this key:", "Take it back")
        }
        (None, true) => (
            "Compare this key with the one that the agent itself prints when it starts, on its own machine. They must be the same to the last character; if they are not, somebody else goes by its name.",
            "They are the same: approve",
        ),
        (None, false) => {
            ("It offers labels that nobody approved; they count for nothing until then.", "Approve what is ticked")
        }
    };
    // Of a new one all are ticked; of one that is known, or was, those that were approved.
    let all = is_new_key && agent.revoked.is_none();
    let ticked = |label: &String| (label.clone(), all || !is_new(label));
    let key: String = agent.fingerprint.chars().take(KEY_SHOWN).collect();
    Some(Asked {
        sentence,
        is_new_key,
        was_revoked: agent.revoked.is_some(),
        labels: agent.offered.iter().map(ticked).collect(),
        button,
        command: format!("buildr agent approve {} --key {key}", agent.name),
    })
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
