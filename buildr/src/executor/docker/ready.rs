//! Whether a service is ready: by a command in it, by its port, by an answer over HTTP, or by what it prints.
//!
//! A port is tried from this machine where the service's network is here. Where it is not (a daemon elsewhere, in a
//! virtual machine, without root), a container of the job's image looks from within the service's own network: the
//! kernel's list of sockets needs nothing but a shell to be read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::WaitContainerOptions;
use futures_util::StreamExt as _;
use protocol::plan::{Ready, Service};
use regex::bytes::Regex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::super::{ExecutorError, Stop};
use super::container::Container;
use super::image::Image;
use super::order;
use super::removal;
use super::sandbox::DockerSandbox;

/// How long it waits between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

/// How long one try may take.
const TRY: Duration = Duration::from_secs(5);

/// How much of a service's output is looked through, and told when it fails.
const REMEMBERED: usize = 64 << 10;

/// How many of its last lines are told when it fails.
const LINES: usize = 10;

/// What a service has printed last, and whether it has ended.
#[derive(Debug, Default)]
pub(super) struct Heard {
    text: Vec<u8>,
    has_ended: bool,
}

impl Heard {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        let over = self.text.len().saturating_sub(REMEMBERED);
        self.text.drain(..over);
    }

    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Its last lines, for a sentence.
    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let lines: Vec<_> = text.lines().rev().take(LINES).collect();
        match lines.is_empty() {
            true => "it printed nothing".to_owned(),
            false => format!("it printed last:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n")),
        }
    }
}

/// A service that has been started, and is waited for.
pub(super) struct Awaited<'a> {
    pub(super) sandbox: &'a DockerSandbox,
    pub(super) container: &'a Container,
    pub(super) service: &'a Service,
    pub(super) image: &'a Image,
    pub(super) network: &'a str,
    pub(super) hears: watch::Receiver<Heard>,
}

/// How it is found out.
enum Sign {
    Command(Vec<String>),
    Port(u16, Option<String>),
    Log(Regex),
    None,
}

