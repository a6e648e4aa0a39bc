//! One row of the table: what was measured beside what, and what is to be said of it.

use serde::{Deserialize, Serialize};

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most so many times the floor.
    AtMostTimes(f64),
    /// At least so many times the floor.
    AtLeastTimes(f64),
    /// At most so much, in the row's own unit.
    AtMost(f64),
    /// At least so much, in the row's own unit.
    AtLeast(f64),
    /// Nothing: it is there to be compared by a person.
    Shown,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The goal is reached.
    Met,
    /// It is not, and nothing that was measured stands in its way.
    NotMet,
    /// It is not, a bound that was measured in the same run is beyond the goal too, and ours is [`NEAR`] that bound.
    Bounded,
    /// There is no goal.
    Shown,
    /// It could not be measured.
    Error,
}

/// What nobody can be better than in this way, measured in the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// What it is.
    pub(crate) is: String,
    /// Its median, in the unit of the row.
    pub(crate) figure: f64,
}

/// A figure beside its floor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What `--only` calls the topic that it belongs to, and after a dot which of its rows it is.
    pub(crate) name: String,
    /// What is measured.
    pub(crate) what: String,
    /// The unit of `ours`, `floor` and the bound.
    pub(crate) unit: String,
    /// The median of ours.
    pub(crate) ours: f64,
    /// The median of the floor.
    pub(crate) floor: Option<f64>,
    /// What the floor is.
    pub(crate) floor_is: Option<String>,
    /// Ours through the floor, of the medians.
    pub(crate) ratio: Option<f64>,
    /// The quartiles of what the goal looks at: the ratio of each pair, or ours alone.
    pub(crate) quartiles: Option<[f64; 2]>,
    /// How often ours was measured.
    pub(crate) samples: usize,
    /// What is asked.
    pub(crate) goal: Goal,
    /// What stands in the way.
    pub(crate) bound: Option<Bound>,
    /// What came of it.
    pub(crate) verdict: Verdict,
    /// What else is to be known.
    pub(crate) note: Option<String>,
    /// What the time of ours went to, in milliseconds, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<(String, f64)>,
}

/// A row in the making: the figures of each round.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Ours.
    pub(crate) ours: Vec<f64>,
    /// The floor's, each measured right beside one of ours.
    pub(crate) floor: Vec<f64>,
    /// The bound's.
    pub(crate) bound: Vec<f64>,
}

/// What a row is about, beside its figures.
pub(crate) struct About<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// What is measured.
    pub(crate) what: &'a str,
    /// In which unit.
    pub(crate) unit: &'a str,
    /// What is asked.
    pub(crate) goal: Goal,
    /// What the floor is; empty where there is none.
    pub(crate) floor_is: &'a str,
    /// What the bound is; empty where there is none.
    pub(crate) bound_is: &'a str,
}

impl Figures {
    /// The row that they make.
    pub(crate) fn row(&self, about: &About<'_>) -> Row {
        let (ours, floor, bound) = (median(&self.ours), median(&self.floor), median(&self.bound));
        let pairs: Vec<f64> = self.ours.iter().zip(&self.floor).map(|(ours, floor)| ours / floor).collect();
        let spread = match about.goal {
            Goal::AtMost(_) | Goal::AtLeast(_) => quartiles(&self.ours),
            _ if pairs.is_empty() => quartiles(&self.ours),
            _ => quartiles(&pairs),
        };
        let ratio = ours.zip(floor).map(|(ours, floor)| ours / floor);
        let bound = bound.map(|figure| Bound { is: about.bound_is.to_owned(), figure });
        let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Row {
            name: about.name.to_owned(),
            what: about.what.to_owned(),
            unit: about.unit.to_owned(),
            ours: ours.unwrap_or(f64::NAN),
            floor,
            floor_is: said(about.floor_is),
            ratio,
            quartiles: spread,
            samples: self.ours.len(),
            goal: about.goal,
            verdict: verdict(about.goal, ours, floor, bound.as_ref().map(|bound| bound.figure)),
            bound,
            note: None,
            parts: Vec::new(),
        }
    }
}

