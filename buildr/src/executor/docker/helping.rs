//! Work on this machine's folders that this process may not do itself, done by root in a container.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions, WaitContainerOptions};
use futures_util::StreamExt as _;
use protocol::plan::Image;

use super::super::ExecutorError;
use super::engine::Engine;
use super::image;
use super::machine::Machine;
use super::removal;

/// How many images are tried for such a container, before it is given up.
const HELPING_IMAGES: usize = 5;

/// Where the container sees the folder that it works on; it begins there.
const HERE: &str = "/buildr";

/// Where it sees what it brings there.
const FROM: &str = "/buildr-from";

/// Copies each file as it is, in the place of one that is there; all is root's then, as what a root's process unpacks
/// is. Folders are made where they are missing, and stay as they are where they are there. It ends at the first that
/// cannot be copied.
const COPY: &str = r#"
bring() {
    for it in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        to=$2/${it##*/}
        if [ -d "$it" ] && [ ! -L "$it" ]; then
            mkdir -p "$to" && bring "$it" "$to" || return
        elif [ -e "$it" ] || [ -L "$it" ]; then
            rm -f "$to" && cp -Pp "$it" "$to" && chown -h 0:0 "$to" || return
        fi
    done
}
bring "$1" .
"#;

/// Empties the folder that it begins in, and lets everybody remove it.
const EMPTY: &str = "rm -rf -- ./* ./.[!.]* ./..?*; chmod 777 .";

/// How long a container may take for it.
const HELPING: Duration = Duration::from_secs(10 * 60);

/// What is to be done.
struct Help<'a> {
    /// As part of a sentence: "failed to …".
    doing: String,
    /// What the container sees as [`HERE`].
    here: &'a Path,
    /// What it sees as [`FROM`].
    from: Option<&'a Path>,
    script: &'static str,
    argument: String,
}

impl Machine {
    /// Removes a folder; what root left in it from within a container, as root.
    pub(super) async fn discard(&self, folder: &Path) -> Result<(), ExecutorError> {
        let Err(first) = remove(folder).await else { return Ok(()) };
        let failed = |source| ExecutorError::Disk { doing: format!("remove {}", folder.display()), source };
        if first.kind() != ErrorKind::PermissionDenied {
            return Err(failed(first));
        }
        // Nothing but the folder itself is seen there: what lies beside it may be another build's, and the image anybody's.
        let help = Help {
            doing: format!("remove {} from within a container", folder.display()),
            here: folder,
            from: None,
            script: EMPTY,
            argument: HERE.to_owned(),
        };
        for image in self.helping_images().await? {
            // How it ended does not matter: whether the folder is gone does.
            self.help(&help, &image).await;
            if remove(folder).await.is_ok() {
                return Ok(());
            }
        }
        Err(failed(first))
    }

    /// Copies all that lies in a folder into another, as root, by what one of these images has.
    pub(super) async fn bring(&self, from: &Path, into: &Path, images: &[&Image]) -> Result<(), ExecutorError> {
        let doing = format!("copy files into {} from within a container", into.display());
        let help = Help { doing, here: into, from: Some(from), script: COPY, argument: FROM.to_owned() };
        for wanted in images {
            if let Some(image) = image::as_it_is_here(&self.engine, wanted).await?
                && self.help(&help, &image.id).await
            {
                return Ok(());
            }
        }
        let source =
            io::Error::other("none of the job's images has what is needed for it: sh, mkdir, rm, cp and chown");
        Err(ExecutorError::Disk { doing: help.doing, source })
    }

    /// Images of which a container may have what is needed: first one that a job has just run in.
    async fn helping_images(&self) -> Result<impl Iterator<Item = String> + use<>, ExecutorError> {
        let mut images: Vec<_> = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        images.extend(removal::images_at_hand(&self.engine).await?);
        Ok(images.into_iter().take(HELPING_IMAGES))
    }

    /// Does it in a container of this image, and says whether its script ended well.
    async fn help(&self, help: &Help<'_>, image: &str) -> bool {
        let helped = in_container(&self.engine, image, help, self.labels().of_stage("help")).await;
        helped.unwrap_or_else(|error| {
            tracing::debug!(%error, image, "this image does not help");
            false
        })
    }
}

async fn in_container(
    engine: &Engine,
    image: &str,
    help: &Help<'_>,
    labels: HashMap<String, String>,
) -> Result<bool, ExecutorError> {
    let mount = |source: &Path, target: &str| Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(target == FROM),
        ..Mount::default()
    };
    let mounts = [(Some(help.here), HERE), (help.from, FROM)];
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        user: Some("0".to_owned()),
        entrypoint: Some(["/bin/sh", "-c", help.script, "help"].map(str::to_owned).to_vec()),
        cmd: Some(vec![help.argument.clone()]),
        working_dir: Some(HERE.to_owned()),
        labels: Some(labels),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(mounts.iter().filter_map(|(source, target)| Some(mount((*source)?, target))).collect()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let created = engine.quick.create_container(None::<CreateContainerOptions>, body).await;
    let id = created.map_err(|error| engine.failed(&help.doing, &error))?.id;
    let ran = match engine.quick.start_container(&id, None::<StartContainerOptions>).await {
        Err(error) => Err(engine.failed(&help.doing, &error)),
        // One that ends with another code than 0 is an error here.
        Ok(()) => {
            let mut ended = engine.long.wait_container(&id, None::<WaitContainerOptions>);
            let ended = tokio::time::timeout(HELPING, ended.next()).await;
            Ok(matches!(ended, Ok(Some(Ok(_)))))
        }
    };
    removal::container(engine, &id).await?;
    ran
}

async fn remove(folder: &Path) -> io::Result<()> {
    let folder = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || crate::folder::remove(&folder)).await;
    removed.unwrap_or_else(|error| Err(io::Error::other(error)))
}
