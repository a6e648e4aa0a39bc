//! The small pieces of a job: gates, groups, triggers, other repositories, variables of cells and shards.

use protocol::plan::{Cell, Concurrency, Downstream, Gate, OtherRepo};
use protocol::{Branch, RepoUrl, Variable};

use super::findings::Findings;
use super::scope::{Empty, Scope};
use super::stage;
use crate::manifest::{self, Spanned};

/// Who must let a job begin.
pub(super) fn gate(manual: &manifest::Manual, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Gate {
    Gate {
        ask: manual.ask.as_ref().map(|ask| scope.text(ask, Empty::Allowed, findings)),
        allow: manual.allow.clone(),
        inputs: manual.inputs.iter().map(|input| input.value.clone()).collect(),
        timeout_ms: manual.timeout_ms,
    }
}

/// Whose turn it waits for.
pub(super) fn concurrency(said: &manifest::Concurrency, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Concurrency {
    // A group of all builds without a branch is one too.
    let group = scope.text(&said.group, Empty::Allowed, findings);
    Concurrency { group, limit: said.limit, order: said.order }
}

/// Another build that is begun.
pub(super) fn downstream(said: &manifest::Trigger, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Downstream {
    Downstream {
        repo: said.repo.as_ref().and_then(|it| repo_url(it, scope, findings)),
        branch: said.branch.as_ref().and_then(|it| branch(it, scope, findings)),
        vars: stage::variables(&said.vars, scope, findings),
        wait: said.wait,
    }
}

/// Another repository in the workspace.
pub(super) fn repo(said: &manifest::Repo, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Option<OtherRepo> {
    let name = said.name.value.clone();
    let own_branch = said.branch.as_ref().filter(|branch| branch.value != "same");
    Some(OtherRepo {
        url: repo_url(&said.url, scope, findings)?,
        path: said.path.as_ref().map_or(name.clone(), |it| scope.text(it, Empty::NoPartOf("a folder"), findings)),
        branch: own_branch.and_then(|it| branch(it, scope, findings)).map(|branch| branch.to_string()),
        name,
    })
}

fn repo_url(said: &Spanned<String>, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Option<RepoUrl> {
    let text = scope.text(said, Empty::NoPartOf("a repository's address"), findings);
    // What is empty was told already, or does not run.
    let text = Some(text).filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(url) => Some(url),
        Err(error) => {
            let message = format!("this is no repository: {error}");
            findings.problem(said.span, message, "write its address, as `https://example.org/team/project.git`");
            None
        }
    }
}

fn branch(said: &Spanned<String>, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Option<Branch> {
    let text = scope.text(said, Empty::NoPartOf("a branch's name"), findings);
    let text = Some(text).filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(branch) => Some(branch),
        Err(error) => {
            findings.problem(said.span, format!("this is no branch: {error}"), "write a branch's name, as `main`");
            None
        }
    }
}

/// Under which name an axis arrives in a container.
pub(super) fn variable_of(axis: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("BUILDR_MATRIX_{}", axis.chars().map(legal).collect::<String>())
}

/// The variables of a cell.
pub(super) fn of_cell(cell: &[Cell]) -> impl Iterator<Item = Variable> {
    cell.iter().map(|cell| Variable::new(variable_of(&cell.axis), cell.value.clone()))
}

/// The variables of a shard; those with which test runners of other systems split their work too.
pub(super) fn of_shard(shard: Option<(u32, u32)>) -> Vec<Variable> {
    let Some((shard, shards)) = shard else { return Vec::new() };
    let [shard, shards] = [shard, shards].map(|number| number.to_string());
    vec![
        Variable::new("BUILDR_SHARD", shard.clone()),
        Variable::new("BUILDR_SHARDS", shards.clone()),
        Variable::new("CI_NODE_INDEX", shard),
        Variable::new("CI_NODE_TOTAL", shards),
    ]
}
