//! Containers and namespaces that stand ready on a real Docker daemon: that they are used, that they are thrown away when
//! they must be, and that nobody sees anything of another build through them.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use buildr::executor::docker::DockerSettings;
use buildr::executor::{Executor as _, PrepareOrder, Sandbox, SandboxOrder, StageOrder, StandbyOrder, Stop};
use farm::contract::executor::{ExecutorRig as _, PASSED, close, open, order, prepare_as, run, run_until, scripted};
use farm::docker::{DockerRig, with_docker};
use protocol::plan::Resources;
use protocol::{StageEnd, Variable};
use uuid::Uuid;

fn script(commands: &[&str]) -> StageOrder {
    scripted(commands.iter().map(|command| (*command).to_owned()).collect())
}

/// What a stage prints that must pass.
async fn prints(sandbox: &dyn Sandbox, stage: &StageOrder) -> String {
    let (end, printed) = run(sandbox, stage).await;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert_eq!(end.unwrap(), PASSED, "{printed}");
    printed
}

/// Prints the beginning of the id of the container in which it runs, where that has a network of its own.
const WHO: &str = "hostname";

/// The ids of this test's containers that run, but for those that hold a namespace.
async fn running(rig: &DockerRig) -> BTreeSet<String> {
    let options = ListContainersOptionsBuilder::default().filters(&rig.filter()).build();
    let found = rig.docker.list_containers(Some(options)).await.unwrap();
    let is_holder = |labels: &std::collections::HashMap<String, String>| labels["buildr.stage"] == "network";
    let stages = found.into_iter().filter(|found| !found.labels.as_ref().is_some_and(is_holder));
    stages.filter_map(|found| found.id).collect()
}

