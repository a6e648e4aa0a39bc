//! The command line of `buildr-coordinator`, with the environment and the file behind it, and what it means.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildr::cli::jobs::JobArgs;
use buildr::cli::layers::{self, LayersError};
use buildr::process::{ProcessError, folders};
use clap::{Parser, Subcommand};
use protocol::RepoGlob;
use protocol::api::Keeps;
use protocol::identity::JoinToken;

use super::mail::MailArgs;
use super::{Config, Enrolment, Farm, KeyText, LocalRepos, Notify, Reading, SecretsKey, Supersede};

/// Run the coordinator of a buildr farm
///
/// It takes requests for builds, offers their jobs to the agents through RabbitMQ, and keeps what comes of them: states,
/// logs, outcomes. `buildr submit`, `buildr builds` and the others talk to it.
///
/// Every option can also be given as a variable, BUILDR_COORDINATOR_SOME_OPTION, or as a key of coordinator.toml
/// (some_option) in /etc/buildr or ~/.config/buildr.
#[derive(Debug, Parser)]
#[command(name = "buildr-coordinator", version, max_term_width = 100)]
struct Args {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole farm in this process: the coordinator and one agent, without RabbitMQ
    Up(Box<JobArgs>),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The message broker, as amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…
    #[arg(long, value_name = "URL")]
    amqp: Option<String>,

    /// A file of CA certificates to check an amqps:// broker's with, besides the system's
    #[arg(long, value_name = "FILE")]
    amqp_ca: Option<PathBuf>,

    /// Where the API and the pages are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8700", global = true)]
    listen: SocketAddr,

    /// Where database, logs, key and token lie [default: /var/lib/buildr/coordinator for root, else
    /// ~/.local/state/buildr/coordinator]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,

    /// How others reach the API, such as https://ci.example.org
    #[arg(long, value_name = "URL", global = true)]
    public_url: Option<String>,

    /// Let everybody who reaches the listener look at builds; starting them needs the token all the same
    #[arg(long, global = true)]
    public_read: bool,

    /// Take any agent: the first key under a name is that agent's from then on. For a first try
    #[arg(long, conflicts_with_all = ["join_token", "join_token_file"])]
    open_enrolment: bool,

    /// Take agents that were started with the same token; better in a file or in the environment
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,

    /// Read the join token from this file
    #[arg(long, value_name = "FILE", conflicts_with = "join_token")]
    join_token_file: Option<PathBuf>,

    /// Pass on repositories by path and file://, which lie on the agents' own disks [default: only for `up` on
    /// loopback]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", global = true)]
    local_repos: Option<bool>,

    /// Repositories to trust, when somebody publishes their jobs by hand: `*` stands for text without `/`, `**` for any
    #[arg(long, value_name = "GLOB", value_delimiter = ',', global = true)]
    trusted_repos: Vec<RepoGlob>,

    /// Which builds a newer one of the same branch or pull request cancels, where the manifest does not say
    /// (`cancel_superseded`)
    #[arg(long, value_name = "WHICH", default_value = "pull-requests", global = true)]
    cancel_superseded: Superseded,

    /// How long the end of the program waits for what still runs, in seconds [default: 30; `up`: until jobs are over]
    #[arg(long, value_name = "SECONDS", global = true)]
    drain_timeout: Option<u64>,

    /// The key that the farm's secrets are sealed with in the store, 32 bytes in base64; better in a file or in the
    /// environment [default: made in the state folder, in the file secrets.key]
    #[arg(long, value_name = "KEY", hide_env_values = true, global = true)]
    secrets_key: Option<String>,

    /// Read that key from this file; of several lines the first one seals, and all open
    #[arg(long, value_name = "FILE", conflicts_with = "secrets_key", global = true)]
    secrets_key_file: Option<PathBuf>,

    /// The longest archive of one stage's artifacts that is kept, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, global = true)]
    artifact_limit: u64,

    /// For how long builds are kept.
    #[command(flatten)]
    keeps: KeepArgs,

    /// Where to say that a branch broke or was fixed: a webhook, signed as Standard Webhooks are
    #[arg(long, value_name = "URL", requires = "notify_secret_file", global = true)]
    notify_url: Option<String>,

    /// The file with the secret that this is signed with: whsec_ and base64, or any text of 16 characters or more
    #[arg(long, value_name = "FILE", global = true)]
    notify_secret_file: Option<PathBuf>,

    /// Mail when a branch breaks or is fixed.
    #[command(flatten)]
    mail: MailArgs,

