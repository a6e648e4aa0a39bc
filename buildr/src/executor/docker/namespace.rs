//! Network namespaces that are made before anybody needs them, for stages to join: making one is most of what it costs to
//! start a container.
//!
//! Each is held by a small container of its own, whose shell answers what it sees of the namespace. The stages of a job
//! share one as long as they run one after the other, and then the next job gets it: only while it looks exactly as it
//! did before anybody was in it. No socket may be open or waiting, nothing may have been sent, not even to itself, and
//! addresses and routes must be the same; what cannot be seen, a stage cannot change, as it has no NET_ADMIN.
//! A namespace that was used is thrown away, and the next one is made aside.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use futures_util::StreamExt as _;
use rand::distr::{Alphanumeric, SampleString as _};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::ExecutorError;
use super::container::{Container, Line, waits};
use super::engine::Engine;
use super::removal;
use super::settings::DockerSettings;

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

/// Where the packets stand that were sent, in the line `Ip:` of `/proc/net/snmp`.
const OUT_REQUESTS: usize = 10;

/// A namespace, and the container that holds it.
#[derive(Debug)]
pub(super) struct Namespace {
    holder: Container,
    /// The image that the holder runs. It is the holder that says whether the namespace is clean, and how names are found
    /// in it: nobody has to believe an image that is not the own one.
    image: String,
    line: Line,
    /// How it looked before anybody was in it.
    clean: String,
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
        let mut namespace = Self { holder, image, line, clean: String::new(), files: Vec::new(), _seat: seat };
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
        // What tells nothing proves nothing.
        ["sockstat TCP: inuse 0 tw 0\n", "udp \n", "unix \n"].iter().all(|told| self.clean.contains(told)).then_some(())
    }

    async fn look(&mut self) -> Option<String> {
        Some(telling(&String::from_utf8_lossy(&self.ask("look").await?)))
    }

    /// Whether it looks as it did before anybody was in it.
    async fn is_clean(&mut self) -> bool {
        let Some(look) = self.look().await else { return false };
        let is_clean = look == self.clean;
        if !is_clean {
            let left: Vec<&str> = look.lines().filter(|line| !self.clean.lines().any(|known| known == *line)).collect();
            tracing::debug!(?left, "a network namespace is not as it was, so nobody gets it again");
        }
        is_clean
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

    /// What a container is told that joins it.
    pub(super) fn mode(&self) -> String {
        format!("container:{}", self.holder.id)
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

/// What a look at a namespace tells about those who were in it: without addresses within the kernel, what the kernel
/// counts for all namespaces at once, and what comes from others: also the answers to their questions who has an address,
/// which are no packets of anybody here. Nor does the order of lines tell anything: some of the kernel's lists are tables
/// that it lays out anew for what happens elsewhere.
fn telling(look: &str) -> String {
    let (mut file, mut told) = ("", Vec::new());
    for line in look.lines() {
        if let Some(next) = line.strip_prefix("==> ").and_then(|line| line.strip_suffix(" <==")) {
            file = next;
            told.push(format!("{file} \n"));
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let line = match file {
            "dev" if fields.first() != Some(&"lo:") => fields.first().map_or("", |name| *name).to_owned(),
            "netlink" => fields.get(1..3).unwrap_or_default().join(" "),
            "ipv6_route" if fields.len() > 9 => [fields[0], fields[1], fields[4], fields[9]].join(" "),
            "unix" => fields.get(7..).unwrap_or_default().join(" "),
            "sockstat" | "sockstat6" => match fields[..] {
                ["sockets:", ..] => line.to_owned(),
                // Those that nobody owns any more are counted for the whole machine; they cannot be but for packets.
                ["TCP:", "inuse", inuse, _, _, "tw", tw, ..] => format!("TCP: inuse {inuse} tw {tw}"),
                _ => fields.get(..3).unwrap_or_default().join(" "),
            },
            "snmp" if fields.first() == Some(&"Ip:") => fields.get(OUT_REQUESTS).unwrap_or(&"").to_string(),
            "snmp" if !matches!(fields.first(), Some(&"Tcp:" | &"Udp:" | &"UdpLite:")) => continue,
            "snmp6" if fields.first() != Some(&"Ip6OutRequests") => continue,
            _ => line.to_owned(),
        };
        told.push(format!("{file} {line}\n"));
    }
    told.sort_unstable();
    told.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: &str = "==> udp <==\n  sl  local_address\n==> unix <==\nNum       RefCount Protocol\n==> netlink <==\nsk Eth Pid\n\
        00000000466f34d8 0 0 00000000 0 0 0 2 0 5106163\n0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n==> dev <==\n face |bytes\n\
        lo: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\neth0: 646 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n==> sockstat <==\nsockets: used 1\n\
        TCP: inuse 0 orphan 0 tw 0 alloc 11 mem 72\nUDP: inuse 0 mem 0\n\
        ==> sockstat6 <==\nTCP6: inuse 0\n==> snmp <==\nIp: 1 64 7 0 0 0 0 0 7 20 0\nTcp: 1 200 0\n\
        ==> snmp6 <==\nIp6InReceives 4\nIp6OutRequests 0\n";

    #[track_caller]
    fn check(from: &str, to: &str, same: bool) {
        assert!(LOOK.contains(from), "{from}");
        assert_eq!(telling(LOOK) == telling(&LOOK.replacen(from, to, 1)), same, "{from} -> {to}");
    }

    #[test]
    fn what_somebody_left_is_seen() {
        check("local_address\n", "local_address\n   0: 0100007F:1F90 00000000:0000 07\n", false);
        check("TCP: inuse 0", "TCP: inuse 1", false);
        check("TCP6: inuse 0", "TCP6: inuse 1", false);
        check("UDP: inuse 0", "UDP: inuse 1", false);
        check("Protocol\n", "Protocol\n0000000000000000: 00000002 00000000 00010000 0001 01 5117 @left\n", false);
        check("2 0 5106163\n", "2 0 5106163\n0000000040f1e09e 0 77 0 0 0 0 2 0 5107\n", false);
        check("0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n", "", false);
        check("lo: 0 0", "lo: 84 1", false);
        check("7 20 0", "7 21 0", false);
        check("Ip6OutRequests 0", "Ip6OutRequests 1", false);
        check("eth0:", "eth1:", false);
        check("used 1", "used 2", false);
        check("tw 0", "tw 1", false);
        check("Tcp: 1 200 0", "Tcp: 1 200 1", false);
    }

    #[test]
    fn what_comes_from_others_is_no_matter() {
        let (one, other) =
            ("00000000466f34d8 0 0 00000000 0 0 0 2 0 5106163\n", "0000000040f1e09e 0 309 0 0 0 0 2 0 5107\n");
        check(&format!("{one}{other}"), &format!("{other}{one}"), true);
        check("eth0: 646 7", "eth0: 900 9", true);
        check("alloc 11 mem 72", "alloc 80 mem 9", true);
        check("orphan 0", "orphan 3", true);
        check("466f34d8", "11111111", true);
        check("eth0: 646 7 0 0 0 0 0 0 0 0", "eth0: 688 8 0 0 0 0 0 0 42 1", true);
        check("Ip: 1 64 7", "Ip: 1 64 9", true);
        check("Ip6InReceives 4", "Ip6InReceives 5", true);
    }
}
