//! The Docker daemon: whether one answers, what it is, and whether it sees this machine's folders.

use std::path::Path;
use std::time::Duration;

use protocol::BootId;

use super::Finding;
use super::machine::room;
use crate::cli::containers::ContainerArgs;
use crate::executor::docker::{Daemon, DockerExecutor, DockerSettings, Sight, probe};
use crate::runner::{Settled, WorkFolder, WorkspaceChoice};

/// A daemon that has not answered by then is none for a person who waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Under what owner the container stands that is made to look, and swept should this process be killed.
const OWNER: &str = "buildr-doctor";

/// Looks at the daemon, and at the folder for workspaces through its eyes.
pub(super) async fn look(work: &Path) -> Vec<Finding> {
    let settings = ContainerArgs::default().docker(OWNER, BootId::fresh());
    let place = settings.host.clone().filter(|host| !host.is_empty());
    let mut findings = vec![way(place.as_deref())];
    let made = std::fs::create_dir_all(work);
    let told = tokio::time::timeout(PATIENCE, probe(&settings, work)).await;
    let daemon = match told {
        Ok(Ok(daemon)) => daemon,
        Ok(Err(error)) => {
            findings.push(Finding::fail("docker", error.to_string(), start(place.as_deref())));
            return findings;
        }
        Err(_) => {
            let found = format!("no answer within {} s", PATIENCE.as_secs());
            findings.push(Finding::fail("docker", found, start(place.as_deref())));
            return findings;
        }
    };
    findings.extend(about(&daemon, &settings));
    findings.push(match made {
        Ok(()) => sight(&daemon.sight, work),
        Err(error) => Finding::fail(
            "workspaces",
            format!("{}: {error}", work.display()),
            "name a folder that this user may write: --work-dir",
        ),
    });
    if daemon.sight == Sight::Sees {
        findings.extend(overlays(settings, work).await);
    }
    if let Some(root) = daemon.root.as_deref().filter(|root| root.is_dir()) {
        findings.extend(room("images", root));
    }
    findings
}

/// By which way the daemon is reached.
fn way(host: Option<&str>) -> Finding {
    match host {
        None => Finding::ok("way", "the usual socket, /var/run/docker.sock"),
        Some(host) if host.starts_with("unix://") => Finding::ok("way", format!("DOCKER_HOST={host}")),
        Some(host) if host.starts_with("ssh://") => Finding::warn(
            "way",
            format!("DOCKER_HOST={host}"),
            "a daemon behind ssh is on another machine: stages that use its socket or its folders see that machine",
        ),
        Some(host) => Finding::warn(
            "way",
            format!("DOCKER_HOST={host}"),
            "whoever reaches this port is root on that machine; use TLS (https://) or a socket",
        ),
    }
}

fn start(host: Option<&str>) -> String {
    match host {
        None => {
            "start Docker (`sudo systemctl start docker`), or name another daemon with DOCKER_HOST; where the socket \
                 is there and refuses you, join its group: `sudo usermod -aG docker $USER`, then log in anew"
                .to_owned()
        }
        Some(host) => format!("see that a daemon answers at {host}, or unset DOCKER_HOST for the one of this machine"),
    }
}

/// What it is, and what it cannot do.
fn about(daemon: &Daemon, settings: &DockerSettings) -> Vec<Finding> {
    let Daemon { version, platform, rootless, podman, cgroup, without_limits, warnings, .. } = daemon;
    let name = if *podman { "Podman" } else { "Docker" };
    let kind = if *rootless { ", rootless" } else { "" };
    let groups = if cgroup.is_empty() { String::new() } else { format!(", control groups v{cgroup}") };
    let mut findings = vec![Finding::ok("docker", format!("{name} {version} on {platform}{kind}{groups}"))];
    if *podman {
        let advice = "builds run; `docker: true` gives Podman's socket, with which some programs cannot work";
        findings.push(Finding::warn("podman", "this daemon is Podman", advice));
    }
    if *rootless {
        let advice = "builds run; `privileged: true` is not root on this machine, and ports below 1024 are closed";
        findings.push(Finding::warn("rootless", "the daemon is not root", advice));
    }
    if !platform.starts_with("linux/") {
        findings.push(Finding::fail(
            "platform",
            format!("{platform} containers"),
            "switch the daemon to Linux containers",
        ));
    }
    if without_limits.is_empty() {
        findings.push(Finding::ok("limits", "memory, processors and processes can be limited"));
    } else {
        let advice =
            "a build can take all of it; delegate the control groups to the daemon (rootless: systemd's Delegate=yes)";
        findings.push(Finding::warn("limits", format!("cannot limit {}", without_limits.join(", ")), advice));
    }
    for warning in
        warnings.iter().filter(|warning| warning.to_lowercase().contains("insecure") || warning.contains("iptables"))
    {
        findings.push(Finding::warn(
            "daemon",
            warning.trim_start_matches("WARNING: "),
            "see the daemon's own documentation of it",
        ));
    }
    if settings.credentials.as_deref().is_some_and(|folder| folder.join("config.json").is_file()) {
        findings.push(Finding::ok("registries", "logins are in Docker's configuration"));
    } else {
        findings.push(Finding::ok("registries", "no logins; public images only"));
    }
    findings
}

