//! `buildr timeline`: where a build's time went, as a bar for each part.

use protocol::BuildNumber;
use protocol::api::{AttemptTimeline, BuildRow, Timeline};
use protocol::report::{Part, Span};

use super::globals::Globals;
use super::look::{Look, Tone, clean};
use super::status::verdict;
use super::time::now;
use super::{CliError, exit, say};

/// How wide the bars are at most, in columns, and where nobody knows how wide the terminal is.
const WIDEST: usize = 60;

/// How wide at least.
const NARROWEST: usize = 10;

/// Show where a build's time went: queue, code, each stage, result
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build's number
    #[arg(value_parser = super::build_number)]
    build: BuildNumber,
    /// Print JSON, as the farm's API has it
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let timeline = globals.farm()?.timeline(args.build).await?;
    if args.json {
        say(&super::json(&timeline))?;
    } else {
        say(&shown(&timeline, &Look::of_stdout(globals.color()), now()))?;
    }
    Ok(exit::DONE)
}

fn shown(timeline: &Timeline, look: &Look, now: u64) -> String {
    let mut text = verdict(&BuildRow { message: None, ..timeline.build.clone() }, look, now) + "\n";
    for AttemptTimeline { job, attempt, agent, over, spans } in &timeline.attempts {
        if timeline.attempts.len() > 1 {
            text += &look.paint(Tone::Strong, &format!("{} · attempt {attempt} · {agent}", clean(job.as_str())));
            text.push('\n');
        }
        text += &bars(spans, timeline.ms, look);
        if !over {
            text += "  it runs; where its time went is told with its end\n";
        }
    }
    if timeline.attempts.is_empty() {
        text += "  no agent has taken it yet; `buildr why` says what it waits for\n";
    }
    text
}

/// A line for each part, in the order in which they began, on a scale of `whole` milliseconds.
pub(super) fn bars(spans: &[Span], whole: u64, look: &Look) -> String {
    let lines = joined(spans);
    let names: Vec<String> = lines.iter().map(name).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    // Two before the name, two after it, two bounds, and the figure.
    let room = look.width.map_or(WIDEST, |columns| columns.saturating_sub(width + 20).clamp(NARROWEST, WIDEST));
    let mut text = String::new();
    for (span, name) in lines.iter().zip(names) {
        let (before, long) = place(span, whole, room);
        let after = " ".repeat(room - before - long);
        let bar = look.paint(tone(span.part), &if long == 0 { String::new() } else { "█".repeat(long) });
        text += &format!("  {name:width$}  {}{bar}{after}  {:>7} ms\n", " ".repeat(before), span.ms);
    }
    text
}

/// Spans of one part of one stage are one line.
fn joined(spans: &[Span]) -> Vec<Span> {
    let mut lines: Vec<Span> = Vec::new();
    for span in spans {
        match lines.iter_mut().find(|line| (line.part, &line.stage) == (span.part, &span.stage)) {
            // The workspace's removal and the container's have something between them; a second try has its first.
            Some(line) => line.ms += span.ms,
            None => lines.push(span.clone()),
        }
    }
    lines
}

fn name(span: &Span) -> String {
    match &span.stage {
        Some(stage) => format!("{} {stage}", span.part.name()),
        None => span.part.name().to_owned(),
    }
}

/// Where a bar begins and how long it is, in columns of so many. What took time at all is seen.
fn place(span: &Span, whole: u64, room: usize) -> (usize, usize) {
    let columns = |ms: u64| {
        let wide = u128::from(ms) * room as u128 / u128::from(whole.max(1));
        usize::try_from(wide).unwrap_or(room).min(room)
    };
    let begins = columns(span.at_ms).min(room - 1);
    let ends = columns(span.at_ms.saturating_add(span.ms));
    let least = usize::from(span.ms > 0);
    (begins, ends.saturating_sub(begins).max(least))
}

fn tone(part: Part) -> Tone {
    match part {
        Part::Script | Part::Prepare => Tone::Good,
        Part::Queue => Tone::Faint,
        Part::Pull | Part::Services => Tone::Odd,
        _ => Tone::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(part: Part, stage: &str, at_ms: u64, ms: u64) -> Span {
        Span { part, stage: stage.parse().ok(), at_ms, ms }
    }

    #[test]
    fn a_bar_for_each_part() {
        let spans = [
            span(Part::Queue, "", 0, 10),
            span(Part::Claim, "", 10, 0),
            span(Part::Start, "", 20, 5),
            span(Part::Start, "test", 30, 4),
            span(Part::Start, "test", 34, 6),
            span(Part::Script, "test", 40, 50),
            span(Part::Report, "", 98, 2),
        ];
        let text = bars(&spans, 100, &Look::plain(Some(41)));
        let expect = "\
\u{20} queue        █                10 ms
\u{20} claim                          0 ms
\u{20} start          █               5 ms
\u{20} start test      █             10 ms
\u{20} script test      █████        50 ms
\u{20} report                █        2 ms
";
        assert_eq!(text, expect, "\n{text}");
    }

    #[test]
    fn a_bar_stays_between_its_bounds() {
        for (at_ms, ms, whole, expect) in [
            (0, 0, 0, (0, 0)),
            (0, 5, 0, (0, 10)),
            (50, 500, 100, (5, 5)),
            (900, 1, 100, (9, 1)),
            (99, 1, 1000, (0, 1)),
        ] {
            let (begins, long) = place(&span(Part::Script, "x", at_ms, ms), whole, 10);
            assert_eq!((begins, long), expect, "{at_ms}+{ms} of {whole}");
            assert!(begins + long <= 10);
        }
    }
}
