//! Disks that are truly full: under the spool, the work folder and the store. Nothing is lost that was promised, each
//! end is told once and truly, and all goes on when there is room again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in what its cases share")]

use std::io::ErrorKind;

use agent::spool::{ClaimSpool, Spool};
use farm::disk::Disk;
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
        let long =
            JobEvent::CheckedOut { commit: None, branch: None, subject: "x".repeat(9000), author: String::new() };
        let error = claim.event(long).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        disk.empty();
        claim.event(JobEvent::Settled { acknowledged: false }).unwrap();
        claim.event(JobEvent::Finished { ending: Ending::passed() }).unwrap();
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
        claim.event(JobEvent::Finished { ending: Ending::passed() }).unwrap();
        assert!(claim.is_finished());
        drop(claim);
        let again = spool.leftovers().unwrap().pop().unwrap();
        assert!(again.is_finished(), "the end was not kept");
    });
}
