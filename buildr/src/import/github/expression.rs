//! GitHub's expressions: `${{ … }}` in texts, and the conditions of `if`.

use super::super::Kind;
use super::super::conditions::{Condition, both, none_of};
use super::super::words;
use super::quotes::{self, Around};

/// A text in which expressions are replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replaced {
    pub(super) text: String,
    /// Secrets that it reads.
    pub(super) secrets: Vec<String>,
    /// Expressions that nothing here stands for; they stay as they are.
    pub(super) unknown: Vec<String>,
    /// Expressions that stand where a shell replaces no variables.
    pub(super) literal: Vec<String>,
}

/// For a script: expressions become variables of the shell. Between single quotes, where these are none, the quotes
/// are closed for them.
pub(super) fn in_script(text: &str) -> Replaced {
    let quotes = std::cell::RefCell::new(quotes::Reader::default());
    let literal = |literal: &str| {
        quotes.borrow_mut().read(literal);
        literal.to_owned()
    };
    replaced(text, literal, |path, out| {
        let word = variable(path, out)?;
        let around = quotes.borrow().around();
        quotes.borrow_mut().read("x");
        match around {
            Around::Single if word.starts_with('$') => return Some(format!("'\"{word}\"'")),
            Around::Literal if word.starts_with('$') => out.literal.push(path.to_owned()),
            _ => {}
        }
        Some(word)
    })
}

/// For a part of a command: expressions become variables of the shell.
pub(super) fn in_word(text: &str) -> Replaced {
    replaced(text, str::to_owned, variable)
}

/// The variable of the shell for a path. A secret is noted.
fn variable(path: &str, out: &mut Replaced) -> Option<String> {
    if let Some(secret) = path.strip_prefix("secrets.") {
        out.secrets.push(secret.to_owned());
    }
    shell_word(path).map(|word| words::braced(&word))
}

/// For a shell's word between double quotes.
pub(super) fn in_quotes(text: &str) -> Replaced {
    let literal = |text: &str| {
        text.chars().flat_map(|c| matches!(c, '"' | '\\' | '$' | '`').then_some('\\').into_iter().chain([c])).collect()
    };
    let mut replaced = replaced(text, literal, |path, _| shell_word(path).filter(|_| !path.starts_with("secrets.")));
    replaced.text = format!("\"{}\"", replaced.text);
    replaced
}

/// For a declarative value. `env` is what the file itself sets.
pub(super) fn in_value(text: &str, env: &[(String, String)]) -> Replaced {
    replaced(
        text,
        |literal| literal.replace("${", "$${"),
        |path, _| {
            if let Some(axis) = path.strip_prefix("matrix.") {
                return Some(format!("${{matrix.{axis}}}"));
            }
            if let Some(input) = input(path) {
                return Some(format!("${{inputs.{input}}}"));
            }
            if let Some(name) = path.strip_prefix("env.") {
                return env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            }
            match path {
                "github.sha" => Some("${commit}".to_owned()),
                "github.ref_name" | "github.head_ref" => Some("${branch}".to_owned()),
                "github.event_name" => Some("${event}".to_owned()),
                "github.workspace" => Some("/app".to_owned()),
                "runner.os" => Some("Linux".to_owned()),
                "runner.arch" => Some("X64".to_owned()),
                "runner.temp" => Some("/tmp".to_owned()),
                _ => None,
            }
        },
    )
}

/// The one secret that a text is, when it is nothing else.
pub(super) fn secret(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("${{")?.strip_suffix("}}")?.trim();
    inner.strip_prefix("secrets.").filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn input(path: &str) -> Option<&str> {
    path.strip_prefix("inputs.").or_else(|| path.strip_prefix("github.event.inputs."))
}

fn replaced(
    text: &str,
    literal: impl Fn(&str) -> String,
    word: impl Fn(&str, &mut Replaced) -> Option<String>,
) -> Replaced {
    let mut out = Replaced::default();
    let mut rest = text;
    while let Some(at) = rest.find("${{") {
        let Some(length) = rest[at..].find("}}") else { break };
        out.text += &literal(&rest[..at]);
        let whole = &rest[at..at + length + 2];
        let path = whole[3..whole.len() - 2].trim();
        let quoted =
            path.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).filter(|text| !text.contains('\''));
        match quoted.map(str::to_owned).or_else(|| word(path, &mut out)) {
            Some(word) => out.text += &word,
            None => {
                out.unknown.push(path.to_owned());
                out.text += &literal(whole);
            }
        }
        rest = &rest[at + length + 2..];
    }
    out.text += &literal(rest);
    out
}

