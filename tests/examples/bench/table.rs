//! A run's rows as a person reads them: in a terminal, and in PERFORMANCE.md.

use serde::{Deserialize, Serialize};

use crate::row::{Goal, Row, Verdict};

/// One run of the bench.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its rows.
    pub(crate) rows: Vec<Row>,
    /// How often what is short was measured.
    pub(crate) rounds: u32,
    /// The machine, for people: no figure of another may be compared with these.
    pub(crate) machine: String,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
}

impl Run {
    /// A run that ends now.
    pub(crate) fn of(rows: Vec<Row>, rounds: u32) -> Self {
        Self { rows, rounds, machine: machine(), at_ms: buildr::process::clock::now_ms() }
    }

    /// All of it, for a terminal.
    pub(crate) fn table(&self) -> String {
        let head = ["", "ours", "floor", "ratio", "goal", "", "spread", "what"].map(str::to_owned);
        let mut cells = vec![head];
        cells.extend(self.rows.iter().map(cells_of));
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..8).map(width).collect();
        let mut text = String::new();
        for (place, row) in cells.iter().enumerate() {
            let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
            let Some(row) = place.checked_sub(1).and_then(|place| self.rows.get(place)) else { continue };
            for line in explained(row) {
                text.push_str(&format!("    {line}\n"));
            }
            if !row.parts.is_empty() {
                let parts: Vec<String> = row.parts.iter().map(|(part, ms)| format!("{part} {ms:.0}")).collect();
                text.push_str(&format!("    of which, in ms: {}\n", parts.join(", ")));
            }
        }
        text.push_str(&format!("\n{}; {} rounds\n", self.machine, self.rounds));
        text
    }

    /// The table of PERFORMANCE.md.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            "| | what | ours | floor | ratio | goal | | spread |\n|---|---|---|---|---|---|---|---|\n".to_owned();
        for row in &self.rows {
            let [name, ours, floor, ratio, goal, verdict, spread, what] = cells_of(row);
            let floor = row.floor_is.as_ref().map_or_else(String::new, |is| format!("{floor} ({is})"));
            let mut what = what;
            for line in explained(row) {
                what.push_str(&format!("<br>{line}"));
            }
            text.push_str(&format!(
                "| `{name}` | {what} | {ours} | {floor} | {ratio} | {goal} | {verdict} | {spread} |\n"
            ));
        }
        text
    }
}

/// One row in one line, while others are still to come.
pub(crate) fn line(row: &Row) -> String {
    let [name, ours, floor, ratio, goal, verdict, spread, what] = cells_of(row);
    let mut text = format!("{name}: {verdict}: {ours}");
    for (before, cell) in [("floor ", floor), ("ratio ", ratio), ("goal ", goal), ("spread ", spread)] {
        if !cell.is_empty() {
            text.push_str(&format!(", {before}{cell}"));
        }
    }
    text.push_str(&format!(" ({what})"));
    for line in explained(row) {
        text.push_str(&format!("\n    {line}"));
    }
    text
}

fn cells_of(row: &Row) -> [String; 8] {
    let amount = |figure: f64| format!("{} {}", short(figure), row.unit).trim_end().to_owned();
    let goal = match row.goal {
        Goal::AtMostTimes(times) => format!("≤ {times} ×"),
        Goal::AtLeastTimes(times) => format!("≥ {times} ×"),
        Goal::AtMost(most) => format!("≤ {}", amount(most)),
        Goal::AtLeast(least) => format!("≥ {}", amount(least)),
        Goal::Shown => String::new(),
    };
    let verdict = match row.verdict {
        Verdict::Met => "met",
        Verdict::NotMet => "not met",
        Verdict::Bounded => "bounded",
        Verdict::Shown => "shown",
        Verdict::Error => "error",
    };
    [
        row.name.clone(),
        if row.verdict == Verdict::Error { "–".to_owned() } else { amount(row.ours) },
        row.floor.map(amount).unwrap_or_default(),
        row.ratio.map(|ratio| format!("{} ×", short(ratio))).unwrap_or_default(),
        goal,
        verdict.to_owned(),
        row.quartiles
            .map(|[low, high]| format!("{} … {} of {}", short(low), short(high), row.samples))
            .unwrap_or_default(),
        row.what.clone(),
    ]
}

/// What else there is to say of a row, line by line.
fn explained(row: &Row) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(bound) = &row.bound {
        let times = row.floor.map(|floor| format!(", {} ×", short(bound.figure / floor))).unwrap_or_default();
        let place = if row.verdict == Verdict::Bounded {
            format!("; see \"{}\" in PERFORMANCE.md", topic(&row.name))
        } else {
            String::new()
        };
        lines.push(format!("bound: {} {}{times}: {}{place}", short(bound.figure), row.unit, bound.is));
    }
    lines.extend(row.note.iter().flat_map(|note| note.lines().map(str::to_owned)));
    lines
}

/// The topic of a row, and the heading in PERFORMANCE.md that explains its bound.
fn topic(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// A figure with three digits that mean something.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 0.1 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({}), Linux {}", model.unwrap_or("unknown").trim(), kernel.trim())
}
