//! Keys of stages, of `finally`, and of `prepare`.

use super::ends::{ALLOW_FAILURE, MATRIX_FORM, RETRY_FORM, WHEN};
use super::files::{ARTIFACTS, CACHE_FORM, REPORTS, SECRETS_FORM};
use super::gate::{CONCURRENCY_FORM, MANUAL_FORM, TRIGGER_FORM};
use super::machine::{AGENT_FORM, ENVIRONMENT, IMAGE_FORM, PLATFORM_FORM, RESOURCES, SERVICES_FORM, VARS_LIST};
use super::{Form, Key, Map, TEXTS, key, map};

/// A stage.
pub(in crate::manifest) const STAGE: Map = Map {
    required: &["script", "trigger", "extends"],
    later: &["generate", "interruptible", "network", "notify", "queue_timeout"],
    never: &[
        (
            "on_success",
            "has no \"on_success\": its script ends there when a command fails",
            "write these commands at the end of `script`",
        ),
        ("fail_fast", "has no \"fail_fast\" of its own", "write it at the top level, or in the stage's `matrix`"),
        ("inputs", "has no \"inputs\" of its own", "write `manual: {inputs: ...}`, or `inputs` at the top level"),
        ("priority", "has no \"priority\" of its own: a build has one", "write it at the top level"),
        ("coverage", "has no \"coverage\" of its own", "write `reports: {coverage: ...}`"),
        ("junit", "has no \"junit\" of its own", "write `reports: {junit: ...}`"),
        ("stages", "has no stages in it", "write them at the top level; `stages: [[a, b]]` runs two side by side"),
    ],
    ..map(
        "a stage",
        &[
            SCRIPT,
            IMAGE,
            ENVIRONMENT_KEY,
            NEEDS,
            WHEN_KEY,
            MATRIX_KEY,
            PARALLEL,
            SERVICES,
            ARTIFACTS_KEY,
            REPORTS_KEY,
            CACHE,
            SECRETS,
            RETRY,
            ALLOW_FAILURE_KEY,
            TIMEOUT,
            IDLE_TIMEOUT,
            ON_FAILURE,
            AFTER,
            DIR,
            SHELL,
            DOCKER,
            PRIVILEGED,
            RESOURCES_KEY,
            AGENT,
            PLATFORM,
            MANUAL,
            CONCURRENCY,
            TRIGGER,
            EXTENDS,
        ],
    )
};

/// `finally`.
pub(in crate::manifest) const FINALLY: Map = Map {
    required: &["script", "extends"],
    later: &["generate", "interruptible", "network", "notify", "queue_timeout"],
    never: &[
        (
            "needs",
            "has no \"needs\": it runs when all else is over",
            "take it out; `when: {status: failure}` limits when it runs",
        ),
        ("matrix", "is one stage, and has no \"matrix\"", "take it out"),
        ("parallel", "is one stage, and has no \"parallel\"", "take it out"),
        ("manual", "runs by itself, and has no \"manual\"", "take it out"),
        ("concurrency", "waits for nothing, and has no \"concurrency\"", "take it out"),
        ("trigger", "runs a script, and has no \"trigger\"", "write `trigger` in a stage"),
        (
            "allow_failure",
            "has no \"allow_failure\"",
            "end its commands with `|| true` where a failure does not matter",
        ),
    ],
    ..map(
        "`finally`",
        &[
            SCRIPT,
            IMAGE,
            ENVIRONMENT_KEY,
            WHEN_KEY,
            SERVICES,
            ARTIFACTS_KEY,
            REPORTS_KEY,
            CACHE,
            SECRETS,
            RETRY,
            TIMEOUT,
            IDLE_TIMEOUT,
            ON_FAILURE,
            AFTER,
            DIR,
            SHELL,
            DOCKER,
            PRIVILEGED,
            RESOURCES_KEY,
            AGENT,
            PLATFORM,
            EXTENDS,
        ],
    )
};

