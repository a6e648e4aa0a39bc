//! Builds that mean harm, on real Docker and RabbitMQ, each beside or before a healthy one that passes. The harness
//! looks at the end whether a container, a workspace or a piece of a log is left.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

mod output;
mod processes;
mod source;
mod workspace;

use farm::docker::image;
use farm::farm::{Farm, Repository};
use protocol::BuildNumber;
use protocol::api::{BuildView, Status};

/// A manifest with one stage of these commands, each on a line of its own.
fn manifest(commands: &[&str]) -> String {
    let commands: String =
        commands.iter().map(|command| format!("    - '{}'\n", command.replace('\'', "''"))).collect();
    format!("image: {}\nstages: [test]\ntest:\n  script:\n{commands}", image())
}

/// Coordinator, and agent `a` with these slots.
async fn started(farm: &mut Farm, slots: u32) {
    farm.start_coordinator().await;
    farm.start_agent("a", slots).await;
    farm.until_here("a").await;
}

/// A healthy build in its stage, which is there while others do what they do.
async fn bystander(farm: &Farm) -> BuildNumber {
    let waits = ["echo begun", "until [ -e go ]; do sleep 0.1; done", "seq 1 1000"];
    let number = farm.api().begin(&manifest(&waits)).await;
    farm.api().until_said(number, "test", "begun\n").await;
    number
}

/// It goes on and passes, and one that begins afterwards passes too.
async fn is_unharmed(farm: &Farm, bystander: BuildNumber) {
    farm.folders("a").let_go().await;
    farm.api().until_is(bystander, Status::Passed).await;
    let numbers: String = (1..=1000).map(|number| format!("{number}\n")).collect();
    assert!(farm.api().log(bystander, "test").await.ends_with(&numbers));
    goes_on(farm).await;
}

/// The farm builds as before.
async fn goes_on(farm: &Farm) {
    let next = farm.api().begin(&manifest(&["echo well"])).await;
    farm.api().until_is(next, Status::Passed).await;
    assert!(farm.api().log(next, "test").await.ends_with("well\n"));
}

/// How the one stage of a build's last attempt ended.
fn end(view: &BuildView) -> &'static str {
    let stage = view.attempts.last().and_then(|attempt| attempt.stages.first());
    stage.and_then(|stage| stage.result.as_ref()).map_or("none", |result| result.name())
}

/// Builds a repository's `main` to its end.
async fn built(farm: &Farm, repository: &Repository) -> BuildView {
    let number = farm.api().submit(repository).await;
    farm.api().until_over(number).await
}
