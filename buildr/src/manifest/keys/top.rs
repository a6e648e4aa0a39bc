//! Keys of the top level.

use super::code::CLONE_FORM;
use super::ends::{MATRIX_FORM, PIPELINE_WHEN, RETRY_FORM};
use super::files::{CACHE_FORM, SECRETS_FORM};
use super::gate::{CONCURRENCY_FORM, INPUTS_FORM};
use super::machine::{AGENT_FORM, ENVIRONMENT, IMAGE_FORM, PLATFORM_FORM, RESOURCES, SERVICES_FORM};
use super::schedule::SCHEDULE_FORM;
use super::stage::{FINALLY, PREPARE, STAGE};
use super::{Form, Key, Map, Rest, TEXTS, code, key, map};

/// Keys that are never a stage's, even when `stages` lists them.
pub(in crate::manifest) const NEVER_A_STAGE: [&str; 6] =
    ["version", "image", "environment", "stages", "prepare", "finally"];

/// The top level.
pub(in crate::manifest) const TOP: Map = Map {
    title: "the top level",
    keys: KEYS,
    rest: Some(Rest { title: "a stage", form: Form::Map(&STAGE) }),
    required: &[],
    later: &["defaults", "generate", "interruptible", "network", "notify", "queue_timeout"],
    never: &[],
};

const INCLUDE: Map = Map {
    required: &["repo"],
    ..map(
        "an include",
        &[
            key(
                "repo",
                Form::Text,
                "The repository that the file is in, by its URL.",
                &[
                    "include: [{repo: \"https://git.example.org/team/ci.git\", ref: v3, file: rust.yml}]\nbuild: {script: make}",
                ],
            ),
            key(
                "ref",
                Form::Text,
                "A tag, a commit or a branch. Without it, or with a branch, the file may be another one tomorrow; which commit was read is kept with the build.",
                &[
                    "include: [{repo: \"https://git.example.org/team/ci.git\", ref: v3, file: rust.yml}]\nbuild: {script: make}",
                ],
            ),
            key(
                "file",
                TEXTS,
                "The file's path from that repository's root, or several.",
                &[
                    "include: {repo: \"https://git.example.org/team/ci.git\", ref: v3, file: [rust.yml, docs.yml]}\nbuild: {script: make}",
                ],
            ),
        ],
    )
};

