//! What the daemon is told when a container is made: this machine's rules, and nothing of one build's own but its
//! folder, so that a container may one day stand ready before its job is known.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use protocol::Variable;
use protocol::plan::Resources;

use super::super::{MountOrder, StageOrder};
use super::carried;
use super::handoff::WRAPPER;
use super::image::Image;
use super::joint::Joined;
use super::namespace::FILES;
use super::powers::Powers;
use super::settings::DockerSettings;
use super::standing::Made;

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

/// What one container is made of.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) settings: &'a DockerSettings,
    pub(super) powers: &'a Powers,
    pub(super) image: &'a Image,
    pub(super) labels: HashMap<String, String>,
    /// The folder on this machine, and where the container sees it.
    pub(super) workspace: (&'a Path, &'a str),
    /// What else it sees of this machine.
    pub(super) mounts: &'a [MountOrder],
    /// Whether the daemon sees this machine's folders; if not, their contents are carried to volumes.
    pub(super) shared: bool,
    /// The daemon's socket, when this stage gets it.
    pub(super) socket: Option<&'a Path>,
    /// What it asks for of the machine.
    pub(super) resources: Resources,
    pub(super) privileged: bool,
    /// The network of the services that it sees, in place of this machine's setting.
    pub(super) network: Option<&'a str>,
    /// The namespace that it joins, in place of a network.
    pub(super) joined: Option<Joined>,
}

impl<'a> Order<'a> {
    /// What this stage's container is made of, over this folder of this machine and where it is mounted.
    pub(super) fn of_stage(
        settings: &'a DockerSettings,
        powers: &'a Powers,
        image: &'a Image,
        labels: HashMap<String, String>,
        workspace: (&'a Path, &'a str),
        stage: &'a StageOrder,
        socket: Option<&'a Path>,
    ) -> Self {
        Self {
            settings,
            powers,
            image,
            labels,
            workspace,
            mounts: &stage.mounts,
            shared: true,
            socket,
            resources: stage.resources,
            privileged: stage.privileged,
            network: stage.network.as_ref().map(|served| served.0.as_str()),
            joined: None,
        }
    }

    /// Whether it may share a namespace with those before and after it: nothing of its own would stay in it.
    pub(super) fn may_join(&self) -> bool {
        self.network.is_none() && !self.privileged && self.socket.is_none()
    }

    /// What the daemon is told, as far as it tells one container from another.
    pub(super) fn made(&self) -> Made {
        Made::of(self.alone(), self.image.platform.clone())
    }

