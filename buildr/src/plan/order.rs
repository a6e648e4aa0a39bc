//! Which stage waits for which, and which of them are one job.
//!
//! A stage waits for all elements of `stages` before its own; `needs` stands in the place of that for one stage alone.

use std::collections::{BTreeMap, VecDeque};

use super::findings::Findings;
use crate::manifest::{Element, Manifest, Need, Stage};

/// Stages by their numbers in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Set(Vec<u64>);

impl Set {
    fn of(stages: usize) -> Self {
        Self(vec![0; stages.div_ceil(64)])
    }

    pub(super) fn insert(&mut self, stage: usize) {
        self.0[stage / 64] |= 1 << (stage % 64);
    }

    fn remove(&mut self, stage: usize) {
        self.0[stage / 64] &= !(1 << (stage % 64));
    }

    pub(super) fn contains(&self, stage: usize) -> bool {
        self.0[stage / 64] & (1 << (stage % 64)) != 0
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine & !theirs).collect())
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine & !theirs == 0)
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|&stage| self.contains(stage))
    }
}

/// Stages that are one job.
struct Job {
    /// Between which stages that are jobs of their own; none for such a one.
    place: Option<usize>,
    /// All that each of them waits for outside.
    waits: Set,
    set: Set,
    stages: Vec<usize>,
}

/// The order of a manifest's stages.
pub(super) struct Order<'m> {
    manifest: &'m Manifest,
    /// Of each stage, those that it waits for itself.
    before: Vec<Set>,
    /// Of each stage, those and all that these wait for.
    all_before: Vec<Set>,
    /// The stages, each after all that it waits for, otherwise in the order of `stages`.
    sequence: Vec<usize>,
}

impl<'m> Order<'m> {
    /// Finds the order; nothing when there is none, which is told.
    pub(super) fn of(manifest: &'m Manifest, findings: &mut Findings<'_>) -> Option<Self> {
        let count = manifest.stages.len();
        let mut earlier = Set::of(count);
        let mut before = vec![Set::of(count); count];
        let numbers: BTreeMap<&str, usize> =
            manifest.stages.iter().enumerate().map(|(number, stage)| (stage.name.value.as_str(), number)).collect();
        for element in &manifest.order {
            for &number in members(element) {
                before[number] = match &manifest.stages[number].needs {
                    None => earlier.clone(),
                    Some(needs) => needed(needs, &numbers, count),
                };
            }
            members(element).iter().for_each(|&number| earlier.insert(number));
        }
        let mut order = Self { manifest, before, all_before: Vec::new(), sequence: Vec::new() };
        if !order.sort() {
            order.tell_circle(findings);
            return None;
        }
        order.close();
        Some(order)
    }

    fn listed(&self) -> impl Iterator<Item = usize> {
        self.manifest.order.iter().flat_map(members).copied()
    }

    /// Whether there is a sequence at all.
    fn sort(&mut self) -> bool {
        let mut left: Vec<usize> = self.listed().collect();
        let mut done = Set::of(self.before.len());
        while !left.is_empty() {
            let waiting = left.len();
            left.retain(|&stage| {
                let ready = self.before[stage].is_within(&done);
                if ready {
                    done.insert(stage);
                    self.sequence.push(stage);
                }
                !ready
            });
            if left.len() == waiting {
                return false;
            }
        }
        true
    }

    fn close(&mut self) {
        self.all_before = self.before.clone();
        for &stage in &self.sequence {
            let mut all = self.before[stage].clone();
            for before in self.before[stage].iter() {
                all.add(&self.all_before[before]);
            }
            self.all_before[stage] = all;
        }
    }

    /// The stages, each after all that it waits for.
    pub(super) fn sequence(&self) -> &[usize] {
        &self.sequence
    }

    /// Those that a stage waits for itself.
    pub(super) fn before(&self, stage: usize) -> &Set {
        &self.before[stage]
    }

    /// Those that a stage waits for, however many lie between.
    pub(super) fn all_before(&self, stage: usize) -> &Set {
        &self.all_before[stage]
    }

    /// The stages of each job. A stage that is a job of its own is alone. Others are one job when no such stage stands
    /// between them in `stages` and they wait for the same stages of other jobs.
    pub(super) fn jobs(&self) -> Vec<Vec<usize>> {
        let mut segment = vec![0; self.before.len()];
        let mut current = 0;
        for element in &self.manifest.order {
            let border = members(element).iter().any(|&stage| is_job(&self.manifest.stages[stage]));
            if border {
                current += 1;
            }
            for &stage in members(element) {
                segment[stage] = current;
            }
            if border {
                current += 1;
            }
        }
        // What a job waits for comes before its first stage in the sequence, and so does the first stage of each job
        // that it waits for: edges between jobs lead back only, and close no circle.
        let mut jobs: Vec<Job> = Vec::new();
        for &stage in &self.sequence {
            let place = (!is_job(&self.manifest.stages[stage])).then_some(segment[stage]);
            let all = &self.all_before[stage];
            match jobs
                .iter_mut()
                .find(|job| place.is_some() && job.place == place && job.waits == all.without(&job.set))
            {
                Some(job) => {
                    job.set.insert(stage);
                    job.stages.push(stage);
                }
                None => {
                    let mut set = Set::of(self.before.len());
                    set.insert(stage);
                    jobs.push(Job { place, waits: all.clone(), set, stages: vec![stage] });
                }
            }
        }
        jobs.into_iter().map(|job| job.stages).collect()
    }

