//! `--from`, `--only` and `--pipeline`: which stages of a build are run, and what is taken over from an earlier run for
//! those that are not.
//!
//! A stage that is not asked for does not run. What a stage that runs needs of it are its artifacts: they are taken
//! from the earlier run that `.buildr-out/` holds, and where they are not there, the stage that makes them runs too.
//! What a stage writes without `artifacts` is nowhere, and that is told.

use std::collections::{BTreeSet, HashMap, HashSet};

use protocol::plan::{KeepWhen, Kept, PlannedJob, StagePlan};
use protocol::{JobKey, StageName};

use crate::closure::closed;

/// Which stages are run.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct SelectionArgs {
    /// Run this stage and all that waits for it; what stands before it is taken over from the last run (artifacts), or
    /// left out
    #[arg(long, value_name = "STAGE", conflicts_with = "only")]
    pub(super) from: Option<String>,

    /// Run only these stages; the artifacts that they need are taken over from the last run, or made first
    #[arg(long, value_name = "STAGE[,STAGE]", value_delimiter = ',')]
    pub(super) only: Vec<String>,

    /// Run only this pipeline of several (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(super) pipeline: Vec<String>,
}

/// What came of a selection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    /// What is restored before a job's first stage.
    pub(super) kept: HashMap<JobKey, Vec<Kept>>,
    /// What a person should know, as clauses.
    pub(super) notes: Vec<String>,
}

impl SelectionArgs {
    /// Whether a person asked for this job by name: then its gate is open.
    pub(super) fn names(&self, job: &PlannedJob) -> bool {
        self.only.iter().chain(&self.from).any(|name| !meant(std::slice::from_ref(job), name).is_empty())
    }

    /// Whether anything is left out.
    pub(super) fn is_partial(&self) -> bool {
        self.from.is_some() || !self.only.is_empty()
    }

    /// Leaves of `jobs` only what is asked for. `earlier` is what the last run kept.
    ///
    /// # Errors
    /// A sentence that names what there is, when something is asked for that is not there.
    pub(super) fn apply(
        &self,
        jobs: &mut Vec<PlannedJob>,
        earlier: &[Kept],
        skipped: &[(StageName, String)],
    ) -> Result<Selected, String> {
        self.narrow_to_pipelines(jobs)?;
        if !self.is_partial() {
            return Ok(Selected::default());
        }
        let graph = Graph::of(jobs);
        let mut wanted = HashSet::new();
        for name in self.only.iter().chain(&self.from) {
            let found = graph.named(jobs, name);
            if found.is_empty() {
                return Err(not_there(name, jobs, skipped));
            }
            // Whoever asks for it alone does not want to hear that all is well.
            let mut reasons = found.iter().map(|&node| graph.stage(jobs, node).skip.as_deref());
            let runs = self.from.is_some() || reasons.clone().any(|reason| reason.is_none());
            if let Some(reason) = reasons.next().flatten().filter(|_| !runs) {
                return Err(does_not_run(name, reason));
            }
            wanted.extend(found);
        }
        if self.from.is_some() {
            let after: Vec<usize> = (0..graph.nodes.len())
                .filter(|node| graph.before[*node].iter().any(|before| wanted.contains(before)))
                .collect();
            wanted.extend(after);
        }
        let mut selected = Selected::default();
        graph.complete(jobs, &mut wanted, earlier, &mut selected);
        graph.cut(jobs, &wanted);
        Ok(selected)
    }

    fn narrow_to_pipelines(&self, jobs: &mut Vec<PlannedJob>) -> Result<(), String> {
        if self.pipeline.is_empty() {
            return Ok(());
        }
        let of = |job: &PlannedJob| job.plan.pipeline.clone().unwrap_or_else(|| "default".to_owned());
        let there: BTreeSet<String> = jobs.iter().map(of).collect();
        if let Some(name) = self.pipeline.iter().find(|name| !there.contains(*name)) {
            let there = there.into_iter().collect::<Vec<_>>().join(", ");
            return Err(format!("there is no pipeline {name:?} in this build; there are: {there}"));
        }
        jobs.retain(|job| self.pipeline.contains(&of(job)));
        let kept: HashSet<JobKey> = jobs.iter().map(|job| job.key.clone()).collect();
        jobs.iter_mut().for_each(|job| job.needs.retain(|need| kept.contains(need)));
        Ok(())
    }
}

