//! Whether output carries colours: the person's choice, then NO_COLOR and its kin, then whether somebody looks at it.

use std::ffi::OsString;
use std::io::IsTerminal;

/// When output carries colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or the terminal is `dumb`; elsewhere when CLICOLOR_FORCE is set.
    #[default]
    Auto,
    /// Always, into files and pipes too.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether what is written to `stream` carries colours.
    #[must_use]
    pub fn is_on(self, stream: &impl IsTerminal) -> bool {
        self.decide(stream.is_terminal(), |name| std::env::var_os(name))
    }

    /// The rules of no-color.org and bixense.com/clicolors, which most programs share.
    fn decide(self, terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = variable("TERM").is_some_and(|value| value == "dumb");
        match self {
            Self::Auto => !is_set("NO_COLOR") && (forced || terminal && !dumb),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_environment() {
        for (color, terminal, variable, expect) in [
            (Color::Auto, true, "OTHER=1", true),
            (Color::Auto, true, "NO_COLOR=1", false),
            (Color::Auto, true, "NO_COLOR=", true),
            (Color::Auto, true, "TERM=dumb", false),
            (Color::Auto, false, "OTHER=1", false),
            (Color::Auto, false, "CLICOLOR_FORCE=1", true),
            (Color::Auto, false, "CLICOLOR_FORCE=0", false),
            (Color::Always, false, "NO_COLOR=1", true),
            (Color::Never, true, "CLICOLOR_FORCE=1", false),
        ] {
            let (name, value) = variable.split_once('=').unwrap();
            let environment = |asked: &str| (asked == name).then(|| value.into());
            assert_eq!(color.decide(terminal, environment), expect, "{color:?} {terminal} {variable}");
        }
    }
}
