//! The actions that most workflows use, and what does their work here. All others are told.

use super::super::draft::{Draft, Stage};
use super::super::notes::NoteKind;
use super::super::parts::{self, add_report};
use super::super::tree::Tree;
use super::{docker, expression};
use crate::manifest::{Map, Value};

/// A language's set-up: the action, the key of its version, the image, and what stands for no version.
const LANGUAGES: [(&str, &str, &str, &str); 8] = [
    ("actions/setup-python", "python-version", "python:{}-bookworm", "3"),
    ("actions/setup-node", "node-version", "node:{}-bookworm", "22"),
    ("actions/setup-go", "go-version", "golang:{}-bookworm", "1.25"),
    ("actions/setup-dotnet", "dotnet-version", "mcr.microsoft.com/dotnet/sdk:{}", "9.0"),
    ("ruby/setup-ruby", "ruby-version", "ruby:{}-bookworm", "3.4"),
    ("shivammathur/setup-php", "php-version", "php:{}-cli-bookworm", "8.4"),
    ("actions/setup-java", "java-version", "maven:3-eclipse-temurin-{}", "21"),
    ("erlef/setup-beam", "elixir-version", "elixir:{}", "1.18"),
];

/// Where package managers keep what they fetch, and the files that say what.
const CACHES: [(&str, &str, &[&str]); 9] = [
    ("pip", "~/.cache/pip", &["requirements*.txt", "pyproject.toml"]),
    ("poetry", "~/.cache/pypoetry", &["poetry.lock"]),
    ("npm", "~/.npm", &["package-lock.json"]),
    ("yarn", "~/.cache/yarn", &["yarn.lock"]),
    ("pnpm", "~/.local/share/pnpm/store", &["pnpm-lock.yaml"]),
    ("maven", "~/.m2/repository", &["pom.xml"]),
    ("gradle", "~/.gradle/caches", &["*.gradle*", "gradle/wrapper/gradle-wrapper.properties"]),
    ("go", "~/go/pkg/mod", &["go.sum"]),
    ("bundler", "vendor/bundle", &["Gemfile.lock"]),
];

/// Takes over a step that uses an action.
pub(super) fn step(draft: &mut Draft, stage: &mut Stage, step: &Tree) {
    let Some(uses) = step.get("uses") else { return };
    let text = uses.peek().unwrap_or_default().to_owned();
    let (action, version) = text.split_once('@').unwrap_or((&text, ""));
    let nothing = step.with_entries(Vec::new());
    let with = step.get("with").unwrap_or(&nothing);
    if let Some(language) = LANGUAGES.iter().find(|language| language.0 == action) {
        set_up(draft, stage, language, with);
    } else {
        match action {
            "actions/checkout" => {
                uses.told();
                stage.map.remark(format!("not needed: `{text}`, because every stage has the checkout"));
                checkout(draft, stage, with);
            }
            "actions/cache" | "actions/cache/restore" | "actions/cache/save" => cache(draft, stage, action, with),
            "Swatinem/rust-cache" => add_cache(&mut stage.map, &["~/.cargo/registry", "target"], &["Cargo.lock"]),
            "actions/upload-artifact" => upload(draft, stage, with),
            "actions/download-artifact" => download(draft, stage, with),
            "dtolnay/rust-toolchain" | "actions-rs/toolchain" | "actions-rust-lang/setup-rust-toolchain" => {
                rust(stage, version, with);
            }
            "codecov/codecov-action" => codecov(draft, stage, uses, with),
            "docker/setup-buildx-action" | "docker/setup-qemu-action" => {
                stage.map.set("docker", Value::Truth(true));
                draft.notes.moot(&mut stage.map, "uses", uses, "`docker: true` gives the stage a Docker daemon");
            }
            "docker/login-action" => docker::login(draft, stage, with),
            "docker/build-push-action" => docker::build_push(draft, stage, with),
            "pnpm/action-setup" => {
                let version = with
                    .get("version")
                    .and_then(Tree::text)
                    .map(|version| format!(" && corepack prepare pnpm@{version} --activate"));
                stage.script.push(format!("corepack enable{}", version.unwrap_or_default()));
            }
            "astral-sh/setup-uv" => stage.script.push("pip install uv".to_owned()),
            _ => {
                let because = "it is an action of GitHub's; write the commands that do the same into the script";
                draft.notes.lost(&mut stage.map, "uses", step, because);
                return;
            }
        }
    }
    if uses.is_unseen() {
        stage.map.remark(format!("carried over: `uses: {text}`"));
        uses.told();
    }
    if let Some(id) = step.get("id").and_then(Tree::text) {
        stage.map.remark(format!("a step was called `{id}`"));
    }
    let mut unseen = Vec::new();
    with.unseen("with", &mut unseen);
    for (way, part) in unseen {
        draft.notes.lost(
            &mut stage.map,
            &format!("{action}: {way}"),
            part,
            "nothing here stands for it; look whether it is needed",
        );
    }
}

