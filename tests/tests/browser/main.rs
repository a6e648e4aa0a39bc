//! The pages as people meet them: a real browser on a farm in memory, whose jobs run as their scripts say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

mod agents;
mod artifacts;
mod axe;
mod logs;
mod projects;

use farm::browser::{Browser, Scripts, with_browser};
use farm::farm::{Farm, Repository, in_memory};
use protocol::BuildNumber;
use protocol::api::Status;
use serde_json::json;
use thirtyfour::Key;

const PASSES: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

/// Its first stage goes on until it is let go.
const WAITS: &str = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go, print let go]}\nafter: {script: [print after]}\n";

const FAILS: &str = "image: x\nstages: [build, unit]\nbuild: {script: [print compiling]}\nunit: {script: ['print one ... ok', 'print error: two is not one', 'print aborting', exit 137]}\n";

const ASKS: &str = "image: x\nstages: [deploy]\ndeploy:\n  manual: {ask: 'Deploy it?', inputs: {REGION: [eu, us]}}\n  script: [env REGION]\n";

/// What is hostile in each place where a build can say something.
const HOSTILE: &str = r##"image: x
stages: [test]
environment: {vars: {X: "\"><script>document.title='owned'</script>"}}
test:
  script:
    - print <script>document.title='owned'</script><img src=x onerror=document.title='owned'>
    - "print error: </code></pre><svg onload=document.title='owned'>\x1b]0;owned\x07\u202eflip"
    - exit 1
"##;

/// Runs a test with a browser on a farm with a coordinator.
async fn on_a_farm(scripts: Scripts, test: impl AsyncFnOnce(&Browser, &mut Farm)) {
    with_browser(scripts, async |browser| {
        in_memory(async |farm| {
            farm.start_coordinator().await;
            test(browser, farm).await;
        })
        .await;
    })
    .await;
}

fn url(farm: &Farm, path: &str) -> String {
    format!("http://{}{path}", farm.config.listen)
}

fn page(number: BuildNumber) -> String {
    format!("/builds/{}", number.0)
}

/// Signs in by the link that `buildr up` prints.
async fn sign_in(browser: &Browser, farm: &Farm) {
    let token = std::fs::read_to_string(farm.config.state_dir.join("token")).unwrap();
    browser.open(&url(farm, &format!("/?token={}", token.trim()))).await;
}

/// Waits until an element's text has this.
async fn says(browser: &Browser, selector: &str, text: &str) {
    let script = format!(
        "return [...document.querySelectorAll({})].some((one) => one.textContent.includes({}))",
        json!(selector),
        json!(text)
    );
    browser.until(&format!("{text:?} in {selector}"), &script).await;
}

#[tokio::test]
async fn home_teaches_the_first_build_and_then_shows_it() {
    on_a_farm(Scripts::On, async |browser, farm| {
        browser.open(&url(farm, "/")).await;
        says(browser, "main", "Nothing was built here yet").await;
        says(browser, "main", "buildr run").await;
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(PASSES).await;
        // Without a hand on the page.
        says(browser, "#list .build", &format!("#{}", number.0)).await;
        farm.api().until_is(number, Status::Passed).await;
        says(browser, "#list .build .state", "passed").await;
        browser.until("its mark", "return document.querySelector('#strips .mark.is-passed') !== null").await;
        browser.open(&url(farm, "/?status=failed")).await;
        says(browser, "#list", "No build is like this").await;
    })
    .await;
}

#[tokio::test]
async fn home_says_what_waits_and_why() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.api().begin(PASSES).await;
        for path in ["/", "/queue"] {
            browser.open(&url(farm, path)).await;
            says(browser, "main", "waits for an agent: none is here").await;
        }
        browser.open(&url(farm, "/agents")).await;
        says(browser, "main", "No agent belongs to this farm yet").await;
        farm.start_agent("oak", 1).await;
        says(browser, "#agents", "oak").await;
        says(browser, "#agents .state", "idle").await;
    })
    .await;
}

#[tokio::test]
async fn a_build_is_watched_until_it_passes() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(WAITS).await;
        browser.open(&url(farm, &page(number))).await;
        says(browser, "#verdict", "wait running on a").await;
        says(browser, "#rail", "after").await;
        browser.run::<bool>("window.same = true; return true").await;
        farm.folders("a").let_go().await;
        says(browser, "#verdict", "passed in").await;
        browser.until("both stages", "return document.querySelectorAll('#rail .stages .is-passed').length === 2").await;
        browser.until("the page never loaded again", "return window.same === true").await;
    })
    .await;
}

