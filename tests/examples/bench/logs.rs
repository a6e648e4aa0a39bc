//! Logs: how much of one goes through, what memory that takes, and how soon a line is seen.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use buildr::client::{Followed, LogAddress};
use protocol::BuildNumber;

use crate::builds::{stages_manifest, warm};
use crate::raw::Raw;
use crate::rig::{Parts, Rig, forget_peak, memory, until, with_rig};
use crate::row::{About, Figures, Goal, Row, quantile};

/// `seq 1 N` for 50 MB.
const LINES: u32 = 6_380_000;

const MB: f64 = 1e6;

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

/// 50 MB of short lines.
pub(crate) async fn volume(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let script = format!("seq 1 {LINES}");
    let parts = Parts { slots: 1, ..Parts::default() };
    let (rates, agent, coordinator) = with_rig(parts, async |rig| {
        let small = rig.town.make("small", &stages_manifest(1, "seq 1 1000"), 0, 0).await?;
        let repo = rig.town.make("log", &stages_manifest(1, &script), 0, 0).await?;
        warm(rig, &small).await?;
        let (mut rates, mut agent, mut coordinator) = <(Figures, Figures, Figures)>::default();
        for _ in 0..(rounds / 6).max(1) {
            rates.floor.push(attached(&raw, &script).await?);
            forget_peak(rig.agent()?)?;
            forget_peak(rig.coordinator()?)?;
            let (_, rate) = stored(rig, &repo).await?;
            rates.ours.push(rate);
            agent.ours.push(memory(rig.agent()?, "VmHWM")?);
            coordinator.ours.push(memory(rig.coordinator()?, "VmHWM")?);
            rates.bound.push(brokered(rig).await?);
        }
        Ok((rates, agent, coordinator))
    })
    .await?;
    let about = |name, what, unit, goal| About { name, what, unit, goal, floor_is: "", bound_is: "" };
    Ok(vec![
        rates.row(&About {
            name: "log.rate",
            what: "log of 50 MB, short lines, first byte → all stored and readable",
            unit: "MB/s",
            goal: Goal::AtLeastTimes(0.7),
            floor_is: "attach alone, log driver none",
            bound_is: "the broker alone: as many bytes in pieces of 64 KiB, confirmed, handed on, acknowledged",
        }),
        agent.row(&about("log.agent", "the agent's memory at its peak in that", "MB", Goal::AtMost(40.0))),
        coordinator.row(&about(
            "log.coordinator",
            "the coordinator's memory at its peak in that",
            "MB",
            Goal::AtMost(40.0),
        )),
    ])
}

/// MB a second from the first byte to the last, as attach alone delivers them.
pub(crate) async fn attached(raw: &Raw, script: &str) -> Result<f64> {
    let (mut first, mut bytes) = (None, 0);
    raw.printed(script, |printed| {
        first.get_or_insert_with(Instant::now);
        bytes += printed.len();
    })
    .await?;
    let first = first.context("a byte")?;
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    Ok(bytes as f64 / MB / first.elapsed().as_secs_f64())
}

/// Bytes and MB a second from the first byte's coming to the agent until all are stored and readable.
pub(crate) async fn stored(rig: &Rig, repo: &protocol::RepoUrl) -> Result<(u64, f64)> {
    let number = rig.submit(repo).await?;
    let whole = until("a log to be whole", async || {
        let view = rig.api.build(number).await.ok()?;
        let log = view.attempts.last()?.logs.iter().find(|log| log.name.as_str() == "s1")?.clone();
        log.complete.then_some(log)
    })
    .await?;
    let ended = now_ms();
    let address = LogAddress { build: number, attempt: 1, log: "s1".parse()? };
    // Readable to its last byte.
    let mut reader = rig.api.log(address.clone(), whole.bytes.saturating_sub(8), u64::MAX);
    let last = reader.next().await?.context("the log's end")?;
    ensure!(last.ends_with(b"\n") && whole.missing == 0, "a log that is not whole");
    let times = rig.api.log_times(&address).await?;
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century, some millions of bytes")]
    let (first, bytes) = (times.pieces.first().context("a piece")?.1 as f64, whole.bytes as f64);
    rig.passes(number).await?;
    Ok((whole.bytes, bytes / MB / ((ended - first) / 1000.0)))
}

/// The same bytes through the broker alone.
async fn brokered(rig: &Rig) -> Result<f64> {
    const PIECE: usize = 64 << 10;
    let pieces = crate::broker::confirmed(&rig.vhost.uri(), 50_000_000 / PIECE, PIECE).await?;
    #[expect(clippy::cast_precision_loss, reason = "64 KiB")]
    Ok(pieces * PIECE as f64 / MB)
}

/// Prints the time, again and again.
const CLOCK: &str = "i=0; while [ $i -lt COUNT ]; do date +%s%N; sleep 0.02; i=$((i+1)); done";

/// Printed → visible to a follower, with two busy slots.
pub(crate) async fn latency(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let script = CLOCK.replace("COUNT", &(rounds * 14).to_string());
    let (ours, floor) = with_rig(Parts { slots: 2, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("clock", &stages_manifest(1, &script), 0, 0).await?;
        warm(rig, &rig.town.make("small", &stages_manifest(1, "true"), 0, 0).await?).await?;
        let (one, two) = (rig.submit(&repo).await?, rig.submit(&repo).await?);
        let (one, two) = tokio::try_join!(delays(rig, one), delays(rig, two))?;
        let mut floor = Vec::new();
        let mut lines = Lines::default();
        raw.printed(&script, |printed| lines.push(printed, &mut floor)).await?;
        Ok(([one, two].concat(), floor))
    })
    .await?;
    ensure!(ours.len() > 20, "only {} lines were seen", ours.len());
    let (half, tail) = (quantile(&ours, 0.5).context("lines")?, quantile(&ours, 0.99).context("lines")?);
    let figures = Figures { ours: vec![tail], floor: quantile(&floor, 0.99).into_iter().collect(), bound: Vec::new() };
    let row = figures.row(&About {
        name: "latency",
        what: "log line printed → visible to a follower, 99th percentile, 2 busy slots",
        unit: "ms",
        goal: Goal::AtMost(100.0),
        floor_is: "attach alone, log driver none, one container",
        bound_is: "",
    });
    Ok(vec![
        crate::row::Row { samples: ours.len(), quartiles: None, ..row }
            .with_note(format!("half of the lines within {half:.1} ms")),
    ])
}

/// Lines that say when they were printed, out of pieces.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Adds how long each line that is now whole has been on its way, in milliseconds.
    fn push(&mut self, bytes: &[u8], delays: &mut Vec<f64>) {
        let now = now_ms();
        self.0.extend_from_slice(bytes);
        while let Some(end) = self.0.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            let printed = std::str::from_utf8(&line).ok().and_then(|line| line.trim().parse::<f64>().ok());
            delays.extend(printed.map(|ns| now - ns / 1e6));
        }
    }
}

async fn delays(rig: &Rig, number: BuildNumber) -> Result<Vec<f64>> {
    let mut following = rig.api.follow(number);
    let (mut delays, mut lines) = (Vec::new(), Lines::default());
    while let Some(followed) = following.next().await? {
        if let Followed::Log { log, bytes, .. } = followed
            && log.as_str() == "s1"
        {
            lines.push(&bytes, &mut delays);
        }
    }
    Ok(delays)
}