fn checkout(draft: &mut Draft, stage: &mut Stage, with: &Tree) {
    let mut clone = match draft.top.get("clone") {
        Some(Value::Map(clone)) => clone.clone(),
        _ => Map::default(),
    };
    let elsewhere = ["repository", "path"].iter().any(|key| with.get(key).is_some());
    if elsewhere {
        let because = "a stage begins with the checkout of its own build; write other repositories under `repos`";
        draft.notes.lost(&mut stage.map, "actions/checkout", with, because);
        return;
    }
    for (key, value) in with.entries() {
        match key.as_str() {
            "fetch-depth" => match value.number() {
                Some(0) => {
                    stage.map.remark("the whole history is there: `fetch-depth: 0` is the usual here");
                }
                Some(depth) => clone.set("depth", Value::Number(depth)),
                None => {}
            },
            "submodules" => match value.peek() {
                Some("recursive") => {
                    clone.set("submodules", "recursive");
                    value.told();
                }
                _ if value.truth() == Some(true) => clone.set("submodules", Value::Truth(true)),
                _ => {}
            },
            "lfs" if value.truth() == Some(true) => clone.set("lfs", Value::Truth(true)),
            "token" | "ssh-key" | "persist-credentials" => {
                draft.notes.moot(
                    &mut stage.map,
                    &format!("actions/checkout: {key}"),
                    value,
                    "the agent clones with its own credentials, and no stage sees them",
                );
            }
            _ => {}
        }
    }
    if !clone.is_empty() {
        draft.top.set("clone", clone);
    }
}

/// The image of a language. A second one in the same job is told.
fn set_up(draft: &Draft, stage: &mut Stage, language: &(&str, &str, &str, &str), with: &Tree) {
    let (action, key, image, usual) = *language;
    let version = with.get(key).and_then(Tree::texts_one);
    let version = version.as_deref().map(|version| plain_version(&expression::in_value(version, &[]).text, usual));
    if version.is_none() {
        stage.map.remark(format!("look at: `{action}` names no plain version; here it is {usual}"));
    }
    let image = image.replace("{}", &version.unwrap_or_else(|| usual.to_owned()));
    let manager = with.get("cache").and_then(Tree::text).map(str::to_owned);
    let known = manager.as_deref().and_then(|manager| {
        let manager = if manager == "true" && action == "actions/setup-go" { "go" } else { manager };
        CACHES.iter().find(|cache| cache.0 == manager)
    });
    if let Some((_, path, files)) = known {
        let own = with.get("cache-dependency-path").map(Tree::texts).unwrap_or_default();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        add_cache(&mut stage.map, &[path], if own.is_empty() { files } else { &own });
    } else if let Some(manager) = manager.filter(|manager| manager != "false") {
        let why = "write `cache` with the paths that it means";
        draft.notes.say(&mut stage.map, NoteKind::Lost, format!("`{action}: cache: {manager}`"), why);
    }
    if let Some(distribution) = with.get("distribution").and_then(Tree::text) {
        stage.map.remark(format!("the Java of `{distribution}` is Temurin here"));
    }
    if let Some(bundles) = with.get("bundler-cache").and_then(Tree::truth)
        && bundles
    {
        stage.script.push("bundle install".to_owned());
        add_cache(&mut stage.map, &["vendor/bundle"], &["Gemfile.lock"]);
    }
    set_image(draft, stage, action, image);
}

fn set_image(draft: &Draft, stage: &mut Stage, action: &str, image: String) {
    match stage.map.get("image") {
        Some(Value::Text(known)) if *known != image => {
            let why = format!(
                "a stage has one image, {known}; install what {image} has in the script, or write a stage of its own"
            );
            draft.notes.say(&mut stage.map, NoteKind::Lost, format!("`uses: {action}`"), why);
        }
        _ => stage.map.set("image", image),
    }
}

/// A version as images are tagged: `3.x` is `3`.
fn plain_version(version: &str, usual: &str) -> String {
    if version.contains("${") {
        return version.to_owned();
    }
    let version =
        version.trim_start_matches(['v', '^', '~', '=', '>', '<', ' ']).trim_end_matches(".x").trim_end_matches(".*");
    match version {
        "" | "latest" | "stable" | "lts/*" | "x" | "*" | "lts" | "node" => usual.to_owned(),
        version => version.trim_end_matches("-dev").to_owned(),
    }
}

