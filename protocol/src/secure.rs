//! Values that stand sealed in a manifest: anybody can seal one with the farm's public key, only the farm opens it, and
//! only for builds of the one project that it was sealed for (HPKE, RFC 9180). So a secret is versioned with the code
//! that needs it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

type SecureKem = X25519HkdfSha256;

/// What a sealed value begins with: which way it was sealed.
const VERSION: &str = "b1";

/// Binds a seal to its use; the project's identity follows.
const INFO: &[u8] = b"buildr secure value v1\0";

/// The bytes of a sealed value that are no content: the one-time key, and the tag.
const AROUND: usize = 32 + 16;

/// The longest value, in bytes, as for every other secret.
pub const LONGEST_VALUE: usize = 100 << 10;

/// What can be wrong with a sealed value or a key for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecureError {
    /// The text is none.
    #[error("this is no value that `buildr encrypt` made: it looks like b1.KEY.TEXT")]
    BadText,
    /// The farm's key is none.
    #[error("what the farm gave is no key that values can be sealed with; update buildr on both sides")]
    BadKey,
    /// No key of this farm opens it.
    #[error("it was sealed for another farm, or for a key that this one has no more")]
    OtherKey,
    /// It does not open.
    #[error("it was sealed for another project, or changed since")]
    OtherProject,
    /// It is too long to be a variable of a program.
    #[error("the value is longer than {} KiB, which no program takes as a variable", LONGEST_VALUE >> 10)]
    TooLong,
}

/// A sealed value as it stands in a manifest: `b1.KEY.TEXT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureText {
    key: String,
    sealed: Vec<u8>,
}

impl SecureText {
    /// Which of a farm's keys opens it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl FromStr for SecureText {
    type Err = SecureError;

    fn from_str(text: &str) -> Result<Self, SecureError> {
        let mut parts = text.split('.');
        let (Some(VERSION), Some(key), Some(sealed), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SecureError::BadText);
        };
        let sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SecureError::BadText)?;
        let is_key = key.len() == 8 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_key || sealed.len() <= AROUND {
            return Err(SecureError::BadText);
        }
        if sealed.len() > LONGEST_VALUE + AROUND {
            return Err(SecureError::TooLong);
        }
        Ok(Self { key: key.to_owned(), sealed })
    }
}

impl fmt::Display for SecureText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}", self.key, URL_SAFE_NO_PAD.encode(&self.sealed))
    }
}

/// What values are sealed with: `GET /api/v1/key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FarmKey {
    /// The public key, in base64.
    pub key: String,
    /// How sealed values name it.
    pub id: String,
}

impl FarmKey {
    /// Seals a value for builds of one project, by its identity.
    ///
    /// # Errors
    /// When the key is none, or the value is too long.
    pub fn seal(&self, project: &str, value: &str) -> Result<SecureText, SecureError> {
        if value.len() > LONGEST_VALUE {
            return Err(SecureError::TooLong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.key).map_err(|_| SecureError::BadKey)?;
        let to = <SecureKem as Kem>::PublicKey::from_bytes(&bytes).map_err(|_| SecureError::BadKey)?;
        if id_of(&bytes) != self.id {
            return Err(SecureError::BadKey);
        }
        let (once, content) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, SecureKem>(
            &OpModeS::Base,
            &to,
            &info(project),
            value.as_bytes(),
            &[],
        )
        .map_err(|_| SecureError::BadKey)?;
        let mut sealed = once.to_bytes().to_vec();
        sealed.extend(content);
        Ok(SecureText { key: self.id.clone(), sealed })
    }
}

/// What opens them: the farm's own half.
pub struct OpeningKey {
    private: <SecureKem as Kem>::PrivateKey,
    public: FarmKey,
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.public.id)
    }
}

impl OpeningKey {
    /// The key that follows from 32 secret bytes, the same each time.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let (private, public) = SecureKem::derive_keypair(seed);
        let bytes = public.to_bytes();
        let public = FarmKey { key: URL_SAFE_NO_PAD.encode(bytes), id: id_of(&bytes) };
        Self { private, public }
    }

    /// What others seal with.
    #[must_use]
    pub fn public(&self) -> &FarmKey {
        &self.public
    }

    /// Opens a value for a build of this project.
    ///
    /// # Errors
    /// When it was sealed for another key or project, or changed.
    pub fn open(&self, project: &str, text: &SecureText) -> Result<String, SecureError> {
        if text.key != self.public.id {
            return Err(SecureError::OtherKey);
        }
        let (once, content) = text.sealed.split_at_checked(32).ok_or(SecureError::BadText)?;
        let once = <SecureKem as Kem>::EncappedKey::from_bytes(once).map_err(|_| SecureError::BadText)?;
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, SecureKem>(
            &OpModeR::Base,
            &self.private,
            &once,
            &info(project),
            content,
            &[],
        )
        .map_err(|_| SecureError::OtherProject)?;
        String::from_utf8(plain).map_err(|_| SecureError::BadText)
    }
}

fn info(project: &str) -> Vec<u8> {
    [INFO, project.as_bytes()].concat()
}

fn id_of(public: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(public)[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_for_its_project_and_farm_alone() {
        let farm = OpeningKey::from_seed(&[7; 32]);
        assert_eq!(OpeningKey::from_seed(&[7; 32]).public(), farm.public());
        let text = farm.public().seal("example.org/a/b", "s3cret-välue").unwrap();
        let written = text.to_string();
        assert!(written.starts_with("b1.") && !written.contains("s3cret"), "{written}");
        let read: SecureText = written.parse().unwrap();
        assert_eq!(farm.open("example.org/a/b", &read).unwrap(), "s3cret-välue");
        assert_eq!(farm.open("example.org/a/c", &read), Err(SecureError::OtherProject));
        assert_eq!(OpeningKey::from_seed(&[8; 32]).open("example.org/a/b", &read), Err(SecureError::OtherKey));
        assert_ne!(farm.public().seal("example.org/a/b", "s3cret-välue").unwrap(), read, "each is sealed anew");
        let mut changed = read.clone();
        *changed.sealed.last_mut().unwrap() ^= 1;
        assert_eq!(farm.open("example.org/a/b", &changed), Err(SecureError::OtherProject));
    }

    #[test]
    fn texts_that_are_none() {
        let long = format!("b1.00112233.{}", "A".repeat(2 * LONGEST_VALUE));
        for (text, expect) in [
            ("", SecureError::BadText),
            ("s3cret", SecureError::BadText),
            ("b2.00112233.AAAA", SecureError::BadText),
            ("b1.00112233.AAAA", SecureError::BadText),
            ("b1.0011223.AAAA", SecureError::BadText),
            ("b1.00112233.!!!!", SecureError::BadText),
            ("b1.00112233.AAAA.AAAA", SecureError::BadText),
            (&long, SecureError::TooLong),
        ] {
            assert_eq!(text.parse::<SecureText>(), Err(expect), "{text:.40}");
        }
        let other = FarmKey { id: "00112233".to_owned(), ..OpeningKey::from_seed(&[7; 32]).public().clone() };
        assert_eq!(other.seal("x", "y"), Err(SecureError::BadKey));
        assert_eq!(FarmKey { key: "x".to_owned(), ..other }.seal("x", "y"), Err(SecureError::BadKey));
    }
}