    /// A file of settings instead of coordinator.toml in the usual places
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Seconds that a job survives the silence of its agent
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true, global = true)]
    lease_seconds: u64,

    /// Seconds between an agent's signs of life
    #[arg(long, value_name = "SECONDS", default_value_t = 15, hide = true, global = true)]
    heartbeat_seconds: u64,

    /// Seconds between the coordinator's signs of life
    #[arg(long, value_name = "SECONDS", default_value_t = 15, hide = true, global = true)]
    beacon_seconds: u64,
}

/// For how long builds are kept, and what they leave.
#[derive(Debug, clap::Args)]
struct KeepArgs {
    /// Keep the newest N builds of each repository. With --keep-days too, a build is kept as long as one of them keeps
    /// it; pinned builds and the last one of each branch that passed are kept in any case [default: all builds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    keep_builds: Option<u32>,

    /// Keep builds for so many days after their end [default: without end]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    keep_days: Option<u32>,

    /// Keep what jobs printed for so many days after the end of their build [default: as long as the build]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    keep_logs_days: Option<u32>,

    /// Keep the files that jobs left for so many days after the end of their build, where the manifest says no less
    /// [default: as long as the build]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..), global = true)]
    keep_artifacts_days: Option<u32>,
}

/// [`Supersede`], as it is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Superseded {
    Never,
    PullRequests,
    Always,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag, a variable or a file.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A folder.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Nothing says where the agents are.
    #[error(
        "nothing says where the agents are: name RabbitMQ with --amqp amqp://USER:PASSWORD@HOST, or run a farm in one process with `up`"
    )]
    NoFarm,
    /// Both ways at once.
    #[error("`up` runs its agent in this process and needs no RabbitMQ; leave out --amqp, or leave out `up`")]
    TwoFarms,
    /// A join token that anybody could guess.
    #[error("the join token has {0} characters; use 16 or more, such as from `openssl rand -hex 16`")]
    ShortToken(usize),
    /// The file with the join token.
    #[error("the join token's file {path} cannot be read: {source}")]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Where to say that a branch broke.
    #[error("--notify-url is no address; write one such as https://hooks.example.org/buildr")]
    NotifyUrl,
    /// The file with the secret for that.
    #[error("the file {path} with the secret of --notify-url cannot be read: {source}")]
    NotifyFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The secret in it.
    #[error(
        "the secret of --notify-url is whsec_ and base64, or any text, of 16 bytes or more; make one with `openssl rand -hex 16`"
    )]
    NotifySecret,
    /// The file with the password of the mail server.
    #[error("the file {path} with the password of --smtp-user cannot be read: {source}")]
    MailFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is none.
    #[error("--smtp-user needs a password: put it into a file for --smtp-password-file")]
    MailPassword,
    /// Times that do not fit together.
    #[error("a lease of {lease_s} s is too short for signs of life every {heartbeat_s} s; make it three times as long")]
    ShortLease {
        /// The lease in seconds.
        lease_s: u64,
        /// The heartbeat in seconds.
        heartbeat_s: u64,
    },
    /// A time of nothing.
    #[error("lease, heartbeat and beacon need at least one second")]
    NoTime,
}

/// Reads all layers of settings.
///
/// # Errors
/// Says which setting is wrong and what to write instead; [`LayersError::Flags`] also carries `--help`.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Config, ConfigError> {
    let Args { options, command } = layers::read("coordinator", "BUILDR_COORDINATOR", arguments)?;
    let farm = match (command, options.amqp.clone()) {
        (None, None) => return Err(ConfigError::NoFarm),
        (Some(Command::Up(_)), Some(_)) => return Err(ConfigError::TwoFarms),
        (None, Some(url)) => Farm::Broker { url, ca_file: options.amqp_ca.clone() },
        (Some(Command::Up(jobs)), None) => Farm::Here(jobs),
    };
    options.into_config(farm)
}

