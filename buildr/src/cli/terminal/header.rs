//! What a run begins with: which code is built, by what, and what of it would be otherwise on a farm.

use serde::Serialize;

use super::super::look::{Look, Tone, clean};

/// What is known before anything runs.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Header {
    /// This program's version.
    pub(crate) version: &'static str,
    /// The project's name.
    pub(crate) project: String,
    /// The commit's short name; none outside git.
    pub(crate) commit: Option<String>,
    /// The branch that the tree is on.
    pub(crate) branch: Option<String>,
    /// How many files differ from the commit.
    pub(crate) changed: usize,
    /// The Docker daemon's version, where it tells one.
    pub(crate) docker: Option<String>,
}

impl Header {
    /// As a line for people.
    pub(super) fn line(&self, look: Look) -> String {
        let project = clean(&self.project);
        let mut of_tree: Vec<String> = self.branch.iter().map(|branch| clean(branch).into_owned()).collect();
        match self.changed {
            0 => {}
            1 => of_tree.push("1 file changed".to_owned()),
            many => of_tree.push(format!("{many} files changed")),
        }
        let mut at = project.into_owned();
        if let Some(commit) = &self.commit {
            at = format!("{at} @ {commit}");
        }
        if !of_tree.is_empty() {
            at = format!("{at} ({})", of_tree.join(", "));
        }
        let mut parts = vec![look.paint(Tone::Strong, &format!("buildr {}", self.version)), at];
        parts.extend(self.docker.as_ref().map(|version| format!("docker {}", clean(version))));
        parts.join(" · ")
    }
}

/// What would be otherwise on a farm, as lines for people. Each difference is a clause.
pub(super) fn differences(look: Look, differences: &[String]) -> Vec<String> {
    match differences {
        [] => vec![look.paint(Tone::Good, "as on the farm")],
        [one] => vec![look.paint(Tone::Odd, &format!("as on the farm, but: {}", clean(one)))],
        many => {
            let first = look.paint(Tone::Odd, &format!("as on the farm, but for {} differences:", many.len()));
            let rest = many.iter().map(|difference| format!("  - {}", clean(difference)));
            std::iter::once(first).chain(rest).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_built() {
        let line = |header: &Header| header.line(Look::plain(None));
        let mut header = Header { version: "0.3.0", project: "demo".to_owned(), ..Header::default() };
        assert_eq!(line(&header), "buildr 0.3.0 · demo");
        header.changed = 1;
        header.commit = Some("4f1c2a9".to_owned());
        assert_eq!(line(&header), "buildr 0.3.0 · demo @ 4f1c2a9 (1 file changed)");
        header.branch = Some("main".to_owned());
        header.docker = Some("29.1.0".to_owned());
        header.changed = 2;
        assert_eq!(line(&header), "buildr 0.3.0 · demo @ 4f1c2a9 (main, 2 files changed) · docker 29.1.0");
    }

    #[test]
    fn differences_are_counted() {
        let lines = |all: &[&str]| {
            let all: Vec<String> = all.iter().map(|&one| one.to_owned()).collect();
            differences(Look::plain(None), &all).join("\n")
        };
        assert_eq!(lines(&[]), "as on the farm");
        assert_eq!(lines(&["the secret X is not given"]), "as on the farm, but: the secret X is not given");
        assert_eq!(lines(&["one", "two"]), "as on the farm, but for 2 differences:\n  - one\n  - two");
    }
}
