//! Projects of each kind, and the manifest that each gets.

use std::fs;

use super::*;

/// The manifest for a folder with these files, without comments.
fn proposed(files: &[(&str, &str)], image: Option<&str>) -> Proposal {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("project");
    fs::create_dir(&folder).unwrap();
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    propose(&folder, image)
}

/// Checks what is found, and that each of these texts stands in the manifest, and none of those after `!`.
#[track_caller]
fn check(files: &[(&str, &str)], image: Option<&str>, found: &str, parts: &[&str]) {
    let proposal = proposed(files, image);
    assert_eq!(proposal.found.join(", "), found);
    for part in parts {
        let (absent, text) = part.strip_prefix('!').map_or((false, *part), |text| (true, text));
        assert_eq!(!proposal.manifest.contains(text), absent, "{part} in\n{}", proposal.manifest);
    }
}

const RUST: &[(&str, &str)] = &[("Cargo.toml", "[package]\nname = \"x\"\nedition = \"2021\"\n"), ("Cargo.lock", "")];
const NODE: &[(&str, &str)] = &[
    (
        "package.json",
        r#"{"scripts": {"test": "node --test", "lint": "eslint .", "build": "tsc"}, "engines": {"node": "20.x"}}"#,
    ),
    ("package-lock.json", "{}"),
];
const PYTHON: &[(&str, &str)] = &[
    (
        "pyproject.toml",
        "[build-system]\nrequires = [\"setuptools\"]\n[project]\nname = \"x\"\n[project.optional-dependencies]\ntest = [\"pytest>=8\"]\n\
         [tool.mypy]\nstrict = true\n[tool.coverage.run]\nbranch = true\n",
    ),
    (".flake8", ""),
    ("requirements.txt", "requests\n"),
    ("requirements-dev.txt", "pytest\n"),
    ("src/x/__init__.py", ""),
    ("tests/test_x.py", "import pytest\n"),
];

#[test]
fn rust_projects() {
    check(
        RUST,
        None,
        "Rust (Cargo.toml)",
        &[
            "image: rust:1-bookworm\n",
            "stages: [build, [test, lint]]",
            "cargo test --locked",
            "key: [Cargo.toml, Cargo.lock]",
            "!apt-get",
        ],
    );
    check(
        &[("Cargo.toml", "[workspace]\nmembers = []\n")],
        None,
        "Rust (Cargo.toml)",
        &["cargo build --workspace\n", "!--locked"],
    );
    check(
        RUST,
        Some("debian:bookworm-slim"),
        "Rust (Cargo.toml)",
        &["image: debian:bookworm-slim\n", " cargo ", "!rustup-init.sh", "apt-get update -qq"],
    );
    check(
        &[("Cargo.toml", "[package]\nedition = \"2024\"\n")],
        Some("debian:bookworm-slim"),
        "Rust (Cargo.toml)",
        &["/rustup-init.sh\n", " curl ", "!| sh"],
    );
    for (version, rustup) in [("1.36", false), ("1.63.0", false), ("1.80", true)] {
        let toml = format!("[package]\nedition = \"2021\"\nrust-version = \"{version}\"\n");
        let expect = if rustup { "rustup-init.sh" } else { "!rustup-init.sh" };
        check(&[("Cargo.toml", toml.as_str())], Some("debian:12"), "Rust (Cargo.toml)", &[expect]);
    }
    check(
        RUST,
        Some("registry.example.org/tools:7"),
        "Rust (Cargo.toml)",
        &["image: registry.example.org/tools:7\n", "!apt-get"],
    );
}

#[test]
fn python_projects() {
    check(
        PYTHON,
        None,
        "Python (pyproject.toml)",
        &[
            "stages: [[test, flake8, mypy], package]",
            "pip install pytest coverage flake8 mypy build",
            "pip install -r requirements-dev.txt -r requirements.txt",
            "pip install -e '.[test]'",
            "coverage run -m pytest --junitxml=junit.xml",
            "coverage: coverage.xml",
            "mypy src",
            "artifacts: [dist/*]",
        ],
    );
    check(PYTHON, Some("debian:12"), "Python (pyproject.toml)", &["python3-pip", "PIP_BREAK_SYSTEM_PACKAGES=1"]);
    let tox = ("tox.ini", "[tox]\nenvlist = py312, lint\n");
    check(
        &[tox, ("setup.py", "")],
        None,
        "Python (setup.py)",
        &["stages: [tox]", "tox run", "pip install tox\n", "!unittest"],
    );
    check(
        &[("setup.py", ""), ("tests/__init__.py", ""), ("tests/test_a.py", "import unittest\n")],
        None,
        "Python (setup.py)",
        &["python -m unittest discover -s tests -t . -v", "pip install -e '.'"],
    );
    check(
        &[("requirements.txt", "flask\n")],
        None,
        "Python (requirements.txt)",
        &["compileall", "pip install -r requirements.txt"],
    );
}

