//! What holds of every plan, whatever the manifest: found by making many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// A manifest out of what a plan goes by. The same one for the same number.
fn manifest_text(seed: u64) -> String {
    let mut dice = StdRng::seed_from_u64(seed);
    let count = dice.random_range(1..=7_usize);
    let names: Vec<String> = (0..count).map(|number| format!("s{number}")).collect();
    let mut text = String::from("stages: [");
    let mut left = names.as_slice();
    while !left.is_empty() {
        let take = dice.random_range(1..=left.len().min(3));
        let (group, rest) = left.split_at(take);
        if take == 1 { write!(text, "{}, ", group[0]) } else { write!(text, "[{}], ", group.join(", ")) }.unwrap();
        left = rest;
    }
    text += "]\n";
    let mut line = |dice: &mut StdRng, one_in: u32, says: &str| {
        if dice.random_ratio(1, one_in) {
            text.push_str(says);
        }
    };
    line(&mut dice, 6, "matrix: {top: [x, y], exclude: [{top: x, branch: m*}]}\n");
    line(&mut dice, 6, "when: [{branch: main}, {event: [tag, schedule]}]\n");
    line(&mut dice, 3, "finally: {script: x, when: {status: [success, failure]}}\n");
    line(&mut dice, 4, "prepare: {script: x}\n");
    for name in &names {
        text += &stage_line(name, &names, &mut dice);
    }
    text
}

fn stage_line(name: &str, names: &[String], dice: &mut StdRng) -> String {
    let mut says = vec!["script: x".to_owned()];
    if dice.random_ratio(1, 3) {
        let mut needs = BTreeSet::new();
        for _ in 0..dice.random_range(0..3) {
            let need = names.choose(dice).unwrap();
            if need != name {
                needs.insert(need.clone());
            }
        }
        let needs: Vec<String> =
            needs.into_iter().map(|need| if dice.random_ratio(1, 2) { need + "?" } else { need }).collect();
        says.push(format!("needs: [{}]", needs.join(", ")));
    }
    for (one_in, say) in [
        (6, "matrix: {a: [1, 2], b: [x, y], exclude: [{a: 1, b: x}], include: [{a: 3, b: z, c: w}]}"),
        (8, "parallel: 3"),
        (8, "agent: gpu"),
        (8, "manual: true"),
        (8, "concurrency: 'c-${branch}'"),
        (8, "platform: linux/arm64"),
    ] {
        if dice.random_ratio(1, one_in) {
            says.push(say.to_owned());
        }
    }
    let conditions = [
        "{branch: main}",
        "{branch: other}",
        "{tag: 'v*'}",
        "{status: failure}",
        "{if: 'event == \"push\"'}",
        "[{event: push}, {status: always}]",
    ];
    if dice.random_ratio(1, 3) {
        says.push(format!("when: {}", conditions.choose(dice).unwrap()));
    }
    format!("{name}: {{{}}}\n", says.join(", "))
}

/// The jobs in an order in which each comes after those that it needs.
fn has_no_circle(jobs: &[PlannedJob]) -> bool {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut left: Vec<&PlannedJob> = jobs.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|job| {
            let ready = job.needs.iter().all(|need| done.contains(need.as_str()));
            if ready {
                done.insert(job.key.as_str());
            }
            !ready
        });
        if left.len() == before {
            return false;
        }
    }
    true
}

/// Of a stage in a cell of the top level's matrix: how many jobs it is in, and how often it is passed over.
fn places(planned: &Planned) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for job in &planned.jobs {
        for stage in &job.plan.stages {
            *places.entry(stage.name.to_string()).or_default() += 1;
        }
    }
    for skipped in &planned.build.skipped {
        *places.entry(skipped.stage.to_string()).or_default() += 1;
    }
    places
}

