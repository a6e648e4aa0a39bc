//! What of a run on this machine would be otherwise on a farm: told before anything runs, so that nobody wonders later.

use std::collections::BTreeSet;

use protocol::{PlannedJob, Variable};

use crate::git::TreeCopy;
use crate::plan::inherited;

/// What a plan is compared with.
pub(super) struct Here<'a> {
    /// The tree, where git knows one.
    pub(super) tree: &'a TreeCopy,
    /// Whether only what is committed is built.
    pub(super) committed: bool,
    /// Whether the tree itself is mounted.
    pub(super) in_place: bool,
    /// The names of the secrets that are given.
    pub(super) secrets: &'a [Variable],
    /// Variables that the command line sets.
    pub(super) more_environment: &'a [Variable],
    /// This process's own environment.
    pub(super) own_environment: &'a [Variable],
    /// The network that was asked for.
    pub(super) network: Option<&'a str>,
}

/// The differences, a clause each.
pub(super) fn differences(here: &Here<'_>, jobs: &[PlannedJob]) -> Vec<String> {
    let mut all: Vec<String> = of_tree(here).into_iter().collect();
    if here.in_place {
        all.push("the tree itself is mounted: a build sees what git ignores and writes where you work".to_owned());
    }
    let given: BTreeSet<&str> = here.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let missing: BTreeSet<&str> = asked(jobs).filter(|name| !given.contains(name)).collect();
    all.extend(list(missing, "the secret", "the secrets", "not given (--secret-file NAME=FILE, --secret NAME)"));
    let set: BTreeSet<&str> = here.more_environment.iter().map(|variable| variable.name.as_str()).collect();
    all.extend(list(set, "the variable", "the variables", "set by --env"));
    let own: Vec<&str> = here.own_environment.iter().map(|variable| variable.name.as_str()).collect();
    let passed: BTreeSet<&str> = patterns(jobs).flat_map(|globs| inherited(globs, own.iter().copied())).collect();
    all.extend(list(passed, "the variable", "the variables", "inherited from your environment"));
    for job in jobs {
        if let Some(network) = here.network.filter(|_| job.key == jobs[0].key) {
            all.push(format!("containers are in the network {network}"));
        }
        if !job.labels.to_string().is_empty() {
            all.push(format!("{} runs here in place of an agent with {}", job.key, job.labels));
        }
    }
    all
}

fn of_tree(here: &Here<'_>) -> Option<String> {
    let TreeCopy { commit, changed, .. } = here.tree;
    match (commit, *changed) {
        (None, _) => Some("the folder has no commit, which a farm would fetch".to_owned()),
        (Some(_), 0) => None,
        (Some(_), _) if here.committed => None,
        (Some(_), 1) => Some("1 file is not committed".to_owned()),
        (Some(_), many) => Some(format!("{many} files are not committed")),
    }
}

/// The names of all secrets that a plan asks for.
fn asked(jobs: &[PlannedJob]) -> impl Iterator<Item = &str> {
    jobs.iter().flat_map(|job| {
        let of_stages = job.plan.stages.iter().flat_map(|stage| &stage.secrets);
        let of_prepare = job.plan.prepare.iter().flat_map(|prepare| &prepare.secrets);
        of_stages.chain(of_prepare).map(|secret| secret.from.as_str())
    })
}

fn patterns(jobs: &[PlannedJob]) -> impl Iterator<Item = &Vec<String>> {
    jobs.iter().flat_map(|job| {
        job.plan
            .stages
            .iter()
            .map(|stage| stage.inherit.as_ref().unwrap_or(&job.plan.inherit))
            .chain([&job.plan.inherit])
    })
}

/// `the secret A is …`, `the secrets A, B and C are …`
fn list(names: BTreeSet<&str>, one: &str, many: &str, what: &str) -> Option<String> {
    const NAMED: usize = 5;
    let count = names.len();
    let mut names: Vec<String> = names.into_iter().take(NAMED).map(str::to_owned).collect();
    if count > NAMED {
        names.push(format!("{} more", count - NAMED));
    }
    let last = names.pop()?;
    Some(match names.as_slice() {
        [] => format!("{one} {last} is {what}"),
        names => format!("{many} {} and {last} are {what}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use protocol::plan::{SecretRequest, StagePlan};
    use protocol::{LabelSet, Plan};

    use super::*;

    fn job() -> PlannedJob {
        let mut stage = StagePlan::new("unit".parse().unwrap(), Vec::new());
        let secret = |name: &str| SecretRequest { variable: "X".to_owned(), from: name.to_owned(), file: false };
        stage.secrets = vec![secret("TOKEN"), secret("KEY"), secret("GIVEN")];
        stage.inherit = Some(vec!["HTTP_*".to_owned()]);
        PlannedJob::new("unit".parse().unwrap(), Plan::new("x", vec![stage]))
    }

    #[test]
    fn each_difference_is_a_clause() {
        let tree = TreeCopy { commit: Some("a".repeat(40).parse().unwrap()), ..TreeCopy::default() };
        let here = Here {
            tree: &tree,
            committed: false,
            in_place: false,
            secrets: &[],
            more_environment: &[],
            own_environment: &[],
            network: None,
        };
        let plain = PlannedJob::new("unit".parse().unwrap(), Plan::new("x", Vec::new()));
        assert_eq!(differences(&here, &[plain]), Vec::<String>::new());
        let tree = TreeCopy { changed: 2, ..tree.clone() };
        let own = [Variable::new("HTTP_PROXY", "x"), Variable::new("HOME", "/")];
        let here = Here {
            tree: &tree,
            in_place: true,
            secrets: &[Variable::new("GIVEN", "secret")],
            more_environment: &[Variable::new("A", "1")],
            own_environment: &own,
            network: Some("host"),
            ..here
        };
        let mut job = job();
        job.labels = LabelSet::new(["gpu"]).unwrap();
        insta::assert_snapshot!(differences(&here, &[job]).join("\n"), @"
        2 files are not committed
        the tree itself is mounted: a build sees what git ignores and writes where you work
        the secrets KEY and TOKEN are not given (--secret-file NAME=FILE, --secret NAME)
        the variable A is set by --env
        the variable HTTP_PROXY is inherited from your environment
        containers are in the network host
        unit runs here in place of an agent with gpu
        ");
        let here = Here { committed: true, in_place: false, ..here };
        assert!(!differences(&here, &[]).iter().any(|text| text.contains("committed")));
    }

    #[test]
    fn long_lists_are_cut() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let text = list(names.into_iter().collect(), "the x", "the xs", "there").unwrap();
        assert_eq!(text, "the xs a, b, c, d, e and 2 more are there");
        assert_eq!(list(BTreeSet::new(), "", "", ""), None);
    }
}
