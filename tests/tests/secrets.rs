//! Secrets of the farm, from the one who sets them to the stage that asks: which builds get them, and that no log, no
//! answer and no file of the farm has one in the clear.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;

use farm::farm::{Farm, Repository, in_memory, until};
use protocol::RepoUrl;
use protocol::api::{BuildView, MakeToken, RemoveSecret, Role, SetSecret, Status, Submit};
use protocol::job::TriggerKind;

/// Prints what it is given.
const ASKS: &str = "image: x\nstages: [deploy]\ndeploy: {secrets: [TOKEN], script: [print it is, env TOKEN]}\n";

const VALUE: &str = "s3cret-value-1";

fn secret(name: &str, value: &str, project: Option<RepoUrl>) -> SetSecret {
    let (name, value, all) = (name.to_owned(), value.to_owned(), project.is_none());
    SetSecret { name, value, project, all, branch: None, events: Vec::new() }
}

async fn set(farm: &Farm, order: SetSecret) {
    farm.api().client.set_secret(&order).await.unwrap();
}

async fn built(farm: &Farm, repository: &Repository, branch: Option<&str>) -> BuildView {
    let number = farm.api().submit_url(repository.url(), branch).await;
    farm.api().until_over(number).await
}

/// The build of a message that somebody published by hand, once so many are over.
async fn published(farm: &Farm, repository: &Repository, count: usize) -> BuildView {
    farm.memory().publish("build_queue", repository.message(), None, None);
    until("the build", async || (farm.api().builds().await.len() == count).then_some(())).await;
    farm.api().until_all_over(count).await.pop().unwrap()
}

fn message(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

#[track_caller]
fn check_missing(view: &BuildView) {
    assert_eq!(view.build.status, Status::Errored, "{view:#?}");
    assert!(
        message(view).contains("which is not there") && message(view).contains("buildr secret set TOKEN"),
        "{view:#?}"
    );
}

/// The value stands in no file below a folder.
fn check_nowhere(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_nowhere(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
            assert!(!found, "{} has it", path.display());
        }
    }
}

#[tokio::test]
async fn a_stage_gets_what_its_project_has_and_no_log_shows_it() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let (mine, other) = (Repository::with_manifest(ASKS), Repository::with_manifest(ASKS));
        check_missing(&built(farm, &mine, Some("main")).await);
        set(farm, secret("TOKEN", VALUE, Some(mine.url()))).await;
        let view = built(farm, &mine, Some("main")).await;
        assert_eq!(view.build.status, Status::Passed, "{view:#?}");
        assert_eq!(farm.api().log(view.build.number, "deploy").await, "it is\n***\n");
        check_missing(&built(farm, &other, Some("main")).await);
        let listed = farm.api().client.secrets().await.unwrap();
        assert!(!format!("{listed:?}").contains(VALUE) && !listed[0].lost, "{listed:?}");
        check_nowhere(&farm.folder("coordinator"));
        // What was set once is there after a restart, and gone when it is removed.
        farm.stop_coordinator().await;
        farm.start_coordinator().await;
        assert_eq!(built(farm, &mine, Some("main")).await.build.status, Status::Passed);
        let (name, project) = ("TOKEN".to_owned(), Some(mine.url()));
        let order = RemoveSecret { name, project, all: false, branch: None, events: Vec::new() };
        farm.api().client.remove_secret(&order).await.unwrap();
        check_missing(&built(farm, &mine, Some("main")).await);
        let again = farm.api().client.remove_secret(&order).await.unwrap_err().to_string();
        assert!(again.contains("there is no secret TOKEN"), "{again}");
    })
    .await;
}

