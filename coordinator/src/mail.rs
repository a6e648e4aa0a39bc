//! Mail: addresses, and the server that takes letters. The only room that speaks SMTP.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MessageBuilder};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use url::{Host, Url};

/// How long a server may take until the line to it stands.
const CONNECT_TIME: Duration = Duration::from_secs(20);

/// How long it may take for all of a letter: lettre waits for each answer for as long as it takes. Longer than any server
/// needs, for one that has taken the letter and is not heard would be sent it again.
const LETTER_TIME: Duration = Duration::from_secs(2 * 60);

/// The longest subject, in characters: more is not shown anywhere.
const LONGEST_SUBJECT: usize = 200;

/// Somebody's address, with or without a name: `ada@example.org`, `Ada <ada@example.org>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Mailbox);

impl Address {
    /// So much of it that those know it again who know it: others need not learn it from a page.
    #[must_use]
    pub fn shortened(&self) -> String {
        let first: String = self.0.email.user().chars().take(1).collect();
        format!("{first}…@{}", self.0.email.domain())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| format!("{text:?} is no address; write one such as ada@example.org"))
    }
}

/// How mail is sent, and to whom in any case.
#[derive(Clone)]
pub struct MailSettings {
    /// The server: `smtps://HOST:PORT`, or `smtp://HOST:PORT` with STARTTLS.
    pub server: Server,
    /// User and password, where it wants them.
    pub login: Option<(String, String)>,
    /// From whom.
    pub from: Address,
    /// Who hears of all projects.
    pub to: Vec<Address>,
}

impl fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailSettings").field("server", &self.server).finish_non_exhaustive()
    }
}

/// A server that takes mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
    safety: Safety,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safety {
    /// TLS from the first byte.
    Tls,
    /// TLS before anything is said; without it nothing is.
    StartTls,
    /// As on a line within this machine.
    Plain,
}

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "this is no mail server; write one such as smtps://mail.example.org or smtp://mail.example.org:587, without user and password".to_owned()
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let host =
            url.host_str().filter(|_| url.username().is_empty() && url.password().is_none()).ok_or_else(wrong)?;
        let here = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            // A scheme that is no web's leaves hosts as they are written.
            _ => host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback()),
        };
        let (port, safety) = match (url.scheme(), url.query()) {
            ("smtps", None) => (465, Safety::Tls),
            ("smtp", None) if here => (25, Safety::Plain),
            ("smtp", None) => (587, Safety::StartTls),
            ("smtp", Some("tls=none")) => (25, Safety::Plain),
            _ => return Err(wrong()),
        };
        Ok(Self { host: host.to_owned(), port: url.port().unwrap_or(port), safety })
    }
}

