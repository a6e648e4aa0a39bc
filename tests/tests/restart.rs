//! Builds that are done again, through all real parts but containers.

use farm::farm::{Farm, Repository, in_memory};
use protocol::api::{BuildView, Restart, Status};
use protocol::{BuildNumber, StageOutcome};

async fn with_agent(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
}

async fn again(farm: &Farm, number: BuildNumber, failed: bool) -> BuildNumber {
    let done = farm.api().client.restart(number, &Restart { failed, latest: false }).await;
    done.expect("a restart").build
}

fn jobs(view: &BuildView) -> Vec<String> {
    let from = |build: Option<BuildNumber>| build.map(|build| format!(" in {build}")).unwrap_or_default();
    view.jobs.iter().map(|job| format!("{} {}{}", job.key, job.status.name(), from(job.carried_from))).collect()
}

#[tokio::test]
async fn the_same_commit_and_plan_are_built_though_the_branch_went_on() {
    in_memory(async |farm| {
        with_agent(farm).await;
        let repository = Repository::with_manifest("image: x\nstages: [test]\ntest: {script: [print one]}\n");
        let number = farm.api().submit(&repository).await;
        let first = farm.api().until_is(number, Status::Passed).await;
        repository.commit(&[(".buildr.yml", "image: x\nstages: [other]\nother: {script: [exit 1]}\n")]);
        let restarted = again(farm, number, false).await;
        let view = farm.api().until_is(restarted, Status::Passed).await;
        assert_eq!((view.restart_of, &view.build.commit), (Some(number), &first.build.commit));
        assert_eq!(farm.api().build(number).await.restarts, [restarted]);
        let stage = &view.attempts[0].stages[0];
        assert_eq!((stage.name.as_str(), &stage.result), ("test", &Some(StageOutcome::Passed)));
        // What the image's name meant the first time.
        assert!(stage.image.starts_with("x@sha256:"), "{}", stage.image);
        assert_eq!(farm.api().log(restarted, "test").await, "one\n");
        let repro = farm.api().client.repro(number).await.unwrap();
        assert_eq!((repro.commit, repro.jobs.len()), (first.build.commit, 1));
        assert!(repro.jobs[0].plan.image.name.starts_with("x@sha256:"), "{:?}", repro.jobs[0].plan.image);
    })
    .await;
}

#[tokio::test]
async fn only_what_failed_is_done_again_and_finds_what_passed_left() {
    in_memory(async |farm| {
        with_agent(farm).await;
        let manifest = "image: x\nstages: [make, test]\n\
             make: {matrix: {n: [1]}, script: [write out/app made, hand VERSION=7], artifacts: [out]}\n\
             test: {matrix: {n: [1]}, script: [read out/app, env VERSION, exit 3]}\n\
             finally: {script: [print over]}\n";
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        assert_eq!(jobs(&view), ["make (n=1) passed", "test (n=1) failed", "finally passed"]);
        let restarted = again(farm, number, true).await;
        let view = farm.api().until_is(restarted, Status::Failed).await;
        assert_eq!(jobs(&view), ["make (n=1) passed in #1", "test (n=1) failed", "finally passed"]);
        assert_eq!(farm.api().log(restarted, "test").await, "made\n7\n");
        assert_eq!(view.attempts.len(), 2);
        let refused = farm.api().client.restart(BuildNumber(9), &Restart::default()).await.unwrap_err().to_string();
        assert!(refused.contains("there is no build #9"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_build_that_runs_is_not_begun_again() {
    in_memory(async |farm| {
        with_agent(farm).await;
        let number = farm.api().begin("image: x\nstages: [test]\ntest: {script: [hang]}\n").await;
        farm.api().until_in_stage(number, 1, "test").await;
        let refused = farm.api().client.restart(number, &Restart::default()).await.unwrap_err().to_string();
        assert!(refused.contains("build #1 is not over"), "{refused}");
        farm.api().cancel(number).await;
        farm.api().until_is(number, Status::Cancelled).await;
        let restarted = again(farm, number, true).await;
        farm.api().until_in_stage(restarted, 1, "test").await;
        farm.api().cancel(restarted).await;
        farm.api().until_is(restarted, Status::Cancelled).await;
    })
    .await;
}
