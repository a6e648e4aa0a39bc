//! Stages that run side by side: what they have in common, and what none of them may hold up.

use protocol::StagePlan;
use protocol::plan::RunOn;

use super::walk::{job, keeps, needs, stage, stages};
use super::*;

#[tokio::test]
async fn nobody_goes_on_without_files_that_cannot_be_brought() {
    for fail_fast in [true, false] {
        let plan = Plan::new(
            "any",
            vec![
                keeps(&["out"], needs(&[], stage("one", &["write out 1"]))),
                keeps(&["out"], needs(&[], stage("two", &["write out 2"]))),
                stage("last", &["print went on"]),
                StagePlan { run_on: RunOn::Failed, ..stage("rescue", &["print rescued"]) },
            ],
        );
        let ran = job(Plan { fail_fast, ..plan }).await;
        let why = if fail_fast { "two errored" } else { "two failed" };
        ran.check("errored", &format!("last skipped: {why}, one passed, rescue passed, two passed"));
    }
    let ran = stages(vec![
        keeps(&["out"], needs(&[], stage("one", &["write out 1"]))),
        keeps(&["out"], needs(&[], stage("two", &["write out 2"]))),
        StagePlan { run_on: RunOn::Failed, ..stage("rescue", &["print rescued"]) },
    ])
    .await;
    ran.check("errored", "one passed, rescue passed, two passed");
}

#[tokio::test]
async fn what_is_passed_over_is_told_while_another_prints() {
    let lines = vec!["print x"; 500];
    let ran = stages(vec![
        needs(&[], stage("talks", &lines)),
        needs(&[], stage("ends", &["print y"])),
        needs(&["ends"], StagePlan { run_on: RunOn::Failed, ..stage("rescue", &["print z"]) }),
        needs(&["ends"], StagePlan { skip: Some("not now".to_owned()), ..stage("never", &["print z"]) }),
    ]);
    let ran = tokio::time::timeout(Duration::from_secs(60), ran).await.expect("nobody waits for who is not let go on");
    ran.check(
        "passed",
        "ends passed, never skipped: not now, rescue skipped: it runs only when something before it failed, talks passed",
    );
    assert_eq!(ran.log("talks").len(), 500);
}
