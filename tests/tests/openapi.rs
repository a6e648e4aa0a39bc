//! The document of the API, held against a real coordinator: schemathesis makes requests of it, good ones and bad ones,
//! and looks whether each answer is one that the document has.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use data_encoding::HEXLOWER;
use farm::farm::{Farm, in_memory};
use farm::rabbit::setting;
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::api::{AddedProject, Forge, MakeToken, NewProject, ReportTo, Role, SetSecret, Status};
use sha2::Sha256;
use tokio::process::Command;
use tokio::time::timeout;

/// No run takes as long, on the slowest machine.
const LONGEST: Duration = Duration::from_secs(600);

const PASSES: &str = "\
image: x
schedule: {nightly: '0 3 * * * Europe/Rome'}
stages: [unit]
unit: {script: [print + make, print well]}
";

const FAILS: &str = "image: x\nstages: [unit]\nunit: {script: [print alas, exit 3]}\n";

const ASKS: &str = "image: x\nstages: [deploy]\ndeploy: {manual: {ask: 'Deploy?'}, script: [print deployed]}\n";

/// Where `scripts/setup` puts schemathesis: beside the folder that this program was built in.
///
/// # Panics
/// When it is required (`BUILDR_TEST_REQUIRE`) and not there.
fn schemathesis() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|folder| folder.join("schemathesis/bin/schemathesis")).find(|path| path.is_file());
    let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "schemathesis");
    assert!(found.is_some() || !required, "schemathesis is required: scripts/setup --only schemathesis");
    if found.is_none() {
        eprintln!("skipped: no schemathesis; scripts/setup --only schemathesis installs it");
    }
    found
}

/// A farm with something of everything, and nobody at work: what is asked for meanwhile waits, and no repository that
/// somebody makes up is looked for.
async fn furnished(farm: &mut Farm) {
    farm.start_coordinator().await;
    farm.start_agent("oak", 1).await;
    for (manifest, status) in [(PASSES, Status::Passed), (FAILS, Status::Failed)] {
        let number = farm.api().begin(manifest).await;
        farm.api().until_is(number, status).await;
    }
    let number = farm.api().begin(ASKS).await;
    let open =
        |view: &protocol::api::BuildView| view.jobs.iter().any(|job| job.gate.as_ref().is_some_and(|it| it.open));
    farm.api().until(number, open).await;
    farm.start_agent("stray", 1).await;
    farm.until_here("stray").await;
    for name in ["oak", "stray"] {
        farm.agent(name).drain();
        farm.agent(name).ended().await;
    }
    add_project(farm, "https://stray.example.org").await;
    let added = add_project(farm, "https://cronline.example.org").await;
    deliver(&added).await;
    let client = &farm.api().client;
    let secret = SetSecret {
        name: "TOKEN".to_owned(),
        value: "s3cret-value".to_owned(),
        project: None,
        all: true,
        branch: None,
        events: Vec::new(),
    };
    client.set_secret(&secret).await.unwrap();
    let token = MakeToken { name: "ci".to_owned(), role: Role::Viewer, for_ms: None };
    client.make_token(&token).await.unwrap();
    let told = ReportTo {
        repo: "https://cronline.example.org".parse().unwrap(),
        forge: Some("gitea".to_owned()),
        // Nobody is there: no build of this repository has a commit of which anything could be told.
        api: Some("http://127.0.0.1:9/api/v1".to_owned()),
        token: "secret-of-a-forge".to_owned(),
    };
    client.report_to(&told).await.unwrap();
}

async fn add_project(farm: &Farm, url: &str) -> AddedProject {
    let project = NewProject { forge: Some(Forge::GitHub), ..NewProject::new(url.parse().unwrap()) };
    farm.api().client.add_project(&project).await.unwrap()
}

/// What a forge sends to see whether it is heard.
async fn deliver(to: &AddedProject) {
    let mut mac = Hmac::<Sha256>::new_from_slice(to.secret.as_bytes()).unwrap();
    mac.update(b"{}");
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(&to.project.hook_url);
    let request = request.header("x-github-event", "ping").header("x-github-delivery", "7");
    let signature = format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
    let answer = request.header("x-hub-signature-256", signature).body("{}").send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

async fn run(program: &Path, server: &str, token: &str) {
    let folder = tempfile::tempdir().unwrap();
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/schemathesis.toml");
    let mut command = Command::new(program);
    command
        .args(["--no-color", "--config-file", settings, "run", &format!("{server}/api/v1/openapi.json")])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // It leaves what it has found where it runs, and looks for nothing but this machine.
        .current_dir(folder.path())
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let done = timeout(LONGEST, command.output()).await.expect("schemathesis ends").unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    let lines: Vec<&str> = said.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_is_one_that_the_document_has() {
    let Some(program) = schemathesis() else { return };
    in_memory(async |farm| {
        furnished(farm).await;
        // An admin's that cannot be revoked.
        let token = coordinator::api_token(&farm.config.state_dir).unwrap();
        run(&program, &format!("http://{}", farm.config.listen), &token).await;
    })
    .await;
}
