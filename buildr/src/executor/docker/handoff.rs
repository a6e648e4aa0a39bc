//! What a stage's container is told once it runs: its environment and its script, over its standard input.
//!
//! The container's main process is [`WRAPPER`]. It waits for one frame on its standard input, takes all of it
//! before anything runs (half a script is never begun), and feeds it to a `/bin/sh -e` of its own:
//! - The frame says how long it is and which line ends it, so that nobody needs to close the input.
//! - The script's shell reads from a pipe that ends, so that an unclosed quote is an error and not a wait.
//! - The script runs in the foreground: a shell makes what it starts with `&` deaf to SIGINT for good, and
//!   programs that are tested with SIGINT would notice. A trapped SIGTERM therefore waits until the script has
//!   ended; what must end at once is signalled from beside it ([`terminate`], [`kill_script`]).
//! - Both of its outputs are one pipe, so that a command's announcement and its complaint keep their order.
//! - After a SIGTERM the wrapper stays until every process has gone, for a shell dies of it at once while its
//!   children may still be tidying up, and all ends with the wrapper.
//! - Where something runs after the script, the wrapper lives through what ends the script, and tells in its output,
//!   by a mark that only this frame knows, how far it is ([`super::marks`]).
//! - The last thing that it tells is that it leaves: an output that ends without that was cut off, such as by a daemon
//!   that was started anew, and what the container's end says then is not the script's.
//! - Where all has ended well and nobody is left in the container but its init and the wrapper, it tells that too: then
//!   nothing can come any more, and nobody needs to wait until the daemon has seen to the container's end.

use std::fmt::Write as _;

use bytes::Bytes;
use protocol::Variable;
use rand::distr::{Alphanumeric, SampleString as _};

use super::super::{ExecutorError, StageOrder};

/// The main process of every stage's container, for `/bin/sh -c`. It ends with the script's exit code, or with
/// 125 when the frame did not arrive whole.
///
/// That it leaves is told until it is told: a program may have left the pipe such that it refuses what finds no room.
///
/// Its variables have names that no image has in its environment, for a variable that came with that would be
/// passed on with what is put into it. A shell reads byte by byte; what is longer than a kilobyte is sooner taken by `head` where there is one.
pub(super) const WRAPPER: &str = r#"buildr_ended= buildr_status= buildr_on_failure= buildr_after= buildr_early=
trap 'buildr_ended=1' TERM
trap 'buildr_status=cancelled' USR1
trap 'buildr_status=timed_out' USR2
read -r buildr_length buildr_mark || exit 125
buildr_program=$(
  if [ "$buildr_length" -gt 1024 ] && command -v head >/dev/null; then head -c "$buildr_length"
  else while IFS= read -r line; do printf '%s\n' "$line"; [ "$line" != "$buildr_mark" ] || break; done
  fi)
case $buildr_program in *"$buildr_mark") ;; *) exit 125 ;; esac
eval "$buildr_program"
buildr_run() {
  printf '%s\n' "$buildr_environment" "$buildr_told" "$2" | /bin/sh $1 /dev/fd/3 3<&0 </dev/null 2>&1
}
buildr_leave() {
  buildr_told=left buildr_tries=
  [ "$buildr_code$buildr_early" != 01 ] || [ $$ = 1 ] || {
    set -- /proc/[0-9]*
    [ $# != 2 ] || buildr_told=alone
  }
  until printf '%s=%s\n' "$buildr_mark" $buildr_told || [ ${#buildr_tries} = 50 ]; do
    buildr_tries=x$buildr_tries
    sleep 0.1 || sleep 1
  done 2>/dev/null
  exit $buildr_code
}
buildr_told=
buildr_run -e "$buildr_script"
buildr_code=$?
[ -z "$buildr_ended" ] || while kill -0 -1; do sleep 0.1 || sleep 1; done 2>/dev/null
[ -n "$buildr_on_failure$buildr_after" ] || buildr_leave
printf '%s=%s\n' "$buildr_mark" $buildr_code
case $buildr_status$buildr_code in 0) buildr_status=passed ;; [0-9]*) buildr_status=failed ;; *) ;; esac
buildr_told="export BUILDR_STAGE_STATUS=$buildr_status"
case $buildr_status in failed|timed_out)
  [ -z "$buildr_on_failure" ] || { printf '%s=on_failure\n' "$buildr_mark"; buildr_run '' "$buildr_on_failure"; } ;;
