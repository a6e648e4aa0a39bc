//! The jobs of one file: their keys, what they wait for, what their agents must have, and what they do.

use protocol::plan::{BuildPlan, Cell, Lane, RunOn, SkippedStage, WORKSPACE};
use protocol::{JobKey, Plan, PlannedJob, StagePlan, Variable};

use super::cell::{File, Variant, axes_at, variants};
use super::findings::Findings;
use super::keys::{self, Keys, ONLY_JOB};
use super::order::{Order, is_job};
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
    /// Whether there were more jobs than a build may have; then not all of them are here.
    pub(super) too_many: bool,
}

/// What all jobs of a cell of the top level's matrix have.
struct Base {
    plan: Plan,
    cell: Vec<Cell>,
    lane: Option<Lane>,
}

impl Jobs<'_> {
    /// Makes them all, up to `most`.
    pub(super) fn make(&self, most: usize, keys: &mut Keys, findings: &mut Findings<'_>) -> Made {
        let manifest = self.file.manifest;
        let mut made = Made::default();
        let cells = match &manifest.matrix {
            None => vec![Vec::new()],
            Some(matrix) => matrix::cells(matrix, self.file.facts, findings),
        };
        let groups = self.order.jobs();
        let mut first: Option<Plan> = None;
        for cell in cells {
            let base = self.base(cell, findings);
            first.get_or_insert_with(|| base.plan.clone());
            let variants = variants(&self.file, &self.order, &base.cell, findings);
            let mut placed: Vec<Vec<JobKey>> = vec![Vec::new(); manifest.stages.len()];
            for group in &groups {
                let before = made.jobs.len();
                match group.as_slice() {
                    [only] if is_job(&manifest.stages[*only]) => {
                        self.own_jobs(*only, &base, &variants[*only], &placed, keys, &mut made, findings);
                    }
                    stages => self.shared_job(stages, &groups, &base, &variants, &placed, keys, &mut made, findings),
                }
                let new: Vec<JobKey> = made.jobs[before..].iter().map(|job| job.key.clone()).collect();
                for &number in group.iter().filter(|&&number| variants[number].iter().any(|it| it.skipped().is_none()))
                {
                    placed[number].clone_from(&new);
                }
                if made.jobs.len() > most {
                    made.too_many = true;
                    return made;
                }
            }
        }
        if let (Some(finally), Some(plan)) = (&manifest.finally, first) {
            self.finally(finally, plan, keys, &mut made, findings);
        }
        self.build(&mut made.build, findings);
        made
    }

    fn name(&self, name: &str) -> String {
        match self.pipeline {
            Some(pipeline) => format!("{pipeline}/{name}"),
            None => name.to_owned(),
        }
    }

    fn base(&self, cell: Vec<Cell>, findings: &mut Findings<'_>) -> Base {
        let manifest = self.file.manifest;
        let scope = self.file.scope(&cell, self.file.top_axes, false);
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
        Base { plan, cell, lane }
    }

    fn lane(&self, name: &str, max: Option<u32>, fail_fast: Option<bool>) -> Lane {
        Lane { name: self.name(name), max, fail_fast: fail_fast.unwrap_or(false) }
    }

    /// One job of stages that are none of their own.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one cell")]
    fn shared_job(
        &self,
        stages: &[usize],
        groups: &[Vec<usize>],
        base: &Base,
        variants: &[Vec<Variant>],
        placed: &[Vec<JobKey>],
        keys: &mut Keys,
        made: &mut Made,
        findings: &mut Findings<'_>,
    ) {
        let manifest = self.file.manifest;
        let of = |number: usize| variants[number].first();
        let run_on = |number: usize| match of(number).map(|variant| &variant.verdict) {
            Some(Verdict::Runs(status)) => Some(*status),
            Some(Verdict::Skipped(_)) | None => None,
        };
        let mut plans = Vec::new();
        for (at, &number) in stages.iter().enumerate() {
            let scope = self.file.scope(&base.cell, self.file.top_axes, run_on(number).is_none());
            let mut plan = stage::stage(&manifest.stages[number], manifest, &scope, findings);
            plan.run_on = run_on(number).unwrap_or_default();
            plan.skip = of(number).and_then(Variant::skipped).map(ToOwned::to_owned);
            plan.needs = self.needs_within(number, &stages[..at], &run_on);
            plans.push(plan);
        }
        let runs: Vec<RunOn> = stages.iter().filter_map(|&number| run_on(number)).collect();
        let Some(run_on) = runs.into_iter().reduce(either) else {
            return made.build.skipped.extend(plans.into_iter().map(|plan| self.skipped(plan, &base.cell)));
        };
        let first = &manifest.stages[stages[0]];
        let name = match stages {
            _ if groups.len() == 1 => ONLY_JOB.to_owned(),
            [only] => manifest.stages[*only].name.value.to_string(),
            [first, .., last] => {
                let name = |number: usize| &manifest.stages[number].name.value;
                format!("{}..{}", name(*first), name(*last))
            }
            [] => return,
        };
        let scope = self.file.scope(&base.cell, self.file.top_axes, false);
        let mut job = self.job(&name, first, base, &base.cell, None, &scope, keys, findings);
        job.plan.stages = plans;
        job.run_on = run_on;
        let within = |number: &usize| variants[*number].iter().any(|variant| variant.skipped().is_none());
        job.needs = self.needs(stages.iter().copied().filter(within), stages, placed);
        made.jobs.push(job);
    }

    /// What a stage waits for in its job, where that is not simply all before it.
    fn needs_within(
        &self,
        number: usize,
        listed: &[usize],
        run_on: &impl Fn(usize) -> Option<RunOn>,
    ) -> Option<Vec<protocol::StageName>> {
        let before = self.order.before(number);
        if listed.iter().all(|&other| before.contains(other)) {
            return None;
        }
        let brings = |stage: usize| run_on(stage) == Some(RunOn::Passed);
        let reduced = self.order.reduced(before, brings);
        let needs = listed.iter().filter(|&&other| reduced.contains(other) && run_on(other).is_some());
        Some(needs.map(|&other| self.file.manifest.stages[other].name.value.clone()).collect())
    }

    /// The jobs that some stages wait for, but their own.
    fn needs(&self, stages: impl Iterator<Item = usize>, own: &[usize], placed: &[Vec<JobKey>]) -> Vec<JobKey> {
        let mut needs: Vec<JobKey> = Vec::new();
        for stage in stages {
            for before in self.order.before(stage).iter().filter(|before| !own.contains(before)) {
                needs.extend(placed[before].iter().filter(|key| !needs.contains(key)).cloned().collect::<Vec<_>>());
            }
        }
        needs
    }

    /// A stage that is a job of its own, or one per cell and shard.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one cell")]
    fn own_jobs(
        &self,
        number: usize,
        base: &Base,
        variants: &[Variant],
        placed: &[Vec<JobKey>],
        keys: &mut Keys,
        made: &mut Made,
        findings: &mut Findings<'_>,
    ) {
        let manifest = self.file.manifest;
        let said = &manifest.stages[number];
        let axes = axes_at(&self.file, said);
        if variants.is_empty() {
            let mut plan = StagePlan::new(said.name.value.clone(), Vec::new());
            plan.skip = Some("every cell of its matrix is excluded".to_owned());
            made.build.skipped.push(self.skipped(plan, &base.cell));
        }
        for Variant { cell, shard, verdict } in variants {
            let scope = self.file.scope(cell, &axes, matches!(verdict, Verdict::Skipped(_)));
            let mut plan = stage::stage(said, manifest, &scope, findings);
            let mut job = match verdict {
                Verdict::Skipped(reason) => {
                    plan.skip = Some(reason.clone());
                    // What is wrong in what is not run is found all the same.
                    self.job(
                        said.name.value.as_str(),
                        said,
                        base,
                        cell,
                        *shard,
                        &scope,
                        &mut Keys::default(),
                        findings,
                    );
                    made.build.skipped.push(self.skipped(plan, cell));
                    continue;
                }
                Verdict::Runs(run_on) => {
                    plan.run_on = *run_on;
                    let name = if manifest.stages.len() == 1 && cell.is_empty() && shard.is_none() {
                        ONLY_JOB
                    } else {
                        said.name.value.as_str()
                    };
                    let job = self.job(name, said, base, cell, *shard, &scope, keys, findings);
                    PlannedJob { run_on: *run_on, ..job }
                }
            };
            job.needs = self.needs(std::iter::once(number), &[number], placed);
            if said.trigger.is_some() {
                job.plan = Plan { pipeline: job.plan.pipeline, ..Plan::new(job.plan.image, Vec::new()) };
            } else {
                // Nothing starts from the prepared image.
                if plan.image.is_some() {
                    job.plan.prepare = None;
                }
                job.plan.stages = vec![plan];
            }
            made.jobs.push(job);
        }
    }

    /// A job without its stages and edges.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one job")]
    fn job(
        &self,
        name: &str,
        stage: &Stage,
        base: &Base,
        cell: &[Cell],
        shard: Option<(u32, u32)>,
        scope: &Scope<'_>,
        keys: &mut Keys,
        findings: &mut Findings<'_>,
    ) -> PlannedJob {
        let manifest = self.file.manifest;
        let mut plan = base.plan.clone();
        plan.environment.retain(|variable| !base.cell.iter().any(|cell| variable.name == variable_of(&cell.axis)));
        plan.environment.extend(of_cell(cell));
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
        let lane_name = || match base.cell.as_slice() {
            [] => stage.name.value.to_string(),
            top => format!("{} ({})", stage.name.value, shown(top)),
        };
        PlannedJob {
            labels: keys::labels(asked, platform.as_deref().map(|platform| (platform, span)), usual, findings),
            gate: stage.manual.as_ref().map(|manual| gate(manual, scope, findings)),
            concurrency: stage.concurrency.as_ref().map(|it| concurrency(it, scope, findings)),
            lane: own_lane.map_or(base.lane.clone(), |(max, fail_fast)| Some(self.lane(&lane_name(), max, fail_fast))),
            cell: cell.to_vec(),
            downstream: stage.trigger.as_ref().map(|trigger| downstream(trigger, scope, findings)),
            ..PlannedJob::new(keys.key(&self.name(name), cell, shard), plan)
        }
    }

    fn finally(&self, said: &Stage, plan: Plan, keys: &mut Keys, made: &mut Made, findings: &mut Findings<'_>) {
        let manifest = self.file.manifest;
        let mut base = Base { plan, cell: Vec::new(), lane: None };
        base.plan.environment.retain(|variable| !variable.name.starts_with("BUILDR_MATRIX_"));
        let env = self.file.env(Some(said), &self.file.scope(&[], &[], true), findings);
        let scope = self.file.scope(&[], &[], true);
        let platform = self.file.facts.platform.as_str();
        let judged = verdict(said.when.as_ref(), &Place { scope, platform, env: &env }, findings);
        let has_status = said.when.iter().flat_map(|when| &when.any).any(|condition| condition.status.is_some());
        let run_on = match judged {
            Verdict::Runs(_) if made.jobs.is_empty() => Err("nothing runs before it".to_owned()),
            Verdict::Runs(status) if has_status => Ok(status),
            Verdict::Runs(_) => Ok(RunOn::Always),
            Verdict::Skipped(reason) => Err(reason),
        };
        let scope = self.file.scope(&[], &[], run_on.is_err());
        let mut stage = stage::stage(said, manifest, &scope, findings);
        let mut job = self.job(said.name.value.as_str(), said, &base, &[], None, &scope, keys, findings);
        match run_on {
            Err(reason) => {
                stage.skip = Some(reason);
                made.build.skipped.push(self.skipped(stage, &[]));
            }
            Ok(run_on) => {
                (stage.run_on, job.run_on, job.finally) = (run_on, run_on, true);
                if stage.image.is_some() {
                    job.plan.prepare = None;
                }
                job.plan.services.clear();
                job.plan.stages = vec![stage];
                made.jobs.push(job);
            }
        }
    }

    fn skipped(&self, plan: StagePlan, cell: &[Cell]) -> SkippedStage {
        let reason = plan.skip.unwrap_or_default();
        let reason = if cell.is_empty() { reason } else { format!("{reason} ({})", shown(cell)) };
        SkippedStage { stage: plan.name, pipeline: self.pipeline.map(ToOwned::to_owned), reason }
    }

    fn build(&self, build: &mut BuildPlan, findings: &mut Findings<'_>) {
        let Manifest { cancel_superseded, timeout_ms, priority, concurrency: said, .. } = self.file.manifest;
        let scope = self.file.scope(&[], &[], false);
        build.cancel_superseded = *cancel_superseded;
        build.timeout_ms = *timeout_ms;
        build.priority = priority.unwrap_or_default();
        build.concurrency = said.as_ref().map(|said| concurrency(said, &scope, findings));
    }
}
