//! Which state follows which: the one place that decides, pure and without a clock.
//!
//! A terminal state is never left. Whatever carries a claim that is not the current one changes nothing.

use crate::id::{AgentId, BuildNumber, ClaimId};
use crate::outcome::{Cause, Ending, Outcome};

/// Where a job stands. Each state holds just what exists in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Waits for an agent.
    Queued {
        /// How many attempts were made and came to nothing.
        attempts: u32,
    },
    /// An agent works on it.
    Running {
        /// The current claim; no other changes anything.
        claim: ClaimId,
        /// Whose.
        agent: AgentId,
        /// 1 for the first.
        attempt: u32,
        /// Why it should end, once somebody asked for that.
        cancelling: Option<String>,
    },
    /// Another build was begun in its place, and is waited for.
    Elsewhere {
        /// Which.
        build: BuildNumber,
        /// Why it should end, once somebody asked for that.
        cancelling: Option<String>,
    },
    /// Over, for good.
    Ended(Ending),
    /// It was passed over, for good: that makes its build no worse.
    Skipped {
        /// Why, as the end of the sentence "skipped: …".
        reason: String,
    },
}

/// What can happen to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// An agent asks for it.
    Claimed {
        /// With this new token.
        claim: ClaimId,
        /// Who.
        agent: AgentId,
    },
    /// The agent gave the claim up before it was told of the grant.
    Abandoned {
        /// Which.
        claim: ClaimId,
    },
    /// The agent says how it ended.
    Finished {
        /// Under which claim.
        claim: ClaimId,
        /// How.
        ending: Ending,
        /// Whether something began that must not be done twice.
        not_twice: bool,
        /// How many attempts a job gets whose end may pass ([`Ending::again`]).
        max_attempts: u32,
    },
    /// The claim's lease is over.
    Lost {
        /// Which claim.
        claim: ClaimId,
        /// Whether something began that must not be done twice.
        not_twice: bool,
        /// How many earlier attempts were lost with their agents, through no person's doing.
        lost_before: u32,
        /// How many attempts may be lost so.
        max_lost: u32,
        /// How many attempts a job gets.
        max_attempts: u32,
    },
    /// It will never be run: what it needs did not end so that it would be, or a person said so.
    PassedOver {
        /// Why, as the end of the sentence "skipped: …".
        reason: String,
    },
    /// Another build was begun in its place.
    SentOn {
        /// Which.
        build: BuildNumber,
    },
    /// The build that was begun in its place is over; or none could be begun.
    CameBack {
        /// How it ended.
        ending: Ending,
    },
    /// Somebody wants it to end.
    CancelAsked {
        /// Who and why, as a sentence.
        reason: String,
    },
    /// It was asked to end, and its agent stayed silent.
    CancelOverdue {
        /// Under which claim.
        claim: ClaimId,
    },
}

/// Why a happening changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The job is over.
    #[error("the job is over")]
    Over,
    /// Another claim is current, or none.
    #[error("the claim is not current")]
    NotCurrent,
    /// Another agent has it.
    #[error("another claim holds the job")]
    Taken,
    /// It is so already.
    #[error("it is so already")]
    Repeated,
}

impl JobState {
    /// The state after a happening.
    ///
    /// # Errors
    /// When it changes nothing; the reason is for the log.
    pub fn after(self, happening: &Happening) -> Result<Self, Ignored> {
        match (self, happening) {
            (Self::Ended(_) | Self::Skipped { .. }, _) => Err(Ignored::Over),
            (Self::Queued { attempts }, Happening::Claimed { claim, agent }) => {
                Ok(Self::Running { claim: *claim, agent: agent.clone(), attempt: attempts + 1, cancelling: None })
            }
            (Self::Queued { .. }, Happening::CancelAsked { reason }) => Ok(Self::Ended(Ending::cancelled(reason))),
            (Self::Queued { .. }, Happening::PassedOver { reason }) => Ok(Self::Skipped { reason: reason.clone() }),
            (Self::Queued { .. }, Happening::SentOn { build }) => {
                Ok(Self::Elsewhere { build: *build, cancelling: None })
            }
            (Self::Queued { .. } | Self::Elsewhere { .. }, Happening::CameBack { ending }) => {
                Ok(Self::Ended(ending.clone()))
            }
            (Self::Elsewhere { cancelling: Some(_), .. }, Happening::CancelAsked { .. }) => Err(Ignored::Repeated),
            (Self::Elsewhere { build, .. }, Happening::CancelAsked { reason }) => {
                Ok(Self::Elsewhere { build, cancelling: Some(reason.clone()) })
            }
            (Self::Elsewhere { .. }, Happening::Claimed { .. }) => Err(Ignored::Taken),
            (Self::Elsewhere { .. }, _) => Err(Ignored::NotCurrent),
            (Self::Queued { .. }, _) => Err(Ignored::NotCurrent),
            (Self::Running { claim, agent, attempt, cancelling }, happening) => {
                Running { claim, agent, attempt, cancelling }.after(happening)
            }
        }
    }

