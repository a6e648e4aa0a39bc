//! What is printed: whole, in order, in a pipe and on a terminal.

use std::process::Stdio;

use tokio::io::AsyncReadExt as _;

use crate::place::{Place, program, to_the_end};

const TWO: &str = "image: IMAGE\none:\n  script: printf 'half'\ntwo:\n  script: [echo whole, exit 3]\n";

#[tokio::test]
async fn in_a_pipe_every_line_says_its_stage() {
    let Some(place) = Place::with(TWO).await else { return };
    let ran = place.run(&["run"]).await;
    ran.check(1, &["one | half\n", "two | $ echo whole\n", "two | whole\n"]).hides(&["\x1b", "──"]);
    let mut coloured = place.buildr(&["run", "--color", "always"]);
    coloured.env("NO_COLOR", "1");
    to_the_end(coloured).await.check(1, &["\x1b[2mone |\x1b[0m half\n", "\x1b[31mfailed"]);
    place.nothing_is_left().await;
}

/// `buildr run` on a terminal, whose output is what a person sees.
async fn on_a_terminal(place: &Place, words: &str, variables: &[(&str, &str)]) -> String {
    let mut script = place.command("script");
    script.args(["-qec", &format!("{} {words}", program("buildr").display()), "/dev/null"]);
    script.env("TERM", "xterm").envs(variables.iter().copied());
    let ran = to_the_end(script).await;
    assert_eq!(ran.code, Some(1), "{ran}");
    ran.out.replace("\r\n", "\n")
}

#[tokio::test]
async fn on_a_terminal_there_are_headings_and_colours() {
    let Some(place) = Place::with(TWO).await else { return };
    let seen = on_a_terminal(&place, "run", &[]).await;
    for part in ["── one ", "half\n", "── two ", "whole\n", "\x1b[31mfailed"] {
        assert!(seen.contains(part), "{part:?} is not in\n{seen}");
    }
    assert!(!seen.contains("one | "), "{seen}");
    for (words, variables) in
        [("run", &[("NO_COLOR", "1")][..]), ("run --color never", &[]), ("run", &[("TERM", "dumb")])]
    {
        let plain = on_a_terminal(&place, words, variables).await;
        // What moves the cursor is no colour; a terminal that cannot gets none of it either.
        let marks =
            plain.matches('\x1b').count() - plain.matches("\x1b[J").count() - plain.matches("A\r\x1b[J").count();
        assert!(plain.contains("── one ") && marks == 0, "{words} {variables:?}:\n{plain}");
        assert!(variables != [("TERM", "dumb")] || !plain.contains('\x1b'), "{plain}");
    }
    place.nothing_is_left().await;
}

#[tokio::test]
async fn five_megabytes_come_whole() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: seq 1 700000\n").await else { return };
    let ran = place.run(&["run"]).await;
    ran.check(0, &[]);
    let expected: String = (1..=700_000).map(|number| format!("build | {number}\n")).collect();
    assert!(ran.out.contains(&expected), "{} bytes", ran.out.len());
    place.nothing_is_left().await;
}

#[tokio::test]
async fn bytes_come_as_they_are() {
    // All bytes but the newline, which would begin another line.
    let manifest = "image: IMAGE\nbuild:\n  script: |\n    for a in 0 1 2 3; do for b in 0 1 2 3 4 5 6 7; do for c in 0 1 2 3 4 5 6 7; do\n    [ $a$b$c = 012 ] || printf \"\\\\$a$b$c\"; done; done; done; echo\n";
    let Some(place) = Place::with(manifest).await else { return };
    let output = place.buildr(&["run"]).output().await.unwrap();
    let expected: Vec<u8> = (0..=255).filter(|&byte| byte != b'\n').chain(*b"\n").collect();
    assert!(output.stdout.windows(expected.len()).any(|part| part == expected), "{output:?}");
    place.nothing_is_left().await;
}

/// The reader that goes away is no reason to leave anything behind.
#[tokio::test]
async fn a_reader_that_goes_away_ends_the_build() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: while echo more; do :; done\n").await else {
        return;
    };
    let mut child = place.buildr(&["run"]).stderr(Stdio::null()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 1000]).await.unwrap();
    drop(out);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait()).await;
    assert_eq!(ended.expect("it ends").unwrap().code(), Some(3));
    // Nor has anything been built for one that was gone before it began.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = place.buildr(&["run"]).stdout(writer).stderr(Stdio::null()).status().await.unwrap();
    assert_eq!(ended.code(), Some(3));
    place.nothing_is_left().await;
}
