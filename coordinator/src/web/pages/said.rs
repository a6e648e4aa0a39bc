//! Times, sizes and counts as a page says them.

use std::fmt;

use protocol::api::span;

/// A moment, said as how long ago it was; the page's script keeps that true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) struct When {
    /// In milliseconds since 1970.
    pub(in crate::web) at_ms: u64,
    now_ms: u64,
}

impl When {
    /// As it is said at `now_ms`.
    pub(in crate::web) fn new(at_ms: u64, now_ms: u64) -> Self {
        Self { at_ms, now_ms }
    }

    /// On a clock, to the second.
    pub(in crate::web) fn clock(&self) -> String {
        let time = i64::try_from(self.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default()
    }

    /// As programs read it.
    pub(in crate::web) fn iso(&self) -> String {
        let time = i64::try_from(self.at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        time.map(|time| time.to_string()).unwrap_or_default()
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now_ms.saturating_sub(self.at_ms) / 1000 {
            0..5 => f.write_str("just now"),
            seconds @ 5..60 => write!(f, "{seconds} s ago"),
            seconds @ 60..3600 => write!(f, "{} min ago", seconds / 60),
            seconds @ 3600..86_400 => write!(f, "{} h ago", seconds / 3600),
            seconds => write!(f, "{} d ago", seconds / 86_400),
        }
    }
}

/// How long something takes that goes on: the page's script counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) struct Since {
    /// In milliseconds since 1970.
    pub(in crate::web) at_ms: u64,
    now_ms: u64,
}

impl Since {
    /// As it is said at `now_ms`.
    pub(in crate::web) fn new(at_ms: u64, now_ms: u64) -> Self {
        Self { at_ms, now_ms }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span(self.now_ms.saturating_sub(self.at_ms)))
    }
}

/// How long something took: with tenths where they tell something.
pub(in crate::web) fn took(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        100..10_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms => span(ms),
    }
}

/// An amount of bytes.
pub(in crate::web) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 || tenths >= 1000 {
        return format!("{} {}", tenths / 10, UNITS[unit]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// So many of something.
pub(in crate::web) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// The last part of a repository's URL that people know it by: `owner/name`.
pub(in crate::web) fn short_repo(repo: &str) -> String {
    let path = match repo.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or(rest, |(_, path)| path),
        // As ssh writes it: HOST:PATH.
        None => repo.split_once(':').map_or(repo, |(_, path)| path),
    };
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> =
        path.strip_suffix(".git").unwrap_or(path).split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [.., owner, name] => format!("{owner}/{name}"),
        [name] => (*name).to_owned(),
        [] => repo.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (ago, expect) in [
            (0, "just now"),
            (4_999, "just now"),
            (59_000, "59 s ago"),
            (60_000, "1 min ago"),
            (3_600_000, "1 h ago"),
            (90_000_000, "1 d ago"),
        ] {
            assert_eq!(When::new(1_000_000, 1_000_000 + ago).to_string(), expect);
        }
        assert_eq!(When::new(0, 0).clock(), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn durations() {
        for (ms, expect) in [(7, "7 ms"), (140, "0.1 s"), (9_990, "9.9 s"), (12_345, "12 s"), (61_000, "1 min 1 s")] {
            assert_eq!(took(ms), expect);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, expect) in
            [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (200 << 10, "200 KiB"), (5 << 40, "5.0 TiB")]
        {
            assert_eq!(size(bytes), expect);
        }
    }

    #[test]
    fn repositories_by_the_name_that_people_use() {
        for (repo, expect) in [
            ("https://github.com/acme/widget.git", "acme/widget"),
            ("git@github.com:acme/widget.git", "acme/widget"),
            ("https://***@example.org/x", "x"),
            ("file:///srv/git/widget", "git/widget"),
            ("http://host:8080/a/b/c", "b/c"),
            ("/srv/widget/", "srv/widget"),
            ("x", "x"),
        ] {
            assert_eq!(short_repo(repo), expect, "{repo}");
        }
    }
}