#[tokio::test]
async fn a_page_outlives_its_coordinator() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(WAITS).await;
        browser.open(&url(farm, &page(number))).await;
        says(browser, "#verdict", "wait running on a").await;
        browser.run::<bool>("window.same = true; return true").await;
        farm.stop_coordinator().await;
        browser.until("it says so", "return !document.querySelector('.line-state').hidden").await;
        farm.start_coordinator().await;
        farm.folders("a").let_go().await;
        says(browser, "#verdict", "passed in").await;
        browser.until("the line is up", "return document.querySelector('.line-state').hidden && window.same").await;
    })
    .await;
}

#[tokio::test]
async fn what_failed_is_open_at_once() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(FAILS).await;
        farm.api().until_is(number, Status::Failed).await;
        browser.open(&url(farm, &page(number))).await;
        says(browser, "h1", "unit failed: exit code 137 (killed, most often for want of memory)").await;
        says(browser, "#first-failure .says-why", "error: two is not one").await;
        says(browser, "#first-failure .excerpt", "aborting").await;
        // A stage by its name leads to its log, opened.
        browser.open(&url(farm, &format!("{}/unit", page(number)))).await;
        let script = "return location.hash.startsWith('#log-') && document.getElementById(location.hash.slice(1)).open";
        browser.until("the log of the stage", script).await;
    })
    .await;
}

#[tokio::test]
async fn a_build_is_cancelled_from_its_page() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(WAITS).await;
        farm.api().until_in_stage(number, 1, "wait").await;
        browser.open(&url(farm, &page(number))).await;
        says(browser, "#verdict", "running").await;
        // Who did not sign in looks, and no more.
        assert!(browser.run::<bool>("return document.querySelector('#verdict form') === null").await);
        sign_in(browser, farm).await;
        browser.open(&url(farm, &page(number))).await;
        browser.click("#verdict form[action$='/cancel'] button").await;
        farm.api().until_is(number, Status::Cancelled).await;
        says(browser, "#verdict", "cancelled").await;
        says(browser, "#rail", "wait").await;
    })
    .await;
}

#[tokio::test]
async fn a_gate_is_answered_on_the_page() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(ASKS).await;
        sign_in(browser, farm).await;
        browser.open(&url(farm, &page(number))).await;
        says(browser, "h1", "build waits for a person: Deploy it?").await;
        browser.run::<bool>("document.querySelector('#gates select').value = 'us'; return true").await;
        browser.click("#gates button[value=approve]").await;
        farm.api().until_is(number, Status::Passed).await;
        assert!(farm.api().log(number, "deploy").await.contains("us"));
        says(browser, "#verdict", "passed in").await;
    })
    .await;
}

#[tokio::test]
async fn an_agent_is_paused_and_resumed_on_the_page() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("oak", 1).await;
        farm.until_here("oak").await;
        sign_in(browser, farm).await;
        browser.open(&url(farm, "/agents")).await;
        browser.type_into("#agents input[name=note]", "new <disk>").await;
        // The page may be rendered anew between a look and a click, so the click is the script's.
        browser
            .run::<bool>("document.querySelector(\"#agents form[action$='/pause'] button\").click(); return true")
            .await;
        says(browser, "#agents .state", "paused").await;
        says(browser, "#agents .why", "new <disk>").await;
        browser
            .run::<bool>("document.querySelector(\"#agents form[action$='/resume'] button\").click(); return true")
            .await;
        says(browser, "#agents .state", "idle").await;
    })
    .await;
}

/// A person's hands stay where they are while the page stays true.
#[tokio::test]
async fn a_key_leads_on_from_where_it_was() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("oak", 1).await;
        farm.until_here("oak").await;
        sign_in(browser, farm).await;
        browser.open(&url(farm, "/agents")).await;
        let note = "#agents form[action='/agents/oak/pause'] input[name=note]";
        // What comes while somebody types waits until the field is left.
        browser
            .run::<bool>(
                "const all = EventTarget.prototype, add = all.addEventListener;
                all.addEventListener = function (kind, ...it) {
                    if (kind === 'blur') window.waits = true;
                    return add.call(this, kind, ...it);
                };
                return true",
            )
            .await;
        browser.type_into(note, "new disk").await;
        farm.start_agent("ash", 1).await;
        browser.until("a part that waits", "return window.waits === true").await;
        browser.type_into(note, &Key::Tab.value().to_string()).await;
        says(browser, "#agents", "ash").await;
        let at = "return document.activeElement.matches(\"form[action='/agents/oak/pause'] button\")";
        browser.until("the focus", at).await;
        // What comes while a button has the focus takes it away neither.
        farm.start_agent("elm", 1).await;
        says(browser, "#agents", "elm").await;
        assert!(browser.run::<bool>(at).await, "the focus went");
        browser.type_into("#agents form[action='/agents/oak/pause'] button", &Key::Enter.value().to_string()).await;
        says(browser, "#agents", "new disk").await;
    })
    .await;
}

