//! How work is ended from outside: politely, or at once; all of it, or a part.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// The two ways in which a running stage is ended from outside: politely, and at once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    cancel: CancellationToken,
    kill: CancellationToken,
    reason: Arc<Reason>,
}

/// Why an end was asked for: of this part of the work, or of what it is a part of.
#[derive(Debug, Default)]
struct Reason {
    own: OnceLock<String>,
    above: Option<Arc<Self>>,
}

impl Reason {
    fn said(&self) -> Option<&str> {
        self.own.get().map(String::as_str).or_else(|| self.above.as_ref()?.said())
    }
}

impl Stop {
    /// One that nobody has used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One for a part of the work: it ends with this one, and can be ended alone.
    #[must_use]
    pub fn part(&self) -> Self {
        let reason = Reason { own: OnceLock::new(), above: Some(Arc::clone(&self.reason)) };
        Self { cancel: self.cancel.child_token(), kill: self.kill.child_token(), reason: Arc::new(reason) }
    }

    /// SIGTERM, grace, SIGKILL.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The same, and why, for those who look at the build. The first reason stays.
    pub fn cancel_because(&self, reason: &str) {
        self.reason.own.get_or_init(|| reason.to_owned());
        self.cancel();
    }

    /// Why an end was asked for, if somebody said.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.said()
    }

    /// SIGKILL now; implies [`Stop::cancel`].
    pub fn kill(&self) {
        self.cancel.cancel();
        self.kill.cancel();
    }

    /// Whether an end was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Whether the end must be at once.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// The polite one alone, for work that knows only one way to end.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Resolves when an end is asked for.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Resolves when the end must be at once.
    pub async fn killed(&self) {
        self.kill.cancelled().await;
    }
}
