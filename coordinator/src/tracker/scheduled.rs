//! When builds begin by themselves, as a plan says: believed of a trusted build of what the default branch has, and of
//! nothing that somebody only proposes.

use std::collections::HashSet;

use protocol::plan::{MAX_SCHEDULES, Schedule};

use super::Turn;
use crate::intake::check_variables;
use crate::store::{Build, Scheduled, StoreError};

/// The longest name of a schedule or pipeline, in characters.
const LONGEST: usize = 200;

/// The most schedules of all pipelines of a repository.
const MOST: usize = 4 * MAX_SCHEDULES;

impl Turn<'_> {
    /// Takes a repository's schedules from the plan of a build, when that build is one of those that count.
    pub(super) async fn schedules(&mut self, build: &Build, said: &[Schedule]) -> Result<(), StoreError> {
        let (number, origin) = (build.number, &build.origin);
        let proposed = !build.trusted || origin.pull_request.is_some() || origin.tag.is_some();
        let (Some(branch), Some(default_branch)) = (&build.branch, &build.default_branch) else { return Ok(()) };
        if proposed || branch != default_branch || !self.tx.is_of_tip(number).await? {
            return Ok(());
        }
        let before = self.tx.schedules_of(&build.repo).await?;
        let is_newer = before.iter().any(|schedule| schedule.since > number);
        // A newer one that has none left nothing to compare with.
        if is_newer || (before.is_empty() && said.is_empty()) || self.tx.is_scheduled_by_a_newer(build).await? {
            return Ok(());
        }
        let mut names = HashSet::new();
        let mut schedules = Vec::new();
        for said in said {
            if !names.insert((&said.pipeline, &said.name)) || schedules.len() >= MOST {
                continue;
            }
            let known = before.iter().find(|it| it.said.name == said.name && it.said.pipeline == said.pipeline);
            let next = match next(said, known, self.now_ms) {
                Ok(next) => next,
                Err(wrong) => {
                    tracing::warn!(build = number.0, schedule = %said.name, "a schedule is left out: {wrong}");
                    continue;
                }
            };
            let (by, default_branch) = ((build.repo.clone(), number), default_branch.clone());
            schedules.push(Scheduled::new(by, said.clone(), default_branch, next, known));
        }
        self.tx.put_schedules(&before, &schedules).await
    }
}

/// When a schedule comes due next. What was said before and is said again has its time still, also one that has just
/// come and was not carried out yet.
fn next(said: &Schedule, known: Option<&Scheduled>, now_ms: u64) -> Result<Option<u64>, String> {
    let text = |text: &str| text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
    if said.name.is_empty() || !text(&said.name) || !said.pipeline.as_deref().is_none_or(text) {
        return Err("its name cannot be kept".to_owned());
    }
    check_variables(&said.inputs)?;
    let times = said.times().map_err(|error| error.to_string())?;
    let same = known.filter(|known| (&known.said.cron, &known.said.zone) == (&said.cron, &said.zone));
    Ok(same.map_or_else(|| times.after(now_ms), |known| known.next_ms))
}