impl Row {
    /// The row of what could not be measured.
    pub(crate) fn error(name: &str, what: &str, error: &str) -> Self {
        let about = About { name, what, unit: "", goal: Goal::Shown, floor_is: "", bound_is: "" };
        let note = Some(error.to_owned());
        Self { verdict: Verdict::Error, note, ours: 0.0, ..Figures::default().row(&about) }
    }

    /// The same with something to be known.
    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// So many times a bound is near it: what is farther has more in its way than the bound.
const NEAR: f64 = 1.2;

/// Whether a goal is reached, and if not, whether a bound says why. What is not a number reaches nothing.
fn verdict(goal: Goal, ours: Option<f64>, floor: Option<f64>, bound: Option<f64>) -> Verdict {
    if goal == Goal::Shown {
        return Verdict::Shown;
    }
    let Some(ours) = ours else { return Verdict::Error };
    let reaches = |figure: f64| match goal {
        Goal::AtMostTimes(times) => floor.is_some_and(|floor| figure <= times * floor),
        Goal::AtLeastTimes(times) => floor.is_some_and(|floor| figure >= times * floor),
        Goal::AtMost(most) => figure <= most,
        Goal::AtLeast(least) => figure >= least,
        Goal::Shown => true,
    };
    let is_near = |bound: f64| match goal {
        Goal::AtMostTimes(_) | Goal::AtMost(_) => ours <= bound * NEAR,
        _ => ours * NEAR >= bound,
    };
    match bound {
        _ if reaches(ours) => Verdict::Met,
        Some(bound) if !reaches(bound) && is_near(bound) => Verdict::Bounded,
        _ => Verdict::NotMet,
    }
}

/// The middle of some figures; between the two middle ones where they are even in number.
pub(crate) fn median(figures: &[f64]) -> Option<f64> {
    quantile(figures, 0.5)
}

/// The figures below which a quarter and three quarters of them lie.
fn quartiles(figures: &[f64]) -> Option<[f64; 2]> {
    Some([quantile(figures, 0.25)?, quantile(figures, 0.75)?])
}

/// The figure below which this part of them lies.
pub(crate) fn quantile(figures: &[f64], part: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = part * f64::from(u32::try_from(last).ok()?);
    let below = place.floor();
    // A place in a list of at most that length.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= below <= last")]
    let index = below as usize;
    let next = sorted[(index + 1).min(last)];
    Some(sorted[index] + (next - sorted[index]) * (place - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_goal_is_met_that_is_not() {
        for (goal, ours, floor, bound, expect) in [
            (Goal::AtMostTimes(0.4), 100.0, Some(300.0), None, Verdict::Met),
            (Goal::AtMostTimes(0.4), 130.0, Some(300.0), None, Verdict::NotMet),
            (Goal::AtMostTimes(0.4), 130.0, Some(300.0), Some(110.0), Verdict::NotMet),
            (Goal::AtMostTimes(0.4), 130.0, Some(300.0), Some(125.0), Verdict::Bounded),
            (Goal::AtMostTimes(0.4), 160.0, Some(300.0), Some(125.0), Verdict::NotMet),
            (Goal::AtMostTimes(0.4), 100.0, None, None, Verdict::NotMet),
            (Goal::AtLeastTimes(2.5), 11.0, Some(5.0), Some(12.0), Verdict::Bounded),
            (Goal::AtLeastTimes(2.5), 2.5, Some(5.0), Some(12.0), Verdict::NotMet),
            (Goal::AtLeastTimes(2.5), 10.0, Some(5.0), Some(13.0), Verdict::NotMet),
            (Goal::AtMost(15.0), f64::NAN, None, None, Verdict::NotMet),
            (Goal::AtLeast(1000.0), 1000.0, None, None, Verdict::Met),
        ] {
            assert_eq!(verdict(goal, Some(ours), floor, bound), expect, "{goal:?} {ours} {floor:?} {bound:?}");
        }
    }

    #[test]
    fn the_middle_of_figures() {
        for (figures, part, expect) in [
            (vec![], 0.5, None),
            (vec![3.0, 1.0, 2.0], 0.5, Some(2.0)),
            (vec![1.0, 2.0], 0.5, Some(1.5)),
            (vec![1.0, 2.0, 3.0], 0.25, Some(1.5)),
        ] {
            assert_eq!(quantile(&figures, part), expect);
        }
    }
}
