//! Tells the coordinator what happens in one claim's job: to the disk first, and from there, in order and as often
//! as it takes, over the link.

mod sent;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use buildr::sink::{EventSink, SinkError};
use bytes::Bytes;
use protocol::link::{AgentLink, Delivered, Health, LinkError};
use protocol::report::{Events, JobEvent, LogChunk, MAX_EVENTS, Moment, Part, Progress, Report, Span};
use protocol::{ClaimId, LogName};
use tokio::sync::watch;
use tokio::time::Instant;

use self::sent::Sent;
pub(crate) use self::sent::{Kept, Marks};
use crate::claims::Claims;
use crate::spool::ClaimSpool;

/// How much of a log travels in one message, in bytes.
const CHUNK: usize = 64 << 10;

/// The same where it travels packed, and is a fraction of that then.
const PACKED_CHUNK: usize = 128 << 10;

/// How many such messages are on their way at the same time: enough that the line is never idle for one that the
/// broker has not confirmed, and two megabytes of memory for each log that is sent.
const CHUNKS_AT_ONCE: usize = 16;

/// Up to how many bytes of JSON events travel together: a larger one travels alone.
const EVENTS_BYTES: usize = 64 << 10;

/// How long a few bytes of log, or an event that nobody waits for, wait for more of them: short enough that nobody
/// sees it.
const FLUSH: Duration = Duration::from_millis(20);

/// How long the coordinator may be silent about something that was sent before it is sent again.
const AGAIN: Duration = Duration::from_secs(10);

/// The longest of such waits: they grow with the time for which nobody has answered, for what is sent stays in a queue
/// until the coordinator is back.
const LONGEST_AGAIN: Duration = Duration::from_secs(10 * 60);

/// A claim's sink: everything is on disk when a call returns.
pub(crate) struct Reporter {
    pub(crate) spool: Arc<ClaimSpool>,
    pub(crate) claims: Claims,
    /// What the store has of it.
    pub(crate) kept: Marks,
    /// What came before.
    pub(crate) taken: Taken,
}

/// What came between the taking of a job's message and its runner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// How long after the taking the grant was here.
    pub(crate) granted_after: Duration,
    /// How long after it the runner began.
    pub(crate) begun_after: Duration,
}

impl Taken {
    /// The job's whole time: what its runner wrote down, and before it the claim.
    fn with_claim(self, spent: Vec<Span>) -> Vec<Span> {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let claim = Span { part: Part::Claim, stage: None, at_ms: 0, ms: ms(self.granted_after) };
        let later = spent.into_iter().map(|span| Span { at_ms: span.at_ms + ms(self.begun_after), ..span });
        std::iter::once(claim).chain(later).collect()
    }
}

#[async_trait]
impl EventSink for Reporter {
    async fn emit(&self, event: JobEvent) -> Result<(), SinkError> {
        let spool = Arc::clone(&self.spool);
        if let JobEvent::Finished { ending, spent } = event {
            let event = JobEvent::Finished { ending, spent: self.taken.with_claim(spent) };
            // It waits for the disk, which must not hold up the other slots.
            let written = tokio::task::spawn_blocking(move || spool.event(event).map(drop)).await;
            return written.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped))).map_err(SinkError);
        }
        spool.event(event)?;
        Ok(())
    }

    /// Certain is what the coordinator has noted under this claim while it was current: from then on no other attempt
    /// is made. A lost claim is aborted, which ends the waiting from outside.
    async fn emit_certain(&self, event: JobEvent) -> Result<(), SinkError> {
        let seq = self.spool.event(event)?;
        let claim = self.spool.claim();
        self.claims.wait_for(claim, seq);
        let noted = self.kept.clone().wait_for(|kept| kept.events >= seq).await.map(drop);
        self.claims.waits_no_more(claim, seq);
        noted.map_err(|_| SinkError(std::io::Error::other("the coordinator wants to hear no more of this job")))
    }

    async fn log(&self, log: &LogName, bytes: Bytes) -> Result<(), SinkError> {
        Ok(self.spool.log(log, &bytes)?)
    }
}