#[tokio::test]
async fn branch_and_event_decide_and_what_is_meant_more_closely_counts() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let repository = Repository::with_manifest(ASKS);
        repository.branch("release/1");
        let of = |branch: Option<&str>, events: &[TriggerKind], project: Option<RepoUrl>| SetSecret {
            branch: branch.map(str::to_owned),
            events: events.to_vec(),
            ..secret("TOKEN", VALUE, project)
        };
        set(farm, of(Some("release/*"), &[], Some(repository.url()))).await;
        check_missing(&built(farm, &repository, Some("main")).await);
        // Without a branch it is not known yet whether that is one.
        check_missing(&built(farm, &repository, None).await);
        assert_eq!(built(farm, &repository, Some("release/1")).await.build.status, Status::Passed);
        set(farm, of(Some("main"), &[TriggerKind::Push], Some(repository.url()))).await;
        check_missing(&built(farm, &repository, Some("main")).await);
        set(farm, of(Some("main"), &[TriggerKind::Manual, TriggerKind::Push], None)).await;
        assert_eq!(built(farm, &repository, Some("main")).await.build.status, Status::Passed);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_trusted_gets_none() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let repository = Repository::with_manifest(ASKS);
        set(farm, secret("TOKEN", VALUE, Some(repository.url()))).await;
        set(farm, secret("TOKEN", VALUE, None)).await;
        let view = published(farm, &repository, 1).await;
        assert!(message(&view).contains("it is not trusted"), "{view:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_value_sealed_in_the_manifest_opens_for_its_project_alone() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let repository = Repository::empty();
        let key = farm.api().client.sealing_key().await.unwrap();
        let sealed = key.seal(&repository.url().identity(), VALUE).unwrap();
        let manifest = format!(
            "image: x\nstages: [build, deploy]\nbuild: {{script: [env TOKEN]}}\ndeploy: {{secrets: {{TOKEN: {{secure: {sealed}}}}}, script: [print it is, env TOKEN]}}\n"
        );
        repository.commit(&[(".buildr.yml", &manifest)]);
        let view = built(farm, &repository, Some("main")).await;
        assert_eq!(view.build.status, Status::Passed, "{view:#?}");
        assert_eq!(farm.api().log(view.build.number, "deploy").await, "it is\n***\n");
        assert_eq!(farm.api().log(view.build.number, "build").await, "\n", "who does not ask has none");
        check_nowhere(&farm.folder("coordinator"));
        let copied = Repository::with_manifest(&manifest);
        let view = built(farm, &copied, Some("main")).await;
        assert_eq!(view.build.status, Status::Errored, "{view:#?}");
        assert!(message(&view).contains("sealed for another project"), "{view:#?}");
        // Nobody who only publishes a message gets it opened.
        let view = published(farm, &repository, 3).await;
        assert!(message(&view).contains("it is not trusted"), "{view:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_developers_token_builds_and_sets_no_secret() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let order = MakeToken { name: "ci".to_owned(), role: Role::Developer, for_ms: None };
        let made = farm.api().client.make_token(&order).await.unwrap();
        let server = format!("http://{}", farm.config.listen).parse().unwrap();
        let own = buildr::client::Farm::new(server, Some(made.token)).unwrap();
        let repository = Repository::with_manifest("image: x\nstages: [a]\na: {script: [print x]}\n");
        let number = own.submit(&Submit::new(repository.url(), None)).await.unwrap().build.number;
        farm.api().until_is(number, Status::Passed).await;
        let refused = own.set_secret(&secret("TOKEN", VALUE, None)).await.unwrap_err().to_string();
        assert!(refused.contains("needs a token of the role maintainer"), "{refused}");
        assert!(own.secrets().await.is_err() && own.tokens().await.is_err() && own.audit(None, 5).await.is_err());
        farm.api().client.revoke_token("ci").await.unwrap();
        let refused = own.submit(&Submit::new(repository.url(), None)).await.unwrap_err().to_string();
        assert!(refused.contains("the token ci was revoked"), "{refused}");
        let audit = farm.api().client.audit(None, 50).await.unwrap();
        let of_ci: Vec<_> = audit.entries.iter().filter(|it| it.who == "ci").map(|it| it.status).collect();
        assert_eq!(of_ci, [403, 403, 403, 403, 201]);
    })
    .await;
}