    /// Tells of the shortest circle.
    fn tell_circle(&self, findings: &mut Findings<'_>) {
        /// Enough to find a short one, and few enough to look at.
        const LOOKED_AT: usize = 64;
        let done = |stage: &usize| self.sequence.contains(stage);
        let needs = self.listed().filter(|stage| !done(stage)).flat_map(|stage| {
            let needs = self.manifest.stages[stage].needs.iter().flatten();
            needs.filter_map(move |need| Some((stage, need, self.number(need)?)))
        });
        let circles = needs.take(LOOKED_AT).filter_map(|(stage, need, number)| {
            let path = self.path(number, stage)?;
            Some((path.len(), need, path))
        });
        let Some((_, need, path)) = circles.min_by_key(|(length, _, _)| *length) else { return };
        let last = path.last().copied();
        let steps: Vec<String> = last
            .into_iter()
            .chain(path.iter().copied())
            .collect::<Vec<_>>()
            .windows(2)
            .map(|step| self.step(step[0], step[1]))
            .collect();
        let message = format!("these stages wait for each other: {}", steps.join(", "));
        let help = "take one of them out of `needs`, or give the one that only stands later in `stages` a `needs` too";
        findings.problem(need.name.span, message, help);
    }

    fn number(&self, need: &Need) -> Option<usize> {
        self.manifest.stages.iter().position(|stage| stage.name.value == need.name.value)
    }

    /// The shortest way from a stage to one that it waits for, both with it.
    fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut came: Vec<Option<usize>> = vec![None; self.before.len()];
        let mut queue = VecDeque::from([from]);
        let mut seen = Set::of(self.before.len());
        seen.insert(from);
        while let Some(stage) = queue.pop_front() {
            if stage == to {
                let mut path = vec![to];
                while let Some(&last) = path.last() {
                    if last == from {
                        break;
                    }
                    path.push(came[last]?);
                }
                path.reverse();
                return Some(path);
            }
            for before in self.before[stage].iter() {
                if !seen.contains(before) {
                    seen.insert(before);
                    came[before] = Some(stage);
                    queue.push_back(before);
                }
            }
        }
        None
    }

    fn step(&self, stage: usize, before: usize) -> String {
        let name = |stage: usize| &self.manifest.stages[stage].name.value;
        match &self.manifest.stages[stage].needs {
            Some(_) => format!("{} needs {}", name(stage), name(before)),
            None => format!("{} comes after {} in `stages`", name(stage), name(before)),
        }
    }

    /// Those of `before` that the others do not bring along anyway. `brings` says of which stages it is known that they
    /// begin only when all before them passed.
    pub(super) fn reduced(&self, before: &Set, brings: impl Fn(usize) -> bool) -> Set {
        let mut carried: Vec<Set> = self.before.clone();
        for &stage in &self.sequence {
            for further in self.before[stage].iter().filter(|&further| brings(further)) {
                let theirs = carried[further].clone();
                carried[stage].add(&theirs);
            }
        }
        let mut reduced = before.clone();
        for through in before.iter().filter(|&stage| brings(stage)) {
            carried[through].iter().for_each(|further| reduced.remove(further));
        }
        reduced
    }
}

/// The stages of an element.
pub(super) fn members(element: &Element) -> &[usize] {
    match element {
        Element::One(stage) => std::slice::from_ref(stage),
        Element::Group(stages) => stages,
    }
}

/// Whether a stage is a job of its own, or one per cell.
pub(super) fn is_job(stage: &Stage) -> bool {
    stage.matrix.is_some()
        || stage.parallel.is_some()
        || stage.agent.is_some()
        || stage.platform.is_some()
        || stage.manual.is_some()
        || stage.concurrency.is_some()
        || stage.trigger.is_some()
}

/// Those that exist: that all do was seen when the manifest was read.
fn needed(needs: &[Need], numbers: &BTreeMap<&str, usize>, count: usize) -> Set {
    let mut set = Set::of(count);
    needs.iter().filter_map(|need| numbers.get(need.name.value.as_str())).for_each(|&number| set.insert(number));
    set
}
