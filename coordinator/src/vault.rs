//! What the farm's secrets are kept with: a key of 32 bytes, from which follow one that seals them in the store
//! (ChaCha20-Poly1305, bound to project, name, branch and events, or to purpose and repository) and one that opens what stands sealed in manifests.
//!
//! The key comes from a file or a setting, or is made in the state folder. It may have several lines: the first one
//! seals, all of them open. So a key is changed by a new line above the old one; at its next start the coordinator seals
//! its secrets anew with the first, and the old line stays as long as manifests hold values that were sealed for it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit as _, Mac as _};
use protocol::secure::{FarmKey, OpeningKey, SecureError, SecureText};
use rand::Rng as _;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};

use crate::config::SecretsKey;
use crate::identity::write_secret;
use crate::store::{KeptSecret, OldText, Scope, Sealed, SealedFor, Store, StoreError};

/// The file in the state folder.
const FILE: &str = "secrets.key";

/// How large a key is, in bytes.
const SIZE: usize = 32;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file.
    #[error("the key of the farm's secrets in {path} cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error(
        "{place} holds no key for the farm's secrets: each line is 32 bytes in base64 or hexadecimal, as `openssl rand -base64 32` prints them"
    )]
    NoKey {
        /// The file or the setting.
        place: String,
    },
    /// Sealing them anew.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One key, in the two uses that it has.
struct Key {
    id: String,
    own: LessSafeKey,
    opening: OpeningKey,
}

/// The farm's keys.
pub(crate) struct Vault {
    first: Key,
    older: Vec<Key>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", self.first.id)
    }
}

impl Vault {
    /// The key that the settings name, or the one of the state folder, which is made when there is none.
    ///
    /// # Errors
    /// When it cannot be read or written, or is none.
    pub(crate) fn load(named: &SecretsKey, state_dir: &Path) -> Result<Self, VaultError> {
        let read = |path: &Path| {
            let text = fs::read_to_string(path);
            text.map_err(|source| VaultError::File { path: path.to_owned(), source })
        };
        match named {
            SecretsKey::Text(text) => Self::of(text.reveal(), "the setting secrets-key"),
            SecretsKey::File(path) => Self::of(&read(path)?, &path.display().to_string()),
            SecretsKey::OfState => {
                let path = state_dir.join(FILE);
                if !path.exists() {
                    let mut bytes = [0_u8; SIZE];
                    rand::rng().fill_bytes(&mut bytes);
                    let line = BASE64.encode(bytes) + "\n";
                    write_secret(&path, line.as_bytes())
                        .map_err(|source| VaultError::File { path: path.clone(), source })?;
                }
                Self::of(&read(&path)?, &path.display().to_string())
            }
        }
    }