    /// Whether it will not change any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Skipped { .. })
    }

    /// The claim that is current, if one is.
    #[must_use]
    pub fn claim(&self) -> Option<ClaimId> {
        match self {
            Self::Running { claim, .. } => Some(*claim),
            Self::Queued { .. } | Self::Elsewhere { .. } | Self::Ended(_) | Self::Skipped { .. } => None,
        }
    }
}

struct Running {
    claim: ClaimId,
    agent: AgentId,
    attempt: u32,
    cancelling: Option<String>,
}

impl Running {
    fn after(self, happening: &Happening) -> Result<JobState, Ignored> {
        match happening {
            Happening::Claimed { claim, .. } if *claim == self.claim => Err(Ignored::Repeated),
            Happening::Claimed { .. } => Err(Ignored::Taken),
            // It began, so it was its turn, and an agent has it.
            Happening::PassedOver { .. } | Happening::SentOn { .. } | Happening::CameBack { .. } => {
                Err(Ignored::NotCurrent)
            }
            Happening::CancelAsked { .. } if self.cancelling.is_some() => Err(Ignored::Repeated),
            Happening::CancelAsked { reason } => Ok(JobState::Running {
                claim: self.claim,
                agent: self.agent,
                attempt: self.attempt,
                cancelling: Some(reason.clone()),
            }),
            Happening::Abandoned { claim }
            | Happening::Finished { claim, .. }
            | Happening::Lost { claim, .. }
            | Happening::CancelOverdue { claim }
                if *claim != self.claim =>
            {
                Err(Ignored::NotCurrent)
            }
            Happening::Finished { ending, not_twice, max_attempts, .. } => {
                let goes_on = !*not_twice && self.cancelling.is_none() && self.attempt < *max_attempts;
                Ok(if goes_on && may_pass(ending) { self.given_back(1) } else { JobState::Ended(ending.clone()) })
            }
            Happening::Abandoned { .. } => Ok(self.given_back(0)),
            Happening::CancelOverdue { .. } if self.cancelling.is_none() => Err(Ignored::NotCurrent),
            Happening::CancelOverdue { .. } => Ok(self.given_back(1)),
            Happening::Lost { not_twice, lost_before, max_lost, max_attempts, .. } => {
                let is_last = *lost_before + 1 >= *max_lost || self.attempt >= *max_attempts;
                Ok(self.lost(*not_twice, *lost_before, is_last))
            }
        }
    }

    /// Back to the queue, or over when somebody asked for that.
    fn given_back(self, spent: u32) -> JobState {
        match self.cancelling {
            Some(reason) => JobState::Ended(Ending::cancelled(reason)),
            None => JobState::Queued { attempts: self.attempt - 1 + spent },
        }
    }

    fn lost(self, not_twice: bool, lost_before: u32, is_last: bool) -> JobState {
        if self.cancelling.is_none() && not_twice {
            let message = format!(
                "agent {} went silent after a stage began that must not run twice (`retry: never`); find out whether its work was done, and submit the build again if it should run once more",
                self.agent
            );
            return JobState::Ended(Ending::errored(Cause::OutcomeUnknown, message));
        }
        if self.cancelling.is_none() && is_last {
            let (lost, attempts) = (lost_before + 1, self.attempt);
            let how = match lost {
                1 => format!("in attempt {attempts}, which is the last"),
                _ if lost == attempts => format!("as agents did in all {attempts} attempts"),
                _ => format!("as agents did in {lost} of {attempts} attempts"),
            };
            let message =
                format!("agent {} went silent, {how}; look at the agents' logs for what ends them", self.agent);
            return JobState::Ended(Ending::errored(Cause::AgentLost, message));
        }
        self.given_back(1)
    }
}

/// Whether an end is the farm's own fault, and one that another attempt may be spared. Of the script's own end it is
/// never asked, whatever its agent says.
fn may_pass(ending: &Ending) -> bool {
    ending.again && matches!(ending.outcome, Outcome::Errored { cause: Cause::Clone | Cause::Pull | Cause::Daemon })
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "the tables read better without ampersands")]
mod tests {
    use super::*;
    use crate::outcome::Outcome;

    struct Table {
        claim: ClaimId,
        other: ClaimId,
        agent: AgentId,
    }

