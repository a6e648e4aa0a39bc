//! The manifest as it is written: what it says and where, before the plan makes something of it.
//!
//! Values that are not written are absent here; what then holds is the plan's to say. Whatever has a short form
//! stands here in its long one. Durations are milliseconds. Texts in which `${names}` may stand are [`Spanned`], for
//! the plan to point at.

use protocol::job::TriggerKind;
use protocol::plan::{
    AllowFailure, CachePolicy, CloneOptions, GateInput, KeepWhen, Pull, Ready, Resources, Retry, RunOn, Schedule,
    SecretRequest, TakeOrder,
};
use protocol::{StageName, Variable};

use super::source::{Source, Span, Spanned};

/// A manifest in which everything has been understood.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The texts that the spans point into.
    pub(crate) source: Source,
    /// The image of `prepare` and of stages without one of their own.
    pub(crate) image: Option<Image>,
    pub(crate) environment: Environment,
    pub(crate) prepare: Option<Prepare>,
    /// At least one, each once.
    pub(crate) stages: Vec<Stage>,
    /// In which order they run: each element waits for those before it.
    pub(crate) order: Vec<Element>,
    pub(crate) finally: Option<Stage>,
    /// What holds for stages that do not say otherwise.
    pub(crate) defaults: Defaults,
    pub(crate) services: Vec<Service>,
    pub(crate) matrix: Option<Matrix>,
    /// When the pipeline runs at all.
    pub(crate) when: Option<When>,
    pub(crate) clone: CloneOptions,
    pub(crate) repos: Vec<Repo>,
    pub(crate) workspace: Option<Spanned<String>>,
    /// The folder in which every stage begins: of a pipeline in a monorepo.
    pub(crate) dir: Option<Spanned<String>>,
    pub(crate) inputs: Vec<Spanned<GateInput>>,
    pub(crate) concurrency: Option<Concurrency>,
    pub(crate) cancel_superseded: Option<bool>,
    /// How long the whole build may take.
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) fail_fast: Option<bool>,
    pub(crate) stage_parallelism: Option<u32>,
    pub(crate) priority: Option<i32>,
    /// Times at which builds begin by themselves; each comes some day.
    pub(crate) schedules: Vec<Spanned<Schedule>>,
}

/// What the top level says for all stages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub(crate) docker: Option<bool>,
    pub(crate) privileged: Option<bool>,
    pub(crate) shell: Option<Spanned<String>>,
    pub(crate) idle_timeout_ms: Option<u64>,
    pub(crate) retry: Option<RetrySaid>,
    pub(crate) resources: Option<Resources>,
    pub(crate) agent: Option<Vec<Spanned<String>>>,
    pub(crate) platform: Option<Spanned<String>>,
    pub(crate) cache: Vec<Cache>,
    pub(crate) secrets: Vec<Spanned<SecretRequest>>,
}

/// One element of `stages`: indices into [`Manifest::stages`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Element {
    One(usize),
    /// Side by side.
    Group(Vec<usize>),
}

/// An image and how it is used.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) name: Spanned<String>,
    pub(crate) pull: Pull,
    pub(crate) user: Option<Spanned<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) platform: Option<Spanned<String>>,
}

/// What `environment` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    /// Absent where nothing is said, for a stage then does as the top level.
    pub(crate) inherit: Option<Inherit>,
    /// In the order of the file, each name as often as it stands there; names are valid and not buildr's own.
    pub(crate) vars: Vec<Spanned<Variable>>,
}

/// What of the agent's environment is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Inherit {
    #[default]
    Nothing,
    Everything,
    /// What these globs match.
    Names(Vec<Spanned<String>>),
}

/// What `prepare` says.
#[derive(Debug, Clone)]
pub(crate) struct Prepare {
    pub(crate) script: Vec<Spanned<String>>,
    pub(crate) files: Option<Vec<Spanned<String>>>,
    pub(crate) cache: Option<bool>,
    pub(crate) secrets: Vec<Spanned<SecretRequest>>,
    pub(crate) environment: Environment,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) shell: Option<Spanned<String>>,
}

/// What a stage says.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: Spanned<StageName>,
    pub(crate) image: Option<Image>,
    pub(crate) environment: Environment,
    /// At least one command, unless it is a [`Stage::trigger`].
    pub(crate) script: Vec<Spanned<String>>,
    pub(crate) on_failure: Vec<Spanned<String>>,
    pub(crate) after: Vec<Spanned<String>>,
    pub(crate) needs: Option<Vec<Need>>,
    pub(crate) matrix: Option<Matrix>,
    pub(crate) parallel: Option<Spanned<u32>>,
    pub(crate) services: Vec<Service>,
    pub(crate) when: Option<When>,
    pub(crate) allow_failure: Option<AllowFailure>,
    pub(crate) retry: Option<RetrySaid>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) idle_timeout_ms: Option<u64>,
    pub(crate) artifacts: Option<Artifacts>,
    pub(crate) reports: Reports,
    pub(crate) cache: Option<Vec<Cache>>,
    pub(crate) secrets: Vec<Spanned<SecretRequest>>,
    pub(crate) concurrency: Option<Concurrency>,
    pub(crate) manual: Option<Manual>,
    pub(crate) trigger: Option<Trigger>,
    pub(crate) agent: Option<Vec<Spanned<String>>>,
    pub(crate) platform: Option<Spanned<String>>,
    pub(crate) resources: Option<Resources>,
    pub(crate) docker: Option<bool>,
    pub(crate) privileged: Option<bool>,
    pub(crate) dir: Option<Spanned<String>>,
    pub(crate) shell: Option<Spanned<String>>,
}