/// The shell's word for a path such as `matrix.os`.
fn shell_word(path: &str) -> Option<String> {
    let plain = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if let Some(axis) = path.strip_prefix("matrix.") {
        return Some(format!("${{{}}}", axis_variable(axis)))
            .filter(|_| axis.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)));
    }
    let own = ["env.", "secrets.", "vars."].iter().find_map(|prefix| path.strip_prefix(prefix)).or_else(|| input(path));
    if let Some(name) = own {
        return plain(name).then(|| format!("${{{name}}}"));
    }
    let foreign = match path {
        "runner.os" => return Some("Linux".to_owned()),
        "runner.temp" => return Some("/tmp".to_owned()),
        // The service's own port, under its own name.
        path if path.starts_with("job.services.") => {
            let (_, port) = path.rsplit_once("ports[")?;
            return Some(port.trim_end_matches(']').trim_matches(['\'', '"']).to_owned());
        }
        path => format!("GITHUB_{}", path.strip_prefix("github.")?.to_uppercase()),
    };
    words::in_shell(Kind::Github, &foreign).map(str::to_owned)
}

/// The variable in which an axis of a matrix arrives.
fn axis_variable(axis: &str) -> String {
    let upper = axis.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("BUILDR_MATRIX_{upper}")
}

/// Why a condition is not carried over.
#[derive(Debug)]
pub(super) struct Unclear;

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Clause {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Same(String, String),
    Call(String, Vec<String>),
    Path(String),
}

/// Reads a condition as `if` has it, with `${{ }}` or without. Texts keep their quote at the beginning.
pub(super) fn condition(text: &str) -> Result<Clause, Unclear> {
    let text = text.trim();
    let text = text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}")).unwrap_or(text);
    let words = split(text).ok_or(Unclear)?;
    let mut reader = Reader { words, at: 0 };
    let condition = reader.any()?;
    if reader.at == reader.words.len() { Ok(condition) } else { Err(Unclear) }
}

fn split(text: &str) -> Option<Vec<String>> {
    const SIGNS: [&str; 8] = ["&&", "||", "==", "!=", "(", ")", "!", ","];
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            words.push((*sign).to_owned());
            sign.len()
        } else if first == '\'' {
            let end = rest[1..].find('\'')?;
            words.push(rest[..=end].to_owned());
            end + 2
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_.-*[]".contains(c)).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            if end == 0 {
                return None;
            }
            end
        };
        rest = rest[length..].trim_start();
    }
    Some(words)
}

struct Reader {
    words: Vec<String>,
    at: usize,
}

impl Reader {
    fn take(&mut self, word: &str) -> bool {
        let there = self.words.get(self.at).is_some_and(|next| next == word);
        self.at += usize::from(there);
        there
    }

    fn any(&mut self) -> Result<Clause, Unclear> {
        let mut all = vec![self.all()?];
        while self.take("||") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Clause::Any(all) })
    }

    fn all(&mut self) -> Result<Clause, Unclear> {
        let mut all = vec![self.one()?];
        while self.take("&&") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Clause::All(all) })
    }

    fn one(&mut self) -> Result<Clause, Unclear> {
        if self.take("!") {
            return Ok(Clause::Not(Box::new(self.one()?)));
        }
        if self.take("(") {
            let inner = self.any()?;
            return if self.take(")") { Ok(inner) } else { Err(Unclear) };
        }
        let first = self.term()?;
        if self.take("(") {
            let mut arguments = Vec::new();
            while !self.take(")") {
                arguments.push(self.term()?);
                self.take(",");
            }
            return Ok(Clause::Call(first.to_lowercase(), arguments));
        }
        if self.take("==") {
            return Ok(Clause::Same(first, self.term()?));
        }
        if self.take("!=") {
            return Ok(Clause::Not(Box::new(Clause::Same(first, self.term()?))));
        }
        Ok(Clause::Path(first))
    }

    fn term(&mut self) -> Result<String, Unclear> {
        let word = self.words.get(self.at).cloned().ok_or(Unclear)?;
        self.at += 1;
        if ["&&", "||", "==", "!=", "(", ")", "!", ","].contains(&word.as_str()) { Err(Unclear) } else { Ok(word) }
    }
}

/// The text of a term: without its quote, or a plain number or truth.
fn text_of(term: &str) -> Option<&str> {
    term.strip_prefix('\'').or_else(|| (!term.contains('.') || term.parse::<f64>().is_ok()).then_some(term))
}

impl Clause {
    /// As conditions of `when`, of which one must hold.
    pub(super) fn when(&self) -> Result<Vec<Condition>, Unclear> {
        match self {
            Self::Any(all) => {
                let mut any = Vec::new();
                for one in all {
                    any.extend(one.when()?);
                }
                Ok(any)
            }
            Self::All(all) => all.iter().try_fold(Vec::new(), |so_far, one| Ok(both(&so_far, &one.when()?))),
            Self::Not(inner) => {
                if **inner == Self::Call("cancelled".to_owned(), Vec::new()) {
                    return Ok(vec![Condition::of("status", ["success", "failure"])]);
                }
                none_of(&inner.when()?).ok_or(Unclear)
            }
            Self::Same(path, value) => same(path, text_of(value).ok_or(Unclear)?).map(|one| vec![one]),
            Self::Call(name, arguments) => call(name, arguments).map(|one| vec![one]),
            Self::Path(path) => match input(path) {
                Some(input) => Ok(vec![Condition::expression(format!("env.{input} == \"true\""))]),
                None => Err(Unclear),
            },
        }
    }

