//! What only the executor on Docker does, against a real daemon.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    RemoveVolumeOptions, TagImageOptionsBuilder,
};
use buildr::executor::docker::{DiskLimits, DockerExecutor, DockerSettings, PullLimits};
use buildr::executor::{Executor as _, ExecutorError, SandboxOrder, SocketGrant, Spare, Stop, Swept};
use bytes::Bytes;
use farm::contract::executor::{
    Ended, ExecutorRig as _, PASSED, close, open, order, prepare, run, run_until, scripted,
};
use farm::docker::{DockerRig, with_docker};
use farm::registry::Registry;
use futures_util::{FutureExt as _, StreamExt as _};
use protocol::{Cause, StageEnd, Variable};
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
        let eat = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
        // Some daemons stop telling after a while; then a stage can only end as any container of theirs does.
        let expect = match farm::docker::want_of_memory_by_the_daemon(eat, 32 << 20).await {
            true => StageEnd::OutOfMemory { limit_bytes: 32 << 20 },
            false => StageEnd::Exited { code: 137 },
        };
        assert_eq!(alone(&rig, &[eat]).await.0, expect);
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
async fn a_folder_that_the_daemon_does_not_see_is_named() {
    with_docker(
        |_| {},
        |rig| async move {
            let nowhere = rig.workspace().join("not-there");
            let sandbox =
                rig.executor().open(SandboxOrder { workspace: nowhere.clone(), ..order(&*rig) }).await.unwrap();
            let error = run(&*sandbox, &script(&["true"])).await.0.unwrap_err();
            assert_eq!(error.cause(), Cause::Daemon);
            let sentence = error.to_string();
            assert!(sentence.contains(nowhere.to_str().unwrap()) && sentence.contains("--work-dir"), "{sentence}");
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
