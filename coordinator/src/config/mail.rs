//! Mail to owners, as the command line has it, and what it means.

use std::path::PathBuf;

use super::ConfigError;
use crate::mail::{Address, MailSettings, Server};

/// Mail when a branch breaks or is fixed. Off without --smtp.
#[derive(Debug, clap::Args)]
pub(super) struct MailArgs {
    /// The mail server by which to say that a branch broke or was fixed: smtps://HOST, or smtp://HOST with STARTTLS
    /// (`?tls=none`: without; so it is on loopback)
    #[arg(long, value_name = "URL", requires = "mail_from", global = true)]
    smtp: Option<Server>,

    /// The user whom the mail server knows
    #[arg(long, value_name = "NAME", requires = "smtp", global = true)]
    smtp_user: Option<String>,

    /// That user's password; better in a file or in the environment
    #[arg(long, value_name = "PASSWORD", requires = "smtp_user", hide_env_values = true, global = true)]
    smtp_password: Option<String>,

    /// Read that password from this file
    #[arg(long, value_name = "FILE", requires = "smtp_user", conflicts_with = "smtp_password", global = true)]
    smtp_password_file: Option<PathBuf>,

    /// From whom such mail comes, such as 'buildr <ci@example.org>'
    #[arg(long, value_name = "ADDRESS", requires = "smtp", global = true)]
    mail_from: Option<Address>,

    /// Who gets it for all projects; a project names others with `buildr project change --mail-to`
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', requires = "smtp", global = true)]
    mail_to: Vec<Address>,
}

impl MailArgs {
    /// What they mean.
    pub(super) fn settings(self) -> Result<Option<MailSettings>, ConfigError> {
        let (Some(server), Some(from)) = (self.smtp, self.mail_from) else { return Ok(None) };
        let password = match self.smtp_password_file {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(source) => return Err(ConfigError::MailFile { path, source }),
            },
            None => self.smtp_password,
        };
        let login = match (self.smtp_user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (Some(_), None) => return Err(ConfigError::MailPassword),
            (None, _) => None,
        };
        Ok(Some(MailSettings { server, login, from, to: self.mail_to }))
    }
}
