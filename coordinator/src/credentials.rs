//! What a person gives for a project's private repository, looked at before it is kept: a deploy key for ssh, a token for
//! https.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use protocol::api::{CredentialsKind, CredentialsView, Forge, SetCredentials};
use protocol::{RepoCredentials, RepoUrl};
use sha2::{Digest as _, Sha256};

/// How a private key begins and ends, as `ssh-keygen` writes it.
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// How what stands between them begins.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// The longest key that is taken, in bytes: one of RSA with 16384 bits is shorter.
const LONGEST_KEY: usize = 16 << 10;

/// The longest token, in bytes; those that are JSON Web Tokens are long.
const LONGEST_TOKEN: usize = 4096;

/// Why credentials are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// The URL has no use for a key.
    #[error(
        "a deploy key opens a repository over ssh; give the project such a URL too, as in --url git@example.org:ada/cronline.git"
    )]
    KeyWithoutSsh,
    /// The URL has no use for a token.
    #[error(
        "a token opens a repository over https; give the project such a URL too, as in --url https://example.org/ada/cronline.git"
    )]
    TokenWithoutWeb,
    /// The URL has its own.
    #[error(
        "the project's URL holds a password or token of its own; give it one without (--url), and the token beside it"
    )]
    InUrl,
    /// It is no private key.
    #[error(
        "this is no private key as OpenSSH writes it; make one with `ssh-keygen -t ed25519 -N '' -f deploy_key`, or turn an older one into it with `ssh-keygen -p -N '' -f FILE`"
    )]
    NoKey,
    /// Nobody could give the passphrase.
    #[error(
        "the deploy key has a passphrase, which nobody could give; take it away with `ssh-keygen -p -N '' -f FILE`"
    )]
    Passphrase,
    /// It is no token.
    #[error("a token is one word of at most 4096 bytes, and so is the name of its user, without a colon; copy it anew")]
    NoToken,
}

/// What is kept of what was given, with what people may see of it; none where nothing is to be kept any more.
///
/// # Errors
/// When it is of no use for this URL.
pub(crate) fn looked_at(
    given: SetCredentials,
    url: &RepoUrl,
    forge: Forge,
) -> Result<Option<(CredentialsView, RepoCredentials)>, Unfit> {
    let (view, kept) = match given {
        SetCredentials::None => return Ok(None),
        SetCredentials::DeployKey(text) => {
            let (fingerprint, key) = key_of(&text)?;
            let view =
                CredentialsView { fingerprint: Some(fingerprint), ..CredentialsView::new(CredentialsKind::DeployKey) };
            (view, RepoCredentials::DeployKey { key })
        }
        SetCredentials::Token { user, token } => {
            let user = user.unwrap_or_else(|| user_at(forge).to_owned());
            let token = token.trim().to_owned();
            let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            if !word(&token) || token.len() > LONGEST_TOKEN || !word(&user) || user.contains(':') || user.len() > 256 {
                return Err(Unfit::NoToken);
            }
            let view = CredentialsView { user: Some(user.clone()), ..CredentialsView::new(CredentialsKind::Token) };
            (view, RepoCredentials::Token { user, token })
        }
    };
    fit(view.kind, url)?;
    Ok(Some((view, kept)))
}

/// Whether credentials of this kind are of use for a URL.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn fit(kind: CredentialsKind, url: &RepoUrl) -> Result<(), Unfit> {
    let text = url.reveal();
    let web = text.starts_with("https://") || text.starts_with("http://");
    let ssh = text.starts_with("ssh://") || !text.contains("://") && !url.is_local();
    match kind {
        _ if url.secret().is_some() => Err(Unfit::InUrl),
        CredentialsKind::DeployKey if !ssh => Err(Unfit::KeyWithoutSsh),
        CredentialsKind::Token if !web => Err(Unfit::TokenWithoutWeb),
        _ => Ok(()),
    }
}

/// Who shows a token where nobody says it. GitHub, Gitea and Forgejo take any name.
fn user_at(forge: Forge) -> &'static str {
    match forge {
        Forge::GitLab => "oauth2",
        Forge::Bitbucket | Forge::BitbucketDc => "x-token-auth",
        Forge::GitHub | Forge::Gitea | Forge::Forgejo | Forge::Generic => "x-access-token",
    }
}

