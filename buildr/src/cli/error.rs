//! Why a command did not do what it was asked for, what to do about it, and the exit code.

use std::error::Error as _;
use std::io::{self, Write};

use super::exit;
use super::run::RunError;
use crate::carry::CarryError;
use crate::client::ClientError;
use crate::import::ImportError;
use crate::plan::PlanError;
use crate::process::ProcessError;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// What was typed cannot be meant.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
        /// What to type instead.
        instead: Option<String>,
    },
    /// The farm.
    #[error(transparent)]
    Farm(#[from] ClientError),
    /// A build on this machine could not begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// No plan comes of the manifest.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another system's file is none, or nobody knows whose it is.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A file cannot be written.
    #[error("failed to write {path}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was kept cannot be had, or not be unpacked.
    #[error(transparent)]
    Carry(#[from] CarryError),
    /// This process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No runtime could be started.
    #[error("failed to start")]
    Runtime(#[source] io::Error),
    /// What is to be shown cannot be written.
    #[error("failed to write the output")]
    Output(#[source] io::Error),
    /// A build that was watched was not seen to its end, for nobody reads the output.
    #[error("nobody reads the output any more")]
    Unread,
    /// The program behind a command cannot be started.
    #[error("failed to start {program}")]
    Forward {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program behind a command is not there.
    #[error("`buildr {command}` is the program {program}, which is neither beside {beside} nor in a folder of PATH")]
    NoProgram {
        /// What was typed.
        command: String,
        /// What it runs.
        program: String,
        /// Where it was looked for first.
        beside: String,
    },
}

impl CliError {
    /// The output takes no more while something goes on whose end was asked for: where nobody reads it any more, what
    /// was asked for is not done.
    pub(super) fn unseen(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unread } else { Self::Output(error) }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } | Self::Run(RunError::Manifest(_)) | Self::Plan(_) | Self::Import(_) => exit::USAGE,
            // `buildr logs 12 | head` did all that it was asked for.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => exit::DONE,
            _ => exit::OTHER,
        }
    }

    /// Writes it as `error: …` and, where there is something to do, `try: …`. A reader that went away is no news.
    pub(super) fn show(&self, to: &mut impl Write, color: bool) -> io::Result<()> {
        if matches!(self, Self::Unread) || self.exit_code() == exit::DONE {
            return Ok(());
        }
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        let (red, bold, end) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let text = match self {
            // A mistake is shown in the lines around it.
            Self::Run(RunError::Manifest(_)) | Self::Plan(_) | Self::Import(_) => {
                text.lines().map(super::look::clean).collect::<Vec<_>>().join("\n")
            }
            _ => super::look::clean(&text).into_owned(),
        };
        writeln!(to, "{red}error:{end} {text}")?;
        match self.advice() {
            Some(advice) => writeln!(to, "  {bold}try:{end} {}", super::look::clean(&advice)),
            None => Ok(()),
        }
    }

    fn advice(&self) -> Option<String> {
        match self {
            Self::Usage { instead, .. } => instead.clone(),
            Self::Farm(error) | Self::Carry(CarryError::Depot(error)) => error.advice(),
            Self::NoProgram { program, .. } => Some(format!("install {program}, or put its folder into PATH")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_line_and_what_to_do_another() {
        let check = |error: CliError, code: u8, expect: &str| {
            let mut out = Vec::new();
            error.show(&mut out, false).unwrap();
            assert_eq!((String::from_utf8(out).unwrap().as_str(), error.exit_code()), (expect, code));
        };
        let away = ClientError::Away { server: "http://x".to_owned(), reason: "connection refused".to_owned() };
        check(
            away.into(),
            3,
            "error: no farm answers at http://x (connection refused)\n  \
             try: start one with `buildr up`, or point --server / BUILDR_SERVER at one\n",
        );
        let usage = |instead| CliError::Usage { what: "no stage\x1b[2J x".to_owned(), instead };
        check(usage(None), 2, "error: no stage [2J x\n");
        check(usage(Some("build".to_owned())), 2, "error: no stage [2J x\n  try: build\n");
        check(CliError::Output(io::Error::other("disk full")), 3, "error: failed to write the output: disk full\n");
        check(CliError::Output(io::ErrorKind::BrokenPipe.into()), 0, "");
        check(CliError::Unread, 3, "");
        check(CliError::unseen(io::ErrorKind::BrokenPipe.into()), 3, "");
        check(CliError::unseen(io::Error::other("full")), 3, "error: failed to write the output: full\n");
    }
}
