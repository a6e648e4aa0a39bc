//! What names and operators of an expression of `if` mean, and whether they fit together, before it is evaluated:
//! what is wrong in a part that this build never comes to is found all the same.

use cel::common::ast::operators as op;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};

use super::findings::{closest, instead};

/// What an expression is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Yes,
    Text,
    Number,
    List(Box<Self>),
    Map,
    /// Anything; not known before it is evaluated.
    Any,
}

/// Something in an expression that cannot be meant.
pub(super) struct Wrong {
    /// Of which part, as the parser numbers them.
    pub(super) id: u64,
    pub(super) message: String,
    pub(super) help: String,
}

/// Names that an expression may use, and those within its maps.
pub(super) struct Names<'n> {
    pub(super) matrix: Vec<&'n str>,
    pub(super) env: Vec<&'n str>,
}

const TEXTS: [&str; 5] = ["event", "branch", "tag", "ref", "target"];
const ALL: [&str; 8] = ["event", "branch", "tag", "ref", "target", "matrix", "env", "changed"];
const FUNCTIONS: [&str; 13] = [
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "size",
    "string",
    "int",
    "double",
    "bool",
    "has",
    "all",
    "exists",
    "filter",
];

/// Checks an expression of which one part is looked at after the other.
pub(super) struct Check<'n> {
    names: &'n Names<'n>,
    /// What `all`, `exists` and their like bind, innermost last.
    bound: Vec<(String, Kind)>,
    /// How many of them are around.
    loops: usize,
}

impl<'n> Check<'n> {
    pub(super) fn new(names: &'n Names<'n>) -> Self {
        Self { names, bound: Vec::new(), loops: 0 }
    }

