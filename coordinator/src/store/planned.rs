//! What a build consists of, once it is planned, and which older builds it makes needless.

use std::collections::BTreeSet;

use protocol::plan::BuildPlan;
use protocol::{BuildNumber, PlannedJob};
use sqlx::Row as _;

use super::builds::Build;
use super::members::WHOLE;
use super::{StoreError, Transaction, int, json_or_none, natural, to_json};

impl Transaction {
    /// Writes down what holds for a build as a whole.
    pub(crate) async fn plan_build(
        &mut self,
        build: BuildNumber,
        plan: &BuildPlan,
        jobs: &[PlannedJob],
    ) -> Result<(), StoreError> {
        self.grouped = None;
        sqlx::query("UPDATE builds SET plan = $2, pipelines = $3, priority = $4, left_ms = $5 WHERE number = $1")
            .bind(int(build.0))
            .bind(to_json("plan", plan)?)
            .bind(to_json("pipelines", &pipelines(jobs))?)
            .bind(plan.priority)
            .bind(plan.timeout_ms.map(int))
            .execute(&mut *self.tx)
            .await?;
        for (pipeline, terms) in plan.turns() {
            sqlx::query(
                "INSERT INTO turns (build, pipeline, grp, terms, ready)
                 VALUES ($1, $2, $3, $4, (SELECT coalesce(max(ready), 0) + 1 FROM turns))",
            )
            .bind(int(build.0))
            .bind(pipeline.unwrap_or(WHOLE))
            .bind(&terms.group)
            .bind(to_json("terms", terms)?)
            .execute(&mut *self.tx)
            .await?;
        }
        if plan.priority != 0 {
            // Those that are there already; later ones take it from their build.
            sqlx::query("UPDATE jobs SET priority = $2 WHERE build = $1")
                .bind(int(build.0))
                .bind(plan.priority)
                .execute(&mut *self.tx)
                .await?;
        }
        Ok(())
    }

    /// The older builds that this one makes needless: of the same branch or pull request, with the same values, and of
    /// no pipeline that this one lacks. A tag's build makes nothing needless.
    pub(crate) async fn superseded_by(
        &mut self,
        build: &Build,
        jobs: &[PlannedJob],
    ) -> Result<Vec<BuildNumber>, StoreError> {
        if build.origin.tag.is_some() || (build.branch.is_none() && build.origin.pull_request.is_none()) {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT * FROM builds WHERE identity = $1 AND number < $2 AND ended_ms IS NULL ORDER BY number",
        )
        .bind(build.repo.identity())
        .bind(int(build.number.0))
        .fetch_all(&mut *self.tx)
        .await?;
        let own = pipelines(jobs);
        let mut superseded = Vec::new();
        for row in &rows {
            let older = super::builds::build_of(row)?;
            let pipelines: Option<BTreeSet<String>> = json_or_none(row, "pipelines")?;
            let same = match build.origin.pull_request {
                Some(number) => older.origin.pull_request == Some(number),
                None => older.origin.pull_request.is_none() && older.branch == build.branch,
            };
            let needless = pipelines.is_none_or(|pipelines| pipelines.is_subset(&own));
            if same && older.origin.tag.is_none() && older.inputs == build.inputs && needless {
                superseded.push(BuildNumber(natural(row.try_get("number")?)));
            }
        }
        Ok(superseded)
    }
}

/// The pipelines of a plan; the one without a name is the empty text.
fn pipelines(jobs: &[PlannedJob]) -> BTreeSet<String> {
    jobs.iter().map(|job| job.plan.pipeline.clone().unwrap_or_default()).collect()
}
