//! Agents on their page: one is approved by the key that was compared, revoked, taken back and forgotten.

use coordinator::config::Enrolment;
use farm::browser::{Browser, Scripts, with_browser};
use farm::farm::{Farm, in_memory};
use protocol::LabelSet;
use thirtyfour::By;

use super::{says, sign_in, url};

/// Runs a test on a farm whose agents a person approves, with one that waits for that and offers two labels.
async fn with_a_new_agent(scripts: Scripts, test: impl AsyncFnOnce(&Browser, &mut Farm)) {
    with_browser(scripts, async |browser| {
        in_memory(async |farm| {
            farm.config.enrolment = Enrolment::ByApproval;
            farm.start_coordinator().await;
            farm.start_agent_with("oak", |config| config.labels = LabelSet::new(["gpu", "spare"]).unwrap()).await;
            farm.until_known("oak").await;
            sign_in(browser, farm).await;
            browser.open(&url(farm, "/agents")).await;
            test(browser, farm).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn one_is_approved_with_what_is_ticked_and_revoked_and_forgotten() {
    with_a_new_agent(Scripts::On, async |browser, farm| {
        let known = farm.until_known("oak").await;
        assert!(!known.enrolled);
        says(browser, "#agent-oak .state", "waits for approval").await;
        says(browser, "#asked-oak", "Compare this key").await;
        says(browser, "#asked-oak code", &known.fingerprint).await;
        browser.run::<bool>("document.querySelector('#asked-oak [value=spare]').click(); return true").await;
        // What a person ticked outlives what changes on the page meanwhile.
        farm.start_agent_with("ash", |_| {}).await;
        says(browser, "#agents", "ash").await;
        let ticked = "return [...document.querySelectorAll('#asked-oak [name=label]')].filter(one => one.checked).map(one => one.value)";
        let ticked: Vec<String> = browser.run(ticked).await;
        assert!(ticked.contains(&"gpu".to_owned()) && !ticked.contains(&"spare".to_owned()), "{ticked:?}");
        browser.press("#asked-oak form button", false).await;
        says(browser, "#agent-oak .state", "idle").await;
        let known = farm.until_known("oak").await;
        assert!(known.enrolled && known.labels == ticked, "{known:?}");
        // A label that nobody approved may be ticked later.
        says(browser, "#asked-oak", "labels that nobody approved").await;

        browser.click("#rarely-oak summary").await;
        browser.run::<bool>("document.querySelector('#rarely-oak [name=reason]').value = 'stolen'; return true").await;
        browser.press("#rarely-oak form[action$='/revoke'] button", true).await;
        says(browser, "#agent-oak .state", "revoked").await;
        says(browser, "#agent-oak .why", "stolen").await;
        assert!(!farm.until_known("oak").await.enrolled);
        says(browser, "#asked-oak", "Take it back").await;
        // As long as it lives, it would be back with its next word.
        farm.agent("oak").stop().await;
        browser.press("#rarely-oak form[action$='/forget'] button", true).await;
        browser.until("it to be forgotten", "return document.querySelector('#agent-oak') === null").await;
    })
    .await;
}

#[tokio::test]
async fn one_is_approved_without_scripts() {
    with_a_new_agent(Scripts::Off, async |browser, farm| {
        let button = browser.driver.find(By::Css("#asked-oak button")).await.unwrap();
        button.click().await.unwrap();
        farm.until_here("oak").await;
        let page = browser.driver.find(By::Css("#agent-oak")).await.unwrap().text().await.unwrap();
        assert!(!page.contains("waits for approval"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn who_is_no_admin_sees_the_command() {
    with_browser(Scripts::On, async |browser| {
        in_memory(async |farm| {
            farm.config.enrolment = Enrolment::ByApproval;
            farm.start_coordinator().await;
            farm.start_agent("oak", 1).await;
            farm.until_known("oak").await;
            browser.open(&url(farm, "/agents")).await;
            says(browser, "#asked-oak", "buildr agent approve oak --key ").await;
            assert!(browser.run::<bool>("return document.querySelector('#agents form') === null").await);
        })
        .await;
    })
    .await;
}
