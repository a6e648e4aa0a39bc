//! Schedules from plans, and the builds that they begin: the moment is said, and nothing is waited for.

use protocol::outcome::Ending;
use protocol::plan::{BuildPlan, PlannedJob, Schedule, StagePlan};
use protocol::report::JobEvent;
use protocol::{CommitId, Plan, Variable};
use tempfile::{TempDir, tempdir};

use super::*;
use crate::testing::{Agent, Farm};

const DAY: u64 = 24 * 3600 * 1000;

fn said(name: &str, cron: &str) -> Schedule {
    let (name, cron, zone) = (name.to_owned(), cron.to_owned(), "UTC".to_owned());
    Schedule { name, pipeline: None, cron, zone, branch: None, inputs: Vec::new() }
}

fn daily() -> Vec<Schedule> {
    vec![Schedule { inputs: vec![Variable::new("DEPTH", "full")], ..said("nightly", "0 3 * * *") }]
}

/// What a build is of.
struct Of {
    branch: &'static str,
    origin: Origin,
    kind: TriggerKind,
    commit: Option<CommitId>,
}

impl Default for Of {
    fn default() -> Self {
        Self { branch: "main", origin: Origin::default(), kind: TriggerKind::Manual, commit: None }
    }
}

fn commit() -> CommitId {
    "0123456789".repeat(4).parse().unwrap()
}

/// Has a build planned with these schedules.
async fn planned(farm: &Farm, agent: &Agent, of: Of, schedules: Vec<Schedule>) -> BuildNumber {
    let repo = "https://me:secret@example.org/x".parse().unwrap();
    let trigger = Trigger {
        branch: Some(of.branch.parse().unwrap()),
        origin: of.origin,
        commit: of.commit,
        ..Trigger::new(repo, of.kind)
    };
    let number = intake::submit(&farm.desk, &trigger, None).await.unwrap();
    plan(farm, agent, of.branch, schedules).await;
    number
}

/// Plans the next build.
async fn plan(farm: &Farm, agent: &Agent, branch: &str, schedules: Vec<Schedule>) {
    let (claimed, _) = agent.work(farm).await;
    let (branch, default_branch) = (Some(branch.parse().unwrap()), Some("main".parse().unwrap()));
    let (subject, author) = ("mend it".to_owned(), "me".to_owned());
    let commit = Some(commit());
    agent.happened(claimed.claim, JobEvent::CheckedOut { commit, branch, subject, author, default_branch }).await;
    let stage = StagePlan::new("test".parse().unwrap(), vec!["true".to_owned()]);
    let job = PlannedJob::new("build".parse().unwrap(), Plan::new("debian", vec![stage]));
    let build = BuildPlan { schedules, ..BuildPlan::default() };
    agent.happened(claimed.claim, JobEvent::Planned { jobs: vec![job], build }).await;
    agent.finish(claimed.claim, Ending::passed()).await;
}

async fn names(farm: &Farm) -> Vec<String> {
    farm.desk.store.schedules().await.unwrap().into_iter().map(|view| view.schedule.name).collect()
}

async fn next(farm: &Farm) -> u64 {
    farm.desk.store.schedules().await.unwrap()[0].next_ms.unwrap()
}

async fn count(farm: &Farm) -> usize {
    let page = crate::store::Page { limit: 100, ..crate::store::Page::default() };
    farm.desk.store.builds(&page).await.unwrap().len()
}

async fn with_agent(folder: &TempDir) -> (Farm, Agent) {
    let farm = Farm::start(folder).await;
    let agent = farm.agent("a1").await;
    (farm, agent)
}

#[tokio::test]
async fn each_time_begins_one_build_and_missed_ones_are_made_up_for_by_one() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let first = next(&farm).await;
    assert_eq!(first % DAY, 3 * 3600 * 1000);
    assert_eq!(look(&farm.desk, first - 1).await.unwrap(), Some(first));
    assert_eq!(count(&farm).await, 1);
    assert_eq!(look(&farm.desk, first).await.unwrap(), Some(first + DAY));
    assert_eq!(look(&farm.desk, first + 1).await.unwrap(), Some(first + DAY));
    assert_eq!(count(&farm).await, 2);
    let view = farm.snapshot(BuildNumber(2)).await.view;
    assert_eq!((view.build.trigger.as_str(), view.origin.schedule.as_deref()), ("schedule", Some("nightly")));
    assert_eq!((view.build.branch.unwrap().as_str(), view.inputs), ("main", vec![Variable::new("DEPTH", "full")]));
    // Away for three days and a half.
    assert_eq!(look(&farm.desk, first + 3 * DAY + DAY / 2).await.unwrap(), Some(first + 4 * DAY));
    assert_eq!(count(&farm).await, 3);
    let view = &farm.desk.store.schedules().await.unwrap()[0];
    assert_eq!((view.last_due_ms, view.last_build), (Some(first + DAY), Some(BuildNumber(3))));
    assert!(!view.repo.contains("secret"), "{}", view.repo);
    farm.stop().await;
}