/// The stages, by their jobs, that a person means by a name: a stage's, else a job's, else `JOB/STAGE`. A job of
/// several stages often has the name of its first.
fn meant<'p>(jobs: &'p [PlannedJob], name: &str) -> Vec<(&'p PlannedJob, &'p StagePlan)> {
    let all = || jobs.iter().flat_map(|job| job.plan.stages.iter().map(move |stage| (job, stage)));
    let by_stage: Vec<_> = all().filter(|(_, stage)| stage.name.as_str() == name).collect();
    if !by_stage.is_empty() {
        return by_stage;
    }
    all().filter(|(job, stage)| job.key.as_str() == name || format!("{}/{}", job.key, stage.name) == name).collect()
}

fn not_there(name: &str, jobs: &[PlannedJob], skipped: &[(StageName, String)]) -> String {
    if let Some((stage, reason)) = skipped.iter().find(|(stage, _)| stage.as_str() == name) {
        return does_not_run(stage.as_str(), reason);
    }
    let mut there: Vec<&str> = Vec::new();
    for stage in jobs.iter().flat_map(|job| &job.plan.stages) {
        if !there.contains(&stage.name.as_str()) {
            there.push(stage.name.as_str());
        }
    }
    let near = there.iter().map(|other| (strsim::damerau_levenshtein(name, other), other)).min();
    match near {
        Some((far, near)) if far <= 2 => format!("there is no stage {name:?}; did you mean {near:?}?"),
        _ => format!("there is no stage {name:?}; there are: {}", there.join(", ")),
    }
}

fn does_not_run(stage: &str, reason: &str) -> String {
    format!("the stage {stage} does not run in this build: {reason}; --as plans it for another occasion")
}

/// The stages of all jobs, and what stands before each.
struct Graph {
    /// Each stage's job and its place there.
    nodes: Vec<(usize, usize)>,
    /// All that stands before each stage, at any distance.
    before: Vec<BTreeSet<usize>>,
}

impl Graph {
    fn of(jobs: &[PlannedJob]) -> Self {
        let nodes: Vec<(usize, usize)> = jobs
            .iter()
            .enumerate()
            .flat_map(|(job, planned)| (0..planned.plan.stages.len()).map(move |stage| (job, stage)))
            .collect();
        let of_job =
            |wanted: usize| -> Vec<usize> { (0..nodes.len()).filter(|node| nodes[*node].0 == wanted).collect() };
        let mut direct: Vec<BTreeSet<usize>> = Vec::new();
        for &(job, stage) in &nodes {
            let planned = &jobs[job];
            let mut needs = BTreeSet::new();
            for node in of_job(job) {
                let other = nodes[node].1;
                let is_before = match &planned.plan.stages[stage].needs {
                    None => other < stage,
                    Some(names) => names.contains(&planned.plan.stages[other].name),
                };
                if is_before {
                    needs.insert(node);
                }
            }
            for (other, it) in jobs.iter().enumerate() {
                let is_before = planned.needs.contains(&it.key) || planned.finally && !it.finally;
                if is_before && other != job {
                    needs.extend(of_job(other));
                }
            }
            direct.push(needs);
        }
        // What waits for each other never runs, and is said so where it would.
        let before = closed(&direct).unwrap_or(direct);
        Self { nodes, before }
    }

