//! `--as`, `--input` and `--matrix`: for which occasion a build is planned on this machine, and which cells of it.

use std::collections::HashSet;
use std::str::FromStr;

use protocol::job::TriggerKind;
use protocol::plan::Cell;
use protocol::{Branch, JobKey, PlannedJob, Variable};

use super::CliError;
use crate::plan::Facts;

/// For which occasion a build is planned.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct OccasionArgs {
    /// Plan as if this had happened: push:BRANCH, tag:NAME, pull_request:TARGET, schedule or manual
    #[arg(long = "as", value_name = "EVENT")]
    occasion: Option<Occasion>,

    /// Give an input of the manifest its value (may be repeated)
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = input)]
    inputs: Vec<Variable>,

    /// Only the matrix cells with this value (may be repeated)
    #[arg(long, value_name = "AXIS=VALUE", value_parser = cell)]
    matrix: Vec<Cell>,
}

/// Something that begins builds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Occasion {
    Push(Branch),
    Tag(String),
    PullRequest(Branch),
    Schedule,
    Manual,
}

impl FromStr for Occasion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "push:BRANCH, tag:NAME, pull_request:TARGET, schedule or manual";
        let (event, name) = text.split_once(':').map_or((text, None), |(event, name)| (event, Some(name)));
        let branch = |name: &str| name.parse::<Branch>().map_err(|error| error.to_string());
        match (event, name) {
            ("push", Some(name)) => branch(name).map(Self::Push),
            ("pull_request", Some(name)) => branch(name).map(Self::PullRequest),
            // What may be a branch's name may be a tag's.
            ("tag", Some(name)) if branch(name).is_ok() => Ok(Self::Tag(name.to_owned())),
            ("tag", Some(name)) => Err(format!("{name:?} cannot be a tag's name")),
            ("schedule", None) => Ok(Self::Schedule),
            ("manual", None) => Ok(Self::Manual),
            ("push" | "tag" | "pull_request", None) => Err(format!("write {event}:NAME; it is one of {FORMS}")),
            ("schedule" | "manual", Some(_)) => Err(format!("write {event} alone; it is one of {FORMS}")),
            _ => Err(format!("it is one of {FORMS}")),
        }
    }
}

fn input(text: &str) -> Result<Variable, String> {
    named(text, "NAME=VALUE").map(|(name, value)| Variable::new(name, value))
}

fn cell(text: &str) -> Result<Cell, String> {
    named(text, "AXIS=VALUE").map(|(axis, value)| Cell { axis: axis.to_owned(), value: value.to_owned() })
}

fn named<'t>(text: &'t str, form: &str) -> Result<(&'t str, &'t str), String> {
    text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| format!("it is not {form}"))
}

impl OccasionArgs {
    /// What the build is planned by. `here` is what is known of the tree.
    pub(super) fn facts(&self, here: Facts) -> Facts {
        let mut facts = Facts { inputs: self.inputs.clone(), ..here };
        match &self.occasion {
            None => {}
            Some(Occasion::Push(branch)) => {
                facts.event = TriggerKind::Push;
                facts.branch = Some(branch.clone());
            }
            Some(Occasion::Tag(tag)) => {
                facts.event = TriggerKind::Tag;
                facts.branch = None;
                facts.tag = Some(tag.clone());
            }
            Some(Occasion::PullRequest(target)) => {
                facts.event = TriggerKind::PullRequest;
                facts.target = Some(target.clone());
            }
            Some(Occasion::Schedule) => facts.event = TriggerKind::Schedule,
            Some(Occasion::Manual) => facts.event = TriggerKind::Manual,
        }
        facts
    }

    /// The branch from which a pull request's changes are counted, when it is one.
    pub(super) fn target(&self) -> Option<&Branch> {
        match &self.occasion {
            Some(Occasion::PullRequest(target)) => Some(target),
            _ => None,
        }
    }

    /// Leaves only the cells that `--matrix` asks for, and what is in no matrix.
    ///
    /// # Errors
    /// When no cell has such a value: then the ones that there are.
    pub(super) fn narrow(&self, jobs: &mut Vec<PlannedJob>) -> Result<(), CliError> {
        for asked in &self.matrix {
            if !jobs.iter().any(|job| job.cell.contains(asked)) {
                return Err(no_cell(asked, jobs));
            }
        }
        jobs.retain(|job| self.selects(&job.cell));
        let kept: HashSet<JobKey> = jobs.iter().map(|job| job.key.clone()).collect();
        for job in jobs {
            job.needs.retain(|key| kept.contains(key));
        }
        Ok(())
    }

    /// Of an axis that is asked for, a cell must have one of the values; it may lack the axis.
    fn selects(&self, cell: &[Cell]) -> bool {
        cell.iter().all(|here| {
            let mut asked = self.matrix.iter().filter(|asked| asked.axis == here.axis).peekable();
            asked.peek().is_none() || asked.any(|asked| asked.value == here.value)
        })
    }
}

