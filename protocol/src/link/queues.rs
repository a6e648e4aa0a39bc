//! The names of the queues that jobs lie on: what they say of the labels that a job asks for.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::id::LabelSet;

/// The name of the queue on which jobs that require these labels lie: `build_queue`, or with the labels in order
/// behind it. A set whose text is longer than 80 bytes is named by its digest.
#[must_use]
pub fn queue_name(labels: &LabelSet) -> String {
    if labels.is_empty() {
        return BUILD_QUEUE.to_owned();
    }
    let text = labels.to_string();
    if text.len() <= LONGEST_LABEL_TEXT {
        return format!("{BUILD_QUEUE}.{text}");
    }
    let digest = Sha256::digest(text.as_bytes());
    format!("{BUILD_QUEUE}.{DIGEST}{}", HEXLOWER.encode(&digest[..16]))
}

/// The labels that a job queue's name says, the reverse of [`queue_name`]; none of any other queue. `None` when the name
/// is a digest: whose it is, only those can tell who have the set.
#[must_use]
pub fn queue_labels(queue: &str) -> Option<LabelSet> {
    let text = queue.strip_prefix(BUILD_QUEUE).and_then(|rest| rest.strip_prefix('.')).unwrap_or("");
    if text.starts_with(DIGEST) {
        return None;
    }
    Some(LabelSet::new(text.split('+').filter(|label| !label.is_empty())).unwrap_or_default())
}

/// The queue of jobs that any agent may run, and where people put theirs by hand.
pub const BUILD_QUEUE: &str = "build_queue";

/// What stands before the digest in the name of a queue whose labels are too long for it.
const DIGEST: &str = "sha256-";

/// The longest text of labels, in bytes, that stands in a queue's name: brokers allow 255 for all of it, and people
/// have to read it.
const LONGEST_LABEL_TEXT: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[&str], expect: &str) {
        assert_eq!(queue_name(&LabelSet::new(labels.iter().copied()).unwrap()), expect);
    }

    #[test]
    fn queues_are_named_by_their_labels() {
        check(&[], "build_queue");
        check(&["gpu"], "build_queue.gpu");
        check(&["gpu", "arch=arm64"], "build_queue.arch=arm64+gpu");
        let (a, b) = ("a".repeat(40), "b".repeat(39));
        check(&[&b, &a], &format!("build_queue.{a}+{b}"));
        check(&["b".repeat(40).as_str(), &a], "build_queue.sha256-e76ce13eed1a010f8d92bae3ef62fee7");
    }

    #[test]
    fn a_queues_name_says_which_labels_are_meant() {
        for (queue, expect) in
            [("build_queue", ""), ("build_queue.gpu", "gpu"), ("build_queue.gpu+arm64", "arm64+gpu"), ("other", "")]
        {
            assert_eq!(queue_labels(queue).map(|labels| labels.to_string()).as_deref(), Some(expect), "{queue}");
        }
        assert_eq!(queue_labels("build_queue.sha256-e76ce13eed1a010f8d92bae3ef62fee7"), None);
    }
}
