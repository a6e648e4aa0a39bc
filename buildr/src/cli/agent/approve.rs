//! `buildr agent approve`: takes an agent into the farm, by the key that a person compared.

use protocol::api::{AgentView, Approve};
use protocol::{AgentId, LabelSet};

use crate::cli::globals::Globals;
use crate::cli::look::clean;
use crate::cli::{CliError, exit, say};

/// The fewest characters of a key that say which one is meant.
const SHORTEST: usize = 8;

/// Let an agent take jobs, after you compared its key with what it prints
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent approve [OPTIONS] <NAME>")]
pub(in crate::cli) struct Args {
    /// The agent's name
    name: AgentId,
    /// The key that it printed, or its beginning (8 characters or more); any other is refused
    #[arg(long, value_name = "FINGERPRINT", value_parser = key)]
    key: Option<String>,
    /// Which of the labels that it offers count; all of them without this
    #[arg(long, value_name = "LABELS", value_parser = labels)]
    labels: Option<LabelSet>,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    let seen = farm.agent(&args.name).await?;
    if let Some(key) = &args.key
        && !seen.fingerprint.starts_with(key.as_str())
    {
        let what = format!("agent {} shows the key {}, and not {key}", args.name, seen.fingerprint);
        let instead = "compare with what the agent itself prints; if they differ, somebody else goes by its name";
        return Err(CliError::Usage { what, instead: Some(instead.to_owned()) });
    }
    // This very key: should the agent show another one by now, the farm refuses.
    let approve = Approve { fingerprint: seen.fingerprint.clone(), labels: args.labels.clone() };
    let agent = farm.approve(&args.name, &approve).await?;
    say(&shown(&agent))?;
    Ok(exit::DONE)
}

fn shown(agent: &AgentView) -> String {
    let AgentView { name, fingerprint, labels, host, offered, .. } = agent;
    let labels = if labels.is_empty() { "no labels".to_owned() } else { format!("the labels {}", labels.join(", ")) };
    let others: Vec<&str> = offered.iter().filter(|label| !agent.labels.contains(label)).map(String::as_str).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (not {})", others.join(", ")) };
    clean(&format!("agent {name} on {host} takes jobs now: key {fingerprint}, {labels}{others}")).into_owned() + "\n"
}

fn key(text: &str) -> Result<String, String> {
    if text.len() < SHORTEST { Err(format!("give {SHORTEST} characters of it or more")) } else { Ok(text.to_owned()) }
}

fn labels(text: &str) -> Result<LabelSet, String> {
    let labels = text.split(',').map(str::trim).filter(|label| !label.is_empty());
    LabelSet::new(labels).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::agents::tests::oak;

    #[test]
    fn what_was_approved_is_said() {
        let agent = AgentView { labels: vec!["gpu".to_owned()], ..oak() };
        let expect = "agent oak on oak.example.org takes jobs now: key abcdefgh, the labels gpu (not arm64)\n";
        assert_eq!(shown(&agent), expect);
        let none = AgentView { labels: vec![], offered: vec![], ..oak() };
        assert_eq!(shown(&none), "agent oak on oak.example.org takes jobs now: key abcdefgh, no labels\n");
    }

    #[test]
    fn too_short_a_key_is_none() {
        assert!(key("abcdefg").is_err());
        assert_eq!(key("abcdefgh").unwrap(), "abcdefgh");
        assert_eq!(labels("gpu, arm64,").unwrap().to_string(), "arm64+gpu");
        assert!(labels("a b").is_err());
    }
}
