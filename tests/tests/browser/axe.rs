//! What axe-core finds on each page, in both themes: nothing serious, nothing critical.

use farm::browser::{Browser, Scripts, axe};
use farm::farm::Farm;
use protocol::api::{NewProject, Status};
use serde_json::json;

use super::{ASKS, FAILS, PASSES, WAITS, on_a_farm, page, sign_in, url};

/// What is found on a page, in both themes. What is folded is unfolded first, so that it is looked at too.
async fn findings(browser: &Browser, farm: &Farm, source: &str, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for theme in ["light", "dark"] {
        let media = json!({"features": [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        browser.driver.cdp().send_raw("Emulation.setEmulatedMedia", media).await.unwrap();
        browser.open(&url(farm, path)).await;
        browser.until("the page", "return document.readyState === 'complete'").await;
        browser.run::<bool>("document.querySelectorAll('details').forEach(one => one.open = true); return true").await;
        found.extend(browser.findings(source).await.into_iter().map(|one| format!("{path}, {theme}: {one}")));
    }
    found
}

/// Adds a project to which somebody without its secret has delivered something; gives its name.
async fn a_project(farm: &Farm) -> String {
    let new = NewProject::new("https://github.com/acme/widget".parse().unwrap());
    let project = farm.api().client.add_project(&new).await.unwrap().project;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = client.post(&project.hook_url).header("x-github-event", "push").body("{}").send().await.unwrap();
    assert!(refused.status().is_client_error());
    project.identity
}

#[tokio::test]
async fn nothing_serious_is_found_on_any_page() {
    let Some(source) = axe() else { return };
    on_a_farm(Scripts::On, async |browser, farm| {
        let mut found = findings(browser, farm, &source, "/").await;
        for path in ["/projects", "/deliveries", "/agents", "/queue", "/sign-in"] {
            found.extend(findings(browser, farm, &source, path).await);
        }
        farm.start_agent("oak", 1).await;
        let passed = farm.api().begin(PASSES).await;
        farm.api().until_is(passed, Status::Passed).await;
        let leaves =
            farm.api().begin("image: x\nstages: [a]\na: {script: [write f hello, exit 0], artifacts: [f]}\n").await;
        farm.api().until_is(leaves, Status::Passed).await;
        let sha256 = farm.api().client.artifacts(leaves).await.unwrap()[0].sha256.clone();
        let failed = farm.api().begin(FAILS).await;
        farm.api().until_is(failed, Status::Failed).await;
        let matrix =
            farm.api().begin("image: x\nstages: [t]\nt: {matrix: {os: [a, b], v: [1, 2]}, script: [print x]}\n").await;
        farm.api().until_is(matrix, Status::Passed).await;
        let asks = farm.api().begin(ASKS).await;
        farm.api().until(asks, |view| view.jobs.iter().any(|job| job.gate.as_ref().is_some_and(|it| it.open))).await;
        let project = a_project(farm).await;
        let runs = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(runs, 1, "wait").await;
        let waits = farm.api().begin("image: x\nstages: [t]\nt: {agent: gpu, script: [print x]}\n").await;

        sign_in(browser, farm).await;
        for path in [
            "/".to_owned(),
            "/?status=failed".to_owned(),
            page(passed),
            page(failed),
            page(matrix),
            page(asks),
            page(runs),
            page(waits),
            page(leaves),
            format!("{}/artifacts/{sha256}", page(leaves)),
            format!("{}/logs/unit", page(failed)),
            "/queue".to_owned(),
            "/agents".to_owned(),
            "/deliveries".to_owned(),
            "/projects".to_owned(),
            format!("/projects/{project}"),
            "/builds/99".to_owned(),
        ] {
            found.extend(findings(browser, farm, &source, &path).await);
        }
        assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
        farm.folders("oak").let_go().await;
        farm.api().until_is(runs, Status::Passed).await;
    })
    .await;
}
