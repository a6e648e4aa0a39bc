//! What each forge sends, as its documentation has it, and what that asks for. The payloads in `recorded/` are written
//! anew: of each event the fields that count, and some of those that do not.

use std::path::Path;

use super::*;

/// A delivery as a table says it: `forge/file`, the event's header, and what is asked for.
#[track_caller]
fn check(file: &str, event: &str, expect: &str) {
    let (forge, _) = file.split_once('/').unwrap();
    let forge: Forge = forge.parse().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hook/recorded").join(format!("{file}.json"));
    let body = std::fs::read(&path).unwrap();
    let got = read(forge, &headers(forge, event), &body);
    let got = match &got {
        Ok(told) => told.verdicts.iter().map(shown).collect::<Vec<_>>().join(" + "),
        Err(unreadable) => format!("unreadable: {unreadable}"),
    };
    assert_eq!(got, expect, "{file}");
}

fn headers(forge: Forge, event: &str) -> Headers {
    let name = match forge {
        Forge::GitHub => "x-github-event",
        Forge::GitLab => "x-gitlab-event",
        Forge::Gitea => "x-gitea-event",
        Forge::Forgejo => "x-forgejo-event",
        Forge::Bitbucket | Forge::BitbucketDc => "x-event-key",
        Forge::Generic => "x-any",
    };
    Headers::from([(name.to_owned(), event.to_owned())])
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Ping => "ping".to_owned(),
        Verdict::Ignored(why) => format!("ignored: {why}"),
        Verdict::Cancel { pull_request, reason } => format!("cancel #{pull_request}: {reason}"),
        Verdict::Again(commit) => format!("again {}", &commit.as_str()[..1]),
        Verdict::Build(facts) => built(facts),
    }
}

/// All facts of a build, in few words: commits by their letter.
fn built(facts: &TriggerFacts) -> String {
    let TriggerFacts { kind, branch, commit, origin, unless_built } = facts;
    let mut text = kind.to_string();
    let mut add = |name: &str, value: Option<String>| {
        text.extend(value.map(|value| format!(" {name}={value}")));
    };
    let letter = |commit: &CommitId| commit.as_str()[..1].to_owned();
    add("branch", branch.as_ref().map(ToString::to_string));
    add("commit", commit.as_ref().map(letter));
    add("short", origin.short.clone());
    add("tag", origin.tag.clone());
    add("before", origin.before.as_ref().map(letter));
    add("pr", origin.pull_request.map(|number| number.to_string()));
    add("target", origin.target.as_ref().map(ToString::to_string));
    add("source", origin.source.as_ref().map(ToString::to_string));
    add("head", origin.head.as_ref().map(letter));
    add("merge", origin.merge.clone());
    add("fork", origin.fork.then(|| "yes".to_owned()));
    add("by", origin.author.clone());
    add("says", origin.message.as_ref().map(|message| format!("{message:?}")));
    add("changed", Some(origin.changed.join(",")).filter(|files| !files.is_empty()));
    add("link", origin.link.as_ref().map(|link| link.replace(&"b".repeat(40), "B")));
    add("unless_built", unless_built.then(|| "yes".to_owned()));
    text
}

const SAYS: &str = r#"says="Parse steps of ranges""#;

