//! Keys of whose code is built: `clone` and `repos`.

use super::{Form, Map, key, map};

/// What `clone` takes.
pub(super) const CLONE_FORM: Form = Form::Any(&[Form::Flag, Form::Map(&CLONE)]);

/// The long form of `clone`.
pub(in crate::manifest) const CLONE: Map = map(
    "`clone`",
    &[
        key(
            "depth",
            Form::Number(1, 1_000_000),
            "How many commits of history a stage sees. Without it: all.",
            &["clone: {depth: 50}\nbuild: {script: make}"],
        ),
        key(
            "submodules",
            Form::Any(&[Form::Flag, Form::Word(&["recursive"])]),
            "Whether submodules are fetched; `recursive` for theirs too. Without it: false.",
            &["clone: {submodules: recursive}\nbuild: {script: make}"],
        ),
        key(
            "lfs",
            Form::Flag,
            "Whether files of git LFS are fetched. Without it: false.",
            &["clone: {lfs: true}\nbuild: {script: make}"],
        ),
        key(
            "filter",
            Form::Shaped("^(blob:none|blob:limit=[0-9]+[kmg]?|tree:[0-9]+)$", "a filter of git's"),
            "A partial clone's filter.",
            &["clone: {filter: \"blob:none\"}\nbuild: {script: make}"],
        ),
    ],
);

/// What `repos` takes.
pub(super) const REPOS_FORM: Form = Form::Named(&Form::Any(&[Form::Text, Form::Map(&REPO)]));

/// The long form of an entry of `repos`.
pub(in crate::manifest) const REPO: Map = Map {
    required: &["url"],
    ..map(
        "a repository",
        &[
            key(
                "url",
                Form::Text,
                "Where it is.",
                &["repos: {lib: {url: \"https://git.example.org/lib.git\"}}\nbuild: {script: make}"],
            ),
            key(
                "path",
                Form::Text,
                "Where its code goes, below the workspace. Without it: a folder of its name.",
                &["repos: {lib: {url: \"https://git.example.org/lib.git\", path: deps/lib}}\nbuild: {script: make}"],
            ),
            key(
                "branch",
                Form::Text,
                "Which branch. `same` is the build's own where the repository has one of that name, else its own choice.",
                &["repos: {lib: {url: \"https://git.example.org/lib.git\", branch: same}}\nbuild: {script: make}"],
            ),
        ],
    )
};
