//! `matches` in expressions: each regular expression is made once, not once for each file that it is asked about, and
//! nothing is asked any more when the time for it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::common::types::CelNull;
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::extractors::This;
use cel::{Context, ExecutionError, Value};
use regex::Regex;

/// The function of expressions.
const MATCHES: &str = "matches";

/// The name of the one that stands in its place: a function of the library cannot be replaced under its own, and no
/// manifest may use this one.
const OURS: &str = "matches_within";

/// The most regular expressions that are kept: one takes up to some megabytes.
const KEPT: usize = 16;

/// Regular expressions by their texts.
#[derive(Default)]
pub(super) struct Regexes(Mutex<HashMap<String, Regex>>);

impl Regexes {
    fn matches(&self, text: &str, pattern: &str) -> Result<bool, String> {
        // Each change is one step.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = kept.get(pattern) {
            return Ok(regex.is_match(text));
        }
        let regex = Regex::new(pattern).map_err(|error| error.to_string())?;
        let matches = regex.is_match(text);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), regex);
        Ok(matches)
    }
}

/// When nothing is looked up any more: a name means nothing then, and whatever asks on comes to its end.
pub(super) struct Deadline(pub(super) Instant);

impl Deadline {
    fn is_over(&self) -> bool {
        Instant::now() >= self.0
    }
}

impl VariableResolver for Deadline {
    fn resolve<'b>(&'b self, _: &str) -> Option<CowVal<'b, 'b>> {
        self.is_over().then(|| CowVal::owned(CelNull))
    }
}

/// Gives a context the function for what [`rename`] was called on.
///
/// # Errors
/// When it has one of this name already.
pub(super) fn add(context: &mut Context<'_, '_>, regexes: &Arc<Regexes>, until: Instant) -> Result<(), String> {
    let (regexes, deadline) = (Arc::clone(regexes), Deadline(until));
    let asked = move |This(text): This<Arc<String>>, pattern: Arc<String>| {
        let failed = |why: String| ExecutionError::function_error(MATCHES, why);
        if deadline.is_over() {
            return Err(failed("its time is over".to_owned()));
        }
        regexes.matches(&text, &pattern).map(Value::Bool).map_err(failed)
    };
    context.add_function(OURS, asked).map_err(|error| error.to_string())
}

/// Puts our function in the place of the library's.
pub(super) fn rename(part: &mut IdedExpr) {
    match &mut part.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
        Expr::Select(select) => rename(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(rename),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| of_entry(&mut entry.expr)),
        Expr::Struct(made) => made.entries.iter_mut().for_each(|entry| of_entry(&mut entry.expr)),
        Expr::Call(call) => {
            if call.func_name == MATCHES {
                OURS.clone_into(&mut call.func_name);
            }
            call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(rename);
        }
        Expr::Comprehension(each) => {
            let each = &mut **each;
            let parts = [&mut each.iter_range, &mut each.accu_init, &mut each.loop_cond, &mut each.loop_step];
            parts.into_iter().for_each(rename);
            rename(&mut each.result);
        }
    }
}

fn of_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::MapEntry(entry) => {
            rename(&mut entry.key);
            rename(&mut entry.value);
        }
        EntryExpr::StructField(field) => rename(&mut field.value),
    }
}
