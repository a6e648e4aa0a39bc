//! JUnit's XML, in the dialects that test runners write.

use junit_parser::{TestCase, TestSuite};
use protocol::report::{MAX_FAILURES, TestFailure, Tests};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::super::CarryError;
use super::{Masked, cut};

/// The longest message of a failing test that is kept, in bytes.
const MAX_MESSAGE: usize = 2 << 10;

/// The most elements of a report: each takes many times the memory that it takes of the file.
const MAX_ELEMENTS: usize = 1_000_000;

/// How deep they may lie in one another: the reader goes down by calling itself, and a stack that is too small for it
/// ends the whole process.
const MAX_DEPTH: usize = 100;

/// Adds what one report says. What it says in words goes through `masked` before it is cut, for half a secret is none
/// that can be found.
pub(super) fn add(tests: &mut Tests, path: &str, content: &[u8], masked: &Masked<'_>) -> Result<(), CarryError> {
    let bad = |reason: String| CarryError::Report { path: path.to_owned(), reason };
    if let Some(reason) = too_much(content) {
        return Err(bad(reason));
    }
    let read = junit_parser::from_reader(content).map_err(|error| bad(error.to_string()))?;
    for suite in &read.suites {
        add_suite(tests, suite, masked);
    }
    Ok(())
}

/// Why a report is not to be taken apart, if so.
fn too_much(content: &[u8]) -> Option<String> {
    let mut reader = Reader::from_reader(content);
    let (mut elements, mut depth) = (0_usize, 0_usize);
    loop {
        match reader.read_event() {
            Ok(Event::Start(_)) => (elements, depth) = (elements + 1, depth + 1),
            Ok(Event::Empty(_)) => elements += 1,
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            // Whoever takes it apart comes no further either, and says why.
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => {}
        }
        if elements > MAX_ELEMENTS {
            return Some(format!("it has more than {MAX_ELEMENTS} elements"));
        }
        if depth > MAX_DEPTH {
            return Some(format!("its elements lie in one another, more than {MAX_DEPTH} deep"));
        }
    }
}

/// Suites lie in suites.
fn add_suite(tests: &mut Tests, suite: &TestSuite, masked: &Masked<'_>) {
    let mut open = vec![suite];
    while let Some(suite) = open.pop() {
        suite.cases.iter().for_each(|case| add_case(tests, case, masked));
        open.extend(suite.suites.iter());
    }
}

fn add_case(tests: &mut Tests, case: &TestCase, masked: &Masked<'_>) {
    // NaN and what is negative count as nothing.
    tests.duration_ms = tests.duration_ms.saturating_add((case.time.max(0.0) * 1000.0) as u64);
    if case.status.is_skipped() {
        tests.skipped += 1;
    } else if case.status.is_failure() || case.status.is_error() {
        tests.failed += 1;
        if tests.failures.len() < MAX_FAILURES {
            tests.failures.push(failure(case, masked));
        }
    } else {
        tests.passed += 1;
    }
}

fn failure(case: &TestCase, masked: &Masked<'_>) -> TestFailure {
    // With its class's or suite's, as the reader puts it together. Whoever writes it may make it as long as a report.
    let name = cut(&masked(&case.name));
    let (said, text) = match &case.status {
        junit_parser::TestStatus::Failure(failure) => (&failure.message, &failure.text),
        junit_parser::TestStatus::Error(error) => (&error.message, &error.text),
        _ => return TestFailure { name, message: String::new(), file: None },
    };
    let message = if said.trim().is_empty() { text.trim() } else { said.trim() };
    let mut message = masked(message);
    message.truncate(message.floor_char_boundary(MAX_MESSAGE));
    let file = case.file.as_deref().map(|file| cut(&masked(file)));
    let file = file.map(|file| match case.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    });
    TestFailure { name, message, file }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_two_letters() {
        let long = "\u{e9}".repeat(3 << 20);
        let report = format!(
            "<testsuite><testcase name=\"x{long}\" file=\"y{long}\" line=\"7\"><failure message=\"z{long}\"/>\
             </testcase></testsuite>"
        );
        let mut tests = Tests::default();
        add(&mut tests, "r.xml", report.as_bytes(), &str::to_owned).unwrap();
        let TestFailure { name, message, file } = &tests.failures[0];
        assert_eq!(name, &format!("x{}", "\u{e9}".repeat(511)));
        assert_eq!(file.as_deref(), Some(&*format!("y{}:7", "\u{e9}".repeat(511))));
        assert_eq!(message.len(), MAX_MESSAGE - 1);
    }

    #[test]
    fn a_secret_is_masked_before_it_is_cut() {
        let beginning = "x".repeat((1 << 10) - 3);
        let said = "x".repeat(MAX_MESSAGE - 3);
        let report = format!(
            "<testsuite><testcase name=\"{beginning}hidden\" file=\"{beginning}hidden\">\
             <failure message=\"{said}hidden\"/></testcase></testsuite>"
        );
        let mut tests = Tests::default();
        add(&mut tests, "r.xml", report.as_bytes(), &|text| text.replace("hidden", "***")).unwrap();
        let TestFailure { name, message, file } = &tests.failures[0];
        let masked = format!("{beginning}***");
        assert_eq!((name, file.as_ref()), (&masked, Some(&masked)));
        assert_eq!(message, &format!("{said}***"));
    }

    #[track_caller]
    fn check_refused(report: &str, why: &str) {
        let error = add(&mut Tests::default(), "r.xml", report.as_bytes(), &str::to_owned).unwrap_err().to_string();
        assert_eq!(error, format!("the report r.xml cannot be read: {why}"));
    }

    #[test]
    fn how_much_a_report_holds_has_a_limit() {
        let deep = |depth| format!("{}{}", "<testsuite>".repeat(depth), "</testsuite>".repeat(depth));
        add(&mut Tests::default(), "r.xml", deep(MAX_DEPTH).as_bytes(), &str::to_owned).unwrap();
        check_refused(&deep(100_000), "its elements lie in one another, more than 100 deep");
        let many = format!("<testsuite>{}</testsuite>", "<testcase/>".repeat(MAX_ELEMENTS));
        check_refused(&many, "it has more than 1000000 elements");
    }
}
