//! `buildr audit`: who did what on the farm, when and from where.

use protocol::api::AuditEntry;

use super::globals::Globals;
use super::look::{Look, Tone};
use super::table::{cell, table};
use super::time::moment;
use super::{CliError, exit, note, say};

/// Show who did what on the farm, and who was refused
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many entries at most, newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only what came before the entry of this number
    #[arg(long, value_name = "N")]
    before: Option<u64>,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let audit = globals.farm()?.audit(args.before, args.limit).await?;
    if args.json {
        say(&super::json(&audit))?;
        return Ok(exit::DONE);
    }
    if audit.entries.is_empty() {
        note("nobody did anything so far");
        return Ok(exit::DONE);
    }
    say(&shown(&audit.entries, &Look::of_stdout(globals.color())))?;
    if let Some(next) = audit.next {
        note(&format!("there is more: {}", globals.command(&format!("audit --before {next}"))));
    }
    Ok(exit::DONE)
}

fn shown(entries: &[AuditEntry], look: &Look) -> String {
    let rows = entries.iter().map(|entry| {
        let plain = |text: &str| cell(Tone::Plain, text);
        let who = entry.said.as_ref().map_or_else(|| entry.who.clone(), |said| format!("{} ({said})", entry.who));
        let tone = if entry.status >= 400 { Tone::Bad } else { Tone::Plain };
        [
            plain(&moment(entry.at_ms)),
            plain(&who),
            plain(entry.role.name()),
            plain(&entry.address),
            cell(tone, &entry.status.to_string()),
            plain(&format!("{} {}", entry.method, entry.path)),
        ]
    });
    table(["WHEN", "WHO", "ROLE", "FROM", "ANSWER", "WHAT"], rows, look)
}

#[cfg(test)]
mod tests {
    use protocol::api::Role;

    use super::*;

    #[test]
    fn a_row_for_each() {
        let entry = AuditEntry {
            id: 2,
            at_ms: 1_700_000_000_000,
            who: "ci".to_owned(),
            role: Role::Developer,
            said: None,
            method: "POST".to_owned(),
            path: "/api/v1/agents/oak/pause".to_owned(),
            status: 403,
            address: "192.0.2.7".to_owned(),
        };
        let owner = AuditEntry {
            who: "start token".to_owned(),
            role: Role::Admin,
            said: Some("ada@laptop".to_owned()),
            status: 200,
            ..entry.clone()
        };
        let text = shown(&[entry, owner], &Look::plain(None));
        let rows: Vec<&str> = text.lines().map(|line| line.split_once("  ").unwrap().1.trim_start()).collect();
        assert_eq!(
            rows,
            [
                "WHO                       ROLE       FROM       ANSWER  WHAT",
                "ci                        developer  192.0.2.7  403     POST /api/v1/agents/oak/pause",
                "start token (ada@laptop)  admin      192.0.2.7  200     POST /api/v1/agents/oak/pause",
            ]
        );
    }
}