    impl Table {
        fn new() -> Self {
            Self { claim: ClaimId::fresh(), other: ClaimId::fresh(), agent: "a".parse().unwrap() }
        }
        fn running(&self, attempt: u32) -> JobState {
            JobState::Running { claim: self.claim, agent: self.agent.clone(), attempt, cancelling: None }
        }
        fn cancelling(&self) -> JobState {
            let cancelling = Some("by me".to_owned());
            JobState::Running { claim: self.claim, agent: self.agent.clone(), attempt: 1, cancelling }
        }
        fn claimed(&self, claim: ClaimId) -> Happening {
            Happening::Claimed { claim, agent: self.agent.clone() }
        }
        fn finished(claim: ClaimId) -> Happening {
            Self::ended(claim, Ending::passed())
        }
        fn ended(claim: ClaimId, ending: Ending) -> Happening {
            Happening::Finished { claim, ending, not_twice: false, max_attempts: 2 }
        }
        fn lost(claim: ClaimId, not_twice: bool) -> Happening {
            Happening::Lost { claim, not_twice, lost_before: 0, max_lost: 2, max_attempts: 3 }
        }
    }

    fn cancel() -> Happening {
        Happening::CancelAsked { reason: "by me".to_owned() }
    }

    fn passed_over() -> Happening {
        Happening::PassedOver { reason: "it needs compile, which ended as failed".to_owned() }
    }

    fn came_back() -> Happening {
        Happening::CameBack { ending: Ending::passed() }
    }

    #[track_caller]
    fn check(state: JobState, happening: &Happening, expect: Result<JobState, Ignored>) {
        assert_eq!(state.clone().after(happening), expect, "{state:?}\n  {happening:?}");
    }

    #[track_caller]
    fn check_ends(state: JobState, happening: &Happening, expect: Outcome) {
        match state.clone().after(happening) {
            Ok(JobState::Ended(ending)) => assert_eq!(ending.outcome, expect, "{state:?} {happening:?}"),
            other => panic!("{state:?} {happening:?} gave {other:?}"),
        }
    }

    #[test]
    fn a_queued_job() {
        let t = Table::new();
        let queued = || JobState::Queued { attempts: 0 };
        check(queued(), &t.claimed(t.claim), Ok(t.running(1)));
        check(JobState::Queued { attempts: 1 }, &t.claimed(t.claim), Ok(t.running(2)));
        check_ends(queued(), &cancel(), Outcome::Cancelled);
        check(queued(), &Table::finished(t.claim), Err(Ignored::NotCurrent));
        check(queued(), &Table::lost(t.claim, false), Err(Ignored::NotCurrent));
        check(queued(), &Happening::Abandoned { claim: t.claim }, Err(Ignored::NotCurrent));
        check(queued(), &Happening::CancelOverdue { claim: t.claim }, Err(Ignored::NotCurrent));
        let reason = "it needs compile, which ended as failed".to_owned();
        check(queued(), &passed_over(), Ok(JobState::Skipped { reason }));
        let elsewhere = JobState::Elsewhere { build: BuildNumber(7), cancelling: None };
        check(queued(), &Happening::SentOn { build: BuildNumber(7) }, Ok(elsewhere));
        check_ends(queued(), &came_back(), Outcome::Passed);
    }

    #[test]
    fn a_running_job_hears_only_its_own_claim() {
        let t = Table::new();
        check(t.running(1), &t.claimed(t.claim), Err(Ignored::Repeated));
        check(t.running(1), &t.claimed(t.other), Err(Ignored::Taken));
        check(t.running(1), &Table::finished(t.claim), Ok(JobState::Ended(Ending::passed())));
        check(t.running(1), &Table::finished(t.other), Err(Ignored::NotCurrent));
        check(t.running(1), &Table::lost(t.other, false), Err(Ignored::NotCurrent));
        check(t.running(1), &Happening::Abandoned { claim: t.other }, Err(Ignored::NotCurrent));
        check(t.running(1), &passed_over(), Err(Ignored::NotCurrent));
        check(t.running(1), &came_back(), Err(Ignored::NotCurrent));
        check(t.running(1), &Happening::Abandoned { claim: t.claim }, Ok(JobState::Queued { attempts: 0 }));
    }

