//! The inputs that a manifest asks for, and the values that they have in a build.

use protocol::Variable;
use protocol::job::TriggerKind;
use protocol::plan::GateInput;

use super::PlanError;
use super::facts::Facts;
use super::findings::instead;
use crate::manifest::Manifest;

/// Whether somebody is there who can give what is missing.
fn somebody_asks(facts: &Facts) -> bool {
    matches!(facts.event, TriggerKind::Local | TriggerKind::Manual)
}

/// The inputs of a manifest with their values: what was given, else what it is when nobody says, else nothing.
///
/// # Errors
/// When a value is none of those that it may be; when somebody began the build by hand and did not say what nobody
/// else can.
pub(super) fn values(manifest: &Manifest, facts: &Facts) -> Result<Vec<Variable>, PlanError> {
    manifest.inputs.iter().map(|input| value(&input.value, facts)).collect()
}

fn value(input: &GateInput, facts: &Facts) -> Result<Variable, PlanError> {
    let GateInput { name, choices, default, description } = input;
    let given = facts.inputs.iter().rev().find(|given| given.name == *name).map(|given| &given.value);
    if let Some(value) = given {
        if !choices.is_empty() && !choices.contains(value) {
            let (name, value) = (name.clone(), value.clone());
            return Err(PlanError::WrongInput { name, value, choices: choices.join(", ") });
        }
        return Ok(Variable::new(name.clone(), value.clone()));
    }
    match default {
        Some(value) => Ok(Variable::new(name.clone(), value.clone())),
        None if somebody_asks(facts) => {
            let choices =
                if choices.is_empty() { String::new() } else { format!("; it is one of {}", choices.join(", ")) };
            let about = description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
            Err(PlanError::MissingInput { name: name.clone(), about, choices })
        }
        None => Ok(Variable::new(name.clone(), "")),
    }
}

/// Values that were given and that no manifest asks for: another build's arrive as variables.
///
/// # Errors
/// When a person gave one: it was mistyped, or is not needed.
pub(super) fn others(manifests: &[&Manifest], facts: &Facts) -> Result<Vec<Variable>, PlanError> {
    let known = || manifests.iter().flat_map(|manifest| &manifest.inputs).map(|input| input.value.name.as_str());
    let others: Vec<&Variable> = facts.inputs.iter().filter(|given| !known().any(|name| name == given.name)).collect();
    // What a gate asks for may be said in advance.
    let stages = manifests.iter().flat_map(|manifest| &manifest.stages);
    let gates = stages.filter_map(|stage| stage.manual.as_ref()).flat_map(|manual| &manual.inputs);
    let at_gates: Vec<&str> = gates.map(|input| input.value.name.as_str()).collect();
    match others.iter().find(|given| !at_gates.contains(&given.name.as_str())) {
        Some(first) if somebody_asks(facts) => {
            let names: Vec<&str> = known().chain(at_gates).collect();
            let instead = instead(&first.name, names.iter().copied());
            Err(PlanError::UnknownInput { name: first.name.clone(), instead })
        }
        _ => Ok(others.into_iter().cloned().collect()),
    }
}