impl Awaited<'_> {
    /// Waits until it is ready.
    pub(super) async fn until_ready(&self) -> Result<(), ExecutorError> {
        let sign = self.sign()?;
        let limit = Duration::from_millis(self.service.ready_timeout_ms);
        tokio::select! {
            biased;
            shown = self.shows(&sign) => shown,
            () = self.hears(|heard| heard.has_ended) => Err(self.not_ready(&self.how_it_ended().await)),
            () = sleep(limit) => {
                let sign = sign.described();
                let seconds = limit.as_secs_f64();
                Err(self.not_ready(&format!("{sign} did not come within {seconds} s (ready_timeout gives it more time)")))
            }
        }
    }

    /// What shows that it is ready.
    fn sign(&self) -> Result<Sign, ExecutorError> {
        Ok(match &self.service.ready {
            Some(Ready::Command(command)) => Sign::Command(shell(command)),
            Some(Ready::Tcp(port)) => Sign::Port(*port, None),
            Some(Ready::Http(probe)) => Sign::Port(probe.port, Some(probe.path.clone())),
            Some(Ready::Log(pattern)) => {
                let bad =
                    |error| self.not_ready(&format!("what ready: log:/…/ has is not a regular expression: {error}"));
                Sign::Log(Regex::new(pattern).map_err(bad)?)
            }
            None => self.usual_sign(),
        })
    }

    /// The image's own health check, else its first port, else nothing.
    fn usual_sign(&self) -> Sign {
        let config = &self.image.config;
        let test = config.healthcheck.as_ref().and_then(|check| check.test.clone()).unwrap_or_default();
        match test.split_first() {
            Some((kind, words)) if kind == "CMD" && !words.is_empty() => return Sign::Command(words.to_vec()),
            Some((kind, words)) if kind == "CMD-SHELL" => return Sign::Command(shell(&words.join(" "))),
            _ => {}
        }
        let exposed = config.exposed_ports.iter().flatten();
        let ports =
            exposed.filter(|port| !port.ends_with("/udp")).filter_map(|port| port.split('/').next()?.parse().ok());
        ports.min().map_or(Sign::None, |port| Sign::Port(port, None))
    }

    async fn shows(&self, sign: &Sign) -> Result<(), ExecutorError> {
        match sign {
            Sign::None => Ok(()),
            Sign::Log(pattern) => {
                self.hears(|heard| pattern.is_match(&heard.text)).await;
                Ok(())
            }
            Sign::Command(words) => loop {
                if timeout(TRY, self.succeeds(words)).await == Ok(true) {
                    return Ok(());
                }
                sleep(BETWEEN_TRIES).await;
            },
            Sign::Port(port, path) => match self.address().await {
                Some(address) => loop {
                    let address = SocketAddr::new(address, *port);
                    if timeout(TRY, answers(address, &self.service.name, path.as_deref())).await == Ok(true) {
                        return Ok(());
                    }
                    sleep(BETWEEN_TRIES).await;
                },
                None => self.seen_from_within(*port, path.as_deref()).await,
            },
        }
    }

    /// Waits for something that is heard; for what never will be, forever.
    async fn hears(&self, is_it: impl Fn(&Heard) -> bool) {
        let mut hears = self.hears.clone();
        let heard = hears.wait_for(|heard| is_it(heard)).await.is_ok();
        if !heard {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a command in the container ends with 0.
    async fn succeeds(&self, words: &[String]) -> bool {
        let docker = &self.container.engine.quick;
        let config = ExecConfig { cmd: Some(words.to_vec()), attach_stdout: Some(true), ..ExecConfig::default() };
        let ran = async {
            let exec = docker.create_exec(&self.container.id, config).await?.id;
            if let StartExecResults::Attached { mut output, .. } = docker.start_exec(&exec, None).await? {
                while output.next().await.is_some() {}
            }
            docker.inspect_exec(&exec).await
        };
        // Until it runs there is nothing to run a command in.
        ran.await.is_ok_and(|ended| ended.exit_code == Some(0))
    }

    /// Where this machine reaches the service: nowhere when its network is not here.
    async fn address(&self) -> Option<IpAddr> {
        let found = self.container.engine.quick.inspect_container(&self.container.id, None).await.ok()?;
        let place = found.network_settings?.networks?.remove(self.network)?;
        // The daemon names a network's bridge after its id, which no other network on any machine has.
        let bridge = format!("/sys/class/net/br-{}", place.network_id?.get(..12)?);
        std::fs::exists(bridge).ok().filter(|here| *here)?;
        place.ip_address?.parse().ok()
    }

    /// Waits in a container of the job's image that shares the service's network.
    async fn seen_from_within(&self, port: u16, path: Option<&str>) -> Result<(), ExecutorError> {
        let sandbox = self.sandbox;
        // What a pull says is for the job's first stage; here it is long since done, or soon.
        let (output, mut nobody) = mpsc::channel(1);
        nobody.close();
        let image = sandbox.images.obtain(&sandbox.machine, &sandbox.order.image, &output, &Stop::new()).await?;
        let Some(image) = image else { return std::future::pending().await };
        let (hex, port) = (format!("{port:04X}"), port.to_string());
        let words = ["/bin/sh", "-c", LOOK, "ready", &hex, &port, path.unwrap_or_default()].map(str::to_owned);
        let settings = &sandbox.machine.settings;
        let powers = sandbox.machine.powers().await;
        let network_mode = Some(format!("container:{}", self.container.id));
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            entrypoint: Some(words.to_vec()),
            labels: Some(sandbox.labels.of_stage("ready")),
            healthcheck: image.config.healthcheck.is_some().then(order::no_health_check),
            host_config: Some(HostConfig {
                network_mode,
                init: Some(true),
                ..order::bounded(settings, powers, protocol::plan::Resources::default(), false)
            }),
            ..ContainerCreateBody::default()
        };
        let title = format!("the watch on service {}", self.service.name);
        let watch =
            Container::create(&self.container.engine, title, &image.name, image.platform.as_deref(), body).await?;
        watch.start().await?;
        let mut waiting = self.container.engine.long.wait_container(&watch.id, None::<WaitContainerOptions>);
        let ended = waiting.next().await;
        removal::in_background(&sandbox.machine.engine, &watch.id).await;
        match ended {
            Some(Ok(ended)) if ended.status_code == 0 => Ok(()),
            // It ends badly only with the service.
            _ => std::future::pending().await,
        }
    }

    async fn how_it_ended(&self) -> String {
        let state = self.container.state().await.unwrap_or_default();
        match state.exit_code {
            Some(code) if state.running != Some(true) => format!("it ended with code {code} before it was ready"),
            _ => "it ended before it was ready".to_owned(),
        }
    }

    fn not_ready(&self, reason: &str) -> ExecutorError {
        let reason = format!("{reason}; {}", self.hears.borrow().last_lines());
        ExecutorError::NotReady { service: self.service.name.clone(), reason }
    }
}