    /// A stage's container, which waits for what it is told.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let mut body = self.alone();
        if let (Some(Joined { mode, annotations, files }), Some(host)) = (&self.joined, &mut body.host_config) {
            host.network_mode = Some(mode.clone());
            host.annotations = Some(annotations.clone());
            let own = FILES.map(|name| bind(&files.join(name), &format!("/etc/{name}"), false));
            host.mounts.get_or_insert_default().extend(own);
        }
        body
    }

    /// The same, in a namespace of its own.
    fn alone(&self) -> ContainerCreateBody {
        let mut entrypoint = self.image.entrypoint.clone().unwrap_or_default();
        entrypoint.extend(["/bin/sh", "-c", WRAPPER].map(str::to_owned));
        ContainerCreateBody {
            image: Some(self.image.id.clone()),
            entrypoint: Some(entrypoint),
            cmd: Some(Vec::new()),
            user: self.image.user.clone(),
            working_dir: Some(self.workspace.1.to_owned()),
            labels: Some(self.labels.clone()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            // When this process dies before the hand-off, the wrapper's input ends and it with it.
            stdin_once: Some(true),
            // Its own health is for services.
            healthcheck: self.image.config.healthcheck.is_some().then(no_health_check),
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
        // The socket belongs to a group; root needs no membership.
        let group = self.socket.filter(|_| !self.image.runs_as_root()).and_then(|path| path.metadata().ok());
        HostConfig {
            init: Some(true),
            network_mode: self.network.map(str::to_owned).or_else(|| self.settings.network.clone()),
            mounts: Some(self.all_mounts()),
            group_add: group.map(|metadata| vec![metadata.gid().to_string()]),
            ..bounded(self.settings, self.powers, self.resources, self.privileged)
        }
    }

    /// All that it sees of this machine but the daemon's socket.
    pub(super) fn seen(&self) -> Vec<MountOrder> {
        let (source, target) = self.workspace;
        let mut seen = vec![MountOrder { source: source.to_owned(), target: target.to_owned(), read_only: false }];
        seen.extend(self.mounts.iter().cloned());
        let read_only = |source: &Path, target: &str| MountOrder {
            source: source.to_owned(),
            target: target.to_owned(),
            read_only: true,
        };
        seen.extend(self.settings.ca_bundle.as_deref().map(|bundle| read_only(bundle, CA_BUNDLE)));
        if self.socket.is_some() {
            seen.extend(self.passed_credentials().map(|folder| read_only(folder, DOCKER_CONFIG)));
        }
        seen
    }

    fn all_mounts(&self) -> Vec<Mount> {
        let seen = self.seen();
        let mut mounts: Vec<Mount> = if self.shared {
            seen.iter().map(|mount| bind(&mount.source, &mount.target, mount.read_only)).collect()
        } else {
            carried::folders(&seen)
                .into_iter()
                .map(|(folder, of_image)| volume(folder, of_image, &self.labels))
                .collect()
        };
        mounts.extend(self.socket.map(|socket| bind(socket, SOCKET, false)));
        mounts
    }

    fn passed_credentials(&self) -> Option<&Path> {
        self.settings.credentials.as_deref().filter(|_| self.settings.docker_config)
    }
}

/// What every container of a job is bounded by, a stage's and a service's.
pub(super) fn bounded(
    settings: &DockerSettings,
    powers: &Powers,
    resources: Resources,
    privileged: bool,
) -> HostConfig {
    let allowed = settings.limits.within(resources, powers);
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = allowed.memory.map(size);
    let security = (!settings.allow_new_privileges).then(|| vec!["no-new-privileges".to_owned()]);
    HostConfig {
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        privileged: privileged.then_some(true),
        cap_drop: (!privileged).then(|| DROPPED.map(str::to_owned).to_vec()),
        security_opt: security.filter(|_| !privileged),
        pids_limit: allowed.pids.map(size),
        memory,
        memory_swap: memory,
        nano_cpus: allowed.cpu_milli.map(|milli| size(milli.saturating_mul(1_000_000))),
        shm_size: resources.shm_bytes.map(size),
        runtime: settings.runtime.clone(),
        ..HostConfig::default()
    }
}

/// A health check that is none.
pub(super) fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

/// A mount that fails when its source is missing, instead of making an empty folder there.
pub(super) fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// A volume without a name, which goes with its container; with what the image has there, or empty.
pub(super) fn volume(target: String, of_image: bool, labels: &HashMap<String, String>) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(target),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(!of_image),
            labels: Some(labels.clone()),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bollard::models::ImageConfig;

    use super::*;

    fn image(user: &str) -> Image {
        let config = ImageConfig { user: Some(user.to_owned()), ..ImageConfig::default() };
        let (name, id) = ("x".to_owned(), "sha256:0".to_owned());
        Image { digest: id.clone(), name, id, config, user: None, entrypoint: None, platform: None }
    }

    fn order<'a>(settings: &'a DockerSettings, powers: &'a Powers, image: &'a Image) -> Order<'a> {
        Order {
            settings,
            powers,
            image,
            labels: HashMap::new(),
            workspace: (Path::new("/w"), "/app"),
            mounts: &[],
            shared: true,
            socket: None,
            resources: Resources::default(),
            privileged: false,
            network: None,
            joined: None,
        }
    }

    #[test]
    fn a_container_that_joins_a_namespace_has_files_of_its_own() {
        let mut settings = DockerSettings::new("me", "now");
        settings.runtime = Some("crun".to_owned());
        let (image, powers) = (image(""), Powers::of_a_whole_daemon(2));
        let alone = order(&settings, &powers, &image);
        let annotations = HashMap::from([("of".to_owned(), "x".to_owned())]);
        let joined = Joined { mode: "container:x".to_owned(), annotations, files: PathBuf::from("/f") };
        let joins = Order { joined: Some(joined), ..order(&settings, &powers, &image) };
        assert_eq!(alone.made(), joins.made());
        let host = joins.body().host_config.unwrap();
        assert_eq!((host.network_mode.as_deref(), host.runtime.as_deref()), (Some("container:x"), Some("crun")));
        assert_eq!(host.annotations.unwrap()["of"], "x");
        let mounts: Vec<_> = host.mounts.unwrap().into_iter().map(|mount| mount.target.unwrap()).collect();
        assert_eq!(mounts, ["/app", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"]);
        let asks = |change: &dyn Fn(&mut Order<'_>)| {
            let mut order = order(&settings, &powers, &image);
            change(&mut order);
            order.may_join()
        };
        assert!(asks(&|_| {}));
        assert!(!asks(&|order| order.privileged = true));
        assert!(!asks(&|order| order.network = Some("services")));
        assert!(!asks(&|order| order.socket = Some(Path::new("/run/some.sock"))));
    }

    #[test]
    fn a_container_gets_what_its_machine_allows() {
        let check = |change: &dyn Fn(&mut DockerSettings), socket: Option<&Path>, targets: &[&str], names: &[&str]| {
            let mut settings = DockerSettings::new("me", "now");
            change(&mut settings);
            let (image, powers) = (image("1000"), Powers::of_a_whole_daemon(2));
            let order = Order { socket, ..order(&settings, &powers, &image) };
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
        check(&config, socket, &["/app", DOCKER_CONFIG, SOCKET], &["BUILDR_WORKSPACE_HOST", "DOCKER_CONFIG"]);
    }

    #[test]
    fn a_container_is_no_more_than_it_must_be() {
        let settings = DockerSettings::new("me", "now");
        let (image, powers) = (image(""), Powers::of_a_whole_daemon(2));
        let body = order(&settings, &powers, &image).body();
        assert_eq!(body.env, None, "nothing of one build may be in what the daemon keeps");
        let host = body.host_config.unwrap();
        assert_eq!(host.privileged, None);
        assert_eq!(host.pids_limit, Some(4096));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.cap_drop.unwrap(), DROPPED);
    }

    #[test]
    fn an_image_is_used_as_it_is_asked_for() {
        let settings = DockerSettings::new("me", "now");
        let powers = Powers::of_a_whole_daemon(2);
        let image = Image {
            user: Some("7".to_owned()),
            entrypoint: Some(vec!["/usr/bin/env".to_owned(), "A=b".to_owned()]),
            ..image("1000")
        };
        let order = Order { network: Some("services"), privileged: true, ..order(&settings, &powers, &image) };
        let body = order.body();
        assert_eq!(body.entrypoint.unwrap()[..4], ["/usr/bin/env", "A=b", "/bin/sh", "-c"]);
        assert_eq!(body.user.as_deref(), Some("7"));
        let host = body.host_config.unwrap();
        assert_eq!(
            (host.privileged, host.cap_drop, host.network_mode.as_deref()),
            (Some(true), None, Some("services"))
        );
    }
}
