//! What can be told of a daemon before anything is run on it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::CreateContainerOptions;

use super::super::ExecutorError;
use super::engine::{Engine, reason};
use super::labels::Labels;
use super::removal;
use super::settings::DockerSettings;

/// A daemon, as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// `linux/amd64` and its like.
    pub platform: String,
    /// Whether it runs without being root.
    pub rootless: bool,
    /// Whether it is Podman, speaking Docker's language.
    pub podman: bool,
    /// The version of the control groups; empty where it does not tell.
    pub cgroup: String,
    /// Limits that it cannot set: memory, processors, processes.
    pub without_limits: Vec<&'static str>,
    /// Where it keeps images and containers, in its own world.
    pub root: Option<PathBuf>,
    /// What it warns of itself.
    pub warnings: Vec<String>,
    /// Whether it sees the folder that was asked about.
    pub sight: Sight,
}

/// Whether a daemon sees a folder of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sight {
    /// It does, under the same path, and may use it.
    Sees,
    /// It does not, or may not use it: it runs on another machine, in a virtual one, beside this container, or as
    /// another user.
    Blind,
    /// It has no image yet to make a container of.
    #[default]
    NoImage,
    /// Something else is wrong.
    Unclear(String),
}

/// Asks a daemon about itself, and whether it sees `folder`, in which an empty folder is made for that and removed
/// again. For the same, a container is made of some image at hand, never started, and removed.
///
/// # Errors
/// [`ExecutorError::Unreachable`] when no daemon answers there, [`ExecutorError::Daemon`] when it does not tell.
pub async fn probe(settings: &DockerSettings, folder: &Path) -> Result<Daemon, ExecutorError> {
    let engine = Engine::connect(settings).await?;
    let told = engine.quick.info().await.map_err(|error| engine.failed("ask what it is", &error))?;
    let version = &*engine.told;
    let components = version.components.as_deref().unwrap_or_default();
    let podman = components.iter().any(|component| component.name.to_lowercase().contains("podman"));
    let options = told.security_options.unwrap_or_default();
    let limits = [
        ("memory", told.memory_limit),
        ("processors", told.cpu_cfs_quota.or(told.cpu_shares)),
        ("processes", told.pids_limit),
    ];
    Ok(Daemon {
        version: version.version.clone().unwrap_or_default(),
        platform: format!(
            "{}/{}",
            version.os.as_deref().unwrap_or_default(),
            version.arch.as_deref().unwrap_or_default()
        ),
        rootless: options.iter().any(|option| option.contains("rootless")),
        podman,
        cgroup: told.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        without_limits: limits.into_iter().filter(|(_, can)| *can == Some(false)).map(|(what, _)| what).collect(),
        root: told.docker_root_dir.map(PathBuf::from),
        warnings: told.warnings.unwrap_or_default(),
        sight: sight(&engine, settings, folder).await,
    })
}

/// Whether the daemon sees a folder: a new one in it, by a container that is made and never started.
pub(super) async fn sight(engine: &Engine, settings: &DockerSettings, folder: &Path) -> Sight {
    let image = match removal::images_at_hand(engine).await {
        Ok(images) => images.into_iter().next(),
        Err(error) => return Sight::Unclear(error.to_string()),
    };
    let Some(image) = image else { return Sight::NoImage };
    // Only somebody who sees this very disk can know a name that was made up a moment ago.
    let own = match tempfile::Builder::new()
        .prefix("doctor-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(folder)
    {
        Ok(own) => own,
        Err(error) => return Sight::Unclear(format!("{}: {error}", folder.display())),
    };
    // Below what nobody but this user and root may look into: the daemon of another one may see it, and not write there.
    let inner = own.path().join("inner");
    if let Err(error) = std::fs::create_dir(&inner) {
        return Sight::Unclear(format!("{}: {error}", inner.display()));
    }
    let source = inner.to_string_lossy().into_owned();
    let mount = Mount {
        typ: Some(MountType::BIND),
        source: Some(source.clone()),
        target: Some("/buildr".to_owned()),
        ..Mount::default()
    };
    let labels = Labels {
        owner: settings.owner.clone(),
        boot: settings.boot.clone(),
        job: "doctor".to_owned(),
        sandbox: String::new(),
    };
    let body = ContainerCreateBody {
        image: Some(image),
        labels: Some(labels.of_stage("doctor")),
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    match engine.quick.create_container(None::<CreateContainerOptions>, body).await {
        Ok(made) => match removal::container(engine, &made.id).await {
            Ok(()) => Sight::Sees,
            Err(error) => Sight::Unclear(error.to_string()),
        },
        // Whatever the daemon calls it: the only thing that can be missing is the folder, for the image was just listed.
        Err(error)
            if matches!(super::engine::status(&error), Some(400 | 404 | 500)) && reason(&error).contains(&source) =>
        {
            Sight::Blind
        }
        Err(error) => Sight::Unclear(reason(&error)),
    }
}