    fn of(text: &str, place: &str) -> Result<Self, VaultError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Option<Vec<Key>> = lines.map(|line| bytes_of(line).and_then(|bytes| Key::of(&bytes))).collect();
        let mut keys = keys.unwrap_or_default().into_iter();
        let Some(first) = keys.next() else { return Err(VaultError::NoKey { place: place.to_owned() }) };
        Ok(Self { first, older: keys.collect() })
    }

    fn key(&self, id: &str) -> Option<&Key> {
        std::iter::once(&self.first).chain(&self.older).find(|key| key.id == id)
    }

    /// Seals a value for the store; gives which key did it, and the bytes.
    pub(crate) fn seal(&self, scope: &Scope, value: &str) -> (String, Vec<u8>) {
        let Sealed { key_id, content } = self.sealed(bound(scope), value);
        (key_id, content)
    }

    /// Seals a text that the farm itself needs, for this purpose and repository alone.
    pub(crate) fn seal_text(&self, purpose: SealedFor, identity: &str, text: &str) -> Sealed {
        self.sealed(bound_to(purpose, identity), text)
    }

    /// Opens one; nothing when another key sealed it, or for something else.
    pub(crate) fn open_text(&self, purpose: SealedFor, identity: &str, sealed: &Sealed) -> Option<String> {
        self.opened(&sealed.key_id, bound_to(purpose, identity), &sealed.content)
    }

    fn sealed(&self, bound: Vec<u8>, text: &str) -> Sealed {
        let mut nonce = [0_u8; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        let mut content = text.as_bytes().to_vec();
        self.first
            .own
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut content)
            .expect("a text is shorter than 256 GiB");
        Sealed { key_id: self.first.id.clone(), content: [&nonce[..], &content].concat() }
    }

    fn opened(&self, key_id: &str, bound: Vec<u8>, sealed: &[u8]) -> Option<String> {
        let (nonce, content) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = content.to_vec();
        let plain = self.key(key_id)?.own.open_in_place(nonce, Aad::from(bound), &mut content).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }

    /// Opens what was sealed for the store; nothing when another key did it, or for another scope.
    pub(crate) fn open(&self, secret: &KeptSecret) -> Option<String> {
        self.opened(&secret.key_id, bound(&secret.scope), &secret.sealed)
    }

    /// What values in manifests are sealed with.
    pub(crate) fn public(&self) -> &FarmKey {
        self.first.opening.public()
    }

    /// Opens a value of a manifest for a build of this project.
    ///
    /// # Errors
    /// When it was sealed for another farm or project, or is no such value.
    pub(crate) fn open_secure(&self, project: &str, text: &str) -> Result<String, SecureError> {
        let text: SecureText = text.parse()?;
        let keys = std::iter::once(&self.first).chain(&self.older);
        let key = keys.map(|key| &key.opening).find(|key| key.public().id == text.key());
        key.ok_or(SecureError::OtherKey)?.open(project, &text)
    }

    /// Seals with the first key what an older one sealed, and what an older program kept as it is, of which then nothing is
    /// left in the database's files. Says so of what no key opens.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn renew(&self, store: &Store) -> Result<(), VaultError> {
        let mut tx = store.write().await?;
        let mut lost = 0;
        for mut secret in tx.secrets_of_other_keys(&self.first.id).await? {
            let Some(value) = self.open(&secret) else {
                lost += 1;
                continue;
            };
            (secret.key_id, secret.sealed) = self.seal(&secret.scope, &value);
            tx.reseal_secret(&secret).await?;
        }
        for old in tx.old_seals(&self.first.id).await? {
            let text = match old.text {
                OldText::Clear(text) => Some(text),
                OldText::Sealed(sealed) => self.open_text(old.purpose, &old.identity, &sealed),
            };
            match text {
                Some(text) => {
                    let sealed = self.seal_text(old.purpose, &old.identity, &text);
                    tx.reseal(old.purpose, &old.identity, &sealed).await?;
                }
                None => lost += 1,
            }
        }
        tx.commit().await?;
        if let Err(error) = store.scrub().await {
            tracing::error!(
                "secrets that an older buildr kept as they are may still lie in unused parts of the database's files: {error}. It is tried again at the next start"
            );
        }
        if lost > 0 {
            tracing::error!(
                "{lost} secrets of the farm were sealed with a key that is not here, and are of no use to anybody. Put the key's line back, or set them again (`buildr secret list`, `buildr project list` and `buildr statuses` mark them)"
            );
        }
        Ok(())
    }

    /// Whether one of its keys sealed this.
    pub(crate) fn knows(&self, key_id: &str) -> bool {
        self.key(key_id).is_some()
    }
}

impl Key {
    fn of(bytes: &[u8; SIZE]) -> Option<Self> {
        let own = derived(bytes, b"buildr secrets 1");
        let opening = OpeningKey::from_seed(&derived(bytes, b"buildr secure values 1"));
        let own = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &own).ok()?);
        let id = HEXLOWER.encode(&Sha256::digest(derived(bytes, b"buildr key id 1"))[..4]);
        Some(Self { id, own, opening })
    }
}

fn bytes_of(line: &str) -> Option<[u8; SIZE]> {
    let hexadecimal = HEXLOWER_PERMISSIVE.decode(line.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    hexadecimal.or_else(|| BASE64.decode(line).ok()?.try_into().ok())
}

fn derived(key: &[u8; SIZE], purpose: &[u8]) -> [u8; SIZE] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}

