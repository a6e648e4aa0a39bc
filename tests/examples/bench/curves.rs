//! How cost grows: with agents, builds, stages, bytes of log, followers. It must grow with the work alone.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use farm::farm::{Repository, in_memory};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::builds::{stages_manifest, warm};
use crate::logs::stored;
use crate::raw::ms_since;
use crate::rig::{Parts, Rig, forget_peak, memory, with_rig};
use crate::row::median;
use crate::store::{answers, begun, fill};
use crate::throughput::SCRIPTED;

/// One picture.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Curve {
    /// What `--only` calls it, and its file.
    pub(crate) name: String,
    /// What it shows.
    pub(crate) title: String,
    /// What grows.
    pub(crate) x: String,
    /// What that costs.
    pub(crate) y: String,
    /// Each with its points.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// What can be drawn.
pub(crate) const CURVES: [&str; 5] = ["agents", "builds", "stages", "bytes", "followers"];

/// Measures one.
pub(crate) async fn measure(name: &str) -> Result<Curve> {
    let (title, x, y, lines) = match name {
        "agents" => (
            "Dispatch of 200 builds in one process, memory link, scripted executor",
            "agents of one slot",
            "ms a build",
            agents().await?,
        ),
        "builds" => ("Answers of the API", "builds in the store", "ms", builds().await?),
        "stages" => ("A build of stages of one echo, in containers", "stages", "ms a stage", stages().await?),
        "bytes" => ("A log of short lines", "bytes", "MB/s, and MB of memory", bytes().await?),
        _ => (
            "Followers of one log of 300 kB",
            "followers",
            "ms of the coordinator's processor time each",
            followers().await?,
        ),
    };
    let (title, x, y) = (title.to_owned(), x.to_owned(), y.to_owned());
    Ok(Curve { name: name.to_owned(), title, x, y, lines })
}

type Lines = Vec<(String, Vec<(f64, f64)>)>;

async fn agents() -> Result<Lines> {
    const BUILDS: u32 = 200;
    let mut points = Vec::new();
    for count in [1, 10, 100, 1_000_u32] {
        let took = std::sync::Mutex::new(None);
        in_memory(async |farm| {
            // As on a farm that is no test's.
            farm.config.heartbeat = Duration::from_secs(15);
            farm.config.lease = Duration::from_secs(60);
            farm.config.beacon = Duration::from_secs(15);
            farm.start_coordinator().await;
            for number in 0..count {
                farm.start_agent(&format!("a{number}"), 1).await;
            }
            farm.until_here(&format!("a{}", count - 1)).await;
            let repository = Repository::with_manifest(SCRIPTED);
            let began = Instant::now();
            let mut last = None;
            for _ in 0..BUILDS {
                last = Some(farm.api().submit(&repository).await);
            }
            if let Some(last) = last {
                farm.api().until_over(last).await;
            }
            for row in farm.api().builds().await {
                farm.api().until_over(row.number).await;
            }
            if let Ok(mut took) = took.lock() {
                *took = Some(ms_since(began));
            }
        })
        .await;
        let took = took.into_inner().ok().flatten().context("builds that ended")?;
        points.push((f64::from(count), took / f64::from(BUILDS)));
    }
    Ok(vec![("asked for → all over".to_owned(), points)])
}

async fn builds() -> Result<Lines> {
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("coordinator");
    begun(&state).await?;
    let mut lines: Lines = ["first page", "one build", "of a branch"].map(|name| (name.to_owned(), Vec::new())).into();
    let mut filled = 0;
    for count in [100, 1_000, 10_000, 100_000, 1_000_000_u32] {
        fill(&state, filled + 1, u64::from(count)).await?;
        filled = u64::from(count);
        for (line, figures) in lines.iter_mut().zip(answers(&state, filled, 30).await?) {
            line.1.push((f64::from(count), median(&figures.ours).context("an answer")?));
        }
    }
    Ok(lines)
}

async fn stages() -> Result<Lines> {
    let points = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let mut points = Vec::new();
        for count in [1, 3, 10, 30, 100] {
            let repo = rig.town.make(&format!("of-{count}"), &stages_manifest(count, "echo x"), 0, 0).await?;
            if count == 1 {
                warm(rig, &repo).await?;
            }
            points.push((f64::from(count), rig.timed(&repo).await? / f64::from(count)));
        }
        Ok(points)
    })
    .await?;
    Ok(vec![("whole build, for each stage".to_owned(), points)])
}