#[tokio::test]
async fn a_repository_has_its_schedules_once_however_its_address_is_written() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let pause = ScheduleOrder { name: "nightly".to_owned(), repo: None, pipeline: None, order: ScheduleAct::Pause };
    order(&farm.desk, &pause, Some("me"), next(&farm).await - 1).await.unwrap();
    for address in ["https://example.org/x.git", "ssh://git@example.org/x"] {
        let trigger = Trigger {
            branch: Some("main".parse().unwrap()),
            ..Trigger::new(address.parse().unwrap(), TriggerKind::Manual)
        };
        intake::submit(&farm.desk, &trigger, None).await.unwrap();
        plan(&farm, &agent, "main", daily()).await;
        let known = farm.desk.store.schedules().await.unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(known[0].paused_by.as_deref(), Some("me"));
    }
    farm.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_a_year_ahead_silences_no_schedule() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let first = next(&farm).await;
    set_right(&farm.desk, first - 1).await.unwrap();
    assert_eq!(next(&farm).await, first);
    assert_eq!(look(&farm.desk, first + 365 * DAY).await.unwrap(), Some(first + 366 * DAY));
    // This time has had its build, whenever that was.
    set_right(&farm.desk, first - 1).await.unwrap();
    assert_eq!(look(&farm.desk, first).await.unwrap(), Some(first + DAY));
    assert_eq!(look(&farm.desk, first + DAY).await.unwrap(), Some(first + 2 * DAY));
    assert_eq!(count(&farm).await, 3);
    // A second back is no reason to begin a build twice.
    set_right(&farm.desk, first + DAY - 1000).await.unwrap();
    assert_eq!(next(&farm).await, first + 2 * DAY);
    farm.stop().await;
}

#[tokio::test]
async fn what_came_due_stays_so_over_restarts_and_new_plans() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let first = next(&farm).await;
    farm.stop().await;
    let farm = Farm::start(&folder).await;
    let agent = farm.agent("a2").await;
    assert_eq!(next(&farm).await, first);
    look(&farm.desk, first).await.unwrap();
    assert_eq!(look(&farm.desk, first).await.unwrap(), Some(first + DAY));
    plan(&farm, &agent, "main", daily()).await;
    assert_eq!((next(&farm).await, count(&farm).await), (first + DAY, 2), "a plan that says the same changes nothing");
    planned(&farm, &agent, Of::default(), vec![said("nightly", "0 4 * * *"), said("weekly", "@weekly")]).await;
    assert_eq!(names(&farm).await, ["nightly", "weekly"]);
    assert_eq!(next(&farm).await % DAY, 4 * 3600 * 1000);
    planned(&farm, &agent, Of::default(), Vec::new()).await;
    assert_eq!(names(&farm).await, Vec::<String>::new());
    farm.stop().await;
}

