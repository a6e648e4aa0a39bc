//! What a person says at a job's gate.

use std::collections::BTreeMap;

use buildr::process::clock::now_ms;
use protocol::api::{ApproveJob, Approved};
use protocol::course::{self, Turn};
use protocol::plan::Gate;
use protocol::state::Happening;
use protocol::{BuildNumber, JobKey, Variable};

use super::Answers;
use crate::desk::Desk;
use crate::feed::Change;
use crate::intake::check_variables;
use crate::store::{Answer, Asker, AtGate, StoreError, Transaction};

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateRefusal {
    /// There is no such build.
    #[error("there is no build {0}; `buildr builds` lists them")]
    NoBuild(BuildNumber),
    /// There is no such job.
    #[error("build {0} has no job {1:?}; it has: {2}")]
    NoJob(BuildNumber, String, String),
    /// Nothing of it waits for a person.
    #[error("no job of build {0} waits for approval; `buildr why {number}` says what it waits for", number = .0.0)]
    NoGate(BuildNumber),
    /// More than one job does.
    #[error("several jobs of build {0} wait for approval: {1}; name one of them")]
    Several(BuildNumber, String),
    /// It does not wait for a person.
    #[error("job {0} {1}")]
    NotOpen(JobKey, String),
    /// Another person is to answer.
    #[error("job {0} is let begin by {1}, and you are {2}")]
    NotAllowed(JobKey, String, String),
    /// A maintainer is to answer.
    #[error("build {0} waits for a maintainer's approval; sign in, or use a token, with the role maintainer or admin")]
    NotMaintainer(BuildNumber),
    /// The values are not those that are asked for.
    #[error("job {0}: {1}")]
    Inputs(JobKey, String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Person<'a> {
    /// As that one says.
    pub(crate) by: Option<&'a str>,
    /// Whether the farm knows that one for a maintainer.
    pub(crate) maintains: bool,
}

/// A person lets a job begin, or passes it over. What stands before a whole build is a maintainer's to answer, and
/// rejected it is the build's end.
///
/// # Errors
/// When there is nothing to answer, the answer is not one of those that are asked for, or the store fails.
pub(crate) async fn answer(
    desk: &Desk,
    build: BuildNumber,
    said: &ApproveJob,
    person: Person<'_>,
) -> Result<Approved, GateRefusal> {
    let by = person.by;
    let mut tx = desk.store.write().await?;
    let found = find(&mut tx, build, said.job.as_ref()).await?;
    let Some(gate) = &found.gate else {
        return Err(GateRefusal::NotOpen(found.key, "has no gate, and needs no approval".to_owned()));
    };
    if found.whole && !person.maintains {
        return Err(GateRefusal::NotMaintainer(build));
    }
    allowed(&found.key, gate, by)?;
    let (key, who, now) = (found.key.clone(), by.map_or("somebody".to_owned(), str::to_owned), now_ms());
    let message = if said.reject {
        let reason = said.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let reason = format!("rejected by {who}{reason}");
        if found.whole {
            tx.cancel(build, &reason, Asker::Person, now).await?;
            format!("build {build} is rejected, and over")
        } else {
            if let Some(job) = tx.job(found.id).await? {
                tx.apply(&job, &Happening::PassedOver { reason }, now).await?.ok();
            }
            format!("job {key} of build {build} is passed over")
        }
    } else {
        let inputs = filled_in(gate, &said.inputs).map_err(|wrong| GateRefusal::Inputs(key.clone(), wrong))?;
        tx.answer(found.id, &Answer { by: by.map(str::to_owned), at_ms: now, inputs }).await?;
        tx.advance(build, now).await?;
        if found.whole {
            format!("build {build} is approved")
        } else {
            format!("job {key} of build {build} is approved")
        }
    };
    let mut answers = Answers::saying(Change::Build(build));
    answers.follow(tx.take_effects());
    tx.commit().await?;
    answers.give(desk).await;
    Ok(Approved { job: key, message })
}

/// The job that is meant, when it waits for a person.
async fn find(tx: &mut Transaction, build: BuildNumber, job: Option<&JobKey>) -> Result<AtGate, GateRefusal> {
    if tx.build(build).await?.is_none() {
        return Err(GateRefusal::NoBuild(build));
    }
    let (mut jobs, members) = tx.at_gates(build).await?;
    let turns: Vec<Option<Turn>> = (0..jobs.len())
        .map(|place| matches!(members[place].at, course::At::Waiting { .. }).then(|| course::turn(&members, place)))
        .collect();
    let place = match job {
        Some(wanted) => jobs.iter().position(|job| job.key == *wanted).ok_or_else(|| {
            let keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
            GateRefusal::NoJob(build, wanted.to_string(), keys.join(", "))
        })?,
        None => {
            let open: Vec<usize> = (0..jobs.len()).filter(|place| turns[*place] == Some(Turn::Gate)).collect();
            match open.as_slice() {
                [] => return Err(GateRefusal::NoGate(build)),
                [only] => *only,
                several => {
                    let keys: Vec<&str> = several.iter().map(|place| jobs[*place].key.as_str()).collect();
                    return Err(GateRefusal::Several(build, keys.join(", ")));
                }
            }
        }
    };
    let found = jobs.swap_remove(place);
    match &turns[place] {
        _ if found.gate.is_none() => Ok(found),
        Some(Turn::Gate) => Ok(found),
        Some(Turn::Needs(needs)) => {
            let needs: Vec<&str> = needs.iter().map(JobKey::as_str).collect();
            let waits = format!("waits for {} first; answer when that is over", needs.join(", "));
            Err(GateRefusal::NotOpen(found.key, waits))
        }
        _ => {
            let by = found.answered_by.clone().map(|by| format!(" by {by}")).unwrap_or_default();
            let what = if found.answered { format!("was approved already{by}") } else { "is over".to_owned() };
            Err(GateRefusal::NotOpen(found.key, what))
        }
    }
}

/// Whether this person may answer, as far as it is known who that is.
fn allowed(key: &JobKey, gate: &Gate, by: Option<&str>) -> Result<(), GateRefusal> {
    let name = |by: &str| by.split('@').next().unwrap_or(by).to_owned();
    let is_one = by.is_some_and(|by| gate.allow.iter().any(|one| one == by || *one == name(by)));
    if gate.allow.is_empty() || is_one {
        return Ok(());
    }
    let who = by.map_or("nobody that it knows".to_owned(), str::to_owned);
    Err(GateRefusal::NotAllowed(key.clone(), gate.allow.join(" or "), who))
}

/// All values that a gate asks for, in its order.
fn filled_in(gate: &Gate, said: &BTreeMap<String, String>) -> Result<Vec<Variable>, String> {
    if let Some(name) = said.keys().find(|name| !gate.inputs.iter().any(|input| input.name == **name)) {
        let names: Vec<&str> = gate.inputs.iter().map(|input| input.name.as_str()).collect();
        let known = if names.is_empty() { "for nothing".to_owned() } else { format!("for {}", names.join(", ")) };
        return Err(format!("its gate does not ask for {name}; it asks {known}"));
    }
    let mut values = Vec::new();
    for input in &gate.inputs {
        let Some(value) = said.get(&input.name).or(input.default.as_ref()) else {
            return Err(format!("its gate asks for {name}; give it with --input {name}=VALUE", name = input.name));
        };
        if !input.choices.is_empty() && !input.choices.contains(value) {
            return Err(format!("{} is one of {}, and not {value:?}", input.name, input.choices.join(", ")));
        }
        values.push(Variable::new(&input.name, value));
    }
    check_variables(&values)?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use protocol::plan::GateInput;

    use super::*;

    fn input(name: &str, choices: &[&str], default: Option<&str>) -> GateInput {
        let choices = choices.iter().map(|choice| (*choice).to_owned()).collect();
        GateInput { name: name.to_owned(), choices, default: default.map(str::to_owned), description: None }
    }

    #[test]
    fn what_a_gate_asks_for_is_filled_in() {
        let inputs = vec![input("TO", &["stage", "prod"], Some("stage")), input("WHY", &[], None)];
        let gate = Gate { inputs, ..Gate::default() };
        let check = |said: &[(&str, &str)], expect: Result<&str, &str>| {
            let said = said.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let got = filled_in(&gate, &said);
            let text = |values: Vec<Variable>| {
                values.iter().map(|value| format!("{}={}", value.name, value.value)).collect::<Vec<_>>().join(" ")
            };
            match (got.map(text), expect) {
                (Ok(got), Ok(expect)) => assert_eq!(got, expect),
                (Err(got), Err(expect)) => assert!(got.contains(expect), "{got}"),
                (got, expect) => panic!("{got:?} instead of {expect:?}"),
            }
        };
        check(&[("WHY", "x")], Ok("TO=stage WHY=x"));
        check(&[("WHY", ""), ("TO", "prod")], Ok("TO=prod WHY="));
        check(&[], Err("asks for WHY; give it with --input WHY=VALUE"));
        check(&[("WHY", "x"), ("TO", "moon")], Err("TO is one of stage, prod, and not \"moon\""));
        check(&[("WHY", "x"), ("ELSE", "x")], Err("does not ask for ELSE; it asks for TO, WHY"));
    }

    #[test]
    fn who_may_answer() {
        let check = |allow: &[&str], by: Option<&str>, expect: bool| {
            let gate = Gate { allow: allow.iter().map(|one| (*one).to_owned()).collect(), ..Gate::default() };
            assert_eq!(allowed(&"deploy".parse().unwrap(), &gate, by).is_ok(), expect, "{allow:?} {by:?}");
        };
        check(&[], None, true);
        check(&["ada"], Some("ada@laptop"), true);
        check(&["ada"], Some("ada"), true);
        check(&["ada@laptop"], Some("ada@other"), false);
        check(&["ada"], Some("bob@laptop"), false);
        check(&["ada"], None, false);
    }
}
