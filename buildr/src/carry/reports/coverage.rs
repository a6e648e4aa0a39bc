//! How much of the code tests covered.

use protocol::plan::Coverage;
use quick_xml::Reader;
use quick_xml::events::Event;
use regex::bytes::{Regex, RegexBuilder};

use super::super::CarryError;

/// The longest line of a log in which coverage is looked for, in bytes.
const MAX_LINE: usize = 4 << 10;

/// A regular expression may take so many bytes of memory: it comes from a user's file.
const MAX_EXPRESSION: usize = 1 << 20;

/// The lines of some files, and those of them that tests covered.
#[derive(Debug, Default)]
pub(super) struct Covered {
    covered: u64,
    all: u64,
}

impl Covered {
    /// Adds what one file says.
    pub(super) fn add(&mut self, path: &str, content: &[u8]) -> Result<(), CarryError> {
        let bad = |reason: &str| CarryError::Report { path: path.to_owned(), reason: reason.to_owned() };
        let is_xml = content.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
            || content.starts_with(b"\xef\xbb\xbf<");
        let (of, lines) = if is_xml {
            cobertura(content)
                .ok_or_else(|| bad("it is XML, and not what Cobertura writes: there is no `line-rate`"))?
        } else {
            lcov(content).ok_or_else(|| bad("it is neither what lcov nor what Cobertura writes"))?
        };
        self.covered = self.covered.saturating_add(of);
        self.all = self.all.saturating_add(lines);
        Ok(())
    }

    /// The covered part of all lines, in hundredths of a per cent.
    pub(super) fn part(&self) -> u32 {
        let part = self.covered.saturating_mul(10_000).checked_div(self.all).unwrap_or(0);
        u32::try_from(part).unwrap_or(10_000).min(10_000)
    }
}

/// Covered lines and all lines: what each record sums up, else its lines.
fn lcov(content: &[u8]) -> Option<(u64, u64)> {
    let (mut covered, mut all, mut records) = (0, 0, 0);
    let (mut hit, mut found, mut summed) = (0_u64, 0_u64, (None, None));
    for line in content.split(|&byte| byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if let Some(data) = line.strip_prefix("DA:") {
            found += 1;
            let count = data.split(',').nth(1).unwrap_or("0");
            hit += u64::from(!count.trim_start_matches('0').is_empty() && !count.starts_with('-'));
        } else if let Some(number) = line.strip_prefix("LH:") {
            summed.0 = number.parse::<u64>().ok();
        } else if let Some(number) = line.strip_prefix("LF:") {
            summed.1 = number.parse::<u64>().ok();
        } else if line == "end_of_record" {
            let (of, lines) = match summed {
                (Some(of), Some(lines)) => (of, lines),
                _ => (hit, found),
            };
            covered += of.min(lines);
            all += lines;
            records += 1;
            (hit, found, summed) = (0, 0, (None, None));
        }
    }
    (records > 0).then_some((covered, all))
}

/// Covered lines and all lines, from the root's attributes.
fn cobertura(content: &[u8]) -> Option<(u64, u64)> {
    let mut reader = Reader::from_reader(content);
    let mut buffer = Vec::new();
    loop {
        let event = reader.read_event_into(&mut buffer).ok()?;
        let (Event::Start(root) | Event::Empty(root)) = event else {
            if matches!(event, Event::Eof) {
                return None;
            }
            buffer.clear();
            continue;
        };
        let number = |name: &str| {
            let value = root.try_get_attribute(name).ok().flatten()?;
            value.value.trim().parse::<f64>().ok().filter(|it| it.is_finite() && *it >= 0.0)
        };
        return match (number("lines-covered"), number("lines-valid"), number("line-rate")) {
            (Some(covered), Some(valid), _) if valid > 0.0 => Some((covered as u64, valid as u64)),
            (_, _, Some(rate)) => Some(((rate.min(1.0) * 10_000.0).round() as u64, 10_000)),
            _ => None,
        };
    }
}

