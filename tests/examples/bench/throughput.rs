//! How many builds a machine does: in containers, without containers, and how fast they are asked for.

use std::time::Instant;

use anyhow::{Context as _, Result};
use farm::farm::Repository;
use futures_util::future::try_join_all;
use protocol::api::{BuildRow, Builds};

use crate::builds::{trivial_manifest, warm};
use crate::caller::Caller;
use crate::raw::{Raw, rate};
use crate::rig::{Parts, Rig, until, with_rig};
use crate::row::{About, Figures, Goal, Row, median};

/// How many builds of the 200 are done before it is the floor's turn again.
const BATCH: u32 = 50;

/// How many builds are dispatched to find out how many are done in some seconds.
const TRIED: u32 = 200;

/// The runtime that is measured besides the daemon's own, where the daemon knows it.
const FASTER: &str = "crun";

/// 200 trivial builds with two slots, in batches that alternate with the floor; and again with a faster runtime.
pub(crate) async fn containers(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let what = "200 trivial builds, two slots, network in the container";
    let mut rows = vec![by_runtime(&raw, rounds, "throughput", what, &[]).await?];
    if raw.knows_runtime(FASTER).await? {
        let what = format!("the same with `--runtime {FASTER}`; floor and bound are the daemon's own runtime's");
        let told = ["--runtime", FASTER];
        rows.push(by_runtime(&raw, rounds, &format!("throughput.{FASTER}"), &what, &told).await?);
    }
    Ok(rows)
}

async fn by_runtime(raw: &Raw, rounds: u32, name: &str, what: &str, agent: &[&str]) -> Result<Row> {
    let (figures, bare) = with_rig(Parts { slots: 2, agent, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("trivial", &trivial_manifest(), 0, 0).await?;
        warm(rig, &repo).await?;
        let sleeper = raw.sleeper().await?;
        let (joined, folder) = (format!("container:{sleeper}"), rig.folder.join("bound"));
        std::fs::create_dir(&folder)?;
        let (mut figures, mut bare) = (Figures::default(), Vec::new());
        for _ in 0..(rounds / 7).clamp(1, 4) {
            figures.floor.push(rate(BATCH, 2, || raw.whole("bridge")).await?);
            figures.ours.push(batch(rig, &repo, BATCH).await?);
            figures.bound.push(rate(BATCH, 2, || raw.stage(&joined, &folder, "true")).await?);
            bare.push(rate(BATCH, 2, || raw.whole(&joined)).await?);
        }
        raw.end(&sleeper).await?;
        Ok((figures, median(&bare)))
    })
    .await?;
    let row = figures.row(&About {
        name,
        what,
        unit: "/s",
        goal: Goal::AtLeastTimes(2.5),
        floor_is: "raw API on the bridge, two threads",
        bound_is: "the least that a stage is, raw API, two threads: in a namespace that exists, with a folder, told its \
                   script, its output read",
    });
    let note =
        bare.map(|bare| format!("without folder, script and output the raw API does {bare:.1} /s in that namespace"));
    Ok(row.with_note(note.unwrap_or_default()))
}

/// So many builds at once: how many of them a second.
pub(crate) async fn batch(rig: &Rig, repo: &protocol::RepoUrl, count: u32) -> Result<f64> {
    let began = Instant::now();
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(rig.submit(repo).await?);
    }
    // The last first: when it is over, hardly another is not.
    for number in numbers.into_iter().rev() {
        rig.passes(number).await?;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// What a scripted build says: nothing that takes time.
pub(crate) const SCRIPTED: &str = "image: x\nstages: [hello]\nhello:\n  script: [print hello]\n";

/// Builds a second without Docker, over RabbitMQ, claims and records included.
pub(crate) async fn dispatch(rounds: u32) -> Result<Vec<Row>> {
    let parts = Parts { slots: 8, scripted: true, ..Parts::default() };
    let (figures, note) = with_rig(parts, async |rig| {
        let repository = Repository::with_manifest(SCRIPTED);
        let mut figures = Figures::default();
        let count = some_seconds(dispatched(rig, repository.url().reveal(), TRIED).await?, TRIED);
        let before = until_counted(rig, 0.0).await;
        let repeats = (rounds / 10).max(1);
        for _ in 0..repeats {
            figures.ours.push(dispatched(rig, repository.url().reveal(), count).await?);
        }
        let messages = until_counted(rig, before).await / f64::from(repeats * count);
        let broker = crate::broker::confirmed(&rig.vhost.uri(), 20_000, 600).await?;
        figures.bound.push(broker / messages);
        Ok((
            figures,
            format!("{messages:.1} messages a build; the broker alone confirms and hands on {broker:.0} a second"),
        ))
    })
    .await?;
    let row = figures.row(&About {
        name: "dispatch",
        what: "dispatch with the scripted executor over RabbitMQ, 8 slots",
        unit: "builds/s",
        goal: Goal::AtLeast(1_000.0),
        floor_is: "",
        bound_is: "the broker alone: as many messages, published, confirmed, handed on, acknowledged",
    });
    Ok(vec![row.with_note(note)])
}

/// How many go on for three seconds at this rate: enough to mean something, few enough to be waited for.
fn some_seconds(rate: f64, least: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 5000")]
    let count = (rate * 3.0).clamp(0.0, 5_000.0) as u32;
    count.max(least)
}

/// The broker counts every five seconds: waits until it counts no more.
async fn until_counted(rig: &Rig, before: f64) -> f64 {
    let mut last = before;
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;
        let now = rig.vhost.published().await;
        // The signs of life of those who idle.
        if now - last < 30.0 {
            return now - before;
        }
        last = now;
    }
}

