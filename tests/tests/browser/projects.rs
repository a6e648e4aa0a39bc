//! Projects and deliveries on their pages, while forges deliver and people change things.

use data_encoding::HEXLOWER;
use farm::browser::Scripts;
use farm::farm::Farm;
use farm::smart_http::{Hosted, SmartHttp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::api::{AddedProject, ChangeProject, Forge, NewProject, Status};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{on_a_farm, says, sign_in, url};

/// Built by itself at a time that does not come during a test.
const SCHEDULED: &str = "\
image: x
schedule: {yearly: \"0 3 29 2 * Europe/Rome\"}
stages: [test]
test: {script: [print hello]}
";

async fn add(farm: &Farm, hosted: &Hosted) -> AddedProject {
    let new = NewProject {
        forge: Some(Forge::Generic),
        default_branch: Some("main".parse().unwrap()),
        ..NewProject::new(hosted.url.clone())
    };
    farm.api().client.add_project(&new).await.unwrap()
}

/// Delivers a push, signed with this secret.
async fn deliver(hook_url: &str, secret: &str, body: &Value) {
    let body = body.to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let signature = format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(hook_url).header("x-hub-signature-256", signature).body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
}

#[tokio::test]
async fn a_delivery_arrives_and_is_delivered_once_more() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let server = SmartHttp::start().await;
        let hosted = server.make("ada/cronline");
        let tip = hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", super::PASSES)]);
        let AddedProject { project, secret } = add(farm, &hosted).await;
        sign_in(browser, farm).await;
        browser.open(&url(farm, "/deliveries")).await;
        says(browser, "main", "No forge has delivered anything yet").await;
        browser.run::<bool>("window.same = true; return true").await;
        let push = json!({"ref": "refs/heads/main", "after": tip, "author": "Ada <b>", "repo": hosted.url.reveal()});
        deliver(&project.hook_url, &secret, &push).await;
        // Without a hand on the page.
        says(browser, "#delivery-1 .state", "built").await;
        says(browser, "#delivery-1", "#1").await;
        browser.press("#delivery-1 button", false).await;
        says(browser, "#delivery-2", "once more 1").await;
        browser
            .until("its verdict", "return document.querySelector('#delivery-2 .state:not(.is-queued)') !== null")
            .await;
        let view = farm.api().until_is(protocol::BuildNumber(1), Status::Passed).await;
        browser.open(&url(farm, &format!("/builds/{}", view.build.number.0))).await;
        says(browser, "#trigger", "Ada <b>").await;
        assert!(browser.run::<bool>("return document.querySelector('#trigger b') === null").await);
    })
    .await;
}

#[tokio::test]
async fn a_project_is_added_changed_and_removed() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let server = SmartHttp::start().await;
        let (hosted, other) = (server.make("ada/cronline"), server.make("ada/other"));
        hosted.commit(Some("refs/heads/main"), &[], &[(".buildr.yml", SCHEDULED)]);
        sign_in(browser, farm).await;
        browser.open(&url(farm, "/projects")).await;
        says(browser, "main", "No repository's pushes begin builds here yet").await;
        browser.type_into("[name=url]", hosted.url.reveal()).await;
        browser.run::<bool>("document.querySelector('[name=forge]').value = 'generic'; return true").await;
        browser.press(".add button", false).await;
        says(browser, "h1", "was added").await;
        let shown: Vec<String> =
            browser.run("return [...document.querySelectorAll('dd .command code')].map(one => one.textContent)").await;
        let [hook_url, secret] = &shown[..] else { panic!("{shown:?}") };
        let project = farm.api().client.project(hosted.url.reveal()).await.unwrap();
        assert_eq!(*hook_url, project.hook_url);
        deliver(hook_url, secret, &json!({"ping": true})).await;

        // Another one is added elsewhere while the page is open.
        browser.open(&url(farm, "/projects")).await;
        says(browser, "#projects", "ada/cronline").await;
        browser.run::<bool>("window.same = true; return true").await;
        let added = add(farm, &other).await;
        says(browser, "#projects", "ada/other").await;
        let change = ChangeProject { trusted: Some(false), ..ChangeProject::default() };
        farm.api().client.change_project(&added.project.identity, &change).await.unwrap();
        says(browser, "#projects", "not trusted").await;
        farm.api().client.remove_project(&added.project.identity).await.unwrap();
        browser
            .until(
                "it to be gone",
                "return !document.querySelector('#projects').textContent.includes('ada/other') && window.same",
            )
            .await;

        // What its manifest says of times, and what people say to that.
        browser.open(&url(farm, &format!("/projects/{}", project.identity))).await;
        says(browser, "main", "It builds nothing by itself").await;
        let first = farm.api().submit_url(hosted.url.clone(), Some("main")).await;
        farm.api().until_is(first, Status::Passed).await;
        says(browser, "#project", "0 3 29 2 *").await;
        says(browser, "#project time", "02-29 02:00:00 UTC").await;
        browser.press("button[value=pause]", false).await;
        says(browser, "#project .state", "paused").await;
        browser.press("button[value=resume]", false).await;
        says(browser, "#project time", "02-29 02:00:00 UTC").await;
        browser.press("button[value=run]", false).await;
        says(browser, "#verdict", "schedule").await;
        says(browser, "#trigger", "yearly").await;
        farm.api().until_all_over(2).await;

        browser.open(&url(farm, &format!("/projects/{}", project.identity))).await;
        browser.press("form[action$='/remove'] button", true).await;
        says(browser, "main", "No repository's pushes begin builds here yet").await;
        assert!(farm.api().client.project(hosted.url.reveal()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_project_that_is_removed_elsewhere_says_so() {
    on_a_farm(Scripts::On, async |browser, farm| {
        let server = SmartHttp::start().await;
        let hosted = server.make("ada/cronline");
        let added = add(farm, &hosted).await;
        browser.open(&url(farm, &format!("/projects/{}", added.project.identity))).await;
        says(browser, "#project", "Its forge has delivered nothing yet").await;
        farm.api().client.remove_project(&added.project.identity).await.unwrap();
        says(browser, "#project", "It is no project any more").await;
    })
    .await;
}
