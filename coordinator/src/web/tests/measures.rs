//! What is told to those who watch over a farm.

use protocol::job::TriggerKind;
use protocol::outcome::Ending;
use protocol::report::JobEvent;
use tempfile::tempdir;

use super::ask;
use crate::intake::{self, Trigger};
use crate::testing::Farm;

#[tokio::test]
async fn the_farm_in_numbers() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    farm.submit().await;
    let (_, head, text) = ask(&farm, "GET /metrics", "", "").await;
    assert!(head.contains("openmetrics-text"), "{head}");
    for line in ["buildr_jobs_queued 1", "buildr_agents 0", "buildr_queue_wait_seconds_count 0", "# EOF"] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    let agent = farm.agent("a1").await;
    let (claimed, _) = agent.work(&farm).await;
    agent.log(claimed.claim, "test", 0, "twelve bytes").await;
    agent.hear_kept(claimed.claim).await;
    agent.finish(claimed.claim, Ending::passed()).await;
    farm.submit().await;
    // What was counted is counted once.
    for _ in 0..2 {
        let (_, _, text) = ask(&farm, "GET /metrics", "", "").await;
        for line in [
            "buildr_builds{status=\"passed\"} 1",
            "buildr_builds{status=\"queued\"} 1",
            "buildr_jobs_running 0",
            "buildr_agents 1",
            "buildr_slots 2",
            "buildr_log_bytes 12",
            "buildr_queue_wait_seconds_count 1",
            "buildr_dead_letters 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
    assert_eq!(ask(&farm, "GET /healthz", "", "").await.0, 200);
    assert_eq!(ask(&farm, "GET /readyz", "", "").await.0, 200);
    farm.desk.store.note_trouble(crate::store::Sent::Logs, Some("the disk is full".to_owned()));
    let (status, _, said) = ask(&farm, "GET /readyz", "", "").await;
    assert_eq!((status, said.trim()), (503, "the disk is full"));
    assert_eq!(ask(&farm, "GET /healthz", "", "").await.0, 200);
    farm.stop().await;
    // One that begins anew counts what is new.
    let farm = Farm::start(&folder).await;
    let (_, _, text) = ask(&farm, "GET /metrics", "", "").await;
    assert!(text.lines().any(|found| found == "buildr_queue_wait_seconds_count 0"), "{text}");
    farm.stop().await;
}

#[tokio::test]
async fn a_badge_tells_how_a_branch_stands() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a1").await;
    for (url, branch, ending) in [
        ("https://me:secret@Example.org/a/x.git", "main", Ending::passed()),
        ("git@example.org:a/x", "next", Ending::cancelled("enough")),
    ] {
        let trigger = Trigger {
            branch: Some(branch.parse().unwrap()),
            ..Trigger::new(url.parse().unwrap(), TriggerKind::Manual)
        };
        intake::submit(&farm.desk, &trigger, None).await.unwrap();
        let (claimed, _) = agent.work(&farm).await;
        let commit = Some("0123456789012345678901234567890123456789".parse().unwrap());
        let checked_out = JobEvent::CheckedOut {
            branch: Some(branch.parse().unwrap()),
            default_branch: Some("main".parse().unwrap()),
            commit,
            subject: String::new(),
            author: String::new(),
        };
        agent.happened(claimed.claim, checked_out).await;
        agent.finish(claimed.claim, ending).await;
    }
    for (path, word) in [
        ("example.org/a/x.svg", "passed"),
        ("example.org/a/x.svg?branch=main", "passed"),
        ("example.org/a/x.svg?branch=next", "cancelled"),
        ("example.org/a/x.svg?branch=%3Cscript%3E", "unknown"),
        ("example.org/a/other.svg", "unknown"),
    ] {
        let (status, head, svg) = ask(&farm, &format!("GET /badge/{path}"), "", "").await;
        assert_eq!((status, svg.contains(&format!("build: {word}<"))), (200, true), "{path}: {svg}");
        assert!(head.contains("image/svg+xml") && !svg.contains("secret") && !svg.contains("script"), "{head} {svg}");
    }
    assert_eq!(ask(&farm, "GET /badge/example.org/a/x", "", "").await.0, 404);
    farm.stop().await;
}
