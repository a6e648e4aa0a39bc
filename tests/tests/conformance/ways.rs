//! The three ways in which a manifest is carried out.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use farm::docker;
use farm::farm::{Farm, Repository, in_memory_in_docker, over_rabbitmq_in_docker};
use protocol::Ending;
use protocol::api::ApproveJob;
use protocol::report::JobEvent;
use serde_json::Value;

use super::expected::Scenario;
use super::told::Told;

/// Where a manifest is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By `buildr run`.
    Local,
    /// By a coordinator and an agent in one process.
    Memory,
    /// By a coordinator and two agents beyond RabbitMQ.
    Rabbitmq,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Memory => "memory",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    /// What expectations call it.
    pub(crate) fn kind(self) -> &'static str {
        if self == Self::Local { "local" } else { "farm" }
    }

    /// Builds a scenario. Nothing when the parts for it are not there, and nobody said that they must be.
    pub(crate) async fn build(self, scenario: &Scenario) -> Option<Told> {
        if !docker::is_there().await {
            return None;
        }
        let files: Vec<(&str, &str)> =
            scenario.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let repository = Repository::with(&files);
        let mut told = None;
        match self {
            Self::Local => told = Some(local(scenario, repository.path()).await),
            Self::Memory => {
                in_memory_in_docker(async |farm: &mut Farm| told = Some(on_farm(farm, scenario, &repository, 1).await))
                    .await;
            }
            Self::Rabbitmq => {
                over_rabbitmq_in_docker(async |farm: &mut Farm| {
                    told = Some(on_farm(farm, scenario, &repository, 2).await);
                })
                .await;
            }
        }
        told
    }
}

/// A program of the farm, as it stands beside the tests.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not there; make it with `cargo build --release --workspace`", path.display());
    path
}

async fn local(scenario: &Scenario, project: &Path) -> Told {
    let home = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(program("buildr"));
    command.args(["run", "--json", "--as", "manual"]).arg(project).stdin(Stdio::null());
    for (name, value) in &scenario.expected.inputs {
        command.arg("--input").arg(format!("{name}={value}"));
    }
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, home.path());
    }
    let ran = command.output().await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let mut told = Told { message: err.to_string(), ..Told::default() };
    // A manifest that cannot be read is told before anything begins.
    told.outcome = if ran.status.code() == Some(2) { "errored".to_owned() } else { format!("no end: {err}") };
    for line in out.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let job = line["job"].as_str().unwrap_or_default().to_owned();
        match line["event"].as_str() {
            Some("log") => {
                let log = told.logs.entry(format!("{job}/{}", line["log"].as_str().unwrap())).or_default();
                log.push_str(line["text"].as_str().unwrap_or("(no text)"));
            }
            Some("ended") => {
                let ending: Ending = serde_json::from_value(line["ending"].clone()).unwrap();
                told.outcome = ending.outcome.name().to_owned();
                told.message = ending.message.unwrap_or_default();
            }
            Some("begun" | "note") => {}
            Some("passed_over") => told.pass_over(&job),
            _ => told.add(&job, &serde_json::from_value::<JobEvent>(line).unwrap()),
        }
    }
    told
}

/// Submits it to a farm, and does there what a person would.
async fn on_farm(farm: &mut Farm, scenario: &Scenario, repository: &Repository, agents: u32) -> Told {
    farm.start_coordinator().await;
    for number in 1..=agents {
        // All cores for one job, as on a laptop, so that stages run side by side.
        farm.start_agent(&format!("a{number}"), 1).await;
    }
    let number = farm.api().submit_with(repository, &scenario.expected.inputs).await;
    for (job, inputs) in &scenario.expected.approve {
        let answer = ApproveJob { job: Some(job.parse().unwrap()), inputs: inputs.clone(), ..ApproveJob::default() };
        farm.api().answer(number, &answer).await;
    }
    for job in &scenario.expected.reject {
        let answer = ApproveJob { job: Some(job.parse().unwrap()), reject: true, ..ApproveJob::default() };
        farm.api().answer(number, &answer).await;
    }
    let view = farm.api().until_over(number).await;
    let mut told = Told::of(&view);
    for (attempt, place) in view.attempts.iter().zip(1..) {
        for log in &attempt.logs {
            let bytes = farm.api().log_of(number, place, log.name.as_str()).await;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            told.logs.insert(format!("{}/{}", attempt.job, log.name), text);
        }
    }
    told
}