    #[test]
    fn a_lost_job_is_tried_again_as_often_as_it_may() {
        let t = Table::new();
        check(t.running(1), &Table::lost(t.claim, false), Ok(JobState::Queued { attempts: 1 }));
        check(t.running(2), &Table::lost(t.claim, false), Ok(JobState::Queued { attempts: 2 }));
        for (attempt, lost_before, says) in [
            (2, 1, "as agents did in all 2 attempts"),
            (3, 1, "as agents did in 2 of 3 attempts"),
            (3, 0, "in attempt 3, which is the last"),
        ] {
            let lost = Happening::Lost { claim: t.claim, not_twice: false, lost_before, max_lost: 2, max_attempts: 3 };
            match t.running(attempt).after(&lost) {
                Ok(JobState::Ended(ending)) => {
                    assert_eq!(ending.outcome, Outcome::Errored { cause: Cause::AgentLost });
                    assert!(ending.message.unwrap().contains(says), "{says}");
                }
                other => panic!("{other:?}"),
            }
        }
        check_ends(t.running(1), &Table::lost(t.claim, true), Outcome::Errored { cause: Cause::OutcomeUnknown });
        check_ends(t.cancelling(), &Table::lost(t.claim, true), Outcome::Cancelled);
    }

    #[test]
    fn a_job_that_the_farm_failed_is_tried_again_as_often_as_it_may() {
        let t = Table::new();
        let errored = |cause| Ending::errored(cause, "away");
        let ends = |state, happening: &Happening, ending: Ending| check(state, happening, Ok(JobState::Ended(ending)));
        for cause in [Cause::Clone, Cause::Pull, Cause::Daemon] {
            let ending = errored(cause).or_again(true);
            let again = Table::ended(t.claim, ending.clone());
            check(t.running(1), &again, Ok(JobState::Queued { attempts: 1 }));
            ends(t.running(2), &again, ending.clone());
            ends(t.cancelling(), &again, ending.clone());
            ends(t.running(1), &Table::ended(t.claim, errored(cause)), errored(cause));
            check(t.running(1), &Table::ended(t.other, ending.clone()), Err(Ignored::NotCurrent));
            let (claim, max_attempts) = (t.claim, 2);
            let once = Happening::Finished { claim, ending: ending.clone(), not_twice: true, max_attempts };
            ends(t.running(1), &once, ending);
        }
        // What another attempt cannot change stays, whatever is said with it.
        let others =
            [Cause::Manifest, Cause::OutcomeUnknown, Cause::Limit, Cause::Service, Cause::AgentLost].map(errored);
        let failed = Ending::of(Outcome::Failed, None);
        for ending in others.into_iter().chain([Ending::passed(), failed, Ending::cancelled("by me")]) {
            let ending = ending.or_again(true);
            ends(t.running(1), &Table::ended(t.claim, ending.clone()), ending);
        }
    }

    #[test]
    fn a_cancelled_job() {
        let t = Table::new();
        check(t.running(1), &cancel(), Ok(t.cancelling()));
        check(t.cancelling(), &cancel(), Err(Ignored::Repeated));
        check_ends(t.cancelling(), &Happening::Abandoned { claim: t.claim }, Outcome::Cancelled);
        check_ends(t.cancelling(), &Happening::CancelOverdue { claim: t.claim }, Outcome::Cancelled);
        check(t.running(1), &Happening::CancelOverdue { claim: t.claim }, Err(Ignored::NotCurrent));
        // It ended before the cancel reached it: what truly happened counts.
        check(t.cancelling(), &Table::finished(t.claim), Ok(JobState::Ended(Ending::passed())));
    }

    #[test]
    fn a_job_that_is_another_build_ends_as_that_one_does() {
        let t = Table::new();
        let elsewhere = |cancelling: Option<&str>| {
            let cancelling = cancelling.map(str::to_owned);
            JobState::Elsewhere { build: BuildNumber(7), cancelling }
        };
        check_ends(elsewhere(None), &came_back(), Outcome::Passed);
        check(elsewhere(None), &cancel(), Ok(elsewhere(Some("by me"))));
        check(elsewhere(Some("by me")), &cancel(), Err(Ignored::Repeated));
        // What the other build truly ended as counts.
        check_ends(elsewhere(Some("by me")), &came_back(), Outcome::Passed);
        check(elsewhere(None), &t.claimed(t.claim), Err(Ignored::Taken));
        for happening in [passed_over(), Table::finished(t.claim), Happening::SentOn { build: BuildNumber(8) }] {
            check(elsewhere(None), &happening, Err(Ignored::NotCurrent));
        }
    }

    #[test]
    fn an_end_is_never_left() {
        let t = Table::new();
        for happening in [
            t.claimed(t.claim),
            Table::finished(t.claim),
            Table::lost(t.claim, false),
            cancel(),
            passed_over(),
            came_back(),
            Happening::SentOn { build: BuildNumber(7) },
            Happening::Abandoned { claim: t.claim },
            Happening::CancelOverdue { claim: t.claim },
        ] {
            check(JobState::Ended(Ending::passed()), &happening, Err(Ignored::Over));
            check(JobState::Skipped { reason: "x".to_owned() }, &happening, Err(Ignored::Over));
        }
    }
}
