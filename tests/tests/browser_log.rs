//! Logs in a real browser: of any size, while they grow, through restarts, and whatever programs print.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use farm::browser::{Browser, Scripts, with_browser};
use farm::farm::{Farm, in_memory};
use protocol::BuildNumber;
use protocol::api::Status;
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

/// What a page shows in the window of its log, row by row: numbers and texts.
const SHOWN: &str = "return [...document.querySelectorAll('.log-window .row')].map(row => \
                     [Number(row.dataset.n), row.querySelector('.text').textContent])";

fn url(farm: &Farm, number: BuildNumber, log: &str, rest: &str) -> String {
    format!("http://{}/builds/{}/logs/{log}{rest}", farm.config.listen, number.0)
}

/// A build that is over, whose log is what a test wrote into its file.
async fn with_log(farm: &mut Farm, write: impl FnOnce(&mut dyn std::io::Write)) -> BuildNumber {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    let number = farm.api().begin("image: x\nstages: [test]\ntest: {script: [print begun]}\n").await;
    farm.api().until_is(number, Status::Passed).await;
    farm.stop_coordinator().await;
    let state = farm.folder("coordinator");
    let mut file = BufWriter::new(File::create(log_file(&state)).unwrap());
    write(&mut file);
    file.flush().unwrap();
    let bytes = i64::try_from(std::fs::metadata(log_file(&state)).unwrap().len()).unwrap();
    let database = SqliteConnectOptions::new().filename(state.join("buildr.db"));
    let mut database = SqliteConnection::connect_with(&database).await.unwrap();
    let changed = sqlx::query("UPDATE logs SET bytes = $1, total = $1 WHERE name = 'test'").bind(bytes);
    assert_eq!(changed.execute(&mut database).await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
    farm.start_coordinator().await;
    number
}

/// The file of the stage's log.
fn log_file(state: &Path) -> PathBuf {
    let first = |folder: PathBuf| std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    first(first(state.join("logs"))).join("test")
}

/// All lines, read as a person would: from the top to the end, a window at a time.
async fn read_through(browser: &Browser) -> Vec<(u64, String)> {
    let mut all: Vec<(u64, String)> = Vec::new();
    browser.run::<Value>("document.querySelector('.log-view').scrollTop = 0; return null").await;
    browser.until("the first line", "return document.querySelector('.row')?.dataset.n === '1'").await;
    loop {
        browser.until("the lines to be there", "return !document.querySelector('.row.waits')").await;
        let shown: Vec<(u64, String)> = browser.run(SHOWN).await;
        for line in shown {
            match all.last() {
                Some((last, _)) if line.0 <= *last => {}
                _ => all.push(line),
            }
        }
        let moved: bool = browser
            .run(
                "const view = document.querySelector('.log-view'); const before = view.scrollTop; \
                 view.scrollTop += view.clientHeight; return view.scrollTop > before",
            )
            .await;
        if !moved {
            return all;
        }
        browser
            .run::<Value>("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            .await;
    }
}

fn printing(lines: std::ops::Range<u32>) -> String {
    lines.fold(String::new(), |mut script, number| {
        write!(script, "print line {number}, ").unwrap();
        script
    })
}

fn expected(until: u32) -> Vec<(u64, String)> {
    (1..).zip((1..until).map(|number| format!("line {number}"))).collect()
}

/// A build that prints 300 lines, waits, and prints 300 more; its page is open, and follows.
async fn growing(farm: &mut Farm, browser: &Browser) -> BuildNumber {
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    let script = format!("{}wait-file go, {}print line 601", printing(1..301), printing(301..601));
    let number = farm.api().begin(&format!("image: x\nstages: [test]\ntest: {{script: [{script}]}}\n")).await;
    farm.api().until_said(number, "test", "line 300\n").await;
    browser.open(&url(farm, number, "test", "")).await;
    let last = "return document.querySelector('.log-window').lastElementChild.textContent.endsWith('line 300')";
    browser.until("the newest line", last).await;
    browser.until("to be followed", "return document.querySelector('[data-do=follow]').ariaPressed === 'true'").await;
    number
}

#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    in_memory(async |farm| {
        with_browser(Scripts::On, async |browser| {
            let number = growing(farm, browser).await;
            farm.folders("a").let_go().await;
            browser.until("its end", "return document.querySelector('.log-part').dataset.state === 'settled'").await;
            let at_end = "return [...document.querySelectorAll('.row')].at(-1).getBoundingClientRect().bottom <= \
                          document.querySelector('.log-view').getBoundingClientRect().bottom + 2";
            browser.until("the last line in sight", at_end).await;
            assert_eq!(read_through(browser).await, expected(602));
            farm.api().until_is(number, Status::Passed).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn who_scrolls_up_is_left_where_he_is() {
    in_memory(async |farm| {
        with_browser(Scripts::On, async |browser| {
            growing(farm, browser).await;
            browser.run::<Value>("document.querySelector('.log-view').scrollTop -= 1000; return null").await;
            let off = "return document.querySelector('[data-do=follow]').ariaPressed === 'false'";
            browser.until("the following to end", off).await;
            let top = "return document.querySelector('.log-view').scrollTop";
            let before: f64 = browser.run(top).await;
            farm.folders("a").let_go().await;
            browser.until("its end", "return document.querySelector('.log-part').dataset.state === 'settled'").await;
            let after: f64 = browser.run(top).await;
            assert!((before - after).abs() < 1.0, "{before} {after}");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_of_the_coordinator_loses_and_doubles_no_line() {
    in_memory(async |farm| {
        with_browser(Scripts::On, async |browser| {
            farm.config.lease = std::time::Duration::from_secs(60);
            growing(farm, browser).await;
            farm.stop_coordinator().await;
            browser.until("the break", "return document.querySelector('.log-part').dataset.state === 'away'").await;
            farm.folders("a").let_go().await;
            farm.folders("a").until_a_result().await;
            farm.start_coordinator().await;
            browser.until("its end", "return document.querySelector('.log-part').dataset.state === 'settled'").await;
            assert_eq!(read_through(browser).await, expected(602));
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_page_that_nobody_saw_catches_up() {
    in_memory(async |farm| {
        with_browser(Scripts::On, async |browser| {
            let number = growing(farm, browser).await;
            let turn = |hidden: bool| {
                format!(
                    "Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}}); \
                     document.dispatchEvent(new Event('visibilitychange')); return null"
                )
            };
            browser.run::<Value>(&turn(true)).await;
            farm.folders("a").let_go().await;
            farm.api().until_is(number, Status::Passed).await;
            browser.run::<Value>(&turn(false)).await;
            browser.until("its end", "return document.querySelector('.log-part').dataset.state === 'settled'").await;
            assert_eq!(read_through(browser).await, expected(602));
        })
        .await;
    })
    .await;
}

/// How long answers take about a long log, and how much memory this process has grown by: to read, and for no test to
/// depend on.
async fn tell_costs(farm: &Farm, number: BuildNumber) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let client = reqwest::Client::new();
    let before = resident_kib();
    for (what, path) in [
        ("the last lines, cold", "lines?from=-500"),
        ("the last lines, warm", "lines?from=-500"),
        ("lines in the middle", "lines?from=10000000&count=500"),
        ("a search, its first piece", "search?q=nothing"),
        ("the end found", "search?q=23999999&from=23000000"),
    ] {
        let url = format!("http://{}/api/v1/builds/{}/logs/test/{path}", farm.config.listen, number.0);
        let begin = std::time::Instant::now();
        let bytes = client.get(url).send().await.unwrap().bytes().await.unwrap().len();
        let (ms, grown) = (begin.elapsed().as_millis(), resident_kib().saturating_sub(before));
        eprintln!("{what}: {ms} ms, {bytes} bytes, {grown} KiB more memory than before");
    }
    let begin = std::time::Instant::now();
    let live = format!("http://{}/live/builds/{}/logs/test?latest=2000", farm.config.listen, number.0);
    let follow = async || client.get(&live).send().await.unwrap().text().await.unwrap();
    let told = futures_util::future::join_all((0..100).map(|_| follow())).await;
    assert!(told.iter().all(|events| events.contains("event: end") && events.contains("\"n\":24000000")));
    let (ms, grown) = (begin.elapsed().as_millis(), resident_kib().saturating_sub(before));
    eprintln!("100 followers at once, 2,000 lines each, to the end: {ms} ms, {grown} KiB more memory than before");
}

/// The memory that this process has, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_log_of_200_megabytes() {
    const LINES: u64 = 24_000_000;
    in_memory(async |farm| {
        let number = with_log(farm, |file| {
            for line in 1..=LINES {
                writeln!(file, "{line}").unwrap();
            }
        })
        .await;
        tell_costs(farm, number).await;
        with_browser(Scripts::On, async |browser| {
            browser.open(&url(farm, number, "test", "")).await;
            browser
                .until("its end", "return [...document.querySelectorAll('.row')].at(-1)?.dataset.n === '24000000'")
                .await;
            browser.open(&url(farm, number, "test", "#L10000000")).await;
            let there = "const row = document.querySelector('.row.chosen'); \
                         return row?.querySelector('.text').textContent === '10000000'";
            browser.until("the line", there).await;
            let in_sight = "const [row, view] = ['.row.chosen', '.log-view'].map(one => \
                            document.querySelector(one).getBoundingClientRect()); \
                            return row.top >= view.top && row.bottom <= view.bottom";
            assert!(browser.run::<bool>(in_sight).await);
            assert!(browser.run::<u64>("return document.querySelectorAll('.row').length").await < 300);
            // A step of the wheel is a few lines, however long the log is.
            let top = "const view = document.querySelector('.log-view'); view.scrollTop += 100; return view.scrollTop";
            let top: f64 = browser.run(top).await;
            let moved = "const row = document.querySelector('.row.chosen').getBoundingClientRect(); \
                         const view = document.querySelector('.log-view').getBoundingClientRect(); \
                         return Math.round((row.top - view.top) / 20)";
            let place: i64 = browser.run(moved).await;
            // Then the bar goes to where one is in the whole.
            let at_rest = format!("return document.querySelector('.log-view').scrollTop !== {top}");
            browser.until("the scroll bar at rest", &at_rest).await;
            assert_eq!(browser.run::<i64>(moved).await, place);
            browser.type_into(".log-search input[name=q]", "^2399999\\d$").await;
            browser.click(".log-search input[name=regex]").await;
            browser.click(".log-search button[type=submit]").await;
            browser
                .until("hits", "return document.querySelector('.log-search output').textContent === '1 of 10'")
                .await;
            let found = "return document.querySelector('.row.now .text')?.textContent";
            assert_eq!(browser.run::<String>(found).await, "23999990");
            browser.click(".log-search [data-do=previous]").await;
            browser
                .until("the one before", "return document.querySelector('.row.now .text')?.textContent === '23999999'")
                .await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn nothing_that_a_program_prints_is_more_than_text() {
    in_memory(async |farm| {
        let number = with_log(farm, |file| {
            let lines = "<script>window.harm = 1</script>\n<img src=x onerror=\"window.harm = 2\">\n\
                         \x1b]8;;javascript:window.harm=3\x1b\\click\x1b]8;;\x1b\\\n\
                         \x1b]8;;https://example.org/\"onclick=\"window.harm=4\x1b\\link\x1b]8;;\x1b\\\n\
                         \x1b[31mred\x1b[0m plain\n 10%\r100%\n\x1b[2J\x1b[1;1Hhome\n</div></section>&lt;b&gt;\n";
            file.write_all(lines.as_bytes()).unwrap();
            file.write_all(&b"\xff\x00\n"[..]).unwrap();
            writeln!(file, "{}", "x".repeat(100_000)).unwrap();
            writeln!(file, "last").unwrap();
        })
        .await;
        with_browser(Scripts::On, async |browser| {
            browser.open(&url(farm, number, "test", "")).await;
            browser.until("the lines", "return document.querySelectorAll('.row').length === 11").await;
            let shown: Vec<(u64, String)> = browser.run(SHOWN).await;
            let texts: Vec<&str> = shown.iter().map(|(_, text)| text.as_str()).collect();
            assert_eq!(texts[0], "<script>window.harm = 1</script>");
            assert_eq!(texts[1], "<img src=x onerror=\"window.harm = 2\">");
            assert_eq!(texts[2..9], ["click", "link", "red plain", "100%", "home", "</div></section>&lt;b&gt;", "\u{fffd}\u{fffd}"]);
            assert_eq!((texts[9].len(), texts[10]), (16384, "last"));
            let harm: bool = browser
                .run(
                    "document.querySelectorAll('.text a').forEach(link => link.removeAttribute('target')); \
                     return window.harm !== undefined || !!document.querySelector('.log-window :is(script, img, [onclick], [style])')",
                )
                .await;
            assert!(!harm);
            let links: Vec<String> = browser.run("return [...document.querySelectorAll('.text a')].map(it => it.href)").await;
            assert_eq!(links, ["https://example.org/%22onclick=%22window.harm=4"]);
            let colour: String = browser.run("return getComputedStyle(document.querySelector('.f1')).color").await;
            assert_eq!(colour, "rgb(255, 123, 114)");
            let note: String = browser.run("return document.querySelector('.left-out').textContent").await;
            assert!(note.contains("83\u{202f}616 bytes"), "{note}");
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn lines_are_linked_folded_and_wrapped() {
    in_memory(async |farm| {
        let number = with_log(farm, |file| {
            for command in 1..=20 {
                writeln!(file, "$ make part{command}").unwrap();
                for line in 1..100 {
                    writeln!(file, "{command} {line} {}", "word ".repeat(line)).unwrap();
                }
            }
        })
        .await;
        with_browser(Scripts::On, async |browser| {
            browser.open(&url(farm, number, "test", "#L120-L130")).await;
            let chosen = "return [...document.querySelectorAll('.row.chosen')].map(row => Number(row.dataset.n))";
            browser.until("the lines", "return document.querySelectorAll('.row.chosen').length === 11").await;
            assert_eq!(browser.run::<Vec<u64>>(chosen).await, (120..=130).collect::<Vec<u64>>());
            browser.click(".row[data-n='125'] .no").await;
            assert_eq!(browser.run::<String>("return location.hash").await, "#L125");
            let further = "document.querySelector(\".row[data-n='127'] .no\").dispatchEvent(\
                           new MouseEvent('click', {bubbles: true, cancelable: true, shiftKey: true})); return location.hash";
            assert_eq!(browser.run::<String>(further).await, "#L125-L127");
            browser.until("a command", "return !!document.querySelector(\"[data-fold='101']\")").await;
            browser.click("[data-do=fold]").await;
            let rows = "return [...document.querySelectorAll('.row')].map(row => Number(row.dataset.n))";
            let commands: Vec<u64> = browser.run(rows).await;
            assert_eq!(commands, (0..20).map(|command| command * 100 + 1).collect::<Vec<u64>>());
            browser.click("[data-fold='301']").await;
            browser.until("its output", "return !!document.querySelector(\".row[data-n='302']\")").await;
            browser.run::<Value>("location.hash = '#L777'; return null").await;
            browser.until("its command unfolded", "return document.querySelector('.row.chosen')?.dataset.n === '777'").await;
            browser.click("[data-do=wrap]").await;
            let wide = "const view = document.querySelector('.log-view'); return view.scrollWidth <= view.clientWidth + 1";
            assert!(browser.run::<bool>(wide).await);
            browser.run::<Value>("location.hash = '#L1999'; return null").await;
            let in_sight = "const at = document.querySelector('.row.chosen')?.getBoundingClientRect(); \
                            const view = document.querySelector('.log-view').getBoundingClientRect(); \
                            return !!at && at.top >= view.top - 1 && at.top <= view.bottom";
            browser.until("a line of many rows", in_sight).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_log_reads_without_scripts() {
    in_memory(async |farm| {
        let number = with_log(farm, |file| {
            for line in 1..=2000 {
                writeln!(file, "line {line}").unwrap();
            }
        })
        .await;
        with_browser(Scripts::Off, async |browser| {
            browser.open(&url(farm, number, "test", "")).await;
            let source = async || browser.driver.source().await.unwrap();
            let page = source().await;
            assert!(page.contains(">line 2000<") && page.contains(">line 1501<") && !page.contains(">line 1500<"));
            assert!(!page.contains("scripted"), "no script ran");
            browser.click(".log-steps a:nth-child(2)").await;
            let page = source().await;
            assert!(page.contains(">line 1001<") && !page.contains(">line 1501<"), "earlier lines");
            browser.click(".row[data-n='1200'] .no").await;
            assert!(source().await.contains("id=\"L1200\""));
            assert!(browser.driver.current_url().await.unwrap().as_str().ends_with("#L1200"));
        })
        .await;
    })
    .await;
}