/// How many times a stage is to be somewhere: in each cell and each shard.
fn expected(manifest: &Manifest, stage: usize, facts: &Facts) -> usize {
    let mut findings = Findings::new(&manifest.source);
    let mut cells = |matrix: &Option<crate::manifest::Matrix>| {
        matrix.as_ref().map_or(1, |matrix| matrix::cells(matrix, facts, &mut findings).len())
    };
    let stage = &manifest.stages[stage];
    cells(&manifest.matrix) * cells(&stage.matrix).max(1) * stage.parallel.as_ref().map_or(1, |it| it.value as usize)
}

fn check_plan(text: &str, manifest: &Manifest, facts: &Facts, planned: &Planned) {
    let jobs = &planned.jobs;
    let keys: BTreeSet<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    assert_eq!(keys.len(), jobs.len(), "a key is there twice\n{text}");
    let shown = || format!("{text}\n{}", drawn(planned));
    for job in jobs {
        assert!(job.needs.iter().all(|need| keys.contains(need.as_str())), "{}", shown());
        assert!(!job.plan.stages.is_empty() || job.downstream.is_some(), "{}", shown());
        assert!(job.plan.stages.iter().any(|stage| stage.skip.is_none()), "{}", shown());
        let mut before: BTreeSet<&str> = BTreeSet::new();
        for stage in &job.plan.stages {
            let needs = stage.needs.iter().flatten();
            assert!(needs.clone().all(|need| before.contains(need.as_str())), "{}", shown());
            before.insert(stage.name.as_str());
        }
    }
    assert!(has_no_circle(jobs), "{}", shown());
    let places = places(planned);
    for (number, stage) in manifest.stages.iter().enumerate() {
        let name = stage.name.value.to_string();
        assert_eq!(places.get(&name).copied().unwrap_or(0), expected(manifest, number, facts), "{name}\n{}", shown());
    }
}

/// A stage begins only when all that it waits for is over: by its place in `stages`, or by its needs.
fn check_order(text: &str, manifest: &Manifest, planned: &Planned) {
    // Of several cells, more than one job has a stage.
    if manifest.matrix.is_some() {
        return;
    }
    let mut jobs_of: BTreeMap<&str, Vec<&PlannedJob>> = BTreeMap::new();
    for job in &planned.jobs {
        for stage in job.plan.stages.iter().filter(|stage| stage.skip.is_none()) {
            jobs_of.entry(stage.name.as_str()).or_default().push(job);
        }
    }
    let mut earlier: Vec<usize> = Vec::new();
    for element in &manifest.order {
        for &number in order::members(element) {
            let stage = &manifest.stages[number];
            let waits: Vec<&str> = match &stage.needs {
                None => earlier.iter().map(|&other| manifest.stages[other].name.value.as_str()).collect(),
                Some(needs) => needs.iter().map(|need| need.name.value.as_str()).collect(),
            };
            for job in jobs_of.get(stage.name.value.as_str()).into_iter().flatten() {
                for before in waits.iter().flat_map(|before| jobs_of.get(before).into_iter().flatten()) {
                    let after = before.key == job.key || job.needs.contains(&before.key);
                    assert!(after, "{} begins before {}\n{text}\n{}", job.key, before.key, drawn(planned));
                }
            }
        }
        earlier.extend(order::members(element));
    }
}

#[test]
fn every_plan_is_sound() {
    let occasions = [push(), on("other"), tag("v1"), Facts::new(TriggerKind::Schedule)];
    let (mut sound, mut circles) = (0, 0);
    for seed in 0..1500 {
        let text = manifest_text(seed);
        let manifest = read(&text);
        for facts in &occasions {
            match compile_one(&manifest, facts) {
                Ok(planned) => {
                    sound += 1;
                    check_plan(&text, &manifest, facts, &planned);
                    check_order(&text, &manifest, &planned);
                }
                Err(error) => {
                    circles += 1;
                    assert!(error.to_string().contains("wait for each other"), "{text}\n{error}");
                }
            }
        }
    }
    assert!(sound > 3000 && circles > 100, "{sound} {circles}");
}
