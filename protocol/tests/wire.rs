//! Bytes that earlier programs wrote are read by this one, and what it writes itself stays as it was recorded. A
//! change that breaks this needs a new version of the wire; files of versions that are still read are never edited.

use protocol::control::Control;
use protocol::report::Report;
use protocol::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Each line reads, as a kind that is known, and is written again as it stands.
fn check<T: DeserializeOwned + Serialize>(recorded: &str, kinds: usize, kind: &str) {
    let mut seen = std::collections::BTreeSet::new();
    for line in recorded.lines() {
        let before: Value = serde_json::from_str(line).expect("recorded lines are JSON");
        let message: T = wire::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}\n  {line}"));
        let written = wire::encode(&message).expect("what was read can be written");
        let after: Value = serde_json::from_slice(&written).expect("what is written is JSON");
        assert_eq!(after, before, "\n  {line}");
        let body = &before["body"];
        let event = body["event"]["event"].as_str().unwrap_or("");
        seen.insert(format!("{} {event}", body[kind].as_str().expect("each message has a kind")));
    }
    assert_eq!(seen.len(), kinds, "every kind of message is recorded: {seen:?}");
}

#[test]
fn reports_of_version_1() {
    check::<Report>(include_str!("recorded/reports.v1.jsonl"), 23, "report");
}

#[test]
fn controls_of_version_1() {
    check::<Control>(include_str!("recorded/controls.v1.jsonl"), 13, "control");
}
