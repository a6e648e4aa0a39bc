//! Where in a log a person should look first: the line that most likely says why its stage failed. Pure.

/// Within how many of the last lines it is looked for.
const LOOKED_THROUGH: usize = 2000;

/// Within how many of them a line counts that only mentions a failure.
const MENTIONED_WITHIN: usize = 60;

/// How much a line tells of why something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tells {
    /// Nothing.
    Nothing,
    /// It mentions a failure.
    Mentions,
    /// It says what failed.
    What,
    /// It says why.
    Why,
}

/// The first of the lines that says why, else what failed, else the first of the last ones that mentions a failure.
pub(super) fn first_error<T: AsRef<str>>(lines: &[T]) -> Option<usize> {
    let from = lines.len().saturating_sub(LOOKED_THROUGH);
    let late = lines.len().saturating_sub(MENTIONED_WITHIN);
    let telling: Vec<(usize, Tells)> =
        lines.iter().enumerate().skip(from).map(|(place, line)| (place, tells(line.as_ref()))).collect();
    let first = |least: Tells, from: usize| telling.iter().find(|(place, tells)| *tells >= least && *place >= from);
    let found = first(Tells::Why, 0).or_else(|| first(Tells::What, 0)).or_else(|| first(Tells::Mentions, late));
    found.map(|(place, _)| *place)
}

/// How a line begins that says why: in any language's tools, as they have it.
const WHY_BEGINS: [&str; 16] = [
    "error:",
    "error[",
    "fatal:",
    "fatal error",
    "e   ",
    "--- fail",
    "traceback (most recent call last)",
    "panic:",
    "not ok ",
    "[error]",
    "npm err!",
    "exception in thread",
    "uncaught ",
    "failure:",
    "● ",
    "failed:",
];

/// What a line has that says why.
const WHY_HAS: [&str; 22] = [
    "panicked at",
    ": error:",
    ": error ",
    ": fatal error:",
    "): error",
    "assertionerror",
    "assertion failed",
    "assertion `",
    "segmentation fault",
    "command not found",
    ": not found",
    "no such file or directory",
    "permission denied",
    "cannot find ",
    "could not find",
    "undefined reference",
    "no space left on device",
    "out of memory",
    "connection refused",
    "syntaxerror",
    "syntax error",
    "unable to resolve",
];

/// What a line has that says what failed.
const WHAT_HAS: [&str; 8] =
    ["... failed", "failed!", "build failed", "build failure", "✗", "✕", "tests failed", "[fail]"];

const MENTIONS: [&str; 9] =
    ["error", "failed", "failure", "fail ", "exception", "assert", "abort", "killed", "expected"];

/// What a line has that is no failure although it reads like one.
const HARMLESS: [&str; 12] = [
    " 0 failed",
    "0 errors",
    "no error",
    "errors: 0",
    "failed: 0",
    "failures: 0",
    "0 failures",
    "... ok",
    "test result: ok",
    "without error",
    "warning:",
    "error: 0",
];

fn tells(line: &str) -> Tells {
    let bare = line.trim();
    // A command that is announced says what it was about to do.
    if bare.is_empty() || bare.starts_with("$ ") || bare.starts_with("+ ") {
        return Tells::Nothing;
    }
    let lower = bare.to_lowercase();
    let has = |signs: &[&str]| signs.iter().any(|sign| lower.contains(sign));
    // The last word of `make` says only that something before it failed.
    if lower.starts_with("make: ***") || lower.starts_with("make[") {
        return if lower.contains("***") { Tells::Mentions } else { Tells::Nothing };
    }
    if has(&HARMLESS) || lower.ends_with(" ok") || lower.starts_with("pass") {
        return Tells::Nothing;
    }
    // pytest writes its `E` with three blanks behind it, at the beginning of the line.
    let begins = WHY_BEGINS.iter().any(|sign| lower.starts_with(sign) && (*sign != "e   " || line.starts_with("E   ")));
    if begins || has(&WHY_HAS) || names_a_place_and_error(&lower) {
        return Tells::Why;
    }
    if has(&WHAT_HAS) || bare.starts_with("FAIL") {
        return Tells::What;
    }
    if has(&MENTIONS) { Tells::Mentions } else { Tells::Nothing }
}

