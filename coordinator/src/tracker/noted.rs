//! What happens in a stage besides its beginning and end: written down for people, and for the jobs that come after.
//! All of it comes from a user's containers, so each text has its longest length.

use protocol::outcome::{Cause, Ending};
use protocol::report::{JobEvent, MAX_FAILURES, MAX_SUMMARY_BYTES, Tests};
use protocol::{ClaimId, Variable};

use super::Turn;
use crate::intake::check_variables;
use crate::store::{Archive, Attempt, Detail, Job, StoreError};

/// The longest text about one failing test, in bytes.
const FAILURE_BYTES: usize = 8 << 10;

/// The longest name of an image's contents, or of an archive.
const HASH_BYTES: usize = 200;

impl Turn<'_> {
    /// Writes down what an event says of a stage.
    pub(super) async fn note_detail(&mut self, claim: ClaimId, event: &JobEvent) -> Result<(), StoreError> {
        match event {
            JobEvent::ImageFound { stage, image, digest } => {
                let digest = shortened(digest, HASH_BYTES);
                self.tx.image_meant(claim, image, &digest).await?;
                self.tx.stage_detail(claim, stage, &Detail::Digest(digest)).await
            }
            JobEvent::StageTried { stage, number, result, duration_ms, log } => {
                let (number, duration_ms) = (*number, *duration_ms);
                let tried = protocol::api::TryView { number, result: result.clone(), duration_ms, log: log.clone() };
                self.tx.stage_detail(claim, stage, &Detail::Tried(tried)).await
            }
            JobEvent::ArtifactsKept { stage, files, bytes, sha256, expire_ms } => {
                if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    tracing::warn!("an archive of {claim:?} has a name that is no hash, and is not noted");
                    return Ok(());
                }
                let (files, bytes, expire_ms) = (*files, *bytes, *expire_ms);
                let archive = Archive { stage: stage.as_str(), files, bytes, sha256, expire_ms };
                self.tx.keeps(claim, &archive, self.now_ms).await
            }
            JobEvent::TestsRead { stage, tests } => {
                self.tx.stage_detail(claim, stage, &Detail::Tests(capped(tests))).await
            }
            JobEvent::CoverageRead { stage, lines } => {
                self.tx.stage_detail(claim, stage, &Detail::Coverage((*lines).min(10_000))).await
            }
            JobEvent::Summary { stage, text } => {
                self.tx.stage_detail(claim, stage, &Detail::Summary(shortened(text, MAX_SUMMARY_BYTES))).await
            }
            _ => Ok(()),
        }
    }

    /// Values for later jobs. More than can be kept ends the job: those jobs would go on with less than they were given.
    pub(super) async fn hands_on(
        &mut self,
        attempt: &Attempt,
        job: &Job,
        values: &[Variable],
    ) -> Result<(), StoreError> {
        let mut all = self.tx.handed_by(attempt.claim).await?;
        for value in values {
            all.retain(|known| known.name != value.name);
            all.push(value.clone());
        }
        match check_variables(&all) {
            Ok(()) => self.tx.hands_on(attempt.claim, &all).await,
            Err(wrong) => {
                let message = format!("what it hands on by $BUILDR_ENV cannot be kept: {wrong}");
                self.end(attempt, job, Ending::errored(Cause::Limit, message)).await?;
                self.abort(attempt, "what it hands on was refused");
                Ok(())
            }
        }
    }
}

fn capped(tests: &Tests) -> Tests {
    let mut tests = tests.clone();
    tests.failures.truncate(MAX_FAILURES);
    for failure in &mut tests.failures {
        for text in [&mut failure.name, &mut failure.message].into_iter().chain(&mut failure.file) {
            *text = shortened(text, FAILURE_BYTES);
        }
    }
    tests
}

/// The beginning of a text that is too long.
fn shortened(text: &str, most: usize) -> String {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        for (text, most, expect) in [("abc", 5, "abc"), ("abc", 2, "ab"), ("aü", 2, "a"), ("aü", 3, "aü"), ("", 0, "")]
        {
            assert_eq!(shortened(text, most), expect);
        }
    }
}
