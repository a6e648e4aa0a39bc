//! `if`: an expression in CEL over what is known of the build.
//!
//! It comes from anybody's manifest, so it has bounds: its length, its depth, no loops in loops, and the time that all of a
//! plan may take together. The parser goes deep: a plan is made where there is room on the stack.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cel::common::ast::SourceInfo;
use cel::parser::Parser;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};

use super::clock::{Clock, LONGEST_ASKED};
use super::facts::Facts;
use super::findings::Findings;
use super::kinds::{Check, Kind, Names};
use super::matching::{self, Deadline, Regexes};
use super::scope::Scope;
use crate::manifest::{Span, Spanned, quoted};

/// The longest expression, in bytes.
const LONGEST: usize = 2000;

/// The deepest that parts may stand within each other.
const DEEPEST: u16 = 32;

/// What is wrong with an expression: at which of its characters.
struct Fault {
    at: Option<usize>,
    message: String,
    help: String,
}

impl Fault {
    fn whole(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at: None, message: message.into(), help: help.into() }
    }
}

/// An expression that was read.
struct Read {
    parsed: IdedExpr,
    /// The same, as it is evaluated.
    asked: IdedExpr,
    /// Where its parts are written.
    places: SourceInfo,
    asks_matrix: bool,
    asks_env: bool,
    asks_changed: bool,
}

/// An expression, and what may differ from place to place of all that it asks for.
#[derive(PartialEq, Eq, Hash)]
struct Question {
    text: String,
    axes: Vec<String>,
    cell: Vec<(String, String)>,
    env: BTreeMap<String, String>,
}

/// Judges the expressions of one plan, each once where it asks for the same.
pub(super) struct Judge<'j> {
    pub(super) facts: &'j Facts,
    pub(super) clock: &'j Clock<'j>,
    /// What all of them may call; made when there is one.
    library: OnceCell<Arc<Env>>,
    regexes: Arc<Regexes>,
    read: RefCell<HashMap<String, Rc<Read>>>,
    judged: RefCell<HashMap<Question, bool>>,
}

impl<'j> Judge<'j> {
    pub(super) fn new(facts: &'j Facts, clock: &'j Clock<'j>) -> Self {
        let (read, judged) = (RefCell::default(), RefCell::default());
        Self { facts, clock, library: OnceCell::new(), regexes: Arc::default(), read, judged }
    }

    /// Whether the expression holds; no, when something is wrong with it, which is told.
    pub(super) fn holds(
        &self,
        expression: &Spanned<String>,
        scope: &Scope<'_>,
        env: &BTreeMap<String, String>,
        findings: &mut Findings<'_>,
    ) -> bool {
        let (text, left) = (expression.value.as_str(), self.clock.left());
        // That there is no more time was told.
        if left.is_zero() {
            return false;
        }
        let judged = if text.len() > LONGEST {
            let message = format!("this expression is {} bytes long; it may have {LONGEST}", text.len());
            Err(Fault::whole(message, "ask shorter, or ask in the `script`"))
        } else {
            self.in_time(left, |until| self.judge(text, scope, env, until))
        };
        judged.unwrap_or_else(|fault| {
            let span = fault.at.map_or(expression.span, |at| place(expression, at, scope));
            findings.problem(span, fault.message, fault.help);
            false
        })
    }

    /// Judges within what is left of the time for it.
    fn in_time(&self, left: Duration, judge: impl FnOnce(Instant) -> Result<bool, Fault>) -> Result<bool, Fault> {
        let begun = Instant::now();
        let judged = catch_unwind(AssertUnwindSafe(|| judge(begun + left)));
        self.clock.spend(begun.elapsed());
        if self.clock.left().is_zero() {
            let seconds = LONGEST_ASKED.as_secs();
            let message = format!("to judge all expressions of this build up to here takes longer than {seconds} s");
            return Err(Fault::whole(message, "ask of fewer files or in fewer cells, or ask in the `script`"));
        }
        judged.unwrap_or_else(|_| Err(Fault::whole("this expression cannot be understood", "write it more simply")))
    }

    fn judge(
        &self,
        text: &str,
        scope: &Scope<'_>,
        env: &BTreeMap<String, String>,
        until: Instant,
    ) -> Result<bool, Fault> {
        let read = self.read(text)?;
        let mut question = Question { text: text.to_owned(), axes: Vec::new(), cell: Vec::new(), env: BTreeMap::new() };
        if read.asks_matrix {
            question.axes = scope.here.to_vec();
            question.cell = scope.cell.iter().map(|cell| (cell.axis.clone(), cell.value.clone())).collect();
        }
        if read.asks_env {
            question.env.clone_from(env);
        }
        if let Some(&holds) = self.judged.borrow().get(&question) {
            return Ok(holds);
        }
        let holds = self.evaluate(&read, &question, until)?;
        self.judged.borrow_mut().insert(question, holds);
        Ok(holds)
    }

