//! `buildr incidents`: what was not as it should be on the farm's line, and the messages that were laid aside.

use protocol::api::{DeadLetterView, IncidentKind, IncidentView, Incidents};

use super::globals::Globals;
use super::look::{Look, Tone};
use super::table::{cell, table};
use super::time::age;
use super::{CliError, exit, note, say};
use crate::process::clock::now_ms;

/// Show messages that the farm could not use, and whoever spoke in another's name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let incidents = globals.farm()?.incidents().await?;
    if args.json {
        say(&super::json(&incidents))?;
        return Ok(exit::DONE);
    }
    if incidents.incidents.is_empty() && incidents.dead_letters == 0 {
        note("nothing: every message could be used");
        return Ok(exit::DONE);
    }
    say(&shown(&incidents, now_ms(), &Look::of_stdout(globals.color())))?;
    if incidents.dead_letters > 0 {
        note(&format!(
            "{} messages were laid aside in RabbitMQ's queue buildr.dead, each with its reason in the header \
             x-buildr-reason: look at them on its page, or with `rabbitmqadmin get queue=buildr.dead count=10`",
            incidents.dead_letters
        ));
    }
    Ok(exit::DONE)
}

fn shown(incidents: &Incidents, now_ms: u64, look: &Look) -> String {
    let ago = |ms: u64| cell(Tone::Plain, &format!("{} ago", age(now_ms.saturating_sub(ms))));
    let rows = incidents.incidents.iter().map(|incident| {
        let IncidentView { kind, about, sentence, last_ms, count, .. } = incident;
        let tone = if *kind == IncidentKind::Forged { Tone::Bad } else { Tone::Odd };
        let kind = kind.name().replace('_', " ");
        let plain = |text: &str| cell(Tone::Plain, text);
        [cell(tone, &kind), plain(about), plain(&count.to_string()), ago(*last_ms), plain(sentence)]
    });
    let mut text = table(["INCIDENT", "ABOUT", "TIMES", "LAST", "WHAT"], rows, look);
    if !incidents.newest_dead.is_empty() {
        let rows = incidents.newest_dead.iter().map(|letter| {
            let DeadLetterView { queue, reason, at_ms, excerpt, .. } = letter;
            let excerpt: String = excerpt.chars().take(60).collect();
            let plain = |text: &str| cell(Tone::Plain, if text.is_empty() { "-" } else { text });
            [plain(queue), ago(*at_ms), plain(&excerpt), plain(reason)]
        });
        text.push('\n');
        text += &table(["LAID ASIDE FROM", "WHEN", "BEGINS", "WHY"], rows, look);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_for_each() {
        let incident = IncidentView {
            kind: IncidentKind::Forged,
            about: "oak".to_owned(),
            sentence: "a claim in its name was made with another key".to_owned(),
            first_ms: 0,
            last_ms: 4_000,
            count: 3,
        };
        let given_up = IncidentView { kind: IncidentKind::GivenUp, ..incident.clone() };
        let letter = DeadLetterView {
            queue: "build_queue".to_owned(),
            reason: "the message is not a job".to_owned(),
            at_ms: 1_000,
            bytes: 5,
            excerpt: "hel\nlo".to_owned(),
        };
        let all = Incidents { incidents: vec![incident, given_up], dead_letters: 1, newest_dead: vec![letter] };
        let text = shown(&all, 7_000, &Look::plain(None));
        let expect = "\
INCIDENT  ABOUT  TIMES  LAST    WHAT
forged    oak    3      3s ago  a claim in its name was made with another key
given up  oak    3      3s ago  a claim in its name was made with another key

LAID ASIDE FROM  WHEN    BEGINS  WHY
build_queue      6s ago  hel lo  the message is not a job
";
        assert_eq!(text, expect);
    }
}
