//! Images: found at hand, or pulled.

use bollard::models::{ImageConfig, ImageInspect};
use bollard::query_parameters::{CreateImageOptionsBuilder, TagImageOptionsBuilder};
use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::plan::{self, Pull};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::super::{ExecutorError, Output, Stop};
use super::auth;
use super::engine::{self, Engine};
use super::pulled::Pulled;
use super::settings::{DockerSettings, PullLimits};

/// An image that is on the daemon's disk.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// As the manifest names it.
    pub(super) name: String,
    /// What it is, whatever its name may mean later.
    pub(super) id: String,
    /// What its containers are made with.
    pub(super) config: ImageConfig,
    /// What its name meant in its registry, `sha256:…`; its own id where no registry knows it.
    pub(super) digest: String,
    /// Who runs its containers in place of its own user.
    pub(super) user: Option<String>,
    /// What starts a container's main process.
    pub(super) entrypoint: Option<Vec<String>>,
    /// What its containers are made for, where that was asked for.
    pub(super) platform: Option<String>,
}

impl Image {
    /// Who its processes run as; nothing for the usual one.
    pub(super) fn user(&self) -> &str {
        self.user.as_deref().or(self.config.user.as_deref()).unwrap_or_default()
    }

    /// Whether its processes run as root, who may write anywhere.
    pub(super) fn runs_as_root(&self) -> bool {
        matches!(self.user().split(':').next().unwrap_or_default(), "" | "0" | "root")
    }

    /// The same image, used as somebody wants to.
    pub(super) fn used_as(&self, wanted: &plan::Image) -> Self {
        Self {
            name: wanted.name.clone(),
            user: wanted.user.clone(),
            entrypoint: wanted.entrypoint.clone(),
            platform: wanted.platform.clone(),
            ..self.clone()
        }
    }
}

/// Finds an image, and pulls it when it is not there, or in any case when that is wanted. `None` when it was told to
/// stop.
pub(super) async fn obtain(
    engine: &Engine,
    wanted: &plan::Image,
    settings: &DockerSettings,
    pulled: &Pulled,
    output: &Output,
    stop: &Stop,
) -> Result<Option<Image>, ExecutorError> {
    let name = &wanted.name;
    let pull = |reason: String, passes| ExecutorError::Pull { image: name.clone(), reason, passes };
    let Some(reference) = reference(name) else {
        return Err(pull(
            "that is not an image's name; write it like debian:12 or registry.example.org/team/tools:1".to_owned(),
            false,
        ));
    };
    let here = find(engine, wanted, &reference).await?;
    if let Some(image) = here.as_ref().filter(|_| wanted.pull == Pull::Missing) {
        return Ok(Some(image.clone()));
    }
    let of = wanted.platform.as_ref().map(|platform| format!(" for {platform}")).unwrap_or_default();
    if settings.offline {
        let option = wanted.platform.as_ref().map(|platform| format!(" --platform {platform}")).unwrap_or_default();
        let absent = || {
            let reason = format!(
                "it is not on this machine{of}, and nothing is pulled offline; run `docker pull{option} {name}` while there is a network"
            );
            pull(reason, false)
        };
        return here.map(Some).ok_or_else(absent);
    }
    let _ = output.send(Bytes::from(format!("buildr: pulling {name}{of}\n"))).await;
    let beside = other_platforms(engine, wanted, &reference).await?;
    let fetch = fetch(engine, &reference, wanted.platform.as_deref(), settings, output);
    let fetched = tokio::select! {
        fetched = timeout(settings.pull.whole, fetch) => fetched.unwrap_or(Err(Failed::TooLong)),
        () = stop.cancelled() => return Ok(None),
    };
    // A stream that ended in an error may have done its work all the same, so the daemon has the last word; but what
    // was here before proves nothing.
    match (find(engine, wanted, &reference).await?, fetched) {
        (Some(image), fetched) if fetched.is_ok() || here.as_ref().is_none_or(|old| old.id != image.id) => {
            // Where several are kept under one name, nobody took it away.
            if let Some(other) = beside.filter(|other| *other != image.id) {
                let own = own_name(wanted, &reference);
                call(engine, &image.id, &own).await?;
                call(engine, &other, &reference).await?;
                pulled.record(&own, &image.id);
            } else if here.is_none() && wanted.platform.is_none() || pulled.is_ours(&reference) {
                // One that was here before in another version is somebody else's.
                pulled.record(&reference, &image.id);
            }
            Ok(Some(image))
        }
        (_, Ok(())) => Err(pull(missing(wanted), wanted.platform.is_none())),
        (_, Err(Failed::Refused(error))) => Err(pull(advice(&reference, &error), passes(&error))),
        (_, Err(failed)) => Err(pull(failed.sentence(&reference, settings.pull), matches!(failed, Failed::Stalled))),
    }
}

