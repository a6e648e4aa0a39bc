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

/// Whether something that an owner made is used by nobody any more: it stems from another life than this, or from a
/// place that is closed.
pub(super) fn is_left(labels: &HashMap<String, String>, boot: &str, is_live: impl Fn(&str) -> bool) -> bool {
    match labels.get(BOOT) {
        Some(made_in) if made_in != boot => true,
        // What is made for no place is removed by whoever made it.
        Some(_) => labels.get(SANDBOX).is_some_and(|sandbox| !sandbox.is_empty() && !is_live(sandbox)),
        None => false,
    }
}

/// Whether any owner made it.
pub(super) fn is_ours(labels: &HashMap<String, String>) -> bool {
    labels.contains_key(AGENT)
}

fn only(label: String) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![label])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_is_left() {
        let check = |boot: Option<&str>, sandbox: Option<&str>, expect: bool| {
            let labels = [(BOOT, boot), (SANDBOX, sandbox)].into_iter();
            let labels = labels.filter_map(|(label, value)| Some((label.to_owned(), value?.to_owned()))).collect();
            assert_eq!(is_left(&labels, "now", |sandbox| sandbox == "open"), expect, "{boot:?} {sandbox:?}");
        };
        check(Some("then"), Some("open"), true);
        check(Some("then"), None, true);
        check(Some("now"), Some("open"), false);
        check(Some("now"), Some("closed"), true);
        check(Some("now"), Some(""), false);
        check(Some("now"), None, false);
        check(None, Some("closed"), false);
    }
}