impl Options {
    fn into_config(self, farm: Farm) -> Result<Config, ConfigError> {
        let state_dir = match self.state_dir {
            Some(folder) => folder,
            None => folders::state("coordinator")?,
        };
        let default = Config::new(state_dir);
        let is_up = matches!(farm, Farm::Here(_));
        let local = self.local_repos.unwrap_or(is_up && self.listen.ip().is_loopback());
        let config = Config {
            farm,
            listen: self.listen,
            enrolment: enrolment(self.open_enrolment, self.join_token, self.join_token_file)?,
            reading: if self.public_read { Reading::Public } else { Reading::Guarded },
            public_url: self.public_url,
            local_repos: if local { LocalRepos::Allowed } else { LocalRepos::Refused },
            trusted_repos: self.trusted_repos,
            secrets_key: match (self.secrets_key_file, self.secrets_key) {
                (Some(path), _) => SecretsKey::File(path),
                (None, Some(text)) => SecretsKey::Text(KeyText::new(text)),
                (None, None) => SecretsKey::OfState,
            },
            artifact_limit: self.artifact_limit << 20,
            supersede: match self.cancel_superseded {
                Superseded::Never => Supersede::Never,
                Superseded::PullRequests => Supersede::PullRequests,
                Superseded::Always => Supersede::Always,
            },
            notify: notify(self.notify_url, self.notify_secret_file)?,
            mail: self.mail.settings()?,
            keeps: Keeps {
                builds: self.keeps.keep_builds,
                days: self.keeps.keep_days,
                logs_days: self.keeps.keep_logs_days,
                artifacts_days: self.keeps.keep_artifacts_days,
            },
            lease: Duration::from_secs(self.lease_seconds),
            heartbeat: Duration::from_secs(self.heartbeat_seconds),
            beacon: Duration::from_secs(self.beacon_seconds),
            drain_timeout: match self.drain_timeout {
                Some(seconds) => Some(Duration::from_secs(seconds)),
                // An agent in this process works for people who wait at the terminal: it drains as long as it takes.
                None if is_up => None,
                None => default.drain_timeout,
            },
            ..default
        };
        check_times(&config)?;
        Ok(config)
    }
}

fn notify(url: Option<String>, file: Option<PathBuf>) -> Result<Option<Notify>, ConfigError> {
    let (Some(url), Some(path)) = (url, file) else { return Ok(None) };
    let parsed = url::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if !parsed {
        return Err(ConfigError::NotifyUrl);
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(source) => return Err(ConfigError::NotifyFile { path, source }),
    };
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| ConfigError::NotifySecret)?,
        None => text.into_bytes(),
    };
    if key.len() < 16 { Err(ConfigError::NotifySecret) } else { Ok(Some(Notify { url, key })) }
}

