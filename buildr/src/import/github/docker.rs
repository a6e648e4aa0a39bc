//! Actions that make and push images of the project's own.

use super::super::draft::{Draft, Stage};
use super::super::notes::NoteKind;
use super::super::tree::Tree;
use super::expression;
use super::steps::add_secret;
use crate::manifest::Value;

pub(super) fn login(draft: &Draft, stage: &mut Stage, with: &Tree) {
    stage.map.set("docker", Value::Truth(true));
    let mut unknown = Vec::new();
    let mut word = |key: &str, usual: &str| {
        let Some(text) = with.get(key).and_then(Tree::text) else { return usual.to_owned() };
        let replaced = expression::in_word(text);
        for secret in &replaced.secrets {
            add_secret(stage, secret, secret);
        }
        unknown.extend(replaced.unknown);
        replaced.text
    };
    let (registry, user, password) = (word("registry", ""), word("username", ""), word("password", ""));
    tell_unknown(draft, stage, "docker login", unknown);
    stage.script.push(
        format!("echo \"{password}\" | docker login {registry} --username \"{user}\" --password-stdin")
            .replace("  ", " "),
    );
}

pub(super) fn build_push(draft: &Draft, stage: &mut Stage, with: &Tree) {
    stage.map.set("docker", Value::Truth(true));
    let text = |key: &str| with.get(key).and_then(Tree::text).map(|text| expression::in_word(text.trim()));
    let mut unknown = Vec::new();
    let mut command = String::from("docker build");
    let mut tags = Vec::new();
    for (key, flag) in [
        ("tags", "--tag"),
        ("build-args", "--build-arg"),
        ("file", "--file"),
        ("target", "--target"),
        ("platforms", "--platform"),
    ] {
        let Some(replaced) = text(key) else { continue };
        unknown.extend(replaced.unknown);
        for one in replaced.text.split(['\n', ',']).map(str::trim).filter(|one| !one.is_empty()) {
            command += &format!(" {flag} \"{one}\"");
            if key == "tags" {
                tags.push(one.to_owned());
            }
        }
    }
    let context = text("context").map_or_else(|| ".".to_owned(), |context| context.text);
    stage.script.push(format!("{command} {context}"));
    let push = with.get("push").map(|push| (push, push.truth()));
    match push {
        Some((_, Some(true))) => stage.script.extend(tags.iter().map(|tag| format!("docker push \"{tag}\""))),
        Some((tree, None)) => draft.notes.lost(
            &mut stage.map,
            "docker/build-push-action: push",
            tree,
            "it is an expression; write `docker push` into a stage with `when`",
        ),
        _ => {}
    }
    tell_unknown(draft, stage, "docker build", unknown);
}

/// Tells expressions that stay in a command.
fn tell_unknown(draft: &Draft, stage: &mut Stage, command: &str, unknown: Vec<String>) {
    for expression in unknown {
        let what = format!("`${{{{ {expression} }}}}` in `{command}`");
        draft.notes.say(&mut stage.map, NoteKind::Look, what, "write what it stands for");
    }
}