    /// What it is.
    ///
    /// # Errors
    /// The first part that cannot be meant.
    pub(super) fn kind(&mut self, part: &IdedExpr) -> Result<Kind, Wrong> {
        match &part.expr {
            Expr::Unspecified => Ok(Kind::Any),
            Expr::Ident(name) => self.name(name, part.id),
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Kind::Yes,
                LiteralValue::String(_) => Kind::Text,
                LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_) => Kind::Number,
                LiteralValue::Bytes(_) | LiteralValue::Null => Kind::Any,
            }),
            Expr::List(list) => {
                let kinds: Vec<Kind> = list.elements.iter().map(|part| self.kind(part)).collect::<Result<_, _>>()?;
                let first = kinds.first().cloned().unwrap_or(Kind::Any);
                let same = kinds.iter().all(|kind| *kind == first);
                Ok(Kind::List(Box::new(if same { first } else { Kind::Any })))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.kind(&entry.key)?;
                        self.kind(&entry.value)?;
                    }
                }
                Ok(Kind::Any)
            }
            Expr::Struct(made) => {
                Err(wrong(part.id, format!("there is no type `{}`", made.type_name), "compare texts"))
            }
            Expr::Select(select) => self.field(select, part.id),
            Expr::Call(call) => self.call(call, part.id),
            Expr::Comprehension(each) => self.each(each, part.id),
        }
    }

    fn name(&self, name: &str, id: u64) -> Result<Kind, Wrong> {
        if let Some((_, kind)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return Ok(kind.clone());
        }
        match name {
            "changed" => Ok(Kind::List(Box::new(Kind::Text))),
            "matrix" | "env" => Ok(Kind::Map),
            name if TEXTS.contains(&name) => Ok(Kind::Text),
            name => Err(wrong(id, format!("there is no name `{name}`"), instead(name, ALL))),
        }
    }

    fn field(&mut self, select: &SelectExpr, id: u64) -> Result<Kind, Wrong> {
        let kind = self.kind(&select.operand)?;
        let field = &select.field;
        match kind {
            Kind::Map | Kind::Any => {}
            _ => {
                return Err(wrong(
                    id,
                    format!("only `matrix` and `env` have parts such as `.{field}`"),
                    "write `a == \"b\"`",
                ));
            }
        }
        let Expr::Ident(of) = &select.operand.expr else { return Ok(Kind::Any) };
        let known = match of.as_str() {
            "matrix" => &self.names.matrix,
            "env" => &self.names.env,
            _ => return Ok(Kind::Any),
        };
        if select.test {
            return Ok(Kind::Yes);
        }
        if known.contains(&field.as_str()) {
            return Ok(Kind::Text);
        }
        let (message, help) = if of == "matrix" {
            (format!("there is no axis `{field}` here"), instead(field, known.iter().copied()))
        } else {
            let ask = format!("ask for it by `has(env.{field}) && …` when it may be missing");
            let meant = closest(field, known.iter().copied()).map(|meant| format!("did you mean `env.{meant}`?"));
            (format!("the manifest sets no variable `{field}`"), meant.unwrap_or(ask))
        };
        // `has(env.X) && env.X == …` asks first.
        if of == "env" && self.bound.iter().any(|(bound, _)| *bound == asked(field)) {
            return Ok(Kind::Text);
        }
        Err(wrong(id, message, help))
    }

    fn call(&mut self, call: &CallExpr, id: u64) -> Result<Kind, Wrong> {
        if call.func_name == op::LOGICAL_AND {
            return self.and(call);
        }
        let mut kinds: Vec<Kind> = Vec::new();
        for part in call.target.iter().map(|target| &**target).chain(&call.args) {
            kinds.push(self.kind(part)?);
        }
        let fits = |kind: &Kind, wanted: &Kind| kind == wanted || *kind == Kind::Any;
        let all = |wanted: &Kind| kinds.iter().all(|kind| fits(kind, wanted));
        let misfit = |what: &str| Err(wrong(id, format!("{what}: this is {}", listed(&kinds)), HELP));
        match call.func_name.as_str() {
            op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE => {
                if all(&Kind::Yes) {
                    Ok(Kind::Yes)
                } else {
                    misfit("`&&`, `||` and `!` are between conditions")
                }
            }
            op::EQUALS | op::NOT_EQUALS => match kinds.as_slice() {
                [left, right] if !alike(left, right) => misfit("these can never be equal"),
                _ => Ok(Kind::Yes),
            },
            op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
                let comparable = all(&Kind::Number) || all(&Kind::Text);
                if comparable { Ok(Kind::Yes) } else { misfit("only two numbers or two texts are less or greater") }
            }
            op::ADD => match kinds.as_slice() {
                [left, right] if alike(left, right) && !matches!(left, Kind::Yes | Kind::Map) => Ok(left.clone()),
                _ => misfit("only numbers, texts and lists are added"),
            },
            op::SUBSTRACT | op::MULTIPLY | op::DIVIDE | op::MODULO | op::NEGATE => {
                if all(&Kind::Number) {
                    Ok(Kind::Number)
                } else {
                    misfit("only numbers are reckoned with")
                }
            }
            op::CONDITIONAL => match kinds.as_slice() {
                [condition, left, right] if fits(condition, &Kind::Yes) => {
                    Ok(if left == right { left.clone() } else { Kind::Any })
                }
                _ => misfit("before `?` stands a condition"),
            },
            op::INDEX => match kinds.as_slice() {
                [Kind::List(of), Kind::Number | Kind::Any] => Ok((**of).clone()),
                [Kind::Map, Kind::Text | Kind::Any] => Ok(Kind::Text),
                [Kind::Any, _] => Ok(Kind::Any),
                _ => misfit("only lists and maps have parts"),
            },
            op::IN => match kinds.as_slice() {
                [part, Kind::List(of)] if alike(part, of) => Ok(Kind::Yes),
                [part, Kind::Map] if fits(part, &Kind::Text) => Ok(Kind::Yes),
                [_, Kind::Any] => Ok(Kind::Yes),
                _ => misfit("`in` asks whether a list holds a value, or a map a name"),
            },
            function => self.function(function, &kinds, id),
        }
    }

    /// On the right of `has(env.X) &&`, `env.X` is there.
    fn and(&mut self, call: &CallExpr) -> Result<Kind, Wrong> {
        let before = self.bound.len();
        let mut ended = Ok(Kind::Yes);
        for part in &call.args {
            match self.kind(part) {
                Ok(Kind::Yes | Kind::Any) => {}
                Ok(kind) => {
                    let message = format!("`&&`, `||` and `!` are between conditions: this is {}", listed(&[kind]));
                    ended = Err(wrong(part.id, message, HELP));
                    break;
                }
                Err(wrong) => {
                    ended = Err(wrong);
                    break;
                }
            }
            tested(part, &mut self.bound);
        }
        self.bound.truncate(before);
        ended
    }

    fn function(&self, name: &str, kinds: &[Kind], id: u64) -> Result<Kind, Wrong> {
        let text = |kind: &Kind| matches!(kind, Kind::Text | Kind::Any);
        match (name, kinds) {
            ("startsWith" | "endsWith" | "contains" | "matches", [left, right]) if text(left) && text(right) => {
                Ok(Kind::Yes)
            }
            ("startsWith" | "endsWith" | "contains" | "matches", _) => {
                let message = format!("`{name}` asks a text about a text: this is {}", listed(kinds));
                Err(wrong(id, message, format!("write `branch.{name}(\"…\")`; of a list, `\"…\" in changed`")))
            }
            ("size", [Kind::Text | Kind::List(_) | Kind::Map | Kind::Any]) | ("int" | "double", [_]) => {
                Ok(Kind::Number)
            }
            ("string", [_]) => Ok(Kind::Text),
            ("bool", [_]) => Ok(Kind::Yes),
            ("size" | "int" | "double" | "string" | "bool", _) => {
                let message = format!("`{name}` takes one value: this is {}", listed(kinds));
                Err(wrong(id, message, format!("write `{name}(…)`")))
            }
            _ => Err(wrong(id, format!("there is no function `{name}`"), instead(name, FUNCTIONS))),
        }
    }

    /// What `all`, `exists`, `filter` and `map` are made of.
    fn each(&mut self, each: &ComprehensionExpr, id: u64) -> Result<Kind, Wrong> {
        if self.loops > 0 {
            let help = "ask about each of a list once, and join the answers by `&&` and `||`";
            return Err(wrong(id, "`all`, `exists` and their like cannot stand within each other", help));
        }
        let of = match self.kind(&each.iter_range)? {
            Kind::List(of) => *of,
            Kind::Any => Kind::Any,
            kind => {
                let message = format!("only of a list something is asked of each: this is {}", listed(&[kind]));
                return Err(wrong(id, message, "write `changed.exists(file, file.endsWith(\".rs\"))`"));
            }
        };
        let before = self.bound.len();
        let result = match self.kind(&each.accu_init)? {
            Kind::List(_) => Kind::List(Box::new(Kind::Any)),
            kind => kind,
        };
        self.loops += 1;
        self.bound.push((each.iter_var.clone(), of));
        self.bound.extend(each.iter_var2.iter().map(|name| (name.clone(), Kind::Any)));
        self.bound.push((each.accu_var.clone(), result));
        let parts = [&each.loop_cond, &each.loop_step, &each.result];
        let kinds: Result<Vec<Kind>, Wrong> = parts.iter().map(|part| self.kind(part)).collect();
        self.bound.truncate(before);
        self.loops -= 1;
        kinds.map(|kinds| kinds.last().cloned().unwrap_or(Kind::Any))
    }
}

