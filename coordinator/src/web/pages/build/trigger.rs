//! What began a build, as its forge said: the event, who, the change, and the files of it.

use protocol::CommitId;
use protocol::api::BuildView;
use protocol::job::Origin;

/// How many changed files are named.
const FILES: usize = 500;

/// What began a build.
pub(super) struct TriggerShown {
    /// `push`, `pull request`, `schedule`.
    pub(super) event: String,
    pub(super) author: Option<String>,
    /// What was said of the change, where that is not the commit's own subject.
    pub(super) message: Option<String>,
    pub(super) request: Option<RequestShown>,
    pub(super) tag: Option<String>,
    pub(super) schedule: Option<String>,
    /// Where the branch was before.
    pub(super) before: Option<CommitShown>,
    pub(super) changed: Vec<String>,
    /// How many are not named.
    pub(super) more_changed: usize,
    /// The page of the change at its forge.
    pub(super) link: Option<String>,
}

/// A pull request.
pub(super) struct RequestShown {
    pub(super) number: u64,
    pub(super) source: Option<String>,
    pub(super) target: Option<String>,
    /// It comes from another repository.
    pub(super) fork: bool,
    /// The last commit of it.
    pub(super) head: Option<CommitShown>,
    /// Its merge with the target, when that is what was built.
    pub(super) merge: Option<CommitShown>,
}

/// A commit by its short name, and its whole one.
pub(super) struct CommitShown {
    pub(super) short: String,
    pub(super) whole: String,
}

impl CommitShown {
    fn of(commit: &CommitId) -> Self {
        Self { short: commit.short().to_owned(), whole: commit.to_string() }
    }
}

impl TriggerShown {
    /// Whether there is more to say than the head of the page does.
    pub(super) fn is_worth_it(&self) -> bool {
        let Self { author, message, request, tag, schedule, before, changed, link, .. } = self;
        author.is_some()
            || message.is_some()
            || request.is_some()
            || tag.is_some()
            || schedule.is_some()
            || before.is_some()
            || link.is_some()
            || !changed.is_empty()
    }
}

/// What began a build.
pub(super) fn trigger(view: &BuildView) -> TriggerShown {
    let Origin { tag, pull_request, target, schedule, author, message, before, changed, fork, head, source, .. } =
        &view.origin;
    let built = view.build.commit.as_ref();
    let request = pull_request.map(|number| RequestShown {
        number,
        source: source.as_ref().map(ToString::to_string),
        target: target.as_ref().map(ToString::to_string),
        fork: *fork,
        head: head.as_ref().map(CommitShown::of),
        merge: built.filter(|built| head.as_ref().is_some_and(|head| head != *built)).map(CommitShown::of),
    });
    TriggerShown {
        event: view.build.trigger.replace('_', " "),
        author: author.clone(),
        message: message
            .clone()
            .filter(|message| view.build.subject.as_ref().is_some_and(|subject| subject != message)),
        request,
        tag: tag.clone(),
        schedule: schedule.clone(),
        before: before.as_ref().map(CommitShown::of),
        changed: changed.iter().take(FILES).cloned().collect(),
        more_changed: changed.len().saturating_sub(FILES),
        link: link(&view.origin),
    }
}

/// The page of the change, when it is one that a browser may be led to: the forge's word alone says what it is.
pub(super) fn link(origin: &Origin) -> Option<String> {
    let is_page = |link: &&String| {
        let parsed = url::Url::parse(link).ok();
        parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    origin.link.as_ref().filter(is_page).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_are_linked() {
        for (link, expect) in [
            ("https://example.org/a/b/pull/7", true),
            ("http://git.local/x", true),
            ("javascript:alert(1)", false),
            (" javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("//evil.example/x", false),
            ("", false),
        ] {
            let origin = Origin { link: Some(link.to_owned()), ..Origin::default() };
            assert_eq!(super::link(&origin).is_some(), expect, "{link}");
        }
    }
}
