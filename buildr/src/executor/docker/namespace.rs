//! Network namespaces that are made before anybody needs them, for stages to join: making one is most of what it costs to
//! start a container.
//!
//! Each is held by a small container of its own, whose shell answers what it sees of the namespace. The stages of a job
//! share one as long as they run one after the other, and then the next job gets it: only while it looks exactly as it
//! did before anybody was in it. No socket may be open or waiting, nothing may have been sent, not even to itself, and
//! addresses and routes must be the same; what cannot be seen, a stage cannot change, as it has no NET_ADMIN.
//! A namespace that was used is thrown away, and the next one is made aside.

mod look;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use futures_util::StreamExt as _;
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::super::ExecutorError;
use super::container::{Container, Line, waits};
use super::engine::Engine;
use super::removal;
use super::settings::DockerSettings;
use look::Look;

/// Answers each line `WORD MARK` on its input with what it sees, and the mark. It ends with its input.
const HOLDER: &str = r#"if tail -v -n +1 /proc/net/dev >/dev/null
then each() { tail -v -n +1 "$@"; }
else each() { for file; do echo "==> $file <=="; cat "$file"; done; }
fi 2>/dev/null
while read -r what mark; do
  case $what in
    look)
      # One process for all of them: each costs more than what it reads. Sockets of TCP are counted alone, for the kernel
      # lists them by way of a table of the whole machine.
      cd /proc/net && each udp udp6 udplite udplite6 raw raw6 icmp icmp6 packet unix netlink route ipv6_route \
        if_inet6 dev dev_mcast sockstat sockstat6 snmp snmp6 nf_conntrack ;;
    *) cat "$what" ;;
  esac 2>/dev/null
  printf %s "$mark"
done
"#;

/// The most that the holder of one has to say, in bytes: a namespace that looks like more is not clean anyhow.
const LONGEST_ANSWER: usize = 1 << 20;

/// How long an answer may take. A daemon that needs longer is no shorter way.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a namespace is waited for that another place is just giving back.
const RETURN: Duration = Duration::from_millis(500);

/// The files of a container that belong to its network, which those that join a namespace would share and may write to.
pub(super) const FILES: [&str; 3] = ["hosts", "resolv.conf", "hostname"];

/// Which containers containerd looks after with one process (its shim), as for the containers of a pod, instead of
/// starting one for each: that is a tenth of what a container costs, and four megabytes. Docker hands it on from version
/// 24 on, and pays no heed to it before.
const GROUP: &str = "io.containerd.runc.v2.group";

/// A namespace, and the container that holds it.
#[derive(Debug)]
pub(super) struct Namespace {
    holder: Container,
    /// What the holder and all that join it are annotated with.
    annotations: HashMap<String, String>,
    /// The image that the holder runs. It is the holder that says whether the namespace is clean, and how names are found
    /// in it: nobody has to believe an image that is not the own one.
    image: String,
    line: Line,
    /// How it looked before anybody was in it.
    clean: Look,
    /// What stands in [`FILES`].
    files: Vec<Vec<u8>>,
    _seat: Seat,
}

/// Counts as one of the namespaces that there are, until it is dropped.
#[derive(Debug)]
struct Seat(Arc<Pool>);

#[derive(Debug, Default)]
struct Pool {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Namespace>,
    /// All there are, or are being made.
    all: usize,
}

impl State {
    fn take(&mut self, is_meant: impl Fn(&Namespace) -> bool) -> Option<Namespace> {
        let place = self.idle.iter().rposition(is_meant)?;
        Some(self.idle.remove(place))
    }
}

/// The namespaces of this machine that no place has at present.
#[derive(Debug, Default)]
pub(super) struct Namespaces(Arc<Pool>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.lock().all -= 1;
        self.0.changed.notify_waiters();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Namespaces {
    /// One that is there, of this image.
    pub(super) async fn take(&self, engine: &Engine, image: &str) -> Option<Namespace> {
        loop {
            let mut namespace = self.0.lock().take(|namespace| namespace.image == image)?;
            if waits(&mut namespace.line) {
                return Some(namespace);
            }
            namespace.remove(engine).await;
        }
    }

    /// One of this image that is there, is just given back, or is made: nothing when there are as many as may be.
    pub(super) async fn obtain(
        &self,
        engine: &Engine,
        settings: &DockerSettings,
        image: &str,
        labels: HashMap<String, String>,
    ) -> Option<Namespace> {
        let end = Instant::now() + RETURN;
        let seat = loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if let Some(namespace) = self.take(engine, image).await {
                return Some(namespace);
            }
            if let Some(seat) = self.seat(settings.namespaces) {
                break seat;
            }
            // One of another image makes room.
            let other = self.0.lock().take(|_| true);
            if let Some(other) = other {
                other.remove(engine).await;
                continue;
            }
            timeout_at(end, changed).await.ok()?;
        };
        match Namespace::make(engine, settings, image, labels, seat).await {
            Ok(namespace) => namespace,
            Err(error) => {
                tracing::debug!(%error, "no network namespace stands ready");
                None
            }
        }
    }

    fn seat(&self, most: usize) -> Option<Seat> {
        let mut state = self.0.lock();
        (state.all < most).then(|| {
            state.all += 1;
            Seat(Arc::clone(&self.0))
        })
    }

    /// Takes one back, if it may be anybody's; removes it otherwise. Nobody is in it any more.
    pub(super) async fn give_back(&self, mut namespace: Namespace, engine: &Engine) {
        if namespace.is_clean().await {
            self.0.lock().idle.push(namespace);
            self.0.changed.notify_waiters();
        } else {
            namespace.remove(engine).await;
        }
    }

    /// Removes those that nobody has.
    pub(super) async fn retire(&self, engine: &Engine) {
        let idle = std::mem::take(&mut self.0.lock().idle);
        for namespace in idle {
            namespace.remove(engine).await;
        }
    }
}

