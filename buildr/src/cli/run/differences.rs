//! What of a run on this machine would be otherwise on a farm: told before anything runs, so that nobody wonders later.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{PlannedJob, Variable};

use crate::executor::docker::is_own_platform;
use crate::git::TreeCopy;
use crate::plan::{USUAL_PLATFORM, foreign_image, inherited, other_labels};

/// What a plan is compared with.
#[derive(Clone, Copy)]
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
    /// The platform of the Docker daemon, where it tells it.
    pub(super) platform: Option<&'a str>,
}

/// The differences, a clause each.
pub(super) fn differences(here: &Here<'_>, jobs: &[PlannedJob]) -> Vec<String> {
    let mut all: Vec<String> = of_tree(here).into_iter().collect();
    if here.in_place {
        all.push("the tree itself is mounted: a build sees what git ignores and writes where you work".to_owned());
    }
    if here.in_place && jobs.len() > 1 {
        let what = "all jobs work in the one tree, one after the other: each sees what those before it left";
        all.push(what.to_owned());
    }
    let given: BTreeSet<&str> = here.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let missing: BTreeSet<&str> = asked(jobs).filter(|name| !given.contains(name)).collect();
    all.extend(list(missing, "the secret", "the secrets", "not given (--secret-file NAME=FILE, --secret NAME)"));
    let set: BTreeSet<&str> = here.more_environment.iter().map(|variable| variable.name.as_str()).collect();
    all.extend(list(set, "the variable", "the variables", "set by --env"));
    let own: Vec<&str> = here.own_environment.iter().map(|variable| variable.name.as_str()).collect();
    let passed: BTreeSet<&str> = patterns(jobs).flat_map(|globs| inherited(globs, own.iter().copied())).collect();
    all.extend(list(passed, "the variable", "the variables", "inherited from your environment"));
    all.extend(here.network.map(|network| format!("containers are in the network {network}")));
    if let Some(own) = here.platform.filter(|own| !is_own_platform(USUAL_PLATFORM, own)) {
        all.push(format!(
            "containers are of {own} here, and on a farm of {USUAL_PLATFORM} unless a stage says otherwise"
        ));
    }
    for job in jobs {
        let labels = foreign_image(job).map_or_else(|| job.labels.to_string(), |image| other_labels(job, image));
        if !labels.is_empty() {
            all.push(format!("{} runs here in place of an agent with {labels}", job.key));
        }
    }
    all.extend(of_platforms(here, jobs));
    all
}

/// What is for other platforms than this machine's.
fn of_platforms(here: &Here<'_>, jobs: &[PlannedJob]) -> Vec<String> {
    let mut by_platform: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for job in jobs {
        let platform = foreign_image(job).and_then(|image| image.platform.as_deref());
        let is_own = |platform: &&str| here.platform.is_some_and(|own| is_own_platform(platform, own));
        if let Some(platform) = platform.filter(|platform| !is_own(platform)) {
            by_platform.entry(platform).or_default().insert(job.key.as_str());
        }
    }
    let told = by_platform.into_iter().filter_map(|(platform, keys)| {
        let what = format!("for {platform}: run here if Docker on this machine can, and else skipped");
        list(keys, "the job", "the jobs", &what)
    });
    told.collect()
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
    use protocol::plan::{Image, SecretRequest, StagePlan};
    use protocol::{LabelSet, Plan};

    use super::*;

    fn job() -> PlannedJob {
        let mut stage = StagePlan::new("unit".parse().unwrap(), Vec::new());
        let secret =
            |name: &str| SecretRequest { variable: "X".to_owned(), from: name.to_owned(), file: false, secure: None };
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
            platform: Some("linux/amd64"),
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
        let arm = |key: &str, labels: &[&str]| {
            let image = Image { platform: Some("linux/arm64".to_owned()), ..Image::from("x") };
            let stage = StagePlan { image: Some(image), ..StagePlan::new("unit".parse().unwrap(), Vec::new()) };
            let job = PlannedJob::new(key.parse().unwrap(), Plan::new("x", vec![stage]));
            PlannedJob { labels: LabelSet::new(labels.iter().copied()).unwrap(), ..job }
        };
        let jobs = [job, arm("arm", &["platform=linux-arm64"]), arm("big", &["platform=linux-arm64", "big"])];
        let on_arm = Here { platform: Some("linux/arm64"), ..here };
        let last: Vec<String> = differences(&on_arm, &jobs).into_iter().rev().take(3).rev().collect();
        insta::assert_snapshot!(last.join("\n"), @"
        containers are of linux/arm64 here, and on a farm of linux/amd64 unless a stage says otherwise
        unit runs here in place of an agent with gpu
        big runs here in place of an agent with big
        ");
        insta::assert_snapshot!(differences(&here, &jobs).join("\n"), @"
        2 files are not committed
        the tree itself is mounted: a build sees what git ignores and writes where you work
        all jobs work in the one tree, one after the other: each sees what those before it left
        the secrets KEY and TOKEN are not given (--secret-file NAME=FILE, --secret NAME)
        the variable A is set by --env
        the variable HTTP_PROXY is inherited from your environment
        containers are in the network host
        unit runs here in place of an agent with gpu
        big runs here in place of an agent with big
        the jobs arm and big are for linux/arm64: run here if Docker on this machine can, and else skipped
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