    fn read(&self, text: &str) -> Result<Rc<Read>, Fault> {
        if let Some(read) = self.read.borrow().get(text) {
            return Ok(Rc::clone(read));
        }
        let parser = Parser::new().max_recursion_depth(DEEPEST);
        let (parsed, places) = parser.parse_with_source_info(text).map_err(|errors| unreadable(text, &errors))?;
        let asks = ["matrix", "env", "changed"].map(|name| parsed.references().has_variable(name));
        let [asks_matrix, asks_env, asks_changed] = asks;
        let mut asked = parsed.clone();
        matching::rename(&mut asked);
        let read = Rc::new(Read { parsed, asked, places, asks_matrix, asks_env, asks_changed });
        self.read.borrow_mut().insert(text.to_owned(), Rc::clone(&read));
        Ok(read)
    }

    fn evaluate(&self, read: &Read, question: &Question, until: Instant) -> Result<bool, Fault> {
        let matrix = question.axes.iter().map(String::as_str).collect();
        let names = Names { matrix, env: question.env.keys().map(String::as_str).collect() };
        let kind = Check::new(&names).kind(&read.parsed).map_err(|wrong| {
            let at = read.places.offset_for(wrong.id).and_then(|(start, _)| usize::try_from(start).ok());
            Fault { at, message: wrong.message, help: wrong.help }
        })?;
        if !matches!(kind, Kind::Yes | Kind::Any) {
            let help = "compare it, as in `branch == \"main\"`";
            return Err(Fault::whole("this is a value, and `if` takes a condition", help));
        }
        // Whoever does not know what has changed runs what may have.
        if self.facts.changed.is_none() && read.asks_changed {
            return Ok(true);
        }
        let deadline = Deadline(until);
        let mut context = self.context(read, question, until)?;
        context.set_variable_resolver(&deadline);
        match context.resolve(&read.asked) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(Fault::whole("this is a value, and `if` takes a condition", "compare it with something")),
            // A cell without the axis is not the one that is asked for.
            Err(ExecutionError::NoSuchKey(_)) => Ok(false),
            Err(error) => {
                Err(Fault::whole(format!("this cannot be judged: {error}"), "see that the values fit together"))
            }
        }
    }

    fn context<'v>(&self, read: &Read, question: &Question, until: Instant) -> Result<Context<'static, 'v>, Fault> {
        let facts = self.facts;
        let branch = |branch: &Option<protocol::Branch>| branch.as_ref().map(ToString::to_string).unwrap_or_default();
        let library = self.library.get_or_init(|| Arc::new(Env::stdlib()));
        let mut context = Context::with_env(Arc::clone(library));
        let texts = [
            ("event", facts.event.name().to_owned()),
            ("branch", branch(&facts.branch)),
            ("tag", facts.tag.clone().unwrap_or_default()),
            ("ref", facts.reference()),
            ("target", branch(&facts.target)),
        ];
        for (name, text) in texts {
            context.add_variable_from_value(name, text);
        }
        let cell: BTreeMap<&str, &str> = question.cell.iter().map(|(axis, value)| (&**axis, &**value)).collect();
        let changed = facts.changed.clone().filter(|_| read.asks_changed).unwrap_or_default();
        let added = context
            .add_variable("matrix", cell)
            .and_then(|()| context.add_variable("env", &question.env))
            .and_then(|()| context.add_variable("changed", changed));
        let added = added.map_err(|error| error.to_string());
        let added = added.and_then(|()| matching::add(&mut context, &self.regexes, until));
        added.map_err(|why| Fault::whole(format!("this cannot be judged: {why}"), "write it more simply"))?;
        Ok(context)
    }
}

/// Where the character `at` of an expression is written.
fn place(expression: &Spanned<String>, at: usize, scope: &Scope<'_>) -> Span {
    let Spanned { value, span } = expression;
    let byte = value.char_indices().nth(at).map_or(value.len(), |(byte, _)| byte);
    match scope.source.slice(*span).find(value.as_str()) {
        Some(begin) => {
            let start = span.start + begin + byte;
            let word = value[byte..].chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            Span::new(start..start + word.map(char::len_utf8).sum::<usize>().max(1))
        }
        None => *span,
    }
}

fn unreadable(text: &str, errors: &cel::ParseErrors) -> Fault {
    let help = "write it like `event == \"push\" && branch != \"main\"`";
    let Some(first) = errors.errors.first() else { return Fault::whole("this expression cannot be read", help) };
    let line = usize::try_from(first.pos.0).unwrap_or(0).saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
    let column = usize::try_from(first.pos.1).unwrap_or(0).saturating_sub(1);
    let why = first.msg.lines().next().unwrap_or_default();
    let why: String = why.chars().take(120).collect();
    Fault {
        at: Some(before + column),
        message: format!("this expression cannot be read: {}", quoted(&why)),
        help: help.to_owned(),
    }
}
