//! A build's time as bars: waiting apart from working. Positions are in hundredths of a per cent of the whole, and are
//! written as attributes, since a page may carry no styles of its own. Pure.

use std::fmt;

use protocol::api::{AttemptTimeline, Timeline, span};
use protocol::report::{Part, Span};

use crate::web::pages::said::took;

/// All of it.
pub(super) struct Waterfall {
    /// How long the build took, or takes so far.
    pub(super) whole: String,
    /// Where lines stand that say the time.
    pub(super) ticks: Vec<Tick>,
    /// The attempts.
    pub(super) attempts: Vec<Track>,
}

/// A line that says the time.
pub(super) struct Tick {
    pub(super) at: Percent,
    pub(super) time: String,
}

/// One attempt.
pub(super) struct Track {
    pub(super) job: String,
    pub(super) agent: String,
    pub(super) rows: Vec<Row>,
}

/// What belongs together: the job's own times, or those of one stage.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) took: String,
    pub(super) bars: Vec<Bar>,
}

/// A piece of time.
pub(super) struct Bar {
    pub(super) at: Percent,
    pub(super) width: Percent,
    /// What it was spent on.
    pub(super) part: &'static str,
    pub(super) title: String,
}

/// Hundredths of a per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percent(u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

impl Percent {
    fn of(part: u64, whole: u64) -> Self {
        Self((part.min(whole).saturating_mul(10_000)) / whole.max(1))
    }
}

/// The narrowest bar that can be seen.
const NARROWEST: u64 = 25;

/// A build's time, drawn.
pub(super) fn waterfall(timeline: &Timeline) -> Waterfall {
    let end = |span: &Span| span.at_ms.saturating_add(span.ms);
    let last = timeline.attempts.iter().flat_map(|attempt| attempt.spans.iter().map(end)).max().unwrap_or(0);
    let whole = timeline.ms.max(last).max(1);
    Waterfall {
        whole: took(timeline.ms),
        ticks: ticks(whole),
        attempts: timeline.attempts.iter().map(|attempt| track(attempt, whole, timeline.ms)).collect(),
    }
}

fn track(attempt: &AttemptTimeline, whole: u64, now: u64) -> Track {
    let mut rows = Vec::new();
    let own: Vec<&Span> = attempt.spans.iter().filter(|span| span.stage.is_none()).collect();
    let mut bars: Vec<Bar> = own.iter().map(|span| bar(span, whole)).collect();
    if !attempt.over {
        // What its agent spends is told with its end.
        let from = own.iter().map(|span| span.at_ms + span.ms).max().unwrap_or(0);
        let ms = now.saturating_sub(from);
        bars.push(bar(&Span { part: Part::Unknown, stage: None, at_ms: from, ms }, whole));
    }
    rows.push(Row { name: "job".to_owned(), took: String::new(), bars });
    let mut stages: Vec<(&str, Vec<&Span>)> = Vec::new();
    for one in &attempt.spans {
        let Some(stage) = &one.stage else { continue };
        match stages.iter_mut().find(|(name, _)| *name == stage.as_str()) {
            Some((_, spans)) => spans.push(one),
            None => stages.push((stage.as_str(), vec![one])),
        }
    }
    for (name, spans) in stages {
        let from = spans.iter().map(|span| span.at_ms).min().unwrap_or(0);
        let to = spans.iter().map(|span| span.at_ms + span.ms).max().unwrap_or(0);
        rows.push(Row {
            name: name.to_owned(),
            took: took(to - from),
            bars: spans.iter().map(|span| bar(span, whole)).collect(),
        });
    }
    Track { job: attempt.job.to_string(), agent: attempt.agent.to_string(), rows }
}

fn bar(span: &Span, whole: u64) -> Bar {
    let Percent(width) = Percent::of(span.ms, whole);
    // What took long enough to be told is seen, and nothing reaches beyond the end.
    let width = if span.ms == 0 { 0 } else { width.max(NARROWEST) };
    let Percent(at) = Percent::of(span.at_ms, whole);
    let name = if span.part == Part::Unknown { "runs" } else { span.part.name() };
    Bar {
        at: Percent(at.min(10_000 - width)),
        width: Percent(width),
        part: name,
        title: format!("{name} {}", took(span.ms)),
    }
}

/// Between three and six lines at round times.
fn ticks(whole: u64) -> Vec<Tick> {
    const ROUND: [u64; 16] = [
        10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000,
        3_600_000,
    ];
    let step = ROUND.into_iter().find(|step| whole / step <= 5).unwrap_or_else(|| whole.div_ceil(5).max(1));
    let time = |ms: u64| if ms < 1000 { format!("{ms} ms") } else { span(ms) };
    (1..)
        .map(|n| n * step)
        .take_while(|at| *at < whole)
        .map(|at| Tick { at: Percent::of(at, whole), time: time(at) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(part: Part, stage: Option<&str>, at_ms: u64, ms: u64) -> Span {
        Span { part, stage: stage.map(|stage| stage.parse().unwrap()), at_ms, ms }
    }

    #[test]
    fn stages_are_rows_and_what_is_short_is_seen() {
        let spans = vec![
            one(Part::Queue, None, 0, 500),
            one(Part::Start, Some("test"), 500, 1),
            one(Part::Script, Some("test"), 501, 499),
        ];
        let attempt = AttemptTimeline {
            job: "build".parse().unwrap(),
            attempt: 1,
            agent: "a".parse().unwrap(),
            over: true,
            spans,
        };
        let track = track(&attempt, 1000, 1000);
        let shown = |row: &Row| {
            let bars: Vec<String> =
                row.bars.iter().map(|bar| format!("{} {}+{}", bar.part, bar.at, bar.width)).collect();
            format!("{} {} {}", row.name, row.took, bars.join(", "))
        };
        assert_eq!(
            track.rows.iter().map(shown).collect::<Vec<_>>(),
            ["job  queue 0.00%+50.00%", "test 0.5 s start 50.00%+0.25%, script 50.10%+49.90%"]
        );
    }

    #[test]
    fn nothing_reaches_beyond_the_end() {
        let bar = bar(&one(Part::Report, None, 1000, 1), 1000);
        assert_eq!((bar.at.to_string(), bar.width.to_string()), ("99.75%".to_owned(), "0.25%".to_owned()));
    }

    #[test]
    fn lines_at_round_times() {
        for (whole, expect) in [(1, ""), (400, "100 ms 200 ms 300 ms"), (4_000, "1 s 2 s 3 s"), (70_000, "30 s 1 min")]
        {
            let got: Vec<String> = ticks(whole).into_iter().map(|tick| tick.time).collect();
            assert_eq!(got.join(" "), expect);
        }
    }
}
