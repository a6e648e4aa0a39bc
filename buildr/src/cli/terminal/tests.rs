//! What a person sees of a build, in each of the ways to show it.

use protocol::plan::{BuildPlan, PlannedJob, StagePlan};
use protocol::report::{TestFailure, Tests};
use protocol::{Cause, Outcome, Plan, StageEnd, StageName, StageOutcome};
use tempfile::TempDir;

use super::*;

fn name(text: &str) -> StageName {
    text.parse().unwrap()
}

struct Shown {
    folder: TempDir,
    terminal: Terminal<Vec<u8>>,
}

impl Shown {
    fn new(frame: Frame, verbose: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = Record::begin(folder.path()).unwrap().unwrap();
        let style = Style { frame, look: Look::plain(None), verbose };
        let terminal = Terminal::sized(Vec::new(), style, record, || Size { rows: 24, columns: 60 });
        Self { folder, terminal }
    }

    fn event(&self, job: Option<&str>, event: &JobEvent) {
        self.terminal.happened(job.map(|job| job.parse().unwrap()).as_ref(), event).unwrap();
    }

    /// `JOB/STAGE: STAGE<NEED,NEED …`
    fn planned(&self, jobs: &[(&str, &str)]) {
        let jobs = jobs.iter().map(|(key, stages)| {
            let stages = stages.split(' ').map(|stage| {
                let (own, needs) = stage.split_once('<').map_or((stage, None), |(own, needs)| (own, Some(needs)));
                let mut plan = StagePlan::new(name(own), Vec::new());
                plan.needs = needs.map(|needs| needs.split(',').map(name).collect());
                plan
            });
            PlannedJob::new(key.parse().unwrap(), Plan::new("alpine", stages.collect()))
        });
        self.event(None, &JobEvent::Planned { jobs: jobs.collect(), build: BuildPlan::default() });
    }

    fn starts(&self, job: &str, stage: &str) {
        let started = JobEvent::StageStarted { stage: name(stage), image: "alpine".to_owned(), not_twice: true };
        self.event(Some(job), &started);
    }

    fn prints(&self, job: &str, log: &str, text: &str) {
        self.terminal.printed(Some(&job.parse().unwrap()), &log.parse().unwrap(), text.as_bytes()).unwrap();
    }

    fn ends(&self, job: &str, stage: &str, result: StageOutcome, duration_ms: u64) {
        self.event(Some(job), &JobEvent::StageEnded { stage: name(stage), result, duration_ms });
    }

    fn summary(&mut self, ending: &Ending) {
        // However slow the machine is: what takes a second is written in another way.
        self.terminal.began = Instant::now();
        let next = Next { commands: vec![("again", "buildr run --from test".to_owned())] };
        self.terminal.summary(ending, &next).unwrap();
    }

    /// All that was written, with what differs from run to run masked.
    fn text(self) -> String {
        let text = String::from_utf8(self.terminal.screen.into_inner().unwrap().out).unwrap();
        let text = text.replace(self.folder.path().to_str().unwrap(), "OUT");
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

fn failed(code: i64) -> StageOutcome {
    StageOutcome::Failed { end: StageEnd::Exited { code } }
}

fn skipped(reason: &str) -> StageOutcome {
    StageOutcome::Skipped { reason: reason.to_owned() }
}

fn ending(message: &str) -> Ending {
    Ending::of(Outcome::Failed, Some(message.to_owned()))
}

/// One stage after the other, of which the second fails.
fn in_a_row(frame: Frame) -> String {
    let mut shown = Shown::new(frame, false);
    shown.planned(&[("build", "lint test ship")]);
    shown.prints("build", "0-job", "copy of /x\n");
    for (stage, pieces) in [("lint", &["half"][..]), ("test", &["one\ntw", "", "o\n\n\x1b[2Jlast"])] {
        shown.starts("build", stage);
        for piece in pieces {
            shown.prints("build", stage, piece);
        }
        let result = if stage == "lint" { StageOutcome::Passed } else { failed(137) };
        shown.ends("build", stage, result, 1234);
    }
    shown.ends("build", "ship", skipped("test failed"), 0);
    shown.prints("build", "0-job", "cleaned");
    shown.summary(&ending("test failed: exit code 137"));
    shown.text()
}

#[test]
fn what_is_taken_from_an_earlier_build_is_called_cached() {
    for (frame, lines) in [
        (Frame::Scroll, &["✓ prepare cached 0.3s", "✓ test 1.2s", "passed    prepare      0.3s  cached"][..]),
        (Frame::Prefixes, &["passed    prepare      0.3s  cached", "passed    test         1.2s"]),
    ] {
        let mut shown = Shown::new(frame, false);
        shown.planned(&[("build", "test")]);
        for (stage, took) in [("prepare", 300), ("test", 1234)] {
            shown.starts("build", stage);
            if stage == "prepare" {
                shown.event(Some("build"), &JobEvent::StageReused { stage: name(stage) });
            }
            shown.ends("build", stage, StageOutcome::Passed, took);
        }
        shown.summary(&Ending::passed());
        let text = shown.text();
        for line in lines {
            assert!(text.lines().any(|shown| shown == *line), "{line:?} is not in\n{text}");
        }
    }
}

/// Stages side by side.
fn side_by_side(frame: Frame, verbose: bool) -> Shown {
    let shown = Shown::new(frame, verbose);
    shown.planned(&[("build", "build unit<build lint<build ship"), ("unit (os=a)", "unit")]);
    shown.starts("build", "unit");
    shown.starts("build", "lint");
    shown.prints("build", "unit", "test a … ok\ntest b … FAILED\n");
    shown.prints("build", "lint", "looking at\t\x1b[31mfile 1\x1b[0m");
    let failures = vec![TestFailure {
        name: "parse::empty".to_owned(),
        message: "left: 1\nright: 2".to_owned(),
        file: Some("src/parse.rs:12".to_owned()),
    }];
    let tests = Tests { passed: 213, failed: 1, skipped: 0, duration_ms: 7, failures };
    shown.event(Some("build"), &JobEvent::TestsRead { stage: name("unit"), tests });
    shown.event(Some("build"), &JobEvent::CoverageRead { stage: name("unit"), lines: 8105 });
    shown.ends("build", "unit", failed(101), 3210);
    let kept = JobEvent::ArtifactsKept {
        stage: name("lint"),
        files: 2,
        bytes: 5000,
        sha256: "ab".to_owned(),
        expire_ms: None,
    };
    shown.event(Some("build"), &kept);
    shown.ends("build", "lint", StageOutcome::Passed, 4000);
    shown.terminal.passed_over(&"deploy".parse().unwrap(), "nobody said yes");
    shown
}

/// What stands on a screen at last, whatever was drawn and taken away before.
fn screen(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            assert!(before.is_empty(), "{line:?}");
            let (rows, after) = after.split_once("A\r\x1b[J").unwrap();
            lines.truncate(lines.len() - rows.parse::<usize>().unwrap());
            rest = after;
        }
        lines.push(rest.to_owned());
    }
    lines.join("\n")
}