async fn bytes() -> Result<Lines> {
    let (rates, agent, coordinator) = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        warm(rig, &rig.town.make("small", &stages_manifest(1, "true"), 0, 0).await?).await?;
        let (mut rates, mut agent, mut coordinator) = (Vec::new(), Vec::new(), Vec::new());
        // `seq` from 1,000,000 on prints eight bytes a line.
        for lines in [125, 1_250, 12_500, 125_000, 1_250_000, 12_500_000, 62_500_000_u32] {
            let script = format!("seq 1000000 {}", 999_999 + lines);
            let repo = rig.town.make(&format!("log-{lines}"), &stages_manifest(1, &script), 0, 0).await?;
            forget_peak(rig.agent()?)?;
            forget_peak(rig.coordinator()?)?;
            let (bytes, rate) = stored(rig, &repo).await?;
            #[expect(clippy::cast_precision_loss, reason = "half a thousand million")]
            let x = bytes as f64;
            rates.push((x, rate));
            agent.push((x, memory(rig.agent()?, "VmHWM")?));
            coordinator.push((x, memory(rig.coordinator()?, "VmHWM")?));
        }
        Ok((rates, agent, coordinator))
    })
    .await?;
    let line = |name: &str, points| (name.to_owned(), points);
    Ok(vec![
        line("MB/s, first byte → stored", rates),
        line("MB, agent at its peak", agent),
        line("MB, coordinator at its peak", coordinator),
    ])
}

/// A log that comes in pieces, for as long as it takes all followers to be there.
const PIECES: &str =
    "until [ -e go ]; do sleep 0.1; done; for i in 1 2 3 4 5 6 7 8 9 10; do seq 1000000 1003749; sleep 0.1; done";

async fn followers() -> Result<Lines> {
    let (cost, slowest) = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("pieces", &stages_manifest(1, PIECES), 0, 0).await?;
        let (mut cost, mut slowest) = (Vec::new(), Vec::new());
        for count in [1, 10, 100, 1_000, 10_000_u32] {
            let (ms, wait) = followed(rig, &repo, count).await?;
            cost.push((f64::from(count), ms / f64::from(count)));
            slowest.push((f64::from(count), wait / f64::from(count)));
        }
        Ok((cost, slowest))
    })
    .await?;
    Ok(vec![
        ("processor time for each".to_owned(), cost),
        ("build's end → the last has it all, for each".to_owned(), slowest),
    ])
}

/// The coordinator's processor time for so many followers of one build, and how long after its end the last of them had
/// all of it, in milliseconds.
async fn followed(rig: &Rig, repo: &protocol::RepoUrl, count: u32) -> Result<(f64, f64)> {
    let folders = farm::farm::Folders::at(rig.folder.join("agent"));
    let number = rig.submit(repo).await?;
    let before = processor_ms(rig.coordinator()?)?;
    let mut following = JoinSet::new();
    for _ in 0..count {
        following.spawn(read_all(rig.address.clone(), rig.token.clone(), number.0));
        // The listener's queue of those who knock is short.
        if following.len() % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    folders.let_go().await;
    rig.passes(number).await?;
    let ended = Instant::now();
    let mut whole = 0;
    while let Some(read) = following.join_next().await {
        // 300,000 bytes in base64.
        whole += u32::from(read?? > 400_000);
    }
    anyhow::ensure!(whole == count, "{} of {count} followers did not get all of it", count - whole);
    Ok((processor_ms(rig.coordinator()?)? - before, ms_since(ended)))
}

async fn read_all(address: String, token: String, number: u64) -> Result<usize> {
    let mut stream = TcpStream::connect(&address).await?;
    let request = format!(
        "GET /api/v1/builds/{number}/follow HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut piece, mut all) = (vec![0; 16 << 10], 0);
    loop {
        match stream.read(&mut piece).await? {
            0 => return Ok(all),
            read => all += read,
        }
    }
}

/// The processor time of a process so far, in milliseconds: in steps of ten, as the kernel counts.
fn processor_ms(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after = stat.rsplit_once(") ").context("a name")?.1;
    let ticks: Vec<f64> = after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() * 10.0)
}
