//! What a build costs: the trivial one, each further stage, `buildr run`, and `prepare` that is there already.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use protocol::api::Timeline;
use tokio::process::Command;

use crate::raw::{REST, Raw, docker_run, ms_since};
use crate::rig::{Parts, Rig, beside, with_rig};
use crate::row::{About, Figures, Goal, Row, median};
use crate::town::git;

const RUN: &str = "docker run --rm IMAGE true, bridge";

/// The least that a build of one stage has.
pub(crate) fn trivial_manifest() -> String {
    format!("image: {}\nstages: [hello]\nhello:\n  script: ['true']\n", farm::docker::image())
}

/// So many stages, one after the other, of the same script.
pub(crate) fn stages_manifest(count: u32, script: &str) -> String {
    let names: Vec<String> = (1..=count).map(|number| format!("s{number}")).collect();
    let stages: String = names.iter().map(|name| format!("{name}:\n  script: ['{script}']\n")).collect();
    format!("image: {}\nstages: [{}]\n{stages}", farm::docker::image(), names.join(", "))
}

/// Something that is timed, after a rest.
async fn rested<T>(timed: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::sleep(REST).await;
    timed.await
}

/// A trivial build on the farm.
pub(crate) async fn trivial(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let (figures, parts) = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let repo = rig.town.make("trivial", &trivial_manifest(), 0, 0).await?;
        warm(rig, &repo).await?;
        let (mut figures, mut parts) = (Figures::default(), Spent::default());
        for _ in 0..rounds {
            figures.floor.push(rested(docker_run()).await?);
            let (took, number) = rested(rig.timed_build(&repo)).await?;
            figures.ours.push(took);
            parts.add(&rig.api.timeline(number).await?);
            let ahead = raw.ahead("bridge", None).await?;
            figures.bound.push(rested(raw.hand_off(ahead, "true")).await?);
        }
        Ok((figures, parts.medians()))
    })
    .await?;
    let row = figures.row(&About {
        name: "trivial",
        what: "trivial build over RabbitMQ, asked for → result recorded",
        unit: "ms",
        goal: Goal::AtMostTimes(0.4),
        floor_is: RUN,
        bound_is: "raw hand-off to a container that waits",
    });
    Ok(vec![Row { parts, ..row }])
}

/// What the time of several builds of one kind went to.
#[derive(Default)]
struct Spent {
    builds: usize,
    /// In the order in which they were first seen.
    parts: Vec<(String, Vec<f64>)>,
}

impl Spent {
    fn add(&mut self, timeline: &Timeline) {
        let mut of_one: Vec<(String, f64)> = Vec::new();
        for span in timeline.attempts.iter().flat_map(|attempt| &attempt.spans) {
            let stage = span.stage.as_ref().map(|stage| format!(" {stage}")).unwrap_or_default();
            let name = format!("{}{stage}", span.part.name());
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a build")]
            let ms = span.ms as f64;
            match of_one.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += ms,
                None => of_one.push((name, ms)),
            }
        }
        for (name, ms) in of_one {
            match self.parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.push(ms),
                None => self.parts.push((name, vec![ms])),
            }
        }
        self.builds += 1;
    }

    /// The median of each; a build without a part spent nothing on it.
    fn medians(mut self) -> Vec<(String, f64)> {
        for (_, all) in &mut self.parts {
            all.resize(self.builds, 0.0);
        }
        self.parts.into_iter().filter_map(|(name, all)| Some((name, median(&all)?))).collect()
    }
}

/// The mirror, the image and whatever is kept ready are there after that.
pub(crate) async fn warm(rig: &Rig, repo: &protocol::RepoUrl) -> Result<()> {
    for _ in 0..3 {
        rested(rig.timed(repo)).await?;
    }
    Ok(())
}

