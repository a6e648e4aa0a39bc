//! `buildr agents`: the agents that the farm knows, as a table.

use protocol::api::AgentView;

use super::globals::Globals;
use super::look::{Look, Tone};
use super::table::{cell, table};
use super::time::age;
use super::{CliError, exit, note, say};

/// After this time without a sign of life an agent counts as away: three of its heartbeats.
const AWAY_AFTER_MS: u64 = 45_000;

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
    if agents.iter().any(|agent| !agent.enrolled) {
        let approve = globals.command("agent approve NAME");
        note(&format!("an agent gets jobs once it is approved: compare the KEY with what it prints, then {approve}"));
    }
    Ok(exit::DONE)
}

fn shown(agents: &[AgentView], look: &Look) -> String {
    let heading = ["AGENT", "STATE", "SLOTS", "LABELS", "SEEN", "HOST", "VERSION", "KEY"];
    let rows = agents.iter().map(|agent| {
        let (tone, state) = state(agent);
        let plain = |text: &str| cell(Tone::Plain, if text.is_empty() { "-" } else { text });
        [
            cell(Tone::Strong, &agent.name),
            cell(tone, &state),
            plain(&format!("{}/{}", agent.running, agent.slots)),
            plain(&agent.labels.join(",")),
            plain(&agent.seen_ms_ago.map(|ms| format!("{} ago", age(ms))).unwrap_or_default()),
            plain(&agent.host),
            plain(&agent.version),
            plain(&agent.fingerprint),
        ]
    });
    table(heading, rows, look)
}

fn state(agent: &AgentView) -> (Tone, String) {
    match agent {
        AgentView { enrolled: false, .. } => (Tone::Odd, "not approved".to_owned()),
        agent if agent.seen_ms_ago.is_none_or(|ms| ms > AWAY_AFTER_MS) => (Tone::Bad, "away".to_owned()),
        AgentView { paused: Some(why), .. } => (Tone::Odd, format!("paused: {why}")),
        AgentView { running: 0, .. } => (Tone::Good, "idle".to_owned()),
        _ => (Tone::Busy, "busy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each_agent() {
        let oak = AgentView {
            name: "oak".to_owned(),
            enrolled: true,
            fingerprint: "abcd".to_owned(),
            slots: 4,
            running: 0,
            labels: vec!["arm64".to_owned(), "gpu".to_owned()],
            version: "0.1.0".to_owned(),
            host: "oak.example.org".to_owned(),
            paused: None,
            seen_ms_ago: Some(3_000),
        };
        let named = |name: &str| AgentView { name: name.to_owned(), ..oak.clone() };
        let agents = [
            AgentView { running: 2, ..named("ash") },
            AgentView { enrolled: false, labels: vec![], ..named("elm") },
            AgentView { paused: Some("the disk is full".to_owned()), ..named("fir") },
            AgentView { seen_ms_ago: None, ..named("yew") },
            oak.clone(),
        ];
        assert_eq!(
            shown(&agents, &Look::plain(None)),
            "\
AGENT  STATE                     SLOTS  LABELS     SEEN    HOST             VERSION  KEY
ash    busy                      2/4    arm64,gpu  3s ago  oak.example.org  0.1.0    abcd
elm    not approved              0/4    -          3s ago  oak.example.org  0.1.0    abcd
fir    paused: the disk is full  0/4    arm64,gpu  3s ago  oak.example.org  0.1.0    abcd
yew    away                      0/4    arm64,gpu  -       oak.example.org  0.1.0    abcd
oak    idle                      0/4    arm64,gpu  3s ago  oak.example.org  0.1.0    abcd
"
        );
    }
}
