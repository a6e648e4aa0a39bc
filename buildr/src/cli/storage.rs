//! `buildr storage`: what the farm keeps, and how much room that takes.

use protocol::api::StorageView;

use super::globals::Globals;
use super::look::clean;
use super::time::{age, now};
use super::{CliError, exit, say};

/// Show what the farm keeps, for how long, and how much room that takes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let view = globals.farm()?.storage().await?;
    say(&if args.json { super::json(&view) } else { shown(&view, now()) })?;
    Ok(exit::DONE)
}

fn shown(view: &StorageView, now: u64) -> String {
    let oldest = view.oldest_ms.map(|ms| format!(", the oldest of {} ago", age(now.saturating_sub(ms))));
    let pinned = if view.pinned > 0 { format!(", {} pinned", view.pinned) } else { String::new() };
    let builds = format!("{}{}{pinned}", view.builds, oldest.unwrap_or_default());
    let mut text = format!("builds     {builds}\n");
    for (what, bytes) in
        [("output", view.logs_bytes), ("artifacts", view.artifacts_bytes), ("database", view.database_bytes)]
    {
        text += &format!("{what:9}  {}\n", size(bytes));
    }
    if let (Some(free), Some(total)) = (view.disk_free_bytes, view.disk_total_bytes) {
        text += &format!("disk       {} free of {}\n", size(free), size(total));
    }
    text += &format!("kept       {}\n", view.keeps);
    for other in &view.projects {
        text += &format!("           {}: {}\n", clean(&other.project), other.keeps);
    }
    text
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, power)| bytes >= 1 << power);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, power)| format!("{:.1} {name}", bytes as f64 / f64::from(1 << power)),
    )
}

#[cfg(test)]
mod tests {
    use protocol::api::{Keeps, KeptOtherwise};

    use super::*;

    #[test]
    fn what_is_kept_in_words() {
        let view = StorageView {
            builds: 120,
            pinned: 2,
            oldest_ms: Some(0),
            logs_bytes: 3 << 19,
            artifacts_bytes: 5 << 30,
            database_bytes: 999,
            disk_free_bytes: Some(1 << 30),
            disk_total_bytes: Some(10 << 30),
            keeps: Keeps { builds: Some(50), days: Some(90), logs_days: Some(30), artifacts_days: Some(1) },
            projects: vec![KeptOtherwise { project: "e.org/a".to_owned(), keeps: Keeps::default() }],
        };
        let expect = "\
builds     120, the oldest of 3d ago, 2 pinned
output     1.5 MiB
artifacts  5.0 GiB
database   999 bytes
disk       1.0 GiB free of 10.0 GiB
kept       the newest 50 builds of each repository, and all for 90 days; their output for 30 days; their artifacts for 1 day
           e.org/a: builds without end
";
        assert_eq!(shown(&view, 3 * 24 * 3600 * 1000), expect);
        assert_eq!(Keeps::default().to_string(), "builds without end");
        assert_eq!(Keeps { days: Some(7), ..Keeps::default() }.to_string(), "builds for 7 days");
        assert_eq!(Keeps { builds: Some(9), ..Keeps::default() }.to_string(), "the newest 9 builds of each repository");
    }
}
