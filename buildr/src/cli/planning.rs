//! What commands that look at a plan share: the folder, the occasion, and the plan that comes of both.

use std::collections::HashSet;
use std::path::PathBuf;

use protocol::Variable;
use protocol::job::TriggerKind;

use super::occasion::OccasionArgs;
use super::run::RunError;
use super::{CliError, elsewhere, note};
use crate::executor::Stop;
use crate::git::{self, Base};
use crate::manifest::{self, Project};
use crate::plan::{self, Facts, Planned};

/// Which plan is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// The folder with the .buildr.yml
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,

    /// For which occasion.
    #[command(flatten)]
    occasion: OccasionArgs,
}

impl PlanArgs {
    /// Reads the folder's manifests and plans the build that would come of them now.
    ///
    /// # Errors
    /// When something in them is wrong, or the folder cannot be read.
    pub(super) async fn plan(&self) -> Result<Planned, CliError> {
        let reading =
            manifest::load_project(&self.path, &elsewhere::repositories(false)?).map_err(RunError::Manifest)?;
        let mut facts = self.facts().await?;
        for name in guess_inputs(&reading.project, &mut facts) {
            note(&format!(
                "the input {name} has no value: this is the plan without one; --input {name}=VALUE gives it"
            ));
        }
        let mut planned = plan::compile_project(&reading.project, &facts)?;
        self.occasion.narrow(&mut planned.jobs)?;
        Ok(planned)
    }

    async fn facts(&self) -> Result<Facts, CliError> {
        let stop = Stop::new();
        let tree = git::describe_tree(&self.path, stop.token()).await.map_err(RunError::Tree)?;
        let base = Base { target: self.occasion.target().cloned(), ..Base::default() };
        let changed = git::changed_files(&self.path, &base, None, stop.token()).await.map_err(RunError::Tree)?;
        let here = Facts {
            branch: tree.branch,
            commit: tree.commit,
            default_branch: tree.default_branch,
            changed,
            ..Facts::new(TriggerKind::Local)
        };
        Ok(self.occasion.facts(here))
    }
}

/// Gives inputs that nobody said, and that must be said for a build, some value: a plan can be looked at without.
pub(super) fn guess_inputs(project: &Project, facts: &mut Facts) -> Vec<String> {
    let mut known: HashSet<String> = facts.inputs.iter().map(|input| input.name.clone()).collect();
    let mut guessed = Vec::new();
    for input in project.pipelines.iter().flat_map(|pipeline| &pipeline.manifest.inputs) {
        let input = &input.value;
        if input.default.is_none() && known.insert(input.name.clone()) {
            let value = input.choices.first().cloned().unwrap_or_default();
            facts.inputs.push(Variable::new(input.name.clone(), value));
            guessed.push(input.name.clone());
        }
    }
    guessed
}
