//! The steps of a job, as the script of one stage. Each `run` was a shell of its own: what one of them changes in its
//! shell must not reach the next.

use super::super::draft::{Draft, Stage, secret, shell_word};
use super::super::notes::NoteKind;
use super::super::tree::Tree;
use super::{Defaults, actions, expression, tell_token};
use crate::manifest::Value;

/// The steps so far.
pub(super) struct Work {
    shell: Option<String>,
    bash: bool,
    after: Vec<String>,
    on_failure: Vec<String>,
}

/// What a condition makes of a step.
enum Place {
    Script,
    After,
    OnFailure,
    /// In the script, behind this test.
    Behind(String),
}

impl Work {
    pub(super) fn new(defaults: &Defaults) -> Self {
        Self { shell: defaults.shell.clone(), bash: false, after: Vec::new(), on_failure: Vec::new() }
    }

    /// Takes a step over.
    pub(super) fn step(&mut self, draft: &mut Draft, stage: &mut Stage, step: &Tree) {
        let title = step.get("name").and_then(Tree::text).map(str::to_owned);
        let Some(place) = place(draft, stage, step) else { return };
        if step.get("uses").is_some() {
            if let (Some(title), Some(uses)) = (&title, step.get("uses").and_then(Tree::peek)) {
                stage.map.remark(format!("the step `{title}`: {uses}"));
            }
            let begun = stage.script.len();
            actions::step(draft, stage, step);
            let added = stage.script.split_off(begun);
            for line in added {
                self.put(stage, &place, line);
            }
            return;
        }
        let Some(run) = step.get("run").and_then(Tree::text).map(str::to_owned) else {
            draft.notes.lost(&mut stage.map, "steps", step, "it has neither `run` nor `uses`; write what it is for");
            return;
        };
        let Some(command) = self.command(draft, stage, step, &run) else { return };
        let at = stage.script.len();
        self.put(stage, &place, command);
        if let (Some(title), true) = (title.clone(), stage.script.len() > at) {
            stage.titles.push((at, title));
        } else if let Some(title) = title {
            stage.map.remark(format!("the step `{title}` is in `after` or `on_failure`"));
        }
        if let Some(id) = step.get("id").and_then(Tree::text) {
            stage.map.remark(format!("a step was called `{id}`"));
        }
    }

    fn put(&mut self, stage: &mut Stage, place: &Place, command: String) {
        match place {
            Place::Script => stage.script.push(command),
            Place::Behind(test) => stage.script.push(format!("if {test}; then\n{command}\nfi")),
            Place::After => self.after.push(command),
            Place::OnFailure => self.on_failure.push(command),
        }
    }

    /// A step's command, as it stands in the script.
    fn command(&mut self, draft: &Draft, stage: &mut Stage, step: &Tree, run: &str) -> Option<String> {
        let replaced = expression::in_script(run.trim_end());
        tell_reads(draft, stage, run, &replaced);
        let mut lines = exports(draft, stage, step);
        if let Some(folder) = step.get("working-directory").and_then(Tree::text) {
            lines.push(format!("cd {}", word(folder)));
        }
        if let Some(limit) = step.get("timeout-minutes") {
            draft.notes.lost(
                &mut stage.map,
                "steps.timeout-minutes",
                limit,
                "a limit is a stage's; write `timeout` there, or `timeout 5m COMMAND` in the script",
            );
        }
        let text = replaced.text;
        self.bash |= ["[[", "<<<", "pipefail", "=(", "<(", "source ", "shopt "].iter().any(|word| text.contains(word));
        if let Some(shell) = step.get("shell")
            && !self.shell(stage, shell)
        {
            let because = "a stage has one shell; run the other program in its script, with the text in a file";
            draft.notes.lost(&mut stage.map, "steps", step, because);
            return None;
        }
        let fails = step.get("continue-on-error").map(|it| (it, it.truth()));
        if let Some((tree, None)) = fails {
            draft.notes.lost(
                &mut stage.map,
                "steps.continue-on-error",
                tree,
                "it is no plain true; write `|| true` behind the command",
            );
        }
        lines.push(text);
        let whole = lines.join("\n");
        if matches!(fails, Some((_, Some(true)))) {
            // In a list with `||` the shell would not stop at the first failure.
            return Some(format!("sh -ec {} || echo 'this step may fail'", shell_word(&whole)));
        }
        Some(if lines.len() > 1 || leaks(&whole) { format!("(\n{whole}\n)") } else { whole })
    }

    /// Notes a step's shell; whether its script can run in the stage's.
    fn shell(&mut self, stage: &mut Stage, tree: &Tree) -> bool {
        match tree.peek().unwrap_or_default() {
            "sh" | "bash" => {
                self.bash |= tree.text() == Some("bash");
                true
            }
            text if text.starts_with("bash ") => {
                self.bash = true;
                tree.told();
                stage.map.remark(format!("look at: a step's shell is `{text}`; here it is the stage's"));
                true
            }
            _ => false,
        }
    }

