//! JavaScript and TypeScript, told by `package.json`.

use serde_json::Value;

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

/// A package manager: how it installs, what it keeps, and its lock file.
struct Tool {
    run: &'static str,
    install: Vec<String>,
    kept: &'static str,
    lock: Option<&'static str>,
    /// What installs the tool itself where only npm is there.
    bare: Option<&'static str>,
}

pub(super) fn part(folder: &Folder) -> Option<Part> {
    if !folder.has("package.json") {
        return None;
    }
    let package: Value = serde_json::from_str(&folder.text("package.json")).unwrap_or(Value::Null);
    let tool = tool(folder);
    let mut files = texts(&["package.json"]);
    files.extend(tool.lock.map(str::to_owned));
    let mut ideas = vec![
        Idea::new("install", Turn::Build, tool.install.clone())
            .about("Runs by itself, so the stages after it find node_modules/."),
    ];
    ideas.extend(scripts(&package, tool.run));
    let lock = tool.lock.unwrap_or("package.json");
    Some(Part {
        title: "Node",
        told_by: "package.json".to_owned(),
        image: format!("node:{}-bookworm", version(folder, &package)),
        packages: vec!["nodejs", "npm", "git"],
        bare: tool.bare.map(str::to_owned).into_iter().collect(),
        prepare: Vec::new(),
        files,
        kept: Some(Kept { paths: texts(&[tool.kept]), key: texts(&[lock]) }),
        ideas,
        ..Part::default()
    })
}

fn tool(folder: &Folder) -> Tool {
    if folder.has("pnpm-lock.yaml") {
        let install = texts(&["command -v pnpm || corepack enable", "pnpm install --frozen-lockfile"]);
        let bare = Some("npm install --global pnpm");
        Tool { run: "pnpm", install, kept: "~/.local/share/pnpm/store", lock: Some("pnpm-lock.yaml"), bare }
    } else if folder.has("yarn.lock") {
        let newer = folder.has(".yarnrc.yml");
        let flag = if newer { "--immutable" } else { "--frozen-lockfile" };
        let install = texts(&["command -v yarn || corepack enable", &format!("yarn install {flag}")]);
        let kept = if newer { "~/.yarn/berry/cache" } else { "~/.cache/yarn" };
        Tool { run: "yarn", install, kept, lock: Some("yarn.lock"), bare: Some("npm install --global yarn") }
    } else {
        let lock = folder.first(&["package-lock.json", "npm-shrinkwrap.json"]);
        let install = if lock.is_some() { "npm ci" } else { "npm install" };
        Tool { run: "npm", install: texts(&[install]), kept: "~/.npm", lock, bare: None }
    }
}

/// The major version that the project names, else the one with long support.
fn version(folder: &Folder, package: &Value) -> String {
    let named = [folder.text(".nvmrc"), folder.text(".node-version")];
    let engine = package["engines"]["node"].as_str().unwrap_or_default().to_owned();
    // A lower bound such as `>=18` is met by the usual one.
    let exact = !engine.contains(['>', '<', '|', '*', ' ']);
    let texts = named.iter().map(String::as_str).chain(exact.then_some(engine.as_str()));
    let major = |text: &str| {
        let digits: String =
            text.trim().trim_start_matches(['v', '^', '~']).chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    };
    texts.filter_map(major).next().unwrap_or_else(|| "22".to_owned())
}

/// Stages for the scripts that the project has.
fn scripts(package: &Value, run: &str) -> Vec<Idea> {
    let script = |name: &str| package["scripts"][name].as_str();
    let call = |name: &str| format!("{run} run {name}");
    let mut ideas = Vec::new();
    for name in ["lint", "typecheck", "type-check", "types"] {
        if script(name).is_some() {
            let stage = if name == "lint" { "lint" } else { "types" };
            if !ideas.iter().any(|idea: &Idea| idea.name == stage) {
                let idea = Idea::new(stage, Turn::Test, [call(name)]);
                let about = "Shown, but no reason to fail; remove allow_failure to make it one.";
                ideas.push(if stage == "lint" { idea.about(about).may_fail() } else { idea });
            }
        }
    }
    // What `npm init` writes is no test.
    if let Some(test) = script("test").filter(|test| !test.contains("no test specified")) {
        let own = |words: &str| test.trim() == words || test.trim().starts_with(&format!("{words} "));
        let mut idea = Idea::new("test", Turn::Test, [call("test")]);
        let separator = if run == "npm" { " --" } else { "" };
        if own("vitest") {
            idea.script = vec![format!(
                "{}{separator} --run --reporter=default --reporter=junit --outputFile.junit=junit.xml",
                call("test")
            )];
            idea.junit = texts(&["junit.xml"]);
        }
        ideas.push(idea);
    }
    if script("build").is_some() {
        let mut build = Idea::new("build", Turn::Package, [call("build")]);
        build.artifacts = texts(&["dist/**", "build/**"]);
        ideas.push(build);
    }
    ideas
}
