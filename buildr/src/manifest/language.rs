//! The manifest as it is written: what it says and where, before the plan makes something of it.
//!
//! Values that are not written are absent here; what then holds is the plan's to say. Whatever has a short form
//! stands here in its long one.

use protocol::{StageName, Variable};

use super::source::{Source, Spanned};

/// A manifest in which everything has been understood.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The text that the spans point into.
    pub(crate) source: Source,
    /// The image of `prepare` and of stages without one of their own.
    pub(crate) image: Option<Spanned<String>>,
    pub(crate) environment: Environment,
    /// Whether stages that do not say otherwise ask for the Docker socket.
    pub(crate) docker: Option<bool>,
    pub(crate) prepare: Option<Prepare>,
    /// At least one, in the order in which they run.
    pub(crate) stages: Vec<Stage>,
}

/// What `environment` says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) inherit: Inherit,
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
}

/// What a stage says.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: Spanned<StageName>,
    pub(crate) image: Option<Spanned<String>>,
    pub(crate) docker: Option<bool>,
    /// Whether it is never started again once its script began: `retry: never`.
    pub(crate) not_twice: bool,
    /// At least one command.
    pub(crate) script: Vec<Spanned<String>>,
}