#[tokio::test]
async fn a_finished_build_reads_without_scripts() {
    on_a_farm(Scripts::Off, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(FAILS).await;
        farm.api().until_is(number, Status::Failed).await;
        browser.open(&url(farm, &page(number))).await;
        let text = browser.driver.find(thirtyfour::By::Tag("main")).await.unwrap().text().await.unwrap();
        for expect in ["unit failed: exit code 137", "error: two is not one", "aborting", "build", "Timeline"] {
            assert!(text.contains(expect), "{expect:?} is not in {text:?}");
        }
        // What needs scripts is not there to be clicked in vain.
        assert!(!text.contains("copy"), "{text}");
        browser.open(&url(farm, "/")).await;
        let text = browser.driver.find(thirtyfour::By::Tag("main")).await.unwrap().text().await.unwrap();
        assert!(text.contains("failed") && text.contains("137"), "{text:?}");
    })
    .await;
}

#[tokio::test]
async fn what_strangers_print_stays_text() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let repository = Repository::with(&[(".buildr.yml", HOSTILE)]);
        let number = farm.api().submit(&repository).await;
        farm.api().until_is(number, Status::Failed).await;
        for path in [page(number), "/".to_owned(), "/queue".to_owned()] {
            browser.open(&url(farm, &path)).await;
            browser.until("the page", "return document.readyState === 'complete'").await;
            let made = "return [document.title, document.querySelectorAll('main script, main img, main [onload], main [onerror]').length]";
            let (title, made): (String, u32) = browser.run(made).await;
            assert!(!title.contains("owned") && made == 0, "{path}: {title:?}, {made} elements");
        }
        browser.open(&url(farm, &page(number))).await;
        says(browser, "#failures", "<svg onload=").await;
        let text: String = browser.run("return document.body.textContent").await;
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "what commands a terminal is not on the page");
        farm.api().keep(repository);
    })
    .await;
}

#[tokio::test]
async fn no_page_is_wider_than_a_phone() {
    on_a_farm(Scripts::On, async |browser, farm| {
        let long = "x".repeat(300);
        let manifest = format!(
            "image: x\nstages: [test]\ntest: {{matrix: {{os: [a, b, c, d], v: [1, 2]}}, script: ['print error: {long}', exit 1]}}\n"
        );
        farm.start_agent("a", 2).await;
        let number = farm.api().begin(&manifest).await;
        farm.api().until_is(number, Status::Failed).await;
        farm.api().begin("image: x\nstages: [t]\nt: {agent: gpu, script: [print x]}\n").await;
        let asks = farm.api().begin(ASKS).await;
        farm.api().until(asks, |view| view.jobs.iter().any(|job| job.gate.as_ref().is_some_and(|it| it.open))).await;
        sign_in(browser, farm).await;
        let phone = json!({"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        browser.driver.cdp().send_raw("Emulation.setDeviceMetricsOverride", phone).await.unwrap();
        for path in ["/".to_owned(), page(number), page(asks), "/queue".to_owned(), "/agents".to_owned(), "/builds/99".to_owned()]
        {
            browser.open(&url(farm, &path)).await;
            let wide: (u32, u32) = browser
                .run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
                .await;
            assert!(wide.0 <= wide.1, "{path} scrolls sideways: {wide:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn keys_lead_around() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(FAILS).await;
        farm.api().until_is(number, Status::Failed).await;
        browser.open(&url(farm, &page(number))).await;
        browser.type_into("body", "?").await;
        browser.until("the keys", "return document.querySelector('dialog#keys').open").await;
        browser.click("dialog#keys button").await;
        browser.type_into("body", "f").await;
        browser.until("the failure", "return document.activeElement.matches('[data-failure]')").await;
        browser.type_into("body", "j").await;
        browser.until("the first stage", "return document.activeElement.textContent.includes('build')").await;
        browser.type_into("body", "jk").await;
        browser.until("and back", "return document.activeElement.textContent.includes('build')").await;
        browser.type_into("body", "q").await;
        browser.until("the queue", "return location.pathname === '/queue'").await;
    })
    .await;
}
