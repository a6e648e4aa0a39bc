//! Whether output carries colours: the person's choice, then NO_COLOR, then whether somebody looks at it.

use std::io::IsTerminal;

/// When output carries colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or the terminal is `dumb`.
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
        // https://no-color.org: set and not empty.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        self.decide(stream.is_terminal(), refused || dumb)
    }

    fn decide(self, terminal: bool, refused: bool) -> bool {
        match self {
            Self::Auto => terminal && !refused,
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
        for (color, terminal, refused, expect) in [
            (Color::Auto, true, false, true),
            (Color::Auto, true, true, false),
            (Color::Auto, false, false, false),
            (Color::Always, false, true, true),
            (Color::Never, true, false, false),
        ] {
            assert_eq!(color.decide(terminal, refused), expect, "{color:?} {terminal} {refused}");
        }
    }
}
