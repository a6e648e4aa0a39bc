//! A build as JSON, one object per line: the events that the backchannel carries, and what was printed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use protocol::report::JobEvent;
use protocol::{Ending, JobKey, LogName};
use serde::Serialize;

use super::header::Header;

/// One line.
#[derive(Serialize)]
struct Line<'a, T> {
    /// This machine's clock, milliseconds since 1970.
    at_ms: u64,
    /// The job; none for what comes before the build has jobs, and after.
    job: Option<&'a JobKey>,
    #[serde(flatten)]
    what: T,
}

/// What is no event of a job.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Own<'a> {
    /// The build begins.
    Begun { run: &'a Header },
    /// What would be otherwise on a farm.
    Differences { differences: &'a [String], notes: &'a [String] },
    /// A log grew.
    Log {
        log: &'a LogName,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        base64: Option<String>,
    },
    /// A job that is not run here.
    PassedOver { reason: &'a str },
    /// Something that a person should know.
    Note { text: &'a str },
    /// The build is over.
    Ended { ending: &'a Ending, exit_code: u8, duration_ms: u64 },
}

/// In how many pieces that are no text a chunk of output is printed at most.
const MOST_PIECES: usize = 8;

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Json {
    /// The beginnings of characters whose rest is yet to come.
    rest: HashMap<(Option<JobKey>, LogName), Vec<u8>>,
}

impl Json {
    pub(super) fn begun(at_ms: u64, run: &Header) -> Vec<u8> {
        line(at_ms, None, Own::Begun { run })
    }

    pub(super) fn differences(at_ms: u64, differences: &[String], notes: &[String]) -> Vec<u8> {
        line(at_ms, None, Own::Differences { differences, notes })
    }

    /// An event; before the end of a job, what is left of its logs.
    pub(super) fn event(&mut self, at_ms: u64, job: Option<&JobKey>, event: &JobEvent) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(event, JobEvent::Finished { .. }) {
            let whose = |(of, _): &(Option<JobKey>, LogName), _: &mut Vec<u8>| of.as_ref() == job;
            for ((_, log), bytes) in self.rest.extract_if(whose) {
                out.extend(chunk(at_ms, job, &log, &bytes));
            }
        }
        out.extend(line(at_ms, job, event));
        out
    }

    /// A log grew. A character is never cut in two.
    pub(super) fn printed(&mut self, at_ms: u64, job: Option<&JobKey>, log: &LogName, bytes: &[u8]) -> Vec<u8> {
        let key = (job.cloned(), log.clone());
        let mut whole = self.rest.remove(&key).unwrap_or_default();
        whole.extend_from_slice(bytes);
        let end = match std::str::from_utf8(&whole) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => whole.len(),
        };
        let rest = whole.split_off(end);
        if !rest.is_empty() {
            self.rest.insert(key, rest);
        }
        if whole.is_empty() { Vec::new() } else { chunk(at_ms, job, log, &whole) }
    }

    pub(super) fn passed_over(at_ms: u64, job: &JobKey, reason: &str) -> Vec<u8> {
        line(at_ms, Some(job), Own::PassedOver { reason })
    }

    pub(super) fn note(at_ms: u64, text: &str) -> Vec<u8> {
        line(at_ms, None, Own::Note { text })
    }

    pub(super) fn ended(at_ms: u64, ending: &Ending, duration_ms: u64) -> Vec<u8> {
        line(at_ms, None, Own::Ended { ending, exit_code: ending.outcome.exit_code(), duration_ms })
    }
}

/// Text as text, and between it what is none; in one piece where there is more of that than of lines.
fn chunk(at_ms: u64, job: Option<&JobKey>, log: &LogName, bytes: &[u8]) -> Vec<u8> {
    let encoded = |bytes: &[u8]| Own::Log { log, text: None, base64: Some(BASE64_STANDARD.encode(bytes)) };
    if bytes.utf8_chunks().filter(|part| !part.invalid().is_empty()).take(MOST_PIECES).count() == MOST_PIECES {
        return line(at_ms, job, encoded(bytes));
    }
    let mut out = Vec::new();
    for part in bytes.utf8_chunks() {
        let text = part.valid();
        if !text.is_empty() {
            out.extend(line(at_ms, job, Own::Log { log, text: Some(text), base64: None }));
        }
        if !part.invalid().is_empty() {
            out.extend(line(at_ms, job, encoded(part.invalid())));
        }
    }
    out
}

fn line<T: Serialize>(at_ms: u64, job: Option<&JobKey>, what: T) -> Vec<u8> {
    // Never fails: events hold no maps with keys that are not texts.
    let mut line = serde_json::to_vec(&Line { at_ms, job, what }).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_text_where_it_can_be() {
        let mut json = Json::default();
        let log: LogName = "unit".parse().unwrap();
        let job: JobKey = "unit (a=b)".parse().unwrap();
        let mut out = Vec::new();
        for bytes in [&b"a \xc3"[..], b"\xbc\n", b"x\xffy\n", b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe", b"end \xc3"] {
            out.extend(json.printed(7, Some(&job), &log, bytes));
        }
        out.extend(json.event(8, Some(&job), &JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }));
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","text":"a "}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","text":"ü\n"}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","text":"x"}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","base64":"/w=="}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","text":"y\n"}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","base64":"//7//v/+//4="}
        {"at_ms":7,"job":"unit (a=b)","event":"log","log":"unit","text":"end "}
        {"at_ms":8,"job":"unit (a=b)","event":"log","log":"unit","base64":"ww=="}
        {"at_ms":8,"job":"unit (a=b)","event":"finished","ending":{"outcome":"passed"}}
        "#);
    }
}
