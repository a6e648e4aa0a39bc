//! What a manifest means: jobs with edges, in which nothing is left to look up.
//!
//! [`compile`] goes from the whole to its parts: `order` finds which stage waits for which and which are one job,
//! `matrix` and `cell` which of them run in which cells, `when` whether they run in this build at all, and `jobs` writes
//! down what came of it. `scope` puts values in the place of `${names}`.

mod facts;
mod findings;
mod clock;
mod scope;
mod globs;
mod matrix;
mod kinds;
mod matching;
mod expression;
mod when;
mod order;
mod inherit;
mod inputs;
mod stage;
mod pieces;
mod keys;
mod cell;
mod jobs;
mod warnings;
#[cfg(test)]
mod tests;

use protocol::job::TriggerKind;
use protocol::plan::{BuildPlan, MAX_JOBS, MAX_PLAN_BYTES, PipelineTurn};
use protocol::{Branch, CommitId, PlannedJob, Variable};

pub use facts::{Facts, USUAL_PLATFORM};
pub use inherit::inherited;
pub use keys::{foreign_image, other_labels};

use crate::manifest::{Manifest, ManifestError, Problem, Project};
use cell::File;
use clock::Clock;
use expression::Judge;
use findings::Findings;
use jobs::{Jobs, Made};
use keys::Keys;
use order::Order;

/// The most stages that one file may have.
pub const MAX_STAGES: usize = 1000;

/// The most variables that one file may set.
const MAX_VARIABLES: usize = 2000;

/// Why a manifest that can be read cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Something that is written there has no meaning in this build.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The plan is longer than what may cross to the coordinator.
    #[error(
        "the plan that this manifest makes is at least {bytes} bytes long, and a plan is at most {MAX_PLAN_BYTES}; \
         write what is long in files of the repository, and run these in a `script`"
    )]
    TooLong {
        /// Its length in bytes on the wire, as far as it was made.
        bytes: usize,
    },
    /// It takes too long to make one.
    #[error(
        "to plan this build takes longer than {} s; write fewer stages, cells and conditions, or shorter ones",
        clock::LONGEST.as_secs()
    )]
    TooSlow,
    /// Nobody wants it any more.
    #[error("the plan was not made to its end, as nobody wants it any more")]
    Stopped,
    /// What makes plans does not know such a manifest.
    #[error(
        "no plan can be made of this manifest, which is a mistake in buildr; write it more simply, and tell those who \
         maintain buildr"
    )]
    Failed,
    /// The machine has no thread for it.
    #[error("there is no thread to make a plan on; try again when this machine has less to do")]
    NoThread(#[source] std::io::Error),
    /// There are more jobs than one build may have.
    #[error(
        "this manifest makes more than {MAX_JOBS} jobs, and a build has at most so many; \
         take values out of a `matrix`, write a smaller `parallel`, or split it into several repositories or events"
    )]
    TooManyJobs,
    /// Nobody said what an input is.
    #[error("the input {name}{about} has no value; give it by `--input {name}=VALUE`{choices}")]
    MissingInput {
        /// Which.
        name: String,
        /// What it is for, in brackets.
        about: String,
        /// What it may be, as the end of the sentence.
        choices: String,
    },
    /// An input has a value that it may not have.
    #[error("the input {name} cannot be {value:?}; it is one of {choices}")]
    WrongInput {
        /// Which.
        name: String,
        /// What was given.
        value: String,
        /// What it may be.
        choices: String,
    },
    /// A value was given for an input that nobody asks for.
    #[error("the manifest asks for no input {name:?}: {instead}")]
    UnknownInput {
        /// Which.
        name: String,
        /// What was most likely meant.
        instead: String,
    },
}

/// What came of a manifest.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The jobs; none when nothing of it runs in this build.
    pub jobs: Vec<PlannedJob>,
    /// What holds for the build as a whole.
    pub build: BuildPlan,
    /// What is allowed and probably not meant, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Makes jobs of a manifest.
///
/// # Errors
/// [`PlanError::Manifest`] with all that has no meaning in it; else the first of the others.
pub fn compile_one(manifest: &Manifest, facts: &Facts) -> Result<Planned, PlanError> {
    compile_all(&[(None, manifest)], facts)
}

/// Makes jobs of all pipelines of a project.
///
/// # Errors
/// As of [`compile_one`].
pub fn compile_project(project: &Project, facts: &Facts) -> Result<Planned, PlanError> {
    compile_wanted(project, facts, &|| false)
}

