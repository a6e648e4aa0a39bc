//! Properties and headers: what stands beside a message's bytes.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::thread::LocalKey;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use zstd::bulk::{Compressor, Decompressor};

use super::screen::WHOLE_SIZE;
use crate::id::ClaimId;
use crate::job::ReplyTo;
use crate::link::{DeadLetter, LinkError};
use crate::report::{LogChunk, MAX_CHUNK_BYTES, MAX_LOG_BYTES};
use crate::wire;

const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// Of JSON that outlives a restart of the broker.
pub(super) fn lasting_json() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(PERSISTENT)
}

/// How long a sign of life is worth something, in milliseconds.
const ALIVE_FOR_MS: &str = "60000";

/// Of a sign of life. Nobody may take any for days, while each agent gives one every few seconds: a coordinator that
/// comes back is not to find millions of them before the first result.
pub(super) fn sign_of_life() -> BasicProperties {
    lasting_json().with_expiration(ALIVE_FOR_MS.into())
}

/// Of JSON that is worth nothing after a restart of the broker.
pub(super) fn passing_json() -> BasicProperties {
    BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(TRANSIENT)
}

/// Of a reply. `None`: AMQP has no room for such a correlation id.
pub(super) fn reply(to: &ReplyTo) -> Option<BasicProperties> {
    let properties = passing_json();
    match &to.correlation_id {
        None => Some(properties),
        Some(id) => Some(properties.with_correlation_id(ShortString::try_new(id.as_str()).ok()?)),
    }
}

/// How many bytes of a text go into a header. All headers of a message travel in one frame, and a broker ends the whole
/// connection over one that is too long.
const LONGEST_HEADER: usize = 1 << 10;

/// How long the broker keeps a message that was laid aside, in milliseconds: 30 days, for nobody need ever take it.
const DEAD_FOR_MS: &str = "2592000000";

/// Of a message laid aside.
pub(super) fn dead(dead: &DeadLetter) -> BasicProperties {
    let begin = |text: &str| AMQPValue::LongString(text[..text.floor_char_boundary(LONGEST_HEADER)].into());
    let headers = BTreeMap::from([
        ("x-buildr-reason".into(), begin(&dead.reason)),
        ("x-buildr-queue".into(), begin(&dead.queue)),
    ]);
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_expiration(DEAD_FOR_MS.into())
        .with_headers(headers.into())
}

/// How the bytes of a piece are packed, as its property `content_encoding` says, and the header with how many they were.
const PACKED: &str = "zstd";
const SIZE: &str = "size";

/// The quickest level that still takes most of a log away.
const LEVEL: i32 = 1;

/// From how many bytes on a piece is worth the work.
const WORTH_PACKING: usize = 512;

// Each thread has its own, made once: to make one takes half a megabyte of fresh memory, and longer than to use it.
thread_local! {
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Does something with a thread's own tool, which is made when it is first needed.
fn with_own<T, R>(
    own: &'static LocalKey<RefCell<Option<T>>>,
    make: impl FnOnce() -> io::Result<T>,
    work: impl FnOnce(&mut T) -> io::Result<R>,
) -> io::Result<R> {
    own.with_borrow_mut(|own| {
        let mut tool = own.take().map_or_else(make, Ok)?;
        let done = work(&mut tool)?;
        *own = Some(tool);
        Ok(done)
    })
}

/// Of a piece of a log, and what it travels as. The agent has its own copy until the coordinator's store does, so this one need not survive
/// the broker.
///
/// # Errors
/// [`LinkError::Unsendable`] for an offset that AMQP has no number for.
pub(super) fn log(chunk: &LogChunk) -> Result<(BasicProperties, Cow<'_, [u8]>), LinkError> {
    let number = |value: u64| {
        let value = i64::try_from(value).map_err(|_| LinkError::Unsendable(format!("{value} is too large a number")));
        value.map(AMQPValue::LongLongInt)
    };
    let mut headers = BTreeMap::from([
        ("v".into(), number(wire::VERSION.into())?),
        ("claim".into(), AMQPValue::LongString(chunk.claim.reveal().into())),
        ("log".into(), AMQPValue::LongString(chunk.log.as_str().into())),
        ("offset".into(), number(chunk.offset)?),
        ("at_ms".into(), number(chunk.at_ms)?),
    ]);
    let properties = BasicProperties::default().with_content_type("application/octet-stream".into());
    let properties = properties.with_delivery_mode(TRANSIENT);
    Ok(match packed(chunk) {
        Some(packed) => {
            headers.insert(SIZE.into(), number(chunk.bytes.len() as u64)?);
            let properties = properties.with_content_encoding(PACKED.into()).with_headers(headers.into());
            (properties, Cow::Owned(packed))
        }
        None => (properties.with_headers(headers.into()), Cow::Borrowed(&*chunk.bytes)),
    })
}

/// The bytes of a piece in fewer, where they may travel so and there are fewer.
fn packed(chunk: &LogChunk) -> Option<Vec<u8>> {
    if !chunk.packed || chunk.bytes.len() < WORTH_PACKING {
        return None;
    }
    let packed = with_own(&PACKER, || Compressor::new(LEVEL), |packer| packer.compress(&chunk.bytes)).ok()?;
    (packed.len() < chunk.bytes.len()).then_some(packed)
}

/// The bytes of a piece as they were, from the headers' word that they are packed.
fn unpacked(headers: &Headers<'_>, packed: &[u8]) -> Result<Bytes, String> {
    let size = headers.number(SIZE)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_CHUNK_BYTES);
    let size = size.ok_or_else(|| "the header \"size\" is more than any piece of a log".to_owned())?;
    let bytes = with_own(&UNPACKER, Decompressor::new, |unpacker| unpacker.decompress(packed, size));
    let bytes = bytes.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if bytes.len() == size { Ok(bytes.into()) } else { Err("it is not as long as the header \"size\" says".to_owned()) }
}

