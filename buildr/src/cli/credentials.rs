//! What a project's private repository is fetched with, as the command line takes it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use protocol::api::SetCredentials;

use super::CliError;

/// How much of a file is read, in bytes: more than any key or token has.
const LONGEST: u64 = 64 << 10;

/// The settings of a project that say how its repository is opened.
#[derive(Debug, Default, clap::Args)]
pub(super) struct CredentialArgs {
    /// Fetch its repository over ssh with this private key, which has no passphrase (`ssh-keygen -t ed25519 -N ''`), in
    /// place of the agents' own; the farm keeps it sealed. Its public half is entered at the forge, to read alone
    #[arg(long, value_name = "FILE", conflicts_with_all = ["clone_token", "no_credentials"])]
    deploy_key: Option<PathBuf>,
    /// Fetch its repository over https with the token in this file, in place of the agents' credentials; the farm keeps
    /// it sealed; `-` reads standard input. Make it one that may read this repository and nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "no_credentials")]
    clone_token: Option<PathBuf>,
    /// Who shows the token; what its forge wants there without it
    #[arg(long, value_name = "NAME", requires = "clone_token")]
    clone_user: Option<String>,
    /// Have the farm forget key and token: its repository is fetched with what the agents have
    #[arg(long)]
    no_credentials: bool,
}

impl CredentialArgs {
    /// What is asked for; none where nothing is.
    pub(super) fn read(self) -> Result<Option<SetCredentials>, CliError> {
        if self.no_credentials {
            return Ok(Some(SetCredentials::None));
        }
        if let Some(path) = &self.deploy_key {
            return Ok(Some(SetCredentials::DeployKey(text_of("deploy key", path)?)));
        }
        let Some(path) = &self.clone_token else { return Ok(None) };
        let token = text_of("token", path)?.trim().to_owned();
        Ok(Some(SetCredentials::Token { user: self.clone_user, token }))
    }
}

fn text_of(what: &str, path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().take(LONGEST).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)),
    };
    let unread = |error| CliError::Usage {
        what: format!("the {what} in {} cannot be read: {error}", path.display()),
        instead: None,
    };
    read.map_err(unread).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " t0k3n\n").unwrap();
        let path = || Some(file.path().to_owned());
        let token =
            CredentialArgs { clone_token: path(), clone_user: Some("me".to_owned()), ..CredentialArgs::default() };
        let expect = SetCredentials::Token { user: Some("me".to_owned()), token: "t0k3n".to_owned() };
        assert_eq!(token.read().unwrap(), Some(expect));
        let key = CredentialArgs { deploy_key: path(), ..CredentialArgs::default() };
        assert_eq!(key.read().unwrap(), Some(SetCredentials::DeployKey(" t0k3n\n".to_owned())));
        let none = CredentialArgs { no_credentials: true, ..CredentialArgs::default() };
        assert_eq!(none.read().unwrap(), Some(SetCredentials::None));
        assert_eq!(CredentialArgs::default().read().unwrap(), None);
        let gone = CredentialArgs { deploy_key: Some("/does/not/exist".into()), ..CredentialArgs::default() };
        assert!(gone.read().unwrap_err().to_string().contains("deploy key in /does/not/exist"));
    }
}
