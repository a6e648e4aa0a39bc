//! A farm's API as tests ask it: every wait has a limit, and one that passes it shows where the farm stands.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use buildr::client::{self, Followed, LogAddress};
use protocol::api::{ApproveJob, BuildView, JobView, Status, Submit};
use protocol::{BuildNumber, LogName, RepoUrl};

use super::{PATIENCE, Repository};

/// The API of one coordinator.
pub struct Api {
    /// The client itself.
    pub client: client::Farm,
    /// Repositories that live as long as the farm.
    pub(super) kept: Arc<Mutex<Vec<Repository>>>,
}

impl Api {
    /// The API at a host and port.
    #[must_use]
    pub fn at(address: &str, token: String) -> Self {
        let server = format!("http://{address}").parse().expect("a URL");
        Self { client: client::Farm::new(server, Some(token)).expect("a client"), kept: Arc::default() }
    }

    /// Begins a build of a repository's `main`.
    ///
    /// # Panics
    /// When the farm refuses; so do the others.
    pub async fn submit(&self, repository: &Repository) -> BuildNumber {
        self.submit_url(repository.url(), Some("main")).await
    }

    /// Begins a build of a repository that holds nothing but this manifest.
    pub async fn begin(&self, manifest: &str) -> BuildNumber {
        let repository = Repository::with_manifest(manifest);
        let url = repository.url();
        self.keep(repository);
        self.submit_url(url, Some("main")).await
    }

