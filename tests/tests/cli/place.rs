//! A person's machine for one test: a home, a project, and the `buildr` program as the last build made it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

/// Nothing that a test waits for takes this long, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A variable by which images that come of this place's own are known.
const MARK: &str = "BUILDR_TEST_PLACE";

/// A home and a project; removed with all that the daemon has of it.
pub(crate) struct Place {
    folder: TempDir,
    mark: String,
    pub(crate) docker: Docker,
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Checks the exit code, and that the output and the errors hold what they should.
    #[track_caller]
    pub(crate) fn check(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self.shows(parts)
    }

    #[track_caller]
    pub(crate) fn shows(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(self.out.contains(part) || self.err.contains(part), "{part:?} is not in\n{self}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn hides(&self, parts: &[&str]) -> &Self {
        for part in parts {
            assert!(!self.out.contains(part) && !self.err.contains(part), "{part:?} is in\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}\n---", self.code, self.out, self.err)
    }
}

/// A program of the farm, as it stands beside the tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let path = here.parent().and_then(Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is not there; make it with `cargo build --release --workspace`", path.display());
    path
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line to read it from")]
pub(crate) fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The image that tests run in.
pub(crate) fn image() -> String {
    setting("BUILDR_TEST_IMAGE", "debian:bookworm-slim")
}

impl Place {
    /// A place with an empty project; nothing when there is no Docker, and none is required.
    pub(crate) async fn new() -> Option<Self> {
        let docker = Docker::connect_with_defaults().unwrap();
        if let Err(reason) = docker.ping().await {
            let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "docker");
            assert!(!required, "Docker is required and not there: {reason}");
            eprintln!("skipped: no Docker daemon ({reason})");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["home", "cache", "state", "runtime", "project"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::set_permissions(folder.path().join("runtime"), fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self { folder, mark: Uuid::new_v4().simple().to_string(), docker })
    }

    /// One whose project has this manifest; `IMAGE` in it is the image of the tests.
    pub(crate) async fn with(manifest: &str) -> Option<Self> {
        let place = Self::new().await?;
        place.write(".buildr.yml", manifest.replace("IMAGE", &image()));
        Some(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// Writes a file of the project.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A command of this person, in the project.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", setting("PATH", "/usr/bin:/bin")).env("HOME", self.path("home"));
        for (name, folder) in [("CACHE_HOME", "cache"), ("STATE_HOME", "state"), ("RUNTIME_DIR", "runtime")] {
            command.env(format!("XDG_{name}"), self.path(folder));
        }
        let host = setting("DOCKER_HOST", "");
        if !host.is_empty() {
            command.env("DOCKER_HOST", host);
        }
        command.current_dir(self.project()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    pub(crate) fn buildr(&self, words: &[&str]) -> Command {
        let mut command = self.command(program("buildr"));
        command.args(words);
        command
    }

    /// Runs `buildr` to its end.
    pub(crate) async fn run(&self, words: &[&str]) -> Ran {
        to_the_end(self.buildr(words)).await
    }

    /// Starts `buildr`, to be followed and signalled.
    pub(crate) fn start(&self, words: &[&str]) -> Live {
        start(self.buildr(words))
    }

    /// Runs git in the project.
    pub(crate) async fn git(&self, words: &[&str]) {
        let mut git = self.command("git");
        git.args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=main"]);
        git.args(words);
        to_the_end(git).await.check(0, &[]);
    }

    /// Makes a repository of the project, with all its files in one commit.
    pub(crate) async fn commit(&self) {
        self.git(&["init", "-q"]).await;
        self.git(&["add", "."]).await;
        self.git(&["commit", "-q", "-m", "first"]).await;
    }

    /// An image of this place's own, by which those that are made from it are known. `change` sets more of its
    /// configuration.
    pub(crate) async fn own_image(&self, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let body = ContainerCreateBody { image: Some(image()), ..ContainerCreateBody::default() };
        let made = self.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let name = format!("buildr-test-{}", self.mark);
        let options = CommitContainerOptionsBuilder::default().container(&made).repo(&name).tag("1").build();
        let mut config =
            ContainerConfig { env: Some(vec![format!("{MARK}={}", self.mark)]), ..ContainerConfig::default() };
        change(&mut config);
        self.docker.commit_container(options, config).await.unwrap();
        remove_container(&self.docker, &made).await;
        format!("{name}:1")
    }

    /// The containers that see one of this place's folders, or come of its own image.
    pub(crate) async fn containers(&self) -> Vec<String> {
        containers(&self.docker, self.folder.path(), &self.mark).await
    }

    /// The images that come of this place's own, but for that one.
    pub(crate) async fn images(&self) -> Vec<String> {
        let (_, made) = images(&self.docker, &self.mark).await;
        made
    }

    /// Removes those; gives how many there were.
    pub(crate) async fn remove_images(&self) -> usize {
        let made = self.images().await;
        for image in &made {
            remove_image(&self.docker, image).await;
        }
        made.len()
    }

    /// Fails when something of a run is still there.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            assert_eq!(self.containers().await, Vec::<String>::new(), "containers stayed ({caller})");
            assert_eq!(self.images().await, Vec::<String>::new(), "images stayed ({caller})");
            let run = self.path("cache/buildr/run");
            for folder in ["work", "lives"] {
                let left: Vec<_> = fs::read_dir(run.join(folder)).into_iter().flatten().flatten().collect();
                assert!(left.is_empty(), "{left:?} stayed ({caller})");
            }
        }
    }

    /// Everything in the project but the results of a run: contents, modes and times.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.project()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with(".buildr-out") {
                    continue;
                }
                let found = fs::symlink_metadata(&path).unwrap();
                let bytes = if found.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
                if found.is_dir() {
                    folders.push(path.clone());
                }
                all.insert(path, (found.mode(), found.mtime(), found.mtime_nsec(), bytes));
            }
        }
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a runtime of its own: what is dropped within one may not wait for another.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let docker = Docker::connect_with_defaults().unwrap();
                    for container in containers(&docker, self.folder.path(), &self.mark).await {
                        remove_container(&docker, &container).await;
                    }
                    let (own, made) = images(&docker, &self.mark).await;
                    for image in made.into_iter().chain(own) {
                        remove_image(&docker, &image).await;
                    }
                });
            });
        });
    }
}

