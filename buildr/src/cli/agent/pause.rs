//! `buildr agent pause`, `resume` and `drain`: whether an agent takes jobs.

use std::time::Duration;

use protocol::AgentId;
use protocol::api::{AgentView, coming};

use crate::cli::agents::AWAY_AFTER_MS;
use crate::cli::globals::Globals;
use crate::cli::look::clean;
use crate::cli::{CliError, exit, note, say};
use crate::client::Farm;

/// How often it is looked whether the jobs are over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Have an agent take no jobs; those that it has go on
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent pause [OPTIONS] <NAME>")]
pub(in crate::cli) struct Args {
    /// The agent's name
    name: AgentId,
    /// Why, for those who look at the agent or at a build that waits
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Wait until its jobs are over
    #[arg(long)]
    wait: bool,
}

/// Have an agent take jobs again
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent resume [OPTIONS] <NAME>")]
pub(in crate::cli) struct ResumeArgs {
    /// The agent's name
    name: AgentId,
}

/// Have an agent take no jobs, and wait until those that it has are over
#[derive(Debug, clap::Args)]
#[command(hide = true, override_usage = "buildr agent drain [OPTIONS] <NAME>")]
pub(in crate::cli) struct DrainArgs {
    /// The agent's name
    name: AgentId,
    /// Why, for those who look at the agent or at a build that waits
    #[arg(long, value_name = "TEXT", default_value = "drained")]
    note: String,
}

pub(super) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let Args { name, note, wait } = args;
    let farm = globals.farm()?;
    let agent = farm.pause(&name, note).await?;
    if wait {
        return wait_for_jobs(&farm, &name, agent, globals).await;
    }
    say(&format!("{}; `{}` ends that\n", paused(&agent), resume_command(&name, globals)))?;
    Ok(exit::DONE)
}

pub(super) async fn drain(args: DrainArgs, globals: &Globals) -> Result<u8, CliError> {
    let DrainArgs { name, note } = args;
    let farm = globals.farm()?;
    let agent = farm.pause(&name, Some(note)).await?;
    wait_for_jobs(&farm, &name, agent, globals).await
}

pub(super) async fn resume(args: &ResumeArgs, globals: &Globals) -> Result<u8, CliError> {
    let agent = globals.farm()?.resume(&args.name).await?;
    let text = match &agent.paused {
        // What it says itself is a thing of its own.
        Some(why) => format!("agent {} is no longer paused by a person, but takes no jobs yet: {why}", agent.name),
        None => format!("agent {} takes jobs again", agent.name),
    };
    say(&format!("{}\n", clean(&text)))?;
    Ok(exit::DONE)
}

async fn wait_for_jobs(farm: &Farm, name: &AgentId, mut agent: AgentView, globals: &Globals) -> Result<u8, CliError> {
    let mut said = String::new();
    while let Some((what, when)) = waits_for(&agent) {
        if said != what {
            note(&format!("{what}{when}"));
            said = what;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        agent = farm.agent(name).await?;
    }
    if agent.pause.is_none() {
        // Somebody else wants it to work meanwhile.
        say(&format!("{}\n", clean(&format!("agent {} was resumed and has no jobs", agent.name))))?;
        return Ok(exit::OTHER);
    }
    say(&format!(
        "{}\n",
        clean(&format!(
            "agent {} has no jobs and takes none; `{}` ends that",
            agent.name,
            resume_command(name, globals)
        ))
    ))?;
    Ok(exit::DONE)
}

/// What has to happen before an agent has no jobs and will have none, and when that is expected.
fn waits_for(agent: &AgentView) -> Option<(String, String)> {
    let is_here = agent.seen_ms_ago.is_some_and(|ms| ms <= AWAY_AFTER_MS);
    match agent.running {
        // Until it has heard of the pause it may take one more.
        0 if is_here && !agent.heard => Some((
            format!("agent {} has no jobs, and has not heard yet that it should take none", agent.name),
            String::new(),
        )),
        0 => None,
        _ => Some((paused(agent), expected(agent))),
    }
}

fn paused(agent: &AgentView) -> String {
    let jobs = match agent.running {
        0 => "and has none".to_owned(),
        1 => "and ends the one that it has".to_owned(),
        jobs => format!("and ends the {jobs} that it has"),
    };
    clean(&format!("agent {} takes no jobs, {jobs}", agent.name)).into_owned()
}

fn expected(agent: &AgentView) -> String {
    match agent.free_ms {
        Some(ms) => format!(": expected {}", coming(ms)),
        None => "; no earlier build tells when".to_owned(),
    }
}

fn resume_command(name: &AgentId, globals: &Globals) -> String {
    globals.command(&format!("agent resume {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::agents::tests::oak;

    #[test]
    fn what_is_waited_for_is_said() {
        let check = |running, free_ms, expect: &str| {
            let (what, when) = waits_for(&AgentView { running, free_ms, ..oak() }).unwrap();
            assert_eq!(what + &when, expect);
        };
        check(0, Some(0), "agent oak has no jobs, and has not heard yet that it should take none");
        check(1, Some(61_000), "agent oak takes no jobs, and ends the one that it has: expected in 1 min 1 s");
        check(2, None, "agent oak takes no jobs, and ends the 2 that it has; no earlier build tells when");
        check(2, Some(0), "agent oak takes no jobs, and ends the 2 that it has: expected any moment");
        assert_eq!(waits_for(&AgentView { heard: true, ..oak() }), None);
        assert_eq!(waits_for(&AgentView { seen_ms_ago: None, ..oak() }), None, "one that is away takes none");
    }
}