/// A letter.
#[derive(Debug, Clone)]
pub(crate) struct Letter<'a> {
    /// By which its receiver knows it again.
    pub(crate) id: &'a str,
    /// To whom.
    pub(crate) to: &'a Address,
    /// What it is about, in a line.
    pub(crate) subject: String,
    /// What it says.
    pub(crate) text: String,
}

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailError {
    /// The server cannot be spoken to, or does not take it.
    #[error("the mail server: {0}")]
    Server(#[from] lettre::transport::smtp::Error),
    /// It says nothing.
    #[error("the mail server did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It cannot be written.
    #[error("the mail cannot be written: {0}")]
    Letter(#[from] lettre::error::Error),
}

/// Brings letters to a server.
pub(crate) struct Post {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
}

impl Post {
    /// One for these settings. Nothing is said to the server yet.
    ///
    /// # Errors
    /// When this machine has no TLS.
    pub(crate) fn new(settings: &MailSettings) -> Result<Self, MailError> {
        let Server { host, port, safety } = &settings.server;
        let builder = match safety {
            Safety::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(host)?,
            Safety::StartTls => AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(host)?,
            Safety::Plain => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host),
        };
        let own_name = gethostname::gethostname().to_string_lossy().into_owned();
        let builder = builder.port(*port).timeout(Some(CONNECT_TIME)).hello_name(ClientId::Domain(own_name));
        let transport = match &settings.login {
            Some((user, password)) => builder.credentials(Credentials::new(user.clone(), password.clone())).build(),
            None => builder.build(),
        };
        Ok(Self { transport, from: settings.from.clone() })
    }

    /// Brings one letter, and says when the server has it.
    ///
    /// # Errors
    /// When it has it not.
    pub(crate) async fn send(&self, letter: &Letter<'_>) -> Result<(), MailError> {
        self.send_within(LETTER_TIME, letter).await
    }

    async fn send_within(&self, limit: Duration, letter: &Letter<'_>) -> Result<(), MailError> {
        let message = self.written(letter)?;
        let sent = tokio::time::timeout(limit, self.transport.send(message)).await;
        sent.map_err(|_| MailError::Silent(limit))??;
        Ok(())
    }

    fn written(&self, letter: &Letter<'_>) -> Result<Message, MailError> {
        let Address(from) = &self.from;
        let subject = letter.subject.chars().map(|c| if c.is_control() { ' ' } else { c });
        // Programs that answer mail by themselves leave this one alone.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let builder: MessageBuilder = Message::builder()
            .from(from.clone())
            .to(letter.to.0.clone())
            .subject(subject.take(LONGEST_SUBJECT).collect::<String>())
            .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .date_now();
        Ok(builder.body(letter.text.clone())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_people_write_them() {
        let server = |host: &str, port, safety| Some(Server { host: host.to_owned(), port, safety });
        for (text, expect) in [
            ("smtps://mail.example.org", server("mail.example.org", 465, Safety::Tls)),
            ("smtps://mail.example.org:4465", server("mail.example.org", 4465, Safety::Tls)),
            ("smtp://mail.example.org", server("mail.example.org", 587, Safety::StartTls)),
            ("smtp://mail.example.org:25", server("mail.example.org", 25, Safety::StartTls)),
            ("smtp://mail.example.org?tls=none", server("mail.example.org", 25, Safety::Plain)),
            ("smtp://127.0.0.1:2525", server("127.0.0.1", 2525, Safety::Plain)),
            ("smtp://localhost", server("localhost", 25, Safety::Plain)),
            ("smtp://localhost.example.org", server("localhost.example.org", 587, Safety::StartTls)),
            ("smtp://me:pw@mail.example.org", None),
            ("smtps://mail.example.org?tls=none", None),
            ("https://mail.example.org", None),
            ("mail.example.org", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Server>().ok(), expect, "{text}");
        }
    }

    #[test]
    fn addresses_are_shown_shortened() {
        for (text, expect) in [
            ("ada@example.org", Some("a…@example.org")),
            (" Ada Lovelace <ada@example.org> ", Some("a…@example.org")),
            ("ada", None),
            ("ada@example.org\r\nBcc: eve@example.org", None),
            ("ada@example.org, bob@example.org", None),
        ] {
            assert_eq!(text.parse::<Address>().ok().map(|it| it.shortened()).as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn a_subject_is_one_line() {
        let settings = MailSettings {
            server: "smtp://localhost".parse().unwrap(),
            login: None,
            from: "buildr <ci@example.org>".parse().unwrap(),
            to: Vec::new(),
        };
        let to = "ada@example.org".parse().unwrap();
        let (subject, text) =
            ("is broken:\r\nBcc: eve@example.org\n\u{1b}[31m".to_owned(), "Wörter\n.\n.x\n".to_owned());
        let letter = Letter { id: "msg_1", to: &to, subject, text };
        let bytes = Post::new(&settings).unwrap().written(&letter).unwrap().formatted();
        let written = String::from_utf8(bytes).unwrap();
        let (head, body) = written.split_once("\r\n\r\n").unwrap();
        assert!(head.lines().all(|line| !line.starts_with("Bcc")), "{head}");
        for line in
            ["From: buildr <ci@example.org>", "Message-ID: <msg_1@example.org>", "Auto-Submitted: auto-generated"]
        {
            assert!(head.lines().any(|has| has == line), "{line} is not in\n{head}");
        }
        assert!(head.contains("Content-Type: text/plain; charset=utf-8") && !body.is_empty(), "{written}");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("smtp://127.0.0.1:{}", silent.local_addr().unwrap().port()).parse().unwrap();
        let from: Address = "buildr@example.org".parse().unwrap();
        let post = Post::new(&MailSettings { server, login: None, from: from.clone(), to: Vec::new() }).unwrap();
        let letter = Letter { id: "1", to: &from, subject: "x".to_owned(), text: "x".to_owned() };
        let error = post.send_within(Duration::from_millis(100), &letter).await.unwrap_err();
        assert!(matches!(error, MailError::Silent(_)), "{error}");
    }
}