    /// Keeps a repository as long as the farm lives.
    pub fn keep(&self, repository: Repository) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(repository);
    }

    /// Begins a build of what lies elsewhere.
    pub async fn submit_url(&self, repo: RepoUrl, branch: Option<&str>) -> BuildNumber {
        let branch = branch.map(|branch| branch.parse().expect("a branch"));
        self.client.submit(&Submit::new(repo, branch)).await.expect("a build").build.number
    }

    /// Begins a build of a repository's `main` with values for its inputs.
    pub async fn submit_with(&self, repository: &Repository, inputs: &BTreeMap<String, String>) -> BuildNumber {
        let branch = Some("main".parse().expect("a branch"));
        let order = Submit { inputs: inputs.clone(), ..Submit::new(repository.url(), branch) };
        self.client.submit(&order).await.expect("a build").build.number
    }

    /// Says something at a gate, once its job waits for a person.
    pub async fn answer(&self, number: BuildNumber, answer: &ApproveJob) {
        let waits =
            |job: &JobView| Some(&job.key) == answer.job.as_ref() && job.gate.as_ref().is_some_and(|it| it.open);
        self.until(number, |view| view.build.status.is_over() || view.jobs.iter().any(waits)).await;
        self.client.approve_job(number, answer).await.expect("an answer");
    }

    /// A build as it stands.
    pub async fn build(&self, number: BuildNumber) -> BuildView {
        self.client.build(number).await.expect("the build")
    }

    /// All builds, the oldest first.
    pub async fn builds(&self) -> Vec<protocol::api::BuildRow> {
        let mut builds = self.client.builds(None, 500).await.expect("a list of builds").builds;
        builds.reverse();
        builds
    }

    /// Cancels a build.
    pub async fn cancel(&self, number: BuildNumber) -> protocol::api::Cancelled {
        self.client.cancel(number, Some("the test says so".to_owned())).await.expect("an answer")
    }

    /// Follows a build until it is over and its logs are whole.
    pub async fn until_over(&self, number: BuildNumber) -> BuildView {
        self.follow(number, |_| false).await;
        self.build(number).await
    }

    /// Follows a build until it is over, and checks how it ended.
    pub async fn until_is(&self, number: BuildNumber, expect: Status) -> BuildView {
        let view = self.until_over(number).await;
        assert_eq!(view.build.status, expect, "{view:#?}");
        view
    }

    /// Follows a build until something is true of it.
    pub async fn until(&self, number: BuildNumber, is: impl Fn(&BuildView) -> bool) -> BuildView {
        let found = self.follow(number, is).await;
        found.unwrap_or_else(|| panic!("build {number} was over before that"))
    }

    /// Follows a build until a stage runs in its attempt of this number.
    pub async fn until_in_stage(&self, number: BuildNumber, attempt: u32, stage: &str) -> BuildView {
        let runs = |view: &BuildView| {
            let attempts = view.attempts.iter().filter(|found| found.attempt == attempt && found.state == "running");
            attempts.flat_map(|found| &found.stages).any(|found| found.name.as_str() == stage)
        };
        self.until(number, runs).await
    }

    /// Follows a build until a log of it has these bytes somewhere.
    pub async fn until_said(&self, number: BuildNumber, log: &str, expect: &str) {
        let mut following = self.client.follow(number);
        let mut said = Vec::new();
        let all = async {
            while let Some(followed) = following.next().await.expect("the build can be followed") {
                if let Followed::Log { log: found, bytes, .. } = followed
                    && found.as_str() == log
                {
                    said.extend_from_slice(&bytes);
                    if said.windows(expect.len()).any(|part| part == expect.as_bytes()) {
                        return;
                    }
                }
            }
            panic!("build {number} was over before its log {log} had {expect:?}");
        };
        let Ok(()) = tokio::time::timeout(PATIENCE, all).await else { panic!("{}", self.state().await) };
    }

    /// Until the farm has as many builds, and all of them are over.
    pub async fn until_all_over(&self, count: usize) -> Vec<BuildView> {
        let builds = super::until("all builds to begin", async || {
            let builds = self.builds().await;
            (builds.len() >= count).then_some(builds)
        })
        .await;
        let mut views = Vec::new();
        for build in builds {
            views.push(self.until_over(build.number).await);
        }
        views
    }

    /// A log of the last attempt that has it, as far as it is in the store.
    pub async fn log(&self, number: BuildNumber, log: &str) -> String {
        let view = self.build(number).await;
        let attempts = view.attempts.iter().zip(1..);
        let with_it = attempts.filter(|(attempt, _)| attempt.logs.iter().any(|found| found.name.as_str() == log));
        let place = with_it.map(|(_, place)| place).last().unwrap_or_else(|| panic!("no log {log}: {view:#?}"));
        String::from_utf8(self.log_of(number, place, log).await).expect("a log of letters")
    }

    /// The bytes of a log, by its attempt's place in the build, from 1.
    pub async fn log_of(&self, build: BuildNumber, attempt: u32, log: &str) -> Vec<u8> {
        let log = log.parse().expect("a log's name");
        let mut reader = self.client.log(LogAddress { build, attempt, log }, 0, u64::MAX);
        let mut all = Vec::new();
        while let Some(bytes) = reader.next().await.expect("the log") {
            all.extend_from_slice(&bytes);
        }
        all
    }

    /// Follows a build to its end and gives its logs' bytes as they were told, by attempt and name.
    pub async fn told(&self, number: BuildNumber) -> HashMap<(u32, LogName), Vec<u8>> {
        let mut told: HashMap<(u32, LogName), Vec<u8>> = HashMap::new();
        let mut following = self.client.follow(number);
        let all = async {
            while let Some(followed) = following.next().await.expect("the build can be followed") {
                if let Followed::Log { attempt, log, offset, missing, bytes } = followed {
                    let so_far = told.entry((attempt, log)).or_default();
                    assert_eq!((offset, missing), (so_far.len() as u64, 0));
                    so_far.extend_from_slice(&bytes);
                }
            }
        };
        let Ok(()) = tokio::time::timeout(PATIENCE, all).await else { panic!("{}", self.state().await) };
        told
    }

    async fn follow(&self, number: BuildNumber, is: impl Fn(&BuildView) -> bool) -> Option<BuildView> {
        let mut following = self.client.follow(number);
        let found = async {
            while let Some(followed) = following.next().await.expect("the build can be followed") {
                match followed {
                    Followed::Build(view) if is(&view) => return Some(*view),
                    _ => {}
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("build {number} is not where it should be\n{}", self.state().await),
        }
    }

    /// Where the farm stands, for somebody who has to find out why a test failed.
    pub async fn state(&self) -> String {
        let mut text = String::new();
        match self.client.builds(None, 100).await {
            Ok(builds) => {
                for row in builds.builds {
                    let view = self.client.build(row.number).await;
                    // A String takes all that is written to it.
                    writeln!(text, "{view:#?}").ok();
                }
            }
            Err(error) => return format!("the farm does not answer: {error}"),
        }
        let agents = self.client.agents().await;
        writeln!(text, "{agents:#?}").ok();
        text
    }
}