/// What `retry` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetrySaid {
    /// The stage is never started again once its script began.
    Never,
    Times(Retry),
}

/// A stage that another needs: `name`, or `name?` when it may be missing.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) name: Spanned<StageName>,
    pub(crate) optional: bool,
}

/// What `matrix` says.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) span: Span,
    /// In the order of the file; values as they are written.
    pub(crate) axes: Vec<(Spanned<String>, Vec<Spanned<String>>)>,
    /// What cells have besides: an entry whose axes are those of cells is theirs, any other is a cell of its own.
    pub(crate) include: Vec<Vec<(Spanned<String>, Spanned<String>)>>,
    /// Cells that are left out: those in which all of these globs match. What they name are axes, `branch`, `tag` or
    /// `event`.
    pub(crate) exclude: Vec<Vec<(Spanned<String>, Spanned<String>)>>,
    pub(crate) max: Option<u32>,
    pub(crate) fail_fast: Option<bool>,
}

/// A condition: one of its parts must hold.
#[derive(Debug, Clone)]
pub(crate) struct When {
    pub(crate) any: Vec<Condition>,
}

/// All of what it names must hold.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) span: Span,
    pub(crate) branch: Option<Globs>,
    pub(crate) tag: Option<Globs>,
    pub(crate) event: Option<Vec<Spanned<TriggerKind>>>,
    pub(crate) path: Option<Globs>,
    /// Key `ref`.
    pub(crate) reference: Option<Globs>,
    pub(crate) status: Option<RunOn>,
    pub(crate) platform: Option<Globs>,
    /// Axis and its globs.
    pub(crate) matrix: Vec<(Spanned<String>, Globs)>,
    /// Key `if`: an expression in CEL.
    pub(crate) expression: Option<Spanned<String>>,
}

/// Globs of which one must match, and none of those that began with `!`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Globs {
    /// Everything when empty.
    pub(crate) include: Vec<Spanned<String>>,
    pub(crate) exclude: Vec<Spanned<String>>,
}

/// What an entry of `services` says.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Its host name.
    pub(crate) name: Spanned<String>,
    pub(crate) image: Image,
    pub(crate) environment: Vec<Spanned<Variable>>,
    pub(crate) command: Vec<Spanned<String>>,
    pub(crate) ready: Option<Ready>,
    pub(crate) ready_timeout_ms: Option<u64>,
    pub(crate) resources: Option<Resources>,
    pub(crate) privileged: bool,
}

/// What `artifacts` says.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    pub(crate) paths: Vec<Spanned<String>>,
    pub(crate) exclude: Vec<Spanned<String>>,
    pub(crate) when: KeepWhen,
    pub(crate) expire_ms: Option<u64>,
}

/// What `reports` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports {
    pub(crate) junit: Vec<Spanned<String>>,
    pub(crate) coverage: Option<Coverage>,
}

/// Where the coverage is found.
#[derive(Debug, Clone)]
pub(crate) enum Coverage {
    File(Spanned<String>),
    /// A regular expression that was compiled once, with one group.
    Log(Spanned<String>),
}

/// What an entry of `cache` says.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    pub(crate) paths: Vec<Spanned<String>>,
    /// A text that is part of its name; names may stand in it.
    pub(crate) name: Option<Spanned<String>>,
    /// Globs of files.
    pub(crate) key: Vec<Spanned<String>>,
    pub(crate) fallback: Vec<Spanned<String>>,
    pub(crate) policy: CachePolicy,
}

/// What `concurrency` says.
#[derive(Debug, Clone)]
pub(crate) struct Concurrency {
    pub(crate) group: Spanned<String>,
    pub(crate) limit: u32,
    pub(crate) order: TakeOrder,
}

/// What `manual` says.
#[derive(Debug, Clone)]
pub(crate) struct Manual {
    pub(crate) ask: Option<Spanned<String>>,
    pub(crate) allow: Vec<String>,
    pub(crate) inputs: Vec<Spanned<GateInput>>,
    pub(crate) timeout_ms: Option<u64>,
}

/// What `trigger` says.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) repo: Option<Spanned<String>>,
    pub(crate) branch: Option<Spanned<String>>,
    pub(crate) vars: Vec<Spanned<Variable>>,
    pub(crate) wait: bool,
}

/// What an entry of `repos` says.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) name: Spanned<String>,
    pub(crate) url: Spanned<String>,
    pub(crate) path: Option<Spanned<String>>,
    /// `same`, or a branch's name.
    pub(crate) branch: Option<Spanned<String>>,
}

impl Manifest {
    /// How many stages it has, `prepare` and `finally` apart.
    #[must_use]
    pub fn stage_count(&self) -> usize {
        self.stages.len()
    }
}

impl Stage {
    /// A stage of which only this is said.
    pub(crate) fn new(name: Spanned<StageName>, script: Vec<Spanned<String>>) -> Self {
        Self {
            name,
            image: None,
            environment: Environment::default(),
            script,
            on_failure: Vec::new(),
            after: Vec::new(),
            needs: None,
            matrix: None,
            parallel: None,
            services: Vec::new(),
            when: None,
            allow_failure: None,
            retry: None,
            timeout_ms: None,
            idle_timeout_ms: None,
            artifacts: None,
            reports: Reports::default(),
            cache: None,
            secrets: Vec::new(),
            concurrency: None,
            manual: None,
            trigger: None,
            agent: None,
            platform: None,
            resources: None,
            docker: None,
            privileged: None,
            dir: None,
            shell: None,
        }
    }
}
