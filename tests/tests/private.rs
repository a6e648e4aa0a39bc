//! Private repositories, from the one who gives a project a token or a key to the build that has the code: which builds
//! are refused, and that no log, no answer and no file of the farm has either.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::Path;

use farm::farm::{Farm, Repository, in_memory, until};
use farm::processes::with_processes;
use farm::smart_http::{Hosted, SmartHttp};
use farm::sshd::Sshd;
use protocol::CommitId;
use protocol::api::{
    AddedProject, Approval, BuildView, ChangeProject, CredentialsKind, Forge, NewProject, SetCredentials, Status,
};
use serde_json::json;

/// Says that it has the code.
const MANIFEST: &str = "image: x\nstages: [test]\ntest: {script: [print built]}\n";

const TOKEN: &str = "t0k3n-that-opens-1";

fn token(text: &str) -> Option<SetCredentials> {
    Some(SetCredentials::Token { user: Some("farm".to_owned()), token: text.to_owned() })
}

async fn change(farm: &Farm, hosted: &Hosted, credentials: SetCredentials) {
    let change = ChangeProject { credentials: Some(credentials), ..ChangeProject::default() };
    farm.api().client.change_project(hosted.url.reveal(), &change).await.unwrap();
}

async fn built(farm: &Farm, hosted: &Hosted) -> BuildView {
    let number = farm.api().submit_url(hosted.url.clone(), Some("main")).await;
    farm.api().until_over(number).await
}

#[track_caller]
fn check_refused(view: &BuildView) {
    let message = view.build.message.as_deref().unwrap_or_default();
    assert_eq!(view.build.status, Status::Errored, "{view:#?}");
    assert!(message.contains("Credentials tried"), "{message}");
}

/// A text stands in no file below a folder.
fn check_not_in(folder: &Path, text: &[u8]) {
    // What goes away meanwhile holds nothing.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            check_not_in(&path, text);
        } else if path.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let found = bytes.windows(text.len()).any(|part| part == text);
            assert!(!found, "{} has it", path.display());
        }
    }
}

/// Says what a forge would, and waits for the build that it begins.
async fn push(farm: &Farm, added: &AddedProject, body: &serde_json::Value) -> BuildView {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let count = farm.api().builds().await.len();
    let answer =
        client.post(&added.project.hook_url).bearer_auth(&added.secret).body(body.to_string()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    let build = until("the build", async || farm.api().builds().await.get(count).map(|row| row.number)).await;
    farm.api().until_over(build).await
}

#[tokio::test]
async fn a_projects_token_opens_its_repository_for_all_its_builds() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let server = SmartHttp::private("farm", TOKEN).await;
        let hosted = server.make("ada/secret");
        let commit = hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", MANIFEST)]);
        check_refused(&built(farm, &hosted).await);

        let new = NewProject { forge: Some(Forge::Generic), ..NewProject::new(hosted.url.clone()) };
        let added = farm.api().client.add_project(&NewProject { credentials: token(TOKEN), ..new }).await.unwrap();
        let own = added.project.credentials.clone().unwrap();
        assert_eq!((own.kind, own.user.as_deref()), (CredentialsKind::Token, Some("farm")));
        for view in [push(farm, &added, &json!({"branch": "main", "commit": commit})).await, built(farm, &hosted).await]
        {
            assert_eq!(view.build.status, Status::Passed, "{view:#?}");
            assert_eq!(view.build.commit.as_ref(), Some(&commit));
            let log = farm.api().log(view.build.number, "test").await;
            assert!(log.contains("built") && !log.contains(TOKEN), "{log}");
        }

        // What was given is given back by nobody.
        let shown = farm.api().client.project(hosted.url.reveal()).await.unwrap();
        assert_eq!(shown, added.project);
        assert!(!serde_json::to_string(&shown).unwrap().contains(TOKEN));
        check_not_in(&farm.folder(""), TOKEN.as_bytes());

        change(farm, &hosted, token("wr0ng").unwrap()).await;
        check_refused(&built(farm, &hosted).await);
        change(farm, &hosted, token(TOKEN).unwrap()).await;
        assert_eq!(built(farm, &hosted).await.build.status, Status::Passed);
        // It outlives the coordinator.
        farm.stop_coordinator().await;
        farm.start_coordinator().await;
        assert_eq!(built(farm, &hosted).await.build.status, Status::Passed);
        change(farm, &hosted, SetCredentials::None).await;
        check_refused(&built(farm, &hosted).await);
    })
    .await;
}

#[tokio::test]
async fn an_owners_token_opens_each_repository_of_the_owner_and_no_other() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let server = SmartHttp::private("farm", TOKEN).await;
        let (own, other) = (server.make("ada/one"), server.make("eve/one"));
        for hosted in [&own, &other] {
            hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", MANIFEST)]);
        }
        let all = own.url.reveal().replace("one.git", "*").parse().unwrap();
        let new = NewProject { forge: Some(Forge::Generic), credentials: token(TOKEN), ..NewProject::new(all) };
        farm.api().client.add_project(&new).await.unwrap();
        assert_eq!(built(farm, &own).await.build.status, Status::Passed);
        check_refused(&built(farm, &other).await);
    })
    .await;
}

