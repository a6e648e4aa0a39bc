//! How output looks: its colours and its width. Text from outside is made harmless here.

use std::borrow::Cow;
use std::io;

use console::Term;
use protocol::api::Status;

use crate::process::color::Color;

/// How output looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    colored: Colored,
    /// The terminal's width in columns; nothing when it is no terminal, and then nothing is cut.
    pub(super) width: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colored {
    Yes,
    No,
}

/// What a text means, which a colour may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
    Odd,
    Busy,
}

impl Look {
    /// For stdout.
    pub(super) fn of_stdout(color: Color) -> Self {
        let colored = if color.is_on(&io::stdout()) { Colored::Yes } else { Colored::No };
        Self { colored, width: Term::stdout().size_checked().map(|(_, columns)| usize::from(columns)) }
    }

    /// Whether colours are wanted.
    pub(super) fn is_colored(&self) -> bool {
        self.colored == Colored::Yes
    }

    /// The text in its colour.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Odd => "33",
            Tone::Busy => "36",
        };
        match self.colored {
            Colored::Yes if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn plain(width: Option<usize>) -> Self {
        Self { colored: Colored::No, width }
    }

    #[cfg(test)]
    pub(super) fn colored() -> Self {
        Self { colored: Colored::Yes, width: None }
    }
}

/// The tone of a build's status.
pub(super) fn tone(status: Status) -> Tone {
    match status {
        Status::Queued | Status::Skipped => Tone::Faint,
        Status::Running => Tone::Busy,
        Status::Cancelling | Status::Cancelled => Tone::Odd,
        Status::Passed => Tone::Good,
        Status::Failed | Status::Errored => Tone::Bad,
    }
}

/// The text on one line, without what would steer a terminal: commit messages and answers come from anybody.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    // Marks that turn the direction of writing could make a text read as another.
    let bad = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.contains(bad) { Cow::Owned(text.replace(bad, " ").trim().to_owned()) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered_by_texts() {
        assert_eq!(clean("fix: parser"), "fix: parser");
        assert_eq!(clean("a\x1b]0;evil\x07b\u{9b}2Jc\n"), "a ]0;evil b 2Jc");
        assert_eq!(clean("\u{202e}drow"), "drow");
    }

    #[test]
    fn colours_are_off_where_they_are_not_wanted() {
        assert_eq!(Look::plain(None).paint(Tone::Bad, "failed"), "failed");
        assert_eq!(Look::colored().paint(Tone::Bad, "failed"), "\x1b[31mfailed\x1b[0m");
        assert_eq!(Look::colored().paint(Tone::Plain, "x"), "x");
    }
}
