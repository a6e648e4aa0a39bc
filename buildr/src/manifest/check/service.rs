//! `services`: containers beside a stage, and when they are ready.

use protocol::plan::{Probe, Ready};

use super::findings::{Findings, Keys};
use super::{environment, image, machine};
use crate::manifest::keys::{READY, SERVICE};
use crate::manifest::language::Service;
use crate::manifest::node::{Entry, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

const EXAMPLE: &str = "services: {db: postgres:17}";

/// What `services` says: names, each with an image or more.
pub(super) fn read(entry: &Entry, findings: &mut Findings<'_>) -> Vec<Service> {
    let Shape::Map(entries) = &entry.value.value else {
        let found = entry.value.value.kind();
        findings.error(
            entry.place(),
            format!("\"services\" is a map of names and images, and here stands {found}"),
            format!("write `{EXAMPLE}`: stages reach it as `db`"),
        );
        return Vec::new();
    };
    entries.iter().filter_map(|entry| service(entry, findings)).collect()
}

fn service(entry: &Entry, findings: &mut Findings<'_>) -> Option<Service> {
    let name = host(&entry.key, findings);
    let owner = format!("the service {}", quoted(&entry.key.value));
    let example = format!("{}: {{image: postgres:17}}", entry.key.value);
    let mut read = Service {
        name: entry.key.clone(),
        image: image::unnamed(entry.key.span),
        environment: Vec::new(),
        command: Vec::new(),
        ready: None,
        ready_timeout_ms: None,
        resources: None,
        privileged: false,
    };
    if matches!(entry.value.value, Shape::Scalar { .. }) {
        read.image = image::named(&entry.value, entry.place(), &owner, findings)?;
        return name.then_some(read);
    }
    let keys = Keys { owner: owner.clone(), map: &SERVICE };
    let before = findings.count();
    let mut its_image = None;
    for entry in findings.entries(entry, &keys, &example) {
        match entry.key.value.as_str() {
            "image" => its_image = image::read(entry, findings),
            "environment" => read.environment = environment::of_service(entry, findings),
            "command" => read.command = image::words(entry, findings),
            "ready" => read.ready = ready(entry, findings),
            "ready_timeout" => read.ready_timeout_ms = findings.duration(entry),
            "resources" => read.resources = machine::resources(entry, findings),
            _ => read.privileged = findings.flag(entry).unwrap_or_default(),
        }
    }
    if its_image.is_none() && findings.count() == before {
        findings.error(entry.key.span, format!("{owner} has no \"image\""), format!("write `{example}`"));
    }
    read.image = its_image?;
    name.then_some(read)
}

/// Whether stages can reach a service under this name.
fn host(name: &Spanned<String>, findings: &mut Findings<'_>) -> bool {
    let text = name.value.as_str();
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let legal = text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || c == '-' || c == '_');
    if !legal {
        findings.error(
            name.span,
            format!("{} cannot name a service: it is the host name by which stages reach it", quoted(text)),
            "write 1 to 63 small letters, digits, `-` or `_`, beginning and ending with a letter or digit",
        );
    }
    legal
}

/// What `ready` says: a command, `tcp:PORT`, `http::PORT/PATH`, `log:/REGEX/`, or a map with one of these.
fn ready(entry: &Entry, findings: &mut Findings<'_>) -> Option<Ready> {
    const HELP: &str = "write a command such as `pg_isready`, or `tcp:5432`, `http::8080/health`, `log:/ready/`";
    if !matches!(entry.value.value, Shape::Map(_)) {
        let text = findings.word(entry, HELP)?;
        let (kind, rest) = text.value.split_once(':').unwrap_or(("", ""));
        return match kind {
            "tcp" => port(rest, entry.place(), findings).map(Ready::Tcp),
            "http" => probe(rest, entry.place(), findings),
            "log" => {
                let bare = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).unwrap_or(rest);
                pattern(bare, entry.place(), findings).map(Ready::Log)
            }
            _ => Some(Ready::Command(text.value)),
        };
    }
    let keys = Keys::of("ready", &READY);
    let before = findings.count();
    let entries = findings.entries(entry, &keys, "ready: {tcp: 5432}");
    let [only] = entries.as_slice() else {
        if findings.count() == before {
            let message = format!("\"ready\" says one way to see it, and here stand {}", entries.len());
            findings.error(entry.place(), message, HELP);
        }
        return None;
    };
    let text = findings.word(only, HELP)?;
    match only.key.value.as_str() {
        "command" => Some(Ready::Command(text.value)),
        "tcp" => port(&text.value, only.place(), findings).map(Ready::Tcp),
        "http" => probe(&text.value, only.place(), findings),
        _ => pattern(&text.value, only.place(), findings).map(Ready::Log),
    }
}

fn port(text: &str, place: Span, findings: &mut Findings<'_>) -> Option<u16> {
    let port = text.trim_start_matches(':').parse().ok().filter(|port| *port > 0);
    if port.is_none() {
        findings.error(place, format!("{} is not a port", quoted(text)), "write a number from 1 to 65535: `tcp:5432`");
    }
    port
}

/// `:8080/path`; without a port it is 80.
fn probe(text: &str, place: Span, findings: &mut Findings<'_>) -> Option<Ready> {
    const HELP: &str = "write `http::8080/health`: a port, and a path that begins with `/`";
    let rest = text.trim_start_matches(':');
    let (digits, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = if digits.is_empty() { Some(80) } else { port(digits, place, findings) };
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        findings.error(place, format!("{} is not a path", quoted(path)), HELP);
        return None;
    }
    let path = if path.is_empty() { "/" } else { path }.to_owned();
    port.map(|port| Ready::Http(Probe { port, path }))
}

/// A regular expression that can be compiled.
fn pattern(text: &str, place: Span, findings: &mut Findings<'_>) -> Option<String> {
    super::files::expression(text, place, findings).map(|_| text.to_owned())
}
