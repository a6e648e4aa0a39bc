//! `buildr agent show`: all that the farm knows of one agent.

use protocol::AgentId;
use protocol::api::{AgentView, Paused, coming};

use crate::cli::agents::state;
use crate::cli::globals::Globals;
use crate::cli::look::{Look, Tone, clean};
use crate::cli::time::{age, moment, now};
use crate::cli::{CliError, exit, say};

/// Show all that the farm knows of one agent
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent show [OPTIONS] <NAME>")]
pub(in crate::cli) struct Args {
    /// The agent's name
    name: AgentId,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let agent = globals.farm()?.agent(&args.name).await?;
    if args.json {
        say(&crate::cli::json(&agent))?;
    } else {
        say(&shown(&agent, &Look::of_stdout(globals.color()), now()))?;
    }
    Ok(exit::DONE)
}

fn shown(agent: &AgentView, look: &Look, now: u64) -> String {
    let (tone, word) = state(agent);
    let mut text =
        format!("agent {}: {}\n", look.paint(Tone::Strong, &clean(&agent.name)), look.paint(tone, &clean(&word)));
    let mut line = |name: &str, value: &str| {
        text += &format!("  {}{}\n", look.paint(Tone::Faint, &format!("{name:9}")), clean(value));
    };
    if let Some(Paused { by, since_ms, .. }) = &agent.pause {
        let by = by.as_ref().map(|by| format!("by {by}, ")).unwrap_or_default();
        let heard = if agent.heard { "" } else { "; it has not heard of that yet" };
        line("paused", &format!("{by}{} ago ({}){heard}", age(now.saturating_sub(*since_ms)), moment(*since_ms)));
    }
    let free = match agent.free_ms {
        _ if agent.running == 0 => String::new(),
        Some(ms) => format!("; free {}", coming(ms)),
        None => "; no earlier build tells when it is free".to_owned(),
    };
    line("slots", &format!("{} of {} taken{free}", agent.running, agent.slots));
    line("labels", &labels(agent));
    line("key", &agent.fingerprint);
    if let Some(enrolled) = &agent.enrolled_key {
        line("", &format!("it waits for approval; the key that is enrolled is {enrolled}"));
    }
    line("seen", &seen(agent, now));
    line("host", &agent.host);
    if let Some(capacity) = agent.capacity {
        let (free, total) = (gib(capacity.disk_free_bytes), gib(capacity.disk_total_bytes));
        let percent = disk_free(agent).unwrap_or_default();
        line("disk", &format!("{free} of {total} GiB free ({percent} %)"));
        line("machine", &format!("{} cores, {} GiB of memory", capacity.cores, gib(capacity.memory_bytes)));
    }
    line("version", &agent.version);
    text
}

/// How much of its disk is free, in per cent.
pub(in crate::cli) fn disk_free(agent: &AgentView) -> Option<u64> {
    let capacity = agent.capacity.filter(|capacity| capacity.disk_total_bytes > 0)?;
    u64::try_from(u128::from(capacity.disk_free_bytes) * 100 / u128::from(capacity.disk_total_bytes)).ok()
}

fn gib(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn labels(agent: &AgentView) -> String {
    let others: Vec<&str> =
        agent.offered.iter().filter(|label| !agent.labels.contains(label)).map(String::as_str).collect();
    let own = if agent.labels.is_empty() { "none".to_owned() } else { agent.labels.join(", ") };
    if others.is_empty() { own } else { format!("{own}; offered and not approved: {}", others.join(", ")) }
}

fn seen(agent: &AgentView, now: u64) -> String {
    match (agent.seen_ms_ago, agent.last_seen_ms) {
        (Some(ms), _) => format!("{} ago", age(ms)),
        (None, Some(at)) => format!("{} ago, before the coordinator began", age(now.saturating_sub(at))),
        (None, None) => "not since the coordinator began".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use protocol::report::Capacity;

    use super::*;
    use crate::cli::agents::tests::oak;

    #[test]
    fn all_that_is_known() {
        let capacity =
            Capacity { disk_free_bytes: 5 << 30, disk_total_bytes: 100 << 30, memory_bytes: 16 << 30, cores: 8 };
        let pause =
            Some(Paused { note: "a new disk".to_owned(), by: Some("ada@laptop".to_owned()), since_ms: 1_000_000 });
        let agent = AgentView {
            running: 2,
            free_ms: Some(30_000),
            paused: Some("paused by a person: a new disk".to_owned()),
            pause,
            heard: true,
            labels: vec!["gpu".to_owned()],
            capacity: Some(capacity),
            ..oak()
        };
        let text = shown(&agent, &Look::plain(None), 1_120_000);
        let expect = "\
agent oak: paused by a person: a new disk
  paused   by ada@laptop, 2m ago (MOMENT)
  slots    2 of 4 taken; free in 30 s
  labels   gpu; offered and not approved: arm64
  key      abcdefgh
  seen     3s ago
  host     oak.example.org
  disk     5.0 of 100.0 GiB free (5 %)
  machine  8 cores, 16.0 GiB of memory
  version  0.1.0
";
        assert_eq!(text.replace(&moment(1_000_000), "MOMENT"), expect);
    }
}