#[test]
fn github() {
    let page = "https://github.com/ada/cronline";
    let pushed =
        format!("branch=main commit=b before=a by=Ada {SAYS} changed=src/lib.rs,src/step.rs link={page}/commit/B");
    check("github/push", "push", &format!("push {pushed}"));
    check("github/push_skip", "push", "ignored: skip ci");
    let forced = format!(r#"push branch=topic commit=b before=a by=Ada says="Rewritten" link={page}/commit/B"#);
    check("github/push_forced", "push", &forced);
    check("github/push_delete", "push", "ignored: branch deleted");
    // The tag is an object of its own; its commit is what is built.
    check("github/tag", "push", &format!(r#"tag commit=b tag=v1.2 by=Ada says="Release 1.2" link={page}/commit/B"#));
    check("github/tag_delete", "push", "ignored: tag deleted");
    let request = "pull_request commit=b pr=12 target=main source=steps head=b merge=refs/pull/12/merge";
    let end = format!("{SAYS} link={page}/pull/12");
    let own = format!("{request} by=ada {end}");
    let fork = format!("{request} fork=yes by=mallory {end}");
    check("github/pull_request_opened", "pull_request", &own);
    check("github/pull_request_fork", "pull_request", &fork);
    check("github/pull_request_fork_gone", "pull_request", &fork);
    check("github/pull_request_new_base", "pull_request", &own);
    check("github/pull_request_closed", "pull_request", "cancel #12: pull request #12 was closed");
    check("github/pull_request_merged", "pull_request", "cancel #12: pull request #12 was merged");
    let nothing = |what: &str| format!("ignored: pull request #12: {what} changes nothing to build");
    check("github/pull_request_labeled", "pull_request", &nothing("labeled"));
    check("github/pull_request_edited", "pull_request", &nothing("edited"));
    check("github/ping", "ping", "ping");
    check("github/check_suite", "check_suite", "again b");
    check("github/check_run", "check_run", "again b");
    check("github/star", "check_run", "ignored: event check_run builds nothing");
    check("github/star", "star", "ignored: event star builds nothing");
}

#[test]
fn gitea_and_forgejo() {
    for (forge, page) in
        [("gitea", "https://git.example.org/ada/cronline"), ("forgejo", "https://codeberg.org/ada/cronline")]
    {
        let check = |file: &str, event: &str, expect: &str| check(&format!("{forge}/{file}"), event, expect);
        let pushed = format!("push branch=main commit=b before=a by=Ada {SAYS}");
        let files = "changed=src/lib.rs,src/step.rs";
        check("push", "push", &format!("{pushed} {files} link={page}/commit/B"));
        check("push_many", "push", &format!("{pushed} link={page}/commit/B"));
        check("tag", "push", &format!("tag commit=b tag=v1.2 by=Ada {SAYS} link={page}/commit/B"));
        check("create", "create", "ignored: a branch or tag was made; its push is what counts");
        check("delete", "delete", "ignored: branch or tag deleted");
        check("push_delete", "push", "ignored: branch deleted");
        let request = |source: &str, more: &str| {
            format!(
                "pull_request commit=b pr=12 target=main{source} head=b merge=refs/pull/12/merge {more} {SAYS} link={page}/pulls/12"
            )
        };
        check("pull_request_opened", "pull_request", &request(" source=steps", "by=ada"));
        check("pull_request_fork", "pull_request", &request(" source=steps", "fork=yes by=mallory"));
        check("pull_request_agit", "pull_request", &request("", "fork=yes by=ada"));
        check("pull_request_closed", "pull_request", "cancel #12: pull request #12 was closed");
        check("pull_request_merged", "pull_request", "cancel #12: pull request #12 was merged");
        let nothing = "ignored: pull request #12: label_updated changes nothing to build";
        check("pull_request_labeled", "pull_request", nothing);
        check("ping", "ping", "ping");
    }
}

#[test]
fn gitlab() {
    let page = "https://gitlab.com/ada/cronline";
    let pushed = format!("push branch=main commit=b before=a by=Ada {SAYS}");
    check("gitlab/push", "Push Hook", &format!("{pushed} changed=src/lib.rs,src/step.rs link={page}/-/commit/B"));
    check("gitlab/push_many", "Push Hook", &format!("{pushed} link={page}/-/commit/B"));
    check("gitlab/push_option", "Push Hook", "ignored: skip ci (a push option)");
    check("gitlab/push_delete", "Push Hook", "ignored: branch deleted");
    check("gitlab/tag", "Tag Push Hook", "tag commit=b tag=v1.2 by=Ada L.");
    check("gitlab/tag_delete", "Tag Push Hook", "ignored: tag deleted");
    let request = |more: &str| {
        format!(
            "pull_request commit=b pr=12 target=main source=steps head=b merge=refs/merge-requests/12/merge{more} by=ada {SAYS} link={page}/-/merge_requests/12"
        )
    };
    check("gitlab/merge_request_open", "Merge Request Hook", &request(""));
    check("gitlab/merge_request_fork", "Merge Request Hook", &request(" fork=yes"));
    check("gitlab/merge_request_new_target", "Merge Request Hook", &request(""));
    let nothing = |what: &str| format!("ignored: pull request #12: {what} changes nothing to build");
    check("gitlab/merge_request_labels", "Merge Request Hook", &nothing("a change of its texts or labels"));
    check("gitlab/merge_request_approved", "Merge Request Hook", &nothing("approved"));
    check("gitlab/merge_request_skip", "Merge Request Hook", "ignored: skip ci");
    check("gitlab/merge_request_close", "Merge Request Hook", "cancel #12: pull request #12 was closed");
    check("gitlab/merge_request_merge", "Merge Request Hook", "cancel #12: pull request #12 was merged");
    check("gitlab/note", "Note Hook", "ignored: event note builds nothing");
    check("gitlab/ping", "Ping Hook", "ping");
}

#[test]
fn bitbucket_cloud() {
    let page = "https://bitbucket.org/ada/cronline";
    let pushed = format!("push branch=main commit=b before=a by=Ada L. {SAYS} link={page}/commits/B");
    let tag = format!("tag commit=b tag=v1.2 by=Ada L. {SAYS} link={page}/commits/B");
    check("bitbucket/push", "repo:push", &pushed);
    check("bitbucket/push_several", "repo:push", &format!("{pushed} + ignored: branch deleted + {tag}"));
    check("bitbucket/push_delete", "repo:push", "ignored: branch deleted");
    check("bitbucket/tag", "repo:push", &tag);
    let request = "pull_request branch=steps short=bbbbbbbbbbbb pr=12 target=main source=steps";
    let request = format!("{request} by=ada {SAYS} link={page}/pull-requests/12");
    check("bitbucket/pullrequest_created", "pullrequest:created", &request);
    check("bitbucket/pullrequest_created", "pullrequest:updated", &format!("{request} unless_built=yes"));
    let fork = "ignored: pull request #12 comes from another repository, and Bitbucket Cloud does not offer its code in the repository itself";
    check("bitbucket/pullrequest_fork", "pullrequest:created", fork);
    check("bitbucket/pullrequest_fulfilled", "pullrequest:fulfilled", "cancel #12: pull request #12 was merged");
    check("bitbucket/pullrequest_fulfilled", "pullrequest:rejected", "cancel #12: pull request #12 was declined");
    check("bitbucket/pullrequest_fork", "pullrequest:rejected", "cancel #12: pull request #12 was declined");
    check("bitbucket/ping", "diagnostics:ping", "ping");
}

#[test]
fn bitbucket_data_center() {
    check("bitbucket_dc/push", "repo:refs_changed", &format!("push branch=main commit=b before=a by=Ada {SAYS}"));
    check("bitbucket_dc/push_delete", "repo:refs_changed", "ignored: branch deleted");
    check("bitbucket_dc/tag", "repo:refs_changed", "tag commit=b tag=v1.2 by=Ada L.");
    let request = |more: &str| {
        let page = "https://git.example.org/projects/CI/repos/cronline/pull-requests/12";
        format!("pull_request commit=b pr=12 target=main source=steps head=b{more} by=Ada L. {SAYS} link={page}")
    };
    check("bitbucket_dc/pr_opened", "pr:opened", &request(""));
    check("bitbucket_dc/pr_fork", "pr:from_ref_updated", &request(" fork=yes"));
    check("bitbucket_dc/pr_new_target", "pr:modified", &request(""));
    let nothing = "ignored: pull request #12: a change of its texts changes nothing to build";
    check("bitbucket_dc/pr_modified", "pr:modified", nothing);
    check("bitbucket_dc/pr_declined", "pr:declined", "cancel #12: pull request #12 was declined");
    check("bitbucket_dc/pr_declined", "pr:merged", "cancel #12: pull request #12 was merged");
    check("bitbucket_dc/ping", "diagnostics:ping", "ping");
}

#[test]
fn anything_else() {
    check("generic/push", "", &format!("push branch=main commit=b before=a by=Ada {SAYS} changed=src/lib.rs"));
    check("generic/push_ref", "", "push branch=main commit=b before=a");
    check("generic/push_delete", "", "ignored: branch deleted");
    check("generic/tag", "", "tag commit=b tag=v1.2");
    let request = format!("pull_request commit=b pr=12 target=main source=steps head=b fork=yes by=mallory {SAYS}");
    check("generic/pull_request_opened", "", &request);
    check("generic/pull_request_closed", "", "cancel #12: pull request #12 was closed");
    check("generic/ping", "", "ping");
}

#[test]
fn every_payload_is_looked_at_and_about_its_repository() {
    for forge in Forge::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hook/recorded").join(forge.name());
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = format!("{forge}/{}", path.file_stem().unwrap().to_str().unwrap());
            assert!(include_str!("tests.rs").contains(path.file_stem().unwrap().to_str().unwrap()), "{name}");
            let told = read(forge, &headers(forge, "push"), &std::fs::read(&path).unwrap());
            let Ok(told) = told else { continue };
            let about = told.repositories.iter().all(|repository| repository.ends_with("/cronline"));
            assert!(about, "{name}: {:?}", told.repositories);
        }
    }
}

#[test]
fn who_speaks() {
    let of = |names: &[&str]| {
        let headers: Headers = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        forge_of(&headers)
    };
    // Forgejo sends all of them in one request.
    assert_eq!(of(&["x-github-event", "x-gitea-event", "x-forgejo-event"]), Forge::Forgejo);
    assert_eq!(of(&["x-github-event", "x-gitea-event"]), Forge::Gitea);
    assert_eq!(of(&["x-github-event"]), Forge::GitHub);
    assert_eq!(of(&["x-gitlab-event"]), Forge::GitLab);
    assert_eq!(of(&["x-event-key", "x-hook-uuid"]), Forge::Bitbucket);
    assert_eq!(of(&["x-event-key", "x-request-id"]), Forge::BitbucketDc);
    assert_eq!(of(&[]), Forge::Generic);
    assert!(fits(Forge::Gitea, Forge::Forgejo) && !fits(Forge::GitHub, Forge::Forgejo));
    assert!(!fits(Forge::GitLab, Forge::Generic) && fits(Forge::Generic, Forge::Generic));
}

#[test]
fn a_form_holds_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hook/recorded/github/ping.json");
    let json = std::fs::read_to_string(path).unwrap();
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &json).finish();
    let mut headers = headers(Forge::GitHub, "ping");
    headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
    assert_eq!(read(Forge::GitHub, &headers, form.as_bytes()).unwrap().verdicts, [Verdict::Ping]);
    let error = read(Forge::GitHub, &headers, b"other=1").unwrap_err().to_string();
    assert!(error.contains("no field `payload`"), "{error}");
}