#[test]
fn in_a_pipe_every_line_says_where_it_is_from() {
    insta::assert_snapshot!(mask(&in_a_row(Frame::Prefixes).replace('\x1b', "ESC")), @"
    copy of /x
    lint | starts on alpine
    lint | half
    test | starts on alpine
    test | one
    test | two
    test |
    test | ESC[2Jlast
    cleaned

    passed    lint      1.2s
    failed    test      1.2s  exit code 137 (killed, most often for want of memory)
    skipped   ship            test failed
    failed: test failed: exit code 137 (TIME)
      again: buildr run --from test
    ");
}

#[test]
fn on_a_plain_terminal_output_comes_as_it_is() {
    insta::assert_snapshot!(mask(&in_a_row(Frame::Scroll)), @"
    copy of /x

    ── lint ── alpine
    half
    ✓ lint 1.2s

    ── test ── alpine
    one
    two

    last
    ✗ test exit code 137 (killed, most often for want of memory) 1.2s
    – ship skipped: test failed
    cleaned

    passed    lint      1.2s
    failed    test      1.2s  exit code 137 (killed, most often for want of memory)
    skipped   ship            test failed
    failed: test failed: exit code 137 (TIME)
      again: buildr run --from test
    ");
}

#[test]
fn on_a_terminal_what_runs_stands_below() {
    let text = in_a_row(Frame::Live);
    insta::assert_snapshot!(mask(&screen(&text)), @"
    copy of /x

    ── lint ── alpine
    half
    ✓ lint 1.2s

    ── test ── alpine
    one
    two

    last
    ✗ test exit code 137 (killed, most often for want of memory) 1.2s
    – ship skipped: test failed
    cleaned

    passed    lint      1.2s
    failed    test      1.2s  exit code 137 (killed, most often for want of memory)
    skipped   ship            test failed
    failed: test failed: exit code 137 (TIME)
      again: buildr run --from test
    ");
    let mut live = text.lines().filter(|line| line.contains("⠋ test"));
    assert!(live.next_back().unwrap().ends_with("  last"), "{text:?}");
}

#[test]
fn side_by_side_only_what_failed_is_shown() {
    let mut shown = side_by_side(Frame::Live, false);
    shown.summary(&ending("unit failed: exit code 101"));
    insta::assert_snapshot!(mask(&screen(&shown.text())), @"

    ── build/unit ──
    test a … ok
    test b … FAILED
    ✗ build/unit exit code 101 3.2s
    ✓ lint 4.0s
    – deploy skipped: nobody said yes

    build/unit failed: exit code 101
      ✗ parse::empty (src/parse.rs:12)
          left: 1

    failed    build/unit      3.2s  exit code 101
    passed    lint            4.0s
    skipped   deploy: nobody said yes
    artifacts: OUT/artifacts/lint (2 files, 4.9 KiB)
    failed: unit failed: exit code 101 (TIME) · 1 of 214 tests failed · 81.05% of the lines covered
      again: buildr run --from test
    ");
}

#[test]
fn side_by_side_in_a_pipe() {
    let mut shown = side_by_side(Frame::Prefixes, false);
    shown.summary(&ending("unit failed: exit code 101"));
    insta::assert_snapshot!(mask(&shown.text().replace('\x1b', "ESC")), @"
    build/unit | starts on alpine
    lint | starts on alpine
    build/unit | test a … ok
    build/unit | test b … FAILED
    lint | looking at	ESC[31mfile 1ESC[0m
    build/unit | failed: exit code 101 (3.2s)
    lint | passed (4.0s)
    – deploy skipped: nobody said yes

    build/unit failed: exit code 101
      │ test a … ok
      │ test b … FAILED
      ✗ parse::empty (src/parse.rs:12)
          left: 1

    failed    build/unit      3.2s  exit code 101
    passed    lint            4.0s
    skipped   deploy: nobody said yes
    artifacts: OUT/artifacts/lint (2 files, 4.9 KiB)
    failed: unit failed: exit code 101 (TIME) · 1 of 214 tests failed · 81.05% of the lines covered
      again: buildr run --from test
    ");
}

#[test]
fn all_is_shown_to_who_wants_it() {
    let text = screen(&side_by_side(Frame::Live, true).text());
    assert!(text.contains("build/unit | test a … ok\n"), "{text}");
}

#[test]
fn a_narrow_terminal_breaks_no_line() {
    let shown = side_by_side(Frame::Live, false);
    shown.starts("build", "ship");
    shown.prints("build", "ship", &"x".repeat(200));
    shown.terminal.tick().unwrap();
    let text = shown.text();
    let live = text.rsplit("\x1b[J").next().unwrap();
    assert!(live.contains("ship") && live.contains('…') && console::measure_text_width(live) < 60, "{text}");
}

#[test]
fn more_stages_than_rows_are_counted() {
    let shown = Shown::new(Frame::Live, false);
    let stages: Vec<String> = (0..30).map(|number| format!("s{number}<a")).collect();
    shown.planned(&[("build", &format!("a {}", stages.join(" ")))]);
    for number in 0..30 {
        shown.starts("build", &format!("s{number}"));
    }
    let text = screen(&shown.text());
    assert!(text.lines().count() <= 13 && text.contains("  and 19 more"), "{text}");
}

#[test]
fn what_failed_stays_in_sight() {
    let mut shown = Shown::new(Frame::Scroll, false);
    let message = "the image \"x\" could not be pulled".to_owned();
    let errored = StageOutcome::Errored { cause: Cause::Pull, message: message.clone(), again: false };
    shown.ends("build", "s0", errored, 20);
    for number in 1..300 {
        shown.ends("build", &format!("s{number}"), skipped("s0 errored"), 0);
    }
    shown.summary(&Ending::errored(Cause::Pull, message));
    insta::assert_snapshot!(mask(shown.text().trim_start()), @r#"
    ✗ s0 errored: pull 0.0s
    – s1 skipped: s0 errored
    – s2 skipped: s0 errored
    – s3 skipped: s0 errored
    – s4 skipped: s0 errored

    errored   s0      0.0s  pull
    skipped   299 stages, s1 to s299: s0 errored
    errored (pull): the image "x" could not be pulled (TIME)
      again: buildr run --from test
    "#);
}

#[test]
fn programs_read_one_object_per_line() {
    let mut shown = side_by_side(Frame::Json, false);
    shown.terminal.header(&Header { version: "0", ..Header::default() }).unwrap();
    shown.terminal.note("a \x1b[2J note").unwrap();
    shown.summary(&ending("unit failed: exit code 101"));
    let text = shown.text();
    let events: Vec<String> = text
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(value["at_ms"].is_u64() && value.get("job").is_some(), "{line}");
            value["event"].as_str().unwrap().to_owned()
        })
        .collect();
    let all = "planned stage_started stage_started log log tests_read coverage_read stage_ended artifacts_kept \
               stage_ended passed_over begun note ended";
    assert_eq!(events.join(" "), all);
    assert!(text.contains(r#""text":"looking at\t\u001b[31mfile 1\u001b[0m""#), "{text}");
}

#[test]
fn the_whole_output_is_written_down() {
    let shown = side_by_side(Frame::Live, false);
    let text = std::fs::read_to_string(shown.folder.path().join("logs/build/unit.log")).unwrap();
    assert_eq!(text, "test a … ok\ntest b … FAILED\n");
    let raw = std::fs::read_to_string(shown.folder.path().join("logs/build/lint.log")).unwrap();
    assert!(raw.contains('\x1b'), "{raw}");
}

/// The time that a run really took is masked; what events say is as they say.
fn mask(text: &str) -> String {
    text.lines()
        .map(|line| match (line.find(" (0."), line.find("in 0.")) {
            (Some(at), _) => {
                line[..at].to_owned() + " (TIME)" + line[at..].split_once(')').map_or("", |(_, rest)| rest)
            }
            (_, Some(at)) => {
                line[..at].to_owned() + "in TIME" + line[at + 3..].split_once('s').map_or("", |(_, rest)| rest)
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}