/// Sends a claim's spool until the coordinator has all of it.
pub(crate) struct Sender {
    pub(crate) spool: Arc<ClaimSpool>,
    pub(crate) link: Arc<dyn AgentLink>,
    /// Whether the result is in the store, or nobody wants it.
    pub(crate) recorded: watch::Receiver<bool>,
    /// What the store has of it.
    pub(crate) kept: Marks,
    /// What the coordinator reads.
    pub(crate) reads: Reads,
}

/// What a coordinator reads beyond what the first ones did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reads {
    /// Several events in one message.
    pub(crate) events: bool,
    /// Pieces of logs that are packed.
    pub(crate) packed: bool,
}

impl Sender {
    /// Sends until everything is stored, then removes it from the disk. Ends early only when the link is closed;
    /// then the rest is sent by the agent's next life.
    pub(crate) async fn send_all(mut self) {
        let mut written = self.spool.written();
        let mut health = self.link.health();
        let mut sent = Sent::default();
        let mut quiet_since = Instant::now();
        let mut again_at = quiet_since + AGAIN;
        loop {
            let failed = match self.send_new(&mut sent).await {
                Ok(()) => false,
                Err(LinkError::Closed) => return,
                Err(error) => {
                    tracing::debug!(%error, "reports wait for the line");
                    if health.wait_for(|health| matches!(health, Health::Up(_))).await.is_err() {
                        return;
                    }
                    // The line says that it is up and still refuses: a pause keeps this from spinning.
                    tokio::time::sleep(FLUSH * 10).await;
                    true
                }
            };
            if *self.recorded.borrow() {
                sent.result_has_its_receipt();
            }
            if self.is_done() || sent.waits_in_vain() {
                self.spool.remove();
                return;
            }
            if failed {
                continue;
            }
            let (lacking, rests) = (sent.lacking_until(), sent.logs_rest_until());
            let ask = sent.asks_at();
            tokio::select! {
                changed = written.changed() => {
                    if changed.is_err() { return }
                    quiet_since = Instant::now();
                    self.gather(&sent, &mut written).await;
                }
                Ok(()) = self.recorded.changed() => quiet_since = Instant::now(),
                Ok(()) = self.kept.changed() => {
                    self.go_back(&mut sent);
                    quiet_since = Instant::now();
                }
                () = tokio::time::sleep_until(lacking.unwrap_or_else(Instant::now)), if lacking.is_some() => {
                    sent.say_what_lacks();
                    continue;
                }
                () = tokio::time::sleep_until(rests.unwrap_or_else(Instant::now)), if rests.is_some() => continue,
                () = tokio::time::sleep_until(ask.unwrap_or_else(Instant::now)), if ask.is_some() => sent.ask(),
                () = tokio::time::sleep_until(again_at), if self.awaits_an_answer() => {
                    self.rewind(&mut sent);
                    let now = Instant::now();
                    again_at = now + (now.duration_since(quiet_since) / 6).clamp(AGAIN, LONGEST_AGAIN);
                    continue;
                }
            }
            again_at = quiet_since + AGAIN;
        }
    }