#[test]
fn what_no_forge_sends() {
    let zeros = "0".repeat(40);
    let check = |forge: Forge, event: &str, body: &str, expect: &str| {
        let got = match read(forge, &headers(forge, event), body.as_bytes()) {
            Ok(told) => told.verdicts.iter().map(shown).collect::<Vec<_>>().join(" + "),
            Err(unreadable) => format!("unreadable: {unreadable}"),
        };
        assert!(got.contains(expect), "{forge} {event} {body:.200}\n  expected {expect}\n  got      {got:.300}");
    };
    let deep = "[".repeat(100_000);
    for forge in Forge::ALL {
        for body in ["", "nonsense", "[]", "null", "\"x\"", "{", "\u{0}", &deep, r#"{"ref": {"a": 1}, "push": 3}"#] {
            let event = if forge == Forge::Bitbucket { "repo:push" } else { "push" };
            match (forge, body) {
                (Forge::BitbucketDc, r#"{"ref": {"a": 1}, "push": 3}"#) => {}
                _ => check(forge, event, body, "unreadable: "),
            }
        }
    }
    let good = "b".repeat(40);
    let push = |reference: &str, after: &str| format!(r#"{{"ref": "{reference}", "after": "{after}"}}"#);
    check(Forge::GitHub, "push", &push("refs/heads/main", &good), "push branch=main commit=b");
    check(Forge::GitHub, "push", &push("refs/heads/main", "b"), "is not a commit");
    check(Forge::GitHub, "push", &push("refs/heads/main", &"b".repeat(64)), "is not a commit");
    check(Forge::GitHub, "push", &push("refs/heads/--upload-pack=id", &good), "begins with '-'");
    check(Forge::GitHub, "push", &push("refs/heads/a..b", &good), "is not a branch's name");
    check(Forge::GitHub, "push", &push("refs/tags/a b", &good), "white space");
    check(Forge::GitHub, "push", &push("refs/notes/x", &good), "ignored: refs/notes/x is neither");
    check(Forge::GitHub, "push", &push("refs/heads/x", &zeros), "ignored: branch deleted");
    check(Forge::GitHub, "push", r#"{"ref": "refs/heads/main"}"#, "names no `ref` or no `after`");
    check(Forge::GitHub, "pull_request", r#"{"action": "opened", "number": 1}"#, "names no `pull_request`");
    let ends = r#""head": {"ref": "x", "sha": "HEAD"}, "base": {"ref": "main"}"#;
    let request = |number: &str| format!(r#"{{"action": "opened", "number": {number}, "pull_request": {{{ends}}}}}"#);
    check(Forge::GitHub, "pull_request", &request("1"), "is not a commit");
    check(Forge::GitHub, "pull_request", &request("-1"), "unreadable: the delivery cannot be read");
    check(Forge::GitHub, "pull_request", &request("1e99"), "unreadable: the delivery cannot be read");
    check(Forge::GitLab, "Push Hook", "{}", "has no `object_kind`");
    check(Forge::Generic, "", r#"{"branch": "main", "tag": "v1", "commit": "x"}"#, "several of `branch`");
    check(Forge::Generic, "", r#"{"branch": "main"}"#, "names no `commit`");
    let odd = format!(r#"{{"repo": "ext::sh -c id", "branch": "main", "commit": "{good}"}}"#);
    check(Forge::Generic, "", &odd, "`repo` is no address");
    let change = format!(r#"{{"refId": "refs/heads/x", "toHash": "{good}"}}"#);
    let many = format!(r#"{{"changes": [{}]}}"#, vec![change; 40].join(","));
    check(Forge::BitbucketDc, "repo:refs_changed", &many, "ignored: 24 more branches and tags of the same push");
}
