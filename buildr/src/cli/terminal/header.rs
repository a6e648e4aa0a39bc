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
    /// What would be otherwise on a farm, a clause each.
    pub(crate) differences: Vec<String>,
    /// What a person should know beside that, a sentence each.
    pub(crate) notes: Vec<String>,
}

/// How many differences stand in the header's own line.
const IN_LINE: usize = 1;

impl Header {
    /// As lines for people.
    pub(super) fn lines(&self, look: Look) -> Vec<String> {
        let project = clean(&self.project);
        let at = match (&self.commit, &self.branch) {
            (Some(commit), Some(branch)) => format!("{project} @ {commit} ({})", clean(branch)),
            (Some(commit), None) => format!("{project} @ {commit}"),
            (None, _) => project.into_owned(),
        };
        let mut parts = vec![look.paint(Tone::Strong, &format!("buildr {}", self.version)), at];
        parts.extend(self.docker.as_ref().map(|version| format!("docker {}", clean(version))));
        let mut below = Vec::new();
        match self.differences.as_slice() {
            [] => parts.push(look.paint(Tone::Good, "as on the farm")),
            few if few.len() <= IN_LINE => {
                let text = format!("as on the farm, but: {}", clean(&few.join("; ")));
                parts.push(look.paint(Tone::Odd, &text));
            }
            many => {
                parts.push(look.paint(Tone::Odd, &format!("as on the farm, but for {} differences:", many.len())));
                below.extend(many.iter().map(|difference| format!("  - {}", clean(difference))));
            }
        }
        let mut lines = vec![parts.join(" · ")];
        lines.append(&mut below);
        lines.extend(self.notes.iter().map(|note| format!("  {}", look.paint(Tone::Faint, &clean(note)))));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_built_and_what_is_otherwise() {
        let lines = |header: &Header| header.lines(Look::plain(None)).join("\n");
        let mut header = Header { version: "0.3.0", project: "demo".to_owned(), ..Header::default() };
        assert_eq!(lines(&header), "buildr 0.3.0 · demo · as on the farm");
        header.commit = Some("4f1c2a9".to_owned());
        header.branch = Some("main".to_owned());
        header.docker = Some("29.1.0".to_owned());
        header.differences.push("2 files are not committed".to_owned());
        assert_eq!(
            lines(&header),
            "buildr 0.3.0 · demo @ 4f1c2a9 (main) · docker 29.1.0 · as on the farm, but: 2 files are not committed"
        );
        header.differences.push("the secret TOKEN is not given".to_owned());
        header.notes.push("results: .buildr-out".to_owned());
        insta::assert_snapshot!(lines(&header), @"
        buildr 0.3.0 · demo @ 4f1c2a9 (main) · docker 29.1.0 · as on the farm, but for 2 differences:
          - 2 files are not committed
          - the secret TOKEN is not given
          results: .buildr-out
        ");
    }
}
