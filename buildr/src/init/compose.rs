//! One manifest of all that was found.

use super::part::{Idea, Part, Turn};
use crate::manifest::{Map, Value};

/// Where the tools come from.
enum Tools<'i> {
    /// Each language's own image.
    Images,
    /// Debian packages, installed into this image.
    Packages(&'i str),
    /// This image has them, whoever chose it says.
    There(&'i str),
}

/// The text of a manifest for these parts.
pub(super) fn manifest(parts: &[Part], image: Option<&str>) -> String {
    let tools = match image {
        None => Tools::Images,
        Some(image) if is_bare(image) => Tools::Packages(image),
        Some(image) => Tools::There(image),
    };
    let mut top = Map::default();
    top.remark("Written by `buildr init`. It is yours now: change what does not fit.");
    top.remark("`buildr check` looks it over, `buildr run` runs it here, `buildr explain KEY` tells of a key.");
    let Some(main) = parts.first() else { return unknown(top, &tools) };
    let main_image = match tools {
        Tools::Images => main.image.as_str(),
        Tools::Packages(image) | Tools::There(image) => image,
    };
    top.set("image", main_image);
    set_variables(&mut top, parts, &tools);
    set_cache(&mut top, parts);
    set_stages(&mut top, parts);
    set_prepare(&mut top, parts, &tools);
    for (at, part) in parts.iter().enumerate() {
        let own = (at > 0 && matches!(tools, Tools::Images)).then_some(part);
        for idea in &part.ideas {
            let name = name(parts, part, idea);
            top.set(&name, stage(idea, own));
            top.set_apart(&name);
        }
    }
    top.document()
}

/// Whether an image is a distribution without any language's tools.
fn is_bare(image: &str) -> bool {
    let path = image.split('@').next().unwrap_or(image);
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name.split(':').next(), Some("debian" | "ubuntu" | "buildpack-deps"))
}

fn unknown(mut top: Map, tools: &Tools<'_>) -> String {
    let image = match tools {
        Tools::Images => "debian:bookworm-slim",
        Tools::Packages(image) | Tools::There(image) => image,
    };
    top.set("image", image);
    let build = Map::of("script", Value::lines(["ls"]));
    top.set("build", build);
    top.set_apart("build");
    top.remark_on("build", "Nothing here told how the project is built: write its commands in place of `ls`.");
    top.document()
}

/// A stage's name: with the language's where several have one of the kind.
fn name(parts: &[Part], part: &Part, idea: &Idea) -> String {
    let same = parts.iter().flat_map(|part| &part.ideas).filter(|other| other.name == idea.name).count();
    // `image` is a key of the manifest.
    if same == 1 && idea.name != "image" {
        return idea.name.to_owned();
    }
    let word = match part.title {
        "C or C++" => "c",
        "a container image" => "container",
        title => title.split(' ').next().unwrap_or(title),
    };
    format!("{}-{}", word.to_lowercase(), idea.name)
}

fn set_variables(top: &mut Map, parts: &[Part], tools: &Tools<'_>) {
    let mut vars: Vec<String> = Vec::new();
    let bare = matches!(tools, Tools::Packages(_));
    if bare {
        vars.push("DEBIAN_FRONTEND=noninteractive".to_owned());
    }
    for part in parts {
        vars.extend(part.variables.iter().map(|(name, value)| format!("{name}={value}")));
        if bare {
            vars.extend(part.bare_variables.iter().map(|(name, value)| format!("{name}={value}")));
        }
    }
    if !vars.is_empty() {
        top.set("environment", Map::of("vars", Value::lines(vars)));
    }
}

fn set_cache(top: &mut Map, parts: &[Part]) {
    let caches: Vec<Value> = parts
        .iter()
        .filter_map(|part| part.kept.as_ref())
        .map(|kept| {
            let mut map = Map::of("paths", Value::texts(kept.paths.clone()));
            map.set("key", Value::texts(kept.key.clone()));
            Value::Map(map)
        })
        .collect();
    if !caches.is_empty() {
        top.set("cache", Value::Lines(caches));
        top.remark_on("cache", "Kept between builds; made anew when one of the files in `key` changes.");
    }
}