/// `12:5  error  …`, as linters write.
fn names_a_place_and_error(lower: &str) -> bool {
    let mut words = lower.split_whitespace();
    let place = words.next().is_some_and(|word| {
        word.split_once(':').is_some_and(|(line, column)| {
            let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            number(line) && number(column)
        })
    });
    place && words.next() == Some("error")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a log the line that ends with `<-` is to be found; in one without, none.
    #[track_caller]
    fn check(log: &str) {
        let lines: Vec<&str> = log.lines().map(str::trim_start).collect();
        let expect = lines.iter().position(|line| line.ends_with("<-"));
        let bare: Vec<&str> = lines.iter().map(|line| line.trim_end_matches("<-")).collect();
        assert_eq!(first_error(&bare), expect, "{log}");
    }

    #[test]
    fn compilers() {
        check(
            "$ cargo build
             Compiling demo v0.1.0
             warning: unused variable: `error`
             error[E0425]: cannot find value `x` in this scope<-
             --> src/main.rs:2:13
             error: could not compile `demo` (bin \"demo\") due to 1 previous error",
        );
        check(
            "cc -o x x.c\nx.c: In function 'main':\nx.c:3:5: error: 'y' undeclared<-\nmake: *** [Makefile:2: x] Error 1",
        );
        check("tsc\nsrc/a.ts(3,5): error TS2322: Type 'string' is not assignable.<-\nFound 1 error.");
        check("[INFO] Compiling\n[ERROR] /src/A.java:[3,5] cannot find symbol<-\n[INFO] BUILD FAILURE");
        check("/usr/bin/ld: a.o: undefined reference to `f'<-\ncollect2: error: ld returned 1 exit status");
    }

    #[test]
    fn test_runners() {
        check(
            "running 2 tests
             test error_is_shown ... ok
             test parse::empty ... FAILED
             ---- parse::empty stdout ----
             thread 'parse::empty' panicked at src/parse.rs:12:9:<-
             assertion `left == right` failed
             test result: FAILED. 1 passed; 1 failed; 0 ignored",
        );
        check(
            "test_x.py .F
             def test_b():
             >       assert f() == 2
             E       assert 1 == 2<-
             test_x.py:5: AssertionError
             FAILED test_x.py::test_b - assert 1 == 2",
        );
        check("=== RUN TestA\n--- FAIL: TestA (0.00s)<-\na_test.go:7: got 1, want 2\nFAIL\nexit status 1");
        check("PASS src/a.test.js\nFAIL src/b.test.js\n● sum › adds<-\nexpect(received).toBe(expected)");
        check("ok 1 - one\nnot ok 2 - two<-\n# failed 1 of 2");
        check("FAIL: test_b (test_x.T)\nTraceback (most recent call last):<-\nAssertionError: 1 != 2");
        check("suite: 3 tests\nFAIL: b\nwanted 2<-".replace("<-", "").replace("FAIL: b", "FAIL: b<-").as_str());
    }

    #[test]
    fn tools_and_shells() {
        check("$ make\nsh: 1: make: not found<-");
        check("bash: line 3: foo: command not found<-");
        check("ls: cannot access 'x': No such file or directory<-");
        check("/src/a.js\n  3:5  error  'x' is not defined  no-undef<-\n1 problem (1 error, 0 warnings)");
        check("fatal: repository 'https://x/y' not found<-");
        check("panic: runtime error: index out of range [3]<-\ngoroutine 1 [running]:");
        check("Segmentation fault (core dumped)<-");
        check("starting\nKilled<-");
    }

    #[test]
    fn what_is_no_error() {
        check("$ test -f error.log\n+ grep failed log\nall is well");
        check("test result: ok. 12 passed; 0 failed; 0 ignored");
        check("0 errors, 0 warnings\nBuild finished without error");
        check("");
    }

    #[test]
    fn a_mention_counts_only_near_the_end() {
        let far = format!("the error handler is set up\n{}", "line\n".repeat(100));
        check(&far);
        check("line\nline\nthe download was aborted<-\nline");
        // What is far from the end, but plain, counts.
        let plain = format!("x.c:1:1: error: no<-\n{}", "note\n".repeat(100));
        check(&plain);
    }
}