    /// Sets what the steps have asked for together.
    pub(super) fn finish(self, draft: &Draft, stage: &mut Stage) {
        let shell = match self.shell.as_deref() {
            Some("bash") => Some("bash -eo pipefail {0}"),
            Some("sh") | None => self.bash.then_some("bash -e {0}"),
            Some(text) if text.starts_with("bash ") => Some(text),
            Some(text) => {
                let why = "stages run in a shell for scripts of sh; write the shell that is meant";
                draft.notes.say(&mut stage.map, NoteKind::Lost, format!("`defaults.run.shell: {text}`"), why);
                None
            }
        };
        if let Some(shell) = shell {
            stage.map.set("shell", shell);
        }
        if !self.on_failure.is_empty() {
            stage.map.set("on_failure", Value::lines(self.on_failure));
        }
        if !self.after.is_empty() {
            stage.map.set("after", Value::lines(self.after));
        }
    }
}

/// Whether a script may change something in its shell. A word too many only makes a shell of its own.
fn leaks(script: &str) -> bool {
    const CHANGING: &str = "cd pushd popd export unset set shopt exit exec source . eval alias unalias trap umask \
                            ulimit readonly declare typeset local read readarray mapfile getopts hash shift";
    let mut words =
        script.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '{' | '}' | '`'));
    let assigns = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim_end_matches('+');
        line.contains('=') && !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    words.any(|word| CHANGING.split_whitespace().any(|changing| changing == word))
        || script.lines().any(|line| assigns(line.trim_start()))
}

/// Tells what a script reads that is not there as it was, and lets it read its secrets.
fn tell_reads(draft: &Draft, stage: &mut Stage, run: &str, replaced: &expression::Replaced) {
    for name in &replaced.secrets {
        tell_token(draft, &mut stage.map, name);
        add_secret(stage, name, name);
    }
    for unknown in &replaced.unknown {
        let why = "the expression stays as it is, and fails; values of other steps and stages are handed on by files or `$BUILDR_ENV`";
        draft.notes.say(
            &mut stage.map,
            NoteKind::Look,
            format!("`${{{{ {unknown} }}}}` in the script of `{}`", stage.name),
            why,
        );
    }
    for literal in &replaced.literal {
        let why = "it is a variable here, and stands where the shell replaces none: take the quotes from the mark of the here-document, and write `\\$` for its own dollars";
        draft.notes.say(
            &mut stage.map,
            NoteKind::Look,
            format!("`${{{{ {literal} }}}}` in the script of `{}`", stage.name),
            why,
        );
    }
    if run.contains("GITHUB_ENV") {
        let why = "it is `$BUILDR_ENV` here, which reaches later stages, not later lines of this one";
        draft.notes.say(
            &mut stage.map,
            NoteKind::Look,
            format!("`$GITHUB_ENV` in the script of `{}`", stage.name),
            why,
        );
    }
}

/// Where a step's `if` puts it; None when that cannot be said, which is told.
fn place(draft: &Draft, stage: &mut Stage, step: &Tree) -> Option<Place> {
    let Some(condition) = step.get("if") else { return Some(Place::Script) };
    let text = condition.peek().unwrap_or_default();
    let plain: String = text.trim_start_matches("${{").trim_end_matches("}}").split_whitespace().collect();
    let place = match plain.as_str() {
        "always()" | "!cancelled()" => Place::After,
        "failure()" => Place::OnFailure,
        "success()" => Place::Script,
        _ => match expression::condition(text).and_then(|condition| condition.shell()) {
            Ok(test) => Place::Behind(test),
            Err(_) => {
                draft.notes.lost(
                    &mut stage.map,
                    "steps",
                    step,
                    "its `if` has no counterpart; write the test into the script, or a stage with `when`",
                );
                return None;
            }
        },
    };
    condition.told();
    Some(place)
}

/// A step's own variables: those that no other step has otherwise become the stage's.
fn exports(draft: &Draft, stage: &mut Stage, step: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in step.get("env").map(Tree::entries).unwrap_or_default() {
        let Some(text) = value.peek() else { continue };
        if let Some(hidden) = expression::secret(text) {
            value.told();
            tell_token(draft, &mut stage.map, hidden);
            add_secret(stage, name, hidden);
            continue;
        }
        let replaced = expression::in_quotes(text);
        if !replaced.unknown.is_empty() {
            draft.notes.lost(
                &mut stage.map,
                &format!("steps.env.{name}"),
                value,
                "an expression in it has no counterpart; set the variable in the script",
            );
            continue;
        }
        value.told();
        lines.push(format!("export {name}={}", replaced.text));
    }
    lines
}

/// Lets a stage read a secret.
pub(super) fn add_secret(stage: &mut Stage, variable: &str, name: &str) {
    let value = secret(variable, name);
    if !stage.secrets.contains(&value) {
        stage.secrets.push(value);
    }
}

/// A path or the like as a shell's word; expressions in it become variables.
fn word(text: &str) -> String {
    let replaced = expression::in_quotes(text);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if text.chars().all(plain) { text.to_owned() } else { replaced.text }
}

#[cfg(test)]
mod tests {
    use super::leaks;

    #[test]
    fn what_reaches_the_next_step() {
        for script in [
            "mkdir -p build && cd build && make",
            "if x; then cd y; fi",
            "A=1\nmake",
            "x; exit 1",
            ". ./env",
            "set -x",
            "PATH+=:/x",
        ] {
            assert!(leaks(script), "{script}");
        }
        for script in ["make", "cargo test --all", "./x --a=b", "echo setup", "ls .."] {
            assert!(!leaks(script), "{script}");
        }
    }
}
