//! What all forges tell in their own ways: that a branch or tag was pushed, or a pull request changed. What strangers
//! wrote is cut and cleaned here, once.

use protocol::job::{Origin, TriggerKind};
use protocol::{Branch, CommitId};

use super::{TriggerFacts, Unreadable, Verdict};

/// The longest text of a stranger's that is kept, in characters.
const LONGEST: usize = 300;

/// The most files of a push that are kept, and their bytes together: a longer list decides nothing finer.
const MOST_FILES: usize = 300;
const FILES_BYTES: usize = 16 << 10;

/// From so many commits on, forges leave some out of what they send.
const SOME_COMMITS: usize = 20;

/// Words in the subject of a commit that nobody wants built.
const SKIP: [&str; 6] = ["[skip ci]", "[ci skip]", "[skip-ci]", "[ci-skip]", "[no ci]", "[skip buildr]"];

/// A branch or tag that was pushed.
#[derive(Debug, Default)]
pub(super) struct Push<'a> {
    /// `refs/heads/…` or `refs/tags/…`.
    pub(super) reference: &'a str,
    pub(super) before: Option<&'a str>,
    /// All zeros when it was deleted.
    pub(super) after: &'a str,
    /// The commit itself, where `after` may be an annotated tag.
    pub(super) commit: Option<&'a str>,
    /// The message of the last commit.
    pub(super) message: Option<&'a str>,
    pub(super) author: Option<&'a str>,
    pub(super) link: Option<&'a str>,
    /// The files that it changed; none when the forge did not say all of them.
    pub(super) changed: Option<Vec<&'a str>>,
}

/// A pull request, after something happened to it.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) number: u64,
    pub(super) what: What<'a>,
    /// Its last commit before this one, where that is told.
    pub(super) before: Option<&'a str>,
    pub(super) title: Option<&'a str>,
    pub(super) author: Option<&'a str>,
    pub(super) link: Option<&'a str>,
    /// Its last commit.
    pub(super) head: &'a str,
    /// The message of that, where it is told.
    pub(super) message: Option<&'a str>,
    pub(super) source: Option<&'a str>,
    pub(super) target: Option<&'a str>,
    /// Whether it comes from another repository, or nobody knows that it does not.
    pub(super) fork: bool,
    /// Where the forge offers its merge with the target.
    pub(super) merge: Option<String>,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'a> {
    /// There is something new to build.
    New,
    /// There may be.
    Perhaps,
    /// It is over: `merged`, `closed`, `declined`.
    Over(&'a str),
    /// Nothing that a build would see, by the forge's own word.
    Else(&'a str),
}

/// What a push asks for.
pub(super) fn pushed(push: &Push<'_>) -> Result<Verdict, Unreadable> {
    let (kind, name) = match (push.reference.strip_prefix("refs/heads/"), push.reference.strip_prefix("refs/tags/")) {
        (Some(name), _) => (TriggerKind::Push, name),
        (_, Some(name)) => (TriggerKind::Tag, name),
        _ => return Ok(Verdict::Ignored(format!("{} is neither a branch nor a tag", plain(push.reference, 100)))),
    };
    if is_zero(push.after) {
        let what = if kind == TriggerKind::Tag { "tag" } else { "branch" };
        return Ok(Verdict::Ignored(format!("{what} deleted")));
    }
    // A tag is a name of the same making.
    let name: Branch = name.parse().map_err(|error| Unreadable::because(format!("what was pushed: {error}")))?;
    let commit = commit(push.commit.unwrap_or(push.after))?;
    let message = push.message.map(subject).filter(|text| !text.is_empty());
    if kind == TriggerKind::Push && message.as_deref().is_some_and(skips) {
        return Ok(Verdict::Ignored("skip ci".to_owned()));
    }
    let origin = Origin {
        tag: (kind == TriggerKind::Tag).then(|| name.to_string()),
        before: push.before.filter(|before| !is_zero(before)).and_then(|before| before.parse().ok()),
        author: text(push.author),
        message,
        link: link(push.link),
        changed: files(push.changed.as_deref()),
        ..Origin::default()
    };
    let branch = (kind == TriggerKind::Push).then_some(name);
    let facts = TriggerFacts { kind, branch, commit: Some(commit), origin, unless_built: false };
    Ok(Verdict::Build(Box::new(facts)))
}

/// What a change of a pull request asks for.
pub(super) fn requested(request: &Request<'_>) -> Result<Verdict, Unreadable> {
    let number = request.number;
    match request.what {
        What::Over(how) => {
            return Ok(Verdict::Cancel { pull_request: number, reason: format!("pull request #{number} was {how}") });
        }
        What::Else(what) => {
            let what = plain(what, 60);
            return Ok(Verdict::Ignored(format!("pull request #{number}: {what} changes nothing to build")));
        }
        What::New | What::Perhaps => {}
    }
    if request.message.map(subject).is_some_and(|subject| skips(&subject)) {
        return Ok(Verdict::Ignored("skip ci".to_owned()));
    }
    let branch = |name: Option<&str>| {
        let parsed = name.map(str::parse::<Branch>).transpose();
        parsed.map_err(|error| Unreadable::because(format!("pull request #{number}: {error}")))
    };
    let head: Option<CommitId> = request.head.parse().ok();
    let is_short = (7..40).contains(&request.head.len()) && request.head.bytes().all(|b| b.is_ascii_hexdigit());
    if head.is_none() && !is_short {
        return Err(Unreadable::because(format!("pull request #{number}: {}", no_commit(request.head))));
    }
    let source = branch(request.source)?;
    let origin = Origin {
        pull_request: Some(number),
        before: request.before.filter(|before| !is_zero(before)).and_then(|before| before.parse().ok()),
        target: branch(request.target)?,
        author: text(request.author),
        message: text(request.title),
        link: link(request.link),
        fork: request.fork,
        head: head.clone(),
        merge: request.merge.clone().filter(|_| head.is_some()),
        source: source.clone(),
        short: head.is_none().then(|| request.head.to_ascii_lowercase()),
        ..Origin::default()
    };
    if origin.target.is_none() {
        return Err(Unreadable::because(format!("pull request #{number}: it is not said where it is to go")));
    }
    Ok(Verdict::Build(Box::new(TriggerFacts {
        kind: TriggerKind::PullRequest,
        // Where only the beginning of the commit is known, its branch has the rest.
        branch: source.filter(|_| head.is_none()),
        commit: head,
        origin,
        unless_built: request.what == What::Perhaps,
    })))
}

/// The files of commits, when these are all commits of the push. `total`: how many there are, where that is said.
pub(super) fn all_files<'a>(
    commits: impl ExactSizeIterator<Item = [&'a [String]; 3]>,
    total: Option<u64>,
) -> Option<Vec<&'a str>> {
    let count = commits.len();
    let whole = (1..SOME_COMMITS).contains(&count) && total.is_none_or(|total| total == count as u64);
    whole.then(|| commits.flatten().flatten().map(String::as_str).collect())
}