/// Builds one after the other, tests beside each other, packages at the end.
fn set_stages(top: &mut Map, parts: &[Part]) {
    let of = |turn: Turn| -> Vec<String> {
        parts
            .iter()
            .flat_map(|part| part.ideas.iter().filter(move |idea| idea.turn == turn).map(move |idea| (part, idea)))
            .map(|(part, idea)| name(parts, part, idea))
            .collect()
    };
    let mut stages: Vec<Value> = of(Turn::Build).into_iter().map(Value::from).collect();
    let beside = of(Turn::Test);
    match beside.as_slice() {
        [] => {}
        [one] => stages.push(one.as_str().into()),
        several => stages.push(Value::texts(several.to_vec())),
    }
    stages.extend(of(Turn::Package).into_iter().map(Value::from));
    top.set("stages", Value::List(stages));
    top.set_apart("stages");
    let about = if beside.len() > 1 {
        "One after the other; those in brackets beside each other."
    } else {
        "One after the other, each in a fresh container."
    };
    top.remark_on("stages", about);
}

/// What all stages start from, kept between builds as an image.
fn set_prepare(top: &mut Map, parts: &[Part], tools: &Tools<'_>) {
    let Some(main) = parts.first() else { return };
    let mut packages: Vec<&str> = Vec::new();
    let mut script: Vec<String> = Vec::new();
    let mut files: Vec<String> = Vec::new();
    // Without packages, only what belongs to the top-level image: others have images of their own.
    let prepared = if matches!(tools, Tools::Images) { std::slice::from_ref(main) } else { parts };
    for part in prepared {
        match tools {
            Tools::Images => packages.extend(&part.more_packages),
            Tools::Packages(_) => {
                packages.extend(&part.packages);
                script.extend(part.bare.iter().cloned());
            }
            Tools::There(_) => {}
        }
        script.extend(part.prepare.iter().cloned());
        files.extend(part.files.iter().cloned());
    }
    if matches!(tools, Tools::Packages(_)) {
        packages.push("ca-certificates");
    }
    packages.sort_unstable();
    packages.dedup();
    let mut lines = Vec::new();
    if !packages.is_empty() {
        lines.extend(installs(&packages));
    }
    lines.extend(script);
    if lines.is_empty() {
        return;
    }
    let mut prepare = Map::default();
    if !files.is_empty() {
        prepare.set("files", Value::texts(files));
        prepare.remark_on("files", "It sees these files alone, and runs again only when one of them changes.");
    }
    prepare.set("script", Value::lines(lines));
    top.set("prepare", prepare);
    top.set_apart("prepare");
    top.remark_on("prepare", "Runs before the stages; they start from the image that it leaves behind.");
}

fn installs(packages: &[&str]) -> Vec<String> {
    let install = format!("apt-get install -y -qq --no-install-recommends {}", packages.join(" "));
    let mut lines = vec!["apt-get update -qq".to_owned(), install];
    if packages.iter().any(|package| package.contains("jdk")) {
        // Debian's Java cannot be installed without this folder, which its slim images do not have.
        lines.insert(1, "mkdir -p /usr/share/man/man1".to_owned());
    }
    lines
}

/// One stage. `own` is given where it has an image of its own, and does there what `prepare` does elsewhere.
fn stage(idea: &Idea, own: Option<&Part>) -> Map {
    let mut map = Map::default();
    if !idea.about.is_empty() {
        map.remark(idea.about.as_str());
    }
    let mut script = Vec::new();
    if let Some(part) = own {
        map.set("image", part.image.as_str());
        if !part.more_packages.is_empty() {
            script.extend(installs(&part.more_packages));
        }
        script.extend(part.prepare.iter().cloned());
    }
    script.extend(idea.script.iter().cloned());
    if idea.docker {
        map.set("docker", Value::Truth(true));
    }
    if idea.may_fail {
        map.set("allow_failure", Value::Truth(true));
    }
    map.set("script", Value::lines(script));
    let mut reports = Map::default();
    if let [one] = idea.junit.as_slice() {
        reports.set("junit", one.as_str());
    } else if !idea.junit.is_empty() {
        reports.set("junit", Value::texts(idea.junit.clone()));
    }
    if let Some(coverage) = &idea.coverage {
        reports.set("coverage", coverage.as_str());
    }
    if !reports.is_empty() {
        map.set("reports", reports);
    }
    if !idea.artifacts.is_empty() {
        map.set("artifacts", Value::texts(idea.artifacts.clone()));
    }
    map
}