/// Looks for coverage in what a stage prints, chunk by chunk.
#[derive(Debug)]
pub struct CoverageInLog {
    expression: Regex,
    line: Vec<u8>,
    found: Option<u32>,
}

impl CoverageInLog {
    /// Looks for what this asks for; nothing when it is looked for elsewhere.
    ///
    /// # Errors
    /// When the expression cannot be understood.
    pub fn of(coverage: &Coverage) -> Result<Option<Self>, CarryError> {
        let Coverage::Log(expression) = coverage else { return Ok(None) };
        let expression = RegexBuilder::new(expression)
            .size_limit(MAX_EXPRESSION)
            .build()
            .map_err(|error| CarryError::Report { path: format!("/{expression}/"), reason: error.to_string() })?;
        Ok(Some(Self { expression, line: Vec::new(), found: None }))
    }

    /// Some more was printed.
    pub fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.look();
            }
        }
    }

    /// What was found last, in hundredths of a per cent.
    #[must_use]
    pub fn finish(mut self) -> Option<u32> {
        self.look();
        self.found
    }

    fn look(&mut self) {
        let found = self.expression.captures_iter(&self.line).last();
        let group =
            found.and_then(|found| found.get(1).or_else(|| found.get(0)).map(|group| group.as_bytes().to_vec()));
        let number = group.and_then(|group| String::from_utf8(group).ok());
        let number = number.and_then(|text| text.trim().trim_end_matches('%').replace(',', ".").parse::<f64>().ok());
        if let Some(number) = number.filter(|number| (0.0..=100.0).contains(number)) {
            self.found = Some((number * 100.0).round() as u32);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content: &str, expect: Result<u32, &str>) {
        let mut covered = Covered::default();
        let got = covered.add("c", content.as_bytes()).map(|()| covered.part());
        match (got, expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{content}"),
            (Err(got), Err(expect)) => assert!(got.to_string().contains(expect), "{got}"),
            (got, expect) => panic!("{content}: {got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn files_of_both_forms() {
        check("TN:\nSF:a.c\nDA:1,4\nDA:2,0\nLF:2\nLH:1\nend_of_record\n", Ok(5000));
        check("SF:a.c\nDA:1,4\nDA:2,0\nDA:3,1\nend_of_record\nSF:b\nDA:1,0\nend_of_record\n", Ok(5000));
        check("<?xml version=\"1.0\"?><coverage lines-covered=\"3\" lines-valid=\"8\"><x/></coverage>", Ok(3750));
        check("<coverage line-rate=\"0.8754\" branch-rate=\"0\"/>", Ok(8754));
        check("<coverage line-rate=\"NaN\"/>", Err("no `line-rate`"));
        check("<html/>", Err("no `line-rate`"));
        check("hello", Err("neither what lcov nor"));
        check("SF:a\nLF:0\nLH:0\nend_of_record\n", Ok(0));
        // More hits than lines is nonsense, and not more than all.
        check("SF:a\nLF:2\nLH:9\nend_of_record\n", Ok(10_000));
    }

    #[test]
    fn what_is_printed_in_pieces() {
        let check = |expression: &str, pieces: &[&str], expect: Option<u32>| {
            let mut log = CoverageInLog::of(&Coverage::Log(expression.to_owned())).unwrap().unwrap();
            pieces.iter().for_each(|piece| log.push(piece.as_bytes()));
            assert_eq!(log.finish(), expect, "{pieces:?}");
        };
        check(r"TOTAL.* (\d+)%", &["TOTAL   12", " 3 87%\nbye\n"], Some(8700));
        check(r"coverage: ([\d.]+)%", &["coverage: 10.5% of", " statements\ncoverage: 91.25%"], Some(9125));
        check(r"(\d+)%", &["1% 2% 300%"], None);
        check(r"\d+,\d%", &["it is 7,5%"], Some(750));
        check(r"x", &["nothing"], None);
        assert!(CoverageInLog::of(&Coverage::Log("(".to_owned())).is_err());
        assert!(CoverageInLog::of(&Coverage::File("x".to_owned())).unwrap().is_none());
    }
}
