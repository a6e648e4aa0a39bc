//! Where a build's time went, as its agent wrote it down and the farm tells it.

use farm::farm::{in_memory, over_rabbitmq_in_docker};
use protocol::api::{AttemptTimeline, Status, Timeline};
use protocol::report::Part;

/// The parts of an attempt in order, with their stages.
fn parts(attempt: &AttemptTimeline) -> Vec<String> {
    let name = |part: Part, stage: Option<&str>| format!("{} {}", part.name(), stage.unwrap_or("-"));
    attempt.spans.iter().map(|span| name(span.part, span.stage.as_ref().map(protocol::StageName::as_str))).collect()
}

/// No span begins before its build was asked for or ends after it, give or take a millisecond of rounding.
fn check_bounds(timeline: &Timeline) {
    for span in timeline.attempts.iter().flat_map(|attempt| &attempt.spans) {
        assert!(span.at_ms + span.ms <= timeline.ms + 5, "{span:?} of {timeline:#?}");
    }
}

#[tokio::test]
async fn each_part_of_a_build_is_told_once_it_is_over() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        let manifest = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go]}\nafter: {script: [print after]}\n";
        let number = farm.api().begin(manifest).await;
        let asked = farm.api().client.timeline(number).await.unwrap();
        assert!(asked.attempts.is_empty() && asked.build.number == number, "{asked:#?}");
        farm.start_agent("a", 1).await;
        farm.api().until_said(number, "wait", "begun\n").await;
        let running = farm.api().client.timeline(number).await.unwrap();
        assert!(!running.attempts[0].over);
        assert_eq!(parts(&running.attempts[0]), ["queue -"]);
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        let over = farm.api().client.timeline(number).await.unwrap();
        let [attempt] = &over.attempts[..] else { panic!("{over:#?}") };
        assert!(attempt.over && attempt.agent.as_str() == "a", "{over:#?}");
        let found = parts(attempt);
        for part in ["queue -", "claim -", "checkout -", "plan -", "start wait", "script wait", "script after", "report -"] {
            assert!(found.iter().any(|found| found == part), "{part} is not in {found:?}");
        }
        let place = |part: &str| found.iter().position(|found| found == part).unwrap();
        assert!(place("checkout -") < place("script wait") && place("script wait") < place("script after"), "{found:?}");
        check_bounds(&over);
    })
    .await;
}

#[tokio::test]
async fn jobs_that_wait_for_others_are_in_no_queue_meanwhile() {
    in_memory(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let manifest =
            "image: x\nstages: [one, two]\none: {script: [print x]}\ntwo: {script: [print y], parallel: 2}\n";
        let number = farm.api().begin(manifest).await;
        farm.api().until_is(number, Status::Passed).await;
        let timeline = farm.api().client.timeline(number).await.unwrap();
        // The planning, the first job, and two shards.
        assert_eq!(timeline.attempts.len(), 4, "{timeline:#?}");
        let first = &timeline.attempts[1];
        let ended = first.spans.iter().map(|span| span.at_ms + span.ms).max().unwrap();
        for shard in &timeline.attempts[2..] {
            assert!(shard.spans[0].part == Part::Queue && shard.spans[0].at_ms + 1 >= ended, "{timeline:#?}");
        }
        check_bounds(&timeline);
    })
    .await;
}

#[tokio::test]
async fn a_container_is_started_before_its_script() {
    over_rabbitmq_in_docker(async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let image = farm::docker::image();
        let manifest = format!("image: {image}\nstages: [slow]\nslow: {{script: [sleep 2]}}\n");
        let number = farm.api().begin(&manifest).await;
        farm.api().until_is(number, Status::Passed).await;
        let timeline = farm.api().client.timeline(number).await.unwrap();
        let of = |part: Part| {
            let spans = timeline.attempts[0].spans.iter().filter(|span| span.part == part && span.stage.is_some());
            spans.map(|span| (span.at_ms, span.at_ms + span.ms)).collect::<Vec<_>>()
        };
        let (start, script) = (of(Part::Start), of(Part::Script));
        assert!(script[0].1 - script[0].0 > 1000, "the script sleeps for longer: {timeline:#?}");
        assert!(start.iter().all(|(_, ends)| ends <= &script[0].0), "{timeline:#?}");
        check_bounds(&timeline);
    })
    .await;
}
