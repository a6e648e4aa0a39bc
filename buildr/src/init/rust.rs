//! Rust, told by `Cargo.toml`.

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

/// The minor version of the Rust that Debian 12 has: 1.63.
const DEBIANS: u32 = 63;

/// The minor version that `rust-version` asks for; 0 when it asks for none.
fn minor(toml: &str) -> u32 {
    let line = toml.lines().find_map(|line| line.trim().strip_prefix("rust-version"));
    let version = line.and_then(|line| line.split('"').nth(1)).unwrap_or_default();
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

pub(super) fn part(folder: &Folder) -> Option<Part> {
    if !folder.has("Cargo.toml") {
        return None;
    }
    let toml = folder.text("Cargo.toml");
    let locked = if folder.has("Cargo.lock") { " --locked" } else { "" };
    let all = if toml.contains("[workspace]") { " --workspace" } else { "" };
    let mut files = texts(&["Cargo.toml"]);
    let toolchain = folder.first(&["rust-toolchain.toml", "rust-toolchain"]);
    files.extend(toolchain.map(str::to_owned));
    let mut key = files.clone();
    if folder.has("Cargo.lock") {
        key.push("Cargo.lock".to_owned());
    }
    // Debian's own Rust is years old; a project that names a newer one gets it from rustup.
    let newer = toolchain.is_some() || toml.contains("edition = \"2024\"") || minor(&toml) > DEBIANS;
    let (packages, bare) = if newer {
        // Not through a pipe, which would hide that nothing came; and from where rustup takes all the rest.
        let fetch = "curl -sSfo /tmp/rustup.sh https://static.rust-lang.org/rustup/rustup-init.sh";
        let install = "sh /tmp/rustup.sh -y --profile minimal --component clippy --component rustfmt";
        let links = "ln -sf /root/.cargo/bin/* /usr/local/bin/";
        (vec!["build-essential", "curl", "pkg-config"], texts(&[fetch, install, links]))
    } else {
        (vec!["cargo", "rustfmt", "rust-clippy", "build-essential", "pkg-config"], Vec::new())
    };
    let ideas = vec![
        Idea::new("build", Turn::Build, [format!("cargo build{all}{locked}")])
            .about("Runs by itself, so the stages after it find its target/."),
        Idea::new("test", Turn::Test, [format!("cargo test{all}{locked}")]),
        Idea::new(
            "lint",
            Turn::Test,
            ["cargo fmt --all --check".to_owned(), format!("cargo clippy{all}{locked} -- -D warnings")],
        )
        .about("Shown, but no reason to fail; remove allow_failure to make it one.")
        .may_fail(),
    ];
    Some(Part {
        title: "Rust",
        told_by: "Cargo.toml".to_owned(),
        image: "rust:1-bookworm".to_owned(),
        packages,
        bare,
        // The image has neither; where rustup is not what installed Rust, both are there.
        prepare: texts(&["if command -v rustup; then rustup component add clippy rustfmt; fi"]),
        files,
        variables: vec![("CARGO_TERM_COLOR", "always"), ("CARGO_HOME", "/root/.cargo")],
        kept: Some(Kept { paths: texts(&["~/.cargo/registry", "target"]), key }),
        ideas,
        ..Part::default()
    })
}
