//! What is drawn: a box for each job, or for all cells of a matrix; in layers, each below all that it waits for.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{JobKey, PlannedJob, StagePlan};

use crate::plan::Planned;

/// All boxes, each after those that it waits for.
pub(super) struct Boxes(pub(super) Vec<JobBox>);

/// One job, or the cells of one matrix.
pub(super) struct JobBox {
    pub(super) title: String,
    /// What stands below the title: cells, labels, gates.
    pub(super) notes: Vec<String>,
    /// Stages; those of one row run side by side.
    pub(super) rows: Vec<Vec<StageBox>>,
    /// How many boxes at most lie one after the other before it.
    pub(super) layer: usize,
    /// The boxes that it waits for, but those that others of them wait for.
    pub(super) after: Vec<usize>,
}

impl JobBox {
    /// The rows; none where the title says it all.
    pub(super) fn told_rows(&self) -> &[Vec<StageBox>] {
        match self.rows.as_slice() {
            [row] if row.len() == 1 && row[0].name == self.title && !row[0].skipped => &[],
            rows => rows,
        }
    }
}

/// A stage of a job.
pub(super) struct StageBox {
    pub(super) name: String,
    /// Whether it is passed over.
    pub(super) skipped: bool,
}

impl Boxes {
    /// Arranges the jobs of a plan.
    pub(super) fn of(planned: &Planned) -> Self {
        let mut groups: Vec<Vec<&PlannedJob>> = Vec::new();
        for job in &planned.jobs {
            match groups.iter_mut().find(|group| belong_together(group[0], job)) {
                Some(group) => group.push(job),
                None => groups.push(vec![job]),
            }
        }
        let place: BTreeMap<&JobKey, usize> =
            groups.iter().enumerate().flat_map(|(at, group)| group.iter().map(move |job| (&job.key, at))).collect();
        let mut boxes: Vec<JobBox> = Vec::new();
        for group in &groups {
            let needs = group.iter().flat_map(|job| &job.needs).filter_map(|key| place.get(key).copied());
            let mut after: BTreeSet<usize> = needs.filter(|&before| before < boxes.len()).collect();
            if group[0].finally {
                after = (0..boxes.len()).collect();
            }
            let after = reduced(&after, &boxes);
            let layer = after.iter().map(|&before| boxes[before].layer + 1).max().unwrap_or(0);
            boxes.push(job_box(group, layer, after));
        }
        Self(boxes)
    }

    /// The boxes of each layer, by their numbers.
    pub(super) fn layers(&self) -> Vec<Vec<usize>> {
        let count = self.0.iter().map(|job| job.layer + 1).max().unwrap_or(0);
        let of = |layer: usize| (0..self.0.len()).filter(|&at| self.0[at].layer == layer).collect();
        (0..count).map(of).collect()
    }
}

/// Whether two jobs are cells or shards of the same stages.
fn belong_together(one: &PlannedJob, other: &PlannedJob) -> bool {
    let names = |job: &PlannedJob| job.plan.stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>();
    one.lane.is_some()
        && one.lane == other.lane
        && names(one) == names(other)
        && title(one) == title(other)
        && one.needs.len() == other.needs.len()
}

/// A job's key without its cell and shard.
fn title(job: &PlannedJob) -> &str {
    let key = job.key.as_str();
    let end = match (job.cell.is_empty(), job.lane.is_some()) {
        (false, _) => key.find(" ("),
        (true, true) => key.rfind(' '),
        (true, false) => None,
    };
    &key[..end.unwrap_or(key.len())]
}

fn job_box(group: &[&PlannedJob], layer: usize, after: Vec<usize>) -> JobBox {
    let first = group[0];
    let title = title(first);
    let mut notes: Vec<String> = group
        .iter()
        .filter_map(|job| job.key.as_str().strip_prefix(title))
        .map(|cell| cell.trim().trim_start_matches('(').trim_end_matches(')').to_owned())
        .filter(|cell| !cell.is_empty())
        .collect();
    if !first.labels.is_empty() {
        notes.push(format!("@{}", first.labels));
    }
    if first.gate.is_some() {
        notes.push("waits for a person".to_owned());
    }
    if let Some(turn) = &first.concurrency {
        notes.push(format!("one turn of {}", turn.group));
    }
    if let Some(downstream) = &first.downstream {
        let repo = downstream.repo.as_ref().map_or("this repository".to_owned(), |repo| repo.short_name().to_owned());
        notes.push(format!("a build of {repo}"));
    }
    JobBox { title: title.to_owned(), notes, rows: rows(&first.plan.stages), layer, after }
}

/// Without those that another one of them comes after.
fn reduced(after: &BTreeSet<usize>, boxes: &[JobBox]) -> Vec<usize> {
    let mut all: Vec<BTreeSet<usize>> = Vec::new();
    for job in boxes {
        let mut before: BTreeSet<usize> = job.after.iter().copied().collect();
        for &further in &job.after {
            before.extend(all[further].clone());
        }
        all.push(before);
    }
    after.iter().copied().filter(|at| !after.iter().any(|&other| all[other].contains(at))).collect()
}

/// Stages in rows, each below all that it waits for.
fn rows(stages: &[StagePlan]) -> Vec<Vec<StageBox>> {
    let mut rows: Vec<Vec<StageBox>> = Vec::new();
    let mut row_of: BTreeMap<&str, usize> = BTreeMap::new();
    for stage in stages {
        let row = match &stage.needs {
            None => rows.len(),
            Some(needs) => {
                let before = needs.iter().filter_map(|need| row_of.get(need.as_str()));
                before.max().map_or(0, |row| row + 1)
            }
        };
        row_of.insert(stage.name.as_str(), row);
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push(StageBox { name: stage.name.to_string(), skipped: stage.skip.is_some() });
    }
    rows
}
