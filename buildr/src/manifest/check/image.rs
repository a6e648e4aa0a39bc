//! Images, and the platform that they and their stages are for.

use protocol::plan::Pull;

use super::findings::{Findings, Keys};
use super::values::Choice;
use crate::manifest::keys::IMAGE;
use crate::manifest::language::Image;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

const HELP: &str = "write `image: debian:bookworm-slim`, a name as `docker pull` takes it";

const PULL: [Choice<Pull>; 2] = [("missing", Pull::Missing), ("always", Pull::Always)];

/// What `image` says: a name, or a map with one.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Option<Image> {
    if !matches!(entry.value.value, Shape::Map(_)) {
        return named(&entry.value, entry.place(), "\"image\"", findings);
    }
    let keys = Keys::of("image", &IMAGE);
    let before = findings.count();
    let (mut name, mut pull, mut user, mut entrypoint, mut at) = (None, Pull::Missing, None, None, None);
    for entry in findings.entries(entry, &keys, "image: {name: debian:bookworm-slim}") {
        match entry.key.value.as_str() {
            "name" => name = named(&entry.value, entry.place(), "\"name\"", findings),
            "pull" => pull = findings.choice(entry, &PULL).unwrap_or_default(),
            "user" => user = findings.word(entry, "write `user: root`, a name or number, or `1000:1000`"),
            "entrypoint" => entrypoint = Some(words(entry, findings).into_iter().map(|word| word.value).collect()),
            _ => at = platform(entry, findings),
        }
    }
    if name.is_none() && findings.count() == before {
        findings.error(entry.place(), "this image has no name", "write `image: {name: debian:bookworm-slim, ...}`");
    }
    name.map(|image| Image { pull, user, entrypoint, platform: at, ..image })
}

/// An image of which nothing is said, until it is.
pub(super) fn unnamed(span: Span) -> Image {
    let name = Spanned { value: String::new(), span };
    Image { name, pull: Pull::Missing, user: None, entrypoint: None, platform: None }
}

/// An image of which only the name is said.
pub(super) fn named(node: &Node, place: Span, what: &str, findings: &mut Findings<'_>) -> Option<Image> {
    let name = findings.text(node, place, what, HELP)?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if name.value.is_empty() || name.value.contains(odd) || name.value.starts_with('-') {
        findings.error(place, format!("{} is not the name of an image", quoted(&name.value)), HELP);
        return None;
    }
    Some(Image { name, ..unnamed(place) })
}

/// A program and its arguments: `entrypoint` and a service's `command`. One text is a program without any, and the
/// list with nothing but `""` is how Docker's own tools say "none".
pub(super) fn words(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Spanned<String>> {
    let help = format!("write `{}: [program, argument]`", entry.key.value);
    let mut words: Vec<Spanned<String>> = Vec::new();
    super::values::flatten(&entry.value, entry.place(), &mut |node, place| {
        words.extend(findings.text(node, place, &format!("a part of \"{}\"", entry.key.value), &help));
    });
    if matches!(words.as_slice(), [only] if only.value.is_empty()) {
        words.clear();
    }
    words
}

/// A platform as `linux/arm64`.
pub(super) fn platform(entry: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<String>> {
    const HELP: &str = "write `platform: linux/arm64`: the system, a `/`, and the processor";
    let platform = findings.word(entry, HELP)?;
    let parts: Vec<&str> = platform.value.split('/').collect();
    let legal = |part: &&str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let complete = (2..=3).contains(&parts.len()) && parts.iter().all(legal);
    if !complete && !platform.value.contains("${") {
        findings.error(entry.place(), format!("{} is not a platform", quoted(&platform.value)), HELP);
        return None;
    }
    Some(platform)
}