const HELP: &str = "write it like `event == \"push\" && branch != \"main\"`; values are texts, in quotes";

/// Under which name it is bound that a variable was asked for; no variable has one.
fn asked(field: &str) -> String {
    format!("has(env.{field})")
}

/// Binds what a condition found to be there.
fn tested(part: &IdedExpr, bound: &mut Vec<(String, Kind)>) {
    match &part.expr {
        Expr::Select(SelectExpr { operand, field, test: true }) if operand.expr == Expr::Ident("env".to_owned()) => {
            bound.push((asked(field), Kind::Yes));
        }
        Expr::Call(call) if call.func_name == op::LOGICAL_AND => call.args.iter().for_each(|part| tested(part, bound)),
        _ => {}
    }
}

fn alike(left: &Kind, right: &Kind) -> bool {
    match (left, right) {
        (Kind::Any, _) | (_, Kind::Any) => true,
        (Kind::List(left), Kind::List(right)) => alike(left, right),
        (left, right) => left == right,
    }
}

fn listed(kinds: &[Kind]) -> String {
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            Kind::Yes => "a condition",
            Kind::Text => "a text",
            Kind::Number => "a number",
            Kind::List(_) => "a list",
            Kind::Map => "a map",
            Kind::Any => "a value",
        })
        .collect();
    names.join(" and ")
}

fn wrong(id: u64, message: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong { id, message: message.into(), help: help.into() }
}
