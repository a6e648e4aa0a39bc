//! Real projects are built and tested with the manifest that `buildr init` writes for them: nobody touches it. Most of
//! them are as their source packages lie in the registries, each fetched by its registry's own client. What containers
//! need to reach the registries from this machine `BUILDR_TEST_REACH` says, as words for `buildr run`.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;
use uuid::Uuid;

/// A variable by which the images are known that a test made, its own and what `prepare` makes of that.
const MARK: &str = "BUILDR_TEST_PROJECT";

/// Nothing here takes as long, on the slowest machine and line.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Variables by which programs are told of a proxy: where this machine has them, its containers need them too.
const PROXIES: [&str; 8] =
    ["http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];

/// A project, and the folders of a person who has never built anything.
struct Project {
    folder: TempDir,
    docker: Docker,
    mark: String,
    /// The bare Debian that it is built in, under a name of its own.
    image: String,
}

/// A setting of the tests.
#[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// What a program printed, and how it ended.
struct Ran {
    words: String,
    code: Option<i32>,
    out: String,
}

impl Ran {
    #[track_caller]
    fn check(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.words, self.out);
        for part in parts {
            assert!(self.out.contains(part), "{}: {part:?} is not in\n{}", self.words, self.out);
        }
        self
    }
}

impl Project {
    /// An empty one; nothing where registries need not be reached.
    async fn new() -> Option<Self> {
        if !setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "registries") {
            eprintln!("skipped: BUILDR_TEST_REQUIRE does not name `registries`");
            return None;
        }
        let docker = Docker::connect_with_defaults().unwrap();
        docker.ping().await.expect("a Docker daemon, for registries are required");
        let folder = tempfile::tempdir().unwrap();
        for name in ["cache", "state", "runtime", "config", "fetched", "project"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let id = Uuid::new_v4().simple();
        let project = Self { folder, docker, mark: format!("{MARK}={id}"), image: format!("buildr-test-{id}/debian") };
        project.make_image().await;
        Some(project)
    }

    /// Debian as it is, but for the variable by which its images are found again.
    async fn make_image(&self) {
        let body = ContainerCreateBody {
            image: Some(setting("BUILDR_TEST_IMAGE", "debian:bookworm-slim")),
            ..ContainerCreateBody::default()
        };
        let made = self.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let options =
            CommitContainerOptionsBuilder::default().container(&made).repo(&self.image).tag("bookworm").build();
        let config = ContainerConfig { env: Some(vec![self.mark.clone()]), ..ContainerConfig::default() };
        self.docker.commit_container(options, config).await.unwrap();
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.docker.remove_container(&made, Some(options)).await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a program to its end, with this person's folders and everything else as it is on this machine.
    async fn run(&self, place: &str, program: impl AsRef<Path>, words: &[&str]) -> Ran {
        let program = program.as_ref();
        let mut command = Command::new(program);
        for (name, folder) in
            [("CACHE_HOME", "cache"), ("STATE_HOME", "state"), ("RUNTIME_DIR", "runtime"), ("CONFIG_HOME", "config")]
        {
            command.env(format!("XDG_{name}"), self.path(folder));
        }
        command.args(words).current_dir(self.path(place)).stdin(Stdio::null()).kill_on_drop(true);
        let said = format!("{} {}", program.display(), words.join(" "));
        let output = timeout(PATIENCE, command.output()).await.unwrap_or_else(|_| panic!("{said} does not end"));
        let output = output.unwrap_or_else(|error| panic!("{said}: {error}"));
        let out = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ran { words: said, code: output.status.code(), out: out.into_owned() }
    }

    /// Fetches with a registry's own client.
    async fn fetch(&self, program: &str, words: &[&str]) {
        self.run("fetched", program, words).await.check(0, &[]);
    }

    /// Unpacks an archive, without its outermost folder, as the project.
    async fn unpack(&self, archive: &str) {
        let into = self.path("project");
        let words = ["-xzf", archive, "--strip-components", "1", "--no-same-owner", "-C", into.to_str().unwrap()];
        self.run("fetched", "tar", &words).await.check(0, &[]);
    }

    /// A project that lies beside these tests, as a person has it.
    fn copy(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("projects").join(name);
        for entry in files_below(&from) {
            let to = self.path("project").join(entry.strip_prefix(&from).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&entry, to).unwrap();
        }
    }

    async fn commit(&self) {
        let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"];
        for words in [["init", "-q"].as_slice(), &["add", "."], &["commit", "-q", "-m", "as it is published"]] {
            self.run("project", "git", &[&who, words].concat()).await.check(0, &[]);
        }
    }

    async fn buildr(&self, words: &[&str]) -> Ran {
        let here = std::env::current_exe().unwrap();
        let program = here.parent().and_then(Path::parent).unwrap().join("buildr");
        self.run("project", program, words).await
    }

    /// `init`, `check`, `run`: what was found, and what the build must show.
    #[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
    async fn is_built(&self, found: &str, shown: &[&str]) {
        self.commit().await;
        self.buildr(&["init", "--image", &format!("{}:bookworm", self.image)]).await.check(0, &[found, "written"]);
        self.buildr(&["check", "--strict"]).await.check(0, &[]);
        let reach = setting("BUILDR_TEST_REACH", "");
        let mut words: Vec<&str> = ["run"].into_iter().chain(reach.split_whitespace()).collect();
        let proxies: Vec<String> =
            PROXIES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?))).collect();
        for proxy in &proxies {
            words.extend(["--env", proxy]);
        }
        let manifest = fs::read_to_string(self.path("project/.buildr.yml")).unwrap();
        let ran = self.buildr(&words).await;
        assert_eq!(ran.code, Some(0), "the build has not passed; the manifest is\n{manifest}\n{}", ran.out);
        ran.check(0, shown);
    }

    /// The one file in the folder of what was fetched that ends so.
    fn fetched(&self, end: &str) -> String {
        let all = fs::read_dir(self.path("fetched")).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let found: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // In a runtime of its own: what is dropped within one may not wait for another.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(remove_images(&self.image, &self.mark));
            });
        });
    }
}