/// Whether this is what stands for no commit.
pub(super) fn is_zero(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'0')
}

fn commit(text: &str) -> Result<CommitId, Unreadable> {
    text.parse().map_err(|_| Unreadable::because(no_commit(text)))
}

fn no_commit(text: &str) -> String {
    format!("{:?} is not a commit (40 hexadecimal digits)", plain(text, 80))
}

/// The first line of a message.
fn subject(message: &str) -> String {
    plain(message.trim_start().lines().next().unwrap_or(""), LONGEST)
}

/// Whether nobody wants it built. Only the subject counts: a squashed merge carries the words of all its commits below.
fn skips(subject: &str) -> bool {
    let subject = subject.to_ascii_lowercase();
    SKIP.iter().any(|word| subject.contains(word))
}

fn text(text: Option<&str>) -> Option<String> {
    text.map(|text| plain(text, LONGEST)).filter(|text| !text.is_empty())
}

/// Text of a stranger's on one line.
pub(super) fn plain(text: &str, most: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(most).collect();
    clean.trim().to_owned()
}

/// A page's address, if it is one that may be clicked.
fn link(text: Option<&str>) -> Option<String> {
    let url = url::Url::parse(text?).ok()?;
    let fine = matches!(url.scheme(), "http" | "https") && url.as_str().len() <= 2000;
    fine.then(|| url.to_string())
}

fn files(changed: Option<&[&str]>) -> Vec<String> {
    let Some(changed) = changed else { return Vec::new() };
    let mut files: Vec<String> = changed.iter().map(|file| (*file).to_owned()).collect();
    files.sort_unstable();
    files.dedup();
    let bytes: usize = files.iter().map(String::len).sum();
    let odd = files.iter().any(|file| file.is_empty() || file.chars().any(char::is_control));
    if files.len() > MOST_FILES || bytes > FILES_BYTES || odd { Vec::new() } else { files }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_subject_says_skip() {
        for (message, expect) in [
            ("Mend it [skip ci]", true),
            ("[CI Skip] docs", true),
            ("[skip buildr]", true),
            ("\n[no ci] x", true),
            ("Mend it\n\n* one [skip ci]", false),
            ("skip ci", false),
            ("", false),
        ] {
            assert_eq!(skips(&subject(message)), expect, "{message:?}");
        }
    }

    #[test]
    fn what_strangers_wrote_is_cut_and_cleaned() {
        assert_eq!(plain(" a\u{1b}[31m\nb\0 ", 100), "a[31mb");
        assert_eq!(plain(&"x".repeat(900), LONGEST).len(), LONGEST);
        assert_eq!(link(Some("javascript:alert(1)")), None);
        assert_eq!(link(Some("https://e.org/\"x")).as_deref(), Some("https://e.org/%22x"));
        assert_eq!(link(Some(&format!("https://e.org/{}", "x".repeat(3000)))), None);
    }

    #[test]
    fn files_count_when_all_are_told() {
        let many: Vec<String> = (0..400).map(|number| format!("f{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(files(Some(&["b", "a", "b"])), ["a", "b"]);
        assert!(files(Some(&many)).is_empty());
        assert!(files(Some(&["a\nb"])).is_empty());
        assert!(files(None).is_empty());
        let file = ["a".to_owned()];
        let commits = |count: usize| vec![[&file[..], &[], &[]]; count].into_iter();
        assert_eq!(all_files(commits(2), None), Some(vec!["a", "a"]));
        assert_eq!(all_files(commits(2), Some(3)), None);
        assert_eq!(all_files(commits(20), None), None);
        assert_eq!(all_files(commits(0), None), None);
    }
}
