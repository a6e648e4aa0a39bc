//! Chance from a seed: the same seed gives the same course, in every version of this and of all crates.

use std::ops::Range;

/// A generator of numbers (SplitMix64), small enough to stay as it is for ever.
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// What begins with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number out of all.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of a range that is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start).max(1)
    }

    /// Whether it comes out, so many times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of these, of which there is at least one.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.within(0..of.len() as u64);
        &of[usize::try_from(place).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_stays_a_seed() {
        let mut chance = Chance::new(7);
        let numbers: Vec<u64> = (0..4).map(|_| chance.within(0..1000)).collect();
        let mut again = Chance::new(7);
        assert_eq!(numbers, (0..4).map(|_| again.within(0..1000)).collect::<Vec<_>>());
        assert_eq!(Chance::new(0).number(), 0xe220_a839_7b1d_cdaf, "as it is published");
    }
}