/// How long a message was of which only the beginning was handed on.
pub(super) fn whole_size(properties: &BasicProperties) -> Option<u64> {
    let headers = Headers(properties.headers().as_ref()?);
    headers.number(WHOLE_SIZE).ok()
}

/// The piece of a log that came with these properties, or what is wrong with it.
pub(super) fn read_log(properties: &BasicProperties, bytes: Bytes) -> Result<LogChunk, String> {
    let none = FieldTable::default();
    let headers = Headers(properties.headers().as_ref().unwrap_or(&none));
    if let Some(size) = whole_size(properties) {
        return Err(format!("{size} bytes are more than any piece of a log"));
    }
    let version = headers.number("v")?;
    if !(u64::from(wire::OLDEST)..=u64::from(wire::VERSION) + 1).contains(&version) {
        return Err(format!("version {version} is not known"));
    }
    if bytes.len() > MAX_CHUNK_BYTES {
        return Err(format!("{} bytes are more than any piece of a log", bytes.len()));
    }
    let (bytes, packed) = match properties.content_encoding().as_ref().map(|encoding| encoding.as_str()) {
        Some(PACKED) => (unpacked(&headers, &bytes)?, true),
        None | Some("" | "identity") => (bytes, false),
        Some(other) => return Err(format!("the encoding {other:?} is not known")),
    };
    if headers.number("offset")?.checked_add(bytes.len() as u64).is_none_or(|end| end > MAX_LOG_BYTES) {
        return Err("no log is as long as the header \"offset\" says".to_owned());
    }
    let claim: ClaimId = headers.text("claim")?.parse().map_err(|_| "the header \"claim\" is no claim".to_owned())?;
    let log = headers.text("log")?.parse().map_err(|error| format!("the header \"log\": {error}"))?;
    Ok(LogChunk { claim, log, offset: headers.number("offset")?, at_ms: headers.number("at_ms")?, bytes, packed })
}

struct Headers<'a>(&'a FieldTable);

