//! One suite of manifests, each built in three ways: by `buildr run`, by a farm in one process, and by a farm over
//! RabbitMQ, with real containers. What a manifest means must not depend on where it is carried out.
//!
//! A scenario is a folder `tests/scenarios/NN-name` with a `buildr.yml`, the project's other `files`, and what is
//! expected. What is a table in `expected.toml` may have the tables `local` and `farm` in it, for what truly differs
//! there: on a laptop there is nobody to release a gate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

#[path = "conformance/expected.rs"]
mod expected;
#[path = "conformance/told.rs"]
mod told;
#[path = "conformance/ways.rs"]
mod ways;

use std::path::PathBuf;

use libtest_mimic::{Arguments, Failed, Trial};

use expected::Scenario;
use farm::docker;
use ways::Way;

fn main() {
    let mut arguments = Arguments::from_args();
    // As in all other tests.
    arguments.test_threads = arguments.test_threads.or_else(threads);
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut scenarios: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    scenarios.sort();
    let trials = scenarios.into_iter().flat_map(|path| {
        [Way::Local, Way::Memory, Way::Rabbitmq].map(|way| {
            let path = path.clone();
            let name = format!("{}::{}", way.name(), path.file_name().unwrap().to_string_lossy());
            Trial::test(name, move || run(&path, way))
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kept = runtime.block_on(docker::outliving());
    let ended = libtest_mimic::run(&arguments, trials.collect());
    runtime.block_on(docker::remove_outliving_but(&kept));
    ended.exit();
}

/// How many at once, as in all other tests.
#[expect(clippy::disallowed_methods, reason = "a test reads its own settings")]
fn threads() -> Option<usize> {
    std::env::var("RUST_TEST_THREADS").ok()?.parse().ok()
}

fn run(path: &std::path::Path, way: Way) -> Result<(), Failed> {
    let scenario = Scenario::read(path);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Some(told) = runtime.block_on(way.build(&scenario)) else { return Ok(()) };
    let wrong = scenario.compare(&told, way);
    if wrong.is_empty() { Ok(()) } else { Err(format!("{}\n\n{told:#?}", wrong.join("\n")).into()) }
}
