//! Images: what containers start from, and how one is prepared.

use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{SecretRequest, Variable};

/// An image, and how it is used. On the wire its name alone when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ImageText", into = "ImageText")]
pub struct Image {
    /// As `docker pull` takes it.
    pub name: String,
    /// When it is pulled.
    pub pull: Pull,
    /// The user in place of the image's own.
    pub user: Option<String>,
    /// What starts the container's main process in place of nothing; of a service: in place of its own entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// As `linux/arm64`.
    pub platform: Option<String>,
}

impl<T: Into<String>> From<T> for Image {
    fn from(name: T) -> Self {
        Self { name: name.into(), pull: Pull::Missing, user: None, entrypoint: None, platform: None }
    }
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// An image, and how it is used: its name alone when nothing else is said.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum ImageText {
    /// As `docker pull` takes it.
    Name(String),
    /// With more.
    Whole {
        /// As `docker pull` takes it.
        name: String,
        /// When it is pulled.
        #[serde(default)]
        pull: Pull,
        /// The user in place of the image's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// What starts the container's main process in place of nothing; of a service: in place of its own entrypoint.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entrypoint: Option<Vec<String>>,
        /// As `linux/arm64`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        platform: Option<String>,
    },
}

impl PartialSchema for Image {
    fn schema() -> RefOr<Schema> {
        ImageText::schema()
    }
}

impl ToSchema for Image {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        ImageText::schemas(schemas);
    }
}

impl From<ImageText> for Image {
    fn from(text: ImageText) -> Self {
        match text {
            ImageText::Name(name) => name.into(),
            ImageText::Whole { name, pull, user, entrypoint, platform } => {
                Self { name, pull, user, entrypoint, platform }
            }
        }
    }
}

impl From<Image> for ImageText {
    fn from(image: Image) -> Self {
        let Image { name, pull, user, entrypoint, platform } = image;
        if pull == Pull::Missing && user.is_none() && entrypoint.is_none() && platform.is_none() {
            Self::Name(name)
        } else {
            Self::Whole { name, pull, user, entrypoint, platform }
        }
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// When the machine does not have it.
    #[default]
    Missing,
    /// Each time, for a name that may mean something newer.
    Always,
}

/// What makes the prepared image. On the wire its script alone when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PrepareText", into = "PrepareText")]
pub struct Prepare {
    /// Its commands.
    pub script: Vec<String>,
    /// Globs of the files that it sees, and by which its image is kept for later builds; without them it sees the
    /// whole checkout.
    pub files: Option<Vec<String>>,
    /// Whether its image may be taken from, and kept for, other builds.
    pub cache: bool,
    /// The secrets that it is given; then nothing of it is kept.
    pub secrets: Vec<SecretRequest>,
    /// Variables for it alone.
    pub environment: Vec<Variable>,
    /// How long it may run.
    pub timeout_ms: Option<u64>,
    /// As [`StagePlan::shell`](super::StagePlan::shell).
    pub shell: Option<String>,
}

impl From<Vec<String>> for Prepare {
    fn from(script: Vec<String>) -> Self {
        Self {
            script,
            files: None,
            cache: true,
            secrets: Vec::new(),
            environment: Vec::new(),
            timeout_ms: None,
            shell: None,
        }
    }
}

/// What makes the prepared image: its script alone when nothing else is said.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum PrepareText {
    /// Its commands.
    Script(Vec<String>),
    /// With more.
    Whole {
        /// Its commands.
        script: Vec<String>,
        /// Globs of the files that it sees; without them the whole checkout.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<Vec<String>>,
        /// Whether its image may be taken from, and kept for, other builds.
        #[serde(default = "super::yes", skip_serializing_if = "super::is_yes")]
        cache: bool,
        /// The secrets that it is given.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretRequest>,
        /// Variables for it alone.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        environment: Vec<Variable>,
        /// How long it may run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// What runs it in place of `/bin/sh -e`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
}

impl PartialSchema for Prepare {
    fn schema() -> RefOr<Schema> {
        PrepareText::schema()
    }
}

impl ToSchema for Prepare {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        PrepareText::schemas(schemas);
    }
}

impl From<PrepareText> for Prepare {
    fn from(text: PrepareText) -> Self {
        match text {
            PrepareText::Script(script) => script.into(),
            PrepareText::Whole { script, files, cache, secrets, environment, timeout_ms, shell } => {
                Self { script, files, cache, secrets, environment, timeout_ms, shell }
            }
        }
    }
}

impl From<Prepare> for PrepareText {
    fn from(prepare: Prepare) -> Self {
        if prepare == Prepare::from(prepare.script.clone()) {
            return Self::Script(prepare.script);
        }
        let Prepare { script, files, cache, secrets, environment, timeout_ms, shell } = prepare;
        Self::Whole { script, files, cache, secrets, environment, timeout_ms, shell }
    }
}
