//! Whether this agent takes jobs, and why not: what a person said about it from afar, and what its disks have left.
//! Slots wait while there is a reason, and the next heartbeat says it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::home::{Home, HomeError};

/// Why no job is taken; nothing in it: jobs are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    /// What a person said. It holds until a person takes it back, over restarts too.
    pub(crate) note: Option<String>,
    /// What is wrong with a disk.
    pub(crate) disk: Option<String>,
    /// Why no container can be made.
    pub(crate) executor: Option<String>,
}

impl Reasons {
    /// All of it as one sentence.
    pub(crate) fn sentence(&self) -> Option<String> {
        let note = self.note.as_deref().map(|note| match note.trim() {
            "" => "paused by a person".to_owned(),
            note => format!("paused by a person: {note}"),
        });
        let all: Vec<String> = note.into_iter().chain(self.disk.clone()).chain(self.executor.clone()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The reasons of one agent, which others change and wait for. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    home: Arc<Home>,
    reasons: Arc<watch::Sender<Reasons>>,
}

impl Standing {
    /// As the last life of this agent left it.
    ///
    /// # Errors
    /// When what was said cannot be read.
    pub(crate) fn open(home: Arc<Home>) -> Result<Self, HomeError> {
        let note = home.note()?;
        if let Some(note) = &note {
            tracing::warn!(note, "taking no jobs: a person paused this agent");
        }
        Ok(Self { home, reasons: Arc::new(watch::Sender::new(Reasons { note, ..Reasons::default() })) })
    }

    /// A person said this, or took back what was said.
    pub(crate) fn say(&self, note: Option<String>) {
        if self.reasons.borrow().note == note {
            return;
        }
        // Not kept, it holds as long as this life does; the coordinator tells the next one again.
        if let Err(error) = self.home.keep_note(note.as_deref()) {
            tracing::warn!(%error, "what was said about this agent could not be kept");
        }
        self.change(|reasons| reasons.note = note);
    }

    /// A disk has too little room, or enough again.
    pub(crate) fn disk(&self, reason: Option<String>) {
        self.change(|reasons| reasons.disk = reason);
    }

    /// The executor does not work, or works again.
    pub(crate) fn executor(&self, reason: Option<String>) {
        self.change(|reasons| reasons.executor = reason);
    }

    /// The reasons, now and from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<Reasons> {
        self.reasons.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Reasons)) {
        self.reasons.send_if_modified(|reasons| {
            let before = reasons.clone();
            change(reasons);
            match (before.sentence(), reasons.sentence()) {
                (Some(_), None) => tracing::info!("nothing stands against taking jobs any more"),
                (before, Some(now)) if before.as_ref() != Some(&now) => tracing::warn!("taking no jobs: {now}"),
                _ => {}
            }
            before != *reasons
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_said() {
        let check = |note: Option<&str>, disk: Option<&str>, expect: Option<&str>| {
            let reasons = Reasons { note: note.map(str::to_owned), disk: disk.map(str::to_owned), executor: None };
            assert_eq!(reasons.sentence().as_deref(), expect);
        };
        check(None, None, None);
        check(Some("new fans"), None, Some("paused by a person: new fans"));
        check(Some(" "), None, Some("paused by a person"));
        check(None, Some("disk 4 % free on /w"), Some("disk 4 % free on /w"));
        check(Some("x"), Some("disk 4 %"), Some("paused by a person: x; disk 4 %"));
    }

    #[test]
    fn a_pause_outlives_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let home = || Arc::new(Home::open(folder.path(), None).unwrap());
        let standing = Standing::open(home()).unwrap();
        assert_eq!(standing.follow().borrow().sentence(), None);
        standing.say(Some("new fans\nare put in".to_owned()));
        standing.disk(Some("full".to_owned()));
        drop(standing);
        let standing = Standing::open(home()).unwrap();
        let expect = Reasons { note: Some("new fans\nare put in".to_owned()), ..Reasons::default() };
        assert_eq!(*standing.follow().borrow(), expect);
        standing.say(None);
        drop(standing);
        assert_eq!(*Standing::open(home()).unwrap().follow().borrow(), Reasons::default());
    }
}