#[tokio::test]
async fn only_what_the_default_branch_has_counts() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    let other = || vec![said("other", "@hourly")];
    planned(&farm, &agent, Of::default(), daily()).await;
    let origin =
        |pull_request, tag: Option<&str>| Origin { pull_request, tag: tag.map(str::to_owned), ..Origin::default() };
    for of in [
        Of { branch: "topic", ..Of::default() },
        Of { origin: origin(Some(7), None), ..Of::default() },
        Of { origin: origin(None, Some("v1")), ..Of::default() },
        Of { commit: Some(commit()), ..Of::default() },
        // Anybody may have published it.
        Of { kind: TriggerKind::Injected, ..Of::default() },
    ] {
        planned(&farm, &agent, of, other()).await;
        assert_eq!(names(&farm).await, ["nightly"]);
    }
    planned(&farm, &agent, Of { kind: TriggerKind::Push, commit: Some(commit()), ..Of::default() }, other()).await;
    assert_eq!(names(&farm).await, ["other"]);
    farm.stop().await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_left_out() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    let mut schedules = vec![
        said("wrong", "99 * * * *"),
        Schedule { zone: "Mars/North".to_owned(), ..said("far", "@daily") },
        Schedule { inputs: vec![Variable::new("CI", "false")], ..said("own", "@daily") },
        said("a\nb", "@daily"),
        said("good", "@daily"),
        said("good", "@hourly"),
    ];
    schedules.extend((0..300).map(|number| said(&format!("n{number}"), "@daily")));
    planned(&farm, &agent, Of::default(), schedules).await;
    let names = names(&farm).await;
    assert_eq!((names[0].as_str(), names.len()), ("good", 128));
    assert_eq!(farm.desk.store.schedules().await.unwrap()[0].schedule.cron, "@daily");
    farm.stop().await;
}

#[tokio::test]
async fn a_person_pauses_one_and_runs_one_now() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let first = next(&farm).await;
    let ask = async |name: &str, act| {
        let ask = ScheduleOrder { name: name.to_owned(), repo: None, pipeline: None, order: act };
        order(&farm.desk, &ask, Some("ada"), first + 1).await
    };
    let done = ask("nightly", ScheduleAct::Pause).await.unwrap();
    assert_eq!(done.message, "nightly of https://me:***@example.org/x is paused");
    assert_eq!(look(&farm.desk, first).await.unwrap(), None);
    let view = farm.desk.store.schedules().await.unwrap().swap_remove(0);
    assert_eq!((view.next_ms, view.paused_by.as_deref(), count(&farm).await), (None, Some("ada"), 1));
    let done = ask("nightly", ScheduleAct::Run).await.unwrap();
    assert_eq!(done.build, Some(BuildNumber(2)));
    ask("nightly", ScheduleAct::Resume).await.unwrap();
    assert_eq!(look(&farm.desk, first + 1).await.unwrap(), Some(first + DAY), "what was missed is not made up for");
    let unknown = ask("weekly", ScheduleAct::Run).await.unwrap_err().to_string();
    assert!(unknown.starts_with("there is no such schedule \"weekly\""), "{unknown}");
    farm.stop().await;
}

#[tokio::test]
async fn what_a_project_says_of_all_its_builds_goes_for_scheduled_ones() {
    let folder = tempdir().unwrap();
    let (farm, agent) = with_agent(&folder).await;
    planned(&farm, &agent, Of::default(), daily()).await;
    let first = next(&farm).await;
    let url: protocol::RepoUrl = "https://example.org/x".parse().unwrap();
    let secret = farm.desk.vault.seal_text(crate::store::SealedFor::Webhooks, &url.identity(), "secret");
    let project = crate::testing::project(url, secret);
    let mut tx = farm.desk.store.write().await.unwrap();
    assert!(tx.add_project(&project).await.unwrap());
    tx.commit().await.unwrap();
    let may_begin = async |number| {
        let jobs = farm.desk.store.jobs_of(number).await.unwrap();
        farm.desk.store.write().await.unwrap().job(jobs[0]).await.unwrap().unwrap().may_begin
    };
    for (day, (trusted, approval)) in
        [(true, Approval::PullRequests), (false, Approval::Forks), (true, Approval::All)].into_iter().enumerate()
    {
        let mut tx = farm.desk.store.write().await.unwrap();
        tx.change_project(&crate::store::Project { trusted, approval, ..project.clone() }).await.unwrap();
        tx.commit().await.unwrap();
        look(&farm.desk, first + day as u64 * DAY).await.unwrap();
        let number = BuildNumber(2 + day as u64);
        let build = farm.desk.store.write().await.unwrap().build(number).await.unwrap().unwrap();
        assert_eq!((build.trusted, may_begin(number).await), (trusted, approval != Approval::All), "{approval:?}");
    }
    let run = ScheduleOrder { name: "nightly".to_owned(), repo: None, pipeline: None, order: ScheduleAct::Run };
    let done = order(&farm.desk, &run, Some("ada"), first).await.unwrap();
    assert!(may_begin(done.build.unwrap()).await, "a person asked for it");
    farm.stop().await;
}