/// How an agent that runs here as this user brings code into workspaces.
async fn overlays(settings: DockerSettings, work: &Path) -> Option<Finding> {
    let executor = DockerExecutor::connect(settings).await.ok()?;
    let folder = WorkFolder::at(work).ok()?.with(WorkspaceChoice::Auto);
    let Settled { way, because } = folder.settle(&executor, work).await.ok()?;
    let because = because.map(|because| format!(" ({because})")).unwrap_or_default();
    Some(Finding::ok("checkouts", format!("an agent that runs as this user makes {way}{because}")))
}

fn sight(sight: &Sight, work: &Path) -> Finding {
    let place = work.display();
    match sight {
        Sight::Sees => Finding::ok("workspaces", format!("the daemon sees {place}")),
        Sight::Blind => Finding::warn(
            "workspaces",
            format!("the daemon does not see {place}, or may not use it"),
            "builds run: their files are brought to it before each stage and back after it, which takes its time; where \
             the daemon is on this machine, name a folder that it may use with --work-dir",
        ),
        Sight::NoImage => Finding::warn(
            "workspaces",
            "there is no image yet, so whether the daemon sees the folder for workspaces is not known",
            "pull one (`docker pull debian:bookworm-slim`), and look again",
        ),
        Sight::Unclear(reason) => Finding::warn(
            "workspaces",
            format!("whether the daemon sees {place} is not known: {reason}"),
            "run `buildr run` on a small project; what it says is what counts",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn states(findings: &[Finding]) -> Vec<(&str, State)> {
        findings.iter().map(|finding| (finding.name, finding.state)).collect()
    }

    #[test]
    fn ways_to_a_daemon() {
        for (host, state) in [
            (None, State::Ok),
            (Some("unix:///run/user/1/docker.sock"), State::Ok),
            (Some("tcp://10.0.0.1:2375"), State::Warn),
            (Some("ssh://oak"), State::Warn),
        ] {
            assert_eq!(way(host).state, state, "{host:?}");
        }
    }

    #[test]
    fn what_a_daemon_cannot_do_is_said() {
        let settings = DockerSettings::new("x", "y");
        let linux = Daemon { version: "28".to_owned(), platform: "linux/amd64".to_owned(), ..Daemon::default() };
        assert!(about(&linux, &settings).iter().all(|finding| finding.state == State::Ok));
        let weak = Daemon { rootless: true, podman: true, without_limits: vec!["memory"], ..linux.clone() };
        let found = about(&weak, &settings);
        let warned = ["podman", "rootless", "limits"].map(|name| (name, State::Warn));
        assert!(warned.iter().all(|one| states(&found).contains(one)), "{found:?}");
        let windows = Daemon { platform: "windows/amd64".to_owned(), ..linux };
        assert!(states(&about(&windows, &settings)).contains(&("platform", State::Fail)));
    }

    #[test]
    fn a_folder_that_the_daemon_does_not_see_is_in_the_way() {
        let at = |seen: &Sight| sight(seen, Path::new("/w")).state;
        assert_eq!(at(&Sight::Sees), State::Ok);
        assert_eq!(at(&Sight::Blind), State::Warn);
        assert_eq!(at(&Sight::NoImage), State::Warn);
        assert_eq!(at(&Sight::Unclear("x".to_owned())), State::Warn);
    }
}