    /// Waits for more, for a moment, unless there is much already or something that others wait for.
    async fn gather(&self, sent: &Sent, written: &mut watch::Receiver<u64>) {
        let until = Instant::now() + FLUSH;
        while (sent.logs_rest_until().is_some() || self.unsent(sent) < CHUNK)
            && !self.spool.is_urgent_after(sent.events)
        {
            match tokio::time::timeout_at(until, written.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Sends what was not sent yet. Where the queue for logs is full they rest for a while, and events go on.
    async fn send_new(&self, sent: &mut Sent) -> Result<(), LinkError> {
        let events = self.spool.events_after(sent.events);
        let mut left = &events[..];
        while !left.is_empty() {
            let (together, rest) = left.split_at(self.together(left));
            delivered(self.link.report(&said_together(self.spool.claim(), together)).await?)?;
            sent.events += together.len();
            left = rest;
        }
        if sent.logs_rest_until().is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        // As long as they are now: what is printed meanwhile waits behind the events that go before it.
        let logs = self.spool.logs();
        loop {
            let pieces = self.next_pieces(&logs, sent)?;
            if pieces.is_empty() {
                break;
            }
            let (taken, next) = self.link.log_all(&pieces).await;
            for LogChunk { log, offset, bytes, .. } in pieces.iter().take(taken) {
                sent.logs.insert(log.clone(), offset + bytes.len() as u64);
            }
            match next? {
                Delivered::Full => {
                    sent.let_logs_rest();
                    return Ok(());
                }
                other => delivered(other)?,
            }
        }
        sent.logs_went();
        Ok(())
    }

    /// How many of these events, which are at least one, travel in the next message.
    fn together(&self, events: &[Progress]) -> usize {
        if !self.reads.events || events.len() == 1 {
            return 1;
        }
        let mut bytes = 0;
        let fits = |progress: &&Progress| {
            bytes += serde_json::to_vec(progress).map_or(EVENTS_BYTES, |json| json.len());
            bytes <= EVENTS_BYTES
        };
        events.iter().take(MAX_EVENTS).take_while(fits).count().max(1)
    }

    /// What of these logs goes next, of one or of several: they are one message's way from each other.
    fn next_pieces(&self, logs: &[(LogName, u64)], sent: &Sent) -> Result<Vec<LogChunk>, LinkError> {
        let packed = self.reads.packed;
        let most = if packed { PACKED_CHUNK } else { CHUNK };
        let mut pieces = Vec::new();
        for (log, length) in logs {
            let mut offset = sent.logs.get(log).copied().unwrap_or(0);
            while offset < *length && pieces.len() < CHUNKS_AT_ONCE {
                let (bytes, at_ms) = match self.spool.read(log, offset, most) {
                    Ok(read) => read,
                    // What was read goes before it is said that this one cannot be.
                    Err(_) if !pieces.is_empty() => return Ok(pieces),
                    Err(error) => {
                        return Err(LinkError::Away(format!("a log cannot be read back from the disk: {error}")));
                    }
                };
                let piece = LogChunk { claim: self.spool.claim(), log: log.clone(), offset, at_ms, bytes, packed };
                offset += piece.bytes.len() as u64;
                pieces.push(piece);
            }
        }
        Ok(pieces)
    }

    fn unsent(&self, sent: &Sent) -> usize {
        let logs = self.spool.logs();
        let left = |(log, length): &(LogName, u64)| length - sent.logs.get(log).copied().unwrap_or(0);
        usize::try_from(logs.iter().map(left).sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// Whether the coordinator's store has it all, or never will.
    fn is_done(&self) -> bool {
        let kept = self.kept.borrow();
        let has = |(log, length): &(LogName, u64)| kept.logs.get(log).is_some_and(|mark| mark.bytes >= *length);
        *self.recorded.borrow() && (kept.forgotten || self.spool.logs().iter().all(has))
    }

    /// Whether something that was said is to be answered by now: a result, a log of which there will be no more (also
    /// of a job that died with an earlier life), or that a stage begins which waits for that.
    fn awaits_an_answer(&self) -> bool {
        let waits = self.spool.begins_not_twice().is_some_and(|seq| self.kept.borrow().events < seq);
        waits || self.spool.is_finished() || *self.recorded.borrow()
    }

    /// The coordinator said how many events it has: those that follow it did not get, or has not read yet. And it said how
    /// much it has of a log.
    fn go_back(&self, sent: &mut Sent) {
        let kept = self.kept.borrow();
        if std::mem::replace(&mut sent.heard, kept.said) != kept.said {
            sent.events = sent.events.min(usize::try_from(kept.last_events).unwrap_or(usize::MAX));
        }
        for (log, mark) in &kept.logs {
            sent.hear(log, *mark);
        }
    }

    /// Nothing was heard for a while, and something should have been: a queue may have been purged. What the store does not
    /// have for sure is sent again, which does no harm when it has it after all. An event is among it in any case: it is
    /// signed, and one of a claim that the store knows nothing of is answered.
    fn rewind(&self, sent: &mut Sent) {
        sent.events = if *self.recorded.borrow() { sent.events.saturating_sub(1) } else { 0 };
        let kept = self.kept.borrow();
        for (log, from) in &mut sent.logs {
            *from = kept.bytes(log).min(*from);
        }
    }
}

/// One event as it is, or several in one message.
fn said_together(claim: ClaimId, events: &[Progress]) -> Report {
    match events {
        [one] => Report::Progress(one.clone()),
        several => {
            let moment = |Progress { seq, at_ms, event, .. }: &Progress| Moment {
                seq: *seq,
                at_ms: *at_ms,
                event: event.clone(),
            };
            Report::Events(Events { claim, events: several.iter().map(moment).collect() })
        }
    }
}

/// Anything but `Yes` is tried again, like a line that is down.
fn delivered(delivered: Delivered) -> Result<(), LinkError> {
    match delivered {
        Delivered::Yes => Ok(()),
        Delivered::Full => Err(LinkError::Away("the queue for reports is full".to_owned())),
        Delivered::Unroutable | Delivered::NoFarm => {
            Err(LinkError::Away("no coordinator has a queue for reports".to_owned()))
        }
        Delivered::Refused => Err(LinkError::Away("the broker does not let this agent report".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use protocol::Ending;
    use protocol::LabelSet;
    use protocol::control::Control;
    use protocol::job::{ReplyTo, StatusMessage};
    use protocol::link::JobDelivery;

    use super::*;
    use crate::spool::Spool;

    /// A line whose queue for logs is full, and that counts what it is given.
    struct Full {
        health: watch::Sender<Health>,
        reports: AtomicUsize,
        logs: AtomicUsize,
    }

    #[async_trait]
    impl AgentLink for Full {
        async fn next_job(&self, _: &[LabelSet]) -> Result<JobDelivery, LinkError> {
            std::future::pending().await
        }
        async fn report(&self, _: &Report) -> Result<Delivered, LinkError> {
            self.reports.fetch_add(1, Ordering::SeqCst);
            Ok(Delivered::Yes)
        }
        async fn log(&self, _: &LogChunk) -> Result<Delivered, LinkError> {
            self.logs.fetch_add(1, Ordering::SeqCst);
            Ok(Delivered::Full)
        }
        async fn next_control(&self) -> Result<Control, LinkError> {
            std::future::pending().await
        }
        async fn reply(&self, _: &ReplyTo, _: &StatusMessage) -> Result<Delivered, LinkError> {
            Ok(Delivered::Yes)
        }
        fn health(&self) -> watch::Receiver<Health> {
            self.health.subscribe()
        }
    }

    #[tokio::test]
    async fn a_full_queue_for_logs_holds_up_no_event_and_no_word_of_the_coordinator() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path().to_owned()).unwrap().begin(ClaimId::fresh()).unwrap());
        spool.log(&"test".parse().unwrap(), b"text").unwrap();
        let link = Arc::new(Full { health: watch::Sender::new(Health::Up(1)), reports: 0.into(), logs: 0.into() });
        let ((recorded, knows), (kept, marks)) = (watch::channel(false), watch::channel(Kept::default()));
        let (spool_, link_) = (Arc::clone(&spool), Arc::clone(&link) as Arc<dyn AgentLink>);
        let sender = Sender { spool: spool_, link: link_, recorded: knows, kept: marks, reads: Reads::default() };
        let told = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(link.logs.load(Ordering::SeqCst) <= 6, "it rests ever longer");
            spool.event(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).unwrap();
            while link.reports.load(Ordering::SeqCst) == 0 {
                tokio::time::sleep(FLUSH).await;
            }
            kept.send_modify(|kept| kept.forgotten = true);
            recorded.send_replace(true);
        };
        let ended = async { tokio::join!(sender.send_all(), told) };
        tokio::time::timeout(Duration::from_secs(60), ended)
            .await
            .expect("events go on, and it hears that nobody wants the log");
    }
}
