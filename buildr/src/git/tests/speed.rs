//! How long a workspace takes, beside git's own way in the same run.

use super::laid::{Ground_, git, may_mount};
use super::*;
use crate::overlay::Way;

/// A repository of so many files, in folders of a hundred, all of bytes that no packing makes less.
fn large(files: usize, bytes: usize) -> Ground_ {
    let ground = Ground_::new();
    let mut command = Command::new("git");
    command.args(["fast-import", "--quiet"]).current_dir(ground.path("source")).stdin(Stdio::piped());
    let mut import = command.spawn().unwrap();
    let mut stream = std::io::BufWriter::new(import.stdin.take().unwrap());
    let head = "commit refs/heads/main\ncommitter Ada <ada@example.org> 1700000000 +0000\ndata 5\nlarge\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut seed = 1_u64;
    for number in 0..files {
        let line = format!("M 644 inline d{}/{}/file{number}\ndata {bytes}\n", number / 2000, number / 100);
        stream.write_all(line.as_bytes()).unwrap();
        for _ in 0..bytes / 8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            stream.write_all(&seed.to_be_bytes()).unwrap();
        }
        stream.write_all(b"\n").unwrap();
    }
    drop(stream);
    assert!(import.wait().unwrap().success());
    ground
}

#[tokio::test]
#[ignore = "a measurement: run it alone on a quiet machine, with --ignored --nocapture"]
async fn how_long_a_workspace_takes() {
    assert!(may_mount());
    let ground = large(20_000, 10_000);
    let clone = |into: &str| {
        let began = std::time::Instant::now();
        let (from, to) = (ground.path("source"), ground.path(into));
        git(ground.folder.path(), &["clone", "-q", "--local", from.to_str().unwrap(), to.to_str().unwrap()]);
        began.elapsed().as_secs_f64()
    };
    let mut made = 0;
    let mut laid = async |way: Way| {
        made += 1;
        let floor = ground.floor(&format!("laid{made}"), way);
        let began = std::time::Instant::now();
        ground.lay(&floor, None).await;
        let took = began.elapsed().as_secs_f64();
        let began = std::time::Instant::now();
        assert_eq!(git(floor.path(), &["status", "--porcelain"]), "");
        let status = began.elapsed().as_secs_f64();
        let began = std::time::Instant::now();
        drop(floor);
        (took, status, began.elapsed().as_secs_f64())
    };
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    println!("mirror and kept checkout made: {:.3} s", laid(Way::Overlay).await.0);
    let (mut clones, mut same, mut ten, mut status, mut gone) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..3 {
        clones.push(clone(&format!("clone{round}")));
        for times in [&mut same, &mut ten] {
            let (took, asked, removed) = laid(Way::Overlay).await;
            times.push(took);
            status.push(asked);
            gone.push(removed);
            for number in 0..10 {
                ground.commit("main", &format!("new{number}"), &format!("{round} {number}"));
            }
        }
        println!(
            "round {round}: clone {:.3} s, the same {:.4} s, ten files {:.4} s",
            clones[round], same[round], ten[round]
        );
        // The next begins with what is new in the mirror.
        laid(Way::Overlay).await;
    }
    let base = median(clones);
    for (what, times) in [("nothing new", same), ("ten files new, fetched", ten), ("status", status), ("removed", gone)]
    {
        let took = median(times);
        println!("{what}: {took:.4} s, {:.3} of git clone --local ({base:.3} s)", took / base);
    }
    println!("written anew: {:.3} s", laid(Way::Plain).await.0);
}