/// Builds a second, from the first grant to the last record, by the coordinator's clock. They wait on their queue before.
pub(crate) async fn dispatched(rig: &Rig, repo: &str, count: u32) -> Result<f64> {
    let agents = rig.api.agents().await?;
    for agent in &agents {
        rig.api.pause(&agent.name.parse()?, None).await?;
    }
    let mut caller = Caller::connect(&rig.address, &rig.token).await?;
    let first = submit_many(&mut caller, repo, count).await?;
    for agent in &agents {
        rig.api.resume(&agent.name.parse()?).await?;
    }
    until("all builds to be over", async || {
        for status in ["queued", "running"] {
            let path = format!("/api/v1/builds?limit=1&status={status}");
            let found: Builds =
                serde_json::from_slice(&Caller::connect(&rig.address, &rig.token).await.ok()?.get(&path).await.ok()?)
                    .ok()?;
            if !found.builds.is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await?;
    let rows = rows_from(&mut caller, first, count).await?;
    let began = rows.iter().filter_map(|row| row.started_ms).min().context("a build that began")?;
    let ended = rows.iter().filter_map(|row| row.ended_ms).max().context("a build that ended")?;
    if let Some(row) = rows.iter().find(|row| row.status != protocol::api::Status::Passed) {
        anyhow::bail!("build {}: {}: {:?}", row.number, row.status.name(), row.message);
    }
    #[expect(clippy::cast_precision_loss, reason = "some seconds")]
    Ok(f64::from(count) * 1000.0 / (ended - began).max(1) as f64)
}

/// Begins builds one after the other; gives the number of the first.
async fn submit_many(caller: &mut Caller, repo: &str, count: u32) -> Result<u64> {
    let body = serde_json::json!({"repo": repo, "branch": "main"}).to_string();
    let mut first = None;
    for _ in 0..count {
        let answer = caller.post("/api/v1/builds", &body).await?;
        if first.is_none() {
            let view: protocol::api::BuildView = serde_json::from_slice(&answer)?;
            first = Some(view.build.number.0);
        }
    }
    first.context("a build")
}

async fn rows_from(caller: &mut Caller, first: u64, count: u32) -> Result<Vec<BuildRow>> {
    let mut rows = Vec::new();
    let mut before = first + u64::from(count);
    while before > first {
        let page = caller.get(&format!("/api/v1/builds?limit=500&before={before}")).await?;
        let page: Builds = serde_json::from_slice(&page)?;
        let Some(last) = page.builds.last() else { break };
        before = last.number.0;
        rows.extend(page.builds);
    }
    rows.retain(|row| row.number.0 >= first);
    Ok(rows)
}

/// Requests for builds that are answered in a second: each is in the store when it is answered.
pub(crate) async fn submit(rounds: u32) -> Result<Vec<Row>> {
    const CALLERS: u32 = 32;
    let figures = with_rig(Parts::default(), async |rig| {
        let mut figures = Figures::default();
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            callers.push(Caller::connect(&rig.address, &rig.token).await?);
        }
        let mut asked = async |each: u32| {
            let began = Instant::now();
            let asking = callers.iter_mut().map(|caller| submit_many(caller, "https://example.org/x.git", each));
            try_join_all(asking).await?;
            anyhow::Ok(f64::from(CALLERS * each) / began.elapsed().as_secs_f64())
        };
        let each = some_seconds(asked(5).await? / f64::from(CALLERS), 5).min(100);
        for _ in 0..(rounds / 6).max(1) {
            figures.ours.push(asked(each).await?);
        }
        Ok(figures)
    })
    .await?;
    Ok(vec![figures.row(&About {
        name: "submit",
        what: "POST /api/v1/builds, 32 connections",
        unit: "/s",
        goal: Goal::AtLeast(3_000.0),
        floor_is: "",
        bound_is: "",
    })])
}
