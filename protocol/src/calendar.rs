//! When something comes due that is said as a cron pattern in a time zone: pure, the moment is a parameter.
//!
//! A fixed time of day that the clock leaps over comes due when it has leapt, and one that it shows twice comes due the
//! first time. What comes due every so often goes by the time that really passes.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// The longest pattern, and the longest name of a zone, in bytes.
const LONGEST: usize = 200;

/// The zone of what names none.
pub const USUAL_ZONE: &str = "UTC";

/// Why something never comes due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTimes {
    /// The pattern cannot be read.
    #[error("{pattern:?} is no time of the kind `minute hour day month weekday`: {reason}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such zone.
    #[error("there is no time zone {0:?}")]
    Zone(String),
    /// No calendar has such a day.
    #[error("{0:?} never comes: no calendar has such a day")]
    Never(String),
}

/// When something comes due.
#[derive(Debug, Clone)]
pub struct Times {
    cron: Cron,
    zone: TimeZone,
}

impl Times {
    /// Reads a pattern of five fields (minute, hour, day of the month, month, day of the week) or one of `@hourly`,
    /// `@daily`, `@weekly`, `@monthly`, `@yearly`; and a zone by its name, such as `Europe/Rome`.
    ///
    /// # Errors
    /// Says what is wrong with one of them.
    pub fn read(pattern: &str, zone: &str) -> Result<Self, NoTimes> {
        let bad = |reason: String| NoTimes::Pattern { pattern: pattern.chars().take(LONGEST).collect(), reason };
        if pattern.len() > LONGEST {
            return Err(bad(format!("it is longer than {LONGEST} bytes")));
        }
        let fields = pattern.split_whitespace().count();
        if !pattern.trim_start().starts_with('@') && fields != 5 {
            return Err(bad(format!("it has {fields} fields, not five")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(pattern.trim()).map_err(|error| bad(reason(error)))?;
        let there = if zone.len() > LONGEST { None } else { TimeZone::get(zone).ok() };
        let zone = there.ok_or_else(|| NoTimes::Zone(zone.chars().take(LONGEST).collect()))?;
        Ok(Self { cron, zone })
    }

    /// The first moment after this one at which it comes due, both in milliseconds since 1970.
    #[must_use]
    pub fn after(&self, moment_ms: u64) -> Option<u64> {
        let moment = Timestamp::from_millisecond(i64::try_from(moment_ms).ok()?).ok()?;
        // What is not a whole second is one that has begun.
        let moment = Timestamp::from_second(moment.as_second()).ok()?;
        let next: Zoned = self.cron.find_next_occurrence(&moment.to_zoned(self.zone.clone()), false).ok()?;
        let next = u64::try_from(next.timestamp().as_millisecond()).ok()?;
        (next > moment_ms).then_some(next)
    }
}

/// A reason as the end of a sentence.
fn reason(error: CronError) -> String {
    let text = match error {
        CronError::InvalidPattern(text) | CronError::IllegalCharacters(text) | CronError::ComponentError(text) => text,
        other => other.to_string(),
    };
    let text = text.strip_suffix('.').unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
    }

    /// The next moments after one.
    #[track_caller]
    fn check(pattern: &str, zone: &str, after: &str, expect: &[&str]) {
        let times = Times::read(pattern, zone).unwrap();
        let mut moment = at(after);
        for expect in expect {
            moment = times.after(moment).unwrap();
            assert_eq!(
                moment,
                at(expect),
                "{pattern} {zone}: {}",
                Timestamp::from_millisecond(moment.cast_signed()).unwrap()
            );
        }
    }

    #[test]
    fn the_next_moment_is_after_this_one() {
        check("0 3 * * *", "UTC", "2026-01-01T02:59:59.999Z", &["2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"]);
        check("0 3 * * *", "UTC", "2026-01-01T03:00:00Z", &["2026-01-02T03:00:00Z"]);
        check("0 3 * * *", "Europe/Rome", "2026-01-01T00:00:00Z", &["2026-01-01T02:00:00Z"]);
        check("30 6 * * MON-FRI", "UTC", "2026-01-02T07:00:00Z", &["2026-01-05T06:30:00Z"]);
        check("@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2026-01-01T18:30:00Z"]);
        check("0 0 L * *", "UTC", "2028-02-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z"]);
        check("*/20 * * * *", "UTC", "2026-01-01T00:05:30.5Z", &["2026-01-01T00:20:00Z", "2026-01-01T00:40:00Z"]);
    }

    #[test]
    fn clocks_that_are_set_forward_and_back() {
        // In Rome 02:00 to 03:00 is not there on 29 March 2026, and there twice on 25 October.
        check(
            "30 2 * * *",
            "Europe/Rome",
            "2026-03-28T02:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"],
        );
        check("30 2 * * *", "Europe/Rome", "2026-10-24T01:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
        check(
            "30 * * * *",
            "Europe/Rome",
            "2026-10-24T23:45:00Z",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"],
        );
        check(
            "0 3 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T07:00:00Z", "2026-03-09T07:00:00Z"],
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |pattern: &str, zone: &str, expect: &str| {
            let error = Times::read(pattern, zone).unwrap_err().to_string();
            assert!(error.contains(expect), "{pattern} {zone}: {error}");
        };
        check("0 25 * * *", "UTC", "\"0 25 * * *\" is no time of the kind `minute hour day month weekday`: ");
        check("0 3 * *", "UTC", "it has 4 fields, not five");
        check("0 0 3 * * *", "UTC", "it has 6 fields, not five");
        check("@never", "UTC", "is no time of the kind");
        check("", "UTC", "it has 0 fields");
        check("0 3 * * *", "Europe/Roma", "there is no time zone \"Europe/Roma\"");
        check("0 3 * * *", "../../etc/passwd", "there is no time zone");
        check(&"* ".repeat(200), "UTC", "it is longer than 200 bytes");
        assert_eq!(Times::read("0 0 30 2 *", "UTC").unwrap().after(0), None);
    }
}
