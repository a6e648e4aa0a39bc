//! The `buildr` program from outside: its exit codes, its streams and its signals, against a farm whose answers are
//! written down.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program, without what this machine's environment would tell it.
fn buildr(server: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_buildr"));
    command.args(arguments).env("BUILDR_SERVER", server).env("BUILDR_TOKEN", "secret");
    for variable in ["NO_COLOR", "CLICOLOR_FORCE", "BUILDR_LOG", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// Gives each connection the next of `answers`, and then the connections, still open.
fn farm(answers: Vec<String>) -> (String, JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while asked.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            asked.read_exact(&mut vec![0; length]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            open.push(stream);
        }
        open
    });
    (server, serving)
}

fn view(status: &str, exit_code: &str) -> String {
    format!(
        r#"{{"build":{{"number":7,"repo":"https://x/team/parser.git","branch":"main","commit":null,"subject":null,"trigger":"manual","status":"{status}","message":null,"created_ms":1000,"started_ms":2000,"ended_ms":5500}},"exit_code":{exit_code},"attempts":[{{"job":"build","attempt":1,"agent":"oak","state":"{status}","started_ms":2000,"ended_ms":5500,"stages":[],"logs":[{{"name":"test","bytes":9,"complete":true,"missing":0}}]}}]}}"#
    )
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The beginning of a stream: one more byte than this is announced, so that it stays open.
fn stream(lines: &[String], open: bool) -> String {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let length = body.len() + usize::from(open);
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

fn build(status: &str, exit_code: &str) -> String {
    format!(r#"{{"follow":"build","view":{}}}"#, view(status, exit_code))
}

fn log(text: &str) -> String {
    let base64 = base64::engine::general_purpose::STANDARD.encode(text);
    format!(r#"{{"follow":"log","attempt":1,"log":"test","offset":0,"base64":"{base64}"}}"#)
}

fn end() -> String {
    r#"{"follow":"end"}"#.to_owned()
}

#[test]
fn watching_ends_with_the_builds_exit_code() {
    let lines = [build("running", "null"), log("one\nerror"), build("failed", "1"), end()];
    let (server, serving) = farm(vec![answer(&view("queued", "null")), stream(&lines, false)]);
    let output = buildr(&server, &["submit", "https://x/team/parser.git", "--watch"]).output().unwrap();
    let expect = "build #7 of parser, branch main\n── running on oak\n── test\none\nerror\nbuild #7 failed in 3.5s\n";
    assert_eq!(text(&output), (expect.to_owned(), String::new(), Some(1)));
    serving.join().unwrap();
}

#[test]
fn an_interrupt_stops_watching_and_not_the_build() {
    let lines = [build("running", "null"), log("one\n")];
    let (server, serving) = farm(vec![answer(&view("queued", "null")), stream(&lines, true)]);
    let mut child = buildr(&server, &["submit", "https://x/team/parser.git", "--watch"]).spawn().unwrap();
    let mut shown = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "one\n" {
        line.clear();
        assert_ne!(shown.read_line(&mut line).unwrap(), 0, "it ended before it was stopped");
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let (_, errors, code) = text(&child.wait_with_output().unwrap());
    let cancel = format!("End it with: buildr cancel 7 --server {server}\n");
    assert_eq!((errors, code), (format!("stopped watching; build #7 goes on. {cancel}"), Some(130)));
    serving.join().unwrap();
}

/// An archive that is half here goes.
#[test]
fn an_interrupt_ends_the_fetching_of_artifacts() {
    let sha256 = "0".repeat(64);
    let listed = format!(
        r#"[{{"job":"build","stage":"package","files":1,"bytes":2048,"sha256":"{sha256}","carried_from":null,"expires_ms":null,"expired":false}}]"#
    );
    let (server, serving) = farm(vec![answer(&listed), stream(&["half".to_owned()], true)]);
    let folder = tempfile::tempdir().unwrap();
    let mut child = buildr(&server, &["artifacts", "7", "--out"]).arg(folder.path()).spawn().unwrap();
    let open = serving.join().unwrap();
    let into = folder.path().join("package");
    while fs::read_dir(&into).map_or(0, Iterator::count) == 0 {
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
    drop(open);
}

#[test]
fn logs_are_printed_as_they_are() {
    let show = |arguments: &[&str]| {
        let (server, serving) = farm(vec![answer(&view("passed", "0")), answer("one\x1b[1mtwo")]);
        let output = buildr(&server, arguments).output().unwrap();
        serving.join().unwrap();
        text(&output)
    };
    let part = "one\x1b[1mtw";
    assert_eq!(show(&["logs", "7"]), (format!("── test\n{part}\n"), String::new(), Some(0)));
    assert_eq!(show(&["logs", "7", "--raw"]), (part.to_owned(), String::new(), Some(0)));
}

#[test]
fn a_reader_that_goes_away_is_no_error_of_logs() {
    let run = |arguments: &[&str], answers| {
        let (server, serving) = farm(answers);
        let mut child = buildr(&server, arguments).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        serving.join().unwrap();
        text(&output)
    };
    let logs = run(&["logs", "7"], vec![answer(&view("passed", "0")), answer("one two t")]);
    assert_eq!(logs, (String::new(), String::new(), Some(0)));
    // How the build ends is not known, so this must not look as if it had passed.
    let submit = run(&["submit", "https://x/y", "-w"], vec![answer(&view("queued", "null"))]);
    assert_eq!(submit, (String::new(), String::new(), Some(3)));
}

/// As where the other end of a pipe is gone before this one, which panicked over each line that it logged.
#[test]
fn what_it_says_to_nobody_ends_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = buildr("http://127.0.0.1:1", &["builds"]);
    command.env("BUILDR_LOG", "trace").stderr(writer);
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[test]
fn errors_go_to_stderr_with_what_to_do() {
    let output = buildr("http://127.0.0.1:1", &["status", "7"]).output().unwrap();
    let expect = "error: no farm answers at http://127.0.0.1:1 (connection refused)\n  \
                  try: start one with `buildr up`, or point --server / BUILDR_SERVER at one\n";
    assert_eq!(text(&output), (String::new(), expect.to_owned(), Some(3)));
    let (_, errors, code) = text(&buildr("http://127.0.0.1:1", &["submit", "no/such/folder"]).output().unwrap());
    assert!(errors.starts_with("error: \"no/such/folder\" is neither a URL nor a folder"), "{errors}");
    assert_eq!(code, Some(2));
}

#[test]
fn no_command_at_all_shows_what_there_is() {
    for server in ["", "http://127.0.0.1:1"] {
        let (out, errors, code) = text(&buildr(server, &[]).output().unwrap());
        assert_eq!((out.as_str(), code), ("", Some(2)));
        assert!(errors.starts_with("A build farm on Docker") && errors.contains("\nAsk a farm:\n"), "{errors}");
    }
}

#[test]
fn a_program_takes_the_place_of_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let (text_of, program) = (folder.path().join("text"), folder.path().join("buildr-hello"));
    fs::write(&text_of, "#!/bin/sh\necho \"$$ $* $BUILDR_TOKEN\"\nexit 42\n").unwrap();
    fs::set_permissions(&text_of, fs::Permissions::from_mode(0o755)).unwrap();
    // Written by another process: what this one writes is open for a moment in all that other tests start, and is then
    // too busy to be run.
    assert!(Command::new("cp").arg(&text_of).arg(&program).status().unwrap().success());
    let mut command = buildr("http://127.0.0.1:1", &["--token", "t", "hello", "--server", "x"]);
    let child = command.env("PATH", folder.path()).spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output), (format!("{id} --server x t\n"), String::new(), Some(42)));
}

/// The commands that the documentation names are there, with the flags that stand behind them.
#[test]
fn every_command_of_the_documentation_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().chain(fs::read_dir(root.join("docs/manual")).unwrap());
    let pages = docs.map(|entry| entry.unwrap().path()).chain([root.join("README.md")]);
    let (mut helps, mut seen) = (HashMap::new(), 0);
    for page in pages.filter(|path| path.extension().is_some_and(|ending| ending == "md")) {
        let written = fs::read_to_string(&page).unwrap();
        let lines = written.lines().filter(|line| line.starts_with("buildr ")).map(str::to_owned);
        let within = written.split('`').filter(|piece| piece.starts_with("buildr ")).map(str::to_owned);
        for said in lines.chain(within) {
            let words: Vec<&str> =
                said.split([' ', '=', '|', '[', ']', '(', ')']).skip(1).take_while(|it| *it != "#").collect();
            let subcommands: Vec<&str> = match words.as_slice() {
                // Programs of their own, which are not built beside this one here.
                ["up" | "coordinator" | "agent", next, ..] if next.starts_with('-') => continue,
                ["up" | "coordinator" | "agent"] => continue,
                [first @ ("agent" | "project" | "rabbit" | "secret" | "token"), second, ..] => vec![first, second],
                [first, ..] if first.chars().all(|c| c.is_ascii_lowercase()) => vec![first],
                _ => continue,
            };
            let help = helps.entry(subcommands.join(" ")).or_insert_with(|| {
                let asked: Vec<&str> = subcommands.iter().copied().chain(["--help"]).collect();
                let (help, _, code) = text(&buildr("http://127.0.0.1:1", &asked).output().unwrap());
                (code == Some(0)).then_some(help)
            });
            let Some(help) = help else { panic!("{}: there is no such command: {said}", page.display()) };
            seen += 1;
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let known = help.split(|c: char| c.is_whitespace() || ",[=".contains(c)).any(|word| word == *flag);
                assert!(known, "{}: {said}: there is no {flag}", page.display());
            }
        }
    }
    assert!(seen > 60, "{seen} commands were found");
}