#[test]
fn node_projects() {
    check(
        NODE,
        None,
        "Node (package.json)",
        &[
            "image: node:20-bookworm\n",
            "stages: [install, [lint, test], build]",
            "- npm ci\n",
            "npm run test",
            "key: [package-lock.json]",
        ],
    );
    let bare = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
    check(
        &[("package.json", bare)],
        None,
        "Node (package.json)",
        &["stages: [install]\n", "- npm install\n", "node:22"],
    );
    check(
        &[("package.json", r#"{"scripts": {"test": "vitest"}}"#), ("pnpm-lock.yaml", ""), (".nvmrc", "v24.1.0\n")],
        None,
        "Node (package.json)",
        &[
            "pnpm install --frozen-lockfile",
            "--outputFile.junit=junit.xml",
            "junit: junit.xml",
            "node:24-bookworm",
            "!pnpm run test -- ",
        ],
    );
    check(
        &[("package.json", "{}"), ("yarn.lock", "")],
        Some("ubuntu"),
        "Node (package.json)",
        &["npm install --global yarn", "nodejs"],
    );
    check(&[("package.json", "no json")], None, "Node (package.json)", &["stages: [install]\n"]);
}

#[test]
fn projects_of_other_languages() {
    check(
        &[("go.mod", "module x\n"), ("go.sum", "")],
        None,
        "Go (go.mod)",
        &["golang:1.25-bookworm", "stages: [build, [test, lint]]", "go mod download", "files: [go.mod, go.sum]"],
    );
    check(
        &[("pom.xml", ""), ("mvnw", "")],
        None,
        "Java with Maven (pom.xml)",
        &["sh mvnw -B -ntp verify", "surefire-reports", "maven:3"],
    );
    check(
        &[("pom.xml", "")],
        Some("debian:bookworm-slim"),
        "Java with Maven (pom.xml)",
        &["- mkdir -p /usr/share/man/man1\n", "ca-certificates default-jdk-headless maven"],
    );
    check(
        &[("build.gradle.kts", "")],
        None,
        "Java with Gradle (build.gradle.kts)",
        &["gradle:8-jdk21", "gradle --no-daemon build"],
    );
    check(
        &[("CMakeLists.txt", "")],
        None,
        "C or C++ (CMakeLists.txt)",
        &["gcc:14-bookworm", "--no-install-recommends cmake", "stages: [build, test]", "junit: build/junit.xml"],
    );
    check(&[("configure.ac", "")], None, "C or C++ (configure.ac)", &["autoreconf", "make check"]);
    check(
        &[("Makefile", "all:\ncheck: all\n"), ("main.c", "")],
        Some("debian"),
        "C or C++ (Makefile)",
        &["make check", "build-essential"],
    );
    check(&[("Makefile", "all:\n"), ("src/a.cpp", "")], None, "C or C++ (Makefile)", &["stages: [build]\n"]);
    check(
        &[("Dockerfile", "")],
        None,
        "a container image (Dockerfile)",
        &["docker: true", "docker build --tag project:test ."],
    );
    check(&[("Makefile", "all:\n")], None, "", &["build:", "- ls\n"]);
    check(&[], Some("debian:12"), "", &["image: debian:12\n", "- ls\n"]);
}

#[test]
fn several_at_once() {
    let all: Vec<(&str, &str)> = [RUST, NODE, &[("Dockerfile", "")]].concat();
    check(
        &all,
        None,
        "Rust (Cargo.toml), Node (package.json), a container image (Dockerfile)",
        &[
            "image: rust:1-bookworm\n",
            "stages:\n  - rust-build\n  - install\n  - [rust-test, rust-lint, node-lint, node-test]\n  - node-build\n  - container-image\n",
            "install:\n  # Runs by itself, so the stages after it find node_modules/.\n  image: node:20-bookworm",
            "image: docker:28-cli",
        ],
    );
    check(
        &all,
        Some("debian:bookworm-slim"),
        "Rust (Cargo.toml), Node (package.json), a container image (Dockerfile)",
        &["nodejs", "cargo", "docker.io", "!node:20", "!docker:28"],
    );
}

/// Whatever is proposed is a manifest.
#[test]
fn every_proposal_is_a_manifest() {
    let folders: [&[(&str, &str)]; 10] = [
        &[],
        RUST,
        NODE,
        PYTHON,
        &[("go.mod", "")],
        &[("pom.xml", "")],
        &[("build.gradle", "")],
        &[("CMakeLists.txt", "")],
        &[("configure.ac", ""), ("Dockerfile", "")],
        &[("tox.ini", "[tox]\n"), ("setup.py", "")],
    ];
    let all: Vec<(&str, &str)> = folders.concat();
    for files in folders.into_iter().chain([all.as_slice()]) {
        for image in [None, Some("debian:bookworm-slim"), Some("example.org/tools:1")] {
            let manifest = proposed(files, image).manifest;
            if let Err(error) = crate::manifest::read(manifest.as_bytes(), ".buildr.yml") {
                panic!("{files:?}\n{manifest}\n{error}");
            }
        }
    }
}