esac
[ -z "$buildr_after" ] || { printf '%s=after\n' "$buildr_mark"; buildr_run '' "$buildr_after"; }
buildr_leave
"#;

/// Finds the shell that runs [`WRAPPER`]: after the init it is the first process of its container.
const FIND: &str = r#"w=
for p in /proc/[0-9]*; do
  p=${p#/proc/}
  if [ "$p" -gt 1 ] && { [ -z "$w" ] || [ "$p" -lt "$w" ]; }; then w=$p; fi
done
"#;

/// SIGKILL to every process of a container but its init and the wrapper, for `/bin/sh -c` beside that: what runs after
/// the script still can. It goes to those that are there when it begins, and to nobody who comes later.
const KILL: &str = r#"for p in /proc/[0-9]*; do
  p=${p#/proc/}
  [ "$p" = 1 ] || [ "$p" = "$w" ] || [ "$p" = $$ ] || kill -KILL "$p"
done 2>/dev/null
:"#;

/// Why a script is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody asked for it.
    Cancelled,
    /// It took, or was silent, too long.
    TimedOut,
}

/// SIGTERM to every process of a container but its init and the shell that says so, for `/bin/sh -c` beside
/// [`WRAPPER`], which hears first why.
pub(super) fn terminate(why: Why) -> String {
    let signal = match why {
        Why::Cancelled => "USR1",
        Why::TimedOut => "USR2",
    };
    format!("{FIND}kill -{signal} \"$w\"; kill -TERM -1")
}

/// As [`KILL`].
pub(super) fn kill_script() -> String {
    format!("{FIND}{KILL}")
}

/// Variables that some shells hold read-only: setting one ends such a shell, so failing to is no matter.
const READONLY: [&str; 6] = ["UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"];

/// What a container is told, and how it tells what it does.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// For its standard input.
    pub(super) bytes: Bytes,
    /// By which it marks how far it is.
    pub(super) mark: String,
    /// Whether something runs after the script.
    pub(super) tidies: bool,
}

/// One stage's frame, as [`WRAPPER`] reads it. `mount` is where it sees its workspace; `early` whether its end may be told
/// before the container has ended.
///
/// # Errors
/// When something holds a NUL, which no shell can take.
pub(super) fn frame(
    environment: &[Variable],
    stage: &StageOrder,
    mount: &str,
    early: bool,
) -> Result<Frame, ExecutorError> {
    let mut exports = "exec 3<&-\n".to_owned();
    for variable in environment.iter().filter(|variable| is_name(&variable.name)) {
        export(&mut exports, variable);
    }
    let mut program = String::new();
    let mut part = |name: &str, text: &str| {
        let _ = writeln!(program, "buildr_{name}={}", quoted(text));
    };
    part("environment", &exports);
    part("script", &script(stage, mount));
    if early {
        part("early", "1");
    }
    for (name, commands) in [("on_failure", &stage.on_failure), ("after", &stage.after)] {
        if !commands.is_empty() {
            part(name, &format!("{}{}", enter(stage, mount, Missing::IsFine), in_turn(commands)));
        }
    }
    if program.contains('\0') {
        let sentence = "the script or its environment holds a NUL character, which no shell can take; remove it";
        return Err(ExecutorError::Refused(sentence.to_owned()));
    }
    let mark = format!("#{}", Alphanumeric.sample_string(&mut rand::rng(), 24));
    let _ = writeln!(program, "{mark}");
    let tidies = !(stage.on_failure.is_empty() && stage.after.is_empty());
    let bytes = Bytes::from(format!("{} {mark}\n{program}", program.len()));
    Ok(Frame { bytes, mark, tidies })
}

