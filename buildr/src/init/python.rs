//! Python, told by `pyproject.toml`, `setup.cfg`, `setup.py`, `tox.ini` or `requirements.txt`.

use toml::Value;

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

/// What a project says about itself.
struct Project<'f> {
    folder: &'f Folder,
    toml: Value,
    /// Files of requirements, the longest known first.
    requirements: Vec<String>,
    /// All texts that name packages or tools.
    texts: String,
}

pub(super) fn part(folder: &Folder) -> Option<Part> {
    let told_by = folder.first(&["pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "requirements.txt"])?;
    let requirements: Vec<String> = folder
        .files(".")
        .into_iter()
        .filter(|name| name.starts_with("requirements") && name.ends_with(".txt"))
        .collect();
    let named = ["pyproject.toml", "setup.cfg", "setup.py", "tox.ini"];
    let mut all: String = named.iter().map(|name| folder.text(name)).collect();
    requirements.iter().for_each(|name| all += &folder.text(name));
    let toml = Value::Table(toml::from_str(&folder.text("pyproject.toml")).unwrap_or_default());
    let project = Project { folder, toml, requirements, texts: all };
    let ideas = project.ideas();
    let mut files = project.requirements.clone();
    files.extend(named.iter().filter(|name| folder.has(name)).map(|name| (*name).to_owned()));
    Some(Part {
        title: "Python",
        told_by: told_by.to_owned(),
        image: "python:3.13-slim-bookworm".to_owned(),
        packages: vec![
            "python3",
            "python3-dev",
            "python3-pip",
            "python3-venv",
            "python-is-python3",
            "gcc",
            "libc6-dev",
            "git",
        ],
        prepare: project.prepare(),
        kept: Some(Kept { paths: texts(&["~/.cache/pip"]), key: files.clone() }),
        files,
        variables: vec![("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("PIP_ROOT_USER_ACTION", "ignore")],
        // Debian keeps its own Python from pip otherwise; this one is nobody's but the build's.
        bare_variables: vec![("PIP_BREAK_SYSTEM_PACKAGES", "1")],
        ideas,
        ..Part::default()
    })
}

impl Project<'_> {
    fn uses_tox(&self) -> bool {
        self.folder.has("tox.ini") && self.folder.text("tox.ini").contains("[tox]")
            || self.tool("tox").is_some()
            || self.folder.text("setup.cfg").contains("[tox:tox]")
    }

    fn tool(&self, name: &str) -> Option<&Value> {
        self.toml.get("tool")?.get(name)
    }

    /// Whether the project names a tool: by a section of its own, by a file of the tool's, or as a package.
    fn uses(&self, name: &str, files: &[&str]) -> bool {
        self.tool(name).is_some()
            || files.iter().any(|file| self.folder.has(file))
            || self.texts.lines().any(|line| {
                let line = line.trim().trim_start_matches(['"', '\'', '[']);
                line.strip_prefix(name).is_some_and(|rest| {
                    rest.is_empty()
                        || rest.starts_with(['=', '>', '<', '~', '!', '"', '\'', ']', ' ', ',', ';', '[', ':'])
                }) || line.contains(&format!("\"{name}\""))
                    || line.contains(&format!("'{name}'"))
                    || line.contains(&format!("\"{name}>"))
            })
    }

    fn is_package(&self) -> bool {
        self.folder.has("setup.py")
            || self.toml.get("build-system").is_some()
            || self.toml.get("project").is_some()
            || self.folder.text("setup.cfg").contains("[metadata]")
    }

    /// The extras that hold what tests need.
    fn extras(&self) -> String {
        let optional = self.toml.get("project").and_then(|project| project.get("optional-dependencies"));
        let from_cfg = self.folder.text("setup.cfg");
        let section =
            from_cfg.split_once("[options.extras_require]").map(|(_, rest)| rest.split("\n[").next().unwrap_or(rest));
        let has = |name: &str| {
            optional.is_some_and(|optional| optional.get(name).is_some())
                || section.is_some_and(|section| {
                    section.lines().any(|line| line.split('=').next().is_some_and(|key| key.trim_end() == name))
                })
        };
        let found: Vec<&str> = ["test", "tests", "testing", "dev"].into_iter().filter(|name| has(name)).collect();
        if found.is_empty() { String::new() } else { format!("[{}]", found.join(",")) }
    }

    /// What is installed once, for all stages.
    fn prepare(&self) -> Vec<String> {
        let mut tools = Vec::new();
        if self.uses_tox() {
            tools.push("tox");
        } else {
            for (tool, wanted) in [("pytest", self.uses_pytest()), ("coverage", self.covers())] {
                if wanted {
                    tools.push(tool);
                }
            }
            for (tool, files) in CHECKERS {
                if self.uses(tool, files) {
                    tools.push(tool);
                }
            }
        }
        if self.builds() {
            tools.push("build");
        }
        let mut lines = Vec::new();
        if !tools.is_empty() {
            lines.push(format!("pip install {}", tools.join(" ")));
        }
        if !self.uses_tox() {
            let flags: Vec<String> = self.requirements.iter().map(|name| format!("-r {name}")).collect();
            if !flags.is_empty() {
                lines.push(format!("pip install {}", flags.join(" ")));
            }
        }
        lines
    }

    fn uses_pytest(&self) -> bool {
        self.uses("pytest", &["pytest.ini", "conftest.py", "tests/conftest.py"])
            || ["tests", "test"].iter().any(|place| {
                self.folder
                    .files(place)
                    .iter()
                    .any(|name| self.folder.text(&format!("{place}/{name}")).contains("import pytest"))
            })
    }

    fn covers(&self) -> bool {
        self.uses("coverage", &[".coveragerc"]) || self.uses("pytest-cov", &[])
    }

    fn builds(&self) -> bool {
        self.toml.get("build-system").is_some()
    }

    fn ideas(&self) -> Vec<Idea> {
        let mut ideas = Vec::new();
        if self.uses_tox() {
            ideas.push(
                Idea::new("tox", Turn::Test, ["tox run --skip-missing-interpreters true"])
                    .about("Environments of Pythons that the image does not have are skipped."),
            );
        } else {
            ideas.push(self.test());
            for (tool, files) in CHECKERS {
                if self.uses(tool, files) {
                    ideas.push(self.checker(tool));
                }
            }
        }
        if self.builds() {
            let mut package = Idea::new("package", Turn::Package, ["python -m build"]);
            package.artifacts = texts(&["dist/*"]);
            ideas.push(package);
        }
        ideas
    }

    fn install(&self) -> Vec<String> {
        if self.is_package() { vec![format!("pip install -e '.{}'", self.extras())] } else { Vec::new() }
    }

    fn test(&self) -> Idea {
        let mut script = self.install();
        let with_tests = ["tests", "test"].iter().any(|place| self.folder.has_folder(place))
            || self.folder.files(".").iter().any(|name| name.starts_with("test_") && name.ends_with(".py"));
        let mut idea = Idea::new("test", Turn::Test, Vec::<String>::new());
        if self.uses_pytest() {
            let junit = "--junitxml=junit.xml";
            idea.junit = texts(&["junit.xml"]);
            if self.covers() {
                script.extend([
                    format!("coverage run -m pytest {junit}"),
                    "coverage xml -o coverage.xml".to_owned(),
                    "coverage report".to_owned(),
                ]);
                idea.coverage = Some("coverage.xml".to_owned());
            } else {
                script.push(format!("python -m pytest {junit}"));
            }
        } else if with_tests {
            let place = ["tests", "test"].into_iter().find(|place| self.folder.has_folder(place));
            let found = place.map(|place| format!(" -s {place} -t .")).unwrap_or_default();
            // Without an __init__.py, the folder of the tests is where they begin.
            let is_package = place.is_none_or(|place| self.folder.has(&format!("{place}/__init__.py")));
            let found = if is_package { found } else { found.replace(" -t .", "") };
            script.push(format!("python -m unittest discover{found} -v"));
        } else {
            idea.about = "There are no tests that `buildr init` knows; this only compiles.".to_owned();
            script.push("python -m compileall -q .".to_owned());
        }
        idea.script = script;
        idea
    }

    fn checker(&self, tool: &'static str) -> Idea {
        let place = ["src", &self.folder.name().replace('-', "_")]
            .into_iter()
            .find(|place| self.folder.has_folder(place))
            .map_or(".", |place| if place == "src" { "src" } else { "." });
        let (name, mut script): (&'static str, Vec<String>) = match tool {
            "flake8" => ("flake8", vec!["flake8".to_owned()]),
            "ruff" => ("ruff", vec!["ruff check".to_owned()]),
            "black" => ("black", vec!["black --check .".to_owned()]),
            _ => {
                // Types of what it imports count.
                let mut lines = self.install();
                let own =
                    self.tool("mypy").is_some_and(|mypy| mypy.get("files").is_some() || mypy.get("packages").is_some())
                        || self.folder.mentions(&["mypy.ini", "setup.cfg"], &["\nfiles", "\npackages"]);
                lines.push(if own { "mypy".to_owned() } else { format!("mypy {place}") });
                ("mypy", lines)
            }
        };
        if tool == "flake8" {
            // What other stages leave is not there, but a virtual environment of a person's may be.
            script = vec!["flake8 --extend-exclude=.venv,venv,.tox,build,dist".to_owned()];
        }
        Idea::new(name, Turn::Test, script)
            .about("Shown, but no reason to fail; remove allow_failure to make it one.")
            .may_fail()
    }
}

/// Tools that look at the code, and the files that set them up.
const CHECKERS: [(&str, &[&str]); 4] = [
    ("flake8", &[".flake8"]),
    ("mypy", &["mypy.ini", ".mypy.ini"]),
    ("ruff", &["ruff.toml", ".ruff.toml"]),
    ("black", &[]),
];
