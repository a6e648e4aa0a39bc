//! What a stage's container is told once it runs: its environment and its script, over its standard input.
//!
//! The container's main process is [`WRAPPER`]. It waits for one frame on its standard input, takes all of it
//! before anything runs (half a script is never begun), and feeds it to a `/bin/sh -e` of its own:
//! - The frame says how long it is and which line ends it, so that nobody needs to close the input.
//! - The script's shell reads from a pipe that ends, so that an unclosed quote is an error and not a wait.
//! - The script runs in the foreground: a shell makes what it starts with `&` deaf to SIGINT for good, and
//!   programs that are tested with SIGINT would notice. A trapped SIGTERM therefore waits until the script has
//!   ended; what must end at once is signalled by [`TERMINATE`] from beside it.
//! - Both of its outputs are one pipe, so that a command's announcement and its complaint keep their order.
//! - After a SIGTERM the wrapper stays until every process has gone, for a shell dies of it at once while its
//!   children may still be tidying up, and all ends with the wrapper.

use std::fmt::Write as _;

use bytes::Bytes;
use protocol::Variable;
use rand::distr::{Alphanumeric, SampleString as _};

use super::super::ExecutorError;

/// The main process of every stage's container, for `/bin/sh -c`. It ends with the script's exit code, or with
/// 125 when the frame did not arrive whole.
///
/// Its variables have names that no image has in its environment, for a variable that came with that would be
/// passed on with what is put into it. A shell reads byte by byte; what is long is therefore taken by `head` where there is one.
pub(super) const WRAPPER: &str = r#"buildr_ended=
trap 'buildr_ended=1' TERM
read -r buildr_length buildr_mark || exit 125
buildr_program=$(
  if [ "$buildr_length" -gt 4096 ] && command -v head >/dev/null; then head -c "$buildr_length"
  else while IFS= read -r line; do printf '%s\n' "$line"; [ "$line" != "$buildr_mark" ] || break; done
  fi)
case $buildr_program in *"$buildr_mark") ;; *) exit 125 ;; esac
printf '%s\n' "$buildr_program" | /bin/sh -e /dev/fd/3 3<&0 </dev/null 2>&1
buildr_code=$?
[ -z "$buildr_ended" ] || while kill -0 -1; do sleep 0.1 || sleep 1; done 2>/dev/null
exit $buildr_code
"#;

/// SIGTERM to every process of a container but its init and the shell that says so, for `/bin/sh -c` beside
/// [`WRAPPER`].
pub(super) const TERMINATE: &str = "kill -TERM -1";

/// Variables that some shells hold read-only: setting one ends such a shell, so failing to is no matter.
const READONLY: [&str; 6] = ["UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"];

/// One stage's frame, as [`WRAPPER`] reads it.
///
/// # Errors
/// When something holds a NUL, which no shell can take.
pub(super) fn frame(environment: &[Variable], script: &[String]) -> Result<Bytes, ExecutorError> {
    let mut program = "exec 3<&-\n".to_owned();
    for variable in environment.iter().filter(|variable| is_name(&variable.name)) {
        export(&mut program, variable);
    }
    for command in script {
        announce(&mut program, command);
        program.push_str(command);
        // The empty line ends a command that itself ends with a backslash.
        program.push_str("\n\n");
    }
    if program.contains('\0') {
        let sentence = "the script or its environment holds a NUL character, which no shell can take; remove it";
        return Err(ExecutorError::Refused(sentence.to_owned()));
    }
    let mark = format!("#{}", Alphanumeric.sample_string(&mut rand::rng(), 24));
    let _ = writeln!(program, "exit\n{mark}");
    Ok(Bytes::from(format!("{} {mark}\n{program}", program.len())))
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
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn check(environment: &[(&str, &str)], script: &[&str], code: i32, printed: &str) {
        let environment: Vec<_> = environment.iter().map(|(name, value)| Variable::new(*name, *value)).collect();
        let script: Vec<_> = script.iter().map(|command| (*command).to_owned()).collect();
        let frame = frame(&environment, &script).unwrap();
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
        let frame = frame(&[], &["echo before".to_owned(), "echo 'x".to_owned()]).unwrap();
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
        let whole = frame(&[], &["echo no".to_owned()]).unwrap();
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

    #[test]
    fn a_nul_is_refused() {
        assert!(frame(&[], &["echo \0".to_owned()]).is_err());
        assert!(frame(&[Variable::new("A", "\0")], &[]).is_err());
    }
}
