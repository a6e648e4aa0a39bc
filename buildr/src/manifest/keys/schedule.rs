//! Keys of builds that begin by themselves.

use super::machine::VARS_FORM;
use super::{Form, Map, key, map};

/// What `schedule` takes.
pub(super) const SCHEDULE_FORM: Form = Form::Named(&Form::Any(&[Form::Text, Form::Map(&SCHEDULE)]));

/// The long form of an entry of `schedule`.
pub(in crate::manifest) const SCHEDULE: Map = Map {
    required: &["cron"],
    ..map(
        "a schedule",
        &[
            key(
                "cron",
                Form::Text,
                "When: minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.",
                &["schedule: {nightly: {cron: \"0 3 * * *\"}}\nbuild: {script: make}"],
            ),
            key(
                "zone",
                Form::Text,
                "The time zone in which that is meant. Without it: UTC.",
                &["schedule: {nightly: {cron: \"0 3 * * *\", zone: Europe/Rome}}\nbuild: {script: make}"],
            ),
            key(
                "branch",
                Form::Text,
                "The branch that is built. Without it: the repository's default branch.",
                &["schedule: {weekly: {cron: \"@weekly\", branch: stable}}\nbuild: {script: make}"],
            ),
            key(
                "inputs",
                VARS_FORM,
                "The values that its builds are given.",
                &[
                    "inputs: {DEPTH: quick}\nschedule: {nightly: {cron: \"@daily\", inputs: {DEPTH: full}}}\nbuild: {script: make}",
                ],
            ),
        ],
    )
};
