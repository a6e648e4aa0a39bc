//! The names of things: each is a type of its own, valid by construction.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Why a text is not the name that it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidName {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What would have been accepted, as the end of a sentence.
    pub expected: &'static str,
}

impl InvalidName {
    fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), expected }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $fresh:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh one, never seen before.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::$fresh())
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidName::new(text, "a UUID"))
            }
        }
    };
}

uuid_id!(
    /// One work order on the queue. Sortable by the time of its making (UUIDv7).
    JobId, now_v7
);
uuid_id!(
    /// One life of an agent's process; two processes under one name are told apart by it.
    BootId, new_v4
);
uuid_id!(
    /// One taking of a job by one agent: the fencing token.
    ///
    /// Whoever knows it can speak for the attempt, so it is random and its text stands only on the wire and in
    /// the store, never in an API, a page, a log line or a reply: `Debug` shows eight characters of it.
    ClaimId, new_v4
);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", &self.0.to_string()[..8])
    }
}

impl ClaimId {
    /// The whole token, for the wire and the store alone.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.to_string()
    }
}

/// The number that people know a build by: 1, 2, 3 … within one coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct BuildNumber(pub u64);

impl fmt::Display for BuildNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        $(#[$doc])*
        pub struct $name(String);

        impl $name {
            /// Its text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::new(text, $expected)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

fn word(text: &str, more: &str, longest: usize) -> bool {
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

text_id!(
    /// The name of an agent, unique in its farm. It stands in routing keys, so it holds no dot.
    #[schema(pattern = r"^[0-9A-Za-z][0-9A-Za-z_-]*$", max_length = 63)]
    AgentId,
    "an agent's name (1 to 63 letters, digits, '-' or '_', beginning with a letter or digit)",
    |text| word(text, "-_", 63)
);
text_id!(
    /// The name of a stage, as the manifest has it.
    #[schema(pattern = r"^[0-9A-Za-z][0-9A-Za-z_.-]*$", max_length = 63)]
    StageName,
    "a stage's name (1 to 63 letters, digits, '-', '_' or '.', beginning with a letter or digit)",
    |text| word(text, "-_.", 63)
);
text_id!(
    /// The name of a job within its build: `build` alone, or a matrix cell's name.
    #[schema(pattern = r"^[^\x00-\x1F\x7F-\x9F]+$", max_length = 200)]
    JobKey,
    "a job's key (1 to 200 printable characters)",
    |text| (1..=200).contains(&text.len()) && text.chars().all(|c| !c.is_control())
);
text_id!(
    /// The name of one log of an attempt: a stage's name, or one of the job's own logs such as `checkout`.
    /// It becomes a file's name at the coordinator.
    #[schema(pattern = r"^[0-9A-Za-z][0-9A-Za-z_.-]*$", max_length = 80)]
    LogName,
    "a log's name (1 to 80 letters, digits, '-', '_' or '.', beginning with a letter or digit)",
    |text| word(text, "-_.", 80)
);

impl From<&StageName> for LogName {
    fn from(stage: &StageName) -> Self {
        Self(stage.0.clone())
    }
}

impl LogName {
    /// What the job itself has to say: clone, pull, clean-up. It comes before the log of the first stage.
    #[must_use]
    pub fn of_job() -> Self {
        Self("0-job".to_owned())
    }

    /// What a service printed: of a stage, or of the whole job.
    #[must_use]
    pub fn of_service(stage: Option<&StageName>, service: &str) -> Self {
        Self::pieced(stage.map_or("0-job", StageName::as_str), &format!("service-{service}"))
    }

    /// Two parts as one name. What is too long is cut, with a number made of the whole in its place.
    fn pieced(first: &str, second: &str) -> Self {
        const LONGEST: usize = 80;
        let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
        let whole: String = format!("{first}.{second}").chars().map(legal).collect();
        if whole.len() <= LONGEST {
            return Self(whole);
        }
        // FNV-1a: the same name each time, on each machine.
        let number = whole
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(format!("{}-{number:016x}", &whole[..LONGEST - 17]))
    }

    /// What people call it.
    #[must_use]
    pub fn title(&self) -> &str {
        if *self == Self::of_job() { "job" } else { &self.0 }
    }
}

/// What an agent must offer to be given a job; empty for a job that any agent may run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "BTreeSet<String>", into = "BTreeSet<String>")]
pub struct LabelSet(BTreeSet<String>);

impl LabelSet {
    /// Takes labels in any order.
    ///
    /// # Errors
    /// Names the first label that is not made of letters, digits, `-`, `_` or `=`.
    pub fn new<S: Into<String>>(labels: impl IntoIterator<Item = S>) -> Result<Self, InvalidName> {
        let labels: BTreeSet<String> = labels.into_iter().map(Into::into).collect();
        match labels.iter().find(|label| !word(label, "-_=", 63)) {
            Some(bad) => Err(InvalidName::new(bad, "a label (1 to 63 letters, digits, '-', '_' or '=')")),
            None => Ok(Self(labels)),
        }
    }

    /// Whether an agent with the labels `offered` may run a job that requires these.
    #[must_use]
    pub fn satisfied_by(&self, offered: &Self) -> bool {
        self.0.is_subset(&offered.0)
    }

    /// Whether nothing is required.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().collect::<Vec<_>>().join("+"))
    }
}

impl TryFrom<BTreeSet<String>> for LabelSet {
    type Error = InvalidName;
    fn try_from(labels: BTreeSet<String>) -> Result<Self, InvalidName> {
        Self::new(labels)
    }
}

impl From<LabelSet> for BTreeSet<String> {
    fn from(labels: LabelSet) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", ".hidden", "a/b", "../up", "a b", "-flag", "ü", "a\n"] {
            assert!(bad.parse::<StageName>().is_err(), "{bad:?}");
            assert!(bad.parse::<LogName>().is_err(), "{bad:?}");
            assert!(bad.parse::<AgentId>().is_err(), "{bad:?}");
        }
        assert!("a.b".parse::<AgentId>().is_err(), "a dot would cut a routing key in two");
        assert!("test-1.2".parse::<StageName>().is_ok());
    }

    #[test]
    fn a_claim_is_not_printed_whole() {
        let claim = ClaimId::fresh();
        assert!(!format!("{claim:?}").contains(&claim.reveal()));
    }

    #[test]
    fn labels_are_a_set() {
        let need = LabelSet::new(["gpu", "arm64"]).unwrap();
        assert_eq!(need.to_string(), "arm64+gpu");
        assert!(need.satisfied_by(&LabelSet::new(["gpu", "x", "arm64"]).unwrap()));
        assert!(!need.satisfied_by(&LabelSet::new(["gpu"]).unwrap()));
        assert!(LabelSet::default().satisfied_by(&need));
        assert!(LabelSet::new(["a.b"]).is_err());
    }
}