/// What a sealed value is bound to, so that no row can take another's place. No part holds a NUL.
fn bound(scope: &Scope) -> Vec<u8> {
    let Scope { project, name, branch, events } = scope;
    ["buildr secret 1", project, name, branch, events].join("\0").into_bytes()
}

/// The same for a text that the farm itself needs.
fn bound_to(purpose: SealedFor, identity: &str) -> Vec<u8> {
    ["buildr text 1", purpose.name(), identity].join("\0").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn scope(project: &str, name: &str) -> Scope {
        Scope { project: project.to_owned(), name: name.to_owned(), ..Scope::default() }
    }

    fn kept(vault: &Vault, scope: Scope, value: &str) -> KeptSecret {
        let (key_id, sealed) = vault.seal(&scope, value);
        KeptSecret { id: 1, scope, key_id, sealed, set_by: "x".to_owned(), set_ms: 1 }
    }

    #[test]
    fn a_value_opens_in_its_own_row_alone() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::load(&SecretsKey::OfState, folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let secret = kept(&vault, scope("e.org/a", "T"), "s3cret");
        assert!(!secret.sealed.windows(6).any(|part| part == b"s3cret"));
        let again = Vault::load(&SecretsKey::OfState, folder.path()).unwrap();
        assert_eq!(again.open(&secret).as_deref(), Some("s3cret"));
        for other in [scope("e.org/b", "T"), scope("", "T"), scope("e.org/a", "U")] {
            assert_eq!(vault.open(&KeptSecret { scope: other, ..secret.clone() }), None);
        }
        let wider = Scope { branch: "main".to_owned(), ..scope("e.org/a", "T") };
        assert_eq!(vault.open(&KeptSecret { scope: wider, ..secret.clone() }), None);
        let cut = KeptSecret { sealed: secret.sealed[..5].to_vec(), ..secret.clone() };
        assert_eq!(vault.open(&cut), None);
        let other = Vault::load(&SecretsKey::OfState, tempfile::tempdir().unwrap().path()).unwrap();
        assert_eq!(other.open(&secret), None);
    }

    #[test]
    fn keys_as_openssl_prints_them() {
        let (hex, base64) = ("07".repeat(SIZE), BASE64.encode([7; SIZE]));
        let id = |text: &str| Vault::of(text, "x").map(|vault| vault.first.id).map_err(|error| error.to_string());
        assert_eq!(id(&hex), id(&format!("# mine\n\n {base64} \n")));
        for bad in ["", "# only words", "short", &hex[2..], &format!("{base64}\nshort")] {
            assert!(id(bad).unwrap_err().contains("openssl rand -base64 32"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_new_key_takes_over_and_the_old_one_still_opens_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let (old, new) = (BASE64.encode([1; SIZE]), BASE64.encode([2; SIZE]));
        let before = Vault::of(&old, "x").unwrap();
        let secure = before.public().seal("e.org/a", "sealed-value").unwrap().to_string();
        let mut tx = store.write().await.unwrap();
        tx.put_secret(&kept(&before, scope("e.org/a", "T"), "s3cret")).await.unwrap();
        tx.commit().await.unwrap();
        let both = Vault::of(&format!("{new}\n{old}"), "x").unwrap();
        both.renew(&store).await.unwrap();
        let after = Vault::of(&new, "x").unwrap();
        let secret = store.secrets().await.unwrap().remove(0);
        assert_eq!((after.open(&secret).as_deref(), before.open(&secret)), (Some("s3cret"), None));
        assert_eq!(both.open_secure("e.org/a", &secure).unwrap(), "sealed-value");
        assert_eq!(after.open_secure("e.org/a", &secure), Err(SecureError::OtherKey));
        assert_eq!(both.open_secure("e.org/b", &secure), Err(SecureError::OtherProject));
        // A key that is gone takes nothing with it but its values.
        before.renew(&store).await.unwrap();
        assert!(!before.knows(&store.secrets().await.unwrap()[0].key_id));
        assert_eq!(after.open(&store.secrets().await.unwrap()[0]).as_deref(), Some("s3cret"));
    }
}
