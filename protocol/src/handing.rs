//! What a job receives of those that it needs, when several of them leave it the same: pure, without a clock.
//!
//! Of two jobs of which one waits for the other, the later one's word counts. Of two that wait for nothing of each other
//! none does: whose it would be is decided by the order in which they stand in a file, which nobody means.

use crate::course::{self, Member};
use crate::id::JobKey;
use crate::plan::{Clash, Kept, Variable};

/// Brings together what jobs hand on, by their places and in the order of the plan: of each name the last value, and the
/// names for which jobs that are not ordered have different ones.
#[must_use]
pub fn values(jobs: &[Member], handed: &[(usize, Vec<Variable>)]) -> (Vec<Variable>, Vec<Clash>) {
    let mut values: Vec<Variable> = Vec::new();
    for value in handed.iter().flat_map(|(_, values)| values) {
        values.retain(|earlier| earlier.name != value.name);
        values.push(value.clone());
    }
    let clashes = values.iter().filter_map(|value| clash(jobs, handed, &value.name)).collect();
    (values, clashes)
}

/// Two jobs that hand on different values for a name, of which nobody after both has the last word.
fn clash(jobs: &[Member], handed: &[(usize, Vec<Variable>)], name: &str) -> Option<Clash> {
    let mut said: Vec<(usize, &Variable)> = Vec::new();
    for (place, values) in handed {
        said.extend(values.iter().rfind(|value| value.name == name).map(|value| (*place, value)));
    }
    let later: Vec<Vec<usize>> = said.iter().map(|(place, _)| course::before(jobs, *place)).collect();
    let is_last = |place: &usize| !later.iter().any(|before| before.contains(place));
    let mut last = said.iter().filter(|(place, _)| is_last(place));
    let (one, first) = last.next()?;
    let (other, _) = last.find(|(_, value)| value.value != first.value)?;
    let (one, other) = (jobs.get(*one)?.key.clone(), jobs.get(*other)?.key.clone());
    Some(Clash { name: name.to_owned(), one, other })
}

/// Writes down which of the jobs that left archives waited for which others of them.
pub fn order(jobs: &[Member], kept: &mut [Kept]) {
    let owners: Vec<JobKey> = kept.iter().map(|kept| kept.job.clone()).collect();
    for kept in kept {
        let Some(place) = jobs.iter().position(|job| job.key == kept.job) else { continue };
        let before = course::before(jobs, place).into_iter().map(|place| jobs[place].key.clone());
        kept.after = Some(before.filter(|before| owners.contains(before)).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, PlannedJob};

    /// `a`, and `b` and `c` after it, and `d` after these.
    fn diamond() -> Vec<Member> {
        let job = |key: &str, needs: &[&str]| {
            let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
            let job = PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new()));
            Member::planned(&PlannedJob { needs, ..job })
        };
        vec![job("a", &[]), job("b", &["a"]), job("c", &["a"]), job("d", &["b", "c"])]
    }

    #[test]
    fn the_later_ones_word_counts_and_of_two_at_once_none() {
        let check = |handed: &[(usize, &str)], value: &str, clash: Option<(&str, &str)>| {
            let handed: Vec<_> = handed.iter().map(|(at, value)| (*at, vec![Variable::new("V", *value)])).collect();
            let (values, clashes) = values(&diamond(), &handed);
            assert_eq!(values, [Variable::new("V", value)]);
            let clashes: Vec<_> = clashes.iter().map(|clash| (clash.one.as_str(), clash.other.as_str())).collect();
            assert_eq!(clashes, Vec::from_iter(clash), "{handed:?}");
        };
        check(&[(0, "1"), (1, "2")], "2", None);
        check(&[(1, "1"), (2, "1")], "1", None);
        check(&[(1, "1"), (2, "2")], "2", Some(("b", "c")));
        check(&[(0, "0"), (1, "1"), (2, "2")], "2", Some(("b", "c")));
        // One that comes after both says which it is.
        check(&[(1, "1"), (2, "2"), (3, "3")], "3", None);
        assert_eq!(values(&diamond(), &[]), (Vec::new(), Vec::new()));
    }

    #[test]
    fn whose_archives_are_ordered() {
        let kept = |job: &str| Kept {
            job: job.parse().unwrap(),
            stage: "work".parse().unwrap(),
            files: 1,
            bytes: 1,
            sha256: String::new(),
            after: None,
        };
        let mut all = ["b", "c", "d", "elsewhere"].map(kept);
        order(&diamond(), &mut all);
        let after = all.map(|kept| kept.after.map(|after| after.iter().map(ToString::to_string).collect::<Vec<_>>()));
        assert_eq!(after, [Some(vec![]), Some(vec![]), Some(vec!["b".to_owned(), "c".to_owned()]), None]);
    }
}
