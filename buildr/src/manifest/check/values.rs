//! Plain values: text, flags, numbers, spans of time, sizes, lists and globs. They are wrong in the same few ways
//! everywhere.

use std::ops::RangeInclusive;

use super::findings::{Findings, did_you_mean, shown};
use crate::manifest::language::Globs;
use crate::manifest::node::{Entry, Node, Shape};
use crate::manifest::source::{Span, Spanned, quoted};

/// The longest span of time that can be said: ten years, far from where milliseconds overflow.
const LONGEST_MS: u64 = 10 * 366 * DAY;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A word that can be chosen, and what it means.
pub(super) type Choice<T> = (&'static str, T);

impl Findings<'_> {
    /// One text, as it is written.
    pub(super) fn text(&mut self, node: &Node, place: Span, what: &str, help: &str) -> Option<Spanned<String>> {
        match &node.value {
            Shape::Scalar { text, .. } if text.contains('\0') => {
                self.error(place, format!("{what} holds a NUL character, which no program can be given"), help);
                None
            }
            Shape::Scalar { text, .. } => Some(Spanned { value: text.clone(), span: node.span }),
            Shape::Null => {
                self.error(place, format!("{what} has no value"), help);
                None
            }
            other => {
                self.error(place, format!("{what} is text, not {}", other.kind()), help);
                None
            }
        }
    }

    /// One text with something in it. `help` says what to write.
    pub(super) fn filled(&mut self, node: &Node, place: Span, what: &str, help: &str) -> Option<Spanned<String>> {
        let text = self.text(node, place, what, help)?;
        if text.value.trim().is_empty() {
            self.error(place, format!("{what} is empty"), help);
            return None;
        }
        Some(text)
    }

    /// The text of a key, with something in it.
    pub(super) fn word(&mut self, entry: &Entry, help: &str) -> Option<Spanned<String>> {
        self.filled(&entry.value, entry.place(), &quoted(&entry.key.value), help)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, entry: &Entry) -> Option<bool> {
        let key = &entry.key.value;
        match &entry.value.value {
            Shape::Scalar { truth: Some(truth), .. } => return Some(*truth),
            other => {
                let message = format!("{} is `true` or `false`, and here stands {}", quoted(key), shown(other));
                self.error(entry.place(), message, format!("write `{key}: true`, or leave it out"));
            }
        }
        None
    }

    /// A whole number within bounds.
    pub(super) fn whole(&mut self, entry: &Entry, bounds: RangeInclusive<i64>) -> Option<i64> {
        let (least, most) = (*bounds.start(), *bounds.end());
        let number = match &entry.value.value {
            Shape::Scalar { text, .. } => text.parse().ok().filter(|number| bounds.contains(number)),
            _ => None,
        };
        if number.is_none() {
            let key = &entry.key.value;
            let found = shown(&entry.value.value);
            let message = format!("{} is a whole number from {least} to {most}, and here stands {found}", quoted(key));
            let example = least.max(2).min(most);
            self.error(entry.place(), message, format!("write a number without a unit, such as `{key}: {example}`"));
        }
        number
    }

    /// A whole number that cannot be negative.
    pub(super) fn count_of(&mut self, entry: &Entry, bounds: RangeInclusive<u32>) -> Option<u32> {
        let bounds = i64::from(*bounds.start())..=i64::from(*bounds.end());
        self.whole(entry, bounds).and_then(|number| u32::try_from(number).ok())
    }

    /// A span of time in milliseconds, such as `1h30m`; more than nothing.
    pub(super) fn duration(&mut self, entry: &Entry) -> Option<u64> {
        let key = &entry.key.value;
        let (message, help) = match &entry.value.value {
            Shape::Scalar { text, .. } => match milliseconds(text) {
                Some(0) => (format!("{} is no time at all", quoted(key)), "write at least `1s`".to_owned()),
                Some(time) if time <= LONGEST_MS => return Some(time),
                Some(_) => (format!("{} is more than ten years", quoted(text)), format!("write `{key}: 30d`")),
                None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => (
                    format!("{} is {text}, and does not say of what", quoted(key)),
                    format!("write `{key}: {text}s` for seconds, `{text}m` for minutes or `{text}h` for hours"),
                ),
                None => (
                    format!("{} is a span of time, and here stands {}", quoted(key), quoted(text)),
                    format!("write `{key}: 20m`: numbers with `s`, `m`, `h` or `d`, as in `90s` or `1h30m`"),
                ),
            },
            other => (
                format!("{} is a span of time, and here stands {}", quoted(key), other.kind()),
                format!("write `{key}: 20m`: numbers with `s`, `m`, `h` or `d`, as in `90s` or `1h30m`"),
            ),
        };
        self.error(entry.place(), message, help);
        None
    }

    /// One word of a few.
    pub(super) fn choice<T: Copy>(&mut self, entry: &Entry, choices: &[Choice<T>]) -> Option<T> {
        let key = &entry.key.value;
        let Shape::Scalar { text, .. } = &entry.value.value else {
            let message = format!("{} is one word, and here stands {}", quoted(key), entry.value.value.kind());
            self.error(entry.place(), message, format!("write {}", one_of(key, choices)));
            return None;
        };
        let found = choices.iter().find(|(word, _)| word == text);
        if found.is_none() {
            let guess = self.guess(text, choices.iter().map(|(word, _)| *word));
            let message = format!("{} cannot be {}{}", quoted(key), quoted(text), did_you_mean(guess));
            self.error(entry.place(), message, format!("write {}", one_of(key, choices)));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// One text, or a list of them in which lists are flattened. `what` names one of them.
    pub(super) fn texts(&mut self, entry: &Entry, what: &str, help: &str) -> Vec<Spanned<String>> {
        let mut texts = Vec::new();
        self.each_text(&entry.value, entry.place(), what, help, &mut texts);
        texts
    }

    /// As [`Self::texts`], of a value without a key.
    pub(super) fn each_text(
        &mut self,
        node: &Node,
        place: Span,
        what: &str,
        help: &str,
        texts: &mut Vec<Spanned<String>>,
    ) {
        flatten(node, place, &mut |node, place| texts.extend(self.filled(node, place, what, help)));
    }

    /// Globs: one text or a list of them; those that begin with `!` take out again.
    pub(super) fn globs(&mut self, node: &Node, place: Span, what: &str, help: &str) -> Globs {
        let mut globs = Globs::default();
        let before = self.count();
        let mut texts = Vec::new();
        self.each_text(node, place, what, help, &mut texts);
        for text in texts {
            match text.value.strip_prefix('!') {
                Some("") => self.error(text.span, format!("{what} is empty behind its `!`"), help),
                Some(glob) => globs.exclude.push(Spanned { value: glob.to_owned(), span: text.span }),
                None => globs.include.push(text),
            }
        }
        if globs.include.is_empty() && globs.exclude.is_empty() && self.count() == before {
            self.error(place, format!("{what} is missing, so nothing would match"), help);
        }
        globs
    }

    /// Whether a path stays below the folder that it is read from; told when it does not.
    pub(super) fn stays_below(&mut self, path: &Spanned<String>, what: &str) -> bool {
        let outside = path.value.starts_with('/') || path.value.split('/').any(|part| part == "..");
        if outside {
            self.error(
                path.span,
                format!("{what} is below the workspace, and {} leads out of it", quoted(&path.value)),
                "write a path without a leading `/` and without `..`",
            );
        }
        !outside
    }
}

/// Calls `each` with what is no list, and with a place to point at for what stands nowhere.
pub(super) fn flatten(node: &Node, place: Span, each: &mut impl FnMut(&Node, Span)) {
    let place = node.place_or(place);
    match &node.value {
        Shape::List(elements) => {
            for element in elements {
                flatten(element, place, each);
            }
        }
        _ => each(node, place),
    }
}

/// `` `key: a`, `key: b` or `key: c` ``
fn one_of<T>(key: &str, choices: &[Choice<T>]) -> String {
    let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{key}: {word}`")).collect();
    match words.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.join(""),
    }
}

/// `90s`, `20m`, `1h30m`, `2d`.
fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest[digits..].chars().next()? {
            's' => SECOND,
            'm' => MINUTE,
            'h' => HOUR,
            'd' => DAY,
            _ => return None,
        };
        sum = sum.saturating_add(number.saturating_mul(unit));
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(sum)
}

/// A number with at most three decimals, in thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 3 || text.ends_with('.') {
        return None;
    }
    let part: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part)
}

/// Bytes: `512m`, `2g`, `1.5g`, by 1024.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let unit: u64 = match text.chars().last()?.to_ascii_lowercase() {
        'k' => 1 << 10,
        'm' => 1 << 20,
        'g' => 1 << 30,
        't' => 1 << 40,
        _ => return None,
    };
    let number = thousandths(&text[..text.len() - 1])?;
    u64::try_from(u128::from(number) * u128::from(unit) / 1000).ok()
}

/// Thousandths of a processor core: `2`, `0.5`, `500m`.
pub(super) fn cores(text: &str) -> Option<u64> {
    match text.strip_suffix('m') {
        Some(thousandths) if thousandths.bytes().all(|byte| byte.is_ascii_digit()) => thousandths.parse().ok(),
        Some(_) => None,
        None => thousandths(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        for (text, expect) in [
            ("90s", Some(90_000)),
            ("20m", Some(1_200_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("99999999999999999d", Some(u64::MAX)),
            ("", None),
            ("5", None),
            ("m", None),
            ("5m3", None),
            ("1.5h", None),
            ("-5m", None),
            ("5 m", None),
            ("5é", None),
            ("99999999999999999999999s", None),
        ] {
            assert_eq!(milliseconds(text), expect, "{text}");
        }
    }

    #[test]
    fn sizes_and_cores() {
        for (text, expect) in [
            ("512m", Some(512 << 20)),
            ("2g", Some(2 << 30)),
            ("1.5G", Some(3 << 29)),
            ("1k", Some(1024)),
            ("0.5t", Some(1 << 39)),
            ("99999999999999999t", None),
            ("2", None),
            ("g", None),
            ("1.g", None),
            ("1.2345g", None),
            ("", None),
            ("2é", None),
        ] {
            assert_eq!(bytes(text), expect, "{text}");
        }
        for (text, expect) in
            [("2", Some(2000)), ("0.5", Some(500)), ("500m", Some(500)), ("", None), ("m", None), ("2g", None)]
        {
            assert_eq!(cores(text), expect, "{text}");
        }
    }
}
