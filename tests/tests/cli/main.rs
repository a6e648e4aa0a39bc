//! `buildr` as a person runs it: the program itself, in folders of their own, over a real Docker daemon. Each test
//! looks at what is printed, at the exit code, and at what is left behind.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

mod place;

mod endings;
mod farm;
mod figures;
mod live;
mod manifest;
mod output;
mod papers;
mod platform;
mod results;
mod run;
mod strange;
mod user;
