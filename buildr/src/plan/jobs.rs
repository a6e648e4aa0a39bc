//! The jobs of one file: their keys, what they wait for, what their agents must have, and what they do.

use std::collections::BTreeMap;

use protocol::plan::{BuildPlan, Cell, Lane, MAX_PLAN_BYTES, RunOn, Schedule, SkippedStage, WORKSPACE};
use protocol::{JobKey, Plan, PlannedJob, StageName, StagePlan, Variable};

use super::cell::{File, Variant, asks, axes_at, variants};
use super::findings::Findings;
use super::keys::{self, Keys, ONLY_JOB};
use super::order::{Order, Set, is_job};
use super::pieces::{concurrency, downstream, gate, of_cell, of_shard, repo, variable_of};
use super::scope::{Empty, Scope, shown};
use super::when::{Place, Verdict, either, verdict};
use super::{matrix, stage};
use crate::manifest::{Manifest, Span, Stage};

/// The image of a manifest that names none.
const DEFAULT_IMAGE: &str = "ubuntu:latest";

/// The jobs of one file.
pub(super) struct Jobs<'m> {
    pub(super) file: File<'m>,
    pub(super) order: Order<'m>,
    pub(super) pipeline: Option<&'m str>,
    /// Values that were given and that it does not ask for.
    pub(super) more_inputs: &'m [Variable],
}

/// What becomes of a file, as far as it was made.
#[derive(Default)]
pub(super) struct Made {
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) build: BuildPlan,
    /// Whether there were more jobs than a build may have, or more bytes than a plan; then not all of it is here.
    pub(super) cut: bool,
    /// How long it is on the wire, about.
    pub(super) bytes: usize,
}

/// One cell of the top level's matrix, or the whole file.
struct InCell {
    cell: Vec<Cell>,
    /// What all its jobs have.
    plan: Plan,
    lane: Option<Lane>,
    /// Of each stage, where it runs.
    variants: Vec<Vec<Variant>>,
    /// Of each stage, the jobs that it is in, as far as they were made.
    placed: Vec<Vec<JobKey>>,
}

impl InCell {
    /// Whether a stage runs anywhere.
    fn runs(&self, number: usize) -> bool {
        self.variants[number].iter().any(|variant| variant.skipped().is_none())
    }

    /// On what ends of what came before a stage that is no job of its own runs; nothing when it does not.
    fn run_on(&self, number: usize) -> Option<RunOn> {
        match &self.variants[number].first()?.verdict {
            Verdict::Runs(run_on) => Some(*run_on),
            Verdict::Skipped(_) => None,
        }
    }
}

/// Where it is written down.
struct Desk<'d, 'm> {
    keys: &'d mut Keys,
    findings: &'d mut Findings<'m>,
    made: Made,
}

