//! What buildr itself has to say in a stage's output.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;

use super::super::{Output, StageOrder};
use super::handoff;
use super::powers::Powers;

/// How many paths a warning names before it counts.
const NAMED: usize = 5;

pub(super) async fn warn_of_names(stage: &StageOrder, output: &Output) {
    for variable in stage.environment.iter().filter(|variable| !handoff::is_name(&variable.name)) {
        let name = &variable.name;
        let line = format!("buildr: the variable {name:?} is not set: a shell cannot hold one of that name\n");
        let _ = output.send(Bytes::from(line)).await;
    }
}

pub(super) async fn warn_of_writes(mount: &str, written: &[PathBuf], output: &Output) {
    if written.is_empty() {
        return;
    }
    let named: Vec<_> = written.iter().take(NAMED).map(|path| format!("{mount}/{}", path.display())).collect();
    let more = written.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let line = format!(
        "buildr: prepare wrote to the workspace, which is not kept: {}{more}; write it in a stage, or elsewhere\n",
        named.join(", ")
    );
    let _ = output.send(Bytes::from(line)).await;
}

pub(super) async fn warn_of_strangers(
    before: &HashMap<String, String>,
    after: &HashMap<String, String>,
    output: &Output,
) {
    let mut stayed: Vec<_> = after.iter().filter(|(id, _)| !before.contains_key(*id)).map(|(_, name)| name).collect();
    if stayed.is_empty() {
        return;
    }
    stayed.sort();
    let names = stayed.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let line = format!(
        "buildr: containers appeared while this stage had the Docker socket, and are still there: {names}; what a \
         build starts is its own to remove\n"
    );
    let _ = output.send(Bytes::from(line)).await;
}

/// What the daemon cannot do for a job.
pub(super) async fn say_what_is_missing(powers: &Powers, shared: bool, output: &Output) {
    if !shared {
        let line = "buildr: the Docker daemon does not see this machine's folders: the workspace is brought to it before \
                    each stage, and back after it\n";
        let _ = output.send(Bytes::from_static(line.as_bytes())).await;
    }
    let missing = powers.missing_limits();
    if !missing.is_empty() {
        let line = format!("buildr: the daemon cannot limit {}, so nothing is limited there\n", missing.join(", "));
        let _ = output.send(Bytes::from(line)).await;
    }
}