/// `prepare`.
pub(in crate::manifest) const PREPARE: Map = Map {
    required: &["script", "extends"],
    later: &["network"],
    never: &[
        (
            "image",
            "has no image of its own: it makes the image that stages without one start from",
            "write `image` at the top level, or in the stages that need another",
        ),
        ("services", "has no services: they begin when it is over", "write them at the top level, or in a stage"),
        ("dir", "has no \"dir\": its script begins in the workspace", "write `cd` in its script"),
    ],
    ..map(
        "`prepare`",
        &[
            SCRIPT,
            key(
                "files",
                TEXTS,
                "Globs of the files that it sees, and by whose contents its image is kept for later builds. Without it, it sees the whole checkout, and its image is made anew for each job.",
                &[
                    "prepare: {script: pip install -r requirements.txt, files: [requirements.txt]}\nbuild: {script: tox}",
                ],
            ),
            key(
                "cache",
                Form::Flag,
                "Whether its image may be taken from, and kept for, other builds, where it says its `files`. Without it: true.",
                &["prepare: {script: ./fetch-latest.sh, cache: false}\nbuild: {script: make}"],
            ),
            key(
                "secrets",
                SECRETS_FORM,
                "Secrets that it is given. Then `cache: false` must stand beside them, for an image would keep them.",
                &["prepare: {script: ./login.sh, secrets: [TOKEN], cache: false}\nbuild: {script: make}"],
            ),
            ENVIRONMENT_KEY,
            TIMEOUT,
            SHELL,
            EXTENDS,
        ],
    )
};

const SCRIPT: Key = key(
    "script",
    TEXTS,
    "The commands, run one after the other by one `/bin/sh -e`: the first that fails ends it. Lists in it are flattened, so that an anchor can give several.",
    &["build:\n  script:\n    - make\n    - make test", "build: {script: make}"],
);

const IMAGE: Key = key(
    "image",
    IMAGE_FORM,
    "The image that the stage runs in, taken untouched. Without it, it runs in the prepared image.",
    &["test: {image: python:3.12, script: tox}"],
);

const ENVIRONMENT_KEY: Key = key(
    "environment",
    Form::Any(&[Form::Map(&ENVIRONMENT), VARS_LIST]),
    "Variables for it alone; they win over the top level's. A list is short for its `vars`.",
    &["test: {environment: [LEVEL=debug], script: make test}"],
);

const NEEDS: Key = key(
    "needs",
    TEXTS,
    "The stages that it waits for, in place of all that stand before it. `[]` begins at once, after `prepare`. A stage that is skipped skips what needs it, unless it is written `name?`.",
    &[
        "stages: [build, docs, deploy]\nbuild: {script: make}\ndocs: {script: make docs, needs: [], when: {path: \"docs/**\"}}\ndeploy: {script: make deploy, needs: [build, docs?]}",
    ],
);

const WHEN_KEY: Key = key(
    "when",
    Form::Any(&[Form::Text, Form::Map(&WHEN), Form::List(&Form::Any(&[Form::Text, Form::Map(&WHEN)]))]),
    "When it runs. Text is a branch, a map holds when all in it holds, a list when one of its elements does. `!` before a glob takes out.",
    &[
        "deploy: {when: main, script: make deploy}",
        "deploy: {when: [{branch: main, event: push}, {tag: v*}], script: make deploy}",
    ],
);

const MATRIX_KEY: Key = key(
    "matrix",
    MATRIX_FORM,
    "Runs it once for each combination of values, each a job of its own. The values stand in `${matrix.AXIS}` and arrive as BUILDR_MATRIX_AXIS.",
    &["unit: {matrix: {rust: [\"1.89\", \"1.90\"]}, image: \"rust:${matrix.rust}\", script: cargo test}"],
);

const PARALLEL: Key = key(
    "parallel",
    Form::Number(1, 256),
    "Runs it so many times side by side, each with its part of the work: BUILDR_SHARD of BUILDR_SHARDS.",
    &["unit: {parallel: 4, script: ./test-part.sh}"],
);

const SERVICES: Key = key(
    "services",
    SERVICES_FORM,
    "Containers that run beside it, each reached by its name.",
    &[
        "unit: {services: {db: {image: postgres:17, environment: [POSTGRES_PASSWORD=x], ready: pg_isready}}, script: make test}",
    ],
);

const ARTIFACTS_KEY: Key = key(
    "artifacts",
    Form::Any(&[TEXTS, Form::Map(&ARTIFACTS)]),
    "Which of its files are kept: for the jobs after it, and for people. Within one job the next stages simply see all files.",
    &["build: {script: make, artifacts: [dist/**, \"!dist/*.map\"]}"],
);

const REPORTS_KEY: Key = key(
    "reports",
    Form::Map(&REPORTS),
    "Which of its files are read for people: test results and coverage.",
    &["unit: {script: make test, reports: {junit: \"build/**/*.xml\", coverage: lcov.info}}"],
);

const CACHE: Key = key(
    "cache",
    CACHE_FORM,
    "Folders that later builds find again, in place of the top level's. `false` is none.",
    &["build: {script: cargo build, cache: {paths: [target], key: [Cargo.lock]}}"],
);

const SECRETS: Key = key(
    "secrets",
    SECRETS_FORM,
    "Secrets that it is given, each as a variable or as a file.",
    &["deploy: {script: ./deploy.sh, secrets: [DEPLOY_TOKEN, {SSH_KEY: {from: prod/ssh, file: true}}]}"],
);

