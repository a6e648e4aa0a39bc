//! What the broker sends, looked at before lapin reads it. lapin takes a whole connection down when one message's
//! properties are not as it expects them (text that is not UTF-8, bytes behind the last property), and its process
//! when they are nested deep enough; the message then goes back to the head of its queue and the next reader falls
//! over it too. And it gathers a message whole, however long it is. So here a property that cannot be read is left
//! out, and of a message that is longer than its reader takes only the beginning is handed on.
//!
//! Frames of AMQP 0-9-1: type, channel, size, payload, end. Nothing else of the protocol is looked into.

use std::collections::HashMap;
use std::io;

/// The header that says how long a message was of which only the beginning was handed on.
pub(super) const WHOLE_SIZE: &str = "x-buildr-size";

/// How much is handed on of a message that is too long: enough for a person to see what it was.
const EXCERPT: u64 = 4 << 10;

/// How deep tables and lists may lie in each other. Nobody writes such by hand, and lapin calls itself for each.
const DEEPEST: u8 = 16;

/// The longest frame that is waited for. Brokers send 128 KiB unless their operator says otherwise.
const LONGEST_FRAME: usize = 16 << 20;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// Class and method of `basic.deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
/// Where the list of headers stands among the properties.
const HEADERS: usize = 2;

/// How a consumer is named that takes messages of at most so many bytes.
pub(super) fn consumer_tag(longest: usize) -> String {
    format!("{longest}-{}", uuid::Uuid::new_v4().simple())
}

/// Goes through the bytes of one connection.
#[derive(Default)]
pub(super) struct Screen {
    /// The beginning of a frame whose end has not come.
    open: Vec<u8>,
    /// By channel: the message that is on its way there.
    messages: HashMap<u16, Message>,
    /// What is said is no AMQP: whoever reads it finds the words for that.
    stranger: bool,
}

/// What is known of a message on its way.
#[derive(Clone, Copy)]
struct Message {
    /// How long it may be.
    longest: u64,
    /// How much of it is still handed on.
    wanted: u64,
}

impl Screen {
    /// Takes what came, and puts behind `out` what is to be read of it.
    ///
    /// # Errors
    /// When a frame is longer than any broker's.
    pub(super) fn pass(&mut self, came: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.open.extend_from_slice(came);
        let bytes = std::mem::take(&mut self.open);
        let mut left = &bytes[..];
        while let [kind, rest @ ..] = left {
            self.stranger |= !matches!(*kind, METHOD | HEADER | BODY | HEARTBEAT);
            if self.stranger {
                out.extend_from_slice(left);
                return Ok(());
            }
            let (Some(channel), Some(size)) = (rest.first_chunk::<2>(), rest.get(2..6)) else { break };
            let channel = u16::from_be_bytes(*channel);
            let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            if size > LONGEST_FRAME {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {size} bytes")));
            }
            let Some((frame, rest)) = left.split_at_checked(size + 8) else { break };
            self.frame(*kind, channel, &frame[7..size + 7], out);
            left = rest;
        }
        let done = bytes.len() - left.len();
        self.open = if done == 0 { bytes } else { bytes[done..].to_vec() };
        Ok(())
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8], out: &mut Vec<u8>) {
        match kind {
            METHOD if payload.starts_with(&DELIVER) => {
                let longest = longest(payload).unwrap_or(u64::MAX);
                self.messages.insert(channel, Message { longest, wanted: 0 });
                put(out, kind, channel, &readable_deliver(payload).unwrap_or_else(|| payload.to_owned()));
            }
            METHOD => {
                // What comes back to its sender has no consumer; it is the sender's own.
                self.messages.remove(&channel);
                put(out, kind, channel, payload);
            }
            HEADER => match self.header(channel, payload) {
                Some(mended) => put(out, kind, channel, &mended),
                None => put(out, kind, channel, payload),
            },
            BODY => {
                let Some(message) = self.messages.get_mut(&channel) else { return put(out, kind, channel, payload) };
                let wanted = usize::try_from(message.wanted).unwrap_or(usize::MAX).min(payload.len());
                message.wanted -= wanted as u64;
                if wanted > 0 {
                    put(out, kind, channel, &payload[..wanted]);
                }
            }
            _ => put(out, kind, channel, payload),
        }
    }

    /// What stands before a message's bytes. `None`: it may stay as it is.
    fn header(&mut self, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
        let (fixed, rest) = payload.split_first_chunk::<12>()?;
        let size = fixed[4..].iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
        let message = self.messages.entry(channel).or_insert(Message { longest: u64::MAX, wanted: 0 });
        let wanted = if size > message.longest { EXCERPT.min(message.longest) } else { size };
        message.wanted = wanted;
        let read = Properties::read(rest);
        if wanted == size && read.left_out.is_empty() {
            return None;
        }
        if !read.left_out.is_empty() {
            tracing::warn!("a message's {} cannot be read and is left out", read.left_out.join(", "));
        }
        let mut mended = fixed[..4].to_vec();
        mended.extend(wanted.to_be_bytes());
        read.write((wanted < size).then_some(size), &mut mended);
        Some(mended)
    }
}

