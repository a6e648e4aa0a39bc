//! Any bytes, read as a manifest and planned. Nothing may panic, what is refused is told at its place, and what is
//! planned holds together and crosses the wire unchanged.

#![no_main]

use std::collections::BTreeSet;

use buildr::manifest::{self, ManifestError, Problem};
use buildr::plan::{Facts, PlanError, Planned, compile_one};
use libfuzzer_sys::fuzz_target;
use protocol::PlannedJob;
use protocol::job::TriggerKind;

/// Each problem lies within the text, says what to do, and is shown without what drives a terminal.
fn check_told(bytes: &[u8], problems: &[Problem]) {
    let lines = 1 + bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for problem in problems {
        let (line, column) = problem.place();
        assert!((1..=lines).contains(&line) && column >= 1, "{problem}");
        assert!(!problem.message().is_empty() && !problem.help().is_empty(), "{problem}");
        let shown = problem.to_string();
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
}

/// A push, a tag and a pull request, of which now this and now that is known.
fn occasions() -> [Facts; 3] {
    let branch = |name: &str| name.parse().ok();
    let changed = |path: &str| Some(vec![path.to_owned()]);
    [
        Facts { branch: branch("main"), changed: changed("docs/a.md"), ..Facts::new(TriggerKind::Push) },
        Facts { tag: Some("v1".to_owned()), ..Facts::new(TriggerKind::Tag) },
        Facts {
            branch: branch("change"),
            target: branch("main"),
            default_branch: branch("main"),
            pull_request: Some(1),
            changed: changed("src/main.rs"),
            ..Facts::new(TriggerKind::PullRequest)
        },
    ]
}

/// Jobs have names of their own, need none that is not there, and the coordinator reads what the agent writes.
fn check_planned(planned: &Planned) {
    let keys: BTreeSet<&str> = planned.jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys.len(), planned.jobs.len(), "a key is there twice");
    for job in &planned.jobs {
        assert!(job.needs.iter().all(|need| need != &job.key && keys.contains(need.as_str())), "{job:?}");
    }
    let written = serde_json::to_string(&planned.jobs).expect("a plan has JSON");
    let read: Vec<PlannedJob> = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(read, planned.jobs);
}

fuzz_target!(|bytes: &[u8]| {
    let reading = match manifest::read(bytes, ".buildr.yml") {
        Ok(reading) => reading,
        Err(ManifestError::Faulty { problems, .. }) => {
            assert!(!problems.is_empty());
            return check_told(bytes, &problems);
        }
        Err(other) => panic!("{other}"),
    };
    check_told(bytes, &reading.warnings);
    check_told(bytes, &manifest::habits(&reading.manifest));
    for facts in occasions() {
        match compile_one(&reading.manifest, &facts) {
            Ok(planned) => {
                check_told(bytes, &planned.warnings);
                check_planned(&planned);
            }
            Err(PlanError::Manifest(ManifestError::Faulty { problems, .. })) => check_told(bytes, &problems),
            // A panic there.
            Err(error @ PlanError::Failed) => panic!("{error}"),
            Err(other) => assert!(!other.to_string().is_empty()),
        }
    }
});