const RETRY: Key = key(
    "retry",
    RETRY_FORM,
    "How often it is tried again when it fails: in a fresh container, on the workspace as it was before. `never` is for work that must not be done twice, even when an agent is lost.",
    &[
        "unit: {script: make test, retry: {max: 2, on: [infra, 137], delay: 10s}}",
        "deploy: {script: ./deploy.sh, retry: never}",
    ],
);

const ALLOW_FAILURE_KEY: Key = key(
    "allow_failure",
    Form::Any(&[Form::Flag, Form::Many(&Form::Number(1, 255)), Form::Map(&ALLOW_FAILURE)]),
    "Whether its failure counts as passed: always, or when it ends with one of these exit codes.",
    &["lint: {script: make lint, allow_failure: true}", "lint: {script: make lint, allow_failure: [101]}"],
);

const TIMEOUT: Key = key(
    "timeout",
    Form::Duration,
    "How long it may run. The agent's own bound holds in any case.",
    &["unit: {script: make test, timeout: 20m}", "prepare: {script: make tools, timeout: 5m}\nbuild: {script: make}"],
);

const IDLE_TIMEOUT: Key = key(
    "idle_timeout",
    Form::Duration,
    "How long it may print nothing.",
    &["unit: {script: make test, idle_timeout: 5m}"],
);

const ON_FAILURE: Key = key(
    "on_failure",
    TEXTS,
    "Commands that run in its container when its script failed.",
    &["deploy: {script: ./deploy.sh, on_failure: ./rollback.sh}"],
);

const AFTER: Key = key(
    "after",
    TEXTS,
    "Commands that run in its container at last, whenever its script began: after a cancel too. They may take a minute, and cannot change how it ended.",
    &["unit: {script: make test, after: cat test.log}"],
);

const DIR: Key = key(
    "dir",
    Form::Text,
    "The folder in which its scripts begin, below the workspace.",
    &["unit: {dir: crates/api, script: cargo test}"],
);

const SHELL: Key = key(
    "shell",
    Form::Text,
    "What runs its scripts in place of `/bin/sh -e`. `{0}` stands for the script's file.",
    &["build: {shell: \"bash -euo pipefail {0}\", script: make}"],
);

const DOCKER: Key = key(
    "docker",
    Form::Flag,
    "Whether it asks for the Docker socket. That is root on the machine that builds, so its owner decides.",
    &["images: {docker: true, image: \"docker:28\", script: docker build .}"],
);

const PRIVILEGED: Key = key(
    "privileged",
    Form::Flag,
    "Whether it asks for a privileged container. The owner of the machine that builds decides.",
    &["kernel: {privileged: true, script: make test}"],
);

const RESOURCES_KEY: Key = key(
    "resources",
    Form::Map(&RESOURCES),
    "What it may use of the machine. The agent's own bounds hold in any case.",
    &["build: {resources: {cpu: 0.5, memory: 512m}, script: make}"],
);

const AGENT: Key = key(
    "agent",
    AGENT_FORM,
    "Labels that the agent must have which runs it. It becomes a job of its own there, and begins with the checkout and the artifacts of what it needs.",
    &["deploy: {agent: [prod-net], script: ./deploy.sh}"],
);

const PLATFORM: Key = key(
    "platform",
    PLATFORM_FORM,
    "The system and processor that it runs on. It becomes a job of its own there.",
    &["unit: {platform: linux/arm64, script: make test}"],
);

const MANUAL: Key = key(
    "manual",
    MANUAL_FORM,
    "A person lets it begin. Nothing is held while it waits.",
    &[
        "deploy: {manual: true, script: ./deploy.sh}",
        "deploy: {manual: {ask: \"Deploy ${tag}?\", allow: [release-team], inputs: {REGION: [eu, us]}}, script: ./deploy.sh}",
    ],
);

const CONCURRENCY: Key = key(
    "concurrency",
    CONCURRENCY_FORM,
    "A group of which only some run at once, over all builds of the repository. Without a limit: one, and a later build never overtakes.",
    &["deploy: {concurrency: deploy-prod, script: ./deploy.sh}"],
);

const TRIGGER: Key = key(
    "trigger",
    TRIGGER_FORM,
    "Another build that is begun in its place.",
    &["site: {trigger: {repo: \"https://git.example.org/site.git\", branch: main, wait: true}}"],
);

const EXTENDS: Key = key(
    "extends",
    TEXTS,
    "Templates that it begins with: top-level keys that begin with `.`. Maps are merged, of all else what it says itself holds.",
    &[".base: {image: debian:bookworm-slim, timeout: 10m}\nbuild: {extends: .base, script: make}"],
);
