//! The rules of the house: which room may name which, and how a file is written. A rule that a compiler or clippy
//! can hold is not here.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file of the project.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    /// All of it.
    text: String,
}

impl Source {
    /// What stands before its tests.
    fn code(&self) -> &str {
        let end = self.text.find("#[cfg(test)]").unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Its code without comments, line by line, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code().lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

fn sources() -> Vec<Source> {
    let mut folders: Vec<PathBuf> =
        ["protocol", "buildr", "agent", "coordinator", "tests"].iter().map(|name| root().join(name)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 30, "the walk found only {} files", found.len());
    found
}

/// Fails with all that was found, not only the first.
fn expect_none(rule: &str, found: &[String]) {
    let mut list = String::new();
    for line in found {
        write!(list, "\n  {line}").unwrap();
    }
    assert!(found.is_empty(), "{rule}{list}");
}

fn names(line: &str, word: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let before = rest[..at].chars().next_back();
        let after = rest[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        if !part(before) && !part(after) {
            return true;
        }
        rest = &rest[at + word.len()..];
    }
    false
}

#[test]
fn one_vendor_one_room() {
    let rooms: [(&str, &[&str]); 10] = [
        ("lapin", &["protocol/src/link/rabbitmq/"]),
        ("bollard", &["buildr/src/executor/docker/"]),
        ("docker_credential", &["buildr/src/executor/docker/"]),
        ("git2", &["buildr/src/git/"]),
        ("serde_yaml", &["buildr/src/manifest/"]),
        // Git asks with it for one number that libgit2 keeps to itself.
        ("reqwest", &["buildr/src/client/", "buildr/src/git/status.rs", "coordinator/src/forge/"]),
        ("sqlx", &["coordinator/src/store/"]),
        ("lettre", &["coordinator/src/mail.rs"]),
        ("axum", &["coordinator/src/web/"]),
        ("clap", &["buildr/src/cli/", "buildr/src/main.rs", "agent/src/config.rs", "coordinator/src/config"]),
    ];
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.path.starts_with("tests/")) {
        for (vendor, places) in &rooms {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            let path = format!("{vendor}::");
            let lines = source.lines().filter(|(_, line)| {
                line.contains(&path) && names(line, vendor) || line.trim_start().starts_with(&format!("use {vendor}"))
            });
            found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
        }
    }
    expect_none("a vendor is named outside its room:", &found);
}

#[test]
fn the_arrows_point_down() {
    // Cargo keeps crates from naming what they do not depend on; here stands what they may depend on.
    let below: [(&str, &[&str]); 4] = [
        ("protocol", &[]),
        ("buildr", &["protocol"]),
        ("agent", &["buildr", "protocol"]),
        ("coordinator", &["agent", "buildr", "protocol"]),
    ];
    let rooms = below.map(|(room, _)| room);
    let mut found = Vec::new();
    for (room, allowed) in below {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
        let dependencies = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        let above = dependencies.filter(|name| rooms.contains(name) && !allowed.contains(name));
        found.extend(above.map(|name| format!("{room}/Cargo.toml depends on {name}")));
    }
    for source in sources() {
        if !source.path.starts_with("coordinator/src/") || source.path == "coordinator/src/embedded.rs" {
            continue;
        }
        let lines = source.lines().filter(|(_, line)| line.contains("agent::") && names(line, "agent"));
        found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    expect_none("a room names one that stands above it (only coordinator/src/embedded.rs names the agent):", &found);
}

#[test]
fn modules_stand_in_a_line() {
    let all = sources();
    let mut found = Vec::new();
    for room in ["protocol", "buildr", "agent", "coordinator"] {
        let prefix = format!("{room}/src/");
        let lib = all.iter().find(|source| source.path == format!("{prefix}lib.rs")).expect("each room has a lib.rs");
        let order: Vec<&str> = lib
            .lines()
            .filter_map(|(_, line)| {
                let line = line.trim().strip_suffix(';')?;
                line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))
            })
            .collect();
        for source in all.iter().filter(|source| source.path.starts_with(&prefix)) {
            let inside = source.path[prefix.len()..].split('/').next().unwrap_or("").trim_end_matches(".rs");
            let Some(place) = order.iter().position(|module| *module == inside) else { continue };
            for later in &order[place + 1..] {
                let path = format!("crate::{later}");
                let lines = source.lines().filter(|(_, line)| names(line, &path));
                found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
            }
        }
    }
    expect_none("a module uses one that its lib.rs names after it:", &found);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let without: Vec<String> =
        sources().iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.path.clone()).collect();
    expect_none("a file does not open with `//!`:", &without);
}

#[test]
fn files_stay_readable() {
    const LONGEST: usize = 400;
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| !source.path.starts_with("tests/") && !source.path.ends_with("/tests.rs"))
        .map(|source| (source.path.clone(), source.code().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    expect_none("a file has more than 400 lines before its tests:", &long);
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().enumerate().filter(|(_, line)| {
            let line = line.trim_start();
            line.starts_with("#[allow(") || line.starts_with("#![allow(")
        });
        found.extend(lines.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim())));
    }
    expect_none("write #[expect(lint, reason = \"…\")] instead of #[allow]:", &found);
}

/// SQLite plans a query anew each time a number is bound that its plan may depend on.
#[test]
fn no_query_is_planned_each_time_that_it_is_asked() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("coordinator/src/store")) {
        let lines = source.text.lines().enumerate();
        let bare = lines.filter(|(_, line)| line.contains("LIMIT $") && !line.trim_start().starts_with("//"));
        found.extend(bare.map(|(index, line)| format!("{}:{}: {}", source.path, index + 1, line.trim())));
    }
    expect_none("write LIMIT 0 + $1 instead of LIMIT $1:", &found);
}

#[test]
fn names_say_something() {
    const EMPTY: [&str; 9] = ["manager", "helper", "helpers", "util", "utils", "common", "data", "info", "misc"];
    let found: Vec<String> = sources()
        .iter()
        .filter(|source| source.path.split('/').any(|part| EMPTY.contains(&part.trim_end_matches(".rs"))))
        .map(|source| source.path.clone())
        .collect();
    expect_none("a file's name says nothing:", &found);
}
