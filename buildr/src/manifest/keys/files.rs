//! Keys of what a stage leaves and is given: artifacts, reports, caches, secrets.

use super::{Form, Key, Map, TEXTS, key, map};

/// The long form of `artifacts`.
pub(in crate::manifest) const ARTIFACTS: Map = Map {
    required: &["paths"],
    ..map(
        "`artifacts`",
        &[
            key(
                "paths",
                TEXTS,
                "Globs of files below the workspace; `!` before one takes out.",
                &["build: {script: make, artifacts: {paths: [dist/**]}}"],
            ),
            key(
                "exclude",
                TEXTS,
                "Globs of what is left out.",
                &["build: {script: make, artifacts: {paths: [dist/**], exclude: [dist/*.map]}}"],
            ),
            key(
                "when",
                Form::Word(&["success", "failure", "always"]),
                "After which ends of the stage they are kept. Without it: success.",
                &["unit: {script: make test, artifacts: {paths: [screenshots/**], when: failure}}"],
            ),
            key(
                "expire",
                Form::Duration,
                "For how long the farm keeps them. Without it: as long as the build.",
                &["build: {script: make, artifacts: {paths: [dist/**], expire: 30d}}"],
            ),
        ],
    )
};

/// `reports`.
pub(in crate::manifest) const REPORTS: Map = map(
    "`reports`",
    &[
        key(
            "junit",
            TEXTS,
            "Globs of test results in JUnit's XML, which nearly every test runner can write.",
            &["unit: {script: make test, reports: {junit: \"build/**/TEST-*.xml\"}}"],
        ),
        key(
            "coverage",
            Form::Any(&[Form::Text, Form::Map(&COVERAGE)]),
            "Where the coverage is found: a file of lcov's or Cobertura's form, or `/regex/` over what the stage prints, with one group around the number.",
            &[
                "unit: {script: make test, reports: {coverage: lcov.info}}",
                "unit: {script: make test, reports: {coverage: '/covered: ([0-9.]+)%/'}}",
            ],
        ),
    ],
);

/// The long form of `reports.coverage`.
pub(in crate::manifest) const COVERAGE: Map = Map {
    required: &["file", "log"],
    ..map(
        "`coverage`",
        &[
            key(
                "file",
                Form::Text,
                "A file of lcov's or Cobertura's form.",
                &["unit: {script: make test, reports: {coverage: {file: coverage.xml}}}"],
            ),
            key(
                "log",
                Form::Text,
                "A regular expression over what the stage prints, with one group around the number. The last match counts.",
                &["unit: {script: make test, reports: {coverage: {log: 'covered: ([0-9.]+)%'}}}"],
            ),
        ],
    )
};

/// What `cache` takes.
pub(super) const CACHE_FORM: Form =
    Form::Any(&[Form::False, Form::Text, Form::Map(&CACHE), Form::List(&Form::Any(&[TEXTS, Form::Map(&CACHE)]))]);

/// The long form of `cache`.
pub(in crate::manifest) const CACHE: Map = Map {
    required: &["paths"],
    ..map(
        "a cache",
        &[
            key(
                "paths",
                TEXTS,
                "The folders: below the workspace, absolute, or below `~`.",
                &["build: {script: cargo build, cache: {paths: [target, ~/.cargo/registry]}}"],
            ),
            key(
                "key",
                TEXTS,
                "Globs of files by whose contents caches are told apart.",
                &["build: {script: cargo build, cache: {paths: [target], key: [Cargo.lock]}}"],
            ),
            key(
                "name",
                Form::Text,
                "A text by which caches are told apart.",
                &["build: {script: cargo build, cache: {paths: [target], name: \"rust-${branch}\"}}"],
            ),
            key(
                "fallback",
                TEXTS,
                "Names that are taken, in this order, when nothing of the whole name is there. A name's beginning is enough.",
                &[
                    "build: {script: cargo build, cache: {paths: [target], name: \"rust-${branch}\", fallback: [rust-main, rust-]}}",
                ],
            ),
            key(
                "policy",
                Form::Word(&["both", "pull", "push"]),
                "Whether it is taken, kept, or both. Without it: both. Builds of forks only take.",
                &["unit: {script: cargo test, cache: {paths: [target], policy: pull}}"],
            ),
        ],
    )
};

/// What `secrets` takes.
pub(super) const SECRETS_FORM: Form = Form::Many(&Form::Any(&[VARIABLE, Form::Named(&ONE_SECRET)]));

const VARIABLE: Form = Form::Shaped("^[A-Za-z_][A-Za-z0-9_]*$", "the name of a variable");

const ONE_SECRET: Form = Form::Any(&[Form::Text, Form::Map(&SECRET)]);

/// A value that is sealed.
const SECURE: Key = key(
    "secure",
    Form::Shaped("^b1\\.[0-9a-f]{8}\\.[A-Za-z0-9_-]+$", "what `buildr encrypt` prints"),
    "The value itself, sealed by `buildr encrypt` for the farm and this project: no store is asked for it.",
    &[
        "deploy: {script: ./deploy.sh, secrets: {TOKEN: {secure: b1.00112233.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}}}",
        "environment: {vars: {TOKEN: {secure: b1.00112233.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA}}}\nbuild: {script: make}",
    ],
);

/// A variable of `environment` whose value is sealed.
pub(in crate::manifest) const SEALED: Map = Map { required: &["secure"], ..map("a sealed variable", &[SECURE]) };

/// The long form of an entry of `secrets`.
pub(in crate::manifest) const SECRET: Map = map(
    "a secret",
    &[
        key(
            "from",
            Form::Text,
            "The secret's name in its store. Without it: the variable's name.",
            &["deploy: {script: ./deploy.sh, secrets: {TOKEN: {from: prod/token}}}"],
        ),
        key(
            "file",
            Form::Flag,
            "Whether it arrives as a file; the variable then has the file's path.",
            &["deploy: {script: ./deploy.sh, secrets: {SSH_KEY: {from: prod/ssh, file: true}}}"],
        ),
        SECURE,
    ],
);
