//! What the workspace of a large repository costs a build.

use std::time::Instant;

use anyhow::Result;

use crate::builds::{trivial_manifest, warm};
use crate::raw::ms_since;
use crate::rig::{Parts, with_rig};
use crate::row::{About, Figures, Goal, Row};
use crate::town::git;

const FILES: u32 = 20_000;
const BYTES: usize = 10_000;

/// 20,000 files, 200 MB: warm with nothing new, and with one new commit of ten files. What a build of it takes more than
/// one of a repository with a single file, so that nothing of the cost can hide.
pub(crate) async fn checkout(rounds: u32) -> Result<Vec<Row>> {
    let (same, new) = with_rig(Parts { slots: 1, ..Parts::default() }, async |rig| {
        let manifest = trivial_manifest();
        let small = rig.town.make("small", &manifest, 0, 0).await?;
        let large = rig.town.make("large", &manifest, FILES, BYTES).await?;
        warm(rig, &small).await?;
        warm(rig, &large).await?;
        let (mut same, mut new) = <(Figures, Figures)>::default();
        let (from, into) = (rig.town.path("large").display().to_string(), rig.folder.join("clone"));
        let clone = async || {
            let began = Instant::now();
            git(&rig.folder, &["clone", "--quiet", "--local", &from, "clone"]).await?;
            let took = ms_since(began);
            std::fs::remove_dir_all(&into)?;
            anyhow::Ok(took)
        };
        for _ in 0..(rounds / 3).max(1) {
            let floor = clone().await?;
            rig.timed(&small).await?;
            let plain = rig.timed(&small).await?;
            rig.timed(&large).await?;
            same.floor.push(floor);
            same.ours.push(rig.timed(&large).await? - plain);
            rig.town.change("large", &manifest, 10, BYTES).await?;
            new.floor.push(floor);
            new.ours.push(rig.timed(&large).await? - plain);
        }
        Ok((same, new))
    })
    .await?;
    let about = |name, what, goal| About { name, what, unit: "ms", goal, floor_is: "git clone --local", bound_is: "" };
    Ok(vec![
        same.row(&about("checkout.same", "workspace of 20,000 files, 200 MB, nothing new", Goal::AtMostTimes(0.1))),
        new.row(&about("checkout.new", "the same with one new commit of ten files", Goal::AtMostTimes(0.15))),
    ])
}
