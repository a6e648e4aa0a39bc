//! What `buildr run` costs, as ratios against Docker's own command in the same run. Not part of every test run, for
//! figures want a quiet machine: `cargo test --release -p buildr-tests --test cli figures -- --ignored --nocapture`.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::place::{Place, image};

/// How often each thing is done; the median counts.
const TIMES: usize = 9;

/// The time that a command takes to its end, in which it must succeed.
async fn took(mut command: Command) -> Duration {
    let began = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap();
    assert!(status.success(), "{command:?}: {status}");
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

#[tokio::test]
#[ignore = "figures want a quiet machine"]
async fn figures() {
    let Some(place) = Place::new().await else { return };
    let stages = |count: usize, script: &str| {
        let mut manifest = format!("image: {}\n", image());
        for number in 0..count {
            write!(manifest, "s{number}:\n  script: '{script}'\n").unwrap();
        }
        manifest
    };
    let docker = |script: &str| {
        let mut command = place.command("docker");
        command.args(["run", "--rm", &image(), "/bin/sh", "-c", script]);
        command
    };
    let (mut bare, mut one, mut six) = (Vec::new(), Vec::new(), Vec::new());
    // Turn by turn, so that what else the machine does falls on all alike.
    for _ in 0..TIMES {
        bare.push(took(docker("true")).await);
        place.write(".buildr.yml", stages(1, "true"));
        one.push(took(place.buildr(&["run"])).await);
        place.write(".buildr.yml", stages(6, "true"));
        six.push(took(place.buildr(&["run"])).await);
    }
    let (bare, one, six) = (median(bare), median(one), median(six));
    let (mut raw, mut logged) = (Vec::new(), Vec::new());
    // About 50 MB.
    let long = "seq 1 6400000";
    place.write(".buildr.yml", stages(1, long));
    for _ in 0..3 {
        raw.push(took(docker(long)).await);
        logged.push(took(place.buildr(&["run"])).await);
    }
    let (raw, logged) = (median(raw), median(logged));
    println!("docker run --rm IMAGE true      {bare:.3} s");
    println!("buildr run, one stage           {one:.3} s   {:.2} of docker run", one / bare);
    println!(
        "each further stage              {:.3} s   {:.2} of docker run",
        (six - one) / 5.0,
        (six - one) / 5.0 / bare
    );
    println!("docker run, 50 MB of output     {raw:.3} s");
    println!("buildr run, 50 MB of output     {logged:.3} s   {:.2} of docker run", logged / raw);
    place.nothing_is_left().await;
}
