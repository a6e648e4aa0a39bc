//! One cell of the top level's matrix, or the whole file when there is none: which stages run in it, in which cells of
//! their own.

use std::collections::BTreeMap;

use protocol::Variable;
use protocol::plan::{Cell, MAX_JOBS};

use super::expression::Judge;
use super::facts::Facts;
use super::findings::Findings;
use super::matrix;
use super::order::Order;
use super::scope::{Empty, Scope};
use super::stage;
use super::when::{Place, Verdict, verdict};
use crate::manifest::{Manifest, Stage};

/// What all of one file goes by.
#[derive(Clone, Copy)]
pub(super) struct File<'m> {
    pub(super) manifest: &'m Manifest,
    pub(super) facts: &'m Facts,
    pub(super) judge: &'m Judge<'m>,
    /// The inputs that it asks for.
    pub(super) inputs: &'m [Variable],
    /// All axes in it.
    pub(super) axes: &'m [String],
    /// Those of its top level.
    pub(super) top_axes: &'m [String],
}

impl<'m> File<'m> {
    /// What can be said by name in a cell, where these axes are.
    pub(super) fn scope<'p>(&self, cell: &'p [Cell], here: &'p [String], idle: bool) -> Scope<'p>
    where
        'm: 'p,
    {
        let Self { manifest, facts, inputs, axes, .. } = *self;
        Scope { facts, inputs, cell, here, axes, source: &manifest.source, idle }
    }

    /// The variables that a condition of a stage may ask for.
    pub(super) fn env(
        &self,
        stage: Option<&Stage>,
        scope: &Scope<'_>,
        findings: &mut Findings<'_>,
    ) -> BTreeMap<String, String> {
        let own = stage.map(|stage| stage.environment.vars.as_slice()).unwrap_or_default();
        let mut env = BTreeMap::new();
        for variable in self.manifest.environment.vars.iter().chain(own) {
            let Variable { name, value } = &variable.value;
            env.insert(name.clone(), scope.at(value, variable.span, Empty::Allowed, findings));
        }
        let more = self.inputs.iter().chain(&self.facts.env);
        env.extend(more.map(|variable| (variable.name.clone(), variable.value.clone())));
        env
    }

    /// Whether the pipeline runs at all in a cell.
    pub(super) fn verdict(&self, cell: &[Cell], findings: &mut Findings<'_>) -> Verdict {
        let when = self.manifest.when.as_ref();
        let scope = self.scope(cell, self.top_axes, true);
        let env = if asks(when) { self.env(None, &scope, findings) } else { BTreeMap::new() };
        let platform = self.manifest.defaults.platform.as_ref();
        let platform = platform.map(|platform| scope.text(platform, Empty::Allowed, findings));
        let platform = platform.as_deref().unwrap_or(&self.facts.platform);
        verdict(when, &Place { scope, judge: self.judge, platform, env: &env }, findings)
    }
}

/// Whether a condition has an expression.
pub(super) fn asks(when: Option<&crate::manifest::When>) -> bool {
    when.is_some_and(|when| when.any.iter().any(|condition| condition.expression.is_some()))
}

/// A stage in one cell, or one shard of it.
pub(super) struct Variant {
    /// The top level's axes first.
    pub(super) cell: Vec<Cell>,
    /// Which of how many, from 1.
    pub(super) shard: Option<(u32, u32)>,
    pub(super) verdict: Verdict,
}

impl Variant {
    /// Why it does not run.
    pub(super) fn skipped(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Skipped(reason) => Some(reason),
            Verdict::Runs(_) => None,
        }
    }
}

