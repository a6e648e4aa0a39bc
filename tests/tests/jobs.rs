//! Builds of several jobs through all real parts but containers: manifest, planner, coordinator, agents.

use farm::farm::{Farm, Repository, in_memory, until};
use protocol::api::{ApproveJob, BuildView, Status};

async fn with_agents(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    farm.start_agent("b", 1).await;
}

fn jobs(view: &BuildView) -> Vec<String> {
    view.jobs.iter().map(|job| format!("{} {}", job.key, job.status.name())).collect()
}

/// Builds a manifest, and checks how each of its jobs ends.
async fn check(manifest: &str, status: Status, expect: &[&str]) {
    in_memory(async |farm| {
        with_agents(farm).await;
        let number = farm.api().begin(manifest).await;
        let view = farm.api().until_is(number, status).await;
        assert_eq!(jobs(&view), expect, "{view:#?}");
    })
    .await;
}

#[tokio::test]
async fn cells_are_jobs_and_finally_comes_last() {
    let manifest = "image: x\nstages: [test, docs]\ntest: {matrix: {os: [one, two]}, script: [print hello]}\ndocs: {script: [print hello]}\nfinally: {script: [print over]}\n";
    let expect = ["test (os=one) passed", "test (os=two) passed", "docs passed", "finally passed"];
    check(manifest, Status::Passed, &expect).await;
}

#[tokio::test]
async fn a_cell_that_fails_ends_the_build_and_finally_runs_all_the_same() {
    let manifest = "image: x\nstages: [test, docs]\ntest: {matrix: {os: [one]}, script: [exit 3]}\ndocs: {script: [print hello]}\nfinally: {script: [print over]}\n";
    check(manifest, Status::Failed, &["test (os=one) failed", "docs skipped", "finally passed"]).await;
}

#[tokio::test]
async fn a_person_lets_a_stage_begin() {
    in_memory(async |farm| {
        with_agents(farm).await;
        let manifest = "image: x\nstages: [test, deploy]\ntest: {script: [print hello]}\ndeploy: {manual: {ask: 'Deploy?', inputs: {TO: [stage, prod]}}, concurrency: prod, script: [print hello]}\n";
        let number = farm.api().begin(manifest).await;
        let open = |view: &BuildView| view.jobs.iter().any(|job| job.gate.as_ref().is_some_and(|gate| gate.open));
        let view = farm.api().until(number, open).await;
        let message = view.build.message.clone().unwrap();
        assert!(message.contains("waits for approval (Deploy?)"), "{message}");
        // The list says the same, and of who waits for its turn alone too.
        let listed = async |number| {
            let row = farm.api().builds().await.into_iter().find(|row| row.number == number).unwrap();
            row.message.unwrap_or_default()
        };
        until("the list to say it", async || (listed(number).await == message).then_some(())).await;
        let refused = farm.api().client.approve_job(number, &ApproveJob::default()).await.unwrap_err().to_string();
        assert!(refused.contains("asks for TO"), "{refused}");
        let inputs = [("TO".to_owned(), "prod".to_owned())].into();
        farm.api().client.approve_job(number, &ApproveJob { inputs, ..ApproveJob::default() }).await.unwrap();
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(jobs(&view), ["test passed", "deploy passed"]);
    })
    .await;
}

#[tokio::test]
async fn a_build_whose_only_job_waits_for_its_turn_is_planned_and_offered() {
    let manifest = "image: x\nconcurrency: all\nstages: [test]\ntest: {script: [print hello]}\n";
    check(manifest, Status::Passed, &["build passed"]).await;
}

#[tokio::test]
async fn another_build_is_begun_and_waited_for() {
    in_memory(async |farm| {
        with_agents(farm).await;
        let other = farm::farm::Repository::with_manifest("image: x\nstages: [test]\ntest: {script: [exit 3]}\n");
        let url = other.url();
        farm.api().keep(other);
        let manifest = format!("image: x\nstages: [next, after]\nnext: {{trigger: {{repo: '{}', wait: true}}}}\nafter: {{script: [print hello]}}\n", url.reveal());
        let number = farm.api().begin(&manifest).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        assert_eq!(jobs(&view), ["next failed", "after skipped"]);
    })
    .await;
}

#[tokio::test]
async fn a_branch_begins_with_the_cache_of_the_default_branch() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let manifest = |script: &str| {
            let stage = format!("{{matrix: {{n: [1]}}, cache: {{paths: [deps], name: deps}}, script: [{script}]}}");
            format!("image: x\nstages: [fill]\nfill: {stage}\n")
        };
        // Only where HEAD is on it may its name be told by nothing else.
        let repository = Repository::with_manifest(&manifest("env BUILDR_DEFAULT_BRANCH, write deps/one mine"));
        let number = farm.api().submit(&repository).await;
        farm.api().until_is(number, Status::Passed).await;
        repository.branch("topic");
        repository.on("topic", &[(".buildr.yml", &manifest("env BUILDR_DEFAULT_BRANCH, read deps/one"))]);
        let number = farm.api().submit_url(repository.url(), Some("topic")).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        let last = view.attempts.last().unwrap();
        let log = String::from_utf8(farm.api().log_of(number, last.attempt, "fill").await).unwrap();
        assert!(log.ends_with("main\nmine\n"), "{log}");
    })
    .await;
}