/// Waits until one container runs, and gives its id.
async fn stands(rig: &DockerRig) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut running = running(rig).await;
        if running.len() == 1 {
            return running.pop_first().unwrap();
        }
        assert!(Instant::now() < end, "waited for a container in vain: {running:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until none runs: the container of a stage that has ended may go a little later.
async fn nobody(rig: &DockerRig) {
    let end = Instant::now() + Duration::from_secs(60);
    while !running(rig).await.is_empty() {
        assert!(Instant::now() < end, "waited in vain for a container to go");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What stands ready in the rig's workspace for this stage.
fn ready(rig: &DockerRig, stage: &StageOrder) -> StandbyOrder {
    StandbyOrder { place: SandboxOrder { job: String::new(), ..order(rig) }, stage: stage.clone(), prepared: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_container_that_stands_ready_is_the_one_that_is_used() {
    with_docker(
        |_| {},
        |rig| async move {
            let stage = script(&[WHO]);
            let sandbox = open(&*rig).await;
            assert_ne!(prints(&*sandbox, &stage).await, "");
            nobody(&rig).await;
            sandbox.stand_by(&stage);
            let mut second = stands(&rig).await;
            second.truncate(12);
            assert_eq!(prints(&*sandbox, &stage).await.trim(), second);
            close(&*rig, sandbox).await;
            // The same of a place whose job comes later.
            rig.executor().stand_by(ready(&rig, &stage)).await.unwrap();
            let mut first = stands(&rig).await;
            first.truncate(12);
            let sandbox = open(&*rig).await;
            assert_eq!(prints(&*sandbox, &stage).await.trim(), first);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_ready_starts_from_what_prepare_left() {
    with_docker(
        |_| {},
        |rig| async move {
            let mark = Uuid::new_v4().simple().to_string();
            let prepare = |mark: &str| {
                let stage = script(&[&format!("echo {mark} > /made")]);
                PrepareOrder { stage, files: Some(Vec::new()), cache: true }
            };
            let stage = script(&["cat /made", WHO]);
            let sandbox = open(&*rig).await;
            assert_eq!(sandbox.prepared(), None);
            prepare_as(&*sandbox, &prepare(&mark)).await.0.unwrap();
            let prepared = sandbox.prepared();
            assert!(prepared.is_some());
            prints(&*sandbox, &stage).await;
            close(&*rig, sandbox).await;
            let foreseen = StandbyOrder { prepared, ..ready(&rig, &stage) };

            rig.executor().stand_by(foreseen.clone()).await.unwrap();
            let mut first = stands(&rig).await;
            first.truncate(12);
            let sandbox = open(&*rig).await;
            prepare_as(&*sandbox, &prepare(&mark)).await.0.unwrap();
            assert_eq!(prints(&*sandbox, &stage).await, format!("{mark}\n{first}\n"));
            close(&*rig, sandbox).await;

            // The next job's `prepare` is another one.
            rig.executor().stand_by(foreseen).await.unwrap();
            stands(&rig).await;
            let sandbox = open(&*rig).await;
            prepare_as(&*sandbox, &prepare("another")).await.0.unwrap();
            assert!(prints(&*sandbox, &stage).await.starts_with("another\n"));
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_be_made_otherwise_is_not_used() {
    with_docker(
        |_| {},
        |rig| async move {
            let sandbox = open(&*rig).await;
            let stage = script(&[WHO, "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null || :"]);
            sandbox.stand_by(&stage);
            let other = stands(&rig).await;
            let resources = Resources { pids: Some(77), ..Resources::default() };
            let printed = prints(&*sandbox, &StageOrder { resources, ..stage }).await;
            assert!(!printed.contains(&other[..12]) && printed.contains("77"), "{printed}");
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_died_meanwhile_is_not_used() {
    with_docker(
        |_| {},
        |rig| async move {
            let stage = script(&[WHO]);
            rig.executor().stand_by(ready(&rig, &stage)).await.unwrap();
            let died = stands(&rig).await;
            rig.docker.kill_container(&died, None::<KillContainerOptions>).await.unwrap();
            let sandbox = open(&*rig).await;
            assert_ne!(prints(&*sandbox, &stage).await.trim(), &died[..12]);
            close(&*rig, sandbox).await;
        },
    )
    .await;
}

/// Makes an image of this name, which is the rig's with a variable more.
async fn make_new(rig: &DockerRig, repo: &str, tag: &str) {
    let body = bollard::models::ContainerCreateBody { image: Some(rig.image()), ..Default::default() };
    let id = rig.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let options = CommitContainerOptionsBuilder::default().container(&id).repo(repo).tag(tag).build();
    let config = ContainerConfig { env: Some(vec!["NEW=new".to_owned()]), ..ContainerConfig::default() };
    rig.docker.commit_container(options, config).await.unwrap();
    let force = RemoveContainerOptionsBuilder::default().force(true).build();
    rig.docker.remove_container(&id, Some(force)).await.unwrap();
}

async fn remove_image(rig: &DockerRig, name: &str) {
    let force = RemoveImageOptionsBuilder::default().force(true).build();
    rig.docker.remove_image(name, Some(force), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_has_changed_under_its_name_is_the_new_one() {
    with_docker(
        |_| {},
        |rig| async move {
            let (repo, tag) = ("buildr-test", Uuid::new_v4().simple().to_string());
            let name = format!("{repo}:{tag}");
            let named = TagImageOptionsBuilder::default().repo(repo).tag(&tag).build();
            rig.docker.tag_image(&rig.image(), Some(named)).await.unwrap();
            let place = SandboxOrder { image: name.as_str().into(), ..order(&*rig) };
            let stage = script(&["echo is ${NEW-old}"]);
            rig.executor()
                .stand_by(StandbyOrder { place: place.clone(), stage: stage.clone(), prepared: None })
                .await
                .unwrap();
            stands(&rig).await;
            make_new(&rig, repo, &tag).await;
            let sandbox = rig.executor().open(place).await.unwrap();
            let (end, printed) = run(&*sandbox, &stage).await;
            let closed = sandbox.close().await;
            remove_image(&rig, &name).await;
            closed.unwrap();
            assert_eq!((end.unwrap(), String::from_utf8_lossy(&printed).as_ref()), (PASSED, "is new\n"));
            assert_eq!(rig.left().await, 0);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_leaves_nothing_of_what_stands_ready() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            let stage = script(&["echo ready", "sleep 1000"]);
            rig.executor().stand_by(ready(&rig, &stage)).await.unwrap();
            let sandbox = open(&*rig).await;
            let cancel = |stop: &Stop| {
                sandbox.stand_by(&stage);
                stop.cancel();
            };
            let (end, _) = run_until(&*sandbox, &stage, "ready\n", cancel).await;
            assert_eq!(end.unwrap(), StageEnd::Cancelled);
            sandbox.close().await.unwrap();
            rig.executor().retire().await;
            assert_eq!(rig.left().await, 0);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_ready_is_live_for_its_own_life_and_swept_by_the_next() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            // That its folders are seen is found out once.
            let sandbox = open(&*rig).await;
            prints(&*sandbox, &script(&["true"])).await;
            close(&*rig, sandbox).await;
            rig.executor().stand_by(ready(&rig, &script(&["true"]))).await.unwrap();
            stands(&rig).await;
            assert_eq!(rig.containers().await, 2, "one that waits, and one that holds its namespace");
            assert_eq!(rig.executor().sweep().await.unwrap().containers, 0);
            assert_eq!(rig.containers().await, 2);
            assert_eq!(rig.another_life().await.sweep().await.unwrap().containers, 2);
            assert_eq!(rig.containers().await, 0);
            let folder = rig.workspace();
            for own in std::fs::read_dir(folder.parent().unwrap()).unwrap().flatten() {
                // They go with the folder of their job.
                if own.path() != folder {
                    std::fs::remove_dir_all(own.path()).unwrap();
                }
            }
        },
    )
    .await;
}

/// One build after the other, each of one stage in a workspace that the last one had not.
struct Builds {
    rig: std::sync::Arc<DockerRig>,
    number: usize,
    /// That of the places that stand ready, and that of the builds that come to them.
    images: (String, String),
}

impl Builds {
    async fn begin(rig: std::sync::Arc<DockerRig>) -> Self {
        // That folders are seen here is found out once, and only then is anything joined.
        let images = (rig.image(), rig.image());
        let mut builds = Self { rig, number: 0, images };
        builds.build(&["true"]).await;
        builds
    }

    fn workspace(&self) -> PathBuf {
        self.rig.workspace().join(format!("{}/app", self.number))
    }

    /// A place that stood ready, opened for the next build.
    async fn next(&mut self, stage: &StageOrder) -> Box<dyn Sandbox> {
        self.number += 1;
        let workspace = self.workspace();
        std::fs::create_dir_all(&workspace).unwrap();
        let (expected, came) = &self.images;
        let place = SandboxOrder { workspace, image: expected.as_str().into(), ..order(&*self.rig) };
        let standby = StandbyOrder { place: place.clone(), stage: stage.clone(), prepared: None };
        self.rig.executor().stand_by(standby).await.unwrap();
        stands(&self.rig).await;
        self.rig.executor().open(SandboxOrder { image: came.as_str().into(), ..place }).await.unwrap()
    }

    /// What the stage of the next build prints.
    async fn build(&mut self, commands: &[&str]) -> String {
        let stage = script(commands);
        let sandbox = self.next(&stage).await;
        let printed = prints(&*sandbox, &stage).await;
        sandbox.close().await.unwrap();
        printed
    }

    async fn end(self) {
        self.rig.executor().retire().await;
        for number in 1..=self.number {
            let left = std::fs::read_dir(self.rig.workspace().join(number.to_string())).unwrap().flatten();
            let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name != "app").collect();
            assert!(left.is_empty(), "{left:?}");
        }
        assert_eq!(self.rig.left().await, 0);
    }
}

/// Prints which namespace it is in: that is called as its holder. (The kernel's own numbers are used again at once.)
const NAMESPACE: &str = "hostname";

/// All that a build could see of another, but for the network itself.
const SEES: &str = "cat /etc/hosts /etc/resolv.conf /etc/hostname; ls -A /tmp /dev/shm /run /var/tmp /app; \
    cat /proc/[0-9]*/comm | grep sleep || :; env | grep EVIL || :; cat /proc/sysvipc/shm | wc -l; hostname; find / -xdev -name '*wicked*'";

/// Leaves what it can.
const EVIL: &str = "for f in /etc/hosts /etc/resolv.conf /etc/hostname /tmp/wicked /dev/shm/wicked /run/wicked /wicked wicked; \
    do echo wicked >>$f; done; export EVIL=wicked; hostname wicked || :; setsid sleep 1000 >/dev/null 2>&1 &";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_build_is_seen_by_the_next_one_in_its_namespace() {
    for network in [None, Some("none".to_owned())] {
        let change = |settings: &mut DockerSettings| {
            settings.namespaces = 1;
            settings.network = network;
        };
        with_docker(change, |rig| async move {
            let mut builds = Builds::begin(rig).await;
            let clean = builds.build(&[NAMESPACE, SEES]).await;
            let wicked = builds.build(&[NAMESPACE, EVIL, "tail -n1 /etc/hosts"]).await;
            let next = builds.build(&[NAMESPACE, SEES]).await;
            assert_eq!(clean, next, "a build sees another");
            assert!(!next.contains("wicked") && wicked.ends_with("wicked\n"), "{wicked}");
            let namespace = |printed: &str| printed.lines().next().unwrap().to_owned();
            assert_eq!(namespace(&wicked), namespace(&next), "it is handed on while nobody has used it");
            builds.end().await;
        })
        .await;
    }
}

/// What uses a network, each in its way.
const USES: [&str; 6] = [
    // A connection to itself, whose traces wait in the kernel when it is over.
    "perl -MSocket -e 'socket(S,2,1,0);bind(S,sockaddr_in(8080,INADDR_ANY));listen(S,1);socket(C,2,1,0);\
        connect(C,sockaddr_in(8080,INADDR_LOOPBACK)) or die;accept(A,S);close C;close A'",
    // A connection that is refused.
    "perl -MSocket -e 'socket(C,2,1,0);connect(C,sockaddr_in(9,INADDR_LOOPBACK)) and die;exit 0'",
    // A message to nobody.
    "perl -MSocket -e 'socket(U,2,2,0);send(U,\"x\",0,sockaddr_in(9,INADDR_LOOPBACK)) or die'",
    // A message to the world outside.
    "perl -MSocket -e 'socket(U,2,2,0);send(U,\"x\",0,sockaddr_in(9,inet_aton(\"192.0.2.1\"))) or die'",
    // The same over version 6, to itself.
    "perl -MSocket=:all -e 'socket(U,10,2,0);send(U,\"x\",0,pack_sockaddr_in6(9,inet_pton(AF_INET6,\"::1\"))); exit 0; '\
        ; perl -MSocket -e 'socket(C,2,1,0);connect(C,sockaddr_in(9,INADDR_LOOPBACK));exit 0'",
    // It listens, in the background, and is killed with its container.
    "setsid perl -MSocket -e 'socket(S,2,1,0);bind(S,sockaddr_in(8080,INADDR_LOOPBACK));listen(S,1);socket(C,2,1,0);\
        connect(C,sockaddr_in(8080,INADDR_LOOPBACK)) or die;open F,\">up\";sleep 1000' >/dev/null 2>&1 & \
        until [ -e up ]; do sleep 0.05; done",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_was_used_is_thrown_away() {
    let change = |settings: &mut DockerSettings| {
        settings.namespaces = 1;
        settings.network = None;
    };
    with_docker(change, |rig| async move {
        let mut builds = Builds::begin(rig).await;
        let mut last = builds.build(&[NAMESPACE]).await;
        for uses in USES {
            let used = builds.build(&[NAMESPACE, "exec 2>&1", uses]).await;
            assert_eq!(used.lines().next(), last.lines().next(), "nobody had used it");
            let tables = "cat /proc/net/tcp /proc/net/udp /proc/net/unix | wc -l; grep lo: /proc/net/dev";
            let next = builds.build(&[NAMESPACE, tables]).await;
            assert_ne!(next.lines().next(), used.lines().next(), "it is handed on after {uses}");
            let lo: Vec<_> = next.lines().last().unwrap().split_whitespace().skip(1).collect();
            assert!(next.lines().nth(1) == Some("3") && lo.iter().all(|count| *count == "0"), "{next}");
            last = next;
        }
        builds.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_of_a_build_share_a_namespace_only_one_after_the_other() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            let mut builds = Builds::begin(rig).await;
            let stage = script(&[NAMESPACE]);
            let sandbox = builds.next(&stage).await;
            let first = prints(&*sandbox, &stage).await;
            assert_eq!(prints(&*sandbox, &stage).await, first);
            let wait = "touch $ME; until [ -e $OTHER ]; do sleep 0.05; done";
            let beside = |me: &str, other: &str| StageOrder {
                environment: vec![Variable::new("ME", me), Variable::new("OTHER", other)],
                ..script(&[NAMESPACE, wait])
            };
            let (one, other) = (beside("a", "b"), beside("b", "a"));
            let (one, other) = tokio::join!(prints(&*sandbox, &one), prints(&*sandbox, &other));
            assert_ne!(one, other, "two that run at once are in one namespace");
            assert!(one == first || other == first);
            // Files of its own each time, also within a build.
            let writes = script(&["echo wicked >>/etc/hosts; echo 127.0.0.9 own >>/etc/hosts; grep own /etc/hosts"]);
            assert_eq!(prints(&*sandbox, &writes).await, "127.0.0.9 own\n");
            assert!(!prints(&*sandbox, &script(&["cat /etc/hosts"])).await.contains("wicked"));
            sandbox.close().await.unwrap();
            builds.end().await;
        },
    )
    .await;
}

/// The parent of a container's first process.
async fn parent(rig: &DockerRig, container: &str) -> u32 {
    let found = rig.docker.inspect_container(container, None::<InspectContainerOptions>).await.unwrap();
    let pid = found.state.unwrap().pid.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_looks_after_a_namespace_and_the_stages_in_it() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            let told = rig.docker.version().await.unwrap().api_version.unwrap();
            let minor: u32 = told.strip_prefix("1.").unwrap().parse().unwrap();
            let mut builds = Builds::begin(rig).await;
            let stage = script(&["echo passes"]);
            for _ in 0..2 {
                let sandbox = builds.next(&stage).await;
                let options = ListContainersOptionsBuilder::default().filters(&builds.rig.filter()).build();
                let mut parents = Vec::new();
                for found in builds.rig.docker.list_containers(Some(options)).await.unwrap() {
                    parents.push(parent(&builds.rig, &found.id.unwrap()).await);
                }
                assert_eq!(parents.len(), 2, "a holder and a stage: {parents:?}");
                // Docker before 24 does not say who belongs together.
                assert_eq!(parents[0] == parents[1], minor >= 43, "{parents:?} by API 1.{minor}");
                assert_eq!(prints(&*sandbox, &stage).await, "passes\n");
                sandbox.close().await.unwrap();
            }
            builds.end().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_in_a_namespace_that_another_image_holds() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            let (repo, tag) = ("buildr-test", Uuid::new_v4().simple().to_string());
            make_new(&rig, repo, &tag).await;
            let (own, other) = (rig.image(), format!("{repo}:{tag}"));
            let mut builds = Builds::begin(rig).await;
            let mut last = builds.build(&[NAMESPACE]).await;
            assert_eq!(builds.build(&[NAMESPACE]).await, last);
            // What was held for one image is no place for another, whether that was foreseen or not.
            for images in [(&other, &other), (&own, &other), (&own, &own), (&other, &own)] {
                builds.images = (images.0.clone(), images.1.clone());
                let next = builds.build(&[NAMESPACE]).await;
                assert_ne!(next, last, "{images:?}");
                last = next;
            }
            let rig = std::sync::Arc::clone(&builds.rig);
            builds.end().await;
            remove_image(&rig, &other).await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_has_gone_is_done_without() {
    with_docker(
        |settings| settings.namespaces = 1,
        |rig| async move {
            let docker = rig.docker.clone();
            let filter = rig.filter();
            let mut builds = Builds::begin(rig).await;
            builds.build(&[NAMESPACE]).await;
            let options = ListContainersOptionsBuilder::default().filters(&filter).build();
            let holder = docker.list_containers(Some(options)).await.unwrap().remove(0).id.unwrap();
            docker.kill_container(&holder, None::<KillContainerOptions>).await.unwrap();
            builds.build(&[NAMESPACE]).await;
            // While a stage runs in it: the next one has its own.
            let stage = script(&["echo ready", "sleep 1"]);
            let sandbox = builds.next(&stage).await;
            let options = ListContainersOptionsBuilder::default().filters(&filter).build();
            for found in docker.list_containers(Some(options)).await.unwrap() {
                if found.labels.unwrap()["buildr.stage"] == "network" {
                    docker.kill_container(&found.id.unwrap(), None::<KillContainerOptions>).await.unwrap();
                }
            }
            prints(&*sandbox, &stage).await;
            prints(&*sandbox, &script(&[NAMESPACE])).await;
            sandbox.close().await.unwrap();
            builds.build(&[NAMESPACE]).await;
            builds.end().await;
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_for_another_workspace_is_left_alone() {
    with_docker(
        |_| {},
        |rig| async move {
            let stage = script(&["ls"]);
            rig.executor().stand_by(ready(&rig, &stage)).await.unwrap();
            let stood = stands(&rig).await;
            let elsewhere = rig.workspace().join("elsewhere");
            std::fs::create_dir(&elsewhere).unwrap();
            std::fs::write(elsewhere.join("mine"), "").unwrap();
            let place = SandboxOrder { workspace: elsewhere, ..order(&*rig) };
            let sandbox = rig.executor().open(place).await.unwrap();
            assert_eq!(prints(&*sandbox, &stage).await, "mine\n");
            sandbox.close().await.unwrap();
            assert!(running(&rig).await.contains(&stood));
            rig.executor().stand_down(&rig.workspace()).await.unwrap();
            rig.executor().stand_down(Path::new("/nobody/was/here")).await.unwrap();
            assert_eq!(rig.left().await, 0);
        },
    )
    .await;
}