impl Headers<'_> {
    fn text(&self, key: &str) -> Result<String, String> {
        match self.0.inner().get(key) {
            Some(AMQPValue::LongString(text)) => Ok(text.to_string()),
            Some(AMQPValue::ShortString(text)) => Ok(text.to_string()),
            _ => Err(format!("the header {key:?} is missing or no text")),
        }
    }

    fn number(&self, key: &str) -> Result<u64, String> {
        let number = match self.0.inner().get(key) {
            Some(AMQPValue::LongLongInt(number)) => Some(*number),
            Some(AMQPValue::LongInt(number)) => Some((*number).into()),
            Some(AMQPValue::LongUInt(number)) => Some((*number).into()),
            Some(AMQPValue::ShortInt(number)) => Some((*number).into()),
            Some(AMQPValue::ShortUInt(number)) => Some((*number).into()),
            Some(AMQPValue::ShortShortInt(number)) => Some((*number).into()),
            Some(AMQPValue::ShortShortUInt(number)) => Some((*number).into()),
            _ => None,
        };
        let number = number.and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| format!("the header {key:?} is missing or no whole number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk() -> LogChunk {
        let bytes = Bytes::from_static(b"a\0\xff\n");
        LogChunk {
            claim: ClaimId::fresh(),
            log: "build".parse().unwrap(),
            offset: 1 << 40,
            at_ms: 17,
            bytes,
            packed: false,
        }
    }

    #[test]
    fn a_piece_of_a_log_comes_back_as_it_was() {
        let chunk = chunk();
        let (properties, body) = log(&chunk).unwrap();
        assert_eq!(read_log(&properties, body.into_owned().into()).unwrap(), chunk);
        let long = Bytes::from(vec![b'x'; MAX_CHUNK_BYTES + 1]);
        assert!(read_log(&properties, long).unwrap_err().contains("more than any piece"));
        let far = LogChunk { offset: u64::MAX, ..chunk };
        assert!(matches!(log(&far), Err(LinkError::Unsendable(_))));
    }

    #[test]
    fn a_piece_that_travels_packed_comes_back_as_it_was() {
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        let chunk = LogChunk { bytes: text.into(), packed: true, ..chunk() };
        let (properties, body) = log(&chunk).unwrap();
        assert!(body.len() * 3 < chunk.bytes.len());
        let body = Bytes::from(body.into_owned());
        assert_eq!(read_log(&properties, body.clone()).unwrap(), chunk);
        assert!(read_log(&properties, body.slice(..body.len() / 2)).unwrap_err().contains("cannot be unpacked"));
        let says = |size: i64| {
            let mut headers = properties.headers().clone().unwrap().inner().clone();
            headers.insert(SIZE.into(), AMQPValue::LongLongInt(size));
            read_log(&properties.clone().with_headers(headers.into()), body.clone()).unwrap_err()
        };
        assert!(says(7).contains("cannot be unpacked"));
        assert!(says(250_000).contains("not as long"));
        assert!(says(1 << 40).contains("more than any piece"));
        let strange = properties.clone().with_content_encoding("br".into());
        assert!(read_log(&strange, body.clone()).unwrap_err().contains("encoding \"br\" is not known"));
        // What does not become shorter, and what is short, travels as it is.
        let noise: [u8; 4096] = std::array::from_fn(|_| rand::random());
        for bytes in [Bytes::from_static(b"short"), Bytes::copy_from_slice(&noise)] {
            let chunk = LogChunk { bytes, ..chunk.clone() };
            let (properties, body) = log(&chunk).unwrap();
            assert!(body == &*chunk.bytes);
            assert_eq!(read_log(&properties, body.into_owned().into()).unwrap().bytes, chunk.bytes);
        }
    }

    #[track_caller]
    fn check(key: &str, value: Option<AMQPValue>, expect: &str) {
        let mut headers = log(&chunk()).unwrap().0.headers().clone().unwrap().inner().clone();
        match value {
            Some(value) => headers.insert(key.into(), value),
            None => headers.remove(key),
        };
        let error = read_log(&BasicProperties::default().with_headers(headers.into()), Bytes::new()).unwrap_err();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_is_no_piece_of_a_log() {
        check("v", None, "\"v\" is missing");
        check("v", Some(AMQPValue::LongLongInt(9)), "version 9");
        check("claim", Some(AMQPValue::LongString("x".into())), "\"claim\" is no claim");
        check("log", Some(AMQPValue::LongString("../x".into())), "\"log\": ");
        check("log", Some(AMQPValue::Void), "\"log\" is missing");
        check("offset", Some(AMQPValue::LongLongInt(-1)), "\"offset\" is missing or no whole number");
        check("offset", Some(AMQPValue::Double(1.0)), "\"offset\" is missing or no whole number");
        check("offset", Some(AMQPValue::LongString("7".into())), "\"offset\" is missing or no whole number");
        check("offset", Some(AMQPValue::LongLongInt(i64::MAX)), "no log is as long");
        check("log", Some(AMQPValue::LongString("a/b".into())), "\"log\": ");
        check("log", Some(AMQPValue::LongString(".hidden".into())), "\"log\": ");
        check("log", Some(AMQPValue::LongString("a\0b".into())), "\"log\": ");
        check("log", Some(AMQPValue::LongString("x".repeat(300).as_str().into())), "\"log\": ");
        check("log", Some(AMQPValue::LongString(vec![0xff].into())), "\"log\": ");
        check(WHOLE_SIZE, Some(AMQPValue::LongLongInt(20 << 20)), "20971520 bytes are more than any piece");
        assert!(read_log(&BasicProperties::default(), Bytes::new()).is_err());
    }
}
