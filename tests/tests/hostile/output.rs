//! What is printed: too much, in one line, in too many, and not for people.

use buildr::client::LogAddress;
use farm::farm::{Api, Repository};
use farm::processes::with_processes;
use protocol::BuildNumber;
use protocol::api::Status;

use crate::manifest;

/// How much memory a process had at most so far, in MiB.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Reads a log that begins with the announcement of its commands and goes on with these bytes.
async fn holds(api: &Api, build: BuildNumber, announced: &str, expect: impl Iterator<Item = u8>) {
    let log = "test".parse().unwrap();
    let mut reader = api.client.log(LogAddress { build, attempt: 1, log }, 0, u64::MAX);
    let mut expect = announced.bytes().chain(expect);
    let mut offset = 0u64;
    while let Some(bytes) = reader.next().await.unwrap() {
        for byte in bytes {
            assert_eq!(Some(byte), expect.next(), "byte {offset}");
            offset += 1;
        }
    }
    assert_eq!(expect.count(), 0, "the log ends after {offset} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_printed_comes_whole() {
    with_processes(20, async |farm| {
        farm.start_coordinator().await;
        farm.start_agent("a").await;
        farm.until_here("a").await;
        let agent = farm.agent("a").child.as_ref().unwrap().id().unwrap();
        let coordinator = farm.coordinator.as_ref().unwrap().id().unwrap();
        let tell = |what: &str| {
            eprintln!("memory | {what} | agent {} MiB | coordinator {} MiB at most", peak(agent), peak(coordinator));
        };
        tell("before");
        let run = async |command: &str| {
            let repository = Repository::with_manifest(&manifest(&[command]));
            let number = farm.api().submit(&repository).await;
            farm.api().until_is(number, Status::Passed).await;
            number
        };

        const LINE: usize = 200_000_000;
        let command = format!("head -c {LINE} /dev/zero | tr \"\\0\" x");
        let number = run(&command).await;
        tell("200 MB on one line");
        holds(&farm.api(), number, &format!("$ {command}\n"), std::iter::repeat_n(b'x', LINE)).await;

        let command = "for i in 1 2 3 4; do for a in 0 1 2 3; do for b in 0 1 2 3 4 5 6 7; do for c in 0 1 2 3 4 5 6 7; do printf \"\\\\$a$b$c\"; done; done; done; done";
        let number = run(command).await;
        let all = (0..4).flat_map(|_| 0..=u8::MAX);
        holds(&farm.api(), number, &format!("$ {command}\n"), all).await;

        let command = "seq 1 1000000";
        let number = run(command).await;
        tell("a million lines");
        let lines = (1..=1_000_000).flat_map(|number: u32| format!("{number}\n").into_bytes());
        holds(&farm.api(), number, &format!("$ {command}\n"), lines).await;
        farm.agent("a").until_clean().await;
    })
    .await;
}