/// The fingerprint of a private key, as `ssh-keygen -l` prints it, and the key as it is kept.
fn key_of(text: &str) -> Result<(String, String), Unfit> {
    let text = text.trim();
    let inner = text.strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END)).ok_or(Unfit::NoKey)?;
    if text.len() > LONGEST_KEY {
        return Err(Unfit::NoKey);
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let bytes = STANDARD.decode(inner.split_whitespace().collect::<String>()).map_err(|_| Unfit::NoKey)?;
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(Unfit::NoKey)?;
    let cipher = part(&mut rest).ok_or(Unfit::NoKey)?;
    if cipher != b"none" {
        return Err(Unfit::Passphrase);
    }
    // The way to a key from the passphrase, and its options.
    let public = part(&mut rest).and_then(|_| part(&mut rest)).and_then(|_| {
        let (count, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        (u32::from_be_bytes(*count) == 1).then(|| part(&mut rest))?
    });
    let public = public.filter(|public| !public.is_empty()).ok_or(Unfit::NoKey)?;
    let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(public)));
    Ok((fingerprint, lines.join("\n") + "\n"))
}

/// The next part, which stands behind its length.
fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for this test by `ssh-keygen -t ed25519 -N ''`.
    const KEY: &str = include_str!("credentials/key");

    fn looked(
        given: SetCredentials,
        url: &str,
        forge: Forge,
    ) -> Result<Option<(CredentialsView, RepoCredentials)>, Unfit> {
        looked_at(given, &url.parse().unwrap(), forge)
    }

    #[test]
    fn a_key_goes_by_its_fingerprint() {
        let given = SetCredentials::DeployKey(KEY.replace('\n', "\r\n"));
        let (view, kept) = looked(given, "git@example.org:a/b.git", Forge::Gitea).unwrap().unwrap();
        assert_eq!(view.fingerprint.as_deref(), Some(include_str!("credentials/fingerprint").trim()));
        assert_eq!(kept, RepoCredentials::DeployKey { key: KEY.to_owned() });
        assert!(!format!("{view:?} {kept:?}").contains("b3BlbnNzaC"));
    }

    #[test]
    fn a_token_has_a_user() {
        for (forge, user, expect) in [
            (Forge::GitHub, None, "x-access-token"),
            (Forge::GitLab, None, "oauth2"),
            (Forge::GitLab, Some("gitlab+deploy-token-1"), "gitlab+deploy-token-1"),
            (Forge::Bitbucket, None, "x-token-auth"),
        ] {
            let given = SetCredentials::Token { user: user.map(str::to_owned), token: " t0k3n\n".to_owned() };
            let (view, kept) = looked(given, "https://example.org/a/b", forge).unwrap().unwrap();
            assert_eq!(view.user.as_deref(), Some(expect));
            assert_eq!(kept, RepoCredentials::Token { user: expect.to_owned(), token: "t0k3n".to_owned() });
        }
    }

    #[test]
    fn what_is_of_no_use_is_refused() {
        let key = |text: &str| SetCredentials::DeployKey(text.to_owned());
        let token = |text: &str| SetCredentials::Token { user: None, token: text.to_owned() };
        let locked = include_str!("credentials/locked");
        let (ssh, web) = ("git@example.org:a/b", "https://example.org/a/b");
        for (given, url, expect) in [
            (key(KEY), web, Unfit::KeyWithoutSsh),
            (key(KEY), "/srv/git/x", Unfit::KeyWithoutSsh),
            (key(""), ssh, Unfit::NoKey),
            (key("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"), ssh, Unfit::NoKey),
            (key(&KEY[..KEY.len() / 2]), ssh, Unfit::NoKey),
            (key(&format!("{BEGIN}\nb3BlbnNzaC1rZXktdjEA\n{END}")), ssh, Unfit::NoKey),
            (key(locked), ssh, Unfit::Passphrase),
            (token("t"), ssh, Unfit::TokenWithoutWeb),
            (token("t"), "git://example.org/a/b", Unfit::TokenWithoutWeb),
            (token("t"), "https://me:pw@example.org/a/b", Unfit::InUrl),
            (token(""), web, Unfit::NoToken),
            (token("two words"), web, Unfit::NoToken),
            (token(&"x".repeat(5000)), web, Unfit::NoToken),
            (SetCredentials::Token { user: Some("a:b".to_owned()), token: "t".to_owned() }, web, Unfit::NoToken),
        ] {
            assert_eq!(looked(given, url, Forge::GitHub).err(), Some(expect), "{url}");
        }
        assert_eq!(looked(SetCredentials::None, web, Forge::GitHub), Ok(None));
    }
}
