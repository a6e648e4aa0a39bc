//! The `buildr-agent` program from outside: what it says of itself, and how it takes a wrong word.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::process::Command;

fn says(words: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_buildr-agent")).args(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn help_reads_well() {
    let (help, errors, code) = says(&["--help"]);
    assert_eq!((errors.as_str(), code), ("", Some(0)));
    for part in ["Take jobs from a buildr farm", "Usage: buildr-agent", "--amqp <URL>", "--slots", "--standalone"] {
        assert!(help.contains(part), "{part:?} is not in\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "a line is too long:\n{help}");
}

#[test]
fn the_version_is_one_line() {
    let (version, _, code) = says(&["--version"]);
    assert_eq!((version, code), (format!("buildr-agent {}\n", env!("CARGO_PKG_VERSION")), Some(0)));
}

#[test]
fn a_wrong_word_is_named() {
    let (_, errors, code) = says(&["--slot", "2"]);
    assert!(errors.contains("--slot") && errors.contains("--slots"), "{errors}");
    assert_eq!(code, Some(2));
}
