//! A build in a pipe or a file: every line says which stage it is from, and its bytes are as they came.

use protocol::{JobKey, LogName, StageName, StageOutcome};

use super::account::{Account, State};
use super::verdict;
use crate::cli::look::{Look, Tone, clean};
use crate::sink::Lines;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Plain {
    lines: Lines<Option<String>>,
}

impl Plain {
    /// Ends the line that is not over.
    pub(super) fn close(&mut self) -> Vec<u8> {
        self.lines.close().to_vec()
    }

    /// A line of buildr's own.
    pub(super) fn say(&mut self, text: &str) -> Vec<u8> {
        let mut out = self.close();
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
        out
    }

    /// A stage begins.
    pub(super) fn began(
        &mut self,
        account: &Account,
        look: Look,
        job: Option<&JobKey>,
        stage: &StageName,
        image: &str,
    ) -> Vec<u8> {
        self.say(&format!("{} starts on {}", prefix(look, &account.title(job, stage)), clean(image)))
    }

    /// A log grew: line for line or not, what comes late of a line is shown when it comes.
    pub(super) fn printed(
        &mut self,
        account: &Account,
        look: Look,
        job: Option<&JobKey>,
        log: &LogName,
        bytes: &[u8],
    ) -> Vec<u8> {
        let title = account.log_title(job, log);
        let prefix = title.as_deref().map_or_else(String::new, |title| prefix(look, title) + " ");
        self.lines.add(&title, &prefix, bytes)
    }

    /// A stage ended. Where stages run one after the other, the next heading or the summary says so.
    pub(super) fn ended(&mut self, account: &Account, look: Look, job: Option<&JobKey>, stage: &StageName) -> Vec<u8> {
        let found = account.stages.iter().find(|found| found.stage == *stage && found.job.as_ref() == job);
        let Some((found, State::Over(result, took))) = found.map(|found| (found, &found.state)) else {
            return self.close();
        };
        if matches!(result, StageOutcome::Skipped { .. }) || account.is_alone(job, stage) {
            return self.close();
        }
        let text = verdict::ended_in_words(look, found.how(), result, *took);
        self.say(&format!("{} {text}", prefix(look, &account.title(job, stage))))
    }
}

/// What a line begins with that says whose it is.
pub(super) fn prefix(look: Look, title: &str) -> String {
    look.paint(Tone::Faint, &format!("{title} |"))
}
