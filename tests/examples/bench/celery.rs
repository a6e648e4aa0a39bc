//! What a person would write by hand, for that person's own comparison: a Celery task over the Docker SDK for Python.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::builds::{trivial_manifest, warm};
use crate::raw::docker_run;
use crate::rig::{Parts, with_rig};
use crate::row::{About, Figures, Goal, Row};

/// The Python that has Celery and the SDK, from `scripts/bench`; none where they cannot be had.
#[expect(clippy::disallowed_methods, reason = "what the script found")]
pub(crate) fn python() -> Option<String> {
    std::env::var("BUILDR_BENCH_PYTHON").ok().filter(|path| !path.is_empty())
}

/// The program that measures it.
struct Baseline {
    program: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Baseline {
    async fn begin(amqp: &str, repo: &str) -> Result<Self> {
        let python = python().context("there is no Python with celery and docker; run scripts/bench --only celery")?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline/measure.py");
        let mut command = Command::new(python);
        command.arg(script).env("BASELINE_AMQP", amqp).env("BASELINE_REPO", repo);
        command.env("BASELINE_IMAGE", farm::docker::image()).env("PYTHONDONTWRITEBYTECODE", "1");
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let asks = program.stdin.take().context("its input")?;
        let answers = BufReader::new(program.stdout.take().context("its output")?).lines();
        let mut baseline = Self { program, asks, answers };
        baseline.answer().await.context("it does not begin")?;
        Ok(baseline)
    }

    async fn ask(&mut self, what: &str) -> Result<f64> {
        self.asks.write_all(format!("{what}\n").as_bytes()).await?;
        Ok(self.answer().await?.parse()?)
    }

    async fn answer(&mut self) -> Result<String> {
        self.answers.next_line().await?.context("the baseline ended")
    }

    /// Its worker ends with it, when its input does.
    async fn end(self) -> Result<()> {
        let Self { mut program, asks, .. } = self;
        drop(asks);
        program.wait().await?;
        Ok(())
    }
}

/// The same build by both, beside `docker run`.
pub(crate) async fn celery(rounds: u32) -> Result<Vec<Row>> {
    const BATCH: u32 = 20;
    let (baseline, ours, many) = with_rig(Parts { slots: 2, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("trivial", &trivial_manifest(), 0, 0).await?;
        warm(rig, &repo).await?;
        let mut by_hand = Baseline::begin(&rig.vhost.uri(), repo.reveal()).await?;
        let (mut baseline, mut ours, mut many) = <(Figures, Figures, Figures)>::default();
        for _ in 0..rounds {
            let floor = docker_run().await?;
            baseline.floor.push(floor);
            ours.floor.push(floor);
            baseline.ours.push(by_hand.ask("one").await?);
            ours.ours.push(rig.timed(&repo).await?);
        }
        for _ in 0..(rounds / 10).max(1) {
            many.floor.push(by_hand.ask(&format!("many {BATCH}")).await?);
            many.ours.push(crate::throughput::batch(rig, &repo, BATCH).await?);
        }
        by_hand.end().await?;
        Ok((baseline, ours, many))
    })
    .await?;
    let about = |name, what, unit, floor_is| About { name, what, unit, goal: Goal::Shown, floor_is, bound_is: "" };
    let run = "docker run --rm IMAGE true, bridge";
    Ok(vec![
        baseline.row(&about("celery.task", "a trivial build by a hand-written Celery task", "ms", run)),
        ours.row(&about("celery.buildr", "the same build by buildr", "ms", run)),
        many.row(&about("celery.many", "trivial builds with two slots", "/s", "by the Celery task, two processes")),
    ])
}