impl Namespace {
    async fn make(
        engine: &Engine,
        settings: &DockerSettings,
        image: &str,
        labels: HashMap<String, String>,
        seat: Seat,
    ) -> Result<Option<Self>, ExecutorError> {
        let annotations = HashMap::from([(GROUP.to_owned(), format!("buildr-{}", Uuid::new_v4().simple()))]);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            // Whoever it is needs to read a few files, and no more.
            user: Some("65534:65534".to_owned()),
            entrypoint: Some(["/bin/sh", "-c", HOLDER].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            labels: Some(labels),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            healthcheck: Some(super::order::no_health_check()),
            host_config: Some(HostConfig {
                network_mode: settings.network.clone(),
                annotations: Some(annotations.clone()),
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                runtime: settings.runtime.clone(),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let holder = Container::create(engine, "a network namespace".to_owned(), image, None, body).await?;
        let line = match holder.begin().await {
            Ok(line) => line,
            Err(error) => {
                removal::container(engine, &holder.id).await?;
                return Err(error);
            }
        };
        let image = image.to_owned();
        let mut namespace =
            Self { holder, annotations, image, line, clean: Look::default(), files: Vec::new(), _seat: seat };
        if namespace.look_around().await.is_none() {
            namespace.remove(engine).await;
            return Ok(None);
        }
        Ok(Some(namespace))
    }

    /// Whether its holder runs this image.
    pub(super) fn is_of(&self, image: &str) -> bool {
        self.image == image
    }

    /// Takes in how it looks before anybody is in it.
    async fn look_around(&mut self) -> Option<()> {
        for file in FILES {
            let contents = self.ask(&format!("/etc/{file}")).await?;
            self.files.push(contents);
        }
        self.clean = self.look().await?;
        self.clean.tells().then_some(())
    }

    async fn look(&mut self) -> Option<Look> {
        Some(Look::of(&String::from_utf8_lossy(&self.ask("look").await?)))
    }

    /// Whether it looks as it did before anybody was in it.
    async fn is_clean(&mut self) -> bool {
        let Some(look) = self.look().await else { return false };
        if !look.is_as(&self.clean) {
            let left = look.beyond(&self.clean);
            tracing::debug!(?left, "a network namespace is not as it was, so nobody gets it again");
            return false;
        }
        // Who left meanwhile is not to come back.
        self.clean = look;
        true
    }

    async fn ask(&mut self, what: &str) -> Option<Vec<u8>> {
        let mark = Alphanumeric.sample_string(&mut rand::rng(), 24);
        let Line { output, input } = &mut self.line;
        let answer = async {
            input.write_all(format!("{what} {mark}\n").as_bytes()).await.ok()?;
            input.flush().await.ok()?;
            let mut answer = Vec::new();
            while !answer.ends_with(mark.as_bytes()) {
                answer.extend_from_slice(&output.next().await?.ok()?.into_bytes());
                if answer.len() > LONGEST_ANSWER {
                    return None;
                }
            }
            answer.truncate(answer.len() - mark.len());
            Some(answer)
        };
        timeout(ANSWER, answer).await.ok().flatten()
    }

    /// The network of a container that joins it.
    pub(super) fn mode(&self) -> String {
        format!("container:{}", self.holder.id)
    }

    /// What such a container is annotated with.
    pub(super) fn annotations(&self) -> HashMap<String, String> {
        self.annotations.clone()
    }

    /// What stands in [`FILES`] where nobody wrote to them.
    pub(super) fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        FILES.into_iter().zip(self.files.iter().cloned()).collect()
    }

    pub(super) async fn remove(self, engine: &Engine) {
        if let Err(error) = removal::container(engine, &self.holder.id).await {
            tracing::warn!(%error, "the holder of a network namespace stays until the next start");
        }
    }
}
