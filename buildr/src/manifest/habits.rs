//! Bad habits: what is allowed, works today, and will hurt somebody later.

use std::sync::LazyLock;

use regex::Regex;

use super::language::{Image, Manifest, Stage};
use super::source::{Problem, Source, Span, Spanned, quoted};

/// The most of them that are told: more than a person mends before looking again.
const MAX_TOLD: usize = 20;

/// What of a manifest is no good habit, in the order of the file.
#[must_use]
pub fn habits(manifest: &Manifest) -> Vec<Problem> {
    let mut habits = Habits { source: &manifest.source, told: Vec::new() };
    if let Some(image) = &manifest.image {
        habits.image(image);
    }
    for service in &manifest.services {
        habits.image(&service.image);
    }
    if let Some(prepare) = &manifest.prepare {
        let secrets = prepare.secrets.iter().map(|secret| secret.value.variable.as_str()).collect();
        habits.commands(&prepare.script, &Around { secrets, services: false });
    }
    for stage in manifest.stages.iter().chain(&manifest.finally) {
        habits.stage(stage, manifest);
    }
    habits.told.sort();
    habits.told.dedup();
    habits.told.truncate(MAX_TOLD);
    habits.told.into_iter().map(|(span, message, help)| manifest.source.problem(span, message, help)).collect()
}

struct Habits<'m> {
    source: &'m Source,
    told: Vec<(Span, String, &'static str)>,
}

/// What a script runs with.
struct Around<'m> {
    secrets: Vec<&'m str>,
    /// Whether services run beside it.
    services: bool,
}

impl Habits<'_> {
    fn tell(&mut self, span: Span, message: impl Into<String>, help: &'static str) {
        self.told.push((span, message.into(), help));
    }

    fn stage(&mut self, stage: &Stage, manifest: &Manifest) {
        if let Some(image) = &stage.image {
            self.image(image);
        }
        for service in &stage.services {
            self.image(&service.image);
        }
        let secrets = stage.secrets.iter().chain(&manifest.defaults.secrets);
        let around = Around {
            secrets: secrets.map(|secret| secret.value.variable.as_str()).collect(),
            services: !(stage.services.is_empty() && manifest.services.is_empty()),
        };
        for commands in [&stage.script, &stage.on_failure, &stage.after] {
            self.commands(commands, &around);
        }
        if stage.docker == Some(true) && !may_need_docker(stage) {
            self.tell(
                stage.name.span,
                format!(
                    "the stage {} asks for the Docker socket, and nothing in it uses Docker",
                    quoted(stage.name.value.as_str())
                ),
                "take `docker: true` out: with it the stage is root on the machine that builds",
            );
        }
    }

    /// A name without a version is another image tomorrow.
    fn image(&mut self, image: &Image) {
        let name = image.name.value.as_str();
        if name.contains("${") || name.contains('@') {
            return;
        }
        let last = name.rsplit('/').next().unwrap_or(name);
        match last.split_once(':') {
            Some((_, "latest")) => self.tell(
                image.name.span,
                format!("{} is another image whenever somebody pushes one", quoted(name)),
                "write a version in place of `latest`, such as `debian:bookworm-slim`",
            ),
            None => self.tell(
                image.name.span,
                format!("{} says no version, so it is whatever `latest` is that day", quoted(name)),
                "write a version behind it, such as `debian:bookworm-slim`",
            ),
            Some(_) => {}
        }
    }

    fn commands(&mut self, commands: &[Spanned<String>], around: &Around<'_>) {
        for command in commands {
            // A command may be a script of many lines.
            for line in command.value.lines() {
                self.line(line.trim(), command.span, around);
            }
        }
    }

    fn line(&mut self, line: &str, span: Span, around: &Around<'_>) {
        let span = self.place(line, span);
        if line.starts_with('#') {
            return;
        }
        if around.services && SLEEP.is_match(line) {
            self.tell(
                span,
                "this waits for a time, and not for the service to be ready",
                "write `ready` at the service, such as `ready: pg_isready`, and take the sleep out",
            );
        }
        if PIPED_SHELL.is_match(line) {
            self.tell(
                span,
                "this runs whatever the other side sends today",
                "fetch the file, compare it with a checksum that stands here, and run it then",
            );
        }
        if INSTALL.is_match(line) && !YES.is_match(line) {
            self.tell(span, "this asks whether to go on, and nobody is there to answer", "write `apt-get install -y`");
        }
        for secret in &around.secrets {
            if prints(line, secret) {
                self.tell(
                    span,
                    format!("this prints the secret {}", quoted(secret)),
                    "take it out: buildr masks what it knows, and a secret in another form is not known to it",
                );
            }
        }
        if !around.secrets.is_empty() && TRACE.is_match(line) {
            self.tell(span, "this prints every command with its secrets in it", "take the `x` out of `set`");
        }
    }

    /// The line within what is written, where it stands there as it is.
    fn place(&self, line: &str, span: Span) -> Span {
        match self.source.slice(span).find(line) {
            Some(at) if !line.is_empty() => Span::new(span.start + at..span.start + at + line.len()),
            _ => span,
        }
    }
}

/// A regular expression that is a constant of this file.
macro_rules! pattern {
    ($name:ident, $text:literal) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a constant that a test compiles"));
    };
}

