//! What only the executor on Docker does, against a real daemon.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerConfig, ContainerCreateBody, HealthConfig, VolumeCreateRequest};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    EventsOptionsBuilder, InspectContainerOptions, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, RemoveImageOptionsBuilder, RemoveVolumeOptions, TagImageOptionsBuilder,
};
use buildr::executor::docker::{DiskLimits, DockerExecutor, DockerSettings, PullLimits, ShellTerminal};
use buildr::executor::{
    Executor as _, ExecutorError, KeepContainers, MountOrder, PrepareOrder, Sandbox, SandboxOrder, Served,
    ServiceOrder, SocketGrant, Spare, Stop, Swept,
};
use bytes::Bytes;
use farm::contract::executor::{
    Ended, ExecutorRig as _, PASSED, close, open, order, prepare, prepare_as, run, run_until, scripted,
};
use farm::docker::{DockerRig, with_docker};
use farm::own_docker::OwnDocker;
use farm::registry::Registry;
use farm::tls::TlsPort;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use protocol::plan::{Image as PlanImage, Probe, Pull, Ready, Resources, Service};
use protocol::{Cause, StageEnd, Variable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

fn script(commands: &[&str]) -> buildr::executor::StageOrder {
    scripted(commands.iter().map(|command| (*command).to_owned()).collect())
}

fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}

