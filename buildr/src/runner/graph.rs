//! Which stage of a job waits for which, and which of them work on the workspace itself.

use std::collections::BTreeSet;

use protocol::{StageName, StagePlan};

use crate::closure::closed;

/// The edges between the stages of one job, by their places in the plan.
#[derive(Debug)]
pub(super) struct Graph {
    needs: Vec<BTreeSet<usize>>,
    /// All that must have ended before it, directly or not.
    before: Vec<BTreeSet<usize>>,
    /// Those that run, as far as the plan knows.
    planned: Vec<bool>,
}

/// Why a plan's stages cannot be gone through.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GraphError {
    /// It names what is not there.
    #[error("stage {stage} needs {need}, which is not in its job")]
    Unknown { stage: String, need: String },
    /// Nobody could begin.
    #[error("the stages {0} wait for each other")]
    Circle(String),
}

impl Graph {
    /// Reads the edges.
    ///
    /// # Errors
    /// When a plan names a stage that it does not have, or has a circle.
    pub(super) fn of(stages: &[StagePlan]) -> Result<Self, GraphError> {
        let mut needs = Vec::with_capacity(stages.len());
        for (place, stage) in stages.iter().enumerate() {
            let Some(named) = &stage.needs else {
                needs.push((0..place).collect::<BTreeSet<_>>());
                continue;
            };
            let find = |need: &StageName| {
                let found = stages.iter().position(|other| other.name == *need);
                found.ok_or_else(|| GraphError::Unknown { stage: stage.name.to_string(), need: need.to_string() })
            };
            needs.push(named.iter().map(find).collect::<Result<_, _>>()?);
        }
        let before = closed(&needs).map_err(|left| {
            let names: Vec<&str> = left.iter().map(|&place| stages[place].name.as_str()).collect();
            GraphError::Circle(names.join(", "))
        })?;
        let planned = stages.iter().map(|stage| stage.skip.is_none()).collect();
        Ok(Self { needs, before, planned })
    }

    /// What a stage waits for.
    pub(super) fn needs(&self, place: usize) -> impl Iterator<Item = usize> + '_ {
        self.needs[place].iter().copied()
    }

    /// All that has ended when it begins.
    pub(super) fn before(&self, place: usize) -> &BTreeSet<usize> {
        &self.before[place]
    }

    /// Whether one of two has ended when the other begins.
    pub(super) fn are_ordered(&self, one: usize, other: usize) -> bool {
        self.before[one].contains(&other) || self.before[other].contains(&one)
    }

    /// Whether no other stage may run at the same time: then it works on the workspace itself.
    pub(super) fn is_alone(&self, place: usize) -> bool {
        (0..self.needs.len()).all(|other| other == place || !self.planned[other] || self.are_ordered(place, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a b(a) c(-)`: what stands in brackets is needed, `-` nothing, and without them all before it; `!` is passed over.
    fn stages(text: &str) -> Vec<StagePlan> {
        let one = |word: &str| {
            let (name, needs) = word.strip_suffix(')').and_then(|word| word.split_once('(')).unzip();
            let name = name.unwrap_or(word);
            let needs = needs.map(|needs: &str| {
                needs.split(',').filter(|need| *need != "-").map(|need| need.parse().unwrap()).collect()
            });
            let skip = name.ends_with('!').then(|| "not today".to_owned());
            StagePlan { needs, skip, ..StagePlan::new(name.trim_end_matches('!').parse().unwrap(), Vec::new()) }
        };
        text.split_whitespace().map(one).collect()
    }

    #[track_caller]
    fn check(text: &str, alone: &str) {
        let stages = stages(text);
        let graph = Graph::of(&stages).unwrap();
        let got: Vec<&str> =
            (0..stages.len()).filter(|&place| graph.is_alone(place)).map(|place| stages[place].name.as_str()).collect();
        assert_eq!(got.join(" "), alone, "{text}");
    }

    #[test]
    fn who_works_on_the_workspace_itself() {
        check("a b c", "a b c");
        check("a b c(a) d", "a d");
        check("a b(-)", "");
        check("a b(a) c(a) d(b) e", "a e");
        // What does not run makes nobody else a copy.
        check("a b! c(a) d", "a c d");
        check("a(b) b(-)", "a b");
    }

    #[test]
    fn what_cannot_be_gone_through() {
        let refused = |text| Graph::of(&stages(text)).unwrap_err().to_string();
        assert_eq!(refused("a b(c) c"), "the stages b, c wait for each other");
        assert_eq!(refused("a b(z)"), "stage b needs z, which is not in its job");
    }

    #[test]
    fn what_has_ended_before() {
        let graph = Graph::of(&stages("a b(a) c(b) d(-) e")).unwrap();
        assert_eq!(graph.before(2), &BTreeSet::from([0, 1]));
        assert_eq!(graph.before(4), &BTreeSet::from([0, 1, 2, 3]));
        assert!(graph.are_ordered(0, 2) && !graph.are_ordered(2, 3));
        assert_eq!(graph.needs(2).collect::<Vec<_>>(), [1]);
    }
}