/// What a further stage costs beyond its script: of half a second, and of one `echo`.
pub(crate) async fn stage(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let mut rows = Vec::new();
    for (name, what, script, more, own, times) in [
        ("stage.half", "each further stage of half a second, beyond its script", "sleep 0.5", 3, 500.0, 0.25),
        ("stage.echo", "each further stage of one echo", "echo x", 5, 0.0, 0.5),
    ] {
        let figures = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
            let one = rig.town.make("one", &stages_manifest(1, script), 0, 0).await?;
            let several = rig.town.make("several", &stages_manifest(1 + more, script), 0, 0).await?;
            warm(rig, &one).await?;
            rig.timed(&several).await?;
            let mut figures = Figures::default();
            // They take seconds each.
            for _ in 0..(rounds * 2 / 3).max(1) {
                figures.floor.push(rested(docker_run()).await?);
                let short = rested(rig.timed(&one)).await?;
                let long = rested(rig.timed(&several)).await?;
                figures.ours.push((long - short) / f64::from(more) - own);
                let ahead = raw.ahead("bridge", None).await?;
                figures.bound.push(rested(raw.hand_off(ahead, script)).await? - own);
            }
            Ok(figures)
        })
        .await?;
        let goal = Goal::AtMostTimes(times);
        let bound_is = "raw hand-off to a container that waits";
        rows.push(figures.row(&About { name, what, unit: "ms", goal, floor_is: RUN, bound_is }));
    }
    Ok(rows)
}

/// `buildr run`, from the start of its process to its exit.
pub(crate) async fn run(rounds: u32) -> Result<Vec<Row>> {
    let raw = Raw::connect()?;
    let buildr = beside("buildr")?;
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("project");
    std::fs::create_dir(&project)?;
    std::fs::write(project.join(".buildr.yml"), trivial_manifest())?;
    git(&project, &["init", "--quiet"]).await?;
    git(&project, &["add", "."]).await?;
    git(&project, &["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "--quiet", "-m", "x"]).await?;
    let ours = async || {
        let mut command = Command::new(&buildr);
        command.arg("run").current_dir(&project).env("XDG_CONFIG_HOME", folder.path());
        command.env("XDG_STATE_HOME", folder.path()).env("XDG_CACHE_HOME", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let began = Instant::now();
        let output = command.output().await.context("buildr run")?;
        let took = ms_since(began);
        ensure!(output.status.success(), "buildr run: {}", String::from_utf8_lossy(&output.stderr));
        Ok(took)
    };
    ours().await?;
    let mut figures = Figures::default();
    for _ in 0..rounds {
        figures.floor.push(rested(docker_run()).await?);
        figures.ours.push(rested(ours()).await?);
        figures.bound.push(rested(raw.whole("bridge")).await?);
    }
    Ok(vec![figures.row(&About {
        name: "run",
        what: "buildr run of a trivial manifest, process start to exit",
        unit: "ms",
        goal: Goal::AtMostTimes(1.1),
        floor_is: RUN,
        bound_is: "raw create, start, wait, remove on the bridge",
    })])
}

/// What an unchanged `prepare` adds to a build.
pub(crate) async fn prepare(rounds: u32) -> Result<Vec<Row>> {
    let figures = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let without = rig.town.make("without", &trivial_manifest(), 0, 0).await?;
        let prepared =
            format!("{}prepare:\n  files: [.buildr.yml]\n  script: [echo ready > /ready]\n", trivial_manifest());
        let with = rig.town.make("with", &prepared, 0, 0).await?;
        warm(rig, &with).await?;
        warm(rig, &without).await?;
        let mut figures = Figures::default();
        for _ in 0..rounds {
            // Each in a row of its own kind, so that what an agent keeps ready for a kind is there for both.
            rested(rig.timed(&without)).await?;
            let plain = rested(rig.timed(&without)).await?;
            rested(rig.timed(&with)).await?;
            figures.ours.push(rested(rig.timed(&with)).await? - plain);
        }
        Ok(figures)
    })
    .await?;
    Ok(vec![figures.row(&About {
        name: "prepare",
        what: "what an unchanged prepare adds to a build",
        unit: "ms",
        goal: Goal::AtMost(50.0),
        floor_is: "",
        bound_is: "",
    })])
}
