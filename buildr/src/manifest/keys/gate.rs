//! Keys of what stands before a stage, or in its place: a person, a turn, another build.

use super::machine::VARS_FORM;
use super::{Form, Map, TEXTS, key, map};

/// What `concurrency` takes.
pub(super) const CONCURRENCY_FORM: Form = Form::Any(&[Form::Text, Form::Map(&CONCURRENCY)]);

/// The long form of `concurrency`.
pub(in crate::manifest) const CONCURRENCY: Map = Map {
    required: &["group"],
    ..map(
        "`concurrency`",
        &[
            key(
                "group",
                Form::Text,
                "The group's name.",
                &["deploy: {concurrency: {group: deploy-prod}, script: ./deploy.sh}"],
            ),
            key(
                "limit",
                Form::Number(1, 1000),
                "How many of it run at once. Without it: one.",
                &["load: {concurrency: {group: load-tests, limit: 2}, script: ./load.sh}"],
            ),
            key(
                "order",
                Form::Word(&["build", "ready"]),
                "Whose turn it is: the older build's, or that of whoever is ready first. Without it: build.",
                &["load: {concurrency: {group: load-tests, order: ready}, script: ./load.sh}"],
            ),
        ],
    )
};

/// What `manual` takes.
pub(super) const MANUAL_FORM: Form = Form::Any(&[Form::Flag, Form::Text, Form::Map(&MANUAL)]);

/// The long form of `manual`.
pub(in crate::manifest) const MANUAL: Map = map(
    "`manual`",
    &[
        key(
            "ask",
            Form::Text,
            "What the person is asked.",
            &["deploy: {manual: {ask: \"Deploy ${tag}?\"}, script: ./deploy.sh}"],
        ),
        key(
            "allow",
            TEXTS,
            "Who may answer. Without it: anybody who may start builds.",
            &["deploy: {manual: {allow: [release-team]}, script: ./deploy.sh}"],
        ),
        key(
            "inputs",
            INPUTS_FORM,
            "What the person fills in. The values arrive as variables.",
            &["deploy: {manual: {inputs: {REGION: [eu, us]}}, script: ./deploy.sh}"],
        ),
        key(
            "timeout",
            Form::Duration,
            "After how long without an answer it is skipped. Without it: never.",
            &["deploy: {manual: {timeout: 2d}, script: ./deploy.sh}"],
        ),
    ],
);

/// What `inputs` takes.
pub(super) const INPUTS_FORM: Form =
    Form::Any(&[Form::Named(&Form::Any(&[Form::AnyText, Form::List(&Form::Text), Form::Map(&INPUT)])), TEXTS]);

/// The long form of an entry of `inputs`.
pub(in crate::manifest) const INPUT: Map = map(
    "an input",
    &[
        key(
            "choices",
            TEXTS,
            "What it may be. Without it: anything.",
            &["inputs: {REGION: {choices: [eu, us]}}\ndeploy: {script: ./deploy.sh}"],
        ),
        key(
            "default",
            Form::AnyText,
            "What it is when nobody says. Without it somebody must.",
            &["inputs: {REGION: {choices: [eu, us], default: eu}}\ndeploy: {script: ./deploy.sh}"],
        ),
        key(
            "description",
            Form::Text,
            "What it is for.",
            &["inputs: {REGION: {choices: [eu, us], description: where it runs}}\ndeploy: {script: ./deploy.sh}"],
        ),
    ],
);

/// What `trigger` takes.
pub(super) const TRIGGER_FORM: Form = Form::Any(&[Form::Text, Form::Map(&TRIGGER)]);

/// The long form of `trigger`.
pub(in crate::manifest) const TRIGGER: Map = Map {
    required: &["repo", "branch", "vars", "wait"],
    ..map(
        "`trigger`",
        &[
            key(
                "repo",
                Form::Text,
                "The repository. Without it: the same one.",
                &["site: {trigger: {repo: \"https://git.example.org/site.git\"}}"],
            ),
            key(
                "branch",
                Form::Text,
                "The branch. Without it: the repository's own choice.",
                &["next: {trigger: {branch: staging}}"],
            ),
            key(
                "vars",
                VARS_FORM,
                "Variables that the other build is told.",
                &["site: {trigger: {repo: \"https://git.example.org/site.git\", vars: {FROM: \"${commit}\"}}}"],
            ),
            key(
                "wait",
                Form::Flag,
                "Whether the stage waits for the other build's end, and ends as it does. Without it: false.",
                &["site: {trigger: {repo: \"https://git.example.org/site.git\", wait: true}}"],
            ),
        ],
    )
};