pattern!(SLEEP, r"(^|[;&|]\s*)sleep\s+\d");
pattern!(PIPED_SHELL, r"\b(curl|wget)\b[^|]*\|\s*(sudo\s+(-\S+\s+)*)?(ba|da|z|k)?sh\b");
pattern!(INSTALL, r"\bapt(-get)?\s+([^;&|]*\s)?(install|upgrade|dist-upgrade)\b");
pattern!(YES, r"\s(-[a-zA-Z]*y[a-zA-Z]*|-qq+|--yes|--assume-yes)\b");
pattern!(TRACE, r"(^|[;&|]\s*)set\s+(-\S+\s+)*-[a-z]*x");
pattern!(PRINTS, r"(^|[;&|]\s*)(echo|printf|printenv)\s");
pattern!(USES_DOCKER, r"(?i)docker|podman|compose|buildx|buildah|skopeo|testcontainers|\bkind\b|\bact\b|/var/run");
pattern!(
    RUNS_OTHERS,
    r"(^|[;&|]\s*)(\./|\S*/|sh\s|bash\s|make\b|just\b|task\b|npm\s|npx\s|yarn\b|pnpm\b|tox\b|pytest\b|python\S*\s|cargo\s|go\s|mvn\b|gradle\b|bazel\b|rake\b|bundle\b|source\s|\.\s)"
);

/// Whether a line writes a variable into the log. What is piped or redirected goes elsewhere.
fn prints(line: &str, variable: &str) -> bool {
    let Some(echo) = PRINTS.find(line) else { return false };
    let rest = &line[echo.end()..];
    if rest.contains(['|', '>']) {
        return false;
    }
    if echo.as_str().contains("printenv") {
        return rest.split_whitespace().any(|word| word == variable);
    }
    rest.match_indices('$').any(|(at, _)| {
        let name = rest[at + 1..].trim_start_matches('{');
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
        &name[..end] == variable
    })
}

/// Whether something in a stage uses Docker, or runs what may.
fn may_need_docker(stage: &Stage) -> bool {
    let mut commands = [&stage.script, &stage.on_failure, &stage.after].into_iter().flatten();
    let image = stage.image.as_ref().map_or("", |image| &image.name.value);
    USES_DOCKER.is_match(image)
        || commands.any(|command| {
            command.value.lines().any(|line| USES_DOCKER.is_match(line) || RUNS_OTHERS.is_match(line.trim()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn told(text: &str) -> String {
        let reading = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|error| panic!("{error}"));
        habits(&reading.manifest).iter().map(Problem::to_string).collect::<Vec<_>>().join("\n\n")
    }

    #[track_caller]
    fn check(script: &str, expect: bool) {
        let text = format!("image: a:1\nb:\n  secrets: [TOKEN]\n  services: {{db: b:1}}\n  script:\n    - {script}\n");
        assert_eq!(!told(&text).is_empty(), expect, "{script}\n{}", told(&text));
    }

    #[test]
    fn what_is_told() {
        assert_snapshot!(told(
            "\
image: debian
services: {db: \"postgres:latest\"}
prepare:
  script:
    - apt-get install make
build:
  docker: true
  image: registry.example.org:5000/tools
  secrets: [TOKEN]
  script:
    - sleep 15
    - |
      set -eux
      curl -fsSL https://example.org/install.sh | sudo bash
    - echo \"the token is $TOKEN\"
"
        ));
    }

    #[test]
    fn what_is_a_habit_and_what_is_none() {
        for bad in [
            "sleep 15",
            "start && sleep 3",
            "curl -s https://x | sh",
            "wget -qO- https://x | bash -s -- -y",
            "apt-get install make",
            "apt-get update && apt install -q make",
            "echo $TOKEN",
            "echo \"a${TOKEN}b\"",
            "printf '%s' $TOKEN",
            "printenv TOKEN",
            "set -ex",
        ] {
            check(bad, true);
        }
        for good in [
            "true",
            "'# sleep 15'",
            "curl -O https://x",
            "curl https://x | tar xz",
            "curl https://x | shasum",
            "apt-get install -y make",
            "apt-get -qq install make",
            "apt-get update",
            "apt-get -qy --no-install-recommends install make",
            "echo $TOKEN | docker login --password-stdin",
            "echo $TOKENS",
            "echo TOKEN > file",
            "echo $TOKEN > file",
            "set -eu",
        ] {
            check(good, false);
        }
        // Without services and secrets there is nothing to wait for, and nothing to hide.
        assert_eq!(told("image: a:1\nb: {script: [sleep 15, set -x]}"), "");
    }

    #[test]
    fn images_that_say_their_version() {
        for good in ["a:1", "r.example.org:5000/a:1", "a@sha256:0", "'a:${matrix.x}'", "'${branch}'"] {
            assert_eq!(told(&format!("image: {good}\nb: {{script: make}}")), "", "{good}");
        }
        for bad in ["a", "r.example.org:5000/a", "a:latest"] {
            assert_ne!(told(&format!("image: {bad}\nb: {{script: make}}")), "", "{bad}");
        }
    }

    #[test]
    fn who_needs_docker() {
        let needs = |stage: &str| told(&format!("image: a:1\nb: {{docker: true, {stage}}}")).is_empty();
        assert!(needs("script: docker build ."));
        assert!(needs("script: ./build.sh"));
        assert!(needs("script: make images"));
        assert!(needs("image: 'docker:28', script: ls"));
        assert!(!needs("script: [echo hello, ls -l]"));
    }
}
