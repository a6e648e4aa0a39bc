//! What a mail says of a branch that broke or was fixed.

use protocol::RepoUrl;

use crate::store::Notice;

/// What it is about, in a line: which branch of which repository, and what broke it or fixed it.
pub(super) fn subject(notice: &Notice) -> String {
    let build = &notice.build;
    let why = match notice.kind.as_str() {
        "fixed" => build.subject.as_deref(),
        _ => build.message.as_deref().and_then(|message| message.lines().next()).or(build.subject.as_deref()),
    };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} is {}{why}", branch_of(notice), notice.kind)
}

/// What it says: what went wrong first, and where to look.
pub(super) fn text(notice: &Notice, pages: &str) -> String {
    let build = &notice.build;
    let (is, was) = if notice.kind == "fixed" { ("is fixed", "failed") } else { ("is broken", "passed") };
    let mut text = format!(
        "{} {is}: build {} {}, {} before it {was}.\n\n",
        branch_of(notice),
        build.number,
        build.status.name(),
        notice.before
    );
    for line in build.message.iter().flat_map(|message| message.lines()) {
        text += &format!("    {line}\n");
    }
    if build.message.is_some() {
        text += "\n";
    }
    let commit = build.commit.as_ref().map(|commit| match &build.subject {
        Some(subject) => format!("{} {subject}", commit.short()),
        None => commit.short().to_owned(),
    });
    let facts = [
        ("commit", commit),
        ("author", notice.author.clone()),
        ("build", Some(format!("{pages}/builds/{}", build.number.0))),
        ("before", Some(format!("{pages}/builds/{}", notice.before.0))),
    ];
    for (name, fact) in facts {
        text += &fact.map(|fact| format!("{name:<8}{fact}\n")).unwrap_or_default();
    }
    text
}

fn branch_of(notice: &Notice) -> String {
    let repo = &notice.build.repo;
    let name = repo.parse::<RepoUrl>().map_or_else(|_| repo.clone(), |repo| repo.identity());
    match &notice.build.branch {
        Some(branch) => format!("{name} {branch}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;
    use protocol::api::{BuildRow, Status};

    use super::*;

    fn notice(kind: &str, status: Status, message: Option<&str>) -> Notice {
        let build = BuildRow {
            number: BuildNumber(7),
            repo: "https://***@example.org/ada/cronline.git".to_owned(),
            branch: Some("main".parse().unwrap()),
            commit: Some("0123456789abcdef0123456789abcdef01234567".parse().unwrap()),
            subject: Some("Count days".to_owned()),
            trigger: "push".to_owned(),
            status,
            message: message.map(str::to_owned),
            created_ms: 1,
            started_ms: Some(2),
            ended_ms: Some(3),
        };
        Notice {
            id: 1,
            message: "msg_1".to_owned(),
            recipient: "ada@example.org".to_owned(),
            kind: kind.to_owned(),
            build,
            author: Some("Ada".to_owned()),
            before: BuildNumber(6),
            at_ms: 3,
            tries: 0,
        }
    }

    #[test]
    fn what_broke_a_branch() {
        let notice = notice("broken", Status::Failed, Some("unit failed: exit code 101\nmore of it"));
        assert_eq!(subject(&notice), "example.org/ada/cronline main is broken: unit failed: exit code 101");
        let expect = "\
example.org/ada/cronline main is broken: build #7 failed, #6 before it passed.

    unit failed: exit code 101
    more of it

commit  01234567 Count days
author  Ada
build   https://ci.example.org/builds/7
before  https://ci.example.org/builds/6
";
        assert_eq!(text(&notice, "https://ci.example.org"), expect);
    }

    #[test]
    fn what_fixed_it() {
        let notice = notice("fixed", Status::Passed, None);
        assert_eq!(subject(&notice), "example.org/ada/cronline main is fixed: Count days");
        let text = text(&notice, "https://ci.example.org");
        let first = "example.org/ada/cronline main is fixed: build #7 passed, #6 before it failed.\n\ncommit";
        assert!(text.starts_with(first), "{text}");
    }
}
