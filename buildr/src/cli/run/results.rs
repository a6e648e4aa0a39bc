//! What a run leaves for people and programs when it is over: the files that were kept, and `result.json`, by which the
//! next run knows what it can take over.

use std::fs;
use std::io;
use std::path::Path;

use protocol::plan::Kept;
use protocol::report::Tests;
use protocol::{Ending, JobKey, LogName, StageName, StageOutcome};
use serde::{Deserialize, Serialize};

use super::super::terminal::{ARCHIVES, Account, Header, Record, StageAccount, State};
use super::super::time;
use super::error::RunError;
use super::life::Life;
use crate::carry;

/// Where a run leaves its results, in the tree.
const OUT: &str = ".buildr-out";
/// How the run ended.
const FILE: &str = "result.json";

/// How a run ended, for programs.
#[derive(Serialize)]
struct RunResult<'a> {
    run: &'a Header,
    ended_ms: u64,
    duration_ms: u64,
    exit_code: u8,
    ending: &'a Ending,
    stages: Vec<StageResult<'a>>,
    kept: &'a [Kept],
}

#[derive(Serialize)]
struct StageResult<'a> {
    job: Option<&'a JobKey>,
    stage: &'a StageName,
    result: Option<&'a StageOutcome>,
    /// Whether what it makes was taken from an earlier build.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    duration_ms: u64,
    /// Its whole output, from the folder on.
    log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reports: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tests: Option<&'a Tests>,
    /// Per cent of the lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<f64>,
}

/// Of what a run left, what the next one takes over.
#[derive(Default, Deserialize)]
struct Earlier {
    #[serde(default)]
    kept: Vec<Kept>,
}

/// The folder of the run, and what the one before kept there. In the tree where nobody named another: unless that
/// cannot be written, or another run does, or it is a link, which the repository may have brought and which would lead
/// what is written to any place.
///
/// # Errors
/// When the disk refuses, another run writes to the one that was named, or that has other things in it.
pub(super) fn begin(out: Option<&Path>, tree: &Path, life: &Life) -> Result<(Record, Vec<Kept>), RunError> {
    let problem = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Disk { doing: "write the results to", path, source }
    };
    let at = |folder: &Path| {
        // Before it begins: some of what is there goes then.
        let earlier = earlier(folder);
        Record::begin(folder)
            .map_err(problem(folder))?
            .map(|record| (record, earlier))
            .ok_or_else(|| RunError::Busy(folder.to_owned()))
    };
    if let Some(out) = out {
        if !Record::may_begin(out).map_err(problem(out))? {
            return Err(RunError::Strange(out.to_owned()));
        }
        return at(out);
    }
    let usual = tree.join(OUT);
    if !usual.is_symlink() {
        match at(&usual) {
            Err(error) => tracing::debug!(%error, "the results are written elsewhere"),
            begun => return begun,
        }
    }
    at(&life.folder.join("out").join(life.boot.to_string()))
}

/// What the run before kept, as far as it is still there. Nothing when it cannot be read: then it is made again.
fn earlier(folder: &Path) -> Vec<Kept> {
    let text = fs::read(folder.join(FILE)).unwrap_or_default();
    let Earlier { mut kept } = serde_json::from_slice(&text).unwrap_or_default();
    kept.retain(|kept| is_name(&kept.sha256) && folder.join(ARCHIVES).join(&kept.sha256).is_file());
    kept
}

fn is_name(sha256: &str) -> bool {
    !sha256.is_empty() && sha256.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes all of it. `earlier` is what was taken over.
///
/// # Errors
/// When the disk refuses, or an archive cannot be read.
pub(super) fn write(
    account: &Account,
    record: &Record,
    header: &Header,
    ending: &Ending,
    earlier: &[Kept],
    duration_ms: u64,
) -> io::Result<()> {
    let mut kept: Vec<Kept> = Vec::new();
    for stage in &account.stages {
        let (Some(files), Some(job)) = (&stage.kept, account.job_of(stage)) else { continue };
        let into = record.artifacts_path(account, Some(job), &stage.stage);
        replace(&into)?;
        carry::restore(&record.archives().join(&files.sha256), &into).map_err(io::Error::other)?;
        let (job, stage) = (job.clone(), stage.stage.clone());
        let sha256 = files.sha256.clone();
        kept.push(Kept { job, stage, files: files.files, bytes: files.bytes, sha256, after: None });
    }
    let is_new = |old: &&Kept| !kept.iter().any(|new| new.job == old.job && new.stage == old.stage);
    let taken: Vec<Kept> = earlier.iter().filter(is_new).cloned().collect();
    kept.extend(taken);
    forget_others(record.folder(), &kept);
    let summaries: String = account.stages.iter().filter_map(|stage| stage.summary.as_deref()).collect();
    if !summaries.is_empty() {
        record.write("summary.md", &summaries)?;
    }
    let stages = account.stages.iter().map(|stage| stage_result(account, record, stage)).collect();
    let result = RunResult {
        run: header,
        ended_ms: time::now(),
        duration_ms,
        exit_code: ending.outcome.exit_code(),
        ending,
        stages,
        kept: &kept,
    };
    record.write(FILE, &super::super::json(&result))
}

fn stage_result<'a>(account: &Account, record: &Record, stage: &'a StageAccount) -> StageResult<'a> {
    let below = |path: &Path| path.strip_prefix(record.folder()).unwrap_or(path).to_string_lossy().into_owned();
    let job = stage.job.as_ref();
    let took = match &stage.state {
        State::Over(_, took) => u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        State::Running(_) => 0,
    };
    StageResult {
        job,
        stage: &stage.stage,
        result: stage.result(),
        cached: stage.reused,
        duration_ms: took,
        log: below(&record.log_path(account, job, &LogName::from(&stage.stage))),
        artifacts: stage.kept.as_ref().map(|_| below(&record.artifacts_path(account, job, &stage.stage))),
        reports: Some(record.reports_path(account, job, &stage.stage))
            .filter(|path| path.exists())
            .map(|path| below(&path)),
        tests: stage.tests.as_ref(),
        coverage: stage.coverage.map(|lines| f64::from(lines) / 100.0),
    }
}

/// An empty folder in the place of whatever was there.
fn replace(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(folder)
}

/// Removes the archives that nothing speaks of any more. What stays for once is removed by the next run.
fn forget_others(folder: &Path, kept: &[Kept]) {
    for entry in fs::read_dir(folder.join(ARCHIVES)).into_iter().flatten().flatten() {
        if !kept.iter().any(|kept| entry.file_name() == *kept.sha256) {
            fs::remove_file(entry.path()).ok();
        }
    }
}
