//! The labels by which everything that is made is known, and found again.

use std::collections::HashMap;

/// Whose it is.
const AGENT: &str = "buildr.agent";
/// In which life of that owner it was made.
const BOOT: &str = "buildr.boot";
const JOB: &str = "buildr.job";
const STAGE: &str = "buildr.stage";
/// Tells apart two places that were made for one job.
const SANDBOX: &str = "buildr.sandbox";

/// What one place's things are marked with.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    pub(super) owner: String,
    pub(super) boot: String,
    pub(super) job: String,
    pub(super) sandbox: String,
}

impl Labels {
    /// The labels of something that is made for this stage.
    pub(super) fn of_stage(&self, stage: &str) -> HashMap<String, String> {
        [(AGENT, self.owner.as_str()), (BOOT, &self.boot), (JOB, &self.job), (STAGE, stage), (SANDBOX, &self.sandbox)]
            .into_iter()
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .collect()
    }

    /// Finds what was made for this place.
    pub(super) fn filter(&self) -> HashMap<String, Vec<String>> {
        only(format!("{SANDBOX}={}", self.sandbox))
    }
}

/// Finds what any life of this owner made.
pub(super) fn of_owner(owner: &str) -> HashMap<String, Vec<String>> {
    only(format!("{AGENT}={owner}"))
}

/// Whether something that an owner made stems from another life than this.
pub(super) fn is_of_another_life(labels: &HashMap<String, String>, boot: &str) -> bool {
    labels.get(BOOT).is_some_and(|made_in| made_in != boot)
}

/// Whether any owner made it.
pub(super) fn is_ours(labels: &HashMap<String, String>) -> bool {
    labels.contains_key(AGENT)
}

fn only(label: String) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label])])
}
