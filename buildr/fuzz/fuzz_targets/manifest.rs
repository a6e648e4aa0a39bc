//! Any bytes, read as a manifest and planned. Nothing may panic, and what is refused is told.

#![no_main]

use buildr::manifest::{self, ManifestError};
use buildr::plan::{Facts, compile_one};
use libfuzzer_sys::fuzz_target;
use protocol::job::TriggerKind;

fuzz_target!(|bytes: &[u8]| {
    match manifest::read(bytes, ".buildr.yml") {
        Ok(reading) => {
            manifest::habits(&reading.manifest);
            for event in [TriggerKind::Push, TriggerKind::Tag, TriggerKind::PullRequest] {
                let branch = "main".parse().ok();
                let tag = (event == TriggerKind::Tag).then(|| "v1".to_owned());
                let changed = Some(vec!["docs/a.md".to_owned()]);
                let facts = Facts { branch, tag, changed, ..Facts::new(event) };
                if let Err(error) = compile_one(&reading.manifest, &facts) {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        Err(ManifestError::Faulty { problems, .. }) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let (line, column) = problem.place();
                assert!(line > 0 && column > 0 && !problem.message().is_empty() && !problem.help().is_empty());
            }
        }
        Err(other) => panic!("{other}"),
    }
});