async fn remove_image(docker: &Docker, id: &str) {
    let options = RemoveImageOptionsBuilder::default().force(true).build();
    docker.remove_image(id, Some(options), None).await.ok();
}

async fn remove_container(docker: &Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(id, Some(options)).await.ok();
}

async fn containers(docker: &Docker, folder: &Path, mark: &str) -> Vec<String> {
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let here = folder.canonicalize().unwrap();
    let found = docker.list_containers(Some(options)).await.unwrap();
    let ours = found.into_iter().filter(|container| {
        let sees = |source: Option<&String>| source.is_some_and(|path| Path::new(path).starts_with(&here));
        let image = container.image.as_deref().unwrap_or_default();
        container.mounts.iter().flatten().any(|mount| sees(mount.source.as_ref())) || image.contains(mark)
    });
    ours.filter_map(|container| container.id).collect()
}

/// The place's own image, and those that were made from it.
async fn images(docker: &Docker, mark: &str) -> (Vec<String>, Vec<String>) {
    let (mut own, mut made) = (Vec::new(), Vec::new());
    let all = || docker.list_images(Some(ListImagesOptionsBuilder::default().build()));
    let mut listed = all().await;
    // With containerd's store there is no list while another test removes an image.
    for _ in 0..20 {
        if listed.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        listed = all().await;
    }
    for image in listed.unwrap() {
        // One that another test removes meanwhile is none of ours.
        let Ok(found) = docker.inspect_image(&image.id).await else { continue };
        let env = found.config.and_then(|config| config.env).unwrap_or_default();
        if image.repo_tags.iter().any(|tag| tag.contains(mark)) {
            own.push(image.id);
        } else if env.contains(&format!("{MARK}={mark}")) {
            made.push(image.id);
        }
    }
    (own, made)
}

/// A program that runs; both its outputs are read as one.
pub(crate) struct Live {
    child: Child,
    out: Lines<BufReader<pipe::Receiver>>,
    seen: String,
}

/// Starts a program.
pub(crate) fn start(mut command: Command) -> Live {
    let (reader, writer) = std::io::pipe().unwrap();
    let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
    let out = BufReader::new(pipe::Receiver::from_owned_fd(reader.into()).unwrap()).lines();
    Live { child, out, seen: String::new() }
}

/// Starts a program whose errors are followed, and whose output is the caller's to read or not.
pub(crate) fn start_apart(mut command: Command) -> (Live, ChildStdout) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command.stderr(writer).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let out = BufReader::new(pipe::Receiver::from_owned_fd(reader.into()).unwrap()).lines();
    (Live { child, out, seen: String::new() }, output)
}

impl Live {
    /// Waits until a line of what it prints holds this text, and gives the line.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        match self.line_that(|line| line.contains(text)).await {
            Some(line) => line,
            None => panic!("it ended before {text:?}:\n{}", self.seen),
        }
    }

    /// The next line that is so; none when it prints no more. In one patience for all lines: a program that says now
    /// and then that it still waits is stuck, too.
    async fn line_that(&mut self, is: impl Fn(&str) -> bool) -> Option<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Ok(line) = timeout_at(until, self.out.next_line()).await else {
                panic!("nothing came of it in time:\n{}", self.seen)
            };
            let line = line.unwrap()?;
            self.seen += &line;
            self.seen.push('\n');
            if is(&line) {
                return Some(line);
            }
        }
    }

    pub(crate) async fn signal(&self, name: &str) {
        signal(&self.child, name).await;
    }

    /// Ends it with a signal when nobody reads what it prints any more, and gives its exit code.
    pub(crate) async fn end_unread(self, name: &str) -> Option<i32> {
        let Self { mut child, out, .. } = self;
        drop(out);
        signal(&child, name).await;
        timeout(PATIENCE, child.wait()).await.expect("it ends in time").unwrap().code()
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Ran {
        self.line_that(|_| false).await;
        let code = timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap().code();
        Ran { code, err: String::new(), out: self.seen }
    }
}

async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
}

/// Runs a command to its end.
pub(crate) async fn to_the_end(mut command: Command) -> Ran {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}