    fn stage<'p>(&self, jobs: &'p [PlannedJob], node: usize) -> &'p StagePlan {
        let (job, stage) = self.nodes[node];
        &jobs[job].plan.stages[stage]
    }

    fn named(&self, jobs: &[PlannedJob], name: &str) -> Vec<usize> {
        let meant = meant(jobs, name);
        let is_it = |&node: &usize| {
            let (job, stage) = self.nodes[node];
            let stage = &jobs[job].plan.stages[stage];
            meant.iter().any(|(of, it)| of.key == jobs[job].key && it.name == stage.name)
        };
        (0..self.nodes.len()).filter(is_it).collect()
    }

    /// What the wanted stages need of the others: from the earlier run, or made now.
    fn complete(&self, jobs: &[PlannedJob], wanted: &mut HashSet<usize>, earlier: &[Kept], selected: &mut Selected) {
        let find = |node: usize| {
            let (job, stage) = self.nodes[node];
            let (key, stage) = (&jobs[job].key, &jobs[job].plan.stages[stage].name);
            earlier.iter().find(|kept| kept.job == *key && kept.stage == *stage)
        };
        let plan = |node: usize| &jobs[self.nodes[node].0].plan.stages[self.nodes[node].1];
        let leaves = |node: usize| {
            let artifacts = plan(node).artifacts.as_ref();
            artifacts.is_some_and(|it| it.when != KeepWhen::Failure) && plan(node).skip.is_none()
        };
        // What is to be made may need more.
        loop {
            let needed = wanted.iter().flat_map(|node| &self.before[*node]).copied();
            let missing: Vec<usize> =
                needed.filter(|node| !wanted.contains(node) && leaves(*node) && find(*node).is_none()).collect();
            if missing.is_empty() {
                break;
            }
            wanted.extend(missing);
        }
        let mut nodes: Vec<usize> = wanted.iter().copied().collect();
        nodes.sort_unstable();
        let mut left_out = BTreeSet::new();
        for node in nodes {
            let (job, _) = self.nodes[node];
            for &other in self.before[node].iter().filter(|other| !wanted.contains(other)) {
                if let Some(kept) = find(other).filter(|_| leaves(other)) {
                    let of_job = selected.kept.entry(jobs[job].key.clone()).or_default();
                    if !of_job.contains(kept) {
                        of_job.push(kept.clone());
                    }
                } else if self.nodes[other].0 == job {
                    left_out.insert(plan(other).name.as_str());
                }
            }
        }
        if !left_out.is_empty() {
            let names = left_out.into_iter().collect::<Vec<_>>().join(", ");
            selected.notes.push(format!("left out, and what it writes is missing, for it keeps no artifacts: {names}"));
        }
    }

    /// Takes out all stages that are not wanted, and jobs without any; what was after them is after what they needed.
    fn cut(&self, jobs: &mut Vec<PlannedJob>, wanted: &HashSet<usize>) {
        let is_wanted = |job: usize, stage: usize| wanted.iter().any(|node| self.nodes[*node] == (job, stage));
        let all: Vec<PlannedJob> = jobs.clone();
        let stays: HashMap<&JobKey, bool> = all
            .iter()
            .enumerate()
            .map(|(at, job)| (&job.key, (0..job.plan.stages.len()).any(|stage| is_wanted(at, stage))))
            .collect();
        for (at, job) in jobs.iter_mut().enumerate() {
            let old = &all[at].plan.stages;
            let left =
                |name: &StageName| old.iter().position(|it| it.name == *name).is_some_and(|it| is_wanted(at, it));
            for stage in &mut job.plan.stages {
                if let Some(needs) = &mut stage.needs {
                    let of = |name: &StageName| match old.iter().position(|it| it.name == *name) {
                        Some(position) => old[position]
                            .needs
                            .clone()
                            .unwrap_or_else(|| old[..position].iter().map(|it| it.name.clone()).collect()),
                        None => Vec::new(),
                    };
                    *needs = through(needs, left, of);
                }
            }
            job.plan.stages.retain(|stage| left(&stage.name));
            let of =
                |key: &JobKey| all.iter().find(|job| job.key == *key).map_or_else(Vec::new, |job| job.needs.clone());
            job.needs = through(&job.needs, |key| stays.get(key).copied().unwrap_or(false), of);
        }
        jobs.retain(|job| !job.plan.stages.is_empty());
    }
}