impl Sign {
    fn described(&self) -> String {
        match self {
            Self::Command(words) => format!("the success of `{}`", words.last().map_or("", String::as_str)),
            Self::Port(port, None) => format!("a connection to port {port}"),
            Self::Port(port, Some(path)) => format!("a good answer to GET {path} on port {port}"),
            Self::Log(pattern) => format!("a line like {:?}", pattern.as_str()),
            Self::None => "its start".to_owned(),
        }
    }
}

/// Waits until somebody listens on a port (in hexadecimal digits, and in decimal ones) for more than this machine
/// itself and, where there is a path, answers a GET well. An image without any program that can ask is content with
/// the port.
const LOOK: &str = r#"port=$1 number=$2 path=$3
listens() {
  for file in /proc/net/tcp /proc/net/tcp6; do
    [ -r "$file" ] && while read -r line here there state rest; do
      case $state:$here in
      0A:??????7F:* | 0A:00000000000000000000000001000000:*) ;;
      0A:*:$port) return 0 ;;
      esac
    done <"$file"
  done
  return 1
}
has() { command -v "$1" >/dev/null 2>&1; }
answers() {
  url=http://127.0.0.1:$number$path
  if has curl; then curl -fsS -m 5 -o /dev/null "$url"
  elif has wget; then wget -q -T 5 -O /dev/null "$url"
  elif has bash; then
    bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && printf "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" "$1" >&3 &&
      read -r -t 5 version status rest <&3 && [ "$status" -lt 400 ]' "$number" "$path"
  elif has python3; then python3 -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' "$url"
  fi
}
until listens && { [ -z "$path" ] || answers; } >/dev/null 2>&1; do sleep 0.25 2>/dev/null || sleep 1; done
"#;

fn shell(command: &str) -> Vec<String> {
    ["/bin/sh", "-c", command].map(str::to_owned).to_vec()
}

/// Whether somebody takes a connection, and answers a GET of this path with a status below 400.
async fn answers(address: SocketAddr, host: &str, path: Option<&str>) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let Some(path) = path else { return true };
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut head = [0; 12];
    if stream.read_exact(&mut head).await.is_err() {
        return false;
    }
    // `HTTP/1.1 200`
    let status = std::str::from_utf8(&head).ok().and_then(|head| head.split(' ').nth(1)?.parse::<u16>().ok());
    status.is_some_and(|status| status < 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_told() {
        let mut heard = Heard::default();
        assert_eq!(heard.last_lines(), "it printed nothing");
        (0..20).for_each(|line| heard.push(format!("line {line}\n").as_bytes()));
        assert!(
            heard.last_lines().starts_with("it printed last:\nline 10\n") && heard.last_lines().ends_with("line 19")
        );
        heard.push(&vec![b'x'; REMEMBERED]);
        assert_eq!(heard.text.len(), REMEMBERED);
    }

    #[tokio::test]
    async fn an_answer_is_good_below_400() {
        for (status, expected) in [("200 OK", true), ("302 Found", true), ("503 No", false), ("x", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 512];
                let length = stream.read(&mut asked).await.unwrap();
                assert!(asked[..length].starts_with(b"GET /health HTTP/1.0\r\nHost: db\r\n"));
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            };
            let (answered, ()) = tokio::join!(answers(address, "db", Some("/health")), serving);
            assert_eq!(answered, expected, "{status}");
        }
    }
}
