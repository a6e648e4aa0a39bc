//! The credentials for a pull, from where `docker login` puts them.

use std::fs::File;
use std::path::Path;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};

/// Under which name `docker login` keeps the credentials of Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";

/// The credentials for the registry of this image; none when nobody has logged in.
///
/// It may ask a credential helper, which is a process: call it where waiting is allowed.
///
/// # Errors
/// A sentence, when they are there but cannot be read.
pub(super) fn credentials(folder: &Path, image: &str) -> Result<Option<DockerCredentials>, String> {
    let path = folder.join("config.json");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{} could not be read: {error}", path.display())),
    };
    let server = server(image);
    let serveraddress = Some(server.to_owned());
    match docker_credential::get_credential_from_reader(std::io::BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(username, password)) => Ok(Some(DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress,
            ..DockerCredentials::default()
        })),
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(DockerCredentials { identitytoken: Some(token), serveraddress, ..DockerCredentials::default() }))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What a helper prints may hold the secret itself, so only its name is told.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            Err(format!("the credential helper {helper:?}, which {} names, failed", path.display()))
        }
        Err(error) => Err(format!("the credentials for {server} in {} are of no use: {error}", path.display())),
    }
}

/// The registry that an image's name begins with: a first part that is a host; else Docker Hub.
pub(super) fn server(image: &str) -> &str {
    match image.split_once('/') {
        Some(("docker.io" | "index.docker.io", _)) => HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_read_from_the_images_name() {
        let check = |image: &str, expected: &str| assert_eq!(server(image), expected, "{image}");
        check("debian", HUB);
        check("library/debian:12", HUB);
        check("docker.io/library/debian", HUB);
        check("ghcr.io/a/b", "ghcr.io");
        check("localhost/a", "localhost");
        check("localhost:5000/a:1", "localhost:5000");
        check("registry:5000/a@sha256:00", "registry:5000");
    }

    #[test]
    fn credentials_are_found_as_docker_login_left_them() {
        let folder = tempfile::tempdir().unwrap();
        let check = |config: Option<&str>, image: &str, expected: Result<Option<&str>, &str>| {
            if let Some(config) = config {
                std::fs::write(folder.path().join("config.json"), config).unwrap();
            }
            let found = credentials(folder.path(), image);
            match expected {
                Ok(user) => assert_eq!(found.unwrap().and_then(|found| found.username).as_deref(), user),
                Err(part) => assert!(found.unwrap_err().contains(part)),
            }
        };
        check(None, "debian", Ok(None));
        // "me:pw" in base64.
        let config = r#"{"auths":{"ghcr.io":{"auth":"bWU6cHc="}}}"#;
        check(Some(config), "ghcr.io/a/b", Ok(Some("me")));
        check(Some(config), "debian", Ok(None));
        check(Some("{"), "debian", Err("of no use"));
    }
}
