//! Whose turn it is among the jobs of a build, and among builds that want the same: pure, without a clock.
//!
//! A job's turn comes when all that it needs is over, a person has let it begin where one is asked, its lane has room,
//! and its group is free, all at the same moment: so nobody holds one thing while waiting for another. What has had its
//! turn keeps it until it is over, whatever agents are lost under it.

use crate::id::{BuildNumber, JobKey};
use crate::outcome::Outcome;
use crate::plan::{Concurrency, Lane, PlannedJob, RunOn, TakeOrder};

/// A job, as far as the turns of its build depend on it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name within the build.
    pub key: JobKey,
    /// The jobs that must be over before it.
    pub needs: Vec<JobKey>,
    /// On what ends of these it runs.
    pub run_on: RunOn,
    /// Whether it waits for all others but those that come last too.
    pub finally: bool,
    /// Whether a person must let it begin.
    pub gated: bool,
    /// Whether another build is begun in its place, and waited for.
    pub elsewhere: bool,
    /// The cells or shards of which it is one.
    pub lane: Option<Lane>,
    /// Where it stands.
    pub at: At,
    /// Whether it ever began.
    pub ran: bool,
}

/// Where a job stands, as far as others' turns depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Its turn has not come.
    Waiting {
        /// Whether a person let it begin.
        approved: bool,
    },
    /// Its turn has come: it is on offer, or in work.
    Begun {
        /// Whether it was asked to end.
        ending: bool,
    },
    /// It ended so.
    Ended(Outcome),
    /// It was passed over.
    Skipped,
}

impl At {
    fn is_over(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Skipped)
    }

    fn is_bad(self) -> bool {
        matches!(self, Self::Ended(Outcome::Failed | Outcome::Errored { .. }))
    }
}

impl Member {
    /// A job as it was planned.
    #[must_use]
    pub fn planned(job: &PlannedJob) -> Self {
        Self {
            key: job.key.clone(),
            needs: job.needs.clone(),
            run_on: job.run_on,
            finally: job.finally,
            gated: job.gate.is_some(),
            elsewhere: job.downstream.as_ref().is_some_and(|downstream| downstream.wait),
            lane: job.lane.clone(),
            at: At::Waiting { approved: false },
            ran: false,
        }
    }
}

/// What stands before a job that waits, within its build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// These jobs are not over.
    Needs(Vec<JobKey>),
    /// A person must let it begin.
    Gate,
    /// As many of its lane as may have begun already.
    Lane(Lane),
    /// Nothing: as far as its build goes it may begin.
    Now,
    /// It will never be run; why, as the end of the sentence "skipped: …".
    Never(String),
}

/// What stands before the job at `place`, which waits.
#[must_use]
pub fn turn(jobs: &[Member], place: usize) -> Turn {
    let Some(job) = jobs.get(place) else { return Turn::Needs(Vec::new()) };
    let open = |other: &&Member| {
        let before = if job.finally { !other.finally } else { job.needs.contains(&other.key) };
        before && !other.at.is_over()
    };
    let open: Vec<JobKey> = jobs.iter().filter(open).map(|other| other.key.clone()).collect();
    if let Some(failed) = failed_sibling(jobs, job) {
        return Turn::Never(format!("{failed} failed, and then the others beside it are not run (fail_fast)"));
    }
    if !open.is_empty() {
        return Turn::Needs(open);
    }
    if let Some(reason) = never(jobs, place) {
        return Turn::Never(reason);
    }
    if job.gated && job.at == (At::Waiting { approved: false }) {
        return Turn::Gate;
    }
    match &job.lane {
        Some(lane) if lane.max.is_some_and(|max| in_lane(jobs, lane) >= max) => Turn::Lane(lane.clone()),
        _ => Turn::Now,
    }
}

/// Why a job is never run, now that all before it is over.
fn never(jobs: &[Member], place: usize) -> Option<String> {
    let job = &jobs[place];
    if job.finally {
        return never_last(jobs, job.run_on);
    }
    match job.run_on {
        RunOn::Always => None,
        RunOn::Passed => jobs.iter().filter(|other| job.needs.contains(&other.key)).find_map(|need| match need.at {
            At::Ended(Outcome::Passed) | At::Waiting { .. } | At::Begun { .. } => None,
            At::Ended(outcome) => Some(format!("it needs {}, which ended as {outcome}", need.key)),
            At::Skipped => Some(format!("it needs {}, which was skipped", need.key)),
        }),
        RunOn::Failed => {
            let failed = before(jobs, place).into_iter().any(|place| jobs[place].at.is_bad());
            (!failed).then(|| "it runs only when something before it failed".to_owned())
        }
    }
}

