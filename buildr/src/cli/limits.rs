//! How long things may take, and how much of the disk: the settings that `buildr run`, an agent and `buildr up` have
//! in common.

use std::time::Duration;

use clap::Args;

use crate::executor::docker::PullLimits;
use crate::git::ClonePolicy;
use crate::runner::TimeLimits;

/// How long things may take, and how much of the disk.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits (times such as 90s, 15m, 2h; sizes such as 512m, 20GB)")]
pub struct LimitArgs {
    /// How long a stage may run
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub stage_timeout: Duration,

    /// How long a stage may print nothing [default: as long as it may run]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub idle_timeout: Option<Duration>,

    /// How long a clone may take, with all its tries
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = time)]
    pub clone_timeout: Duration,

    /// How long pulling an image may take
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = time)]
    pub pull_timeout: Duration,

    /// How long a clone or a pull may stand still before it counts as hung [default: 1m for a clone, which is then
    /// tried again, 2m for a pull]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub stall_timeout: Option<Duration>,

    /// The most of the disk that a job may take: its workspace, what its containers write, and the image that `prepare`
    /// makes [default: as much as there is]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub build_disk: Option<u64>,
}

impl Default for LimitArgs {
    fn default() -> Self {
        let (times, pull) = (TimeLimits::default(), PullLimits::default());
        Self {
            stage_timeout: times.stage,
            idle_timeout: times.idle,
            clone_timeout: times.clone,
            pull_timeout: pull.whole,
            stall_timeout: None,
            build_disk: None,
        }
    }
}

impl LimitArgs {
    /// What they mean for the runner.
    #[must_use]
    pub fn times(&self) -> TimeLimits {
        TimeLimits { clone: self.clone_timeout, stage: self.stage_timeout, idle: self.idle_timeout }
    }

    /// What they mean for pulls.
    #[must_use]
    pub fn pull(&self) -> PullLimits {
        let stall = self.stall_timeout.unwrap_or(PullLimits::default().stall);
        PullLimits { whole: self.pull_timeout, stall }
    }

    /// How long a clone may stand still.
    #[must_use]
    pub fn clone_stall(&self) -> Duration {
        self.stall_timeout.unwrap_or(ClonePolicy::default().stall)
    }
}

/// A time from `90s`, `15m`, `2h`, `1d`, or a number of seconds.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time; write it like 90s, 15m or 2h");
    let text_of = text.trim();
    let (digits, unit) = match text_of.chars().last() {
        Some('s') => (&text_of[..text_of.len() - 1], 1),
        Some('m') => (&text_of[..text_of.len() - 1], 60),
        Some('h') => (&text_of[..text_of.len() - 1], 60 * 60),
        Some('d') => (&text_of[..text_of.len() - 1], 24 * 60 * 60),
        _ => (text_of, 1),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    // A year is for ever, and what is longer overflows the clock.
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=365 * 24 * 60 * 60).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(bad)
}

/// A size in bytes from `512m`, `4g`, `20GB`, `1048576`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("{text:?} is not a size; write it like 512m or 4g");
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expect) in [
            ("512m", Some(512 << 20)),
            ("4G", Some(4 << 30)),
            ("1GiB", Some(1 << 30)),
            ("20GB", Some(20 << 30)),
            ("7", Some(7)),
        ] {
            assert_eq!(size(text).ok(), expect, "{text}");
        }
        for text in ["", "g", "-1", "1.5g", "99999999999g", "0", "b"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, expect) in [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("7", 7), (" 3s ", 3)] {
            assert_eq!(time(text), Ok(Duration::from_secs(expect)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5h", "0", "0m", "9999999999999999999d", "400d", "5ü"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_the_help_says_is_what_is_meant_without_it() {
        #[derive(clap::Parser)]
        struct Sample {
            #[command(flatten)]
            limits: LimitArgs,
        }
        let said = <Sample as clap::Parser>::parse_from(["x"]).limits;
        let meant = LimitArgs::default();
        assert_eq!((said.times(), said.pull()), (meant.times(), meant.pull()));
        assert_eq!((meant.clone_stall().as_secs(), meant.pull().stall.as_secs()), (60, 120));
    }
}
