//! A real browser that looks at the pages: Debian's chromium, led by its chromedriver. Each test has one of its own, with a
//! port and a profile of its own, and leaves nothing of it behind.

use std::panic::AssertUnwindSafe;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thirtyfour::error::{WebDriverError, WebDriverErrorInner};
use thirtyfour::prelude::*;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::farm::{PATIENCE, until};
use crate::rabbit::setting;

/// Whether a page's scripts run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scripts {
    /// They do.
    On,
    /// The reader has switched them off.
    Off,
}

/// One browser with one window.
pub struct Browser {
    /// What leads it.
    pub driver: WebDriver,
}

/// Whether there is a browser here, and what leads it.
///
/// # Panics
/// When a browser is required (`BUILDR_TEST_REQUIRE`) and not there.
#[must_use]
pub fn is_there() -> bool {
    let there = ["chromium", "chromedriver"].iter().all(|program| {
        let mut command = std::process::Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|it| it.success())
    });
    let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "browser");
    assert!(there || !required, "a browser is required: apt-get install chromium chromium-driver");
    if !there {
        eprintln!("skipped: no chromium with chromedriver");
    }
    there
}

/// The text of axe-core, where `scripts/setup` has fetched it: beside what cargo builds, or where `BUILDR_TEST_AXE` says.
///
/// # Panics
/// When it is required (`BUILDR_TEST_REQUIRE`) and not there.
#[must_use]
pub fn axe() -> Option<String> {
    let here = std::env::current_exe().expect("this program");
    // target/release/deps/browser-…
    let beside = here.ancestors().nth(3).map(|target| target.join("axe-core/axe.min.js")).unwrap_or_default();
    let path = setting("BUILDR_TEST_AXE", &beside.to_string_lossy());
    let found = std::fs::read_to_string(&path).ok();
    let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "axe");
    assert!(found.is_some() || !required, "axe-core is required, and not at {path}: scripts/setup --only axe");
    if found.is_none() {
        eprintln!("skipped: no axe-core at {path}");
    }
    found
}

/// Runs a test with a browser, where there is one.
///
/// # Panics
/// When it cannot be started, and where the test does.
pub async fn with_browser(scripts: Scripts, test: impl AsyncFnOnce(&Browser)) {
    if !is_there() {
        return;
    }
    // WebDriver is spoken over http, by a client that wants a crypto provider all the same.
    rustls::crypto::ring::default_provider().install_default().ok();
    let profile = tempfile::tempdir().expect("a folder for a profile");
    let (mut process, port) = driver().await;
    let mut wanted = DesiredCapabilities::chrome();
    let folder = format!("--user-data-dir={}", profile.path().display());
    // Tests run as root too, and in containers with a small /dev/shm.
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900", &folder] {
        wanted.add_arg(argument).expect("an argument");
    }
    if scripts == Scripts::Off {
        let off = json!({"profile.managed_default_content_settings.javascript": 2});
        wanted.add_experimental_option("prefs", off).expect("an option");
    }
    let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), wanted).await.expect("a browser");
    driver.set_page_load_timeout(PATIENCE).await.expect("a limit");
    driver.set_script_timeout(PATIENCE).await.expect("a limit");
    let browser = Browser { driver: driver.clone() };
    let ended = AssertUnwindSafe(test(&browser)).catch_unwind().await;
    if ended.is_err() {
        let source = driver.source().await.unwrap_or_default();
        eprintln!("the page:\n{}", source.chars().take(4000).collect::<String>());
    }
    driver.quit().await.ok();
    process.kill().await.ok();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Starts what leads the browser, at a port that is free.
async fn driver() -> (Child, u16) {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().expect("chromedriver");
    let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
    let port = async {
        while let Some(line) = lines.next_line().await.expect("its output") {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return port.trim_end_matches('.').parse().expect("a port");
            }
        }
        panic!("chromedriver ended before it said its port");
    };
    let port = tokio::time::timeout(PATIENCE, port).await.expect("chromedriver starts");
    (process, port)
}

impl Browser {
    /// Opens a page.
    ///
    /// # Panics
    /// When it cannot; so do the others.
    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.expect("the page");
    }

    /// What a piece of script gives that ends with `return`.
    pub async fn run<T: DeserializeOwned>(&self, script: &str) -> T {
        let value = self.try_run(script).await;
        value.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_run<T: DeserializeOwned>(&self, script: &str) -> Result<T, String> {
        let ran = self.driver.execute(script, Vec::<Value>::new()).await.map_err(|error| error.to_string())?;
        ran.convert().map_err(|error| error.to_string())
    }

    /// What axe-core, of which this is the text, finds on the page that is serious or critical: a line for each.
    ///
    /// # Panics
    /// When it cannot look.
    pub async fn findings(&self, axe: &str) -> Vec<String> {
        // What WebDriver runs is not the page's own: its policy for scripts stays as it is.
        self.driver.execute(axe, Vec::<Value>::new()).await.expect("axe-core");
        let look = "const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ['violations']}).then(
                (found) => done(found.violations.filter((one) => ['serious', 'critical'].includes(one.impact)).map((one) =>
                    `${one.id} (${one.impact}): ${one.help}: ` + one.nodes.slice(0, 4).map((node) =>
                        node.target.join(' ') + ' ' + (node.any[0]?.message ?? '')).join(' | '))),
                (error) => done([`it cannot look: ${error}`]));";
        let found = self.driver.execute_async(look, Vec::<Value>::new()).await.expect("findings");
        found.convert().expect("a list")
    }

    /// Waits until a piece of script gives true, which it may begin to do at any time.
    pub async fn until(&self, what: &str, script: &str) {
        until(what, async || self.try_run::<bool>(script).await.ok().filter(|is| *is)).await;
    }

    /// Clicks on the first element that a selector picks, once it is there.
    pub async fn click(&self, selector: &str) {
        self.to_the_first(selector, async |found| found.click().await).await;
    }

    /// Presses a button from within the page, where a new rendering cannot come between look and click; says yes where
    /// it asks first.
    ///
    /// # Panics
    /// When it is not there in time, or does not ask.
    pub async fn press(&self, button: &str, asks: bool) {
        let button = json!(button);
        // A question would hold up the script that led to it.
        let script = format!(
            "const found = () => document.querySelector({button}); if (found()) setTimeout(() => found()?.click()); return found() !== null"
        );
        self.until(&format!("the button {button}"), &script).await;
        if asks {
            until("a question", async || self.driver.accept_alert().await.ok()).await;
        }
    }

    /// Types into the first element that a selector picks, once it is there.
    pub async fn type_into(&self, selector: &str, text: &str) {
        self.to_the_first(selector, async |found| found.send_keys(text).await).await;
    }

    /// Does something to the first element that a selector picks, once it is there. A page that stays true may put
    /// another in its place between the look and the deed.
    async fn to_the_first(&self, selector: &str, deed: impl AsyncFn(WebElement) -> WebDriverResult<()>) {
        until(selector, async || {
            let found = self.driver.query(By::Css(selector)).wait(PATIENCE, Duration::from_millis(50)).first().await;
            let done = deed(found.unwrap_or_else(|error| panic!("{selector}: {error}"))).await;
            match done.map_err(WebDriverError::into_inner) {
                Err(
                    WebDriverErrorInner::StaleElementReference(_)
                    | WebDriverErrorInner::ElementNotInteractable(_)
                    | WebDriverErrorInner::ElementClickIntercepted(_),
                ) => None,
                done => {
                    done.unwrap_or_else(|error| panic!("{selector}: {error}"));
                    Some(())
                }
            }
        })
        .await;
    }
}
