//! When a job's turn comes, by how long such work took before. Where that is not known there is no forecast: a
//! number that is made up is worse than none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use protocol::api::Forecast;

/// How much longer than twice its usual time work may take until nobody believes any more that it ends any moment.
const PATIENCE_MS: u64 = 10_000;

/// In how many milliseconds each job of a queue begins. `slots`: in how long each is free, where that is known (a
/// slot whose work has no history is counted as if it were never free again, so that a forecast is rather too late).
/// `queue`: how long each job usually takes, the next one first.
pub(super) fn starts(
    slots: impl IntoIterator<Item = Option<u64>>,
    queue: impl IntoIterator<Item = Option<u64>>,
) -> Vec<Option<u64>> {
    let mut free: BinaryHeap<Reverse<u64>> = slots.into_iter().flatten().map(Reverse).collect();
    let mut start = |usual: Option<u64>| {
        let Reverse(at) = free.pop()?;
        free.extend(usual.map(|usual| Reverse(at.saturating_add(usual))));
        Some(at)
    };
    queue.into_iter().map(&mut start).collect()
}

/// When work that has gone on for `elapsed_ms` ends, when it usually takes `usual_ms`. What takes a little longer than
/// usual ends any moment; of what takes much longer nobody knows.
pub(crate) fn end(usual_ms: Option<u64>, elapsed_ms: u64) -> Forecast {
    let believed = usual_ms.filter(|usual| elapsed_ms <= usual.saturating_mul(2).saturating_add(PATIENCE_MS));
    Forecast { expected_ms: believed.map(|usual| usual.saturating_sub(elapsed_ms)), usual_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(slots: &[Option<u64>], queue: &[Option<u64>], expect: &[Option<u64>]) {
        assert_eq!(starts(slots.iter().copied(), queue.iter().copied()), expect);
    }

    #[test]
    fn jobs_take_the_slots_as_they_become_free() {
        let (a, b) = (Some(10), Some(4));
        check(&[a, b], &[Some(3), Some(100), Some(1)], &[Some(4), Some(7), Some(10)]);
        check(&[Some(0)], &[a, a, a], &[Some(0), Some(10), Some(20)]);
        check(&[], &[a], &[None]);
    }

    #[test]
    fn what_is_not_known_is_not_made_up() {
        check(&[None, None], &[Some(3)], &[None]);
        check(&[None, Some(5)], &[Some(3), Some(3)], &[Some(5), Some(8)]);
        // Nobody knows when the one before it ends.
        check(&[Some(5)], &[None, Some(3)], &[Some(5), None]);
        let check = |usual_ms, elapsed_ms, expected_ms| {
            assert_eq!(end(usual_ms, elapsed_ms), Forecast { expected_ms, usual_ms });
        };
        check(None, 5, None);
        check(Some(8), 5, Some(3));
        check(Some(8), 9, Some(0));
        check(Some(8), 10_016, Some(0));
        check(Some(8), 10_017, None);
        check(Some(3_600_000), 7_210_001, None);
    }
}
