//! What a transaction leaves to others to do: they are woken when it is on the disk, and only when there is something.

use tokio::sync::Notify;

use super::Store;

/// Who does what was written down. Each looks into the store once at its start, and then whenever it is woken; what is
/// written while it looks wakes it again. Whoever commits may end between the write and this, so each looks unasked too,
/// now and then.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    /// Forges are to be told how builds go.
    pub(crate) statuses: Notify,
    /// Messages are to be sent: to publishers, or laid aside for people.
    pub(crate) outbox: Notify,
    /// A job's turn has come whose place another build takes.
    pub(crate) downstream: Notify,
}

/// What of it a transaction has written down.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) statuses: bool,
    pub(super) outbox: bool,
    pub(super) downstream: bool,
}

impl Store {
    /// What is left to others to do.
    pub(crate) fn errands(&self) -> &Errands {
        &self.errands
    }
}

impl Errands {
    /// A transaction that left this is on the disk.
    pub(super) fn wake(&self, left: &Left) {
        let Self { statuses, outbox, downstream } = self;
        for (who, is_left) in [(statuses, left.statuses), (outbox, left.outbox), (downstream, left.downstream)] {
            if is_left {
                who.notify_one();
            }
        }
    }
}