    /// As a command of the shell that succeeds when it holds.
    pub(super) fn shell(&self) -> Result<String, Unclear> {
        let joined = |all: &[Self], sign: &str| -> Result<String, Unclear> {
            let parts: Result<Vec<String>, Unclear> = all.iter().map(Self::shell).collect();
            Ok(format!("{{ {}; }}", parts?.join(sign)))
        };
        match self {
            Self::Any(all) => joined(all, " || "),
            Self::All(all) => joined(all, " && "),
            Self::Not(inner) => Ok(format!("! {}", inner.shell()?)),
            Self::Same(path, value) => {
                let value = text_of(value).ok_or(Unclear)?;
                let value =
                    if path == "github.event_name" { event(value).first().copied().ok_or(Unclear)? } else { value };
                let word = shell_word(path).filter(|_| !path.starts_with("secrets.")).ok_or(Unclear)?;
                Ok(format!("[ \"{word}\" = {} ]", super::super::draft::shell_word(value)))
            }
            Self::Call(name, arguments) => match (name.as_str(), arguments.as_slice()) {
                ("startswith", [path, start]) => {
                    let word = shell_word(path).ok_or(Unclear)?;
                    let start = super::super::draft::shell_word(text_of(start).ok_or(Unclear)?);
                    Ok(format!("case \"{word}\" in {start}*) true ;; *) false ;; esac"))
                }
                ("success", []) => Ok("true".to_owned()),
                _ => Err(Unclear),
            },
            Self::Path(path) => Ok(format!(
                "[ \"{}\" = true ]",
                shell_word(path).filter(|_| !path.starts_with("secrets.")).ok_or(Unclear)?
            )),
        }
    }
}

/// The events here for one of GitHub's; none where there is nothing of the kind.
pub(super) fn event(name: &str) -> &'static [&'static str] {
    match name {
        "push" => &["push", "tag"],
        "pull_request" | "pull_request_target" => &["pull_request"],
        "schedule" => &["schedule"],
        "workflow_dispatch" => &["manual"],
        "repository_dispatch" | "workflow_run" => &["upstream"],
        "release" | "create" => &["tag"],
        _ => &[],
    }
}

fn same(path: &str, value: &str) -> Result<Condition, Unclear> {
    match path {
        "github.event_name" => match event(value) {
            [] => Err(Unclear),
            events => Ok(Condition::of("event", events.iter().copied())),
        },
        "github.ref" => match (value.strip_prefix("refs/heads/"), value.strip_prefix("refs/tags/")) {
            (Some(branch), _) => Ok(Condition::of("branch", [branch])),
            (_, Some(tag)) => Ok(Condition::of("tag", [tag])),
            _ => Err(Unclear),
        },
        "github.ref_name" => Ok(Condition::of("branch", [value])),
        // They are set in pull requests alone.
        "github.base_ref" | "github.head_ref" if value.is_empty() => Ok(Condition::of("event", ["!pull_request"])),
        "github.base_ref" | "github.head_ref" => {
            let mut condition = match path {
                "github.base_ref" => Condition::of("branch", [value]),
                _ => Condition::expression(format!("branch == {value:?}")),
            };
            condition.require("event", vec!["pull_request".to_owned()]);
            Ok(condition)
        }
        "github.ref_type" if value == "tag" => Ok(Condition::of("event", ["tag"])),
        path if path.starts_with("matrix.") => Ok(Condition::expression(format!("{path} == {value:?}"))),
        path => match input(path) {
            Some(input) => Ok(Condition::expression(format!("env.{input} == {value:?}"))),
            None => Err(Unclear),
        },
    }
}