/// The same, for as long as `stopped` does not say that nobody wants it any more.
///
/// # Errors
/// As of [`compile_one`]; [`PlanError::Stopped`] soon after it was stopped.
pub fn compile_wanted(
    project: &Project,
    facts: &Facts,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Planned, PlanError> {
    let pipelines = project.pipelines.iter().map(|pipeline| (pipeline.name.as_deref(), &pipeline.manifest));
    let pipelines: Vec<_> = pipelines.collect();
    clock::on_a_thread(|| compile_here(&pipelines, &Judge::new(facts, &Clock::new(stopped))))
}

fn compile_all(pipelines: &[(Option<&str>, &Manifest)], facts: &Facts) -> Result<Planned, PlanError> {
    clock::on_a_thread(|| compile_here(pipelines, &Judge::new(facts, &Clock::new(&|| false))))
}

fn compile_here(pipelines: &[(Option<&str>, &Manifest)], judge: &Judge<'_>) -> Result<Planned, PlanError> {
    let facts = judge.facts;
    let manifests: Vec<&Manifest> = pipelines.iter().map(|(_, manifest)| *manifest).collect();
    let more_inputs = inputs::others(&manifests, facts)?;
    let mut planned = Planned { jobs: Vec::new(), build: BuildPlan::default(), warnings: Vec::new() };
    let (mut problems, mut more) = (Vec::new(), 0);
    let mut keys = Keys::default();
    for (pipeline, manifest) in pipelines {
        let inputs = inputs::values(manifest, facts)?;
        let mut findings = Findings::new(&manifest.source);
        let most = MAX_JOBS - planned.jobs.len();
        let made = file(manifest, *pipeline, judge, (&inputs, &more_inputs), most, &mut keys, &mut findings);
        judge.clock.check()?;
        match findings.end() {
            Err(ManifestError::Faulty { problems: found, more: further }) => {
                problems.extend(found);
                more += further;
            }
            Err(other) => return Err(other.into()),
            Ok(warnings) => planned.warnings.extend(warnings),
        }
        if made.cut && problems.is_empty() {
            let bytes = made.bytes;
            return Err(if bytes > MAX_PLAN_BYTES { PlanError::TooLong { bytes } } else { PlanError::TooManyJobs });
        }
        planned.jobs.extend(made.jobs);
        if let (true, Some(concurrency)) = (pipelines.len() > 1, &made.build.concurrency) {
            let (pipeline, concurrency) = (pipeline.unwrap_or_default().to_owned(), concurrency.clone());
            planned.build.pipelines.push(PipelineTurn { pipeline, concurrency });
        }
        merge(&mut planned.build, made.build);
    }
    if !problems.is_empty() {
        return Err(ManifestError::Faulty { problems, more }.into());
    }
    let bytes = length(&(&planned.jobs, &planned.build));
    if bytes > MAX_PLAN_BYTES { Err(PlanError::TooLong { bytes }) } else { Ok(planned) }
}

/// How long it is on the wire, in bytes.
fn length(written: &impl serde::Serialize) -> usize {
    serde_json::to_vec(written).expect("a plan is strings, lists and maps, which all have JSON").len()
}

fn file<'m>(
    manifest: &'m Manifest,
    pipeline: Option<&'m str>,
    judge: &'m Judge<'m>,
    (inputs, more_inputs): (&'m [Variable], &'m [Variable]),
    most: usize,
    keys: &mut Keys,
    findings: &mut Findings<'m>,
) -> Made {
    if !within_caps(manifest, findings) {
        return Made::default();
    }
    let Some(order) = Order::of(manifest, findings) else { return Made::default() };
    let top_axes = manifest.matrix.as_ref().map(matrix::axes).unwrap_or_default();
    let mut axes = top_axes.clone();
    axes.extend(manifest.stages.iter().filter_map(|stage| stage.matrix.as_ref()).flat_map(matrix::axes));
    let file = File { manifest, facts: judge.facts, judge, inputs, axes: &axes, top_axes: &top_axes };
    warnings::of(&file, &order, findings);
    Jobs { file, order, pipeline, more_inputs }.make(most, keys, findings)
}

fn within_caps(manifest: &Manifest, findings: &mut Findings<'_>) -> bool {
    if let Some(stage) = manifest.stages.get(MAX_STAGES) {
        let message = format!("this is the stage number {}; a file has at most {MAX_STAGES}", MAX_STAGES + 1);
        findings.problem(stage.name.span, message, "run what belongs together in one script");
        return false;
    }
    let own = manifest.stages.iter().chain(&manifest.finally).flat_map(|stage| &stage.environment.vars);
    if let Some(variable) = manifest.environment.vars.iter().chain(own).nth(MAX_VARIABLES) {
        let message = format!("this is the variable number {}; a file sets at most {MAX_VARIABLES}", MAX_VARIABLES + 1);
        findings.problem(variable.span, message, "read them from a file in the `script`");
        return false;
    }
    true
}

/// What holds for a build of several pipelines: the longest time, the highest priority; each waits for its own turn, of
/// which the first stands for all of them where only one is known; and nobody's build is cancelled when one of them does not want it.
fn merge(build: &mut BuildPlan, other: BuildPlan) {
    build.skipped.extend(other.skipped);
    build.schedules.extend(other.schedules);
    build.cancel_superseded = match (build.cancel_superseded, other.cancel_superseded) {
        (Some(one), Some(two)) => Some(one && two),
        (one, two) => one.or(two),
    };
    build.timeout_ms = build.timeout_ms.max(other.timeout_ms);
    build.priority = build.priority.max(other.priority);
    build.concurrency = build.concurrency.take().or(other.concurrency);
}

/// What a manifest can say by name about its build: the part of [`Facts`] that a checkout knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The branch, where there is one.
    pub branch: Option<Branch>,
    /// The tag, in a build of one.
    pub tag: Option<String>,
    /// The commit; none for a tree outside git.
    pub commit: Option<CommitId>,
    /// Why it is built.
    pub event: TriggerKind,
}

/// The jobs of a manifest alone; see [`compile_one`].
///
/// # Errors
/// As of [`compile_one`].
pub fn compile(manifest: &Manifest, names: &Names) -> Result<Vec<PlannedJob>, PlanError> {
    let Names { branch, tag, commit, event } = names.clone();
    let facts = Facts { branch, tag, commit, ..Facts::new(event) };
    compile_one(manifest, &facts).map(|planned| planned.jobs)
}