/// An image that is here and need not be pulled.
pub(super) async fn at_hand(engine: &Engine, wanted: &plan::Image) -> Result<Option<Image>, ExecutorError> {
    match reference(&wanted.name).filter(|_| wanted.pull == Pull::Missing) {
        Some(reference) => find(engine, wanted, &reference).await,
        None => Ok(None),
    }
}

/// An image as it is here, whether or not it is to be pulled.
pub(super) async fn as_it_is_here(engine: &Engine, wanted: &plan::Image) -> Result<Option<Image>, ExecutorError> {
    match reference(&wanted.name) {
        Some(reference) => find(engine, wanted, &reference).await,
        None => Ok(None),
    }
}

/// Why an image is not there although it was pulled.
fn missing(wanted: &plan::Image) -> String {
    match &wanted.platform {
        Some(platform) => {
            format!("the registry has it, but not for {platform}; name another platform, or another image")
        }
        None => "the registry sent it, yet the daemon does not have it; try again".to_owned(),
    }
}

/// The image as the daemon has it now, if it is made for the platform that is wanted.
async fn find(engine: &Engine, wanted: &plan::Image, reference: &str) -> Result<Option<Image>, ExecutorError> {
    let mut found = known_as(engine, wanted, reference, reference).await?;
    if let (None, Some((_, digest))) = (&found, reference.split_once('@')) {
        // What no registry knows has no digest but its own id, and a build that is done again names it by that.
        found = known_as(engine, wanted, reference, digest).await?;
    }
    if found.is_some() || wanted.platform.is_none() {
        return Ok(found);
    }
    known_as(engine, wanted, reference, &own_name(wanted, reference)).await
}

/// The id of an image that has the name now and is made for another platform than the one that is wanted: a daemon
/// gives the name to whatever is pulled last, and whoever names no platform means that one.
async fn other_platforms(
    engine: &Engine,
    wanted: &plan::Image,
    reference: &str,
) -> Result<Option<String>, ExecutorError> {
    if wanted.platform.is_none() || reference.contains('@') {
        return Ok(None);
    }
    match engine.quick.inspect_image(reference).await {
        Ok(found) if !is_for(&found, wanted.platform.as_deref()) => Ok(found.id),
        Ok(_) => Ok(None),
        Err(error) if engine::is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed(format!("look for the image {:?}", wanted.name), &error)),
    }
}

/// What an image is called here that stands beside one of the same name for another platform.
fn own_name(wanted: &plan::Image, reference: &str) -> String {
    let platform = wanted.platform.as_deref().unwrap_or_default().to_lowercase().replace('/', "-");
    let digest: String = Sha256::digest(reference).iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("buildr-platform:{platform}-{digest}")
}

