//! Rust, told by `Cargo.toml`.

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

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
    let newer = toolchain.is_some() || toml.contains("edition = \"2024\"") || toml.contains("rust-version");
    let rustup =
        "curl -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy --component rustfmt";
    let (packages, bare) = if newer {
        let links = "ln -sf /root/.cargo/bin/* /usr/local/bin/";
        (vec!["build-essential", "curl", "pkg-config"], texts(&[rustup, links]))
    } else {
        (vec!["cargo", "rustfmt", "rust-clippy", "build-essential", "pkg-config"], Vec::new())
    };
    let ideas = vec![
        Idea::new("build", Turn::Build, [format!("cargo build{all} --all-targets{locked}")])
            .about("Runs by itself, so the stages after it find its target/."),
        Idea::new("test", Turn::Test, [format!("cargo test{all}{locked}")]),
        Idea::new(
            "lint",
            Turn::Test,
            ["cargo fmt --all --check".to_owned(), format!("cargo clippy{all} --all-targets{locked} -- -D warnings")],
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