fn put(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    // No payload grows beyond the frame that it came in by more than one header.
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// How long a message its consumer takes, by the consumer's name.
fn longest(deliver: &[u8]) -> Option<u64> {
    let mut at = Cursor(deliver.get(4..)?);
    let tag = std::str::from_utf8(at.short_text()?).ok()?;
    tag.split_once('-')?.0.parse().ok()
}

/// A delivery whose exchange and routing key are texts: the key is its publisher's to choose.
fn readable_deliver(payload: &[u8]) -> Option<Vec<u8>> {
    let mut at = Cursor(payload.get(4..)?);
    at.short_text()?;
    at.take(9)?;
    let mut readable = payload[..payload.len() - at.0.len()].to_vec();
    for _ in 0..2 {
        let text = at.short_text()?;
        readable.push(u8::try_from(text.len()).ok()?);
        match std::str::from_utf8(text) {
            Ok(text) => readable.extend_from_slice(text.as_bytes()),
            Err(_) => readable.extend(text.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' })),
        }
    }
    Some(readable)
}

/// The properties of the class `basic`, in their order.
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::Text),
    ("content_encoding", Kind::Text),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Bytes(1)),
    ("priority", Kind::Bytes(1)),
    ("correlation_id", Kind::Text),
    ("reply_to", Kind::Text),
    ("expiration", Kind::Text),
    ("message_id", Kind::Text),
    ("timestamp", Kind::Bytes(8)),
    ("type", Kind::Text),
    ("user_id", Kind::Text),
    ("app_id", Kind::Text),
    ("cluster_id", Kind::Text),
];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Table,
    Bytes(usize),
}

/// A message's properties as they came.
struct Properties<'a> {
    /// Those that can be read, with their bytes.
    good: [Option<&'a [u8]>; 14],
    /// What cannot.
    left_out: Vec<&'static str>,
}

impl<'a> Properties<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut read = Self { good: [None; 14], left_out: Vec::new() };
        let Some((flags, rest)) = bytes.split_first_chunk::<2>() else {
            read.left_out.push("list of properties");
            return read;
        };
        let flags = u16::from_be_bytes(*flags);
        let mut at = Cursor(rest);
        for (number, (name, kind)) in PROPERTIES.iter().enumerate() {
            if flags & (0x8000 >> number) == 0 {
                continue;
            }
            let before = at.0;
            let readable = match kind {
                Kind::Text => at.short_text().map(|text| std::str::from_utf8(text).is_ok()),
                Kind::Table => at.long_text().map(|table| is_table(table, DEEPEST).is_some()),
                Kind::Bytes(count) => at.take(*count).map(|_| true),
            };
            match readable {
                Some(true) => read.good[number] = Some(&before[..before.len() - at.0.len()]),
                Some(false) => read.left_out.push(name),
                None => {
                    // Where the next one would begin nobody knows.
                    read.left_out.push(name);
                    return read;
                }
            }
        }
        if !at.0.is_empty() || flags & 0b11 != 0 {
            read.left_out.push("rest of the properties");
        }
        read
    }

    /// Writes the good ones; the headers are replaced by how long the message was, when that is given.
    fn write(&self, whole_size: Option<u64>, out: &mut Vec<u8>) {
        let size = whole_size.map(|size| {
            let mut entry = vec![u8::try_from(WHOLE_SIZE.len()).unwrap_or(0)];
            entry.extend_from_slice(WHOLE_SIZE.as_bytes());
            entry.push(b'l');
            entry.extend(size.to_be_bytes());
            let length = u32::try_from(entry.len()).unwrap_or(0);
            [length.to_be_bytes().as_slice(), &entry].concat()
        });
        let mut good = self.good;
        if let Some(size) = &size {
            good[HEADERS] = Some(size);
        }
        let flag = |(number, value): (usize, &Option<&[u8]>)| if value.is_some() { 0x8000_u16 >> number } else { 0 };
        let flags: u16 = good.iter().enumerate().map(flag).sum();
        out.extend(flags.to_be_bytes());
        good.iter().flatten().for_each(|value| out.extend_from_slice(value));
    }
}

/// Whether these bytes are the entries of a table that can be read.
fn is_table(bytes: &[u8], depth: u8) -> Option<()> {
    let mut at = Cursor(bytes);
    while !at.0.is_empty() {
        std::str::from_utf8(at.short_text()?).ok()?;
        at.value(depth)?;
    }
    Some(())
}

