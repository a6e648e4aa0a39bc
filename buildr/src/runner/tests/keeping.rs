//! Artifacts whose farm is in trouble: what becomes of the stage that made them, and of a job that needs them.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use protocol::StagePlan;
use protocol::job::Depot;
use protocol::plan::{Artifacts, KeepWhen, Kept};

use super::walk::{Ran, keeps, run_on, stage};
use super::*;
use crate::carry::{self, Collected};

/// A job whose artifacts go to this address.
fn ground(port: u16) -> Ground {
    let mut ground = Ground::of("print x");
    ground.order.depot = Some(Depot { url: format!("http://127.0.0.1:{port}"), token: "t".to_owned() });
    ground
}

/// A stage that leaves a file, and one after it.
fn plan(not_twice: bool) -> Plan {
    let first = keeps(&["out"], stage("a", &["write out made"]));
    Plan::new("any", vec![StagePlan { not_twice, ..first }, stage("b", &["print b"])])
}

/// Answers one request.
fn answer(farm: &TcpListener, status: &str, body: &[u8]) {
    let (mut stream, _) = farm.accept().unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
}

/// Such a job on a farm that answers so, as often as it is asked.
async fn answered(status: &'static str, times: usize, not_twice: bool) -> Ran {
    let farm = TcpListener::bind("127.0.0.1:0").unwrap();
    let ground = ground(farm.local_addr().unwrap().port());
    let answering = std::thread::spawn(move || (0..times).for_each(|_| answer(&farm, status, b"")));
    let ran = run_on(ground, plan(not_twice)).await;
    answering.join().unwrap();
    ran
}

#[tokio::test]
async fn a_farm_that_takes_nothing_so_large_is_the_users_to_mend() {
    let ran = answered("413 Payload Too Large", 2, false).await;
    ran.check("passed", "a passed, b passed");
    assert!(ran.log("a")[0].starts_with("the artifacts could not be kept: "), "{}", ran.logs);
}

#[tokio::test]
async fn a_stage_whose_artifacts_the_farm_cannot_keep_has_not_passed() {
    for not_twice in [false, true] {
        let ran = answered("401 Unauthorized", 1, not_twice).await;
        ran.check("errored", "a errored, b skipped: a errored");
        assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Daemon });
        assert_eq!(ran.ending.again, !not_twice, "what must not run twice is not tried again for its artifacts");
        let message = ran.ending.message.unwrap();
        assert!(message.starts_with("the artifacts of a could not be kept: "), "{message}");
    }
}

#[tokio::test]
async fn who_waits_for_a_farm_that_is_away_ends_when_it_is_asked_to() {
    // Nobody listens there.
    let ground = ground(1);
    let (stop, began) = (ground.stop.clone(), Instant::now());
    let cancel = async {
        // Long after it has said that it waits, however slow the machine is.
        tokio::time::sleep(Duration::from_secs(15)).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(run_on(ground, plan(false)), cancel);
    ran.check("cancelled", "a cancelled, b skipped: the build was cancelled");
    assert!(ran.log("a")[0].starts_with("the artifacts cannot be brought to the farm yet: "), "{}", ran.logs);
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_a_job_needs_is_fetched_from_a_farm_that_comes_back() {
    let farm = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ground = ground(farm.local_addr().unwrap().port());
    let (from, into) = (ground.folder.path().join("made"), ground.folder.path().join("archive"));
    std::fs::create_dir(&from).unwrap();
    std::fs::write(from.join("out"), "made").unwrap();
    let what =
        Artifacts { paths: vec!["out".to_owned()], exclude: Vec::new(), when: KeepWhen::Always, expire_ms: None };
    let Collected { archive, files, bytes, sha256 } = carry::collect(&from, &what, &into, &|| false).unwrap().unwrap();
    let (job, by) = ("one".parse().unwrap(), "make".parse().unwrap());
    ground.order.kept = vec![Kept { job, stage: by, files, bytes, sha256, after: None }];
    let answering = std::thread::spawn(move || {
        // More often than it is asked without a word.
        for _ in 0..5 {
            answer(&farm, "503 Service Unavailable", b"");
        }
        answer(&farm, "200 OK", &std::fs::read(archive).unwrap());
    });
    let ran = run_on(ground, Plan::new("any", vec![stage("a", &["read out"])])).await;
    answering.join().unwrap();
    ran.check("passed", "a passed");
    assert_eq!(ran.log("a"), ["made"]);
    assert!(ran.logs.contains(": the artifacts of make cannot be brought here yet: "), "{}", ran.logs);
}