/// What is needed when those that do not stay are looked through.
fn through<K: Clone + PartialEq + std::hash::Hash + Eq>(
    needs: &[K],
    stays: impl Fn(&K) -> bool,
    of: impl Fn(&K) -> Vec<K>,
) -> Vec<K> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let mut next: Vec<K> = needs.iter().rev().cloned().collect();
    while let Some(need) = next.pop() {
        if !seen.insert(need.clone()) {
            continue;
        }
        if stays(&need) {
            found.push(need);
        } else {
            next.extend(of(&need).into_iter().rev());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use protocol::Plan;
    use protocol::plan::Artifacts;

    use super::*;

    /// `stage`, `stage!` (keeps artifacts), `stage<need,need`.
    fn stage(text: &str) -> StagePlan {
        let (text, needs) = text.split_once('<').map_or((text, None), |(own, needs)| (own, Some(needs)));
        let mut plan = StagePlan::new(text.trim_end_matches('!').parse().unwrap(), Vec::new());
        plan.needs =
            needs.map(|needs| needs.split(',').filter(|it| !it.is_empty()).map(|it| it.parse().unwrap()).collect());
        plan.artifacts = text.ends_with('!').then(|| Artifacts {
            paths: vec!["out".to_owned()],
            exclude: Vec::new(),
            when: KeepWhen::Success,
            expire_ms: None,
        });
        plan
    }

    fn job(key: &str, stages: &str, needs: &[&str]) -> PlannedJob {
        let plan = Plan::new("x", stages.split(' ').map(stage).collect());
        let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), plan) }
    }

    fn kept(job: &str, stage: &str) -> Kept {
        let (job, stage) = (job.parse().unwrap(), stage.parse().unwrap());
        Kept { job, stage, files: 1, bytes: 1, sha256: "ab".to_owned(), after: None }
    }

    /// The jobs with their stages and edges, then what is restored, then the notes.
    fn applied(selection: &SelectionArgs, jobs: &[PlannedJob], earlier: &[Kept]) -> String {
        let mut jobs = jobs.to_vec();
        let skipped = [("ship".parse().unwrap(), "when branch main (it is x)".to_owned())];
        let selected = match selection.apply(&mut jobs, earlier, &skipped) {
            Ok(selected) => selected,
            Err(error) => return error,
        };
        let jobs = jobs.iter().map(|job| {
            let stages = job.plan.stages.iter().map(|stage| match &stage.needs {
                Some(needs) => {
                    format!("{}<{}", stage.name, needs.iter().map(StageName::as_str).collect::<Vec<_>>().join(","))
                }
                None => stage.name.to_string(),
            });
            let needs = job.needs.iter().map(JobKey::as_str).collect::<Vec<_>>().join(",");
            let kept = selected.kept.get(&job.key).into_iter().flatten().map(|kept| format!("+{}", kept.stage));
            format!("{}({}; {}{})", job.key, stages.collect::<Vec<_>>().join(" "), needs, kept.collect::<String>())
        });
        let jobs = jobs.collect::<Vec<_>>().join(" ");
        selected.notes.iter().fold(jobs, |text, note| format!("{text} | {note}"))
    }

    fn only(names: &str) -> SelectionArgs {
        SelectionArgs { only: names.split(',').map(str::to_owned).collect(), ..SelectionArgs::default() }
    }

    fn from(name: &str) -> SelectionArgs {
        SelectionArgs { from: Some(name.to_owned()), ..SelectionArgs::default() }
    }

    const LOST: &str = "left out, and what it writes is missing, for it keeps no artifacts:";

    #[test]
    fn in_one_job() {
        let jobs = [job("build", "build unit<build lint<build docs<unit package", &[])];
        let check = |selection: &SelectionArgs, expect: &str| assert_eq!(applied(selection, &jobs, &[]), expect);
        check(&SelectionArgs::default(), "build(build unit<build lint<build docs<unit package; )");
        check(&from("unit"), &format!("build(unit< docs<unit package; ) | {LOST} build, lint"));
        check(&only("docs"), &format!("build(docs<; ) | {LOST} build, unit"));
        check(&only("build,docs"), &format!("build(build docs<build; ) | {LOST} unit"));
        check(&only("build,unit,lint,docs,package"), "build(build unit<build lint<build docs<unit package; )");
    }

    #[test]
    fn artifacts_are_taken_over_or_made() {
        let jobs = [job("build", "fetch build! unit", &[]), job("ship", "ship", &["build"])];
        let check = |selection: &SelectionArgs, earlier: &[Kept], expect: &str| {
            assert_eq!(applied(selection, &jobs, earlier), expect);
        };
        check(
            &from("unit"),
            &[kept("build", "build")],
            &format!("build(unit; +build) ship(ship; build+build) | {LOST} fetch"),
        );
        check(&only("ship"), &[kept("build", "build")], "ship(ship; +build)");
        check(&only("ship"), &[kept("other", "build")], &format!("build(build; ) ship(ship; build) | {LOST} fetch"));
    }

    #[test]
    fn jobs_that_are_left_out_keep_the_order() {
        let jobs = [
            job("build", "build", &[]),
            job("unit (os=a)", "unit", &["build"]),
            job("unit (os=b)", "unit", &["build"]),
            job("ship", "ship", &["unit (os=a)", "unit (os=b)"]),
            PlannedJob { finally: true, ..job("finally", "finally", &[]) },
        ];
        let check = |selection: &SelectionArgs, expect: &str| assert_eq!(applied(selection, &jobs, &[]), expect);
        check(&only("build,ship"), "build(build; ) ship(ship; build)");
        check(&only("unit (os=b)"), "unit (os=b)(unit; )");
        check(
            &from("unit"),
            "unit (os=a)(unit; ) unit (os=b)(unit; ) ship(ship; unit (os=a),unit (os=b)) finally(finally; )",
        );
    }

    #[test]
    fn what_is_not_there() {
        let jobs = [job("build", "build unit", &[])];
        let check = |selection: &SelectionArgs, expect: &str| assert_eq!(applied(selection, &jobs, &[]), expect);
        check(&from("unti"), "there is no stage \"unti\"; did you mean \"unit\"?");
        check(&only("build,quite-else"), "there is no stage \"quite-else\"; there are: build, unit");
        let skipped =
            "the stage ship does not run in this build: when branch main (it is x); --as plans it for another occasion";
        check(&only("ship"), skipped);
        let mut jobs = [job("build", "build ship", &[])];
        jobs[0].plan.stages[1].skip = Some("when branch main (it is x)".to_owned());
        assert_eq!(applied(&only("build,ship"), &jobs, &[]), skipped);
        assert!(applied(&from("ship"), &jobs, &[]).starts_with("build(ship; )"));
        let pipeline = SelectionArgs { pipeline: vec!["web".to_owned()], ..SelectionArgs::default() };
        check(&pipeline, "there is no pipeline \"web\" in this build; there are: default");
    }

    #[test]
    fn pipelines() {
        let of = |key: &str, name: Option<&str>| {
            let mut job = job(key, "test", &[]);
            job.plan.pipeline = name.map(str::to_owned);
            job
        };
        let jobs = [of("web/test", Some("web")), of("api/test", Some("api")), of("test", None)];
        let pipelines = |names: &[&str]| SelectionArgs {
            pipeline: names.iter().map(|&name| name.to_owned()).collect(),
            ..SelectionArgs::default()
        };
        assert_eq!(applied(&pipelines(&["web", "default"]), &jobs, &[]), "web/test(test; ) test(test; )");
    }
}
