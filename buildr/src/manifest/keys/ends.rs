//! Keys of what says whether, how often and with what end a stage runs: `when`, `matrix`, `retry`, `allow_failure`.

use super::{Form, Key, Map, Rest, TEXTS, key, map};

/// A condition of a stage.
pub(in crate::manifest) const WHEN: Map =
    map("a condition", &[BRANCH, TAG, EVENT, PATH, REF, STATUS, PLATFORM, MATRIX_AXES, IF]);

/// A condition of the whole pipeline.
pub(in crate::manifest) const PIPELINE_WHEN: Map = Map {
    never: &[
        ("status", "at the top level has no \"status\": nothing came before it", "write it in the `when` of a stage"),
        ("platform", "at the top level has no \"platform\"", "write it in the `when` of a stage"),
        ("matrix", "at the top level has no \"matrix\"", "write it in the `when` of a stage"),
    ],
    ..map("a condition of the whole pipeline", &[BRANCH, TAG, EVENT, PATH, REF, IF])
};

const BRANCH: Key = key(
    "branch",
    TEXTS,
    "Globs of branches. In a pull request it is the branch that it is to go to, and without `event` a condition with `branch` never holds there. A tag has no branch.",
    &["deploy: {when: {branch: [main, \"release/*\", \"!release/old\"]}, script: make deploy}"],
);

const TAG: Key = key("tag", TEXTS, "Globs of tags.", &["deploy: {when: {tag: v*}, script: make deploy}"]);

const EVENT: Key = key(
    "event",
    Form::Many(&Form::Word(&["push", "tag", "pull_request", "schedule", "manual", "upstream", "injected", "local"])),
    "Why the build began: `local` is `buildr run`, `upstream` another build, `injected` a message written by hand.",
    &["deploy: {when: {event: [push, tag]}, script: make deploy}"],
);

const PATH: Key = key(
    "path",
    TEXTS,
    "Globs of files of which at least one has changed: since the branch left its target, or since the last build that passed. When that is not known, it runs.",
    &["docs: {when: {path: [\"docs/**\", \"!docs/private/**\"]}, script: make docs}"],
);

const REF: Key =
    key("ref", TEXTS, "Globs of git refs.", &["deploy: {when: {ref: \"refs/heads/release/*\"}, script: make deploy}"]);

const STATUS: Key = key(
    "status",
    Form::Many(&Form::Word(&["success", "failure", "always", "cancelled", "canceled"])),
    "How what came before ended: `success`, `failure`, or `always` for both. Without it: success. `cancelled` is for `finally` alone.",
    &["tell: {when: {status: failure}, script: ./tell.sh}\nbuild: {script: make}"],
);

const PLATFORM: Key = key(
    "platform",
    TEXTS,
    "Globs of the platform that it would run on.",
    &[
        "unit: {matrix: {arch: [amd64, arm64]}, platform: \"linux/${matrix.arch}\", when: {platform: linux/amd64}, script: make}",
    ],
);

const MATRIX_AXES: Key = key(
    "matrix",
    Form::Named(&TEXTS),
    "Axes of the matrix, each with globs over its values.",
    &["unit: {matrix: {os: [alpine, debian]}, when: {matrix: {os: debian}}, script: make test}"],
);

const IF: Key = key(
    "if",
    Form::Text,
    "An expression in CEL over `event`, `branch`, `tag`, `ref`, `target`, `matrix`, `env` and `changed`.",
    &["deploy: {when: {if: \"branch == 'main' && event != 'schedule'\"}, script: make deploy}"],
);

/// What `matrix.exclude` may name beside the axes.
pub(in crate::manifest) const EXCLUDABLE: [&str; 3] = ["branch", "tag", "event"];

/// What `matrix` takes.
pub(super) const MATRIX_FORM: Form = Form::Map(&MATRIX);

const CELLS: Form = Form::Any(&[Form::Named(&Form::AnyText), Form::List(&Form::Named(&Form::AnyText))]);

/// A matrix.
pub(in crate::manifest) const MATRIX: Map = Map {
    rest: Some(Rest { title: "an axis", form: TEXTS }),
    ..map(
        "a matrix",
        &[
            key(
                "include",
                CELLS,
                "What cells get besides: an entry gives its other values to all cells that have the values of its axes. One that no cell is like is a cell more, and says its value of every axis.",
                &["unit: {matrix: {rust: [stable], include: [{rust: nightly}]}, script: cargo test}"],
            ),
            key(
                "exclude",
                CELLS,
                "Cells that are left out: those in which all of these values match. Globs may stand in them, and `branch`, `tag` and `event` beside the axes.",
                &[
                    "unit: {matrix: {rust: [stable, nightly], exclude: [{rust: nightly, branch: \"release/*\"}]}, script: cargo test}",
                ],
            ),
            key(
                "max",
                Form::Number(1, 256),
                "How many cells run at once. Without it: all.",
                &["unit: {matrix: {rust: [stable, nightly], max: 1}, script: cargo test}"],
            ),
            key(
                "fail_fast",
                Form::Flag,
                "Whether the other cells are cancelled as soon as one fails. Without it: false.",
                &["unit: {matrix: {rust: [stable, nightly], fail_fast: true}, script: cargo test}"],
            ),
        ],
    )
};

/// What `retry` takes.
pub(super) const RETRY_FORM: Form = Form::Any(&[Form::Word(&["never"]), Form::Number(0, 10), Form::Map(&RETRY)]);

/// The long form of `retry`.
pub(in crate::manifest) const RETRY: Map = map(
    "`retry`",
    &[
        key(
            "max",
            Form::Number(0, 10),
            "How many times more than once. Without it: 1.",
            &["unit: {script: make test, retry: {max: 2}}"],
        ),
        key(
            "on",
            Form::Many(&Form::Any(&[
                Form::Word(&["failed", "infra", "timeout", "out_of_memory"]),
                Form::Number(1, 255),
            ])),
            "After which ends: `failed` is any failure of the script, `infra` an image or daemon that failed, a number an exit code. Without it: after any.",
            &["unit: {script: make test, retry: {max: 2, on: [infra, timeout, out_of_memory, failed, 137]}}"],
        ),
        key(
            "delay",
            Form::Duration,
            "How long it waits before each.",
            &["unit: {script: make test, retry: {max: 2, delay: 30s}}"],
        ),
    ],
);

/// The long form of `allow_failure`.
pub(in crate::manifest) const ALLOW_FAILURE: Map = Map {
    required: &["codes"],
    ..map(
        "`allow_failure`",
        &[key(
            "codes",
            Form::Many(&Form::Number(1, 255)),
            "The exit codes that count as passed.",
            &["lint: {script: make lint, allow_failure: {codes: [101]}}"],
        )],
    )
};
