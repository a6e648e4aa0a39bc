//! `buildr deliveries`: what forges delivered, what came of it, and once more.

use protocol::api::DeliveryView;

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::table::{cell, table};
use super::time::age;
use super::{CliError, exit, note, say};
use crate::process::clock::now_ms;

/// Show what forges delivered by webhooks, and what came of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only those of this project
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// Handle a delivery once more, as if it came now
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["project", "limit", "before", "json"])]
    redeliver: Option<u64>,
    /// How many, at most
    #[arg(long, short = 'n', default_value_t = 20, value_name = "COUNT")]
    limit: u32,
    /// Only those before this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm()?;
    if let Some(number) = args.redeliver {
        let done = farm.redeliver(number).await?;
        say(&format!("{}\n", clean(&done.message)))?;
        return Ok(exit::DONE);
    }
    let project = match &args.project {
        // Whatever a person calls it, the list has its identity.
        Some(name) => Some(farm.project(name).await?.identity),
        None => None,
    };
    let found = farm.deliveries(project.as_deref(), args.before, args.limit).await?;
    if args.json {
        say(&super::json(&found))?;
        return Ok(exit::DONE);
    }
    if found.deliveries.is_empty() {
        note("no forge has delivered anything; `buildr project add URL` says what to set up there");
        return Ok(exit::DONE);
    }
    say(&shown(&found.deliveries, now_ms(), &Look::of_stdout(globals.color())))?;
    Ok(exit::DONE)
}

fn shown(deliveries: &[DeliveryView], now_ms: u64, look: &Look) -> String {
    let rows = deliveries.iter().map(|delivery| {
        let plain = |text: &str| cell(Tone::Plain, if text.is_empty() { "-" } else { text });
        let verdict = delivery.verdict.as_deref().unwrap_or("is handled now");
        let tone = match verdict {
            _ if !delivery.builds.is_empty() => Tone::Good,
            refused if refused.starts_with("refused") => Tone::Bad,
            _ => Tone::Plain,
        };
        let again = match delivery.replays {
            0 => String::new(),
            times => format!(" (came {times} more times, and did nothing)"),
        };
        let of = delivery.redelivers.map(|number| format!(" (once more: {number})")).unwrap_or_default();
        [
            plain(&delivery.number.to_string()),
            plain(&format!("{} ago", age(now_ms.saturating_sub(delivery.received_ms)))),
            plain(&delivery.project),
            plain(&delivery.event),
            cell(tone, &format!("{verdict}{of}{again}")),
        ]
    });
    table(["DELIVERY", "CAME", "PROJECT", "EVENT", "VERDICT"], rows, look)
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;
    use protocol::api::Forge;

    use super::*;

    #[test]
    fn a_row_for_each() {
        let one = DeliveryView {
            number: 7,
            project: "example.org/a/b".to_owned(),
            forge: Forge::GitHub,
            event: "push".to_owned(),
            forge_id: None,
            received_ms: 1_000,
            verdict: Some("build #12".to_owned()),
            builds: vec![BuildNumber(12)],
            replays: 2,
            redelivers: None,
            redeliverable: true,
        };
        let refused = DeliveryView {
            number: 6,
            event: String::new(),
            verdict: Some("refused: signature".to_owned()),
            builds: vec![],
            replays: 0,
            ..one.clone()
        };
        let open = DeliveryView { number: 8, verdict: None, replays: 0, redelivers: Some(7), ..refused.clone() };
        let expect = "\
DELIVERY  CAME    PROJECT          EVENT  VERDICT
8         3s ago  example.org/a/b  -      is handled now (once more: 7)
7         3s ago  example.org/a/b  push   build #12 (came 2 more times, and did nothing)
6         3s ago  example.org/a/b  -      refused: signature
";
        assert_eq!(shown(&[open, one, refused], 4_000, &Look::plain(None)), expect);
    }
}
