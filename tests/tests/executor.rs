//! The contract of the executor, held by both: the one that is scripted, and the one on Docker.

#![expect(clippy::unwrap_used, reason = "what a test makes for itself fails as the test does")]

use async_trait::async_trait;
use buildr::executor::Executor;
use buildr::executor::scripted::ScriptedExecutor;
use farm::contract::executor::{self as contract, Do, ExecutorRig};
use farm::docker::with_docker;

struct ScriptedRig {
    executor: ScriptedExecutor,
    folder: tempfile::TempDir,
}

impl ScriptedRig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("workspace")).unwrap();
        Self { executor: ScriptedExecutor::new(), folder }
    }
}

#[async_trait]
impl ExecutorRig for ScriptedRig {
    fn executor(&self) -> &dyn Executor {
        &self.executor
    }

    fn workspace(&self) -> std::path::PathBuf {
        self.folder.path().join("workspace")
    }

    fn image(&self) -> String {
        "any".to_owned()
    }

    fn say(&self, command: &Do) -> String {
        match command {
            Do::Print(text) => format!("print {text}"),
            Do::Bytes(count) => format!("bytes {count}"),
            Do::Env(name) => format!("env {name}"),
            Do::Exit(code) => format!("exit {code}"),
            Do::Hang => "hang".to_owned(),
            Do::IgnoreTerm => "ignore-term".to_owned(),
            Do::Write(path) => format!("write {path} x"),
            Do::Expect(path) => format!("expect-file {path}"),
            Do::Await(path) => format!("wait-file {path}"),
        }
    }

    async fn left(&self) -> usize {
        self.executor.open_sandboxes() + self.executor.standing()
    }
}

macro_rules! contract {
    ($($clause:ident)*) => {
        mod scripted {
            $(#[tokio::test]
            async fn $clause() {
                super::contract::$clause(&super::ScriptedRig::new()).await;
            })*
        }

        mod docker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                super::with_docker(|_| {}, |rig| async move { super::contract::$clause(&*rig).await }).await;
            })*
        }
    };
}

contract! {
    output_is_whole
    nobody_needs_to_listen
    a_code_is_an_end
    the_environment_arrives
    only_the_workspace_stays
    stages_start_from_what_was_prepared
    a_failed_prepare_is_an_end
    a_cancel_ends_it
    a_cancel_may_come_first
    grace_has_an_end
    a_kill_waits_for_nothing
    time_has_a_limit
    silence_has_a_limit
    a_slow_reader_is_no_silence
    the_socket_is_refused
    folders_are_discarded
    stages_run_at_once
    a_stage_may_have_a_folder_of_its_own
    what_follows_a_script_runs_in_any_case
    what_follows_a_script_runs_after_a_cancel
    what_follows_a_script_runs_after_its_time
    a_kill_leaves_nothing_to_follow
    a_script_does_not_know_its_end
    a_places_own_platform_suits
    mounts_are_seen
    what_stands_ready_changes_nothing
    a_place_stands_ready_for_its_job
}
