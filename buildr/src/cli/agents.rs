//! `buildr agents`: the agents that the farm knows, as a table.

use protocol::api::AgentView;

use super::agent::disk_free;
use super::globals::Globals;
use super::look::{Look, Tone};
use super::table::{cell, table};
use super::time::age;
use super::{CliError, exit, note, say};

/// After this time without a sign of life an agent counts as away: three of its heartbeats.
pub(super) const AWAY_AFTER_MS: u64 = 45_000;

/// List the farm's agents
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let agents = globals.farm()?.agents().await?;
    if args.json {
        say(&super::json(&agents))?;
        return Ok(exit::DONE);
    }
    if agents.is_empty() {
        note("no agent has shown itself; start one with `buildr agent`");
        return Ok(exit::DONE);
    }
    say(&shown(&agents, &Look::of_stdout(globals.color())))?;
    if agents.iter().any(|agent| !agent.enrolled && agent.revoked.is_none()) {
        let approve = globals.command("agent approve NAME");
        note(&format!("an agent gets jobs once it is approved: compare the KEY with what it prints, then {approve}"));
    }
    Ok(exit::DONE)
}

/// What stands here is what one looks for; `buildr agent show` has the rest. The state comes last, for it may be long.
fn shown(agents: &[AgentView], look: &Look) -> String {
    let heading = ["AGENT", "SLOTS", "LABELS", "DISK", "SEEN", "HOST", "KEY", "STATE"];
    let rows = agents.iter().map(|agent| {
        let (tone, state) = state(agent);
        let plain = |text: &str| cell(Tone::Plain, if text.is_empty() { "-" } else { text });
        // What waits for approval is what a person has to look at.
        let labels = if agent.enrolled { &agent.labels } else { &agent.offered };
        [
            cell(Tone::Strong, &agent.name),
            plain(&format!("{}/{}", agent.running, agent.slots)),
            plain(&labels.join(",")),
            plain(&disk_free(agent).map(|percent| format!("{percent}%")).unwrap_or_default()),
            plain(&agent.seen_ms_ago.map(age).unwrap_or_default()),
            plain(&agent.host),
            plain(&agent.fingerprint),
            cell(tone, &state),
        ]
    });
    table(heading, rows, look)
}

/// Where an agent stands, in a few words.
pub(super) fn state(agent: &AgentView) -> (Tone, String) {
    match agent {
        AgentView { revoked: Some(why), .. } => (Tone::Bad, format!("revoked: {why}")),
        AgentView { enrolled: false, .. } => (Tone::Odd, "not approved".to_owned()),
        agent if agent.seen_ms_ago.is_none_or(|ms| ms > AWAY_AFTER_MS) => (Tone::Bad, "away".to_owned()),
        AgentView { enrolled_key: Some(_), .. } => (Tone::Odd, "another key waits".to_owned()),
        // The words that a person wrote say themselves that they are a pause.
        AgentView { paused: Some(why), pause: Some(_), .. } => (Tone::Odd, why.clone()),
        AgentView { paused: Some(why), .. } => (Tone::Odd, format!("paused: {why}")),
        AgentView { running: 0, .. } => (Tone::Good, "idle".to_owned()),
        _ => (Tone::Busy, "busy".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::api::Paused;
    use protocol::report::Capacity;

    use super::*;

    pub(in crate::cli) fn oak() -> AgentView {
        AgentView {
            name: "oak".to_owned(),
            enrolled: true,
            fingerprint: "abcdefgh".to_owned(),
            enrolled_key: None,
            slots: 4,
            running: 0,
            labels: vec!["arm64".to_owned(), "gpu".to_owned()],
            offered: vec!["arm64".to_owned(), "gpu".to_owned()],
            version: "0.1.0".to_owned(),
            host: "oak.example.org".to_owned(),
            paused: None,
            pause: None,
            heard: false,
            revoked: None,
            draining: false,
            free_ms: Some(0),
            capacity: None,
            seen_ms_ago: Some(3_000),
            last_seen_ms: None,
        }
    }

    #[test]
    fn a_row_for_each_agent() {
        let named = |name: &str| AgentView { name: name.to_owned(), ..oak() };
        let capacity = Capacity { disk_free_bytes: 4, disk_total_bytes: 100, memory_bytes: 1, cores: 1 };
        let pause = Paused { note: "a new disk".to_owned(), by: None, since_ms: 0 };
        let agents = [
            AgentView { running: 2, ..named("ash") },
            AgentView { enrolled: false, labels: vec![], ..named("elm") },
            AgentView { paused: Some("disk 4 % free".to_owned()), capacity: Some(capacity), ..named("fir") },
            AgentView { paused: Some("paused by a person: a new disk".to_owned()), pause: Some(pause), ..named("ivy") },
            AgentView { enrolled: false, revoked: Some("stolen".to_owned()), ..named("rue") },
            AgentView { seen_ms_ago: None, ..named("yew") },
            oak(),
        ];
        let text = shown(&agents, &Look::plain(None));
        assert_eq!(
            text,
            "\
AGENT  SLOTS  LABELS     DISK  SEEN  HOST             KEY       STATE
ash    2/4    arm64,gpu  -     3s    oak.example.org  abcdefgh  busy
elm    0/4    arm64,gpu  -     3s    oak.example.org  abcdefgh  not approved
fir    0/4    arm64,gpu  4%    3s    oak.example.org  abcdefgh  paused: disk 4 % free
ivy    0/4    arm64,gpu  -     3s    oak.example.org  abcdefgh  paused by a person: a new disk
rue    0/4    arm64,gpu  -     3s    oak.example.org  abcdefgh  revoked: stolen
yew    0/4    arm64,gpu  -     -     oak.example.org  abcdefgh  away
oak    0/4    arm64,gpu  -     3s    oak.example.org  abcdefgh  idle
"
        );
        // A whole key is 20 characters long, and people compare it here.
        let long = AgentView { fingerprint: "x".repeat(20), ..agents[3].clone() };
        let narrow = shown(&[long], &Look::plain(Some(100)));
        assert!(narrow.lines().all(|line| line.chars().count() <= 100), "{narrow}");
        assert!(narrow.contains(&"x".repeat(20)), "{narrow}");
    }
}
