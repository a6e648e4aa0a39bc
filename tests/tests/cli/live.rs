//! `buildr run` on a terminal: what stands there when it is over, and what never reaches it.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::place::{Place, program, to_the_end};

/// `buildr` on a terminal of 80 columns: all that is written to it. `typed` is what its person answers.
async fn on_a_terminal(place: &Place, words: &str, variables: &[(&str, &str)], typed: &str) -> (Option<i32>, String) {
    let mut script = place.command("script");
    let line = format!("stty cols 80 rows 24; exec {} {words}", program("buildr").display());
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").envs(variables.iter().copied());
    if !typed.is_empty() {
        script.stdin(Stdio::piped());
    }
    let ran = if typed.is_empty() {
        to_the_end(script).await
    } else {
        let mut child = script.spawn().unwrap();
        // Held until the end: a terminal whose person has gone reads the end of the input.
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        drop(input);
        return (output.status.code(), String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"));
    };
    (ran.code, ran.out.replace("\r\n", "\n"))
}

/// What stands on the terminal at last.
fn screen(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let mut rest = line.to_owned();
        while let Some(at) = rest.find("A\r\x1b[J") {
            let before = rest[..at].rfind("\x1b[").unwrap();
            let rows: usize = rest[before + 2..at].parse().unwrap();
            lines.truncate(lines.len() - rows);
            rest = rest[at + "A\r\x1b[J".len()..].to_owned();
        }
        lines.push(rest);
    }
    lines.join("\n")
}

const SIDE_BY_SIDE: &str = "\
image: IMAGE
stages: [build, [unit, lint], ship]
build:
  script: echo made
unit:
  script:
    - while ! test -e /tmp/never && test $((n=${n:-0}+1)) -lt 4; do echo test $n; sleep 1; done
    - echo 'test parse FAILED'; exit 101
lint:
  allow_failure: true
  script: [echo not a word of this, exit 3]
ship:
  script: echo never
";

#[tokio::test]
async fn side_by_side_what_runs_stands_below_and_only_what_failed_is_shown() {
    let Some(place) = Place::with(SIDE_BY_SIDE).await else { return };
    let (code, text) = on_a_terminal(&place, "run", &[("NO_COLOR", "1")], "").await;
    assert_eq!(code, Some(1), "{text}");
    let shown = screen(&text);
    for part in [
        "── build ",
        "\nmade\n✓ build ",
        "── unit ──\n",
        "\ntest parse FAILED\n✗ unit exit code 101 ",
        "– ship skipped",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    assert!(!shown.contains("not a word of this\n") || !shown.contains("! lint"), "{shown}");
    assert!(
        text.contains(" unit ") && (1..4).any(|n| text.contains(&format!("  test {n}"))),
        "its last line is live:\n{text}"
    );
    assert!(!text.contains("\x1b[3"), "colours:\n{text}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_a_build_prints_does_not_steer_the_terminal() {
    let manifest =
        "image: IMAGE\nbuild:\n  script: printf 'a\\033[2Jb\\033]0;evil\\007c\\033[31mred\\033[0m\\n10%%\\r99%%\\n'\n";
    let Some(place) = Place::with(manifest).await else { return };
    let (code, text) = on_a_terminal(&place, "run", &[], "").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("abc\x1b[31mred\x1b[0m"), "{text}");
    assert!(!text.contains("\x1b[2J") && !text.contains("\x1b]0;") && text.contains("\n99%\n"), "{text}");
    let log = std::fs::read_to_string(place.project().join(".buildr-out/logs/build.log")).unwrap();
    assert!(log.contains("\x1b[2J"), "the log is as it came: {log}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn the_beginning_and_the_end() {
    let manifest = "image: IMAGE\nstages: [build, test, ship]\nbuild:\n  script: echo made\ntest:\n  script: exit 137\nship:\n  script: echo never\n";
    let Some(place) = Place::with(manifest).await else { return };
    place.commit().await;
    place.write("more", "");
    let (code, text) = on_a_terminal(&place, "run", &[("NO_COLOR", "1")], "").await;
    assert_eq!(code, Some(1), "{text}");
    let masked: Vec<String> = screen(&text).lines().map(mask).collect();
    let masked = masked.join("\n");
    for part in [
        "buildr VERSION · project @ COMMIT (main, 1 file changed) · docker VERSION\n",
        "as on the farm, but: 1 file is not committed\n",
        "\n✗ test exit code 137 (killed, most often for want of memory) TIME\n– ship skipped: test failed\n\n",
        "TIME  exit code 137 (killed, most often for want of memory)\n",
        "failed: test failed: exit code 137 (TIME)\n",
        "  again from there: buildr run --from test\n  a shell in it:    buildr run --from test --shell\n",
        "  on the farm:      buildr submit . --watch",
    ] {
        assert!(masked.contains(part), "{part:?} is not in\n{masked}");
    }
    place.nothing_is_left().await;
}

/// What differs from run to run and from machine to machine.
fn mask(line: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(['(', ')']);
        let is_time = bare.ends_with('s') && bare[..bare.len() - 1].parse::<f64>().is_ok();
        let is_commit = bare.len() >= 7 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_version = bare.split('.').count() >= 3 && bare.starts_with(|c: char| c.is_ascii_digit());
        match (is_time, is_commit, is_version) {
            (true, ..) => word.replace(bare, "TIME"),
            (_, true, _) => word.replace(bare, "COMMIT"),
            (_, _, true) => word.replace(bare, "VERSION"),
            _ => word.to_owned(),
        }
    };
    line.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_gate_asks_who_sits_there() {
    let manifest = "\
image: IMAGE
stages: [build, deploy]
build:
  script: echo made
deploy:
  manual: {ask: 'Deploy it?', inputs: {REGION: [eu, us]}}
  script: echo \"to $REGION\"
";
    let Some(place) = Place::with(manifest).await else { return };
    place.commit().await;
    let (code, text) = on_a_terminal(&place, "run", &[("NO_COLOR", "1")], "y\nmars\nus\n").await;
    assert_eq!(code, Some(0), "{text}");
    for part in ["Deploy it? [y/N] ", "REGION (eu, us) ", "REGION is one of eu, us, not \"mars\"", "to us"] {
        // What is live may be drawn anew before it.
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let (code, text) = on_a_terminal(&place, "run", &[("NO_COLOR", "1")], "n\n").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("you said no") && !text.contains("to us"), "{text}");
    // Nobody to ask.
    place.run(&["run"]).await.check(0, &["buildr run --only deploy"]).hides(&["deploy | to"]);
    place.run(&["run", "--only", "deploy", "--input", "REGION=eu"]).await.check(0, &["deploy | to eu\n"]);
    place.run(&["run", "--yes", "--input", "REGION=us"]).await.check(0, &["deploy | to us\n"]);
    place.run(&["run", "--yes"]).await.check(0, &["--input REGION=VALUE"]).hides(&["deploy | to"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_shell_in_what_failed() {
    let manifest =
        "image: IMAGE\nenvironment:\n  vars: [WHO=ann]\nbuild:\n  script: [echo made >file, touch /opt/mark, exit 4]\n";
    let Some(place) = Place::with(manifest).await else { return };
    let typed = "cat file; ls /opt; echo I am $WHO; exit\n";
    let (code, text) = on_a_terminal(&place, "run --shell", &[("NO_COLOR", "1")], typed).await;
    assert_eq!(code, Some(1), "{text}");
    for part in ["a shell in build", "made\n", "mark", "I am ann", "failed: build failed: exit code 4"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    place.nothing_is_left().await;
}