const KEYS: &[Key] = &[
    key(
        "image",
        IMAGE_FORM,
        "The image in which `prepare` and all stages run that have none of their own: a name as `docker pull` takes it. Without it: ubuntu:latest.",
        &[
            "image: debian:bookworm-slim\nbuild: {script: make}",
            "image: {name: registry.example.org/tools:4, pull: always, user: root}\nbuild: {script: make}",
        ],
    ),
    key(
        "environment",
        Form::Any(&[Form::Map(&ENVIRONMENT), super::machine::VARS_LIST]),
        "Variables that every container has. A list is short for its `vars`.",
        &[
            "environment: {inherit: [LANG], vars: [RELEASE=1.2.0]}\nbuild: {script: make}",
            "environment: [RELEASE=1.2.0]\nbuild: {script: make}",
        ],
    ),
    key(
        "stages",
        Form::List(&Form::Any(&[Form::Text, Form::List(&Form::Text)])),
        "Which stages run, and in which order: each waits for those before it. An inner list runs side by side. Without it all stages run, in the order of the file.",
        &[
            "stages: [build, [unit, lint], deploy]\nbuild: {script: make}\nunit: {script: make test}\nlint: {script: make lint}\ndeploy: {script: make deploy}",
        ],
    ),
    key(
        "prepare",
        Form::Map(&PREPARE),
        "What is done once, before all stages, to the image that they start from. What it installs is there in every stage without an image of its own.",
        &["prepare: {script: [apt-get update, apt-get install -y make]}\nbuild: {script: make}"],
    ),
    key(
        "finally",
        Form::Map(&FINALLY),
        "One stage that runs when all else is over: after failure and cancel too, but not when nothing ever began. It may take five minutes.",
        &["build: {script: make}\nfinally: {script: ./tell-the-team.sh}"],
    ),
    key(
        "services",
        SERVICES_FORM,
        "Containers that run beside all stages of a job, each reached by its name.",
        &["services: {db: postgres:17}\nbuild: {script: make}"],
    ),
    key(
        "matrix",
        MATRIX_FORM,
        "Runs the whole file once for each combination of values.",
        &["matrix: {os: [alpine, debian]}\nimage: \"build-${matrix.os}:1\"\nbuild: {script: make}"],
    ),
    key(
        "when",
        Form::Any(&[
            Form::Text,
            Form::Map(&PIPELINE_WHEN),
            Form::List(&Form::Any(&[Form::Text, Form::Map(&PIPELINE_WHEN)])),
        ]),
        "When there is anything to build at all. Text is a branch, a map holds when all in it holds, a list when one of its elements does.",
        &["when: {branch: [main, \"release/*\"], event: push}\nbuild: {script: make}"],
    ),
    key(
        "cache",
        CACHE_FORM,
        "Folders that later builds find again, for every stage that says nothing else.",
        &["cache: [target, ~/.cargo/registry]\nbuild: {script: cargo build}"],
    ),
    key("secrets", SECRETS_FORM, "Secrets that every stage is given.", &["secrets: [TOKEN]\nbuild: {script: make}"]),
    key(
        "inputs",
        INPUTS_FORM,
        "Values that a person gives who starts the build by hand. They arrive as variables, and as `${inputs.NAME}`.",
        &["inputs: {REGION: {choices: [eu, us], default: eu}}\ndeploy: {script: ./deploy.sh}"],
    ),
    key(
        "schedule",
        SCHEDULE_FORM,
        "Times at which the farm begins a build by itself: minute, hour, day of the month, month, day of the week, and a time zone. What the default branch says counts.",
        &[
            "schedule: {nightly: \"0 3 * * * Europe/Rome\"}\nbuild: {script: make}",
            "schedule: {weekly: {cron: \"0 6 * * MON\", zone: Europe/Rome, branch: stable}}\nbuild: {script: make}",
        ],
    ),
    key(
        "include",
        Form::Any(&[Form::Text, Form::Map(&INCLUDE), Form::List(&Form::Any(&[Form::Text, Form::Map(&INCLUDE)]))]),
        "Other files whose keys are taken over: paths from the project's folder down, or files of other repositories. What the manifest says itself wins.",
        &["include: [{repo: \"https://git.example.org/team/ci.git\", ref: v3, file: rust.yml}]\nbuild: {script: make}"],
    ),
    key(
        "clone",
        CLONE_FORM,
        "How the code is fetched. `false` begins with an empty workspace.",
        &[
            "clone: {depth: 50, submodules: recursive}\nbuild: {script: make}",
            "clone: false\nbuild: {script: ./nightly.sh}",
        ],
    ),
    key(
        "repos",
        code::REPOS_FORM,
        "Other repositories whose code is put into the workspace.",
        &[
            "repos: {lib: {url: \"https://git.example.org/lib.git\", path: deps/lib, branch: same}}\nbuild: {script: make}",
        ],
    ),
    key(
        "workspace",
        Form::Shaped("^/", "an absolute path"),
        "Where the checkout is, in every container. Without it: /app.",
        &["workspace: /src\nbuild: {script: make}"],
    ),
    key(
        "dir",
        Form::Text,
        "The folder below the workspace in which every script begins: for a pipeline of a monorepo.",
        &["dir: crates/api\nbuild: {script: cargo build}"],
    ),
    key(
        "shell",
        Form::Text,
        "What runs every script in place of `/bin/sh -e`. `{0}` stands for the script's file.",
        &["shell: bash -euo pipefail {0}\nbuild: {script: make}"],
    ),
    key(
        "docker",
        Form::Flag,
        "Whether stages ask for the Docker socket. That is root on the machine that builds, so its owner decides.",
        &["docker: true\nimages: {script: docker build .}"],
    ),
    key(
        "privileged",
        Form::Flag,
        "Whether stages ask for privileged containers. The owner of the machine that builds decides.",
        &["privileged: true\nbuild: {script: make}"],
    ),
    key(
        "resources",
        Form::Map(&RESOURCES),
        "What each stage may use of the machine. The agent's own bounds hold in any case.",
        &["resources: {cpu: 2, memory: 4g}\nbuild: {script: make}"],
    ),
    key(
        "agent",
        AGENT_FORM,
        "Labels that the agent must have which runs the build. A map is short for labels with `=`.",
        &["agent: [gpu]\nbuild: {script: make}", "agent: {os: linux}\nbuild: {script: make}"],
    ),
    key(
        "platform",
        PLATFORM_FORM,
        "The system and processor that stages run on.",
        &["platform: linux/arm64\nbuild: {script: make}"],
    ),
    key(
        "retry",
        RETRY_FORM,
        "How often each stage that fails is tried again. `never` is for work that must not be done twice.",
        &["retry: 1\nbuild: {script: make}"],
    ),
    key(
        "timeout",
        Form::Duration,
        "How long the whole build may take, waiting for people apart.",
        &["timeout: 1h30m\nbuild: {script: make}"],
    ),
    key(
        "idle_timeout",
        Form::Duration,
        "How long each stage may print nothing.",
        &["idle_timeout: 10m\nbuild: {script: make}"],
    ),
    key(
        "concurrency",
        CONCURRENCY_FORM,
        "A group of builds of which only some run at once. Without a limit: one.",
        &["concurrency: main-${branch}\nbuild: {script: make}"],
    ),
    key(
        "cancel_superseded",
        Form::Flag,
        "Whether a newer build of the same branch or pull request cancels this one. Without it the farm decides.",
        &["cancel_superseded: true\nbuild: {script: make}"],
    ),
    key(
        "fail_fast",
        Form::Flag,
        "Whether all else that runs in a job ends as soon as one of its stages fails. Without it: true.",
        &["fail_fast: false\nstages: [[unit, lint]]\nunit: {script: make test}\nlint: {script: make lint}"],
    ),
    key(
        "stage_parallelism",
        Form::Number(1, 256),
        "The most stages of a job that run at once. The agent's own bound holds in any case.",
        &[
            "stage_parallelism: 2\nstages: [[unit, lint, docs]]\nunit: {script: a}\nlint: {script: b}\ndocs: {script: c}",
        ],
    ),
    key(
        "priority",
        Form::Number(-100, 100),
        "Which builds go first: those with a higher number. Without it: 0.",
        &["priority: 5\nbuild: {script: make}"],
    ),
    key(
        "version",
        Form::Word(&["1"]),
        "The version of the language. There is one, and it may be left out.",
        &["version: 1\nbuild: {script: make}"],
    ),
];