fn enrolment(open: bool, token: Option<String>, file: Option<PathBuf>) -> Result<Enrolment, ConfigError> {
    let token = match file {
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(source) => return Err(ConfigError::TokenFile { path, source }),
        },
        None => token,
    };
    match token {
        None if open => Ok(Enrolment::Open),
        None => Ok(Enrolment::ByApproval),
        Some(token) => match token.trim().len() {
            length @ 0..16 => Err(ConfigError::ShortToken(length)),
            _ => {
                let Ok(token) = token.parse::<JoinToken>();
                Ok(Enrolment::ByToken(token))
            }
        },
    }
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    if [config.lease, config.heartbeat, config.beacon].iter().any(Duration::is_zero) {
        return Err(ConfigError::NoTime);
    }
    if config.lease < config.heartbeat * 3 {
        let (lease_s, heartbeat_s) = (config.lease.as_secs(), config.heartbeat.as_secs());
        return Err(ConfigError::ShortLease { lease_s, heartbeat_s });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn resolve(arguments: &[&str], file: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, file).unwrap();
        let fixed = ["buildr-coordinator", "--config", path.to_str().unwrap(), "--state-dir", "/s"];
        read(fixed.iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file =
            "amqp = 'amqp://file'\nlisten = '127.0.0.1:1'\nlease_seconds = 90\ntrusted_repos = ['https://e.org/*']";
        let config = resolve(&["--listen", "127.0.0.1:2"], file).unwrap();
        assert_eq!(config.listen.port(), 2);
        assert_eq!(config.lease.as_secs(), 90);
        assert_eq!(config.trusted_repos.len(), 1);
        assert_eq!(config.supersede, Supersede::PullRequests);
        assert_eq!(config.keeps, Keeps::default(), "everything is kept unless somebody says otherwise");
        let keeps = resolve(&["--keep-builds", "50", "--keep-logs-days", "30"], "amqp = 'amqp://x'\nkeep_days = 90");
        let expect = Keeps { builds: Some(50), days: Some(90), logs_days: Some(30), artifacts_days: None };
        assert_eq!(keeps.unwrap().keeps, expect);
        assert_eq!(resolve(&["--cancel-superseded", "always"], file).unwrap().supersede, Supersede::Always);
        assert!(matches!(config.farm, Farm::Broker { url, .. } if url == "amqp://file"));
    }

    #[test]
    fn the_key_of_the_secrets_comes_from_a_file_or_a_setting() {
        let key = |arguments: &[&str], file: &str| resolve(arguments, file).unwrap().secrets_key;
        assert_eq!(key(&["up"], ""), SecretsKey::OfState);
        assert_eq!(key(&["up", "--secrets-key-file", "/k"], ""), SecretsKey::File("/k".into()));
        let given = key(&["up"], "secrets_key = 'AAAA'");
        assert_eq!(given, SecretsKey::Text(KeyText::new("AAAA".to_owned())));
        assert!(!format!("{given:?}").contains("AAAA"), "no log shows it");
    }

    #[test]
    fn mail_is_off_unless_there_is_a_server() {
        assert!(resolve(&["up"], "").unwrap().mail.is_none());
        let file = "smtp = 'smtps://mail.example.org'\nmail_from = 'buildr <ci@example.org>'\nmail_to = ['ada@example.org', 'bob@example.org']\nsmtp_user = 'ci'\nsmtp_password = 'pa55'";
        let mail = resolve(&["up"], file).unwrap().mail.unwrap();
        assert_eq!(mail.server, "smtps://mail.example.org:465".parse().unwrap());
        assert_eq!(mail.login, Some(("ci".to_owned(), "pa55".to_owned())));
        assert_eq!((mail.from.to_string().as_str(), mail.to.len()), ("buildr <ci@example.org>", 2));
        assert!(!format!("{mail:?}").contains("pa55"));
    }

    #[test]
    fn up_takes_the_agents_settings_from_flags_and_file() {
        let config =
            resolve(&["up", "--slots", "3", "--listen", "127.0.0.1:3"], "network = 'host'\nslots = 2").unwrap();
        let Farm::Here(jobs) = &config.farm else { panic!("{:?}", config.farm) };
        assert_eq!((jobs.slots, jobs.containers.network.as_deref()), (Some(3), Some("host")));
        assert_eq!(config.listen.port(), 3);
    }

    #[test]
    fn local_repositories_are_built_by_up_on_loopback_alone() {
        for (arguments, expect) in [
            (&["up"][..], LocalRepos::Allowed),
            (&["up", "--listen", "0.0.0.0:8700"], LocalRepos::Refused),
            (&["up", "--local-repos=false"], LocalRepos::Refused),
            (&["--amqp", "amqp://x"], LocalRepos::Refused),
            (&["--amqp", "amqp://x", "--local-repos"], LocalRepos::Allowed),
        ] {
            assert_eq!(resolve(arguments, "").unwrap().local_repos, expect, "{arguments:?}");
        }
    }

    #[track_caller]
    fn check_refused(arguments: &[&str], file: &str, expect: &str) {
        let error = resolve(arguments, file).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expect), "{arguments:?} {file:?}: {error}");
    }

    #[test]
    fn what_is_refused_says_what_to_write() {
        check_refused(&[], "", "--amqp");
        check_refused(&["up"], "amqp = 'amqp://x'", "leave out");
        check_refused(&["--open-enrolment", "--join-token", "0123456789abcdef", "up"], "", "cannot be used with");
        check_refused(&["up"], "join_token = 'short'", "16 or more");
        check_refused(&["up", "--lease-seconds", "20"], "", "three times");
        check_refused(&["up", "--heartbeat-seconds", "0"], "", "at least one second");
        check_refused(&["up", "--trusted-repos", "a b"], "", "is no pattern");
        check_refused(&["--join-token-file", "/does/not/exist", "up"], "", "cannot be read");
        check_refused(&["up", "--notify-url", "https://h"], "", "--notify-secret-file");
        check_refused(&["up", "--notify-url", "x", "--notify-secret-file", "/dev/null"], "", "is no address");
        check_refused(
            &["up", "--notify-url", "https://h", "--notify-secret-file", "/dev/null"],
            "",
            "16 bytes or more",
        );
        let smtp = ["up", "--smtp", "smtps://mail.example.org", "--mail-from", "ci@example.org"];
        check_refused(&smtp[..3], "", "--mail-from");
        check_refused(
            &["up", "--smtp", "https://mail.example.org", "--mail-from", "ci@example.org"],
            "",
            "no mail server",
        );
        check_refused(&[&smtp[..], &["--mail-to", "ada"]].concat(), "", "no address");
        check_refused(&[&smtp[..], &["--smtp-user", "ci"]].concat(), "", "--smtp-password-file");
        let wrong = ["--smtp-user", "ci", "--smtp-password-file", "/does/not/exist"];
        check_refused(&[&smtp[..], &wrong].concat(), "", "cannot be read");
        check_refused(&["up", "--keep-builds", "0"], "", "0 is not in 1..");
        check_refused(&["up"], "lisen = 3", "there is no setting \"lisen\"");
    }
}
