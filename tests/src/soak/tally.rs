//! What a soak counted.

use std::fmt;

/// The counts, each with the builds that it is about.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many builds were thrown.
    pub submitted: u32,
    /// How many of them are in the store as one build that is over.
    pub once: u32,
    /// Those that are there more often.
    pub twice: Vec<String>,
    /// Those that are not there.
    pub lost: Vec<String>,
    /// Those that are not over.
    pub stuck: Vec<String>,
    /// Those that did not end as they must, or lost an agent that was well.
    pub wrong: Vec<String>,
    /// What is left: containers, volumes, networks, images, folders, spools, messages; and processes that ended badly.
    pub orphans: Vec<String>,
    /// Logs of attempts that came to their end, of which something is missing, and which say so.
    pub incomplete: Vec<String>,
    /// The bytes that scripts printed, of logs whose content is known.
    pub bytes_sent: u64,
    /// How many of them are in the store.
    pub bytes_stored: u64,
    /// Messages that were published by hand without an id.
    pub without_id: u32,
    /// How many of these became two builds, while agents or lines died.
    pub without_id_doubled: u32,
    /// How many attempts were lost with an agent that was harmed.
    pub attempts_lost: u32,
    /// Builds whose outcome is unknown, because their agent was lost after a stage that must not run twice had begun.
    pub unknown: u32,
    /// Of these, those whose script had not said that it began: the agent was killed between the coordinator's word and
    /// the script's first line.
    pub unknown_not_begun: u32,
    /// What was broken.
    pub broken: String,
    /// How long all of it took.
    pub seconds: u64,
}

impl Tally {
    /// Whether only those counts are other than zero that may be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let none = [&self.twice, &self.lost, &self.stuck, &self.wrong, &self.orphans, &self.incomplete];
        none.iter().all(|list| list.is_empty())
            && self.once == self.submitted
            && self.submitted > 0
            && self.bytes_sent == self.bytes_stored
            && !self.broken.contains("FELL")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |list: &[String]| u64::try_from(list.len()).unwrap_or(u64::MAX);
        let rows = [
            ("builds submitted", u64::from(self.submitted)),
            ("recorded once", u64::from(self.once)),
            ("recorded twice", count(&self.twice)),
            ("lost", count(&self.lost)),
            ("stuck", count(&self.stuck)),
            ("wrong outcome", count(&self.wrong)),
            ("orphans left", count(&self.orphans)),
            ("logs incomplete", count(&self.incomplete)),
            ("log bytes sent", self.bytes_sent),
            ("log bytes stored", self.bytes_stored),
            ("by hand without an id", u64::from(self.without_id)),
            ("  of them doubled", u64::from(self.without_id_doubled)),
            ("attempts lost with their agent", u64::from(self.attempts_lost)),
            ("outcome unknown", u64::from(self.unknown)),
            ("  of them not begun", u64::from(self.unknown_not_begun)),
            ("seconds", self.seconds),
        ];
        writeln!(f, "{}", self.broken)?;
        for (name, count) in rows {
            writeln!(f, "{name:<32} {count:>12}")?;
        }
        let lists = [
            ("twice", &self.twice),
            ("lost", &self.lost),
            ("stuck", &self.stuck),
            ("wrong", &self.wrong),
            ("left", &self.orphans),
            ("incomplete", &self.incomplete),
        ];
        for (name, list) in lists {
            list.iter().try_for_each(|one| writeln!(f, "{name}: {one}"))?;
        }
        Ok(())
    }
}