fn rust(stage: &mut Stage, version: &str, with: &Tree) {
    let toolchain = with.get("toolchain").and_then(Tree::text).unwrap_or(version).to_owned();
    let toolchain = expression::in_value(&toolchain, &[]).text;
    let image = match toolchain.as_str() {
        "stable" | "master" | "v1" | "" => "rust:1-bookworm".to_owned(),
        "nightly" => "rustlang/rust:nightly-bookworm".to_owned(),
        version => format!("rust:{version}-bookworm"),
    };
    stage.map.set("image", image);
    let list = |key: &str| {
        let text = with.get(key).and_then(Tree::text).unwrap_or_default();
        text.split([',', ' ', '\n']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    for (keys, command) in [(["components", "component"], "component"), (["targets", "target"], "target")] {
        let words = keys.map(list).join(" ");
        if !words.trim().is_empty() {
            stage.script.push(format!("rustup {command} add {}", words.trim()));
        }
    }
    if let Some(profile) = with.get("profile").and_then(Tree::text) {
        stage.map.remark(format!("not needed: `profile: {profile}`, because the image has its tools"));
    }
    if let Some(overrides) = with.get("override").and_then(Tree::text) {
        stage.map.remark(format!("not needed: `override: {overrides}`, because the image has one toolchain"));
    }
}

/// `paths` and the files whose contents are the key.
fn add_cache(map: &mut Map, paths: &[&str], files: &[&str]) {
    let mut cache = Map::of("paths", Value::texts(paths.iter().copied()));
    if !files.is_empty() {
        cache.set("key", Value::texts(files.iter().copied()));
    }
    match map.get("cache") {
        None => map.set("cache", cache),
        Some(Value::Lines(known)) if !known.contains(&Value::Map(cache.clone())) => {
            let all = known.iter().cloned().chain([Value::Map(cache)]).collect();
            map.set("cache", Value::Lines(all));
        }
        Some(Value::Map(known)) if *known != cache => {
            let both = vec![Value::Map(known.clone()), Value::Map(cache)];
            map.set("cache", Value::Lines(both));
        }
        Some(_) => {}
    }
}

fn cache(draft: &Draft, stage: &mut Stage, action: &str, with: &Tree) {
    let paths = lines(with.get("path"));
    let mut files = Vec::new();
    if let Some(key) = with.get("key") {
        let text = key.peek().unwrap_or_default().to_owned();
        let mut rest = text.as_str();
        while let Some(at) = rest.find("hashFiles(") {
            rest = &rest[at + 10..];
            let inner = rest.split(')').next().unwrap_or_default();
            files.extend(
                inner.split(',').map(|file| file.trim().trim_matches('\'').to_owned()).filter(|file| !file.is_empty()),
            );
        }
        draft.notes.moot(
            &mut stage.map,
            &format!("{action}: key"),
            key,
            "a cache is kept by the contents of the files in its `key`",
        );
    }
    if let Some(restore) = with.get("restore-keys") {
        draft.notes.moot(
            &mut stage.map,
            &format!("{action}: restore-keys"),
            restore,
            "the newest cache of the default branch is taken where there is none; see `fallback`",
        );
    }
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    if !paths.is_empty() {
        add_cache(&mut stage.map, &paths, &files);
    }
}

/// The lines of a text that holds a path on each.
fn lines(tree: Option<&Tree>) -> Vec<String> {
    let text = tree.and_then(Tree::text).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| expression::in_value(line, &[]).text)
        .collect()
}

fn upload(draft: &Draft, stage: &mut Stage, with: &Tree) {
    let (exclude, paths): (Vec<String>, Vec<String>) =
        lines(with.get("path")).into_iter().partition(|path| path.starts_with('!'));
    let mut artifacts = match stage.map.get("artifacts") {
        Some(Value::Map(known)) => known.clone(),
        _ => Map::default(),
    };
    let mut all: Vec<Value> = match artifacts.get("paths") {
        Some(Value::List(known)) => known.clone(),
        _ => Vec::new(),
    };
    all.extend(paths.into_iter().map(Value::from));
    artifacts.set("paths", Value::List(all));
    if !exclude.is_empty() {
        artifacts.set("exclude", Value::texts(exclude.iter().map(|path| &path[1..])));
    }
    if let Some(days) = with.get("retention-days").and_then(Tree::number) {
        artifacts.set("expire", format!("{days}d"));
    }
    if let Some(name) = with.get("name") {
        draft.notes.moot(
            &mut stage.map,
            "actions/upload-artifact: name",
            name,
            "artifacts are found by stage and path",
        );
    }
    stage.map.set("artifacts", artifacts);
}

fn download(draft: &Draft, stage: &mut Stage, with: &Tree) {
    if let Some(path) = with.get("path") {
        let because = "artifacts of the stages before lie at the path where they were made; move them in the script";
        draft.notes.lost(&mut stage.map, "actions/download-artifact: path", path, because);
    }
    for key in ["name", "pattern", "merge-multiple"] {
        if let Some(value) = with.get(key) {
            draft.notes.moot(
                &mut stage.map,
                &format!("actions/download-artifact: {key}"),
                value,
                "all artifacts of the stages before are there",
            );
        }
    }
}

fn codecov(draft: &Draft, stage: &mut Stage, uses: &Tree, with: &Tree) {
    let files = with.get("files").or_else(|| with.get("file")).and_then(Tree::text).map(str::to_owned);
    match files {
        Some(files) => add_report(
            &mut stage.map,
            "coverage",
            parts::one_or_more(
                &files.split(',').map(|file| file.trim().trim_start_matches("./").to_owned()).collect::<Vec<_>>(),
            ),
        ),
        None => draft.notes.lost(
            &mut stage.map,
            "uses",
            uses,
            "it looks for a file by itself; write `reports: {coverage: FILE}`",
        ),
    }
}
