//! The `buildr-coordinator` program from outside: what it says of itself, and how it takes a wrong word.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::process::Command;

fn says(words: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_buildr-coordinator")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn help_reads_well() {
    let check = |words: &[&str], parts: &[&str]| {
        let (help, errors, code) = says(words);
        assert_eq!((errors.as_str(), code), ("", Some(0)));
        for part in parts {
            assert!(help.contains(part), "{part:?} is not in\n{help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 100), "a line is too long:\n{help}");
    };
    check(&["--help"], &["Run the coordinator of a buildr farm", "--amqp <URL>", "--listen <ADDRESS>", "  up "]);
    check(&["up", "--help"], &["Run a whole farm in this process", "--slots", "--listen <ADDRESS>", "--work-dir"]);
}

#[test]
fn the_version_is_one_line() {
    let (version, _, code) = says(&["--version"]);
    assert_eq!((version, code), (format!("buildr-coordinator {}\n", env!("CARGO_PKG_VERSION")), Some(0)));
}

#[test]
fn a_wrong_word_is_named() {
    let check = |words: &[&str], part: &str| {
        let (_, errors, code) = says(words);
        assert!(errors.contains(part), "{words:?}: {errors}");
        assert_eq!(code, Some(2), "{words:?}");
    };
    check(&["--lisen", "127.0.0.1:1"], "--listen");
    check(&["up", "--slot", "2"], "--slots");
    check(&["--listen", "here"], "--listen");
    check(&[], "--amqp");
}