impl Jobs<'_> {
    /// Makes them all, up to `most`.
    pub(super) fn make(&self, most: usize, keys: &mut Keys, findings: &mut Findings<'_>) -> Made {
        let manifest = self.file.manifest;
        let cells = match &manifest.matrix {
            None => vec![Vec::new()],
            Some(matrix) => matrix::cells(matrix, self.file.facts, findings),
        };
        let mut desk = Desk { keys, findings, made: Made::default() };
        let groups = self.order.jobs();
        let mut first: Option<(Vec<Cell>, Plan)> = None;
        for cell in cells {
            let here = self.cell(cell, &mut desk);
            first.get_or_insert_with(|| (here.cell.clone(), here.plan.clone()));
            if !self.jobs(&groups, here, most, &mut desk) {
                desk.made.cut = true;
                return desk.made;
            }
        }
        if let (Some(finally), Some((cell, plan))) = (&manifest.finally, first) {
            self.finally(finally, &cell, plan, &mut desk);
        }
        self.build(&mut desk);
        desk.made
    }

    /// The jobs of one cell; whether there is no more of them than there may be.
    fn jobs(&self, groups: &[Vec<usize>], mut here: InCell, most: usize, desk: &mut Desk<'_, '_>) -> bool {
        for group in groups {
            if self.file.judge.clock.is_over() {
                return false;
            }
            let (before, skipped) = (desk.made.jobs.len(), desk.made.build.skipped.len());
            match group.as_slice() {
                [only] if is_job(&self.file.manifest.stages[*only]) => self.own_jobs(*only, &here, desk),
                stages => self.shared_job(stages, groups.len() == 1, &here, desk),
            }
            let new: Vec<JobKey> = desk.made.jobs[before..].iter().map(|job| job.key.clone()).collect();
            for &number in group {
                if here.runs(number) {
                    here.placed[number].clone_from(&new);
                }
            }
            let written = (&desk.made.jobs[before..], &desk.made.build.skipped[skipped..]);
            desk.made.bytes += super::length(&written);
            if desk.made.jobs.len() > most || desk.made.bytes > MAX_PLAN_BYTES {
                return false;
            }
        }
        true
    }

    fn name(&self, name: &str) -> String {
        match self.pipeline {
            Some(pipeline) => format!("{pipeline}/{name}"),
            None => name.to_owned(),
        }
    }

    fn cell(&self, cell: Vec<Cell>, desk: &mut Desk<'_, '_>) -> InCell {
        let manifest = self.file.manifest;
        let findings = &mut *desk.findings;
        let variants = variants(&self.file, &self.order, &cell, findings);
        let idle = variants.iter().flatten().all(|variant| variant.skipped().is_some());
        let scope = self.file.scope(&cell, self.file.top_axes, idle);
        let image = match &manifest.image {
            None => DEFAULT_IMAGE.into(),
            Some(image) => stage::image(image, None, &scope, findings),
        };
        let mut environment = stage::variables(&manifest.environment.vars, &scope, findings);
        environment.extend(of_cell(&cell));
        let workspace = manifest.workspace.as_ref();
        let plan = Plan {
            environment,
            inputs: stage::last_of_each(self.more_inputs.iter().chain(self.file.inputs).cloned().collect()),
            inherit: manifest.environment.inherit.as_ref().map(stage::inherit).unwrap_or_default(),
            prepare: manifest.prepare.as_ref().map(|it| stage::prepare(it, manifest, &scope, findings)),
            services: manifest.services.iter().map(|it| stage::service(it, &scope, findings)).collect(),
            workspace: workspace
                .map_or(WORKSPACE.to_owned(), |it| scope.text(it, Empty::NoPartOf("a folder"), findings)),
            clone: manifest.clone.clone(),
            repos: manifest.repos.iter().filter_map(|it| repo(it, &scope, findings)).collect(),
            pipeline: self.pipeline.map(ToOwned::to_owned),
            fail_fast: manifest.fail_fast.unwrap_or(true),
            stage_parallelism: manifest.stage_parallelism,
            ..Plan::new(image, Vec::new())
        };
        let lane = manifest.matrix.as_ref().filter(|matrix| matrix.max.is_some() || matrix.fail_fast.is_some());
        let lane = lane.map(|matrix| self.lane("matrix", matrix.max, matrix.fail_fast));
        InCell { cell, plan, lane, variants, placed: vec![Vec::new(); manifest.stages.len()] }
    }

    fn lane(&self, name: &str, max: Option<u32>, fail_fast: Option<bool>) -> Lane {
        Lane { name: self.name(name), max, fail_fast: fail_fast.unwrap_or(false) }
    }

    /// One job of stages that are none of their own. `only`: the file has no other.
    fn shared_job(&self, stages: &[usize], only: bool, here: &InCell, desk: &mut Desk<'_, '_>) {
        let manifest = self.file.manifest;
        let mut plans = Vec::new();
        for (at, &number) in stages.iter().enumerate() {
            let scope = self.file.scope(&here.cell, self.file.top_axes, !here.runs(number));
            let mut plan = stage::stage(&manifest.stages[number], manifest, &scope, desk.findings);
            plan.run_on = here.run_on(number).unwrap_or_default();
            plan.skip = here.variants[number].first().and_then(Variant::skipped).map(ToOwned::to_owned);
            plan.needs = self.needs_within(number, &stages[..at], here);
            plans.push(plan);
        }
        let Some(run_on) = stages.iter().filter_map(|&number| here.run_on(number)).reduce(either) else {
            return desk.made.build.skipped.extend(plans.into_iter().map(|plan| self.skipped(plan, &here.cell)));
        };
        let name = |number: &usize| manifest.stages[*number].name.value.as_str();
        let name = match stages {
            _ if only => ONLY_JOB.to_owned(),
            [first, .., last] => format!("{}..{}", name(first), name(last)),
            one => one.iter().map(name).collect(),
        };
        let key = desk.keys.key(&self.name(&name), &here.cell, None);
        let scope = self.file.scope(&here.cell, self.file.top_axes, false);
        let mut job = self.job(key, &manifest.stages[stages[0]], here, None, &scope, desk.findings);
        job.plan.stages = plans;
        job.needs = self.needs(stages.iter().copied().filter(|&number| here.runs(number)), stages, here);
        job.run_on = after(run_on, &job.needs);
        desk.made.jobs.push(job);
    }

    /// What a stage waits for in its job, where that is not simply all before it.
    fn needs_within(&self, number: usize, listed: &[usize], here: &InCell) -> Option<Vec<StageName>> {
        let before = &self.before(number, here);
        if listed.iter().all(|&other| before.contains(other)) {
            return None;
        }
        let reduced = self.order.reduced(before, |stage| here.run_on(stage) == Some(RunOn::Passed));
        let needs = listed.iter().filter(|&&other| reduced.contains(other) && here.runs(other));
        Some(needs.map(|&other| self.file.manifest.stages[other].name.value.clone()).collect())
    }

    /// The stages that one waits for itself. In the place of one that it needs and that does not run, what that one waits
    /// for: without it the order would be lost.
    fn before(&self, number: usize, here: &InCell) -> Set {
        let mut before = self.order.before(number).clone();
        if self.file.manifest.stages[number].needs.is_some() && here.runs(number) {
            let mut skipped: Vec<usize> = before.iter().filter(|&stage| !here.runs(stage)).collect();
            while let Some(missing) = skipped.pop() {
                for further in self.order.before(missing).iter() {
                    if !before.contains(further) {
                        before.insert(further);
                        skipped.extend((!here.runs(further)).then_some(further));
                    }
                }
            }
        }
        before
    }

    /// The jobs that some stages wait for, but their own.
    fn needs(&self, stages: impl Iterator<Item = usize>, own: &[usize], here: &InCell) -> Vec<JobKey> {
        let mut needs: Vec<JobKey> = Vec::new();
        for stage in stages {
            for before in self.before(stage, here).iter().filter(|before| !own.contains(before)) {
                let new = here.placed[before].iter().filter(|key| !needs.contains(key)).cloned();
                needs.extend(new.collect::<Vec<_>>());
            }
        }
        needs
    }

    /// A stage that is a job of its own, or one per cell and shard.
    fn own_jobs(&self, number: usize, here: &InCell, desk: &mut Desk<'_, '_>) {
        let manifest = self.file.manifest;
        let said = &manifest.stages[number];
        let axes = axes_at(&self.file, said);
        if here.variants[number].is_empty() {
            let mut plan = StagePlan::new(said.name.value.clone(), Vec::new());
            plan.skip = Some("every cell of its matrix is excluded".to_owned());
            desk.made.build.skipped.push(self.skipped(plan, &here.cell));
        }
        for variant in &here.variants[number] {
            let Variant { cell, shard, .. } = variant;
            let scope = self.file.scope(cell, &axes, variant.skipped().is_some());
            let mut plan = stage::stage(said, manifest, &scope, desk.findings);
            plan.skip = variant.skipped().map(ToOwned::to_owned);
            let name = match manifest.stages.len() {
                1 if cell.is_empty() && shard.is_none() => ONLY_JOB,
                _ => said.name.value.as_str(),
            };
            // What is wrong in what does not run is found all the same.
            let mut unused = Keys::default();
            let keys = if plan.skip.is_some() { &mut unused } else { &mut *desk.keys };
            let key = keys.key(&self.name(name), cell, *shard);
            let mut job = self.job(key, said, here, *shard, &scope, desk.findings);
            let Verdict::Runs(run_on) = variant.verdict else {
                desk.made.build.skipped.push(self.skipped(plan, cell));
                continue;
            };
            plan.run_on = run_on;
            job.needs = self.needs(std::iter::once(number), &[number], here);
            job.run_on = after(run_on, &job.needs);
            if said.trigger.is_some() {
                job.plan = Plan { pipeline: job.plan.pipeline, ..Plan::new(job.plan.image, Vec::new()) };
            } else {
                fill(&mut job, plan);
            }
            desk.made.jobs.push(job);
        }
    }

    /// A job without its stages and edges.
    fn job(
        &self,
        key: JobKey,
        stage: &Stage,
        here: &InCell,
        shard: Option<(u32, u32)>,
        scope: &Scope<'_>,
        findings: &mut Findings<'_>,
    ) -> PlannedJob {
        let manifest = self.file.manifest;
        let mut plan = here.plan.clone();
        plan.environment.retain(|variable| !here.cell.iter().any(|cell| variable.name == variable_of(&cell.axis)));
        plan.environment.extend(of_cell(scope.cell));
        plan.environment.extend(of_shard(shard));
        let platform = stage::platform(stage, manifest, scope, findings);
        plan.image.platform = plan.image.platform.or_else(|| platform.clone());
        let said = stage.platform.as_ref().or(manifest.defaults.platform.as_ref());
        let span = said.map_or(stage.name.span, |platform| platform.span);
        let agent = stage.agent.as_ref().or(manifest.defaults.agent.as_ref()).map(Vec::as_slice).unwrap_or_default();
        let asked = agent.iter().map(|label| (scope.text(label, Empty::NoPartOf("a label"), findings), label.span));
        let asked: Vec<(String, Span)> = asked.collect();
        let usual = &self.file.facts.platform;
        let own_lane = stage.matrix.as_ref().map(|matrix| (matrix.max, matrix.fail_fast));
        let own_lane = own_lane.or(shard.map(|_| (None, None)));
        let lane_name = || match here.cell.as_slice() {
            [] => stage.name.value.to_string(),
            top => format!("{} ({})", stage.name.value, shown(top)),
        };
        PlannedJob {
            labels: keys::labels(asked, platform.as_deref().map(|platform| (platform, span)), usual, findings),
            gate: stage.manual.as_ref().map(|manual| gate(manual, scope, findings)),
            concurrency: stage.concurrency.as_ref().map(|it| concurrency(it, scope, findings)),
            lane: own_lane.map_or(here.lane.clone(), |(max, fail_fast)| Some(self.lane(&lane_name(), max, fail_fast))),
            cell: scope.cell.to_vec(),
            downstream: stage.trigger.as_ref().map(|trigger| downstream(trigger, scope, findings)),
            ..PlannedJob::new(key, plan)
        }
    }

    /// `finally`. Names in it, and in what holds for all stages, have the values of the first `cell`; it is in none itself.
    fn finally(&self, said: &Stage, cell: &[Cell], plan: Plan, desk: &mut Desk<'_, '_>) {
        let manifest = self.file.manifest;
        let here = InCell { cell: cell.to_vec(), plan, lane: None, variants: Vec::new(), placed: Vec::new() };
        let top_axes = self.file.top_axes;
        let scope = self.file.scope(cell, top_axes, true);
        let env =
            if asks(said.when.as_ref()) { self.file.env(Some(said), &scope, desk.findings) } else { BTreeMap::new() };
        let platform = stage::platform(said, manifest, &scope, desk.findings);
        let platform = platform.as_deref().unwrap_or(&self.file.facts.platform);
        let place = Place { scope, judge: self.file.judge, platform, env: &env };
        let judged = verdict(said.when.as_ref(), &place, desk.findings);
        let has_status = said.when.iter().flat_map(|when| &when.any).any(|condition| condition.status.is_some());
        let run_on = match judged {
            Verdict::Runs(_) if desk.made.jobs.is_empty() => Err("nothing runs before it".to_owned()),
            Verdict::Runs(status) if has_status => Ok(status),
            Verdict::Runs(_) => Ok(RunOn::Always),
            Verdict::Skipped(reason) => Err(reason),
        };
        let scope = self.file.scope(cell, top_axes, run_on.is_err());
        let mut stage = stage::stage(said, manifest, &scope, desk.findings);
        let key = desk.keys.key(&self.name(said.name.value.as_str()), &[], None);
        let mut job = self.job(key, said, &here, None, &scope, desk.findings);
        job.cell.clear();
        job.plan.environment.retain(|variable| !variable.name.starts_with("BUILDR_MATRIX_"));
        job.plan.services.clear();
        match run_on {
            Err(reason) => {
                stage.skip = Some(reason);
                desk.made.build.skipped.push(self.skipped(stage, &[]));
            }
            Ok(run_on) => {
                (stage.run_on, job.run_on, job.finally) = (run_on, run_on, true);
                fill(&mut job, stage);
                desk.made.jobs.push(job);
            }
        }
    }

    fn skipped(&self, plan: StagePlan, cell: &[Cell]) -> SkippedStage {
        let reason = plan.skip.unwrap_or_default();
        let reason = if cell.is_empty() { reason } else { format!("{reason} ({})", shown(cell)) };
        SkippedStage { stage: plan.name, pipeline: self.pipeline.map(ToOwned::to_owned), reason }
    }

    fn build(&self, desk: &mut Desk<'_, '_>) {
        let Manifest { cancel_superseded, timeout_ms, priority, concurrency: said, schedules, .. } = self.file.manifest;
        let scope = self.file.scope(&[], &[], false);
        let build = &mut desk.made.build;
        build.cancel_superseded = *cancel_superseded;
        build.timeout_ms = *timeout_ms;
        build.priority = priority.unwrap_or_default();
        let pipeline = || self.pipeline.map(ToOwned::to_owned);
        let of_pipeline = |said: &Schedule| Schedule { pipeline: pipeline(), ..said.clone() };
        build.schedules = schedules.iter().map(|said| of_pipeline(&said.value)).collect();
        build.concurrency = said.as_ref().map(|said| concurrency(said, &scope, desk.findings));
    }
}

/// The only stage of a job. Where it has an image of its own, nothing starts from the prepared one.
fn fill(job: &mut PlannedJob, stage: StagePlan) {
    if stage.image.is_some() {
        job.plan.prepare = None;
    }
    job.plan.stages = vec![stage];
}

/// On what ends of what came before a job runs: of one that nothing comes before, there is nothing to ask.
fn after(run_on: RunOn, needs: &[JobKey]) -> RunOn {
    if needs.is_empty() && run_on == RunOn::Always { RunOn::Passed } else { run_on }
}
