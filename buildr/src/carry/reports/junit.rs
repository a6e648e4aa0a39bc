//! JUnit's XML, in the dialects that test runners write.

use junit_parser::{TestCase, TestSuite};
use protocol::report::{MAX_FAILURES, TestFailure, Tests};

use super::super::CarryError;

/// The longest message of a failing test that is kept, in bytes.
const MAX_MESSAGE: usize = 2 << 10;

/// Adds what one report says.
pub(super) fn add(tests: &mut Tests, path: &str, content: &[u8]) -> Result<(), CarryError> {
    let read = junit_parser::from_reader(content)
        .map_err(|error| CarryError::Report { path: path.to_owned(), reason: error.to_string() })?;
    for suite in &read.suites {
        add_suite(tests, suite);
    }
    Ok(())
}

/// Suites lie in suites, as deep as whoever wrote them likes.
fn add_suite(tests: &mut Tests, suite: &TestSuite) {
    let mut open = vec![suite];
    while let Some(suite) = open.pop() {
        suite.cases.iter().for_each(|case| add_case(tests, case));
        open.extend(suite.suites.iter());
    }
}

fn add_case(tests: &mut Tests, case: &TestCase) {
    // NaN and what is negative count as nothing.
    tests.duration_ms = tests.duration_ms.saturating_add((case.time.max(0.0) * 1000.0) as u64);
    if case.status.is_skipped() {
        tests.skipped += 1;
    } else if case.status.is_failure() || case.status.is_error() {
        tests.failed += 1;
        if tests.failures.len() < MAX_FAILURES {
            tests.failures.push(failure(case));
        }
    } else {
        tests.passed += 1;
    }
}

fn failure(case: &TestCase) -> TestFailure {
    // With its class's or suite's, as the reader puts it together.
    let name = case.name.clone();
    let (said, text) = match &case.status {
        junit_parser::TestStatus::Failure(failure) => (&failure.message, &failure.text),
        junit_parser::TestStatus::Error(error) => (&error.message, &error.text),
        _ => return TestFailure { name, message: String::new(), file: None },
    };
    let message = if said.trim().is_empty() { text.trim() } else { said.trim() };
    let message = message[..message.floor_char_boundary(MAX_MESSAGE)].to_owned();
    let file = case.file.clone().map(|file| match case.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    });
    TestFailure { name, message, file }
}
