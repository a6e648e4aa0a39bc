//! Who an agent is, and how a grant reaches it alone: signatures (Ed25519), sealing (HPKE, RFC 9180) and the
//! proof of a join token (HMAC-SHA256). Nothing that a broker can read is a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::id::{AgentId, ClaimId};

type SealingKem = X25519HkdfSha256;

/// What can be wrong with a key, a signature or a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a key that this module wrote.
    #[error("the key is damaged; delete the key file to make a new one, and enrol the agent again")]
    BadKey,
    /// The signature is not that of the key.
    #[error("the signature does not fit the key")]
    BadSignature,
    /// It was sealed to another key, or changed on its way.
    #[error("the grant was sealed to another key or changed on its way")]
    BadSeal,
    /// What was signed or sealed is not what was expected.
    #[error("what was signed cannot be read")]
    BadContent,
    /// The system has no randomness to give.
    #[error("the system gives no random numbers")]
    NoRandomness,
}

macro_rules! bytes_as_base64 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Vec<u8>);

        impl TryFrom<String> for $name {
            type Error = IdentityError;
            fn try_from(text: String) -> Result<Self, IdentityError> {
                BASE64.decode(text).map(Self).map_err(|_| IdentityError::BadContent)
            }
        }

        impl From<$name> for String {
            fn from(bytes: $name) -> Self {
                BASE64.encode(bytes.0)
            }
        }
    };
}

bytes_as_base64!(
    /// What an agent's or coordinator's signatures are checked with.
    PublicKey
);
bytes_as_base64!(
    /// The public half of a key made for one claim.
    SealingKey
);
bytes_as_base64!(
    /// A signature over exact bytes.
    Signature
);

impl PublicKey {
    /// A short text by which people compare keys.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha2::Digest as _;
        BASE64.encode(&Sha256::digest(&self.0)[..15])
    }
}

/// A long-lived signing key.
pub struct Identity {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.public().fingerprint())
    }
}

impl Identity {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| IdentityError::NoRandomness)?;
        Self::from_bytes(pkcs8.as_ref())
    }

    /// The key that [`Identity::to_bytes`] gave.
    ///
    /// # Errors
    /// When the bytes are no such key.
    pub fn from_bytes(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| IdentityError::BadKey)?;
        Ok(Self { pair, pkcs8: pkcs8.to_owned() })
    }

    /// The key, for a file that only its owner may read.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.pkcs8
    }

    /// What others check its signatures with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.pair.public_key().as_ref().to_owned())
    }

    fn sign_bytes(&self, bytes: &[u8]) -> Signature {
        Signature(self.pair.sign(bytes).as_ref().to_owned())
    }
}

/// A value with its signature. The value travels as the very text that was signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signed<T> {
    text: String,
    signature: Signature,
    #[serde(skip)]
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Signed<T> {
    /// Signs a value.
    ///
    /// # Errors
    /// When the value cannot be written as JSON.
    pub fn new(identity: &Identity, value: &T) -> Result<Self, IdentityError> {
        let text = serde_json::to_string(value).map_err(|_| IdentityError::BadContent)?;
        let signature = identity.sign_bytes(text.as_bytes());
        Ok(Self { text, signature, of: std::marker::PhantomData })
    }

    /// What it says, whoever signed it: to find out whose key to [`Signed::verify`] it with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn unverified(&self) -> Result<T, IdentityError> {
        serde_json::from_str(&self.text).map_err(|_| IdentityError::BadContent)
    }

    /// What it says, if `key` signed it.
    ///
    /// # Errors
    /// When it did not, or it cannot be read.
    pub fn verify(&self, key: &PublicKey) -> Result<T, IdentityError> {
        UnparsedPublicKey::new(&ED25519, &key.0)
            .verify(self.text.as_bytes(), &self.signature.0)
            .map_err(|_| IdentityError::BadSignature)?;
        self.unverified()
    }
}

/// The private half of a key made for one claim.
pub struct OneTimeKey(<SealingKem as Kem>::PrivateKey);

impl std::fmt::Debug for OneTimeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OneTimeKey")
    }
}

impl OneTimeKey {
    /// A new pair.
    #[must_use]
    pub fn generate() -> (Self, SealingKey) {
        let (private, public) = SealingKem::gen_keypair();
        (Self(private), SealingKey(public.to_bytes().to_vec()))
    }

