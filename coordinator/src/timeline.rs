//! One build's time, put together of what the coordinator saw and what its agents wrote down: pure.

use std::collections::HashMap;

use protocol::api::{AttemptTimeline, Timeline};
use protocol::report::{Part, Span};
use protocol::{AgentId, JobKey};

use crate::store::{AttemptTimes, Times};

/// Where a build's time went, as it looks at this moment.
pub(crate) fn timeline(times: &Times, now_ms: u64) -> Timeline {
    let asked_ms = times.build.created_ms;
    // When the last attempt of a job was over; a job that waits for others is in nobody's queue.
    let mut over: HashMap<&JobKey, u64> = HashMap::new();
    let mut attempts = Vec::new();
    for (number, attempt) in (1..).zip(&times.attempts) {
        let needed = attempt.needs.iter().chain([&attempt.job]).filter_map(|key| over.get(key)).max();
        let ready_ms = needed.copied().unwrap_or(0).max(attempt.created_ms);
        // The store wrote it, so it is a name.
        let Ok(agent) = attempt.agent.parse::<AgentId>() else { continue };
        attempts.push(AttemptTimeline {
            job: attempt.job.clone(),
            attempt: number,
            agent,
            over: attempt.ended_ms.is_some(),
            spans: spans(attempt, ready_ms, asked_ms),
        });
        over.insert(&attempt.job, attempt.ended_ms.unwrap_or(now_ms));
    }
    let end_ms = times.build.ended_ms.unwrap_or(now_ms);
    Timeline { build: times.build.clone(), ms: end_ms.saturating_sub(asked_ms), attempts }
}

fn spans(attempt: &AttemptTimes, ready_ms: u64, asked_ms: u64) -> Vec<Span> {
    let claim_ms = attempt.spent.iter().find(|span| span.part == Part::Claim).map_or(0, |span| span.ms);
    let last = attempt.spent.iter().map(|span| span.at_ms.saturating_add(span.ms)).max();
    // The grant was made somewhere between the claim's two ends, and nothing was done after the end.
    let latest_ms = attempt.ended_ms.zip(last).map_or(u64::MAX, |(ended_ms, last)| ended_ms.saturating_sub(last));
    let taken_ms = attempt.started_ms.saturating_sub(claim_ms / 2).min(latest_ms).max(ready_ms);
    let between = |part, from: u64, to: u64| Span {
        part,
        stage: None,
        at_ms: from.saturating_sub(asked_ms),
        ms: to.saturating_sub(from),
    };
    let mut spans = vec![between(Part::Queue, ready_ms, taken_ms)];
    let shift = taken_ms.saturating_sub(asked_ms);
    let shifted = |span: &Span| Span { at_ms: span.at_ms.saturating_add(shift), ..span.clone() };
    let mut own: Vec<Span> = attempt.spent.iter().map(shifted).collect();
    // A span is written down when it is over, so one that holds others comes after them.
    own.sort_by_key(|span| span.at_ms);
    spans.extend(own);
    if let (Some(last), Some(ended_ms)) = (last, attempt.ended_ms) {
        spans.push(between(Part::Report, taken_ms.saturating_add(last).min(ended_ms), ended_ms));
    }
    spans
}

#[cfg(test)]
mod tests {
    use protocol::BuildNumber;
    use protocol::api::{BuildRow, Status};

    use super::*;

    fn attempt(
        job: &str,
        needs: &[&str],
        started_ms: u64,
        ended_ms: Option<u64>,
        spent: &[(Part, u64, u64)],
    ) -> AttemptTimes {
        let span = |&(part, at_ms, ms): &(Part, u64, u64)| Span { part, stage: None, at_ms, ms };
        AttemptTimes {
            job: job.parse().unwrap(),
            needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
            created_ms: 1_000,
            agent: "a".to_owned(),
            started_ms,
            ended_ms,
            spent: spent.iter().map(span).collect(),
        }
    }

    fn check(attempts: Vec<AttemptTimes>, ended_ms: Option<u64>, expect: &str) {
        let build = BuildRow {
            number: BuildNumber(1),
            repo: "x".to_owned(),
            branch: None,
            commit: None,
            subject: None,
            trigger: "push".to_owned(),
            status: Status::Passed,
            message: None,
            created_ms: 1_000,
            started_ms: None,
            ended_ms,
        };
        let timeline = timeline(&Times { build, attempts }, 2_000);
        let mut text = format!("{} ms", timeline.ms);
        for attempt in &timeline.attempts {
            text += &format!("; {} {}:", attempt.job, if attempt.over { "over" } else { "runs" });
            for span in &attempt.spans {
                text += &format!(" {} {}+{}", span.part.name(), span.at_ms, span.ms);
            }
        }
        assert_eq!(text, expect);
    }

    #[test]
    fn an_agents_spans_lie_where_its_grant_was_made() {
        let spent = [(Part::Claim, 0, 4), (Part::Checkout, 5, 10), (Part::Script, 15, 80)];
        check(
            vec![attempt("build", &[], 1_012, Some(1_120), &spent)],
            Some(1_120),
            "120 ms; build over: queue 0+10 claim 10+4 checkout 15+10 script 25+80 report 105+15",
        );
    }

    #[test]
    fn nothing_was_done_after_the_end() {
        let spent = [(Part::Claim, 0, 24), (Part::Script, 24, 60)];
        check(
            vec![attempt("build", &[], 1_030, Some(1_100), &spent)],
            Some(1_100),
            "100 ms; build over: queue 0+16 claim 16+24 script 40+60 report 100+0",
        );
    }

    #[test]
    fn a_job_that_waits_for_another_is_in_no_queue() {
        check(
            vec![
                attempt("build", &[], 1_010, Some(1_100), &[(Part::Script, 0, 80)]),
                attempt("test", &["build"], 1_130, Some(1_200), &[(Part::Script, 0, 70)]),
            ],
            Some(1_200),
            "200 ms; build over: queue 0+10 script 10+80 report 90+10; test over: queue 100+30 script 130+70 report 200+0",
        );
    }

    #[test]
    fn of_an_attempt_that_was_lost_its_waiting_is_known_and_the_next_waits_from_its_end() {
        check(
            vec![attempt("build", &[], 1_010, Some(1_500), &[]), attempt("build", &[], 1_520, None, &[])],
            None,
            "1000 ms; build over: queue 0+10; build runs: queue 500+20",
        );
    }
}
