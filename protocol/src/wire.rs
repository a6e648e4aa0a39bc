//! Bytes and versions. Everything but log bytes is JSON with a version beside it; what a neighbouring version
//! does not know is ignored, and no message gets better by being delivered again.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version that this program writes.
pub const VERSION: u32 = 1;

/// The oldest version that it reads.
pub const OLDEST: u32 = 1;

/// The largest message that is looked at, in bytes: a plan of the largest size with room for its envelope.
pub const MAX_BYTES: usize = 4 << 20;

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Deserialize)]
struct Incoming<T> {
    body: T,
}

/// Why bytes are no message. It never gets better by redelivery.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any message.
    #[error("the message is {0} bytes long, more than any message of buildr")]
    TooLong(u64),
    /// Not what it should be.
    #[error("the message cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a program that is too old or too new.
    #[error("the message has version {0}; this program reads {OLDEST} to {next}", next = VERSION + 1)]
    Version(u32),
}

/// A message's bytes.
///
/// # Errors
/// When the value cannot be written as JSON, which no value of this crate's own types causes.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Outgoing { v: VERSION, body: message })
}

/// The message in these bytes. A message of the next version is read too: fields that are not known are left alone.
///
/// # Errors
/// When they are none.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLong(bytes.len() as u64));
    }
    let Version { v } = serde_json::from_slice(bytes)?;
    if !(OLDEST..=VERSION + 1).contains(&v) {
        return Err(DecodeError::Version(v));
    }
    let Incoming { body } = serde_json::from_slice(bytes)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Control;
    use crate::report::{JobEvent, Report};

    #[test]
    fn unknown_kinds_and_fields_are_left_alone() {
        let newer = br#"{"v":2,"more":1,"body":{"report":"sung","song":"x"}}"#;
        assert!(matches!(decode::<Report>(newer).unwrap(), Report::Unknown));
        let newer = br#"{"v":2,"body":{"control":"recorded","claim":"6f1c2b1e-9d0a-4c3e-8a55-2f3b7f0f9a11","why":1}}"#;
        assert!(matches!(decode::<Control>(newer).unwrap(), Control::Recorded { .. }));
        let event: JobEvent = serde_json::from_str(r#"{"event":"danced","with":{"whom":"you"}}"#).unwrap();
        assert_eq!(event, JobEvent::Unknown);
    }

    #[test]
    fn what_is_no_message() {
        assert!(matches!(decode::<Report>(b"").unwrap_err(), DecodeError::Json(_)));
        assert!(matches!(decode::<Report>(br#"{"v":9,"body":{}}"#).unwrap_err(), DecodeError::Version(9)));
        assert!(matches!(decode::<Report>(&vec![b' '; MAX_BYTES + 1]).unwrap_err(), DecodeError::TooLong(_)));
        assert!(decode::<Report>("[".repeat(100_000).as_bytes()).is_err());
        for bad in [
            "null",
            "[]",
            "{}",
            r#"{"v":1}"#,
            r#"{"v":-1,"body":{}}"#,
            r#"{"v":1e300,"body":{}}"#,
            r#"{"v":99999999999999999999,"body":{}}"#,
            r#"{"v":"1","body":{}}"#,
            r#"{"v":1,"v":1,"body":{"report":"sung"}}"#,
            r#"{"v":1,"body":{"report":7}}"#,
            r#"{"v":1,"body":{"report":"bye","agent":"a/../b","boot":"b1c3a4d5-0000-4000-8000-000000000001"}}"#,
            r#"{"v":1,"body":{"report":"bye","agent":"a\u0000","boot":"b1c3a4d5-0000-4000-8000-000000000001"}}"#,
            r#"{"v":1,"body":{"report":"abandoned","agent":"a","claim":"../../etc/passwd"}}"#,
            r#"{"v":1,"body":{"report":"said","text":7,"signature":"AA=="}}"#,
        ] {
            assert!(decode::<Report>(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!(r#"{{"v":1,"body":{{"report":"sung","x":{}"#, "[".repeat(1_000_000));
        assert!(decode::<Report>(deep.as_bytes()).is_err());
    }
}