fn no_cell(asked: &Cell, jobs: &[PlannedJob]) -> CliError {
    let Cell { axis, value } = asked;
    let mut there: Vec<String> = Vec::new();
    for cell in jobs.iter().flat_map(|job| &job.cell) {
        let text = format!("{}={}", cell.axis, cell.value);
        if !there.contains(&text) {
            there.push(text);
        }
    }
    let instead = match there.as_slice() {
        [] => "the same without --matrix, for nothing of this manifest runs in a matrix".to_owned(),
        there => format!("--matrix with one of {}", there.join(", ")),
    };
    CliError::Usage { what: format!("no cell of a matrix has {axis}={value}"), instead: Some(instead) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use protocol::Plan;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        occasion: OccasionArgs,
    }

    fn parsed(line: &str) -> Result<OccasionArgs, clap::Error> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.occasion)
    }

    fn here() -> Facts {
        Facts::of_branch(TriggerKind::Local, "feature/x".parse().unwrap())
    }

    #[test]
    fn what_is_said_is_what_is_planned_for() {
        let check = |line: &str, expect: &str| {
            let Facts { branch, tag, event, target, inputs, .. } = parsed(line).unwrap().facts(here());
            let branch = branch.map(|branch| branch.to_string());
            let target = target.map(|branch| branch.to_string());
            let inputs: Vec<String> = inputs.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
            let parts = [
                Some(event.name().to_owned()),
                branch.map(|it| format!("branch {it}")),
                tag.map(|it| format!("tag {it}")),
                target.map(|it| format!("into {it}")),
                (!inputs.is_empty()).then(|| inputs.join(" ")),
            ];
            assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>().join(", "), expect, "{line}");
        };
        check("", "local, branch feature/x");
        check("--as push:main", "push, branch main");
        check("--as tag:v1.2", "tag, tag v1.2");
        check("--as pull_request:main", "pull_request, branch feature/x, into main");
        check("--as schedule", "schedule, branch feature/x");
        check("--as manual --input A=1 --input B=x=y", "manual, branch feature/x, A=1 B=x=y");
    }

    #[test]
    fn what_is_no_occasion() {
        let check = |line: &str, expect: &str| {
            let error = parsed(line).unwrap_err().to_string();
            assert!(error.contains(expect), "{line}: {error}");
        };
        check("--as push", "write push:NAME");
        check("--as push:a..b", "branch");
        check("--as tag:a~b", "\"a~b\" cannot be a tag's name");
        check("--as schedule:x", "write schedule alone");
        check("--as pr:main", "it is one of push:BRANCH, tag:NAME, pull_request:TARGET, schedule or manual");
        check("--input X", "it is not NAME=VALUE");
        check("--matrix =x", "it is not AXIS=VALUE");
    }

    fn job(key: &str, cell: &[(&str, &str)], needs: &[&str]) -> PlannedJob {
        let cell = cell.iter().map(|&(axis, value)| Cell { axis: axis.to_owned(), value: value.to_owned() });
        PlannedJob {
            cell: cell.collect(),
            needs: needs.iter().map(|need| need.parse().unwrap()).collect(),
            ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", Vec::new()))
        }
    }

    fn jobs() -> Vec<PlannedJob> {
        vec![
            job("build", &[], &[]),
            job("a1", &[("os", "a"), ("rust", "1")], &["build"]),
            job("a2", &[("os", "a"), ("rust", "2")], &["build"]),
            job("b1", &[("os", "b"), ("rust", "1")], &["build"]),
            job("end", &[], &["a1", "a2", "b1"]),
        ]
    }

    #[test]
    fn cells_that_are_not_asked_for_are_left_out_with_their_edges() {
        let check = |line: &str, expect: &str| {
            let mut jobs = jobs();
            parsed(line).unwrap().narrow(&mut jobs).unwrap();
            let end: Vec<&str> = jobs.last().unwrap().needs.iter().map(JobKey::as_str).collect();
            let keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
            assert_eq!(format!("{} | {}", keys.join(" "), end.join(" ")), expect, "{line}");
        };
        check("", "build a1 a2 b1 end | a1 a2 b1");
        check("--matrix os=a", "build a1 a2 end | a1 a2");
        check("--matrix os=a --matrix rust=1", "build a1 end | a1");
        check("--matrix os=a --matrix os=b --matrix rust=1", "build a1 b1 end | a1 b1");
    }

    #[test]
    fn a_cell_that_is_not_there_is_told_with_those_that_are() {
        let error = parsed("--matrix os=c").unwrap().narrow(&mut jobs()).unwrap_err();
        let mut shown = Vec::new();
        error.show(&mut shown, false).unwrap();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "error: no cell of a matrix has os=c\n  try: --matrix with one of os=a, rust=1, rust=2, os=b\n"
        );
    }
}