/// Why a job that comes last is never run, now that all others are over.
fn never_last(jobs: &[Member], run_on: RunOn) -> Option<String> {
    let mut others = jobs.iter().filter(|other| !other.finally);
    if !others.clone().any(|other| other.ran) {
        return Some("no job of the build ever began".to_owned());
    }
    let not_passed = |other: &Member| matches!(other.at, At::Ended(outcome) if outcome != Outcome::Passed);
    match run_on {
        RunOn::Always => None,
        RunOn::Passed => others.any(not_passed).then(|| "it runs only when all before it passed".to_owned()),
        RunOn::Failed => {
            let failed = others.any(|other| other.at.is_bad());
            (!failed).then(|| "it runs only when something before it failed".to_owned())
        }
    }
}

/// All that a job needs, and what that needs, as places in the order of the plan.
#[must_use]
pub fn before(jobs: &[Member], place: usize) -> Vec<usize> {
    let mut found = vec![false; jobs.len()];
    let mut look = vec![place];
    while let Some(job) = look.pop().and_then(|place| jobs.get(place)) {
        for (place, other) in jobs.iter().enumerate() {
            if !found[place] && job.needs.contains(&other.key) {
                found[place] = true;
                look.push(place);
            }
        }
    }
    found.iter().enumerate().filter(|(_, found)| **found).map(|(place, _)| place).collect()
}

fn in_lane(jobs: &[Member], lane: &Lane) -> u32 {
    let begun = |job: &&Member| is_of(job, lane) && matches!(job.at, At::Begun { .. });
    u32::try_from(jobs.iter().filter(begun).count()).unwrap_or(u32::MAX)
}

fn is_of(job: &Member, lane: &Lane) -> bool {
    job.lane.as_ref().is_some_and(|own| own.name == lane.name)
}

/// The sibling that failed, of a job whose lane ends with the first that does.
fn failed_sibling<'a>(jobs: &'a [Member], job: &Member) -> Option<&'a JobKey> {
    let lane = job.lane.as_ref().filter(|lane| lane.fail_fast)?;
    jobs.iter().find(|other| other.key != job.key && is_of(other, lane) && other.at.is_bad()).map(|other| &other.key)
}

/// The jobs in work that are to end because one of their lane failed, each with that one.
#[must_use]
pub fn to_end(jobs: &[Member]) -> Vec<(usize, JobKey)> {
    let begun = jobs.iter().enumerate().filter(|(_, job)| job.at == (At::Begun { ending: false }));
    begun.filter_map(|(place, job)| Some((place, failed_sibling(jobs, job)?.clone()))).collect()
}

/// Whether a job stands in the line of its group: nothing before it, and not it itself, waits for a person or for
/// another build, of which nobody knows how long they take.
#[must_use]
pub fn is_in_line(jobs: &[Member], place: usize) -> bool {
    let waits = |job: &Member| {
        (job.gated && job.at == (At::Waiting { approved: false })) || (job.elsewhere && !job.at.is_over())
    };
    let Some(job) = jobs.get(place) else { return false };
    let finally = job.finally && jobs.iter().any(|other| !other.finally && waits(other));
    !finally && !waits(job) && !before(jobs, place).into_iter().any(|place| waits(&jobs[place]))
}

/// One that wants, or has, a turn in a group of its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its build.
    pub build: BuildNumber,
    /// Whether it has its turn.
    pub holds: bool,
    /// Whether it stands in line for it ([`is_in_line`]), and its build has begun.
    pub in_line: bool,
    /// Whether it was ready before the one that asks, and waits for whoever is ready first too.
    pub was_first: bool,
}

/// What stands before one that wants a turn in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// As many as may have their turn: these builds.
    Held(Vec<BuildNumber>),
    /// An older build comes first, or one that was ready before.
    Older(BuildNumber),
    /// An older build, of which is not known yet what it consists of.
    Unplanned(BuildNumber),
}

