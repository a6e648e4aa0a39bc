//! A container made into an image: with the configuration of the image that it was made from, to the letter, and our
//! labels. What is left out is taken from the container, so nothing is left out.

use std::collections::HashMap;
use std::fmt::Write as _;

use bollard::models::{ContainerConfig, ImageConfig};
use bollard::query_parameters::CommitContainerOptionsBuilder;

use super::super::ExecutorError;
use super::engine::Engine;
use super::powers::Powers;

/// What is to become an image.
pub(super) struct Commit<'a> {
    pub(super) container: &'a str,
    /// The image's name, of this repository and tag.
    pub(super) name: &'a str,
    pub(super) tag: &'a str,
    /// The configuration of the image that the container was made from.
    pub(super) base: &'a ImageConfig,
    pub(super) labels: HashMap<String, String>,
    /// For a sentence, such as "keep what prepare made as an image".
    pub(super) doing: &'a str,
}

impl Commit<'_> {
    /// Makes it; gives the image's id.
    pub(super) async fn make(self, engine: &Engine, powers: &Powers) -> Result<String, ExecutorError> {
        let repository = repository(self.name, powers);
        let options = CommitContainerOptionsBuilder::default()
            .container(self.container)
            .repo(&repository)
            .tag(self.tag)
            .pause(false);
        // Podman takes no configuration, only changes to the container's.
        let options = match powers.podman {
            true => options.changes(&changes(self.base, &self.labels)),
            false => options,
        };
        let config = ContainerConfig { labels: Some(self.labels), ..as_the_base(self.base) };
        let committed = engine.long.commit_container(options.build(), config).await;
        let id = committed.map_err(|error| engine.failed(self.doing, &error))?.id;
        // Some daemons shorten it here, and nowhere else.
        let found = engine.quick.inspect_image(&id).await.ok().and_then(|image| image.id);
        Ok(found.unwrap_or(id))
    }
}

/// How a daemon calls a repository that is this machine's own.
pub(super) fn repository(name: &str, powers: &Powers) -> String {
    if powers.podman { format!("localhost/{name}") } else { name.to_owned() }
}

fn as_the_base(base: &ImageConfig) -> ContainerConfig {
    ContainerConfig {
        user: base.user.clone(),
        exposed_ports: base.exposed_ports.clone(),
        env: base.env.clone(),
        cmd: base.cmd.clone(),
        healthcheck: base.healthcheck.clone(),
        volumes: base.volumes.clone(),
        working_dir: Some(folder(base)),
        entrypoint: Some(base.entrypoint.clone().unwrap_or_default()),
        stop_signal: base.stop_signal.clone(),
        shell: base.shell.clone(),
        ..ContainerConfig::default()
    }
}

fn folder(base: &ImageConfig) -> String {
    base.working_dir.clone().filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".to_owned())
}

/// The same as instructions: what the container has of its own is set back to what the base has.
fn changes(base: &ImageConfig, labels: &HashMap<String, String>) -> String {
    let list =
        |words: &Option<Vec<String>>| serde_json::to_string(&words.clone().unwrap_or_default()).unwrap_or_default();
    let mut lines =
        format!("ENTRYPOINT {}\nCMD {}\nWORKDIR {}\n", list(&base.entrypoint), list(&base.cmd), folder(base));
    if let Some(user) = base.user.as_deref().filter(|user| !user.is_empty()) {
        let _ = writeln!(lines, "USER {user}");
    }
    for (label, value) in labels {
        let _ = writeln!(lines, "LABEL {label}={value}");
    }
    lines.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_set_back_what_the_container_has_of_its_own() {
        let base =
            ImageConfig { user: Some("77".to_owned()), cmd: Some(vec!["run it".to_owned()]), ..ImageConfig::default() };
        let labels = HashMap::from([("buildr.until".to_owned(), "7".to_owned())]);
        let expected = "ENTRYPOINT []\nCMD [\"run it\"]\nWORKDIR /\nUSER 77\nLABEL buildr.until=7";
        assert_eq!(changes(&base, &labels), expected);
    }
}
