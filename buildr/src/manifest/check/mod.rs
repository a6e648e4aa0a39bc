//! From nodes to a [`Manifest`]: every rule of the language, and all that is wrong in one go.

mod findings;
mod environment;
mod stage;

use protocol::plan::CloneOptions;

use crate::manifest::language::{Defaults, Element, Environment, Image, Manifest, Prepare, Stage};
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Problem, Source, Span, Spanned, quoted};
use crate::manifest::words::{self, NEVER_A_STAGE, TOP, TOP_LATER};
use findings::{Findings, Told};

/// The manifest and its warnings, or all that is wrong with it, in the order of the file.
pub(super) fn manifest(source: Source, root: &Node) -> Result<(Manifest, Vec<Problem>), Told> {
    let mut findings = Findings::new(&source);
    let top = Top::of(root, &mut findings).map(|top| top.read(&mut findings));
    let warnings = findings.into_result()?.problems;
    // Without a top level there was an error.
    let Read { image, environment, docker, prepare, stages } = top.unwrap_or_default();
    let manifest = Manifest {
        source,
        image,
        environment,
        prepare,
        order: (0..stages.len()).map(Element::One).collect(),
        stages,
        finally: None,
        defaults: Defaults { docker, ..Defaults::default() },
        services: Vec::new(),
        matrix: None,
        when: None,
        clone: CloneOptions::default(),
        repos: Vec::new(),
        workspace: None,
        dir: None,
        inputs: Vec::new(),
        concurrency: None,
        cancel_superseded: None,
        timeout_ms: None,
        fail_fast: None,
        stage_parallelism: None,
        priority: None,
    };
    Ok((manifest, warnings))
}

/// What the top level says.
#[derive(Default)]
struct Read {
    image: Option<Image>,
    environment: Environment,
    docker: Option<bool>,
    prepare: Option<Prepare>,
    stages: Vec<Stage>,
}

/// The top level before it is read.
struct Top<'n> {
    entries: &'n [Entry],
    /// What `stages` lists, `prepare` apart; nothing when there is no such key or it is wrong.
    listed: Option<Vec<Spanned<&'n str>>>,
    /// Whether stages that nobody lists run: there is no `stages`.
    unlisted_run: bool,
}

impl<'n> Top<'n> {
    fn of(root: &'n Node, findings: &mut Findings<'_>) -> Option<Self> {
        const FIRST: &str = "write `image: ubuntu:latest`, and below it `build: {script: [echo it builds]}`";
        let entries = match &root.value {
            Shape::Map(entries) => entries.as_slice(),
            Shape::Null => {
                findings.error(Span::new(0..0), "the manifest is empty", FIRST);
                return None;
            }
            other => {
                let message = format!("a manifest is a map of keys and values, not {}", other.kind());
                findings.error(root.span, message, FIRST);
                return None;
            }
        };
        let stages = entries.iter().find(|entry| entry.key.value == "stages");
        let mut top = Self { entries, listed: None, unlisted_run: stages.is_none() };
        top.listed = stages.and_then(|stages| top.names(stages, findings));
        Some(top)
    }

    fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key.value == key)
    }

    fn lists(&self, key: &str) -> bool {
        self.listed.iter().flatten().any(|name| name.value == key)
    }

    /// The names that `stages` lists, in order, of those that are there.
    fn names(&self, stages: &'n Entry, findings: &mut Findings<'_>) -> Option<Vec<Spanned<&'n str>>> {
        const EXAMPLE: &str = "write `stages: [build, test]`, each a key of the manifest with a `script`";
        let Shape::List(elements) = &stages.value.value else {
            let found = stages.value.value.kind();
            findings.error(stages.place(), format!("\"stages\" is a list of names, and here stands {found}"), EXAMPLE);
            return None;
        };
        if elements.is_empty() {
            findings.error(stages.place(), "\"stages\" lists nothing, so nothing would run", EXAMPLE);
        }
        let mut names: Vec<Spanned<&'n str>> = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let Some(name) = Self::element(element, stages, findings) else { continue };
            if names.iter().any(|earlier| earlier.value == name.value) {
                let message = format!("the stage {} is listed twice", quoted(name.value));
                findings.error(name.span, message, "write it once: a stage runs once in a build");
            } else if name.value == "prepare" {
                self.prepare_at(index, name.span, findings);
            } else if self.names_a_stage(&name, findings) {
                names.push(name);
            }
        }
        if names.is_empty() && !elements.is_empty() && findings.count() == 0 {
            findings.error(stages.place(), "\"stages\" lists no stage beside \"prepare\"", EXAMPLE);
        }
        Some(names)
    }

    fn element(element: &'n Node, stages: &Entry, findings: &mut Findings<'_>) -> Option<Spanned<&'n str>> {
        match &element.value {
            Shape::Scalar { text, .. } => Some(Spanned { value: text, span: element.span }),
            Shape::List(_) => {
                let message =
                    "this version of buildr does not run stages side by side yet, as a list in \"stages\" asks";
                findings.error(element.span, message, "write the names one after the other; they run in this order");
                None
            }
            other => {
                let place = element.place_or(stages.key.span);
                let message = format!("\"stages\" lists names, and here stands {}", other.kind());
                findings.error(place, message, "write the name of a stage, such as `- build`");
                None
            }
        }
    }

    fn prepare_at(&self, index: usize, span: Span, findings: &mut Findings<'_>) {
        if self.get("prepare").is_none() {
            findings.error(
                span,
                "\"prepare\" is listed, and the manifest has none",
                "write `prepare: {script: [...]}`, or take it off the list",
            );
        } else if index > 0 {
            findings.error(
                span,
                "\"prepare\" is listed after another stage, and it always runs before all of them",
                "write it first, or take it off the list: it runs in any case",
            );
        }
    }

    fn names_a_stage(&self, name: &Spanned<&str>, findings: &mut Findings<'_>) -> bool {
        if NEVER_A_STAGE.contains(&name.value) {
            let message = format!("{} is a word of the language and cannot name a stage", quoted(name.value));
            findings.error(name.span, message, "write another name, here and at the stage itself");
            return false;
        }
        if stage::name(name, findings).is_none() {
            return false;
        }
        if self.get(name.value).is_some() {
            return true;
        }
        let stages = self.entries.iter().filter(|entry| entry.value.value.has("script"));
        let names = stages.map(|entry| entry.key.value.as_str()).filter(|name| !NEVER_A_STAGE.contains(name));
        let guess = findings.guess(name.value, names);
        let message = format!("there is no stage {}{}", quoted(name.value), findings::did_you_mean(guess));
        let help = match guess {
            Some(guess) => format!("write `{guess}`, or give the manifest a key `{}` with a `script`", name.value),
            None => format!("write `{}: {{script: [...]}}`, or take the name off the list", name.value),
        };
        findings.error(name.span, message, help);
        false
    }

    fn read(&self, findings: &mut Findings<'_>) -> Read {
        let mut read = Read::default();
        for entry in self.entries {
            match entry.key.value.as_str() {
                listed if self.lists(listed) => {}
                "version" => version(entry, findings),
                "image" => read.image = findings.image(entry),
                "environment" => read.environment = environment::read(entry, findings),
                "docker" => read.docker = findings.flag(entry),
                "prepare" => read.prepare = stage::prepare(entry, findings),
                "stages" => {}
                free if words::is_free(free) => {}
                later if TOP_LATER.contains(&later) => self.later(entry, findings),
                _ if stage::is_meant(entry) => self.unlisted(entry, &mut read, findings),
                _ => self.unknown(entry, findings),
            }
        }
        for name in self.listed.iter().flatten() {
            if let Some(entry) = self.get(name.value) {
                read.stages.extend(stage::read(entry, name.span, findings));
            }
        }
        if read.stages.is_empty() && findings.count() == 0 {
            findings.error(
                Span::new(0..0),
                "the manifest has no stage, so nothing would run",
                "write one, such as `build: {script: [make]}`",
            );
        }
        read
    }

    /// A stage that `stages` does not name: it runs when there is no `stages`.
    fn unlisted(&self, entry: &Entry, read: &mut Read, findings: &mut Findings<'_>) {
        // One with a mistyped `script` is read for that to be told.
        if self.unlisted_run || !entry.value.value.has("script") {
            read.stages.extend(stage::read(entry, entry.key.span, findings));
        } else {
            let name = &entry.key.value;
            findings.warning(
                entry.key.span,
                format!("the stage {} never runs: \"stages\" does not list it", quoted(name)),
                format!("write `{name}` into `stages`, or begin the key with `.` to keep it for later"),
            );
        }
    }

    fn later(&self, entry: &Entry, findings: &mut Findings<'_>) {
        let key = &entry.key.value;
        let named = if entry.value.value.has("script") && !NEVER_A_STAGE.contains(&key.as_str()) {
            "; a stage of this name must be listed in `stages`"
        } else {
            ""
        };
        findings.later(entry, format!("take it out: the top level has {} today{named}", words::listed(&TOP)));
    }

    fn unknown(&self, entry: &Entry, findings: &mut Findings<'_>) {
        let key = entry.key.value.as_str();
        let missing = |word: &&str| self.get(word).is_none();
        if let Some(guess) = findings.guess(key, TOP.into_iter().filter(missing)) {
            let message = format!("there is no key {}{}", quoted(key), findings::did_you_mean(Some(guess)));
            findings.error(
                entry.key.span,
                message,
                format!("write `{guess}`, or begin the key with `x-` if it is yours"),
            );
        } else if let Some(word) = findings.guess(key, words::STAGE.into_iter().chain(words::STAGE_LATER)) {
            let message = format!("the top level has no key {}", quoted(key));
            findings.error(entry.key.span, message, format!("write it in a stage, such as `build: {{{word}: ...}}`"));
        } else if matches!(entry.value.value, Shape::Map(_)) {
            let message = format!("{} is no key of the language, and no stage, as it has no \"script\"", quoted(key));
            findings.error(
                entry.key.span,
                message,
                "write a `script` in it to make it a stage, or begin the key with `x-` if it is yours",
            );
        } else {
            let message = format!("there is no key {}", quoted(key));
            let help = format!("write one of {}, a stage, or a key that begins with `x-`", words::listed(&TOP));
            findings.error(entry.key.span, message, help);
        }
    }
}

fn version(entry: &Entry, findings: &mut Findings<'_>) {
    let help = "write `version: 1`, or leave it out";
    match &entry.value.value {
        Shape::Scalar { text, .. } if text == "1" => {}
        Shape::Scalar { text, .. } => {
            let message =
                format!("this buildr reads version 1 of the language, and the manifest is of {}", quoted(text));
            findings.error(entry.place(), message, help);
        }
        other => findings.error(entry.place(), format!("\"version\" is a number, not {}", other.kind()), help),
    }
}