fn call(name: &str, arguments: &[String]) -> Result<Condition, Unclear> {
    match (name, arguments) {
        ("always", []) => Ok(Condition::of("status", ["success", "failure"])),
        ("failure", []) => Ok(Condition::of("status", ["failure"])),
        ("success", []) => Ok(Condition::of("status", ["success"])),
        ("startswith", [path, start]) if path == "github.ref" || path == "github.ref_name" => {
            let start = text_of(start).ok_or(Unclear)?;
            match (start.strip_prefix("refs/heads/"), start.strip_prefix("refs/tags/")) {
                (_, Some("")) => Ok(Condition::of("event", ["tag"])),
                (Some(branch), _) => Ok(Condition::of("branch", [format!("{branch}**")])),
                (_, Some(tag)) => Ok(Condition::of("tag", [format!("{tag}**")])),
                _ if path == "github.ref_name" => Ok(Condition::of("branch", [format!("{start}**")])),
                _ => Err(Unclear),
            }
        }
        _ => Err(Unclear),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::conditions::written;
    use super::*;
    use crate::manifest::Map;

    #[test]
    fn texts_with_expressions() {
        let script = in_script(
            "x ${{ matrix.node-version }} ${{secrets.KEY}} ${{ github.sha }} ${{ steps.a.outputs.b }} ${HOME}",
        );
        assert_eq!(
            script.text,
            "x ${BUILDR_MATRIX_NODE_VERSION} ${KEY} ${BUILDR_COMMIT} ${{ steps.a.outputs.b }} ${HOME}"
        );
        assert_eq!((script.secrets, script.unknown), (vec!["KEY".to_owned()], vec!["steps.a.outputs.b".to_owned()]));
        let quoted = in_script(
            "x '${{ secrets.KEY }}.' \"${{ github.sha }}\" '${{ runner.os }}'\ncat <<'E'\n${{ matrix.a }}\nE\n",
        );
        assert_eq!(quoted.text, "x ''\"${KEY}\"'.' \"${BUILDR_COMMIT}\" 'Linux'\ncat <<'E'\n${BUILDR_MATRIX_A}\nE\n");
        assert_eq!((quoted.secrets, quoted.literal), (vec!["KEY".to_owned()], vec!["matrix.a".to_owned()]));
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(in_value("${{ env.A }}-${{ matrix.x }} ${B}", &env).text, "1-${matrix.x} $${B}");
        assert_eq!(in_value("${{ x.y }}", &env).unknown, ["x.y"]);
        assert_eq!(in_value("${{ github.base_ref }}", &env).unknown, ["github.base_ref"]);
        assert_eq!(in_quotes("a\"$b ${{ matrix.x }}").text, "\"a\\\"\\$b ${BUILDR_MATRIX_X}\"");
        assert_eq!(secret("${{ secrets.A_1 }}"), Some("A_1"));
        assert_eq!(secret("x${{ secrets.A }}"), None);
    }

    #[track_caller]
    fn check(text: &str, when: &str, shell: &str) {
        let condition = condition(text);
        let got = condition.as_ref().ok().and_then(|it| it.when().ok()).map_or("unclear".to_owned(), |conditions| {
            let mut map = Map::default();
            if let Some(when) = written(&conditions) {
                map.set("when", when);
            }
            map.document().trim_end().replace("\n  ", " ").replace("when: ", "")
        });
        let command = condition.ok().and_then(|it| it.shell().ok()).unwrap_or_else(|| "unclear".to_owned());
        assert_eq!((got.as_str(), command.as_str()), (when, shell), "{text}");
    }

    #[test]
    fn conditions() {
        check("github.ref == 'refs/heads/main'", "branch: main", "[ \"${BUILDR_REF:-}\" = 'refs/heads/main' ]");
        check(
            "${{ github.event_name != 'pull_request' }}",
            "event: [push, tag, schedule, manual, upstream, injected, local]",
            "! [ \"$BUILDR_EVENT\" = 'pull_request' ]",
        );
        check(
            "startsWith(github.ref, 'refs/tags/v') && github.event_name == 'push'",
            "tag: v** event: [push, tag]",
            "{ case \"${BUILDR_REF:-}\" in 'refs/tags/v'*) true ;; *) false ;; esac && [ \"$BUILDR_EVENT\" = 'push' ]; }",
        );
        check("always()", "status: [success, failure]", "unclear");
        check("matrix.os == 'x' || failure()", "[{if: matrix.os == \"x\"}, {status: failure}]", "unclear");
        check("contains(github.event.head_commit.message, 'x')", "unclear", "unclear");
        check(
            "!(github.ref_name == 'a')",
            "[{branch: '!a'}, {event: [tag, pull_request]}]",
            "! [ \"${BUILDR_TAG:-${BUILDR_BRANCH:-}}\" = 'a' ]",
        );
        check(
            "github.base_ref == 'main'",
            "branch: main event: pull_request",
            "[ \"${BUILDR_PR_TARGET:-}\" = 'main' ]",
        );
        check(
            "github.head_ref == 'dev'",
            "event: pull_request if: branch == \"dev\"",
            "[ \"${BUILDR_PR_SOURCE:-}\" = 'dev' ]",
        );
        check(
            "github.ref != 'refs/heads/main'",
            "[{branch: '!main'}, {event: [tag, pull_request]}]",
            "! [ \"${BUILDR_REF:-}\" = 'refs/heads/main' ]",
        );
        check("a ==", "unclear", "unclear");
    }
}