/// Whether one of the build `asks` may have its turn in a group with all these others. `unplanned` is the oldest build
/// of the repository that is not planned yet.
///
/// # Errors
/// What stands before it.
pub fn group(
    asks: BuildNumber,
    terms: &Concurrency,
    others: &[Place],
    unplanned: Option<BuildNumber>,
) -> Result<(), Blocked> {
    let holders: Vec<BuildNumber> = others.iter().filter(|other| other.holds).map(|other| other.build).collect();
    if u32::try_from(holders.len()).unwrap_or(u32::MAX) >= terms.limit.max(1) {
        return Err(Blocked::Held(holders));
    }
    if terms.order == TakeOrder::Ready {
        let first = others.iter().find(|other| !other.holds && other.was_first);
        return first.map_or(Ok(()), |first| Err(Blocked::Older(first.build)));
    }
    let in_line = others.iter().filter(|other| !other.holds && other.in_line && other.build < asks);
    match (in_line.map(|other| other.build).min(), unplanned.filter(|build| *build < asks)) {
        (Some(older), _) => Err(Blocked::Older(older)),
        (None, Some(unplanned)) => Err(Blocked::Unplanned(unplanned)),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Cause;

    const WAITS: At = At::Waiting { approved: false };
    const BEGUN: At = At::Begun { ending: false };
    const PASSED: At = At::Ended(Outcome::Passed);
    const FAILED: At = At::Ended(Outcome::Failed);
    const LOST: At = At::Ended(Outcome::Errored { cause: Cause::AgentLost });
    const CANCELLED: At = At::Ended(Outcome::Cancelled);

    fn member(key: &str, needs: &[&str], at: At) -> Member {
        let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        let key = key.parse().unwrap();
        let (run_on, ran) = (RunOn::Passed, matches!(at, At::Ended(_) | At::Begun { .. }));
        Member { key, needs, run_on, finally: false, gated: false, elsewhere: false, lane: None, at, ran }
    }

    fn cell(key: &str, max: Option<u32>, fail_fast: bool, at: At) -> Member {
        Member { lane: Some(Lane { name: "test".to_owned(), max, fail_fast }), ..member(key, &[], at) }
    }

    /// Of the last one.
    #[track_caller]
    fn check(jobs: &[Member], expect: &str) {
        let got = match turn(jobs, jobs.len() - 1) {
            Turn::Needs(jobs) => {
                format!("needs {}", jobs.iter().map(JobKey::as_str).collect::<Vec<_>>().join(" "))
            }
            Turn::Gate => "gate".to_owned(),
            Turn::Lane(lane) => format!("lane {}", lane.name),
            Turn::Now => "now".to_owned(),
            Turn::Never(reason) => reason,
        };
        assert!(got.starts_with(expect), "{got} instead of {expect}");
    }

    #[test]
    fn what_a_job_needs_decides_whether_it_runs() {
        let on = |run_on, at| [member("a", &[], at), Member { run_on, ..member("b", &["a"], WAITS) }];
        for at in [WAITS, BEGUN] {
            for run_on in [RunOn::Passed, RunOn::Failed, RunOn::Always] {
                check(&on(run_on, at), "needs a");
            }
        }
        for (at, passed, failed) in [
            (PASSED, "now", "it runs only when"),
            (FAILED, "it needs a, which ended as failed", "now"),
            (LOST, "it needs a, which ended as errored (agent lost)", "now"),
            (CANCELLED, "it needs a, which ended as cancelled", "it runs only when"),
            (At::Skipped, "it needs a, which was skipped", "it runs only when"),
        ] {
            check(&on(RunOn::Passed, at), passed);
            check(&on(RunOn::Failed, at), failed);
            check(&on(RunOn::Always, at), "now");
        }
        check(&[Member { run_on: RunOn::Failed, ..member("a", &[], WAITS) }], "it runs only when");
    }

    #[test]
    fn a_failure_is_seen_through_what_was_skipped_for_it() {
        let last = Member { run_on: RunOn::Failed, ..member("c", &["b"], WAITS) };
        check(&[member("a", &[], FAILED), member("b", &["a"], At::Skipped), last.clone()], "now");
        check(&[member("a", &[], PASSED), member("b", &["a"], At::Skipped), last], "it runs only when");
    }

    #[test]
    fn finally_waits_for_all_and_for_something_to_clean_up() {
        let finally = Member { finally: true, run_on: RunOn::Always, ..member("finally", &[], WAITS) };
        let check = |jobs: &[Member], expect| check(&[jobs, std::slice::from_ref(&finally)].concat(), expect);
        check(&[member("a", &[], PASSED), member("b", &[], BEGUN)], "needs b");
        for at in [PASSED, FAILED, LOST] {
            check(&[member("a", &[], at), member("b", &[], At::Skipped)], "now");
        }
        // Cancelled in work, or before it began.
        check(&[member("a", &[], CANCELLED)], "now");
        check(&[Member { ran: false, ..member("a", &[], CANCELLED) }], "no job of the build ever began");
        check(&[member("a", &[], At::Skipped)], "no job of the build ever began");
        // Each pipeline may have one: they do not wait for each other.
        check(
            &[member("a", &[], PASSED), Member { key: "x/finally".parse().unwrap(), at: BEGUN, ..finally.clone() }],
            "now",
        );
        for (at, passed, failed) in [
            (PASSED, "now", "it runs only when something"),
            (FAILED, "it runs only when all", "now"),
            (CANCELLED, "it runs only when all", "it runs only when something"),
        ] {
            for (run_on, expect) in [(RunOn::Passed, passed), (RunOn::Failed, failed)] {
                self::check(&[member("a", &[], at), Member { run_on, ..finally.clone() }], expect);
            }
        }
    }

    #[test]
    fn a_person_is_asked_last() {
        let gated = |approved| Member { gated: true, ..member("b", &["a"], At::Waiting { approved }) };
        check(&[member("a", &[], BEGUN), gated(false)], "needs a");
        check(&[member("a", &[], FAILED), gated(false)], "it needs a");
        check(&[member("a", &[], PASSED), gated(false)], "gate");
        check(&[member("a", &[], PASSED), gated(true)], "now");
    }

    #[test]
    fn a_lane_has_so_much_room_and_may_end_with_its_first_failure() {
        let lane = |ats: &[At], max, fail_fast| {
            let cells = ats.iter().zip('a'..).map(|(at, key)| cell(&key.to_string(), max, fail_fast, *at));
            cells.collect::<Vec<_>>()
        };
        check(&lane(&[BEGUN, BEGUN, WAITS], None, false), "now");
        check(&lane(&[BEGUN, BEGUN, WAITS], Some(2), false), "lane test");
        check(&lane(&[BEGUN, PASSED, WAITS], Some(2), false), "now");
        check(&lane(&[BEGUN, FAILED, WAITS], Some(2), false), "now");
        check(&lane(&[BEGUN, FAILED, WAITS], Some(2), true), "b failed");
        check(&lane(&[BEGUN, CANCELLED, WAITS], None, true), "now");
        let jobs = lane(&[BEGUN, FAILED, At::Begun { ending: true }, WAITS, PASSED], None, true);
        assert_eq!(to_end(&jobs), [(0, "b".parse().unwrap())]);
        assert!(to_end(&lane(&[BEGUN, FAILED], None, false)).is_empty());
    }

    #[test]
    fn whose_turn_it_is_in_a_group() {
        let place = |build, holds, in_line| Place { build: BuildNumber(build), holds, in_line, was_first: false };
        let ready_first = |build, holds| Place { was_first: true, ..place(build, holds, true) };
        let terms = |limit, order| Concurrency { group: "prod".to_owned(), limit, order };
        let check = |order, limit, others: &[Place], unplanned: Option<u64>, expect| {
            assert_eq!(group(BuildNumber(5), &terms(limit, order), others, unplanned.map(BuildNumber)), expect);
        };
        let (in_order, ready) = (TakeOrder::Build, TakeOrder::Ready);
        let held = |build| Err(Blocked::Held(vec![BuildNumber(build)]));
        check(in_order, 1, &[], None, Ok(()));
        check(in_order, 1, &[place(9, true, true)], None, held(9));
        check(in_order, 2, &[place(9, true, true)], None, Ok(()));
        check(ready, 1, &[place(9, true, true)], None, held(9));
        check(in_order, 1, &[place(4, false, true)], None, Err(Blocked::Older(BuildNumber(4))));
        check(in_order, 1, &[place(5, false, true), place(6, false, true)], None, Ok(()));
        check(ready, 1, &[place(4, false, true)], Some(3), Ok(()));
        check(in_order, 1, &[place(4, false, false)], None, Ok(()));
        check(in_order, 1, &[], Some(3), Err(Blocked::Unplanned(BuildNumber(3))));
        check(in_order, 1, &[], Some(6), Ok(()));
        check(in_order, 0, &[], None, Ok(()));
        check(ready, 1, &[ready_first(9, false)], None, Err(Blocked::Older(BuildNumber(9))));
        check(ready, 2, &[ready_first(9, true)], None, Ok(()));
        check(in_order, 1, &[ready_first(9, false)], None, Ok(()));
    }

    #[test]
    fn who_waits_for_a_person_does_not_stand_in_line() {
        let gate = |at| Member { gated: true, ..member("a", &[], at) };
        let child = |at| Member { elsewhere: true, ..member("a", &[], at) };
        let check = |first: Member, expect: bool| {
            let jobs = [first, member("b", &["a"], WAITS), member("c", &["b"], WAITS)];
            assert_eq!(is_in_line(&jobs, 2), expect, "{jobs:?}");
        };
        check(gate(WAITS), false);
        check(gate(At::Waiting { approved: true }), true);
        check(gate(BEGUN), true);
        check(child(WAITS), false);
        check(child(BEGUN), false);
        check(child(PASSED), true);
        assert!(!is_in_line(&[gate(WAITS)], 0));
    }
}