/// The variants of each stage. A stage of no cell has none.
pub(super) fn variants(
    file: &File<'_>,
    order: &Order<'_>,
    cell: &[Cell],
    findings: &mut Findings<'_>,
) -> Vec<Vec<Variant>> {
    let whole = file.verdict(cell, findings);
    let mut all: Vec<Vec<Variant>> = Vec::new();
    for stage in &file.manifest.stages {
        // What is made then is thrown away.
        if file.judge.clock.is_over() {
            all.push(Vec::new());
            continue;
        }
        let mut variants = of_stage(file, stage, cell, findings);
        if let Verdict::Skipped(reason) = &whole {
            variants.iter_mut().for_each(|variant| variant.verdict = Verdict::Skipped(reason.clone()));
        }
        all.push(variants);
    }
    for &number in order.sequence() {
        if let Some(reason) = missing(file.manifest, number, &all) {
            for variant in all[number].iter_mut().filter(|variant| variant.skipped().is_none()) {
                variant.verdict = Verdict::Skipped(reason.clone());
            }
        }
    }
    all
}

/// Why a stage cannot run although its own condition holds: it needs one that does not.
fn missing(manifest: &Manifest, number: usize, all: &[Vec<Variant>]) -> Option<String> {
    let needs = manifest.stages[number].needs.iter().flatten().filter(|need| !need.optional);
    let numbered = needs.filter_map(|need| {
        let number = manifest.stages.iter().position(|stage| stage.name.value == need.name.value)?;
        Some((&need.name.value, &all[number]))
    });
    let mut skipped = numbered.filter(|(_, variants)| variants.iter().all(|variant| variant.skipped().is_some()));
    skipped.next().map(|(name, variants)| {
        let why = variants.iter().find_map(Variant::skipped).unwrap_or("its matrix has no cell");
        format!("it needs {name}, which is skipped ({why})")
    })
}

/// The axes at a stage: the top level's and its own.
pub(super) fn axes_at(file: &File<'_>, stage: &Stage) -> Vec<String> {
    let own = stage.matrix.as_ref().map(matrix::axes).unwrap_or_default();
    let mut axes = file.top_axes.to_vec();
    axes.extend(own.into_iter().filter(|axis| !file.top_axes.contains(axis)));
    axes
}

fn of_stage(file: &File<'_>, stage: &Stage, top: &[Cell], findings: &mut Findings<'_>) -> Vec<Variant> {
    let axes = axes_at(file, stage);
    let cells = match &stage.matrix {
        None => vec![top.to_vec()],
        Some(matrix) => {
            let own = matrix::cells(matrix, file.facts, findings);
            own.into_iter().map(|own| within(top, own)).collect()
        }
    };
    let shards = stage.parallel.as_ref().map(|parallel| parallel.value);
    let jobs = u64::from(shards.unwrap_or(1)).saturating_mul(cells.len() as u64);
    if jobs > MAX_JOBS as u64 {
        let span = stage.parallel.as_ref().map_or(stage.name.span, |parallel| parallel.span);
        let message = format!("{} would be {jobs} jobs; a build has at most {MAX_JOBS}", stage.name.value);
        findings.problem(span, message, "take values out of its matrix, or write a smaller `parallel`");
        return Vec::new();
    }
    let mut variants = Vec::new();
    for cell in cells {
        let scope = file.scope(&cell, &axes, true);
        let env = if asks(stage.when.as_ref()) { file.env(Some(stage), &scope, findings) } else { BTreeMap::new() };
        let platform = stage::platform(stage, file.manifest, &scope, findings);
        let platform = platform.as_deref().unwrap_or(&file.facts.platform);
        let verdict = verdict(stage.when.as_ref(), &Place { scope, judge: file.judge, platform, env: &env }, findings);
        match shards {
            None => variants.push(Variant { cell, shard: None, verdict }),
            Some(shards) => variants.extend((1..=shards).map(|shard| {
                let (cell, verdict) = (cell.clone(), verdict.clone());
                Variant { cell, shard: Some((shard, shards)), verdict }
            })),
        }
    }
    variants
}

/// A cell of a stage within one of the top level's: of an axis that both have, the stage's value.
fn within(top: &[Cell], own: Vec<Cell>) -> Vec<Cell> {
    let outer = top.iter().filter(|outer| !own.iter().any(|own| own.axis == outer.axis)).cloned();
    outer.collect::<Vec<_>>().into_iter().chain(own).collect()
}