    /// Opens what was sealed to its public half for this claim.
    ///
    /// # Errors
    /// When it was sealed to another key or claim, or changed.
    pub fn open<T: DeserializeOwned>(&self, claim: ClaimId, sealed: &Sealed) -> Result<T, IdentityError> {
        let key = <SealingKem as Kem>::EncappedKey::from_bytes(&sealed.key.0).map_err(|_| IdentityError::BadSeal)?;
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, SealingKem>(
            &OpModeR::Base,
            &self.0,
            &key,
            SEAL_INFO,
            &sealed.content.0,
            claim.reveal().as_bytes(),
        )
        .map_err(|_| IdentityError::BadSeal)?;
        serde_json::from_slice(&plain).map_err(|_| IdentityError::BadContent)
    }
}

/// Binds a seal to its use, so that one made for another purpose does not open.
const SEAL_INFO: &[u8] = b"buildr grant v1";

bytes_as_base64!(
    /// Bytes of a seal.
    SealedBytes
);

/// A value that only the holder of one [`OneTimeKey`] can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    key: SealedBytes,
    content: SealedBytes,
}

/// Seals a value to a claim's key.
///
/// # Errors
/// When the key is not one, or the value cannot be written as JSON.
pub fn seal<T: Serialize>(to: &SealingKey, claim: ClaimId, value: &T) -> Result<Sealed, IdentityError> {
    let plain = serde_json::to_vec(value).map_err(|_| IdentityError::BadContent)?;
    let to = <SealingKem as Kem>::PublicKey::from_bytes(&to.0).map_err(|_| IdentityError::BadKey)?;
    let (key, content) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, SealingKem>(
        &OpModeS::Base,
        &to,
        SEAL_INFO,
        &plain,
        claim.reveal().as_bytes(),
    )
    .map_err(|_| IdentityError::BadSeal)?;
    Ok(Sealed { key: SealedBytes(key.to_bytes().to_vec()), content: SealedBytes(content) })
}

/// What the administrator gives to new agents. Its text never crosses the broker, only proofs of it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(String);

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JoinToken")
    }
}

impl std::str::FromStr for JoinToken {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

bytes_as_base64!(
    /// Proof that somebody who holds the join token vouches for a key.
    JoinProof
);

impl JoinToken {
    /// Vouches for a key: the agent for its own towards the coordinator, and the other way round.
    #[must_use]
    pub fn vouch(&self, agent: &AgentId, key: &PublicKey) -> JoinProof {
        // Never fails: HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(b"buildr join v1\0");
        mac.update(agent.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(&key.0);
        JoinProof(mac.finalize().into_bytes().to_vec())
    }

    /// Whether the proof was made with this token for this agent and key.
    #[must_use]
    pub fn vouches(&self, agent: &AgentId, key: &PublicKey, proof: &JoinProof) -> bool {
        self.vouch(agent, key).0.ct_eq(&proof.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_opens_for_its_key_and_claim_alone() {
        let (key, public) = OneTimeKey::generate();
        let (other, _) = OneTimeKey::generate();
        let claim = ClaimId::fresh();
        let sealed = seal(&public, claim, &"secret").unwrap();
        assert!(!serde_json::to_string(&sealed).unwrap().contains("secret"));
        assert_eq!(key.open::<String>(claim, &sealed).unwrap(), "secret");
        assert_eq!(key.open::<String>(claim, &sealed).unwrap(), "secret", "a grant that is repeated opens again");
        assert_eq!(other.open::<String>(claim, &sealed), Err(IdentityError::BadSeal));
        assert_eq!(key.open::<String>(ClaimId::fresh(), &sealed), Err(IdentityError::BadSeal));
    }

    #[test]
    fn a_signature_holds_the_text() {
        let me = Identity::generate().unwrap();
        let again = Identity::from_bytes(me.to_bytes()).unwrap();
        let signed = Signed::new(&me, &vec![1, 2]).unwrap();
        assert_eq!(signed.verify(&again.public()).unwrap(), [1, 2]);
        assert!(signed.verify(&Identity::generate().unwrap().public()).is_err());
        let forged = Signed { text: "[1,3]".to_owned(), ..signed };
        assert_eq!(forged.verify(&me.public()), Err(IdentityError::BadSignature));
    }

    #[test]
    fn a_join_proof_fits_one_agent_and_one_key() {
        let token: JoinToken = "open sesame\n".parse().unwrap();
        let (a, b): (AgentId, AgentId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let key = Identity::generate().unwrap().public();
        let proof = token.vouch(&a, &key);
        assert!(token.vouches(&a, &key, &proof));
        assert!(!token.vouches(&b, &key, &proof));
        assert!(!token.vouches(&a, &Identity::generate().unwrap().public(), &proof));
        assert!(!"open".parse::<JoinToken>().unwrap().vouches(&a, &key, &proof));
    }
}