#[tokio::test]
async fn what_a_stranger_proposes_is_fetched_and_reads_nothing_else_by_the_token() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let server = SmartHttp::private("farm", TOKEN).await;
        let (hosted, lib) = (server.make("ada/secret"), server.make("ada/lib"));
        let library = lib.commit(Some("refs/heads/main"), &[], &[("lib.c", "lib")]);
        let list = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n";
        let manifest = format!("clone: {{submodules: true}}\n{MANIFEST}");
        hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", &manifest), (".gitmodules", list)]);
        let with_module = hosted.add_module("refs/heads/main", "lib", &library);
        let plain = hosted.commit(Some("refs/pull/8/head"), &[], &[(".buildr.yml", MANIFEST)]);
        let new = NewProject { forge: Some(Forge::Generic), ..NewProject::new(hosted.url.clone()) };
        let new = NewProject { credentials: token(TOKEN), approval: Some(Approval::None), ..new };
        let added = farm.api().client.add_project(&new).await.unwrap();
        let view = push(farm, &added, &json!({"branch": "main", "commit": with_module})).await;
        assert_eq!(view.build.status, Status::Passed, "its own branch has the submodule: {view:#?}");

        let proposed = |number: u64, commit: &CommitId| {
            let request =
                json!({"number": number, "action": "opened", "source": "topic", "target": "main", "fork": true});
            json!({"commit": commit, "pull_request": request})
        };
        let view = push(farm, &added, &proposed(8, &plain)).await;
        assert!(view.origin.fork);
        assert_eq!(view.build.status, Status::Passed, "its code is offered here: {view:#?}");
        let view = push(farm, &added, &proposed(9, &with_module)).await;
        check_refused(&view);
        let message = view.build.message.unwrap();
        assert!(message.contains("submodule lib") && message.ends_with("Credentials tried: none"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn what_is_of_no_use_is_refused_before_it_is_kept() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let new = |url: &str| NewProject { forge: Some(Forge::Generic), ..NewProject::new(url.parse().unwrap()) };
        let client = &farm.api().client;
        for (url, credentials, expect) in [
            ("git@example.org:a/b.git", token(TOKEN), "over https"),
            ("https://example.org/a/b.git", Some(SetCredentials::DeployKey("x".to_owned())), "no private key"),
            ("https://me:pw@example.org/a/b.git", token(TOKEN), "of its own"),
        ] {
            let refused = client.add_project(&NewProject { credentials, ..new(url) }).await.unwrap_err();
            assert!(refused.to_string().contains(expect), "{url}: {refused}");
        }
        // Another way to the repository for which the token is of no use.
        let plain = NewProject { credentials: token(TOKEN), ..new("https://example.org/a/b") };
        let identity = client.add_project(&plain).await.unwrap().project.identity;
        let url = Some("git@example.org:a/b".parse().unwrap());
        let refused = client.change_project(&identity, &ChangeProject { url, ..ChangeProject::default() }).await;
        assert!(refused.unwrap_err().to_string().contains("over https"));
        let kept = client.project(&identity).await.unwrap();
        assert_eq!(kept.url, "https://example.org/a/b");
    })
    .await;
}

/// Agents of their own processes, for whose user knows the server is decided by their home.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_key_opens_its_repository_over_ssh() {
    with_processes(10, async |farm| {
        let Some(server) = Sshd::start().await else { return };
        let home = server.home().display().to_string();
        let variables = [("HOME".to_owned(), home), ("SSH_AUTH_SOCK".to_owned(), "/does/not/exist".to_owned())];
        farm.variables.insert("a".to_owned(), variables.into());
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        let image = farm::docker::image();
        let manifest = format!("image: {image}\nstages: [test]\ntest: {{script: [\"! env | grep -i openssh\", ls]}}\n");
        let repository = Repository::with_manifest(&manifest);
        let url = server.url(repository.path());
        let built = async |farm: &farm::processes::Processes| {
            let number = farm.api().submit_url(url.clone(), Some("main")).await;
            farm.api().until_over(number).await
        };
        check_refused(&built(farm).await);
        let [key, stranger] = server.keys();
        let own = |key: &str| Some(SetCredentials::DeployKey(key.to_owned()));
        let new =
            NewProject { forge: Some(Forge::Generic), credentials: own(&stranger), ..NewProject::new(url.clone()) };
        let client = farm.api().client;
        let added = client.add_project(&new).await.unwrap().project;
        let view = built(farm).await;
        check_refused(&view);
        assert!(view.build.message.unwrap().contains("the project's deploy key"));

        let change = ChangeProject { credentials: own(&key), ..ChangeProject::default() };
        let shown = client.change_project(&added.identity, &change).await.unwrap().credentials.unwrap();
        assert_eq!(shown.kind, CredentialsKind::DeployKey);
        assert!(shown.fingerprint.unwrap().starts_with("SHA256:"));
        let view = built(farm).await;
        assert_eq!(view.build.status, Status::Passed, "{view:#?}");
        // Nobody wrote it down.
        let line = key.lines().nth(2).unwrap().as_bytes();
        check_not_in(farm.folder.path(), line);
        farm.agent("a").until_clean().await;
    })
    .await;
}