/// The stage's own commands, in its folder, by its shell.
fn script(stage: &StageOrder, mount: &str) -> String {
    let mut text = enter(stage, mount, Missing::IsAFailure);
    match &stage.shell {
        None => text.push_str(&in_turn(&stage.script)),
        Some(shell) => by_another_shell(&mut text, shell, &stage.script),
    }
    text.push_str("exit\n");
    text
}

/// Each command, announced before it runs.
fn in_turn(commands: &[String]) -> String {
    let mut text = String::new();
    for command in commands {
        announce(&mut text, command);
        text.push_str(command);
        // The empty line ends a command that itself ends with a backslash.
        text.push_str("\n\n");
    }
    text
}

/// Writes the script to a file of the container, where that can be, and has the shell run it.
fn by_another_shell(text: &mut String, shell: &str, commands: &[String]) {
    let name = format!("buildr-{}", Alphanumeric.sample_string(&mut rand::rng(), 12));
    let file = "\"$buildr_file\"";
    let runs = if shell.contains("{0}") { shell.replace("{0}", file) } else { format!("{shell} {file}") };
    announce(text, &commands.join("\n"));
    let _ = write!(
        text,
        r#"for buildr_folder in "${{TMPDIR:-/tmp}}" /dev/shm /var/tmp .; do
  buildr_file=$buildr_folder/{name}
  if (printf '%s\n' {} >"$buildr_file") 2>/dev/null; then break; fi
  buildr_file=
done
if [ -z "$buildr_file" ]; then
  echo "buildr: the script could not be written to a file: the container has no folder that its user may write to"
  exit 1
fi
buildr_code=0
{runs} || buildr_code=$?
rm -f "$buildr_file" 2>/dev/null || :
exit $buildr_code
"#,
        quoted(&commands.join("\n"))
    );
}

/// What it means that a stage's folder is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsAFailure,
    IsFine,
}

/// Goes to the folder in which a stage's commands begin.
fn enter(stage: &StageOrder, mount: &str, missing: Missing) -> String {
    let Some(folder) = stage.dir.as_deref().filter(|folder| !folder.is_empty()) else { return String::new() };
    let folder =
        if folder.starts_with('/') { folder.to_owned() } else { format!("{}/{folder}", mount.trim_end_matches('/')) };
    let otherwise = match missing {
        Missing::IsFine => ":".to_owned(),
        Missing::IsAFailure => {
            let sentence = format!(
                "buildr: the folder {folder}, in which stage {} begins (dir), is not there; have it made by an \
                 earlier stage, or correct dir",
                stage.name
            );
            format!("{{ printf '%s\\n' {}; exit 1; }}", quoted(&sentence))
        }
    };
    format!("cd {} 2>/dev/null || {otherwise}\n", quoted(&folder))
}

/// Whether a shell can set a variable of this name.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn export(program: &mut String, variable: &Variable) {
    let Variable { name, value } = variable;
    let value = quoted(value);
    let _ = if READONLY.contains(&name.as_str()) {
        writeln!(program, "command export {name}={value} 2>/dev/null || :")
    } else {
        writeln!(program, "export {name}={value}")
    };
}

