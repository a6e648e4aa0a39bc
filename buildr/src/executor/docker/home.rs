//! Where `~` is in a container, for what is mounted below it: the daemon takes no path that begins so.

use std::collections::HashMap;
use std::io::Read as _;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use futures_util::StreamExt as _;
use protocol::Variable;

use super::super::{ExecutorError, MountOrder};
use super::container::Container;
use super::engine::{Engine, is_absent};
use super::image::Image;
use super::removal;

/// The most bytes of a list of users that are read; each is a line of about fifty.
const MAX_USERS: usize = 4 << 20;

/// These mounts with the user's home in the place of `~`: what `HOME` says in the stage or in its image, else what the
/// image's own list of users does.
pub(super) async fn resolved(
    engine: &Engine,
    image: &Image,
    environment: &[Variable],
    mounts: &[MountOrder],
    labels: HashMap<String, String>,
) -> Result<Vec<MountOrder>, ExecutorError> {
    if !mounts.iter().any(|mount| is_below(&mount.target)) {
        return Ok(mounts.to_vec());
    }
    let home = match said(image, environment) {
        Some(home) => home,
        None if image.runs_as_root() => "/root".to_owned(),
        None => listed(&users(engine, image, labels).await?, image.user()),
    };
    let home = home.trim_end_matches('/');
    let placed = |mount: &MountOrder| match mount.target.strip_prefix('~') {
        Some(rest) if is_below(&mount.target) => MountOrder { target: format!("{home}{rest}"), ..mount.clone() },
        _ => mount.clone(),
    };
    Ok(mounts.iter().map(placed).collect())
}

fn is_below(target: &str) -> bool {
    target == "~" || target.starts_with("~/")
}

/// What `HOME` says, if it is an absolute path.
fn said(image: &Image, environment: &[Variable]) -> Option<String> {
    let own = environment.iter().rev().find(|variable| variable.name == "HOME").map(|variable| &*variable.value);
    let of_image = || image.config.env.iter().flatten().find_map(|line| line.strip_prefix("HOME="));
    own.or_else(of_image).filter(|home| home.starts_with('/')).map(str::to_owned)
}

/// The home of a user, by name or number, as `/etc/passwd` has it; the root of all folders for one that it has not,
/// as for the daemon.
fn listed(users: &str, user: &str) -> String {
    let user = user.split(':').next().unwrap_or_default();
    let home = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, _, _, home, ..] = fields[..] else { return None };
        (name == user || number == user).then_some(home)
    });
    home.filter(|home| home.starts_with('/')).unwrap_or("/").to_owned()
}

/// The image's `/etc/passwd`, out of a container that never starts; nothing where there is none.
async fn users(engine: &Engine, image: &Image, labels: HashMap<String, String>) -> Result<String, ExecutorError> {
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(vec!["/bin/true".to_owned()]),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let title = "a look for its user's home".to_owned();
    let container = Container::create(engine, title, &image.name, image.platform.as_deref(), body).await?;
    let read = read_users(engine, &container.id).await;
    removal::container(engine, &container.id).await?;
    read
}

async fn read_users(engine: &Engine, container: &str) -> Result<String, ExecutorError> {
    let options = DownloadFromContainerOptionsBuilder::default().path("/etc/passwd").build();
    let mut pieces = std::pin::pin!(engine.long.download_from_container(container, Some(options)));
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) if archive.len() < MAX_USERS => archive.extend_from_slice(&piece),
            Ok(_) => break,
            Err(error) if is_absent(&error) => return Ok(String::new()),
            Err(error) => return Err(engine.failed("read the list of users of an image", &error)),
        }
    }
    let mut text = String::new();
    // One that is cut off or no file tells of nobody.
    if let Some(Ok(mut file)) = tar::Archive::new(&*archive).entries().ok().and_then(|mut entries| entries.next()) {
        let _ = file.read_to_string(&mut text);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_of_users() {
        let users = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/bash\nodd:x:7:7::nowhere:\nbad\n";
        let check = |user: &str, home: &str| assert_eq!(listed(users, user), home, "{user}");
        check("node", "/home/node");
        check("1000", "/home/node");
        check("1000:5", "/home/node");
        check("node:staff", "/home/node");
        check("odd", "/");
        check("4711", "/");
        check("bad", "/");
    }
}
