//! What a farm's people and its other agents decide, decided by who sits at this machine: which of a plan is run, what
//! becomes of gates, and of what another machine should do.

use std::io::{IsTerminal as _, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use protocol::plan::{BuildPlan, CachePolicy, Gate, GateInput, Kept};
use protocol::{PlannedJob, StageName, Variable};
use tokio::task::JoinHandle;

use super::super::error::CliError;
use super::super::look::clean;
use super::super::occasion::OccasionArgs;
use super::differences::{Here, differences};
use super::screen::Screen;
use super::selection::{Selected, SelectionArgs};
use crate::plan::{foreign_image, other_labels};
use crate::runner::{Answer, Gatekeeper, Place};

/// Who sits at this machine.
pub(super) struct Owner<'a> {
    /// What is shown to them.
    pub(super) screen: Screen,
    /// What they asked for.
    pub(super) selection: &'a SelectionArgs,
    /// For which occasion, and which cells.
    pub(super) occasion: &'a OccasionArgs,
    /// What the last run kept.
    pub(super) earlier: &'a [Kept],
    /// What the plan is compared with.
    pub(super) here: Here<'a>,
    /// Values that they gave beforehand.
    pub(super) inputs: &'a [Variable],
    /// Whether they said yes to everything beforehand.
    pub(super) yes: bool,
    /// Whether nothing of earlier builds is used.
    pub(super) no_cache: bool,
    /// Whether somebody can be asked.
    pub(super) can_ask: bool,
    /// What came of the selection.
    pub(super) selected: Mutex<Selected>,
    /// The line that they type. Who asks holds it until all is answered.
    pub(super) typing: tokio::sync::Mutex<Typing>,
}

/// The line that is being typed. It cannot be given up, and whoever asks next gets it.
#[derive(Default)]
pub(super) struct Typing(Option<JoinHandle<Option<String>>>);

impl Typing {
    /// Forgets a line that was typed when nobody asked any more.
    fn forget(&mut self) {
        self.0.take_if(|read| read.is_finished());
    }

    /// One line; none at the end of the input. Dropped while it waits, it loses none. Nothing is read unless somebody
    /// asks: a shell may want it.
    async fn line(&mut self, read: fn() -> Option<String>) -> Option<String> {
        // Nobody waits for a read that goes on when the build was cancelled.
        let line = self.0.get_or_insert_with(|| tokio::task::spawn_blocking(read)).await;
        self.0 = None;
        line.ok()?.map(|line| line.trim().to_owned())
    }
}

fn read_line() -> Option<String> {
    let mut line = String::new();
    stdin().read_line(&mut line).ok().filter(|bytes| *bytes > 0).map(|_| line)
}

/// Whether somebody sits here who can read a question and answer it.
pub(super) fn can_ask() -> bool {
    stdin().is_terminal() && stdout().is_terminal()
}

#[async_trait]
impl Gatekeeper for Owner<'_> {
    fn look_over(&self, jobs: &mut Vec<PlannedJob>, build: &mut BuildPlan) -> Result<(), String> {
        self.occasion.narrow(jobs).map_err(|error| sentence(&error))?;
        let skipped: Vec<(StageName, String)> =
            build.skipped.iter().map(|skipped| (skipped.stage.clone(), skipped.reason.clone())).collect();
        let selected = self.selection.apply(jobs, self.earlier, &skipped)?;
        if self.selection.is_partial() {
            // Whoever asks for one stage wants to hear of that one.
            build.skipped.clear();
        }
        if self.no_cache {
            jobs.iter_mut().for_each(begin_anew);
        }
        let told = self.screen.differences(&differences(&self.here, jobs), &selected.notes);
        *self.selected.lock().unwrap_or_else(PoisonError::into_inner) = selected;
        told.map_err(|error| format!("failed to write the output: {error}"))
    }

    fn kept(&self, job: &PlannedJob) -> Vec<Kept> {
        let selected = self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        selected.kept.get(&job.key).cloned().unwrap_or_default()
    }

    async fn answer(&self, job: &PlannedJob, gate: &Gate) -> Answer {
        let is_open = self.yes || self.selection.names(job);
        if is_open {
            let values: Result<Vec<Variable>, String> = gate.inputs.iter().map(|input| self.given(input)).collect();
            return values.map_or_else(Answer::Skip, Answer::Open);
        }
        if !self.can_ask {
            return Answer::Skip(format!("a person has to let it begin: buildr run --only {}", word(job.key.as_str())));
        }
        self.asked(job, gate).await
    }

    fn place(&self, job: &PlannedJob) -> Place {
        place_here(job)
    }

    fn narrows(&self) -> bool {
        self.selection.is_partial()
    }

    fn insists(&self, job: &PlannedJob) -> bool {
        self.selection.names(job)
    }
}

