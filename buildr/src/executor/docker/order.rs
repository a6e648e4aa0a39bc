//! What the daemon is told when a container is made: this machine's rules, and nothing of one build's own but its
//! folder, so that a container may one day stand ready before its job is known.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bollard::models::{
    ContainerConfig, ContainerCreateBody, HostConfig, HostConfigLogConfig, ImageConfig, Mount, MountType,
};
use protocol::Variable;

use super::handoff::WRAPPER;
use super::image::Image;
use super::settings::DockerSettings;

/// Rights that no build needs and that reach beyond its container. Dropping all would break apt, apk and npm.
const DROPPED: [&str; 4] = ["NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"];

/// Where a container finds the roots that it shall trust.
const CA_BUNDLE: &str = "/run/buildr/ca-bundle.pem";

/// Who reads which variable for them.
const CA_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// Where a container finds the credentials of `docker login`.
const DOCKER_CONFIG: &str = "/run/buildr/docker-config";

/// Where every Docker client looks for the daemon.
const SOCKET: &str = "/var/run/docker.sock";

/// What one stage's container is made of.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) settings: &'a DockerSettings,
    pub(super) image: &'a Image,
    pub(super) labels: HashMap<String, String>,
    /// The folder on this machine, and where the container sees it.
    pub(super) workspace: (&'a Path, &'a str),
    /// The daemon's socket, when this stage gets it.
    pub(super) socket: Option<&'a Path>,
}

impl Order<'_> {
    pub(super) fn body(&self) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.image.id.clone()),
            entrypoint: Some(["/bin/sh", "-c", WRAPPER].map(str::to_owned).to_vec()),
            cmd: Some(Vec::new()),
            working_dir: Some(self.workspace.1.to_owned()),
            labels: Some(self.labels.clone()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            // When this process dies before the hand-off, the wrapper's input ends and it with it.
            stdin_once: Some(true),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    /// What this machine adds to a stage's environment. The stage's own variables come after it.
    pub(super) fn environment(&self) -> Vec<Variable> {
        let mut variables = Vec::new();
        if self.settings.ca_bundle.is_some() {
            variables.extend(CA_VARIABLES.map(|name| Variable::new(name, CA_BUNDLE)));
        }
        if self.socket.is_some() {
            variables.push(Variable::new("BUILDR_WORKSPACE_HOST", self.workspace.0.to_string_lossy()));
            if self.passed_credentials().is_some() {
                variables.push(Variable::new("DOCKER_CONFIG", DOCKER_CONFIG));
            }
        }
        variables
    }

    fn host_config(&self) -> HostConfig {
        let limits = &self.settings.limits;
        let memory = limits.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let security = (!self.settings.allow_new_privileges).then(|| vec!["no-new-privileges".to_owned()]);
        // The socket belongs to a group; root needs no membership.
        let group = self.socket.filter(|_| !self.image.runs_as_root()).and_then(|path| path.metadata().ok());
        HostConfig {
            init: Some(true),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            network_mode: self.settings.network.clone(),
            mounts: Some(self.mounts()),
            cap_drop: Some(DROPPED.map(str::to_owned).to_vec()),
            security_opt: security,
            pids_limit: Some(i64::from(limits.pids)),
            memory,
            memory_swap: memory,
            #[expect(clippy::cast_possible_truncation, reason = "a float becomes the nearest integer that there is")]
            nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
            group_add: group.map(|metadata| vec![metadata.gid().to_string()]),
            ..HostConfig::default()
        }
    }

    fn mounts(&self) -> Vec<Mount> {
        let mut mounts = vec![bind(self.workspace.0, self.workspace.1, false)];
        if let Some(bundle) = &self.settings.ca_bundle {
            mounts.push(bind(bundle, CA_BUNDLE, true));
        }
        if let Some(socket) = self.socket {
            mounts.push(bind(socket, SOCKET, false));
            mounts.extend(self.passed_credentials().map(|folder| bind(folder, DOCKER_CONFIG, true)));
        }
        mounts
    }

    fn passed_credentials(&self) -> Option<&Path> {
        self.settings.credentials.as_deref().filter(|_| self.settings.docker_config)
    }
}

/// The configuration of an image that `prepare` has made: the base image's own, to the letter. What is left out
/// of a commit is taken from the container, so nothing is left out.
pub(super) fn as_the_base(base: &ImageConfig) -> ContainerConfig {
    ContainerConfig {
        user: base.user.clone(),
        exposed_ports: base.exposed_ports.clone(),
        env: base.env.clone(),
        cmd: base.cmd.clone(),
        healthcheck: base.healthcheck.clone(),
        volumes: base.volumes.clone(),
        working_dir: base.working_dir.clone().filter(|folder| !folder.is_empty()).or_else(|| Some("/".to_owned())),
        entrypoint: Some(base.entrypoint.clone().unwrap_or_default()),
        stop_signal: base.stop_signal.clone(),
        shell: base.shell.clone(),
        ..ContainerConfig::default()
    }
}

/// A mount that fails when its source is missing, instead of making an empty folder there.
fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn image(user: &str) -> Image {
        let config = ImageConfig { user: Some(user.to_owned()), ..ImageConfig::default() };
        Image { name: "x".to_owned(), id: "sha256:0".to_owned(), config }
    }

    #[test]
    fn a_container_gets_what_its_machine_allows() {
        let check = |change: &dyn Fn(&mut DockerSettings), socket: Option<&Path>, targets: &[&str], names: &[&str]| {
            let mut settings = DockerSettings::new("me", "now");
            change(&mut settings);
            let image = image("1000");
            let workspace = (Path::new("/w"), "/app");
            let order = Order { settings: &settings, image: &image, labels: HashMap::new(), workspace, socket };
            let mounts = order.body().host_config.unwrap().mounts.unwrap();
            let seen: Vec<_> = mounts.iter().map(|mount| mount.target.as_deref().unwrap()).collect();
            assert_eq!(seen, targets);
            let set: Vec<_> = order.environment().into_iter().map(|variable| variable.name).collect();
            assert_eq!(set, names);
        };
        let socket = Some(Path::new("/run/some.sock"));
        check(&|_| {}, None, &["/app"], &[]);
        check(&|_| {}, socket, &["/app", SOCKET], &["BUILDR_WORKSPACE_HOST"]);
        let bundle = |settings: &mut DockerSettings| settings.ca_bundle = Some(PathBuf::from("/etc/ca.pem"));
        check(&bundle, None, &["/app", CA_BUNDLE], &CA_VARIABLES);
        let config = |settings: &mut DockerSettings| {
            settings.credentials = Some(PathBuf::from("/home/me/.docker"));
            settings.docker_config = true;
        };
        check(&config, None, &["/app"], &[]);
        check(&config, socket, &["/app", SOCKET, DOCKER_CONFIG], &["BUILDR_WORKSPACE_HOST", "DOCKER_CONFIG"]);
    }

    #[test]
    fn a_container_is_no_more_than_it_must_be() {
        let settings = DockerSettings::new("me", "now");
        let image = image("");
        let workspace = (Path::new("/w"), "/app");
        let order = Order { settings: &settings, image: &image, labels: HashMap::new(), workspace, socket: None };
        let body = order.body();
        assert_eq!(body.env, None, "nothing of one build may be in what the daemon keeps");
        let host = body.host_config.unwrap();
        assert_eq!(host.privileged, None);
        assert_eq!(host.pids_limit, Some(4096));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.cap_drop.unwrap(), DROPPED);
    }
}