/// Takes one thing after the other from the front of some bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short_text(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn long_text(&mut self) -> Option<&'a [u8]> {
        let length = self.take(4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }

    /// One value of a table or list, by the letter before it.
    fn value(&mut self, depth: u8) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match self.take(1)?[0] {
            b'V' => {}
            b't' | b'b' | b'B' => drop(self.take(1)?),
            b's' | b'U' | b'u' => drop(self.take(2)?),
            b'I' | b'i' | b'f' => drop(self.take(4)?),
            b'D' => drop(self.take(5)?),
            b'L' | b'l' | b'd' | b'T' => drop(self.take(8)?),
            b'S' | b'x' => drop(self.long_text()?),
            b'F' => is_table(self.long_text()?, deeper)?,
            b'A' => {
                let mut list = Cursor(self.long_text()?);
                while !list.0.is_empty() {
                    list.value(deeper)?;
                }
            }
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put(&mut frame, kind, 1, payload);
        frame
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn deliver(tag: &[u8], key: &[u8]) -> Vec<u8> {
        frame(METHOD, &[&DELIVER, &text(tag)[..], &[0; 9], &text(b""), &text(key)].concat())
    }

    fn header(size: u64, flags: u16, properties: &[u8]) -> Vec<u8> {
        frame(HEADER, &[&[0, 60, 0, 0], &size.to_be_bytes()[..], &flags.to_be_bytes(), properties].concat())
    }

    /// However the bytes are cut on their way, the same comes out.
    #[track_caller]
    fn check(came: &[u8], expect: &[u8]) {
        for step in [came.len(), 1, 7] {
            let (mut screen, mut out) = (Screen::default(), Vec::new());
            came.chunks(step.max(1)).for_each(|part| screen.pass(part, &mut out).unwrap());
            assert_eq!(out, expect, "in steps of {step}");
        }
    }

    #[test]
    fn what_is_well_passes_as_it_is() {
        let table = [&text(b"k")[..], b"A", &long(&[&b"F"[..], &long(b"")].concat())].concat();
        let properties = [&text(b"application/json")[..], &long(&table), &[2], &text("ünï".as_bytes())].concat();
        let whole = [
            deliver(b"100-x", b"build_queue"),
            header(5, 0x8000 | 0x2000 | 0x1000 | 0x0080, &properties),
            frame(BODY, b"he"),
            frame(BODY, b"llo"),
            frame(HEARTBEAT, b""),
        ];
        check(&whole.concat(), &whole.concat());
        check(b"AMQP\0\0\x09\x01more", b"AMQP\0\0\x09\x01more");
    }

    #[test]
    fn a_routing_key_becomes_a_text() {
        check(&deliver(b"1-x", b"claim.\xff\xfe."), &deliver(b"1-x", b"claim.??."));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let good = text(b"mine");
        let bad = text(b"\xff\xfe");
        // correlation_id, reply_to
        let both = |first: &[u8], second: &[u8]| header(0, 0x0400 | 0x0200, &[first, second].concat());
        check(&both(&good, &good), &both(&good, &good));
        check(&both(&bad, &good), &header(0, 0x0200, &good));
        check(&both(&good, &bad), &header(0, 0x0400, &good));
        // Its length leads beyond the end.
        check(&both(&good, b"\x09x"), &header(0, 0x0400, &good));
        check(&header(0, 0x0400, &[&good[..], b"more"].concat()), &header(0, 0x0400, &good));
        check(&header(0, 0x0401, &good), &header(0, 0x0400, &good));
    }

    #[test]
    fn headers_that_cannot_be_read_are_left_out_whole() {
        let with = |table: &[u8]| header(0, 0x2000 | 0x0400, &[&long(table)[..], &text(b"id")].concat());
        let without = header(0, 0x0400, &text(b"id"));
        check(&with(b"\x01kV"), &with(b"\x01kV"));
        for bad in [&b"\x01k"[..], b"\x01\xffV", b"\x01kz", b"\x01kS\0\0\0\x09x", b"\x01kI\0", b"\x09k"] {
            check(&with(bad), &without);
        }
        let mut deep = b"V".to_vec();
        for _ in 0..20_000 {
            deep = [&b"A"[..], &long(&deep)].concat();
        }
        check(&with(&[b"\x01k", &deep[..]].concat()), &without);
    }

    #[test]
    fn of_what_is_too_long_the_beginning_is_handed_on() {
        let came = [
            deliver(b"5000-x", b"q"),
            header(12_000, 0x0400, &text(b"id")),
            frame(BODY, &[b'a'; 4000]),
            frame(BODY, &[b'b'; 4000]),
            frame(BODY, &[b'c'; 4000]),
            deliver(b"5000-x", b"q"),
            header(5000, 0, b""),
            frame(BODY, &[b'd'; 5000]),
        ];
        let table = [&text(WHOLE_SIZE.as_bytes())[..], b"l", &12_000_u64.to_be_bytes()].concat();
        let expect = [
            deliver(b"5000-x", b"q"),
            header(4096, 0x2000 | 0x0400, &[&long(&table)[..], &text(b"id")].concat()),
            frame(BODY, &[b'a'; 4000]),
            frame(BODY, &[b'b'; 96]),
            deliver(b"5000-x", b"q"),
            header(5000, 0, b""),
            frame(BODY, &[b'd'; 5000]),
        ];
        check(&came.concat(), &expect.concat());
    }

    #[test]
    fn a_frame_that_no_broker_sends_ends_the_line() {
        let mut screen = Screen::default();
        assert!(screen.pass(&[METHOD, 0, 1, 0xff, 0, 0, 0], &mut Vec::new()).is_err());
    }
}