/// How a script ends in a place of its own, and what it prints.
async fn alone(rig: &DockerRig, commands: &[&str]) -> (StageEnd, String) {
    let sandbox = open(rig).await;
    let (end, printed) = run(&*sandbox, &script(commands)).await;
    close(rig, sandbox).await;
    (end.unwrap(), text(&printed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_megabytes_come_whole() {
    with_docker(
        |_| {},
        |rig| async move {
            let (end, printed) = alone(&rig, &["seq 1 2600000"]).await;
            let expected: String = (1..=2_600_000).map(|number| format!("{number}\n")).collect();
            assert_eq!(end, PASSED);
            assert!(printed == expected, "{} bytes of {}", printed.len(), expected.len());
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_outputs_keep_their_order() {
    with_docker(
        |_| {},
        |rig| async move {
            let (end, printed) =
                alone(&rig, &["for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done", "nothing-here"]).await;
            let lines: String = (1..10).map(|i| format!("o{i}\ne{i}\n")).collect();
            assert_eq!(end, StageEnd::Exited { code: 127 });
            assert!(printed.starts_with(&lines) && printed.ends_with("nothing-here: not found\n"), "{printed}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_one_session_without_input() {
    with_docker(
        |_| {},
        |rig| async move {
            let heredoc = "cat <<'END'\n'it' \"is\" $literal \\\nEND";
            let commands = ["cd /tmp", "export A=b", heredoc, "echo $PWD $A", "cat", "readlink /proc/self/fd/0"];
            let (end, printed) = alone(&rig, &commands).await;
            assert_eq!((end, printed.as_str()), (PASSED, "'it' \"is\" $literal \\\n/tmp b\n/dev/null\n"));
            let (end, printed) = alone(&rig, &["echo $PWD", "false", "echo not this"]).await;
            assert_eq!((end, printed.as_str()), (StageEnd::Exited { code: 1 }, "/app\n"));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_arrives_and_none_is_kept_by_the_daemon() {
    with_docker(
        |_| {},
        |rig| async move {
            let value = "line 1\nline 2\n\t'q' \"d\" $HOME ${x} `id` $(id) \\ größe 日本 ∞";
            let mut stage = script(&["printf %s \"$VALUE\" >value", "echo ready", "sleep 1000"]);
            stage.environment = vec![Variable::new("VALUE", value), Variable::new("BASH_FUNC_f%%", "() { :; }")];
            let sandbox = open(&*rig).await;
            let (looker, filter) = (rig.docker.clone(), rig.filter());
            let (sender, receiver) = std::sync::mpsc::channel();
            let look = move |stop: &Stop| sender.send(stop.clone()).unwrap();
            let looking = async {
                let stop = tokio::task::spawn_blocking(move || receiver.recv()).await.unwrap().unwrap();
                let options =
                    bollard::query_parameters::ListContainersOptionsBuilder::default().filters(&filter).build();
                let id = looker.list_containers(Some(options)).await.unwrap().remove(0).id.unwrap();
                let kept = format!("{:?}", looker.inspect_container(&id, None).await.unwrap());
                stop.kill();
                kept
            };
            let ((end, printed), kept) = tokio::join!(run_until(&*sandbox, &stage, "ready", look), looking);
            assert_eq!(end.unwrap(), StageEnd::Cancelled);
            assert!(!kept.contains("größe") && kept.contains("buildr.stage"), "{kept}");
            assert!(text(&printed).contains("\"BASH_FUNC_f%%\" is not set"));
            assert_eq!(fs::read_to_string(rig.workspace().join("value")).unwrap(), value);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_memory_is_told_apart() {
    let limited = |settings: &mut DockerSettings| settings.limits.memory = Some(32 << 20);
    with_docker(limited, |rig| async move {
        let want = StageEnd::OutOfMemory { limit_bytes: 32 << 20 };
        let mut filters = rig.filter();
        filters.insert("event".to_owned(), vec!["oom".to_owned()]);
        let (over, is_over) = tokio::sync::oneshot::channel();
        let hearing = async {
            let order = EventsOptionsBuilder::default().since("0").filters(&filters).build();
            let late = is_over.then(|_| tokio::time::sleep(Duration::from_secs(2)));
            let events = rig.docker.events(Some(order)).take_until(Box::pin(late));
            let told: HashSet<_> = events.map(|event| event.unwrap().actor.unwrap().id).collect().await;
            told.len()
        };
        let eat = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
        let (sandbox, stage) = (open(&*rig).await, script(&[eat]));
        let eating = async {
            let mut ends = Vec::new();
            // Many at a time: a busy daemon may hear of the end before it hears of the want, and now and then of the
            // end alone; a few never hear of any want.
            for _ in 0..4 {
                ends.extend(join_all((0..8).map(async |_| run(&*sandbox, &stage).await.0.unwrap())).await);
            }
            over.send(()).unwrap();
            ends
        };
        let (ends, told) = tokio::join!(eating, hearing);
        close(&*rig, sandbox).await;
        assert_eq!(ends.iter().filter(|end| **end == want).count(), told, "{ends:?}");
        assert!(ends.iter().all(|end| *end == want || *end == StageEnd::Exited { code: 137 }), "{ends:?}");
        assert_eq!(alone(&rig, &["exit 137"]).await.0, StageEnd::Exited { code: 137 });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_every_process_once_and_waits_for_them() {
    with_docker(
        |settings| settings.grace = Duration::from_secs(30),
        |rig| async move {
            let child =
                "sh -c 'trap \"echo child tidies; sleep 1; echo child done; exit\" TERM; while :; do sleep 0.1; done'";
            let daemon = "setsid sh -c 'trap \"echo daemon got it; exit\" TERM; while :; do sleep 0.1; done' &";
            let sandbox = open(&*rig).await;
            let stage = script(&[daemon, "sleep 1000 &", "sleep 0.5; echo ready", child]);
            let began = Instant::now();
            let (end, printed) = run_until(&*sandbox, &stage, "\nready\n", Stop::cancel).await;
            let printed = text(&printed);
            assert_eq!(end.unwrap(), StageEnd::Cancelled);
            assert!(began.elapsed() < Duration::from_secs(20), "the grace was waited for though all had gone");
            for (line, times) in [("child tidies\n", 1), ("child done\n", 1), ("daemon got it\n", 1)] {
                assert_eq!(printed.matches(line).count(), times, "{line} in {printed}");
            }
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_may_use_sigint_and_leave_processes_behind() {
    with_docker(
        |_| {},
        |rig| async move {
            let began = Instant::now();
            let commands = [
                "sleep 1000 &",
                "setsid sleep 1000 >/dev/null 2>&1 &",
                "sh -c 'kill -INT $$; echo deaf' || echo ended by it",
            ];
            let (end, printed) = alone(&rig, &commands).await;
            assert_eq!((end, printed.as_str()), (PASSED, "ended by it\n"));
            assert!(began.elapsed() < Duration::from_secs(60));
        },
    )
    .await;
}

/// An image made for one test.
struct Image<'a> {
    rig: &'a DockerRig,
    name: String,
}

impl<'a> Image<'a> {
    /// One with nothing in it.
    async fn empty(rig: &'a DockerRig) -> Self {
        let (repo, tag) = ("buildr-test", Uuid::new_v4().simple().to_string());
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(repo).tag(&tag).build();
        let tar = bollard::body_full(Bytes::from_static(&[0; 1024]));
        let steps: Vec<_> = rig.docker.create_image(Some(options), Some(tar), None).collect().await;
        assert!(steps.iter().all(Result::is_ok), "{steps:?}");
        Self { rig, name: format!("{repo}:{tag}") }
    }

    /// The usual one with another configuration.
    async fn configured(rig: &'a DockerRig, config: ContainerConfig) -> Self {
        let (repo, tag) = ("buildr-test", Uuid::new_v4().simple().to_string());
        let body = bollard::models::ContainerCreateBody { image: Some(rig.image()), ..Default::default() };
        let id = rig.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
        let options = CommitContainerOptionsBuilder::default().container(&id).repo(repo).tag(&tag).build();
        rig.docker.commit_container(options, config).await.unwrap();
        let force = RemoveContainerOptionsBuilder::default().force(true).build();
        rig.docker.remove_container(&id, Some(force)).await.unwrap();
        Self { rig, name: format!("{repo}:{tag}") }
    }

    async fn remove(self) {
        let force = RemoveImageOptionsBuilder::default().force(true).build();
        self.rig.docker.remove_image(&self.name, Some(force), None).await.unwrap();
    }
}

async fn on_image(rig: &DockerRig, image: &str, commands: &[&str]) -> Ended {
    let sandbox = open(rig).await;
    let mut stage = script(commands);
    stage.image = Some(image.into());
    let ended = run(&*sandbox, &stage).await;
    close(rig, sandbox).await;
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_shell_is_named() {
    with_docker(
        |_| {},
        |rig| async move {
            let image = Image::empty(&rig).await;
            let (end, _) = on_image(&rig, &image.name, &["echo hi"]).await;
            let name = image.name.clone();
            image.remove().await;
            let error = end.unwrap_err();
            assert!(matches!(&error, ExecutorError::NoShell { image } if *image == name), "{error}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_had_is_named() {
    with_docker(
        |_| {},
        |rig| async move {
            // A port on which nobody listens, so that no network is needed to be refused.
            let image = "localhost:1/nobody/has-this:1";
            let (end, printed) = on_image(&rig, image, &["echo hi"]).await;
            let error = end.unwrap_err();
            assert_eq!(error.cause(), Cause::Pull);
            assert!(error.to_string().contains(image) && error.to_string().contains("localhost:1"), "{error}");
            assert_eq!(text(&printed), format!("buildr: pulling {image}\n"));
            let error = on_image(&rig, "not an image", &["echo hi"]).await.0.unwrap_err();
            assert_eq!(error.cause(), Cause::Pull);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_image_is_configured_as_its_base() {
    with_docker(
        |_| {},
        |rig| async move {
            let config = ContainerConfig {
                cmd: Some(vec!["base-command".to_owned()]),
                env: Some(vec!["BASE=1".to_owned()]),
                entrypoint: Some(vec!["/base-entry".to_owned()]),
                user: Some("1234".to_owned()),
                ..ContainerConfig::default()
            };
            let base = Image::configured(&rig, config).await;
            let sandbox =
                rig.executor().open(SandboxOrder { image: base.name.clone().into(), ..order(&*rig) }).await.unwrap();
            let mut stage = script(&["echo made >/tmp/made", "echo no >/app/thrown-away", "id -u"]);
            stage.environment = vec![Variable::new("SECRET", "build-only")];
            let (end, printed) = prepare(&*sandbox, &stage).await;
            assert_eq!(end.unwrap(), PASSED);
            let warning = "buildr: prepare wrote to the workspace, which is not kept: /app/thrown-away;";
            assert!(text(&printed).contains(warning) && text(&printed).starts_with("1234\n"), "{}", text(&printed));
            let options = ListImagesOptionsBuilder::default().filters(&rig.filter()).build();
            let prepared = rig.docker.list_images(Some(options)).await.unwrap().remove(0);
            assert_eq!(prepared.repo_tags, ["buildr-prepared:contract"]);
            let (was, is) = (
                rig.docker.inspect_image(&base.name).await.unwrap(),
                rig.docker.inspect_image(&prepared.id).await.unwrap(),
            );
            let (was, is) = (was.config.unwrap(), is.config.unwrap());
            assert_eq!((&is.cmd, &is.env, &is.entrypoint, &is.user), (&was.cmd, &was.env, &was.entrypoint, &was.user));
            assert_eq!(is.working_dir.as_deref().unwrap_or_default().trim_end_matches('/'), "");
            let (end, printed) =
                run(&*sandbox, &script(&["cat /tmp/made", "ls -A /app", "echo ${SECRET:-none} $BASE"])).await;
            assert_eq!((end.unwrap(), text(&printed).as_str()), (PASSED, "made\nnone 1\n"));
            close(&*rig, sandbox).await;
            base.remove().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_images_user_may_write_to_the_workspace() {
    with_docker(
        |_| {},
        |rig| async move {
            let config = ContainerConfig { user: Some("1234:1234".to_owned()), ..ContainerConfig::default() };
            let image = Image::configured(&rig, config).await;
            fs::create_dir(rig.workspace().join("sub")).unwrap();
            fs::write(rig.workspace().join("sub/file"), "x").unwrap();
            let (end, printed) =
                on_image(&rig, &image.name, &["id -u", "echo y >>sub/file", "echo z >new", "echo e >&2"]).await;
            image.remove().await;
            assert_eq!((end.unwrap(), text(&printed).as_str()), (PASSED, "1234\ne\n"));
            assert_eq!(fs::metadata(rig.workspace().join("new")).unwrap().uid(), 1234);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_has_few_rights() {
    with_docker(
        |_| {},
        |rig| async move {
            let (end, printed) = alone(&rig, &["grep -E 'CapEff|NoNewPrivs' /proc/self/status"]).await;
            // Docker's own fourteen without NET_RAW (13), MKNOD (27), AUDIT_WRITE (29) and SETFCAP (31).
            assert_eq!((end, printed.as_str()), (PASSED, "CapEff:\t00000000000405fb\nNoNewPrivs:\t1\n"));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_are_trusted_where_they_are_given() {
    let bundle = tempfile::NamedTempFile::new().unwrap();
    fs::write(bundle.path(), "the roots\n").unwrap();
    let path = bundle.path().to_owned();
    with_docker(
        |settings| settings.ca_bundle = Some(path),
        |rig| async move {
            let (end, printed) = alone(&rig, &["cat $SSL_CERT_FILE $GIT_SSL_CAINFO", "! echo x >>$PIP_CERT"]).await;
            assert_eq!(end, PASSED, "{printed}");
            assert!(printed.starts_with("the roots\nthe roots\n"));
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_comes_where_it_is_granted_and_strangers_are_named() {
    with_docker(
        |_| {},
        |rig| async move {
            let granted = SandboxOrder { docker_socket: SocketGrant::Asked, ..order(&*rig) };
            let sandbox = rig.executor().open(granted).await.unwrap();
            let without = run(&*sandbox, &script(&["test -S /var/run/docker.sock"])).await;
            assert!(!without.0.unwrap().passed());
            let mut stage = script(&[
                "test -S /var/run/docker.sock",
                "echo $BUILDR_WORKSPACE_HOST",
                "echo ready",
                "until test -f go; do sleep 0.1; done",
            ]);
            stage.docker = true;
            let name = format!("stranger-{}", Uuid::new_v4().simple());
            // What the stage could do over its socket is done beside it, for the image has no client.
            let (docker, image, created, go) =
                (rig.docker.clone(), rig.image(), name.clone(), rig.workspace().join("go"));
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let sender = std::sync::Mutex::new(Some(sender));
            let act = |_: &Stop| {
                let sender: Option<tokio::sync::oneshot::Sender<()>> = sender.lock().unwrap().take();
                sender.unwrap().send(()).unwrap();
            };
            let beside = async move {
                receiver.await.unwrap();
                let body = bollard::models::ContainerCreateBody { image: Some(image), ..Default::default() };
                let options = CreateContainerOptionsBuilder::default().name(&created).build();
                docker.create_container(Some(options), body).await.unwrap();
                fs::write(go, "").unwrap();
            };
            let ((end, printed), ()) = tokio::join!(run_until(&*sandbox, &stage, "\nready\n", act), beside);
            let force = RemoveContainerOptionsBuilder::default().force(true).build();
            rig.docker.remove_container(&name, Some(force)).await.unwrap();
            let printed = text(&printed);
            assert_eq!(end.unwrap(), PASSED, "{printed}");
            assert!(printed.starts_with(&format!("{}\n", rig.workspace().display())), "{printed}");
            assert!(printed.lines().last().unwrap().contains(&name), "{printed}");
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

/// The daemon behind a socket in this folder, one that looks into no container which has the daemon's socket.
fn short_sighted(folder: &Path) -> String {
    let place = folder.join("docker.sock");
    let listener = tokio::net::UnixListener::bind(&place).unwrap();
    drop(protocol::task::spawn("short-sighted daemon", async move {
        while let Ok((near, _)) = listener.accept().await {
            drop(protocol::task::spawn("connection to it", pass_but_looks(near)));
        }
    }));
    format!("unix://{}", place.display())
}

async fn pass_but_looks(near: tokio::net::UnixStream) {
    let docker = Docker::connect_with_unix_defaults().unwrap();
    let far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
    let ((mut asked, answer), (mut said, mut say)) = (near.into_split(), far.into_split());
    let answer = std::sync::Arc::new(tokio::sync::Mutex::new(answer));
    let to = std::sync::Arc::clone(&answer);
    drop(protocol::task::spawn("what the daemon says", async move {
        let mut piece = vec![0; 64 << 10];
        while let Ok(length @ 1..) = said.read(&mut piece).await {
            to.lock().await.write_all(&piece[..length]).await.ok();
        }
        to.lock().await.shutdown().await.ok();
    }));
    let mut request = vec![0; 64 << 10];
    while let Ok(length @ 1..) = asked.read(&mut request).await {
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        let container =
            text.strip_prefix("HEAD ").and_then(|path| path.split("/containers/").nth(1)?.split('/').next());
        let mounts = match container {
            Some(id) => docker.inspect_container(id, None::<InspectContainerOptions>).await.unwrap().mounts,
            None => None,
        };
        if mounts.unwrap_or_default().iter().any(|mount| mount.destination.as_deref() == Some("/var/run/docker.sock")) {
            let refusal = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
            answer.lock().await.write_all(refusal).await.unwrap();
        } else {
            say.write_all(&request[..length]).await.unwrap();
        }
    }
    say.shutdown().await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_looks_into_no_container_with_its_socket_is_worked_with() {
    let folder = tempfile::tempdir().unwrap();
    let host = short_sighted(folder.path());
    with_docker(
        move |settings| settings.host = Some(host),
        |rig| async move {
            let granted = SandboxOrder { docker_socket: SocketGrant::Asked, ..order(&*rig) };
            let sandbox = rig.executor().open(granted).await.unwrap();
            let mut stage = script(&["test -S /var/run/docker.sock", "echo here >left", "no-such-program"]);
            stage.docker = true;
            let (end, printed) = run(&*sandbox, &stage).await;
            let printed = text(&printed);
            // Neither is the workspace carried, nor is it the daemon's fault.
            assert_eq!(end.unwrap(), StageEnd::Exited { code: 127 }, "{printed}");
            assert!(!printed.contains("does not see"), "{printed}");
            assert_eq!(fs::read_to_string(rig.workspace().join("left")).unwrap(), "here\n");
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_gets_the_hint_that_it_needs() {
    with_docker(
        |_| {},
        |rig| async move {
            let sudo = "echo 'sudo: The \"no new privileges\" flag is set, which prevents sudo from running as root.'";
            let (_, printed) = alone(&rig, &[sudo, "exit 1"]).await;
            assert!(printed.ends_with("allow_new_privileges = true\n"), "{printed}");
            let (_, printed) = alone(&rig, &[sudo]).await;
            assert!(!printed.contains("allow_new_privileges"), "{printed}");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_life_sweeps_what_this_one_left() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            assert_eq!(prepare(&*sandbox, &script(&["echo x >/made"])).await.0.unwrap(), PASSED);
            let (output, mut printed) = tokio::sync::mpsc::channel(32);
            let (stage, stop) = (script(&["echo ready", "sleep 1000"]), Stop::new());
            tokio::select! {
                _ = sandbox.run(&stage, &output, &stop) => panic!("it should run on"),
                () = async { while !text(&printed.recv().await.unwrap()).contains("ready\n") {} } => {}
            }
            let swept = rig.executor().sweep().await.unwrap();
            assert_eq!(swept, Swept::default(), "what is in use is not swept");
            drop(sandbox);
            let swept = rig.another_life().await.sweep().await.unwrap();
            // The container of prepare may have been removed already.
            assert!(swept.containers >= 1 && swept.images == 1, "{swept:?}");
            assert_eq!(rig.containers().await, 0);
            // What it left beside the workspace is for whoever owns that folder.
            for entry in fs::read_dir(rig.workspace().parent().unwrap()).unwrap().flatten() {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_not_there_is_named() {
    with_docker(
        |_| {},
        |rig| async move {
            let nowhere = rig.workspace().join("not-there");
            let sandbox =
                rig.executor().open(SandboxOrder { workspace: nowhere.clone(), ..order(&*rig) }).await.unwrap();
            let error = run(&*sandbox, &script(&["true"])).await.0.unwrap_err();
            assert_eq!(error.cause(), Cause::Daemon);
            let sentence = error.to_string();
            assert!(sentence.contains(nowhere.to_str().unwrap()), "{sentence}");
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_said() {
    let mut settings = DockerSettings::new("nobody", "now");
    settings.host = Some("unix:///nowhere/docker.sock".to_owned());
    let error = DockerExecutor::connect(settings).await.unwrap_err();
    assert!(matches!(error, ExecutorError::Unreachable { .. }));
    assert!(error.to_string().contains("unix:///nowhere/docker.sock"), "{error}");
}

/// Tells the second process of the next test what to remove.
const LEFTOVERS: &str = "BUILDR_TEST_LEFTOVERS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_root_left_is_discarded_for_a_user() {
    #[expect(clippy::disallowed_methods, reason = "it is how this test speaks to itself")]
    if let Ok(folder) = std::env::var(LEFTOVERS) {
        let executor = DockerExecutor::connect(DockerSettings::new(folder.replace('/', "-"), "user")).await.unwrap();
        executor.discard(Path::new(&folder)).await.unwrap();
        return;
    }
    with_docker(
        |_| {},
        |rig| async move {
            let socket = PathBuf::from("/var/run/docker.sock");
            let am_root = fs::metadata("/proc/self").unwrap().uid() == 0;
            if !am_root || !socket.exists() {
                eprintln!("skipped: it needs root, to become somebody else, and a local daemon");
                return;
            }
            let folder = rig.workspace().parent().unwrap().join("job");
            fs::create_dir_all(folder.join("owned/by/root")).unwrap();
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
            let parent = folder.parent().unwrap();
            fs::set_permissions(parent, fs::Permissions::from_mode(0o777)).unwrap();
            // The program is copied to where that user may read it.
            let program = parent.join("test");
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
            let mut command = Command::new(&program);
            command.args(["--exact", "what_root_left_is_discarded_for_a_user"]).env(LEFTOVERS, &folder);
            command.uid(65534).gid(fs::metadata(&socket).unwrap().gid()).current_dir("/");
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            fs::remove_file(&program).unwrap();
            assert!(output.status.success(), "{}", text(&output.stdout));
            assert!(!folder.exists());
        },
    )
    .await;
}

/// Prints how long a stage takes, and a place that is made for it and closed after it, beside a bare `docker run`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone on a quiet machine, with --ignored --nocapture"]
async fn a_stage_beside_docker_run() {
    with_docker(
        |_| {},
        |rig| async move {
            let stage = script(&["echo hi"]);
            let mut took = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..11 {
                let began = Instant::now();
                let sandbox = open(&*rig).await;
                assert_eq!(run(&*sandbox, &stage).await.0.unwrap(), PASSED);
                took[0].push(began.elapsed());
                sandbox.close().await.unwrap();
                took[1].push(began.elapsed());
                let image = rig.image();
                let began = Instant::now();
                let words = ["run", "--rm", "--network", "none", &image, "true"];
                assert!(tokio::process::Command::new("docker").args(words).status().await.unwrap().success());
                took[2].push(began.elapsed());
            }
            let [stage, whole, bare] = took.map(|mut times| {
                times.sort();
                times[times.len() / 2].as_secs_f64() * 1e3
            });
            println!(
                "median of 11: a stage {stage:.0} ms, with its place {whole:.0} ms, docker run {bare:.0} ms: ratios \
                 {:.2} and {:.2}",
                stage / bare,
                whole / bare
            );
        },
    )
    .await;
}

/// What stands on the daemon of somebody else, for one test: it is there before and after.
struct Foreign {
    name: String,
    pulled: String,
}

impl Foreign {
    async fn make(docker: &Docker, registry: &Registry, in_use: &str) -> Self {
        let foreign =
            Self { name: format!("buildr-test-{}", Uuid::new_v4().simple()), pulled: registry.image("before") };
        pull(docker, &foreign.pulled).await;
        let volume = VolumeCreateRequest { name: Some(foreign.name.clone()), ..Default::default() };
        docker.create_volume(volume).await.unwrap();
        let named = TagImageOptionsBuilder::default().repo(&foreign.name).tag("1").build();
        docker.tag_image(&foreign.pulled, Some(named)).await.unwrap();
        let options = CreateContainerOptionsBuilder::default().name(&foreign.name).build();
        let body = ContainerCreateBody { image: Some(in_use.to_owned()), ..Default::default() };
        docker.create_container(Some(options), body).await.unwrap();
        foreign
    }

    async fn assert_there(&self, docker: &Docker) {
        assert!(has(docker, &self.pulled).await, "an image that was there before");
        assert!(has(docker, &format!("{}:1", self.name)).await, "an image of somebody's own");
        assert!(docker.inspect_volume(&self.name).await.is_ok(), "a volume of somebody's own");
        assert!(docker.inspect_container(&self.name, None).await.is_ok(), "a container of somebody's own");
    }
}

async fn pull(docker: &Docker, image: &str) {
    let options = CreateImageOptionsBuilder::default().from_image(image).build();
    let steps: Vec<_> = docker.create_image(Some(options), None, None).collect().await;
    assert!(steps.iter().all(Result::is_ok), "{steps:?}");
}

async fn has(docker: &Docker, image: &str) -> bool {
    docker.inspect_image(image).await.is_ok()
}

/// Has a job use an image, which is pulled when it is not there; there is nothing in it that could be run.
async fn use_image(rig: &DockerRig, image: &str) {
    let (end, _) = on_image(rig, image, &["exit"]).await;
    assert!(matches!(end, Err(ExecutorError::NoShell { .. })), "{end:?}");
}

/// Names of what could go, the longest unused first.
async fn spare(executor: &DockerExecutor) -> Vec<String> {
    let mut spare = executor.spare().await.unwrap();
    spare.sort_by_key(|one| one.last_used_ms);
    spare.into_iter().map(|one| one.name).collect()
}

async fn make_room(executor: &DockerExecutor) -> Vec<(String, bool)> {
    let mut gone = Vec::new();
    let mut all = executor.spare().await.unwrap();
    all.sort_by_key(|one| one.last_used_ms);
    for one in all {
        gone.push((one.name.clone(), executor.remove_spare(&one).await.unwrap()));
    }
    gone
}

async fn only_our_own_goes(rig: &DockerRig, registry: &Registry, cleanup: &mut Vec<String>) {
    let docker = &rig.docker;
    let [one, two, used, renamed, held, replaced] =
        ["one", "two", "used", "renamed", "held", "replaced"].map(|name| registry.image(name));
    cleanup.extend([&one, &two, &used, &renamed, &held, &replaced].map(Clone::clone));
    for image in [&one, &two, &used, &renamed, &replaced] {
        assert!(!has(docker, image).await);
        use_image(rig, image).await;
        assert!(has(docker, image).await, "it was pulled");
    }
    let foreign = Foreign::make(docker, registry, &used).await;
    cleanup.extend([foreign.pulled.clone(), format!("{0}:1", foreign.name), foreign.name.clone()]);
    // One that was there is used, and not ours by that.
    use_image(rig, &foreign.pulled).await;
    // One that we pulled gets a name of somebody's own.
    let named = TagImageOptionsBuilder::default().repo(&foreign.name).tag("renamed").build();
    docker.tag_image(&renamed, Some(named)).await.unwrap();
    cleanup.push(format!("{}:renamed", foreign.name));
    // And one of ours means another image by now, by somebody else's doing.
    cleanup.push(docker.inspect_image(&replaced).await.unwrap().id.unwrap());
    let (repo, tag) = replaced.rsplit_once(':').unwrap();
    let other = TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
    docker.tag_image(&foreign.pulled, Some(other)).await.unwrap();
    // The first one is used again.
    use_image(rig, &one).await;
    // A job has one at this moment.
    let sandbox = open(rig).await;
    let mut stage = script(&["exit"]);
    stage.image = Some(held.clone().into());
    run(&*sandbox, &stage).await.0.unwrap_err();

    let executor = rig.docker_executor();
    let order = [&two, &used, &renamed, &replaced, &one].map(Clone::clone);
    assert_eq!(spare(executor).await, order, "the longest unused first, and none that a job has");
    assert!(!executor.remove_spare(&Spare { name: held.clone(), last_used_ms: 0 }).await.unwrap());
    let expect = order.into_iter().zip([true, false, true, false, true]).collect::<Vec<_>>();
    assert_eq!(make_room(executor).await, expect);
    for (image, expect) in
        [(&one, false), (&two, false), (&used, true), (&renamed, false), (&replaced, true), (&held, true)]
    {
        assert_eq!(has(docker, image).await, expect, "{image}");
    }
    assert!(has(docker, &format!("{}:renamed", foreign.name)).await, "by the name that somebody gave it");
    foreign.assert_there(docker).await;
    close(rig, sandbox).await;

    // What a life that broke off left is swept by the next one, which also knows what was pulled.
    let broken_off = open(rig).await;
    prepare(&*broken_off, &script(&["echo made >/tmp/made"])).await.0.unwrap();
    drop(broken_off);
    let workspace = rig.workspace();
    let copies = fs::read_dir(workspace.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
    for copy in copies.filter(|path| *path != workspace) {
        // In an agent the sweep of its work folder does it.
        rig.executor().discard(&copy).await.unwrap();
    }
    let again = rig.another_life().await;
    assert_eq!(again.sweep().await.unwrap().images, 1, "the prepared image");
    assert_eq!(spare(&again).await.len(), 2, "the one with a container, and the one that a job had");
    assert_eq!(make_room(&again).await, [(used.clone(), false), (held.clone(), true)]);
    assert!(has(docker, &rig.image()).await);
    foreign.assert_there(docker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_is_made_of_our_own_images_and_of_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images.json");
    with_docker(
        |settings| settings.pulled_images = Some(file),
        |rig| async move {
            let names = ["before", "one", "two", "used", "renamed", "held", "replaced"];
            let registry = Registry::with(&names).await;
            let mut made = Vec::new();
            let outcome = AssertUnwindSafe(only_our_own_goes(&rig, &registry, &mut made)).catch_unwind().await;
            for name in &made {
                let force = RemoveContainerOptionsBuilder::default().force(true).build();
                rig.docker.remove_container(name, Some(force)).await.ok();
                rig.docker.remove_volume(name, None::<RemoveVolumeOptions>).await.ok();
            }
            for name in &made {
                rig.docker.remove_image(name, None::<RemoveImageOptions>, None).await.ok();
            }
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_takes_too_much_of_the_disk_is_ended() {
    let limits = DiskLimits { build: Some(20 << 20), reserve: 0 };
    with_docker(
        move |settings| settings.disk = limits,
        |rig| async move {
            // In the workspace, and in the container's own layer.
            for place in ["big", "/var/big"] {
                let sandbox = open(&*rig).await;
                let eats = format!("head -c 60000000 /dev/zero > {place}");
                let (end, _) = run(&*sandbox, &script(&[&eats, "sleep 1000"])).await;
                let error = end.unwrap_err();
                assert!(matches!(error, ExecutorError::TooLarge(_)) && error.cause() == Cause::Limit, "{error}");
                assert!(error.to_string().contains("20 MiB that one may take here (--build-disk)"), "{error}");
                close(&*rig, sandbox).await;
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_says_nothing_is_given_up() {
    let (short, long) = (Duration::from_secs(1), Duration::from_secs(3600));
    for (limits, named) in [
        (PullLimits { whole: long, stall: short }, "--stall-timeout"),
        (PullLimits { whole: short, stall: long }, "--pull-timeout"),
    ] {
        // Takes connections, and says nothing on them.
        let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let image = format!("{}/silent:1", registry.local_addr().unwrap());
        with_docker(
            move |settings| settings.pull = limits,
            move |rig| async move {
                let (end, _) = on_image(&rig, &image, &["true"]).await;
                let error = end.unwrap_err();
                assert_eq!(error.cause(), Cause::Pull);
                assert!(error.to_string().contains(named), "{error}");
            },
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_does_not_wait_for_a_registry_that_says_nothing() {
    // Takes connections, and says nothing on them.
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/silent:1", registry.local_addr().unwrap());
    let never = Duration::from_secs(3600);
    with_docker(
        move |settings| settings.pull = PullLimits { whole: never, stall: never },
        move |rig| async move {
            let sandbox = open(&*rig).await;
            let mut stage = script(&["true"]);
            stage.image = Some(image.into());
            let (end, _) = run_until(&*sandbox, &stage, "buildr: pulling", Stop::cancel).await;
            assert_eq!(end.unwrap(), StageEnd::Cancelled);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

/// A program that waits for connections on a port and greets each; perl is in the image.
fn greeter(port: u16, before: &str) -> Vec<String> {
    let program = format!(
        "use IO::Socket::INET; $| = 1; $SIG{{TERM}} = sub {{ print qq(bye\\n); exit }}; print qq(first\\n); {before} \
         my $s = IO::Socket::INET->new(Listen => 5, LocalPort => {port}, ReuseAddr => 1) or die; print qq(listening\\n); \
         while (1) {{ my $c = $s->accept or next; my $r = ''; vec($r, fileno($c), 1) = 1; \
         select($r, undef, undef, 0.3) and sysread($c, my $b, 4096); print $c qq(HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n); close $c }}"
    );
    ["perl", "-e", &program].map(str::to_owned).to_vec()
}

/// Prints what a service says on a port, in a stage.
fn ask(host: &str, port: u16) -> String {
    format!("bash -c 'exec 3<>/dev/tcp/{host}/{port}; cat <&3' | tail -1")
}

fn service(rig: &DockerRig, name: &str, command: Vec<String>, ready: Option<Ready>) -> Service {
    Service {
        name: name.to_owned(),
        image: rig.image().into(),
        environment: Vec::new(),
        command,
        ready,
        ready_timeout_ms: 20_000,
        resources: Resources::default(),
        privileged: false,
    }
}

/// Begins services; gives them and what each prints, once it has ended.
async fn serve(
    sandbox: &dyn Sandbox,
    services: Vec<Service>,
    beside: Option<&Served>,
) -> (Result<Served, ExecutorError>, Vec<tokio::task::JoinHandle<String>>) {
    let (mut orders, mut logs) = (Vec::new(), Vec::new());
    for service in services {
        let (output, mut printed) = tokio::sync::mpsc::channel::<Bytes>(32);
        orders.push(ServiceOrder { service, output });
        logs.push(protocol::task::spawn("a service's log", async move {
            let mut all = Vec::new();
            while let Some(bytes) = printed.recv().await {
                all.extend_from_slice(&bytes);
            }
            text(&all)
        }));
    }
    (sandbox.serve(orders, beside, &Stop::new()).await, logs)
}

async fn in_network(sandbox: &dyn Sandbox, served: &Served, commands: &[&str]) -> (StageEnd, String) {
    let mut stage = script(commands);
    stage.network = Some(served.clone());
    let (end, printed) = run(sandbox, &stage).await;
    (end.unwrap(), text(&printed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_reached_by_name_once_they_are_ready() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let slow = "select(undef, undef, undef, 0.7);";
            let http = Ready::Http(Probe { port: 82, path: "/health".to_owned() });
            let services = vec![
                service(&rig, "by-port", greeter(81, slow), Some(Ready::Tcp(81))),
                service(&rig, "by-answer", greeter(82, slow), Some(http)),
                service(&rig, "by-log", greeter(83, slow), Some(Ready::Log("^listen|\nlisten.ng\n".to_owned()))),
                service(
                    &rig,
                    "by-command",
                    greeter(84, slow),
                    Some(Ready::Command("bash -c '>/dev/tcp/localhost/84'".to_owned())),
                ),
            ];
            let (served, logs) = serve(&*sandbox, services, None).await;
            let served = served.unwrap();
            let asks: Vec<_> = [("by-port", 81), ("by-answer", 82), ("by-log", 83), ("by-command", 84)]
                .map(|(host, port)| ask(host, port))
                .into();
            let asks: Vec<_> = asks.iter().map(String::as_str).collect();
            let (end, printed) = in_network(&*sandbox, &served, &asks).await;
            assert_eq!((end, printed.as_str()), (PASSED, "hello\n".repeat(4).as_str()));
            // One that sees no services is not on their network.
            assert!(!run(&*sandbox, &script(&["getent hosts by-port"])).await.0.unwrap().passed());
            sandbox.dismiss(served).await;
            for log in logs {
                let log = log.await.unwrap();
                assert!(log.starts_with("first\nlistening\n") && log.ends_with("bye\n"), "{log}");
            }
            assert_eq!(rig.left().await, 0, "the services are gone with their network");
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_ready_by_what_its_image_says() {
    with_docker(
        |_| {},
        |rig| async move {
            let health = HealthConfig {
                test: Some(["CMD", "test", "-f", "/tmp/well"].map(str::to_owned).to_vec()),
                interval: Some(3_600_000_000_000),
                ..HealthConfig::default()
            };
            let well = ContainerConfig { healthcheck: Some(health), ..ContainerConfig::default() };
            let exposes = ContainerConfig {
                exposed_ports: Some(vec!["9000/udp".to_owned(), "85/tcp".to_owned(), "9000/tcp".to_owned()]),
                entrypoint: Some(greeter(85, "select(undef, undef, undef, 0.7);")),
                ..ContainerConfig::default()
            };
            let (well, exposes) = (Image::configured(&rig, well).await, Image::configured(&rig, exposes).await);
            let sandbox = open(&*rig).await;
            let tells = ["sh", "-c", "sleep 1; touch /tmp/well; sleep 1000"].map(str::to_owned).to_vec();
            let mut by_health = service(&rig, "by-health", tells, None);
            by_health.image = well.name.clone().into();
            by_health.ready = None;
            let mut by_port = service(&rig, "by-port", Vec::new(), None);
            by_port.image = exposes.name.clone().into();
            let at_once = service(&rig, "at-once", ["sleep", "1000"].map(str::to_owned).to_vec(), None);
            let (served, _) = serve(&*sandbox, vec![by_health, by_port, at_once], None).await;
            let (end, printed) = in_network(&*sandbox, &served.unwrap(), &[&ask("by-port", 85)]).await;
            assert_eq!((end, printed.as_str()), (PASSED, "hello\n"));
            // Closing ends what was not dismissed.
            close(&*rig, sandbox).await;
            well.remove().await;
            exposes.remove().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_ready_is_an_error_that_shows_its_log() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let sh = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
            let ends = service(&rig, "ends", sh("echo no room; exit 3"), Some(Ready::Tcp(1)));
            let waits = service(&rig, "waits", sh("echo up; sleep 1000"), Some(Ready::Log("never".to_owned())));
            let (served, logs) = serve(&*sandbox, vec![waits, ends], None).await;
            let error = served.unwrap_err();
            assert_eq!(error.cause(), Cause::Service);
            let sentence = error.to_string();
            assert!(
                sentence.contains("\"ends\"") && sentence.contains("code 3") && sentence.ends_with("no room"),
                "{sentence}"
            );
            assert_eq!(rig.left().await, 0, "the other one is gone too");
            assert_eq!(logs.into_iter().next().unwrap().await.unwrap(), "up\n");
            let mut late = service(&rig, "late", sh("echo up; sleep 1000"), Some(Ready::Command("false".to_owned())));
            late.ready_timeout_ms = 1500;
            let sentence = serve(&*sandbox, vec![late], None).await.0.unwrap_err().to_string();
            assert!(
                sentence.contains("within 1.5 s") && sentence.contains("`false`") && sentence.ends_with("up"),
                "{sentence}"
            );
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stages_services_hide_the_jobs() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let says = |name: &str, port: u16, word: &str| {
                let command = greeter(port, "").into_iter().map(|part| part.replace("hello", word)).collect();
                service(&rig, name, command, Some(Ready::Tcp(port)))
            };
            let of_job = vec![says("db", 86, "db of the job"), says("cache", 87, "cache of the job")];
            let job = serve(&*sandbox, of_job, None).await.0.unwrap();
            let stage = serve(&*sandbox, vec![says("db", 86, "db of the stage")], Some(&job)).await.0.unwrap();
            let both = [ask("db", 86), ask("cache", 87)];
            let both = [both[0].as_str(), both[1].as_str()];
            let (end, printed) = in_network(&*sandbox, &stage, &both).await;
            assert_eq!((end, printed.as_str()), (PASSED, "db of the stage\ncache of the job\n"));
            sandbox.dismiss(stage).await;
            let (end, printed) = in_network(&*sandbox, &job, &both).await;
            assert_eq!((end, printed.as_str()), (PASSED, "db of the job\ncache of the job\n"));
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_swept_with_their_network() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let sleeps = service(&rig, "sleeps", ["sleep", "1000"].map(str::to_owned).to_vec(), None);
            serve(&*sandbox, vec![sleeps], None).await.0.unwrap();
            drop(sandbox);
            let swept = rig.another_life().await.sweep().await.unwrap();
            assert_eq!((swept.containers, swept.others), (1, 1));
            assert_eq!(rig.left().await, 0);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_asks_for_privileges_is_refused_before_anything_is_pulled() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let mut stage = script(&["true"]);
            stage.privileged = true;
            stage.image = Some("localhost:1/nobody/has-this:1".into());
            let (end, printed) = run(&*sandbox, &stage).await;
            let error = end.unwrap_err();
            assert_eq!((error.cause(), text(&printed).as_str()), (Cause::Limit, ""));
            assert!(error.to_string().contains("docker_socket and trusted_repos"), "{error}");
            close(&*rig, sandbox).await;
            let sandbox = rig.executor().open(SandboxOrder { privileged: true, ..order(&*rig) }).await.unwrap();
            let mut stage = script(&["grep CapEff /proc/self/status"]);
            stage.privileged = true;
            let (end, printed) = run(&*sandbox, &stage).await;
            match end {
                Ok(end) => {
                    assert_eq!(end, PASSED);
                    // All that this machine has, which may not be all that there are.
                    let own = std::fs::read_to_string("/proc/self/status").unwrap();
                    let bound = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
                    assert_eq!(text(&printed).trim_end(), format!("CapEff:{bound}"));
                }
                // Docker before 25 asks for all that there are, and gets none where the machine itself has fewer.
                Err(error) => assert!(error.to_string().contains("caps"), "{error}"),
            }
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_used_as_it_is_asked_for() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let with = |change: &dyn Fn(&mut PlanImage), commands: &[&str]| {
                let mut image = PlanImage::from(rig.image());
                change(&mut image);
                let mut stage = script(commands);
                stage.image = Some(image);
                stage
            };
            let as_user = with(&|image| image.user = Some("1234:99".to_owned()), &["id -u", "id -g", "echo x >made"]);
            assert_eq!(text(&run(&*sandbox, &as_user).await.1), "1234\n99\n");
            let env = ["/usr/bin/env", "FROM_ENTRY=yes"].map(str::to_owned).to_vec();
            let entered = with(&|image| image.entrypoint = Some(env.clone()), &["echo $FROM_ENTRY"]);
            assert_eq!(text(&run(&*sandbox, &entered).await.1), "yes\n");
            let mut limited = script(&[
                "ulimit -a >/dev/null; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max",
                "df -k /dev/shm | tail -1",
            ]);
            limited.script[0].push_str(" 2>/dev/null || :");
            limited.resources = Resources { pids: Some(77), shm_bytes: Some(8 << 20), ..Resources::default() };
            let printed = text(&run(&*sandbox, &limited).await.1);
            assert!(printed.starts_with("77\n") && printed.contains(" 8192 "), "{printed}");
            let here = rig.docker.inspect_image(&rig.image()).await.unwrap();
            let wanted = PlanImage::from(rig.image());
            let digest = sandbox.digest(&wanted).await.unwrap();
            assert!(
                here.id.as_ref() == Some(&digest)
                    || here.repo_digests.unwrap().iter().any(|one| one.ends_with(&digest))
            );
            assert_eq!(sandbox.digest(&"never-used:1".into()).await, None);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

/// `~` is the home of whoever runs the stage: as the image's list of users has it, or as `HOME` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mounted_below_home_is_found_there() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            for (user, own_home, home) in
                [(None, None, "/root"), (Some("games"), None, "/usr/games"), (None, Some("/srv/own"), "/srv/own")]
            {
                let folder = tempfile::tempdir().unwrap();
                fs::write(folder.path().join("kept"), "of another build\n").unwrap();
                let mut stage = script(&["echo ~", "cat ~/.deps/kept", "echo x >~/.deps/made"]);
                let mut image = PlanImage::from(rig.image());
                image.user = user.map(str::to_owned);
                stage.image = Some(image);
                stage.environment.extend(own_home.map(|home| Variable::new("HOME", home)));
                let (source, target) = (folder.path().to_owned(), "~/.deps".to_owned());
                stage.mounts = vec![MountOrder { source, target, read_only: false }];
                let (end, printed) = run(&*sandbox, &stage).await;
                assert_eq!((end.unwrap(), text(&printed)), (PASSED, format!("{home}\nof another build\n")));
                assert_eq!(fs::read_to_string(folder.path().join("made")).unwrap(), "x\n");
            }
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_is_for_a_platform_and_may_be_wanted_each_time() {
    with_docker(
        |_| {},
        |rig| async move {
            let registry = Registry::with(&["pulled"]).await;
            let name = registry.image("pulled");
            let used = async |change: fn(&mut PlanImage)| {
                let mut image = PlanImage::from(name.clone());
                change(&mut image);
                let sandbox = open(&*rig).await;
                let mut stage = script(&["exit"]);
                stage.image = Some(image.clone());
                let ended = tokio::join!(run(&*sandbox, &stage), run(&*sandbox, &stage));
                let digest = sandbox.digest(&image).await;
                close(&*rig, sandbox).await;
                let printed = text(&[ended.0.1, ended.1.1].concat());
                (ended.0.0.unwrap_err(), printed.matches("buildr: pulling").count(), digest)
            };
            let (error, pulls, digest) = used(|_| {}).await;
            assert!(matches!(error, ExecutorError::NoShell { .. }), "{error}");
            assert_eq!(pulls, 1, "two stages at once pull it once");
            assert_eq!(digest, Some(registry.digest("pulled")));
            assert_eq!(used(|_| {}).await.1, 0);
            let (_, pulls, again) = used(|image| image.pull = Pull::Always).await;
            assert_eq!((pulls, again), (1, digest));
            let (error, ..) = used(|image| image.platform = Some("linux/s390x".to_owned())).await;
            assert_eq!(error.cause(), Cause::Pull);
            assert!(error.to_string().contains(&name), "{error}");
            rig.docker.remove_image(&name, None::<RemoveImageOptions>, None).await.unwrap();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_begins_in_its_folder_and_has_its_shell() {
    with_docker(
        |_| {},
        |rig| async move {
            fs::create_dir(rig.workspace().join("sub")).unwrap();
            let sandbox = open(&*rig).await;
            let mut stage = script(&["print \"$0 in \" . `pwd`;", "exit 3"]);
            stage.shell = Some("perl -w {0}".to_owned());
            stage.dir = Some("sub".to_owned());
            let (end, printed) = run(&*sandbox, &stage).await;
            assert_eq!(end.unwrap(), StageEnd::Exited { code: 3 });
            assert!(text(&printed).ends_with(" in /app/sub\n"), "{}", text(&printed));
            stage.dir = Some("not-there".to_owned());
            let (end, printed) = run(&*sandbox, &stage).await;
            assert_eq!(end.unwrap(), StageEnd::Exited { code: 1 });
            assert!(text(&printed).contains("the folder /app/not-there"), "{}", text(&printed));
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_script_has_an_end_too() {
    with_docker(
        |settings| settings.after = Duration::from_millis(1500),
        |rig| async move {
            let sandbox = open(&*rig).await;
            let mut stage = script(&["printf unfinished", "exit 7"]);
            stage.on_failure = vec!["trap '' TERM; sleep 1000".to_owned()];
            stage.after = vec!["echo tidy; sleep 1000".to_owned()];
            let (end, printed) = run(&*sandbox, &stage).await;
            assert_eq!(end.unwrap(), StageEnd::Exited { code: 7 });
            let printed = text(&printed);
            let expected = "unfinished$ exit 7\nbuildr: on_failure\nbuildr: on_failure took longer than 1.5 s, so it was ended\n\
                            buildr: after\ntidy\nbuildr: after took longer than 1.5 s, so it was ended\n";
            assert_eq!(printed.replace("Killed\n", ""), expected);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

fn preparation(commands: &[&str], files: &[&str]) -> PrepareOrder {
    let files = files.iter().map(|file| (*file).to_owned()).collect();
    PrepareOrder { stage: script(commands), files: Some(files), cache: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_prepared_is_kept_for_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images.json");
    with_docker(
        |settings| settings.pulled_images = Some(file),
        |rig| async move {
            fs::create_dir(rig.workspace().join("tools")).unwrap();
            fs::write(rig.workspace().join("tools/list"), "1").unwrap();
            fs::write(rig.workspace().join("other"), "1").unwrap();
            let unique = format!("echo {} >/unique", Uuid::new_v4());
            let commands = ["ls -A", &unique, "cat tools/list >/made; echo x >thrown-away", "echo MADE"];
            let order = preparation(&commands, &["tools"]);
            // What it printed, and what a stage finds of it.
            let prepared = async |order: PrepareOrder| {
                let sandbox = open(&*rig).await;
                let (end, printed) = prepare_as(&*sandbox, &order).await;
                assert_eq!(end.unwrap(), PASSED);
                let (end, made) = run(&*sandbox, &script(&["cat /made; ls -A"])).await;
                assert_eq!(end.unwrap(), PASSED);
                // Another one may be open at this moment.
                sandbox.close().await.unwrap();
                (text(&printed), text(&made))
            };
            let (printed, made) = prepared(order.clone()).await;
            assert!(printed.starts_with("tools\nMADE\n") && printed.contains("/app/thrown-away"), "{printed}");
            assert_eq!(made, "1other\ntools\n");
            let mut again = order.clone();
            again.stage.environment = vec![Variable::new("BUILDR_COMMIT", "another")];
            fs::write(rig.workspace().join("other"), "2").unwrap();
            let (printed, made) = prepared(again).await;
            assert!(printed.starts_with("buildr: prepare is as it was") && !printed.contains("MADE"), "{printed}");
            assert_eq!(made, "1other\ntools\n");
            assert!(prepared(PrepareOrder { cache: false, ..order.clone() }).await.0.contains("MADE"));
            // Two at once make it once.
            fs::write(rig.workspace().join("tools/list"), "2").unwrap();
            let (one, other) = tokio::join!(prepared(order.clone()), prepared(order));
            assert_eq!((one.0 + other.0.as_str()).matches("MADE\n").count(), 1);
            assert_eq!((one.1.as_str(), other.1.as_str()), ("2other\ntools\n", "2other\ntools\n"));
            let spare = rig.docker_executor().spare().await.unwrap();
            assert_eq!(spare.len(), 2, "one for each content of its files");
            assert_eq!(rig.another_life().await.sweep().await.unwrap().images, 0, "they outlive a life");
            for one in spare {
                assert!(rig.docker_executor().remove_spare(&one).await.unwrap());
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_kept_for_a_person_to_look_into() {
    with_docker(
        |_| {},
        |rig| async move {
            let keeping = SandboxOrder { keep: KeepContainers::Failed, ..order(&*rig) };
            let sandbox = rig.executor().open(keeping).await.unwrap();
            assert_eq!(run(&*sandbox, &script(&["true"])).await.0.unwrap(), PASSED);
            let mut stage = script(&["echo traces >/traces; echo work >made", "exit 4"]);
            stage.environment = vec![Variable::new("VALUE", "of the stage")];
            let (end, printed) = run(&*sandbox, &stage).await;
            assert_eq!(end.unwrap(), StageEnd::Exited { code: 4 });
            sandbox.close().await.unwrap();
            let kept = rig.docker_executor().kept();
            assert_eq!(kept.len(), 1, "only what failed");
            assert!(text(&printed).contains(&kept[0].image), "{}", text(&printed));
            let (input, mut typed) = tokio::io::duplex(1024);
            let (mut screen, shown) = tokio::io::duplex(64 << 10);
            let (_size, size) = tokio::sync::watch::channel((77, 22));
            let terminal = ShellTerminal { input: Box::new(input), output: Box::new(shown), size };
            // The size comes a moment after the shell.
            let size = "until [ \"$(stty size)\" = '22 77' ]; do sleep 0.1; done; stty size";
            let line = format!("cat /traces made; echo \"$VALUE\"; {size}; exit 5\n");
            typed.write_all(line.as_bytes()).await.unwrap();
            let reading = async {
                let mut all = Vec::new();
                screen.read_to_end(&mut all).await.unwrap();
                text(&all)
            };
            let (code, shown) = tokio::join!(rig.docker_executor().shell(&kept[0], terminal), reading);
            assert_eq!(code.unwrap(), 5, "{shown}");
            for line in ["traces\r\n", "work\r\n", "of the stage\r\n", "22 77\r\n"] {
                assert!(shown.contains(line), "{line:?} in {shown}");
            }
            // Another test may have a container of any image at hand for a moment.
            let end = Instant::now() + farm::farm::PATIENCE;
            while let Err(error) = rig.docker.remove_image(&kept[0].image, None::<RemoveImageOptions>, None).await {
                let is_used = matches!(error, Error::DockerResponseServerError { status_code: 409, .. });
                assert!(is_used && Instant::now() < end, "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        },
    )
    .await;
}

/// What a test does on a daemon that sees no folder of this machine.
async fn far_away(rig: &DockerRig) {
    fs::create_dir(rig.workspace().join("sub")).unwrap();
    fs::write(rig.workspace().join("sub/given"), "given\n").unwrap();
    fs::write(rig.workspace().join("removed"), "").unwrap();
    fs::set_permissions(rig.workspace().join("sub/given"), fs::Permissions::from_mode(0o751)).unwrap();
    let (secret, hand) = (rig.workspace().join("secret"), rig.workspace().join("hand"));
    fs::write(&secret, "hush\n").unwrap();
    fs::create_dir(&hand).unwrap();
    let sandbox = open(rig).await;
    let mut stage = script(&[
        "cat sub/given /run/secrets/token",
        "rm removed; ln -s sub/given link; echo made >sub/made; echo x >/run/hand/back",
        "exit 3",
    ]);
    let mount = |source: &Path, target: &str, read_only: bool| MountOrder {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    stage.mounts = vec![mount(&secret, "/run/secrets/token", true), mount(&hand, "/run/hand", false)];
    let (end, printed) = run(&*sandbox, &stage).await;
    assert_eq!(end.unwrap(), StageEnd::Exited { code: 3 });
    let printed = text(&printed);
    assert!(printed.starts_with("buildr: the Docker daemon does not see this machine's folders"), "{printed}");
    assert!(printed.ends_with("\ngiven\nhush\n"), "{printed}");
    assert_eq!(fs::read_to_string(rig.workspace().join("link")).unwrap(), "given\n");
    assert_eq!(fs::read_to_string(rig.workspace().join("sub/made")).unwrap(), "made\n");
    assert_eq!(fs::metadata(rig.workspace().join("sub/given")).unwrap().mode() & 0o777, 0o751);
    assert!(!rig.workspace().join("removed").exists());
    assert!(hand.join("back").exists() || rig.workspace().join("hand/back").exists());
    let (end, printed) = prepare(&*sandbox, &script(&["test -f sub/made", "echo x >/made; echo x >thrown-away"])).await;
    assert_eq!(end.unwrap(), PASSED, "{}", text(&printed));
    let (end, printed) = run(&*sandbox, &script(&["cat /made sub/made; ls"])).await;
    assert_eq!(end.unwrap(), PASSED);
    assert!(!text(&printed).contains("thrown-away"));
    close(rig, sandbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_sees_no_folder_of_ours_has_them_brought() {
    let Some(daemon) = OwnDocker::start_apart().await else { return };
    let host = daemon.host();
    with_docker(move |settings| settings.host = Some(host), |rig| async move { far_away(&rig).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_probed_from_within_where_their_network_is_elsewhere() {
    let Some(daemon) = OwnDocker::start().await else { return };
    let host = daemon.host();
    with_docker(
        move |settings| settings.host = Some(host),
        |rig| async move {
            let sandbox = open(&*rig).await;
            let http = Ready::Http(Probe { port: 82, path: "/".to_owned() });
            let slow = "select(undef, undef, undef, 0.7);";
            let services = vec![
                service(&rig, "by-port", greeter(81, slow), Some(Ready::Tcp(81))),
                service(&rig, "by-answer", greeter(82, slow), Some(http)),
            ];
            let served = serve(&*sandbox, services, None).await.0.unwrap();
            let asks = [ask("by-port", 81), ask("by-answer", 82)];
            let (end, printed) = in_network(&*sandbox, &served, &[&asks[0], &asks[1]]).await;
            assert_eq!((end, printed.as_str()), (PASSED, "hello\nhello\n"));
            let deaf = greeter(83, "")
                .into_iter()
                .map(|part| part.replace("LocalPort", "LocalAddr => '127.0.0.1', LocalPort"));
            let mut deaf = service(&rig, "deaf", deaf.collect(), Some(Ready::Tcp(83)));
            deaf.ready_timeout_ms = 3000;
            assert!(matches!(serve(&*sandbox, vec![deaf], None).await.0, Err(ExecutorError::NotReady { .. })));
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_reached_over_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ssh");
    // What the other machine's ssh server would do: run what stands after the host.
    fs::write(&program, "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift 2; exec sh -c \"$*\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    with_docker(
        move |settings| {
            settings.host = Some("ssh://me@far.example".to_owned());
            settings.ssh = program;
        },
        |rig| async move {
            let (end, printed) = alone(&rig, &["seq 1 200000", "exit 3"]).await;
            let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
            assert!(end == StageEnd::Exited { code: 3 } && printed == expected, "{end:?}");
            let sandbox = open(&*rig).await;
            let (end, _) = run_until(&*sandbox, &script(&["echo ready", "sleep 1000"]), "ready\n", Stop::cancel).await;
            assert_eq!(end.unwrap(), StageEnd::Cancelled);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test]
async fn what_ssh_complains_about_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ssh");
    fs::write(&program, "#!/bin/sh\necho 'Permission denied (publickey).' >&2; exit 255\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = DockerSettings::new("nobody", "now");
    settings.host = Some("ssh://far.example".to_owned());
    settings.ssh = program;
    let error = DockerExecutor::connect(settings).await.unwrap_err().to_string();
    assert!(error.contains("ssh://far.example") && error.contains("Permission denied (publickey)"), "{error}");
}

/// A port of this machine behind which the daemon's socket is, as long as the test runs.
async fn daemon_on_a_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(protocol::task::spawn("daemon's port", async move {
        while let Ok((mut near, _)) = listener.accept().await {
            drop(protocol::task::spawn("daemon's connection", async move {
                let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            }));
        }
    }));
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_is_reached_over_tcp_and_tls() {
    if !Path::new("/var/run/docker.sock").exists() {
        eprintln!("skipped: it needs a local daemon");
        return;
    }
    let plain = daemon_on_a_port().await;
    let secure = TlsPort::in_front_of(&plain).await;
    let (port, folder) = (secure.address.port(), secure.ca().parent().unwrap().to_owned());
    for (host, tls) in [(format!("tcp://{plain}"), None), (format!("tcp://localhost:{port}"), Some(folder))] {
        with_docker(
            move |settings| {
                settings.host = Some(host);
                settings.tls = tls;
            },
            |rig| async move {
                let (end, printed) = alone(&rig, &["cat /dev/null; seq 1 50000", "exit 3"]).await;
                let expected: String = (1..=50_000).map(|number| format!("{number}\n")).collect();
                assert!(end == StageEnd::Exited { code: 3 } && printed == expected, "{end:?}");
            },
        )
        .await;
    }
    let mut settings = DockerSettings::new("nobody", "now");
    settings.host = Some(format!("tcp://localhost:{port}"));
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy(secure.other_ca(), elsewhere.path().join("ca.pem")).unwrap();
    settings.tls = Some(elsewhere.path().to_owned());
    assert!(DockerExecutor::connect(settings).await.is_err(), "without the right authority nobody is spoken to");
}
