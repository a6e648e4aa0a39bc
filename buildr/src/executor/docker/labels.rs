//! The labels by which everything that is made is known, and found again.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whose it is.
const AGENT: &str = "buildr.agent";
/// In which life of that owner it was made.
const BOOT: &str = "buildr.boot";
const JOB: &str = "buildr.job";
const STAGE: &str = "buildr.stage";
/// Tells apart two places that were made for one job.
const SANDBOX: &str = "buildr.sandbox";
/// Until when an image is kept that outlives its job, in seconds since 1970.
const UNTIL: &str = "buildr.until";

/// How long after its time something may still be in use: a job that took it goes on for as long, and between two of its
/// stages no container shows that.
const IN_USE: Duration = Duration::from_secs(24 * 60 * 60);
/// Who made an image that outlives its job.
const KEEPER: &str = "buildr.keeper";

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

/// The labels of an image that outlives its job by so long. It has no owner: whoever comes by when the time is over
/// removes it. Before that only who made it may.
pub(super) fn of_kept_for(time: Duration, keeper: &str) -> HashMap<String, String> {
    // What is not said would be taken from the container that it is made of.
    let none = [AGENT, BOOT, JOB, STAGE, SANDBOX].map(|label| (label.to_owned(), String::new()));
    let until = (UNTIL.to_owned(), (now() + time.as_secs()).to_string());
    let keeper = (KEEPER.to_owned(), keeper.to_owned());
    none.into_iter().chain([until, keeper]).collect()
}

/// Finds what outlives its job.
pub(super) fn of_kept() -> HashMap<String, Vec<String>> {
    only(UNTIL.to_owned())
}

/// Who made what outlives its job, where that is written down.
pub(super) fn keeper(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(KEEPER).cloned()
}

/// Whether the time is over for which something was kept, so that nobody takes it any more; never for what was not.
pub(super) fn is_over(labels: &HashMap<String, String>) -> bool {
    was_over(labels, Duration::ZERO)
}

/// Whether it was over so long ago that nobody has it in use either who took it at its last moment.
pub(super) fn may_go(labels: &HashMap<String, String>) -> bool {
    was_over(labels, IN_USE)
}

fn was_over(labels: &HashMap<String, String>, ago: Duration) -> bool {
    labels
        .get(UNTIL)
        .is_some_and(|until| until.parse::<u64>().map_or(true, |until| until.saturating_add(ago.as_secs()) <= now()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
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

    #[test]
    fn what_is_kept_is_kept_for_its_time() {
        assert!(!is_over(&HashMap::new()));
        assert!(!may_go(&of_kept_for(Duration::ZERO, "a")), "a job may have taken it a moment ago");
        assert!(may_go(&HashMap::from([(UNTIL.to_owned(), "1".to_owned())])));
        assert!(!is_over(&of_kept_for(Duration::from_secs(60), "a")) && is_over(&of_kept_for(Duration::ZERO, "a")));
        assert_eq!(keeper(&of_kept_for(Duration::ZERO, "a")).as_deref(), Some("a"));
        assert!(is_over(&HashMap::from([(UNTIL.to_owned(), "?".to_owned())])));
    }
}
