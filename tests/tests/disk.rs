//! Disks that are truly full: under the spool, the work folder and the store. Nothing is lost that was promised, each
//! end is told once and truly, and all goes on when there is room again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::io::ErrorKind;

use agent::config::Mark;
use agent::home::{Home, HomeError};
use agent::spool::{ClaimSpool, Spool};
use buildr::client::ClientError;
use farm::disk::Disk;
use farm::farm::{Farm, Repository, in_memory, over_rabbitmq, over_rabbitmq_in_docker, until};
use protocol::api::{BuildView, Status};
use protocol::report::JobEvent;
use protocol::{ClaimId, Ending, LogName};

const MIB: u64 = 1 << 20;

/// Runs a test on a spool whose disk can be full.
fn with_spool(test: impl FnOnce(&Disk, &Spool, ClaimSpool)) {
    let Some(disk) = Disk::mount(MIB) else { return };
    let spool = Spool::open(disk.path().join("spool")).unwrap();
    let claim = spool.begin(ClaimId::fresh()).unwrap();
    test(&disk, &spool, claim);
}

/// The file of a log, found on the disk.
fn log_on(disk: &Disk, claim: &ClaimSpool, name: &LogName) -> String {
    let file = disk.path().join("spool").join(claim.claim().reveal()).join("logs").join(name.as_str());
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn a_log_that_met_a_full_disk_is_as_long_as_was_promised() {
    with_spool(|disk, spool, claim| {
        let log: LogName = "test".parse().unwrap();
        claim.log(&log, b"before ").unwrap();
        disk.fill(8192);
        let error = claim.log(&log, &[b'x'; 100_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.empty();
        claim.log(&log, b"after").unwrap();
        assert_eq!(log_on(disk, &claim, &log), "before after");
        drop(claim);
        let again = spool.leftovers().unwrap().pop().unwrap();
        assert_eq!(log_on(disk, &again, &log), "before after");
    });
}

#[test]
fn an_event_that_met_a_full_disk_spoils_none_that_follows() {
    with_spool(|disk, spool, claim| {
        claim.event(JobEvent::Settled { acknowledged: true }).unwrap();
        disk.fill(0);
        let long = JobEvent::CheckedOut {
            commit: None,
            branch: None,
            subject: "x".repeat(9000),
            author: String::new(),
            default_branch: None,
        };
        let error = claim.event(long).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.empty();
        claim.event(JobEvent::Settled { acknowledged: false }).unwrap();
        claim.event(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).unwrap();
        drop(claim);
        assert!(spool.leftovers().unwrap().pop().unwrap().is_finished(), "what came after it is lost");
    });
}

#[test]
fn the_end_fits_on_a_full_disk() {
    with_spool(|disk, spool, claim| {
        let log: LogName = "test".parse().unwrap();
        claim.log(&log, b"all of it").unwrap();
        claim.event(JobEvent::Settled { acknowledged: true }).unwrap();
        disk.fill(0);
        // What is left of the last page of either file.
        while claim.log(&log, &[b'x'; 512]).is_ok() {}
        while claim.event(JobEvent::Settled { acknowledged: true }).is_ok() {}
        claim.event(JobEvent::Finished { ending: Ending::passed(), spent: Vec::new() }).unwrap();
        assert!(claim.is_finished());
        drop(claim);
        let again = spool.leftovers().unwrap().pop().unwrap();
        assert!(again.is_finished(), "the end was not kept");
    });
}

#[test]
fn an_agent_gets_no_half_key_on_a_full_disk() {
    let Some(disk) = Disk::mount(MIB) else { return };
    let folder = disk.path().join("agent");
    std::fs::create_dir(&folder).unwrap();
    disk.fill(0);
    let error = Home::open(&folder, Some("a".parse().unwrap())).unwrap_err();
    assert!(matches!(&error, HomeError::Disk { source, .. } if source.kind() == ErrorKind::StorageFull), "{error}");
    disk.empty();
    let key = Home::open(&folder, Some("a".parse().unwrap())).unwrap().identity().public();
    disk.fill(0);
    // And one that has its key begins on a full disk, as the same one.
    assert_eq!(Home::open(&folder, Some("a".parse().unwrap())).unwrap().identity().public(), key);
}

const SMALL: &str = "image: x\nstages: [test]\ntest: {script: [print hello]}\n";

fn message(view: &BuildView) -> &str {
    view.build.message.as_deref().unwrap_or_default()
}

/// Each build is recorded once, with a single attempt.
fn one_attempt(view: &BuildView) {
    assert_eq!(view.attempts.len(), 1, "{view:#?}");
}

/// A farm in memory with one slot, whose agent's folders lie as `place` says.
async fn with_agent(farm: &mut Farm, place: impl FnOnce(farm::farm::Folders) -> farm::farm::Folders) {
    farm.start_coordinator().await;
    farm.place_agent("a", place);
    farm.start_agent("a", 1).await;
}

#[tokio::test]
async fn a_checkout_that_does_not_fit_is_an_error_that_names_the_disk() {
    let Some(disk) = Disk::mount(4 * MIB) else { return };
    in_memory(async |farm| {
        with_agent(farm, |folders| folders.with_work(disk.path().join("work"))).await;
        let large: String = "0123456789abcdef".repeat(1 << 16);
        let repository = Repository::with(&[(".buildr.yml", SMALL), ("large.txt", &large)]);
        disk.fill(MIB / 2);
        let number = farm.api().submit(&repository).await;
        // Another attempt may have more room, here or elsewhere; none has.
        let view = farm.api().until_is(number, Status::Errored).await;
        assert_eq!((view.attempts.len(), view.exit_code), (3, Some(3)), "{view:#?}");
        let place = disk.path().canonicalize().unwrap().display().to_string();
        assert!(message(&view).contains(&place) && message(&view).contains("No space left"), "{}", message(&view));
        farm.folders("a").until_no_work().await;
        disk.empty();
        let number = farm.api().submit(&repository).await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn a_workspace_that_cannot_be_made_leaves_nothing_and_the_slot_lives_on() {
    let Some(disk) = Disk::mount(4 * MIB) else { return };
    in_memory(async |farm| {
        with_agent(farm, |folders| folders.with_work(disk.path().join("work"))).await;
        disk.fill(0);
        let number = farm.api().begin(SMALL).await;
        let errored = |view: &BuildView| view.attempts.iter().any(|one| one.state == "errored");
        let view = farm.api().until(number, errored).await;
        assert_eq!(view.build.status, Status::Queued, "another attempt may have more room: {view:#?}");
        let told = view.attempts[0].loss.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(told.contains("work") && told.contains("No space left"), "{told}");
        disk.empty();
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

#[tokio::test]
async fn a_stage_whose_artifacts_do_not_fit_has_not_passed() {
    let Some(disk) = Disk::mount(8 * MIB) else { return };
    in_memory(async |farm| {
        with_agent(farm, |folders| folders.with_work(disk.path().join("work"))).await;
        let makes =
            "image: x\nstages: [make]\nmake: {script: [write out made, print made, wait-file go], artifacts: [out]}\n";
        let number = farm.api().begin(makes).await;
        farm.api().until_said(number, "make", "made\n").await;
        disk.fill(0);
        farm.folders("a").let_go().await;
        let view = farm.api().until(number, |view| view.attempts.iter().any(|one| one.state == "errored")).await;
        let told = view.attempts[0].loss.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(told.contains("the artifacts of make") && told.contains("No space left"), "{told}");
        disk.empty();
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        assert_eq!(farm.api().client.artifacts(number).await.unwrap()[0].files, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_fills_the_disk_fails_and_its_folder_goes() {
    let Some(disk) = Disk::mount(8 * MIB) else { return };
    over_rabbitmq_in_docker(async |farm| {
        with_agent(farm, |folders| folders.with_work(disk.path().join("work"))).await;
        let image = farm::docker::image();
        let eats = format!("image: {image}\nstages: [eat]\neat: {{script: ['head -c 100000000 /dev/zero >food']}}\n");
        let number = farm.api().begin(&eats).await;
        let view = farm.api().until_is(number, Status::Failed).await;
        one_attempt(&view);
        assert!(farm.api().log(number, "eat").await.contains("No space left on device"));
        farm.folders("a").until_no_work().await;
        let fits = format!("image: {image}\nstages: [eat]\neat: {{script: ['head -c 1000000 /dev/zero >food']}}\n");
        let number = farm.api().begin(&fits).await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

/// A job prints more than fits under the spool.
async fn prints_too_much(farm: &mut Farm, disk: &Disk) {
    with_agent(farm, |folders| folders.with_state(disk.path().join("state"))).await;
    let repository = Repository::with_manifest(SMALL);
    let number = farm.api().submit(&repository).await;
    farm.api().until_is(number, Status::Passed).await;
    farm.folders("a").until_all_said().await;
    let prints = "image: x\nstages: [test, after]\ntest: {script: [wait-file go, bytes 40000000]}\nafter: {script: [print after]}\n";
    repository.commit(&[(".buildr.yml", prints)]);
    let number = farm.api().submit(&repository).await;
    farm.api().until_in_stage(number, 1, "test").await;
    disk.fill(MIB / 2);
    farm.folders("a").let_go().await;
    let view = farm.api().until_is(number, Status::Errored).await;
    one_attempt(&view);
    assert!(message(&view).contains("the agent's disk is full"), "{}", message(&view));
    assert_eq!(view.exit_code, Some(3));
    // What fitted is there, as it was printed, and nobody waits for the rest.
    let log = farm.api().log_of(number, 1, "test").await;
    let line = [&[b'.'; 79][..], b"\n"].concat();
    let expect = line.repeat((32 << 10) / 80);
    assert!(log.chunks(expect.len()).all(|chunk| expect.starts_with(chunk)), "{} bytes", log.len());
    assert!(view.attempts[0].logs.iter().all(|log| log.missing == 0), "{view:#?}");
    farm.folders("a").until_all_said().await;
    farm.folders("a").until_no_work().await;
    disk.empty();
    repository.commit(&[(".buildr.yml", SMALL)]);
    let number = farm.api().submit(&repository).await;
    farm.api().until_is(number, Status::Passed).await;
}

#[tokio::test]
async fn a_job_whose_output_cannot_be_kept_ends_and_its_end_is_told() {
    let Some(disk) = Disk::mount(8 * MIB) else { return };
    in_memory(async |farm| prints_too_much(farm, &disk).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_output_cannot_be_kept_ends_over_rabbitmq_too() {
    let Some(disk) = Disk::mount(8 * MIB) else { return };
    over_rabbitmq(async |farm| prints_too_much(farm, &disk).await).await;
}

#[tokio::test]
async fn a_job_that_nothing_could_be_kept_of_goes_to_another() {
    let Some(disk) = Disk::mount(4 * MIB) else { return };
    in_memory(async |farm| {
        with_agent(farm, |folders| folders.with_state(disk.path().join("state"))).await;
        disk.fill(0);
        let number = farm.api().begin(SMALL).await;
        farm.start_agent("b", 1).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        assert_eq!(view.attempts.last().map(|attempt| attempt.agent.as_str()), Some("b"), "{view:#?}");
        assert!(view.attempts.iter().all(|attempt| attempt.agent == "b" || attempt.state == "abandoned"), "{view:#?}");
        assert!(farm.folders("a").left().is_empty());
        disk.empty();
    })
    .await;
}

/// An agent that takes jobs while a tenth of its disks is free.
async fn with_watchful_agent(farm: &mut Farm, disk: &Disk) {
    farm.start_coordinator().await;
    farm.place_agent("a", |folders| folders.with_state(disk.path().join("state")));
    farm.start_agent_with("a", |config| config.mark = Mark { percent: 10, bytes: 0 }).await;
}

async fn paused(farm: &Farm, is: impl Fn(Option<&str>) -> bool) -> String {
    until("the agent's word about its disk", async || {
        let agent = farm.until_known("a").await;
        is(agent.paused.as_deref()).then(|| agent.paused.unwrap_or_default())
    })
    .await
}

#[tokio::test]
async fn an_agent_whose_disk_is_nearly_full_takes_no_jobs_until_there_is_room() {
    let Some(disk) = Disk::mount(4 * MIB) else { return };
    in_memory(async |farm| {
        disk.fill(MIB / 10);
        with_watchful_agent(farm, &disk).await;
        farm.until_here("a").await;
        let said = paused(farm, |paused| paused.is_some()).await;
        assert!(said.starts_with("disk 2 % free on ") && said.contains("from 12 % on"), "{said}");
        let number = farm.api().begin(SMALL).await;
        assert_eq!(farm.api().build(number).await.build.status, Status::Queued);
        disk.empty();
        farm.api().until_is(number, Status::Passed).await;
        paused(farm, |paused| paused.is_none()).await;
    })
    .await;
}

#[tokio::test]
async fn the_longest_unused_mirrors_go_first_and_what_is_foreign_stays() {
    let Some(disk) = Disk::mount(8 * MIB) else { return };
    in_memory(async |farm| {
        with_watchful_agent(farm, &disk).await;
        // Nothing that can be packed smaller.
        let noise: String = (0..70_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
        let repositories =
            [1, 2, 3].map(|n| Repository::with(&[(".buildr.yml", SMALL), ("noise.txt", &format!("{n}{noise}"))]));
        for repository in &repositories {
            let number = farm.api().submit(repository).await;
            farm.api().until_is(number, Status::Passed).await;
        }
        let mirrors = farm.folders("a").state().join("mirrors");
        let foreign = mirrors.join("linux.git");
        std::fs::create_dir(&foreign).unwrap();
        let lookalike = mirrors.join(format!("{}.git", "0".repeat(64)));
        std::fs::create_dir(&lookalike).unwrap();
        let kept = || {
            let found = std::fs::read_dir(&mirrors).unwrap().flatten().map(|entry| entry.path());
            found.filter(|path| path.extension().is_some_and(|ending| ending == "git")).collect::<Vec<_>>()
        };
        assert_eq!(kept().len(), 5);
        // The first one is used again, so the second is the one that was longest unused.
        let number = farm.api().submit(&repositories[0]).await;
        farm.api().until_is(number, Status::Passed).await;
        let mut by_use = kept();
        by_use.retain(|path| path.with_extension("lock").exists());
        by_use.sort_by_key(|path| path.with_extension("lock").metadata().unwrap().modified().unwrap());
        // What is still to be sent takes room too, which would cost a second mirror.
        farm.folders("a").until_all_said().await;
        farm.folders("a").until_no_work().await;
        // Less than the mark, and with one mirror less enough again.
        disk.fill(8 * MIB * 95 / 1000);
        until("a mirror to go", async || (kept().len() == 4).then_some(())).await;
        assert!(!by_use[0].exists(), "the longest unused");
        assert!(by_use[1].exists() && by_use[2].exists(), "there was enough room");
        assert!(foreign.exists() && lookalike.exists());
        paused(farm, |paused| paused.is_none()).await;
        disk.empty();
        std::fs::remove_dir(foreign).unwrap();
        std::fs::remove_dir(lookalike).unwrap();
        // What is needed again is made anew.
        let number = farm.api().submit(&repositories[1]).await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}

/// What `/health` says, with its status.
async fn health(farm: &Farm) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}/api/v1/health", farm.config.listen)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The disk under the store is full for two leases and more, while a build runs and prints.
async fn full_under_the_store(farm: &mut Farm, disk: &Disk) {
    farm.config.state_dir = disk.path().join("coordinator");
    farm.start_coordinator().await;
    farm.start_agent("a", 1).await;
    let waits = "image: x\nstages: [wait, after]\nwait: {script: [print begun, wait-file go, bytes 300000]}\nafter: {script: [print after, wait-file end]}\n";
    let number = farm.api().begin(waits).await;
    farm.api().until_said(number, "wait", "begun\n").await;
    let repository = Repository::with_manifest(SMALL);
    let submit = protocol::api::Submit::new(repository.url(), None);
    disk.fill(0);
    // The database's log has some room of its own, which is used up first: what is accepted meanwhile is kept.
    let mut accepted = Vec::new();
    let refusal = loop {
        match farm.api().client.submit(&submit).await {
            Ok(view) => accepted.push(view.build.number),
            Err(error) => break error,
        }
    };
    let ClientError::Refused { status, reason } = &refusal else { panic!("{refusal:?}") };
    assert!(status.as_u16() == 507 && reason.contains("database lies on is full"), "{refusal:?}");
    // The build goes on, and its end is kept by the agent.
    farm.folders("a").let_go().await;
    farm.folders("a").until_told_of("after").await;
    let said = until("the farm to say so", async || {
        let (status, text) = health(farm).await;
        (status == 503).then_some(text)
    })
    .await;
    let why = ["is full", "No space left"];
    assert!(said.contains("waits to be stored") && why.iter().any(|why| said.contains(why)), "{said}");
    farm.folders("a").let_end().await;
    farm.folders("a").until_a_result().await;
    // Two leases: this is the fault itself.
    tokio::time::sleep(farm.config.lease * 2).await;
    assert_eq!(farm.api().build(number).await.build.status, Status::Running, "nothing was stored, and nobody gave up");
    disk.empty();
    let view = farm.api().until_is(number, Status::Passed).await;
    one_attempt(&view);
    assert!(view.attempts[0].logs.iter().all(|log| log.complete), "{view:#?}");
    let line = [&[b'.'; 79][..], b"\n"].concat();
    let expect = [b"begun\n".to_vec(), line.repeat(300_000 / 80)].concat();
    assert!(farm.api().log_of(number, 1, "wait").await == expect);
    assert_eq!(farm.api().log_of(number, 1, "after").await, b"after\n");
    for &number in &accepted {
        one_attempt(&farm.api().until_is(number, Status::Passed).await);
    }
    assert_eq!(farm.api().builds().await.len(), accepted.len() + 1, "what was refused is not there");
    until("the farm to be well", async || (health(farm).await.0 == 200).then_some(())).await;
    farm.folders("a").until_all_said().await;
}

#[tokio::test]
async fn a_full_disk_under_the_store_loses_nothing_and_no_lease() {
    let Some(disk) = Disk::mount(16 * MIB) else { return };
    in_memory(async |farm| full_under_the_store(farm, &disk).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_store_loses_nothing_over_rabbitmq_either() {
    let Some(disk) = Disk::mount(16 * MIB) else { return };
    over_rabbitmq(async |farm| full_under_the_store(farm, &disk).await).await;
}
