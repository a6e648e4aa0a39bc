//! Where a run's time went: taken down with the end of each job, shown at the end of all.

use std::io::{self, Write};

use protocol::JobKey;
use protocol::report::Span;

use super::super::look::{Tone, clean};
use super::super::timeline;
use super::Terminal;

impl<W: Write + Send> Terminal<W> {
    /// Takes note of where the time went up to this moment, in which the last of the spans ended.
    pub(super) fn spent(&self, job: Option<&JobKey>, spans: &[Span]) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = spans.iter().map(|span| span.at_ms.saturating_add(span.ms)).max().unwrap_or(0);
        let shift = now.saturating_sub(last);
        let mut own: Vec<Span> = spans.iter().map(|span| Span { at_ms: span.at_ms + shift, ..span.clone() }).collect();
        own.sort_by_key(|span| span.at_ms);
        self.screen().spent.push((job.cloned(), own));
    }

    /// Shows where the time went, as a bar for each part.
    ///
    /// # Errors
    /// When the output takes no more.
    pub(crate) fn timeline(&self) -> io::Result<()> {
        let whole = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut screen = self.screen();
        let mut lines = Vec::new();
        for (job, spans) in &screen.spent {
            if let Some(job) = job.as_ref().filter(|_| screen.spent.len() > 2) {
                lines.push(self.look.paint(Tone::Strong, &clean(job.as_str())));
            }
            lines.extend(timeline::bars(spans, whole, &self.look).lines().map(str::to_owned));
        }
        screen.say(self.look, &lines)
    }
}