impl Owner<'_> {
    /// The value of a gate's input when nobody is asked.
    fn given(&self, input: &GateInput) -> Result<Variable, String> {
        let given = self.inputs.iter().rev().find(|given| given.name == input.name).map(|given| given.value.clone());
        let value = given.or_else(|| input.default.clone());
        let value = value.ok_or_else(|| format!("{0} has no value: give it one with --input {0}=VALUE", input.name))?;
        fits(input, &value).map(|()| Variable::new(&*input.name, value))
    }

    async fn asked(&self, job: &PlannedJob, gate: &Gate) -> Answer {
        let question = gate.ask.clone().unwrap_or_else(|| format!("Run {}?", job.key));
        let allowed = if gate.allow.is_empty() {
            String::new()
        } else {
            format!(" (on a farm only {} may)", gate.allow.join(", "))
        };
        let no = || Answer::Skip("you said no".to_owned());
        let typing = &mut *self.typing.lock().await;
        typing.forget();
        match self.line(typing, &format!("{}{} [y/N] ", clean(&question), clean(&allowed))).await {
            Some(answer) if matches!(answer.to_lowercase().as_str(), "y" | "yes") => {}
            _ => return no(),
        }
        let mut values = Vec::new();
        for input in &gate.inputs {
            match self.value(typing, input).await {
                Some(value) => values.push(Variable::new(&*input.name, value)),
                None => return no(),
            }
        }
        Answer::Open(values)
    }

    /// Asks for an input until the answer fits; none when the input ends.
    async fn value(&self, typing: &mut Typing, input: &GateInput) -> Option<String> {
        if let Ok(given) = self.given(input)
            && self.inputs.iter().any(|known| known.name == input.name)
        {
            return Some(given.value);
        }
        let mut question = clean(&input.name).into_owned();
        if let Some(description) = &input.description {
            question = format!("{question}: {}", clean(description));
        }
        if !input.choices.is_empty() {
            question = format!("{question} ({})", clean(&input.choices.join(", ")));
        }
        if let Some(default) = &input.default {
            question = format!("{question} [{}]", clean(default));
        }
        loop {
            let answer = self.line(typing, &format!("{question} ")).await?;
            let value = if answer.is_empty() { input.default.clone().unwrap_or_default() } else { answer };
            match fits(input, &value) {
                Ok(()) if !value.is_empty() || input.default.is_some() => return Some(value),
                Ok(()) => self.screen.note(&format!("{} needs a value", input.name)).ok()?,
                Err(wrong) => self.screen.note(&wrong).ok()?,
            }
        }
    }

    /// One line that the person types; none at the end of the input.
    async fn line(&self, typing: &mut Typing, question: &str) -> Option<String> {
        let _asking = self.screen.ask(question).ok()?;
        typing.line(read_line).await
    }
}

/// Where a job runs that is done on this machine.
pub(super) fn place_here(job: &PlannedJob) -> Place {
    match &job.downstream {
        Some(downstream) => {
            let repo = downstream.repo.as_ref().map_or_else(|| "this repository".to_owned(), ToString::to_string);
            Place::Nowhere(format!("it begins another build, of {repo}, which only a farm does"))
        }
        None => {
            let instead = |labels: &str| format!("runs here in place of an agent with {labels}");
            match foreign_image(job) {
                Some(image) => {
                    let others = other_labels(job, image);
                    Place::IfItRuns(image.clone(), (!others.is_empty()).then(|| instead(&others)))
                }
                None if job.labels.is_empty() => Place::Here,
                None => Place::Instead(instead(&job.labels.to_string())),
            }
        }
    }
}

/// Nothing of earlier builds is used; what this one makes is kept for later ones.
fn begin_anew(job: &mut PlannedJob) {
    if let Some(prepare) = &mut job.plan.prepare {
        prepare.cache = false;
    }
    for cache in job.plan.stages.iter_mut().flat_map(|stage| &mut stage.cache) {
        if cache.policy == CachePolicy::Both {
            cache.policy = CachePolicy::Push;
        }
    }
    job.plan.stages.iter_mut().for_each(|stage| stage.cache.retain(|cache| cache.policy == CachePolicy::Push));
}

fn fits(input: &GateInput, value: &str) -> Result<(), String> {
    if input.choices.is_empty() || input.choices.iter().any(|choice| choice == value) {
        return Ok(());
    }
    Err(format!("{} is one of {}, not {value:?}", input.name, input.choices.join(", ")))
}

/// A text as one word of a shell's command.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,/=:@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// An error of the command line as one sentence.
fn sentence(error: &CliError) -> String {
    match error {
        CliError::Usage { what, instead: Some(instead) } => format!("{what}; try: {instead}"),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_value_must_be_one_that_the_gate_knows() {
        let mut input = GateInput { name: "REGION".to_owned(), choices: Vec::new(), default: None, description: None };
        assert_eq!(fits(&input, "anything"), Ok(()));
        input.choices = vec!["eu".to_owned(), "us".to_owned()];
        assert_eq!(fits(&input, "us"), Ok(()));
        assert_eq!(fits(&input, "mars").unwrap_err(), "REGION is one of eu, us, not \"mars\"");
    }

    #[tokio::test]
    async fn what_is_typed_late_is_the_answer_to_what_is_asked_then() {
        use std::sync::mpsc::{Receiver, Sender, channel};
        static TYPED: Mutex<Option<Receiver<&str>>> = Mutex::new(None);
        fn typed() -> Option<String> {
            TYPED.lock().unwrap().as_ref().unwrap().recv().ok().map(str::to_owned)
        }
        let (keys, receiver): (Sender<&str>, _) = channel();
        *TYPED.lock().unwrap() = Some(receiver);
        let mut typing = Typing::default();
        // The time of the first is over before anything is typed.
        assert!(tokio::time::timeout(Duration::from_millis(10), typing.line(typed)).await.is_err());
        typing.forget();
        keys.send("y\n").unwrap();
        assert_eq!(typing.line(typed).await.as_deref(), Some("y"));
        // What comes when nobody asks is no answer to the next.
        assert!(tokio::time::timeout(Duration::from_millis(10), typing.line(typed)).await.is_err());
        keys.send("y\n").unwrap();
        while !typing.0.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
        typing.forget();
        keys.send("n\n").unwrap();
        assert_eq!(typing.line(typed).await.as_deref(), Some("n"));
        drop(keys);
        assert_eq!(typing.line(typed).await, None);
    }

    #[test]
    fn words_for_a_shell() {
        assert_eq!(word("build..package"), "build..package");
        assert_eq!(word("unit (os=a)"), "'unit (os=a)'");
        assert_eq!(word("it's"), "'it'\\''s'");
    }
}
