//! Courses of events from seeds: what no scenario thinks of. `BUILDR_SIM_SEED=N` runs one again, `BUILDR_SIM_SEEDS=N` so
//! many; name the test with it, for thousands of courses of the model take seconds, and hundreds of the real parts a
//! minute.

use farm::simulation::model::{self, Without};
use farm::simulation::{parts, seeds};
use futures_util::StreamExt as _;

#[test]
fn the_protocol_keeps_its_promises() {
    let wrong: Vec<String> = seeds(6_000).filter_map(|seed| model::run(seed, Without::Nothing).err()).take(3).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_of_its_rules_is_needed() {
    for (without, expect) in [
        (Without::Waiting, "must not run twice"),
        (Without::Memory, "must not run twice"),
        (Without::OwnPause, "is well, and lost"),
        (Without::Backlog, "is well, and lost"),
        (Without::Resending, "still open"),
        (Without::Healing, "still open"),
        (Without::Turns, "before its turn"),
    ] {
        let found = (0..5_000).find_map(|seed| model::run(seed, without).err().filter(|wrong| wrong.contains(expect)));
        assert!(found.is_some(), "nothing goes wrong without {without:?}");
    }
}

/// Many farms beside each other: they mostly wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_parts_keep_their_promises() {
    let courses = futures_util::stream::iter(seeds(24)).map(parts::run).buffer_unordered(64);
    let wrong: Vec<String> = courses.filter_map(async |course| course.err()).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