/// The files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Removes an image, and what `prepare` made of it and keeps for later runs.
async fn remove_images(own: &str, mark: &str) {
    let docker = Docker::connect_with_defaults().unwrap();
    let mut found = Vec::new();
    for image in docker.list_images(Some(ListImagesOptionsBuilder::default().build())).await.unwrap() {
        // One that another test removes meanwhile is none of ours.
        let Ok(seen) = docker.inspect_image(&image.id).await else { continue };
        if seen.config.and_then(|config| config.env).unwrap_or_default().iter().any(|variable| variable == mark) {
            found.push((image.repo_tags.iter().any(|tag| tag.starts_with(own)), image.id));
        }
    }
    // What was made of it goes first.
    found.sort();
    for (_, id) in found {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        docker.remove_image(&id, Some(options), None).await.ok();
    }
}

/// A source distribution of a Python package: with tox, as its authors set it up.
#[tokio::test]
async fn a_python_package() {
    let Some(project) = Project::new().await else { return };
    let words = ["-m", "pip", "download", "--no-deps", "--no-binary", "more-itertools", "more-itertools==10.5.0"];
    project.fetch("python3", &words).await;
    project.unpack(&project.fetched(".tar.gz")).await;
    project.is_built("found: Python", &["test_recipes", "OK"]).await;
}

/// What a team's Python project has, in `tests/projects/wordy`: tox with pytest, coverage, flake8, mypy and build.
#[tokio::test]
async fn a_python_project_with_all_its_tools() {
    let Some(project) = Project::new().await else { return };
    project.copy("wordy");
    let shown = ["py3: OK", "lint: OK", "type: OK", "build: OK", "Successfully built wordy", "(2 files, "];
    project.is_built("found: Python", &shown).await;
}

/// The same without tox: each of the tools is a stage.
#[tokio::test]
async fn a_python_project_whose_tools_are_stages() {
    let Some(project) = Project::new().await else { return };
    project.copy("wordy");
    fs::remove_file(project.path("project/tox.ini")).unwrap();
    let stages = ["prepare ", "test ", "flake8 ", "mypy ", "package "].map(|stage| format!("passed    {stage}"));
    let shown = ["3 tests passed", "100.00% of the lines covered", "Success: no issues found"];
    project.is_built("found: Python", &stages.iter().map(String::as_str).chain(shown).collect::<Vec<_>>()).await;
}

/// A crate: `cargo vendor` fetches it as a dependency of a package that has nothing else.
#[tokio::test]
async fn a_rust_crate() {
    let Some(project) = Project::new().await else { return };
    let fetched = project.path("fetched");
    fs::create_dir(fetched.join("src")).unwrap();
    fs::write(fetched.join("src/lib.rs"), "").unwrap();
    let package = "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
                   [dependencies]\nstrsim = \"=0.11.1\"\n[workspace]\n";
    fs::write(fetched.join("Cargo.toml"), package).unwrap();
    project.fetch("cargo", &["vendor", "--quiet"]).await;
    fs::remove_dir(project.path("project")).unwrap();
    fs::rename(fetched.join("vendor/strsim"), project.path("project")).unwrap();
    project.is_built("found: Rust", &["jaro_winkler", "test result: ok"]).await;
}

/// A package of npm's that carries its tests, and needs others for them.
#[tokio::test]
async fn a_node_package() {
    let Some(project) = Project::new().await else { return };
    project.fetch("npm", &["pack", "--silent", "deep-equal@1.0.1"]).await;
    project.unpack(&project.fetched(".tgz")).await;
    project.is_built("found: Node", &["# tests", "# ok"]).await;
}
