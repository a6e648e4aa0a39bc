//! Logs on their pages: who reads one is left where he is, and one that misses something says so.

use farm::browser::Scripts;
use protocol::api::{AttemptView, Status};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::{PASSES, on_a_farm, page, says, url};

#[tokio::test]
async fn who_reads_a_log_is_left_where_he_is_when_another_job_ends() {
    on_a_farm(Scripts::On, async |browser, farm| {
        for agent in ["a", "b"] {
            farm.start_agent(agent, 1).await;
            farm.until_here(agent).await;
        }
        let lines: String = (1..=300).map(|number| format!("print line {number}, ")).collect();
        let test = format!("{{matrix: {{n: [one, two]}}, script: [{lines}wait-file go]}}");
        let number = farm.api().begin(&format!("image: x\nstages: [test]\ntest: {test}\n")).await;
        let prints = |one: &&AttemptView| one.state == "running" && one.logs.iter().any(|log| log.bytes > 2500);
        let view = farm.api().until(number, |view| view.attempts.iter().filter(prints).count() == 2).await;
        let read = view.attempts.iter().filter(prints).find(|one| one.agent == "b").unwrap().attempt;
        browser.open(&url(farm, &page(number))).await;
        let part = format!("document.querySelector('[data-query=\"attempt={read}\"]')");
        let last = format!(
            "window.log = {part}.querySelector('.log-view'); \
             return log.querySelector('.log-window').lastElementChild.textContent.endsWith('line 300')"
        );
        browser.until("the newest line", &last).await;
        browser.run::<Value>("log.scrollTop -= 1000; return null").await;
        let off = format!("return {part}.querySelector('[data-do=follow]').ariaPressed === 'false'");
        browser.until("the following to end", &off).await;
        let place: f64 = browser
            .run(
                "addEventListener('buildr:part', ({ target }) => { if (target.id === 'logs') window.swapped = true; }); \
                 return log.scrollTop",
            )
            .await;
        assert!(place > 0.0);
        farm.folders("a").let_go().await;
        browser.until("another part", "return window.swapped === true").await;
        let frames = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))";
        browser.run::<Value>(frames).await;
        let (is_there, now): (bool, f64) = browser.run("return [log.isConnected, log.scrollTop]").await;
        assert!(is_there && (place - now).abs() < 1.0, "{is_there} {place} {now}");
        assert!(browser.run::<bool>(&off).await, "it follows again");
        farm.folders("b").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn a_log_that_misses_something_says_so_and_is_searched_anew_after_a_search_that_failed() {
    on_a_farm(Scripts::On, async |browser, farm| {
        farm.start_agent("a", 1).await;
        let number = farm.api().begin(PASSES).await;
        farm.api().until_is(number, Status::Passed).await;
        farm.stop_coordinator().await;
        let database = SqliteConnectOptions::new().filename(farm.folder("coordinator").join("buildr.db"));
        let mut database = SqliteConnection::connect_with(&database).await.unwrap();
        let changed = sqlx::query("UPDATE logs SET total = bytes + 5, given_up = 1 WHERE name = 'test'");
        assert_eq!(changed.execute(&mut database).await.unwrap().rows_affected(), 1);
        database.close().await.unwrap();
        farm.start_coordinator().await;
        browser.open(&url(farm, &format!("{}/logs/test", page(number)))).await;
        browser.until("its script", "return document.querySelector('.log-part.scripted') !== null").await;
        says(browser, ".log-standing", "5 bytes missing").await;

        // The search's second request fails once.
        browser
            .run::<Value>(
                "const real = window.fetch; let count = 0; \
                 const hit = { line: 1, before: '', found: 'hello', after: '' }; \
                 window.fetch = async (...it) => { \
                     if (!String(it[0]).includes('/search?')) return real(...it); \
                     if (++count === 2) throw new TypeError('no'); \
                     return new Response(JSON.stringify({ hits: [hit], next: count === 1 ? 2 : null })); \
                 }; return null",
            )
            .await;
        browser.type_into(".log-search [name=q]", "hello\n").await;
        says(browser, ".log-search output", "cannot be reached").await;
        browser.type_into(".log-search [name=q]", "\n").await;
        says(browser, ".log-search output", "1 of 1").await;
    })
    .await;
}
