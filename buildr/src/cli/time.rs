//! Times as people read them. All are in milliseconds, since 1970 where they are moments.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use protocol::api::BuildRow;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// This machine's clock.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long something took.
pub(super) fn duration(ms: u64) -> String {
    // Rounded to a tenth, no more than this reads as 59.9.
    if ms < 59_950 {
        return format!("{:.1}s", ms as f64 / 1000.0);
    }
    match (ms + SECOND / 2) / SECOND * SECOND {
        ms @ ..HOUR => format!("{}m {:02}s", ms / MINUTE, ms % MINUTE / SECOND),
        ms @ HOUR..DAY => format!("{}h {:02}m", ms / HOUR, ms % HOUR / MINUTE),
        ms => format!("{}d {:02}h", ms / DAY, ms % DAY / HOUR),
    }
}

/// How long ago something was: one unit is enough.
pub(super) fn age(ms: u64) -> String {
    match ms {
        ..MINUTE => format!("{}s", ms / SECOND),
        MINUTE..HOUR => format!("{}m", ms / MINUTE),
        HOUR..DAY => format!("{}h", ms / HOUR),
        _ => format!("{}d", ms / DAY),
    }
}

/// How long a build has run, or ran; nothing for one that never began.
pub(super) fn run_time(build: &BuildRow, now: u64) -> Option<u64> {
    // The farm's clock and this machine's may differ: never less than nothing.
    build.started_ms.map(|started| build.ended_ms.unwrap_or(now).saturating_sub(started))
}

/// A moment in this machine's time zone.
pub(super) fn moment(ms: u64) -> String {
    in_zone(ms, TimeZone::system())
}

fn in_zone(ms: u64, zone: TimeZone) -> String {
    let moment = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(String::new, |moment| moment.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (ms, expect) in [
            (0, "0.0s"),
            (40, "0.0s"),
            (1234, "1.2s"),
            (59_949, "59.9s"),
            (59_999, "1m 00s"),
            (60_000, "1m 00s"),
            (185_000, "3m 05s"),
            (7_500_000, "2h 05m"),
            (93_600_000, "1d 02h"),
        ] {
            assert_eq!(duration(ms), expect, "{ms}");
        }
    }

    #[test]
    fn ages() {
        for (ms, expect) in [(999, "0s"), (59_999, "59s"), (60_000, "1m"), (7_200_000, "2h"), (200_000_000, "2d")] {
            assert_eq!(age(ms), expect, "{ms}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(in_zone(1_700_000_000_000, TimeZone::UTC), "2023-11-14 22:13:20");
        assert_eq!(in_zone(u64::MAX, TimeZone::UTC), "");
    }
}
