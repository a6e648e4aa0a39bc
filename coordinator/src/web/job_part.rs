//! The part of a build's page that shows its jobs, and what was read of their stages.

use std::fmt::{self, Write as _};

use protocol::api::{BuildView, JobView, StageView};
use protocol::report::Tests;

use super::text::Shown;

/// How many failing tests of a stage are named.
const FAILURES_SHOWN: usize = 20;

/// The jobs of a build, when there are several; and what of it is in none.
pub(super) fn jobs_part(out: &mut String, view: &BuildView) -> fmt::Result {
    if view.jobs.len() > 1 || view.jobs.iter().any(|job| job.gate.is_some()) {
        out.push_str("<table>\n<tr><th>Job</th><th>Status</th><th>Stages</th><th></th></tr>\n");
        for job in &view.jobs {
            job_part(out, job)?;
        }
        out.push_str("</table>\n");
    }
    for skipped in &view.skipped {
        let (stage, reason) = (Shown(&skipped.stage), Shown(&skipped.reason));
        writeln!(out, "<p><span class=\"skipped\">skipped</span> {stage}: {reason}</p>")?;
    }
    Ok(())
}

fn job_part(out: &mut String, job: &JobView) -> fmt::Result {
    let stages: Vec<&str> = job.stages.iter().map(|stage| stage.as_str()).collect();
    let mut message = job.message.as_ref().map(|message| Shown(message).to_string()).unwrap_or_default();
    if let Some(build) = job.downstream {
        write!(message, " <a href=\"/builds/{}\">build {build}</a>", build.0)?;
    }
    if let Some(by) = job.gate.as_ref().and_then(|gate| gate.approved_by.as_ref()) {
        write!(message, " approved by {}", Shown(by))?;
    }
    writeln!(
        out,
        "<tr><td>{}</td><td><span class=\"{status}\">{status}</span></td><td>{}</td><td>{message}</td></tr>",
        Shown(&job.key),
        Shown(stages.join(", ")),
        status = job.status.name(),
    )
}

/// What was read of a stage: the tests that failed first.
pub(super) fn details_part(out: &mut String, stage: &StageView) -> fmt::Result {
    if let Some(tests) = &stage.tests {
        tests_part(out, stage, tests)?;
    }
    if let Some(lines) = stage.coverage {
        writeln!(out, "<p>{} covers {}.{:02} % of the lines</p>", Shown(&stage.name), lines / 100, lines % 100)?;
    }
    if let Some(summary) = &stage.summary {
        writeln!(out, "<h3>{}: summary</h3>\n<pre>{}</pre>", Shown(&stage.name), Shown(summary))?;
    }
    Ok(())
}

fn tests_part(out: &mut String, stage: &StageView, tests: &Tests) -> fmt::Result {
    let Tests { passed, failed, skipped, failures, .. } = tests;
    writeln!(out, "<p>{}: {failed} tests failed, {passed} passed, {skipped} skipped</p>", Shown(&stage.name))?;
    if failures.is_empty() {
        return Ok(());
    }
    out.push_str("<ul>\n");
    for failure in failures.iter().take(FAILURES_SHOWN) {
        let place = failure.file.as_ref().map(|file| format!(" · {file}")).unwrap_or_default();
        let (name, place, message) = (Shown(&failure.name), Shown(place), Shown(&failure.message));
        writeln!(out, "<li><span class=\"failed\">{name}</span>{place}<pre>{message}</pre></li>")?;
    }
    out.push_str("</ul>\n");
    Ok(())
}