/// Gives an image a name.
async fn call(engine: &Engine, id: &str, name: &str) -> Result<(), ExecutorError> {
    let (repo, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let options = TagImageOptionsBuilder::default().repo(repo).tag(tag).build();
    let named = engine.quick.tag_image(id, Some(options)).await;
    named.map_err(|error| engine.failed(format!("name an image {name:?}"), &error))
}

/// The image that has this name now, if it is made for the platform that is wanted.
async fn known_as(
    engine: &Engine,
    wanted: &plan::Image,
    reference: &str,
    called: &str,
) -> Result<Option<Image>, ExecutorError> {
    let failed = |error| engine.failed(format!("look for the image {:?}", wanted.name), &error);
    let mut found = match engine.quick.inspect_image(called).await {
        Ok(found) => found,
        Err(error) if engine::is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let id = found.id.take().unwrap_or_else(|| reference.to_owned());
    if let Some(platform) = wanted.platform.as_deref().filter(|_| !is_for(&found, wanted.platform.as_deref())) {
        let Some(variant) = engine.variant(&id, platform).await.map_err(failed)? else { return Ok(None) };
        found = variant;
    }
    let image = Image {
        name: wanted.name.clone(),
        digest: digest(&found.repo_digests.unwrap_or_default(), reference).unwrap_or_else(|| id.clone()),
        id,
        config: found.config.unwrap_or_default(),
        user: None,
        entrypoint: None,
        platform: None,
    };
    Ok(Some(image.used_as(wanted)))
}

/// Whether an image is made for a platform such as `linux/arm64` or `linux/arm/v7`; each is where none is asked for.
fn is_for(image: &ImageInspect, platform: Option<&str>) -> bool {
    let Some(platform) = platform else { return true };
    let mut parts = platform.split('/');
    let is = |part: Option<&str>, has: &Option<String>| {
        let has = has.as_deref().unwrap_or_default();
        part.is_none_or(|part| has.is_empty() || part.eq_ignore_ascii_case(has))
    };
    is(parts.next(), &image.os) && is(parts.next(), &image.architecture) && is(parts.next(), &image.variant)
}

/// What this reference's repository calls an image, by what all repositories that had it call it.
fn digest(all: &[String], reference: &str) -> Option<String> {
    let wanted = repository(reference);
    let of = all.iter().filter_map(|one| one.split_once('@'));
    of.into_iter().find(|(name, _)| repository(name) == wanted).map(|(_, digest)| digest.to_owned())
}

/// An image's repository, in the form that is the same however it is written.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// By how many bytes an image is larger than the one that it was made from.
pub(super) async fn grown(engine: &Engine, base: &str, image: &str) -> u64 {
    let size = async |id: &str| engine.quick.inspect_image(id).await.ok().and_then(|found| found.size);
    let (before, after) = (size(base).await.unwrap_or_default(), size(image).await.unwrap_or_default());
    u64::try_from(after - before).unwrap_or_default()
}

/// Why a pull came to nothing.
enum Failed {
    /// The daemon or the registry said why.
    Refused(bollard::errors::Error),
    /// Neither of them said anything any more.
    Stalled,
    /// It went on and on.
    TooLong,
}

impl Failed {
    fn sentence(&self, reference: &str, limits: PullLimits) -> String {
        let server = auth::server(reference);
        match self {
            Self::TooLong => format!(
                "it took longer than {} s, so it was ended. If it is that large, give it more time by --pull-timeout",
                limits.whole.as_secs()
            ),
            _ => format!(
                "{server} sent nothing for {} s, so it was ended. Look whether the registry is well, and build again; \
                 --stall-timeout gives it more time",
                limits.stall.as_secs()
            ),
        }
    }
}

/// Has the daemon pull it. Dropping this ends the pull too, for the daemon sees that nobody waits for it.
async fn fetch(
    engine: &Engine,
    reference: &str,
    platform: Option<&str>,
    settings: &DockerSettings,
    output: &Output,
) -> Result<(), Failed> {
    let mut credentials = None;
    if let Some(folder) = settings.credentials.clone() {
        let reference = reference.to_owned();
        let found = tokio::task::spawn_blocking(move || auth::credentials(&folder, &reference)).await;
        match found.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(found) => credentials = found,
            Err(sentence) => {
                let _ = output.send(Bytes::from(format!("buildr: pulling without credentials: {sentence}\n"))).await;
            }
        }
    }
    let options = CreateImageOptionsBuilder::default().from_image(reference);
    let options = platform.into_iter().fold(options, CreateImageOptionsBuilder::platform).build();
    let mut progress = engine.long.create_image(Some(options), None, credentials);
    // It tells of each piece that comes, and is silent when none does.
    while let Some(step) = timeout(settings.pull.stall, progress.next()).await.map_err(|_| Failed::Stalled)? {
        step.map_err(Failed::Refused)?;
    }
    Ok(())
}

/// Whether a pull may go better later: the registry was not reached, had too much to do or trouble of its own, or the
/// stream of the layers broke. That there is no such image, or none for this machine, does not pass.
fn passes(error: &bollard::errors::Error) -> bool {
    match engine::status(error) {
        Some(status) => status == 429 || status >= 500,
        None => true,
    }
}

/// What the registry or the daemon said, and what to do about it.
fn advice(reference: &str, error: &bollard::errors::Error) -> String {
    let said = engine::reason(error);
    let server = auth::server(reference);
    let advice = match engine::status(error) {
        Some(401 | 403 | 404) => format!(
            "Look whether its name is spelt right; if it is private, log in with `docker login {server}` as the user \
             that runs this agent"
        ),
        Some(400) => "Look whether its name is spelt right".to_owned(),
        _ => format!("Look whether this machine's Docker daemon reaches {server}"),
    };
    format!("{}. {advice}", said.trim_end_matches('.'))
}

/// The name with a tag, for without one the daemon would pull every tag; nothing when no image can have the name.
fn reference(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._/:@-".contains(c);
    let parts_hold = name.split('/').all(|part| part.starts_with(|c: char| c.is_ascii_alphanumeric()));
    if name.len() > 512 || !name.chars().all(allowed) || !parts_hold {
        return None;
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    Some(if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_the_tag_that_it_means() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(reference(name).as_deref(), expected, "{name}");
        check("debian", Some("debian:latest"));
        check("debian:12", Some("debian:12"));
        check("localhost:5000/a", Some("localhost:5000/a:latest"));
        check("a/b@sha256:00", Some("a/b@sha256:00"));
        check("", None);
        check("../containers/x", None);
        check("a//b", None);
        check("a b", None);
        check("a?b", None);
        check("-a", None);
    }

    #[test]
    fn a_registry_that_is_away_may_come_back() {
        let check = |status_code: u16, expected: bool| {
            let error = bollard::errors::Error::DockerResponseServerError { status_code, message: String::new() };
            assert_eq!(passes(&error), expected, "{status_code}");
        };
        for (status, expected) in [(400, false), (401, false), (403, false), (404, false), (429, true), (500, true)] {
            check(status, expected);
        }
        assert!(passes(&bollard::errors::Error::RequestTimeoutError));
        assert!(passes(&bollard::errors::Error::DockerStreamError { error: "unexpected EOF".to_owned() }));
    }

    fn plain() -> Image {
        let text = String::new;
        let config = ImageConfig::default();
        Image { name: text(), id: text(), config, digest: text(), user: None, entrypoint: None, platform: None }
    }

    #[test]
    fn a_digest_is_that_of_the_name_that_was_used() {
        let all = ["debian@sha256:a", "localhost:5000/x/y@sha256:b", "docker.io/library/ubuntu@sha256:c"];
        let all = all.map(str::to_owned);
        let check = |reference: &str, expected: Option<&str>| {
            assert_eq!(digest(&all, reference).as_deref(), expected, "{reference}");
        };
        check("debian:12", Some("sha256:a"));
        check("docker.io/library/debian:latest", Some("sha256:a"));
        check("localhost:5000/x/y:1", Some("sha256:b"));
        check("localhost:5000/x/y@sha256:0", Some("sha256:b"));
        check("ubuntu:latest", Some("sha256:c"));
        check("other:latest", None);
    }

    #[test]
    fn an_image_is_for_a_platform_as_far_as_it_says_so() {
        let image = |variant: Option<&str>| ImageInspect {
            os: Some("linux".to_owned()),
            architecture: Some("arm".to_owned()),
            variant: variant.map(str::to_owned),
            ..ImageInspect::default()
        };
        assert!(is_for(&image(None), None) && is_for(&image(None), Some("linux/arm")));
        assert!(is_for(&image(Some("v7")), Some("linux/arm/v7")) && is_for(&image(None), Some("linux/arm/v7")));
        assert!(!is_for(&image(Some("v6")), Some("linux/arm/v7")) && !is_for(&image(None), Some("linux/amd64")));
    }

    #[test]
    fn root_goes_by_several_names() {
        let check = |user: Option<&str>, expected: bool| {
            let config = ImageConfig { user: user.map(str::to_owned), ..ImageConfig::default() };
            let image = Image { config, ..plain() };
            assert_eq!(image.runs_as_root(), expected, "{user:?}");
            let other = plan::Image { user: Some("1000".to_owned()), ..plan::Image::from("x") };
            assert!(!image.used_as(&other).runs_as_root());
        };
        check(None, true);
        check(Some(""), true);
        check(Some("root"), true);
        check(Some("0:0"), true);
        check(Some("1000"), false);
        check(Some("node"), false);
    }
}
