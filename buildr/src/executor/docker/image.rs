//! Images: found at hand, or pulled.

use bollard::models::ImageConfig;
use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
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
}

impl Image {
    /// Whether its processes run as root, who may write anywhere.
    pub(super) fn runs_as_root(&self) -> bool {
        let user = self.config.user.as_deref().unwrap_or_default();
        matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
    }
}

/// Finds an image, and pulls it when it is not there. `None` when it was told to stop.
pub(super) async fn obtain(
    engine: &Engine,
    name: &str,
    settings: &DockerSettings,
    pulled: &Pulled,
    output: &Output,
    stop: &Stop,
) -> Result<Option<Image>, ExecutorError> {
    let pull = |reason: String| ExecutorError::Pull { image: name.to_owned(), reason };
    let Some(reference) = reference(name) else {
        return Err(pull(
            "that is not an image's name; write it like debian:12 or registry.example.org/team/tools:1".to_owned(),
        ));
    };
    if let Some(image) = find(engine, name, &reference).await? {
        return Ok(Some(image));
    }
    let _ = output.send(Bytes::from(format!("buildr: pulling {name}\n"))).await;
    let fetched = tokio::select! {
        fetched = timeout(settings.pull.whole, fetch(engine, &reference, settings, output)) => {
            fetched.unwrap_or(Err(Failed::TooLong))
        }
        () = stop.cancelled() => return Ok(None),
    };
    // A stream that ended in an error may have done its work all the same, so the daemon has the last word.
    match (find(engine, name, &reference).await?, fetched) {
        (Some(image), _) => {
            pulled.record(&reference, &image.id);
            Ok(Some(image))
        }
        (None, Ok(())) => Err(pull("the registry sent it, yet the daemon does not have it; try again".to_owned())),
        (None, Err(Failed::Refused(error))) => Err(pull(advice(&reference, &error))),
        (None, Err(failed)) => Err(pull(failed.sentence(&reference, settings.pull))),
    }
}

/// The image as the daemon has it now.
async fn find(engine: &Engine, name: &str, reference: &str) -> Result<Option<Image>, ExecutorError> {
    match engine.quick.inspect_image(reference).await {
        Ok(found) => Ok(Some(Image {
            name: name.to_owned(),
            id: found.id.unwrap_or_else(|| reference.to_owned()),
            config: found.config.unwrap_or_default(),
        })),
        Err(error) if engine::is_absent(&error) => Ok(None),
        Err(error) => Err(engine.failed(format!("look for the image {name:?}"), &error)),
    }
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
async fn fetch(engine: &Engine, reference: &str, settings: &DockerSettings, output: &Output) -> Result<(), Failed> {
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
    let options = CreateImageOptionsBuilder::default().from_image(reference).build();
    let mut progress = engine.long.create_image(Some(options), None, credentials);
    // It tells of each piece that comes, and is silent when none does.
    while let Some(step) = timeout(settings.pull.stall, progress.next()).await.map_err(|_| Failed::Stalled)? {
        step.map_err(Failed::Refused)?;
    }
    Ok(())
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
    fn root_goes_by_several_names() {
        let check = |user: Option<&str>, expected: bool| {
            let config = ImageConfig { user: user.map(str::to_owned), ..ImageConfig::default() };
            let image = Image { name: String::new(), id: String::new(), config };
            assert_eq!(image.runs_as_root(), expected, "{user:?}");
        };
        check(None, true);
        check(Some(""), true);
        check(Some("root"), true);
        check(Some("0:0"), true);
        check(Some("1000"), false);
        check(Some("node"), false);
    }
}