/// Prints a command's first line before it runs, as a person would see it in a terminal. A script that has closed its
/// output goes on without.
fn announce(program: &mut String, command: &str) {
    let mut lines = command.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " …" } else { "" };
    let _ = writeln!(program, "printf '%s\\n' {} 2>/dev/null || :", quoted(&format!("$ {first}{more}")));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// The shells of this machine that images have as their `/bin/sh`.
    fn shells() -> Vec<Vec<String>> {
        let known = [vec!["dash"], vec!["bash"], vec!["busybox", "sh"], vec!["mksh"]];
        let runs = |words: &Vec<&str>| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).args(["-c", "exit 0"]).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        known.into_iter().filter(runs).map(|words| words.into_iter().map(str::to_owned).collect()).collect()
    }

    /// Runs a frame as a container would, with the input held open; gives the exit code and what was printed.
    fn run(shell: &[String], frame: &[u8]) -> (i32, String) {
        let wrapper = WRAPPER.replace("/bin/sh", &shell.join(" "));
        let mut child = Command::new(&shell[0])
            .args(&shell[1..])
            .args(["-c", &wrapper])
            .env_remove("FOO")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(frame).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(frame);
        let mark = told.split_whitespace().nth(1).unwrap_or_default();
        // It is the last word of whoever has begun.
        let left = printed.strip_suffix(&format!("{mark}=left\n")).or(printed.strip_suffix(&format!("{mark}=alone\n")));
        (output.status.code().unwrap(), left.unwrap_or(&printed).to_owned())
    }

    /// The same beside an init, in a process namespace of their own; nothing where that may not be made.
    fn run_apart(shell: &[String], frame: &Frame) -> Option<(i32, String)> {
        let apart = ["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
        let made = Command::new("unshare").args(apart).arg("true").output();
        if !made.is_ok_and(|made| made.status.success()) {
            let required = std::env::var_os("BUILDR_TEST_REQUIRE").unwrap_or_default();
            assert!(
                !required.to_string_lossy().split(',').any(|part| part == "mount"),
                "mounting is required and not allowed"
            );
            return None;
        }
        let wrapper = WRAPPER.replace("/bin/sh", &shell.join(" "));
        let mut child = Command::new("unshare")
            .args(apart)
            .args(["\"$@\"; exit $?", "init"])
            .args(shell)
            .args(["-c", &wrapper])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&frame.bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let printed = String::from_utf8_lossy(&output.stdout).replace(&frame.mark, "MARK");
        Some((output.status.code().unwrap(), printed))
    }

    fn stage(script: &[&str]) -> StageOrder {
        let script = script.iter().map(|command| (*command).to_owned()).collect();
        StageOrder::new("test".parse().unwrap(), script, std::time::Duration::from_secs(60))
    }

    fn check(environment: &[(&str, &str)], script: &[&str], code: i32, printed: &str) {
        let environment: Vec<_> = environment.iter().map(|(name, value)| Variable::new(*name, *value)).collect();
        let frame = frame(&environment, &stage(script), "/", true).unwrap().bytes;
        assert!(!shells().is_empty(), "this machine has no shell that is known");
        for shell in shells() {
            assert_eq!(run(&shell, &frame), (code, printed.to_owned()), "{shell:?} {script:?}");
        }
    }

    #[test]
    fn a_script_is_one_session() {
        check(&[], &[], 0, "");
        check(&[], &["echo hi"], 0, "$ echo hi\nhi\n");
        check(
            &[],
            &["cd /", "export A=b", "c=d", "echo $PWD $A $c"],
            0,
            "$ cd /\n$ export A=b\n$ c=d\n$ echo $PWD $A $c\n/ b d\n",
        );
        check(&[], &["cat <<'END'\n$x 'y'\nEND", "echo z"], 0, "$ cat <<'END' …\n$x 'y'\n$ echo z\nz\n");
        check(&[], &["cat", "echo still"], 0, "$ cat\n$ echo still\nstill\n");
        check(&[], &["echo a >&2", "echo b"], 0, "$ echo a >&2\na\n$ echo b\nb\n");
        check(&[], &["echo a \\", "echo b"], 0, "$ echo a \\\na\n$ echo b\nb\n");
        check(&[], &["f() { echo f; }", "f"], 0, "$ f() { echo f; }\n$ f\nf\n");
    }

    #[test]
    fn a_script_ends_with_its_own_code() {
        check(&[], &["exit 7", "echo no"], 7, "$ exit 7\n");
        check(&[], &["false", "echo no"], 1, "$ false\n");
        check(
            &[],
            &["false || true", "false && true", "if false; then :; fi"],
            0,
            "$ false || true\n$ false && true\n$ if false; then :; fi\n",
        );
        check(&[], &["(exit 3)"], 3, "$ (exit 3)\n");
        check(&[], &["trap 'echo bye' EXIT", "exit 4"], 4, "$ trap 'echo bye' EXIT\n$ exit 4\nbye\n");
    }

    #[test]
    fn an_unclosed_quote_ends_instead_of_waiting() {
        let frame = frame(&[], &stage(&["echo before", "echo 'x"]), "/", true).unwrap().bytes;
        for shell in shells() {
            let (code, printed) = run(&shell, &frame);
            assert_ne!(code, 0, "{shell:?}");
            assert!(printed.starts_with("$ echo before\nbefore\n"), "{shell:?} {printed}");
        }
    }

    #[test]
    fn an_environment_arrives_as_it_is() {
        for value in ["", "a b", "it's", "$HOME `id` \\n \"q\"", "two\nlines\n", "größe ∞ 日本", " \t edge ", "'", "''"]
        {
            check(&[("FOO", value)], &["printf '%s|' \"$FOO\""], 0, &format!("$ printf '%s|' \"$FOO\"\n{value}|"));
        }
        check(&[("FOO", "1"), ("FOO", "2")], &["echo $FOO"], 0, "$ echo $FOO\n2\n");
        check(&[("UID", "77"), ("PPID", "1"), ("FOO", "x")], &["echo $FOO"], 0, "$ echo $FOO\nx\n");
        check(&[("not-a-name", "x"), ("BASH_FUNC_f%%", "() { :; }"), ("1X", "x")], &["echo ok"], 0, "$ echo ok\nok\n");
    }

    #[test]
    fn every_byte_of_a_long_script_arrives() {
        let text: String = (1..0x250).filter_map(char::from_u32).filter(|c| !"'\n".contains(*c)).collect();
        let long = format!("{}\nprintf %s '{text}'", "# a line that makes it long\n".repeat(4000));
        check(&[], &[&long], 0, &format!("$ # a line that makes it long …\n{text}"));
        check(&[], &[&format!("printf %s '{text}'")], 0, &format!("$ printf %s '{text}'\n{text}"));
    }

    #[test]
    fn half_a_frame_is_never_begun() {
        let whole = frame(&[], &stage(&["echo no"]), "/", true).unwrap().bytes;
        for shell in shells() {
            for length in [0, 3, whole.len() / 2, whole.len() - 2] {
                let mut child = Command::new(&shell[0])
                    .args(&shell[1..])
                    .args(["-c", &WRAPPER.replace("/bin/sh", &shell.join(" "))])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                child.stdin.take().unwrap().write_all(&whole[..length]).unwrap();
                let output = child.wait_with_output().unwrap();
                assert_eq!((output.status.code(), output.stdout), (Some(125), vec![]), "{shell:?} {length}");
            }
        }
    }

    /// How a whole stage ends in each shell, with its marks told by a plain word.
    fn check_stage(stage: &StageOrder, code: i32, printed: &str) {
        let frame = frame(&[Variable::new("A", "a")], stage, "/", true).unwrap();
        for shell in shells() {
            let (ended, text) = run(&shell, &frame.bytes);
            let text = text.replace(&frame.mark, "MARK");
            assert_eq!((ended, text.as_str()), (code, printed), "{shell:?}");
        }
    }

    #[test]
    fn what_follows_a_script_knows_how_it_ended_and_changes_nothing() {
        let with = |script: &[&str], on_failure: &[&str], after: &[&str]| {
            let list = |commands: &[&str]| commands.iter().map(|command| (*command).to_owned()).collect();
            StageOrder { on_failure: list(on_failure), after: list(after), ..stage(script) }
        };
        let tells = "echo $A $BUILDR_STAGE_STATUS";
        check_stage(
            &with(&["B=b"], &["echo no"], &[tells, "false", "exit 9"]),
            0,
            "\
             $ B=b\nMARK=0\nMARK=after\n$ echo $A $BUILDR_STAGE_STATUS\na passed\n$ false\n$ exit 9\n",
        );
        check_stage(
            &with(&["exit 7"], &[tells, "exit 1"], &["echo x"]),
            7,
            "\
             $ exit 7\nMARK=7\nMARK=on_failure\n$ echo $A $BUILDR_STAGE_STATUS\na failed\n$ exit 1\n\
             MARK=after\n$ echo x\nx\n",
        );
        check_stage(&with(&["false"], &["echo x"], &[]), 1, "$ false\nMARK=1\nMARK=on_failure\n$ echo x\nx\n");
        check_stage(&with(&["true"], &["echo no"], &[]), 0, "$ true\nMARK=0\n");
    }

    #[test]
    fn only_who_is_alone_and_well_says_so() {
        let after = StageOrder { after: vec!["echo x".to_owned()], ..stage(&["true"]) };
        let left = "(sleep 60; echo late) &";
        for (stage, early, code, printed) in [
            (stage(&["true"]), true, 0, "$ true\nMARK=alone\n".to_owned()),
            (stage(&["true"]), false, 0, "$ true\nMARK=left\n".to_owned()),
            (stage(&["exit 3"]), true, 3, "$ exit 3\nMARK=left\n".to_owned()),
            (after, true, 0, "$ true\nMARK=0\nMARK=after\n$ echo x\nx\nMARK=alone\n".to_owned()),
            (stage(&[left]), true, 0, format!("$ {left}\nMARK=left\n")),
        ] {
            let frame = frame(&[], &stage, "/", early).unwrap();
            for shell in shells() {
                let Some(ended) = run_apart(&shell, &frame) else { return };
                assert_eq!(ended, (code, printed.clone()), "{shell:?}");
            }
        }
    }

    #[test]
    fn a_stage_begins_in_its_folder() {
        let within = |dir: &str| StageOrder { dir: Some(dir.to_owned()), ..stage(&["pwd"]) };
        check_stage(&within("/usr/lib"), 0, "$ pwd\n/usr/lib\n");
        check_stage(&within("usr/./lib"), 0, "$ pwd\n/usr/lib\n");
        let sentence = "buildr: the folder /it's/not there, in which stage test begins (dir), is not there; have it made \
                        by an earlier stage, or correct dir\n";
        check_stage(&within("/it's/not there"), 1, sentence);
        let after = StageOrder { after: vec!["echo still".to_owned()], ..within("/not-there") };
        let text = sentence.replace("/it's/not there", "/not-there");
        check_stage(&after, 1, &format!("{text}MARK=1\nMARK=after\n$ echo still\nstill\n"));
    }

    #[test]
    fn a_script_may_have_another_shell() {
        let by = |shell: &str, script: &[&str]| StageOrder { shell: Some(shell.to_owned()), ..stage(script) };
        check_stage(
            &by("sh {0} x", &["echo \"it's $1 $A\"", "false", "exit 3"]),
            3,
            "$ echo \"it's $1 $A\" …\nit's x a\n",
        );
        check_stage(&by("cat", &["line 1", "$2 'x' \\"]), 0, "$ line 1 …\nline 1\n$2 'x' \\\n");
        check_stage(&by("exit 4;", &["x"]), 4, "$ x\n");
    }

    #[test]
    fn a_nul_is_refused() {
        assert!(frame(&[], &stage(&["echo \0"]), "/", true).is_err());
        assert!(frame(&[Variable::new("A", "\0")], &stage(&[]), "/", true).is_err());
    }
}
