//! What a stage of a job is given and what it leaves: its environment, secrets, services, reports, artifacts, caches.

use protocol::StagePlan;
use protocol::plan::{Coverage, KeepWhen, Retry, SecretRequest};

use super::walk::{job, keeps, needs, run_on, service, stage, stages};
use super::*;

#[tokio::test]
async fn later_wins_in_the_environment() {
    let values = |value: &str| vec![Variable::new("A", value), Variable::new("CI", "no")];
    let mut ground = Ground::of("print x");
    ground.order.key = Some("build".parse().unwrap());
    let plan = |last: usize| {
        let set = |at: usize, value: &str| if at <= last { values(value) } else { Vec::new() };
        let first = StagePlan { environment: set(1, "stage"), ..stage("a", &["env A", "env CI", "env BUILDR_JOB"]) };
        Plan { environment: set(0, "top"), inputs: set(2, "input"), ..Plan::new("any", vec![first]) }
    };
    for (last, expect) in [(0, "top"), (1, "stage"), (2, "input")] {
        ground.order.plan = Some(plan(last));
        let (_, logs) = ground.run(None).await;
        assert!(logs.contains(&format!("a: {expect}\na: true\na: build\n")), "{last}: {logs}");
    }
    ground.order.handed = values("handed");
    ground.order.plan = Some(plan(2));
    let (_, logs) = ground.run(None).await;
    assert!(logs.contains("a: handed\na: true"), "{logs}");
    ground.secrets = vec![Variable::new("A", "sec")];
    let (_, logs) = ground.run(None).await;
    assert!(logs.contains("a: ***\na: true") || logs.contains("a: sec\na: true"), "{logs}");
}

#[tokio::test]
async fn values_are_handed_on() {
    let ran = stages(vec![
        stage("a", &["hand V=1", "hand W=a"]),
        needs(&["a"], stage("b", &["env V", "hand V=2"])),
        needs(&["a"], stage("c", &["env V", "hand X=c"])),
        stage("d", &["env V", "env W", "env X"]),
    ])
    .await;
    ran.check("passed", "a passed, b passed, c passed, d passed");
    assert_eq!((ran.log("b"), ran.log("c"), ran.log("d")), (vec!["1"], vec!["1"], vec!["2", "a", "c"]));
    assert_eq!(ran.handed(), [("W", "a"), ("V", "2"), ("X", "c")]);

    let ran = stages(vec![
        needs(&[], stage("b", &["wait-begun c", "hand V=2"])),
        needs(&[], stage("c", &["wait-begun b", "hand V=3"])),
    ])
    .await;
    assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Manifest }, "{:?}", ran.ending);
    let message = ran.ending.message.unwrap();
    assert!(message.contains("run at the same time and hand on different values for V"), "{message}");

    let ran = stages(vec![stage("a", &["hand CI=1"]), stage("b", &["print x"])]).await;
    ran.check("errored", "a errored, b skipped: a errored");
    assert!(ran.ending.message.unwrap().contains("only buildr sets"));
}

#[tokio::test]
async fn no_secret_is_handed_on_or_summed_up() {
    let mut ground = Ground::of("print x");
    ground.secrets = vec![Variable::new("TOKEN", "s3cret-value")];
    let plan = Plan::new(
        "any",
        vec![
            stage("a", &["hand V=s3cret-value", "hand W=fine", "append /run/buildr/hand/summary # s3cret-value"]),
            stage("b", &["env V"]),
        ],
    );
    let ran = run_on(ground, plan).await;
    assert_eq!(ran.handed(), [("W", "fine")]);
    assert_eq!(ran.log("b"), ["***"], "within the job it arrives");
    let summary = ran.events.iter().find_map(|event| match event {
        JobEvent::Summary { text, .. } => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(summary, Some("# ***\n"));
    assert!(ran.log("0-job").iter().any(|line| line.starts_with("V holds a secret")), "{}", ran.logs);
}

#[tokio::test]
async fn a_summary_that_is_cut_ends_with_no_half_of_a_secret() {
    let secret = format!("s3cret-{}", "x".repeat(93));
    let mut ground = Ground::of("print x");
    ground.secrets = vec![Variable::new("TOKEN", &*secret)];
    let summary = secret.repeat(700);
    let plan = Plan::new("any", vec![stage("a", &[&format!("append /run/buildr/hand/summary {summary}")])]);
    let ran = run_on(ground, plan).await;
    let told = ran.events.iter().find_map(|event| match event {
        JobEvent::Summary { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let told = told.unwrap();
    assert!(told.starts_with("******") && told.ends_with("64 KiB)") && !told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn a_stage_gets_the_secrets_that_it_asks_for() {
    let mut ground = Ground::of("print x");
    ground.secrets = vec![Variable::new("TOKEN", "token-value"), Variable::new("KEY", "key-value")];
    let ask = |variable: &str, from: &str, file| SecretRequest {
        variable: variable.into(),
        from: from.into(),
        file,
        secure: None,
    };
    let asks = vec![ask("T", "TOKEN", false), ask("SSH", "KEY", true)];
    let script = ["env T", "env SSH", "read /run/secrets/SSH", "env KEY", "write /run/secrets/SSH x"];
    let plan =
        Plan::new("any", vec![stage("plain", &["env TOKEN"]), StagePlan { secrets: asks, ..stage("asks", &script) }]);
    let ran = run_on(ground, plan).await;
    assert_eq!(ran.log("plain"), [""]);
    assert_eq!(ran.log("asks")[..4], ["***", "/run/secrets/SSH", "***", ""]);
    assert!(ran.log("asks")[4].contains("read-only"));

    let missing = StagePlan { secrets: vec![ask("X", "X", false)], ..stage("a", &["print x"]) };
    let ran = stages(vec![missing, stage("b", &["print x"])]).await;
    ran.check("errored", "a errored, b skipped: a errored");
    assert!(ran.ending.message.unwrap().starts_with("a asks for the secret X, which is not there"));
}

#[tokio::test]
async fn services_live_as_long_as_what_they_belong_to() {
    let own = StagePlan {
        services: vec![service("db", &["print begins", "ready", "print ends"])],
        ..stage("own", &["reach db", "reach cache"])
    };
    let plan = Plan::new("any", vec![own, stage("other", &["reach db"])]);
    let services = vec![service("db", &["print job's"]), service("cache", &["ready", "print bye"])];
    let ran = job(Plan { services, ..plan }).await;
    ran.check("passed", "other passed, own passed");
    assert_eq!(ran.log("own"), ["db is in network-2", "cache is in network-1"]);
    assert_eq!(ran.log("other"), ["db is in network-1"]);
    assert_eq!(ran.log("own.service-db"), ["begins", "ends"]);
    assert_eq!((ran.log("0-job.service-db"), ran.log("0-job.service-cache")), (vec!["job's"], vec!["bye"]));
    let complete = ran.events.iter().filter(|event| matches!(event, JobEvent::LogComplete { .. })).count();
    assert_eq!(complete, 6, "{:?}", ran.events);
}

#[tokio::test]
async fn a_service_that_is_not_ready_ends_its_stage_or_its_job() {
    let broken = || vec![service("db", &["print out of luck", "never-ready"])];
    let ran =
        stages(vec![StagePlan { services: broken(), ..stage("a", &["print x"]) }, stage("b", &["print x"])]).await;
    ran.check("errored", "a errored, b skipped: a errored");
    assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Service });
    assert_eq!(ran.log("a.service-db"), ["out of luck"]);
    let ran = job(Plan { services: broken(), ..Plan::new("any", vec![stage("a", &["print x"])]) }).await;
    assert_eq!(ran.ending.outcome, Outcome::Errored { cause: Cause::Service });
    assert_eq!(
        (ran.log("0-job.service-db"), ran.ends()),
        (vec!["out of luck"], "a skipped: the build errored".to_owned())
    );
}

#[tokio::test]
async fn services_are_fresh_for_each_try() {
    let flaky = StagePlan {
        services: vec![service("db", &["print begins"])],
        retry: Some(Retry { max: 1, on: Vec::new(), delay_ms: 0 }),
        ..stage("a", &["reach db", "fail-until 2"])
    };
    let ran = stages(vec![flaky]).await;
    ran.check("passed", "a passed");
    assert_eq!(ran.log("a.service-db"), ["begins", "begins"]);
    assert_eq!(ran.log("a")[0], "db is in network-1");
    assert!(ran.log("a").contains(&"db is in network-2"));
}

#[tokio::test]
async fn reports_and_artifacts_are_told_however_a_stage_ended() {
    let tests = r#"write t.xml <testsuite><testcase name="x"><failure message="m"/></testcase></testsuite>"#;
    let mut bad = keeps(&["t.xml"], stage("a", &[tests, "print cover 81.5%", "exit 1"]));
    bad.artifacts.as_mut().unwrap().when = KeepWhen::Failure;
    bad.reports.junit = vec!["*.xml".to_owned()];
    bad.reports.coverage = Some(Coverage::Log(r"cover (\d+\.\d+)%".to_owned()));
    let ran = stages(vec![bad]).await;
    ran.check("failed", "a failed");
    let told = |is: fn(&JobEvent) -> bool| ran.events.iter().filter(|&event| is(event)).count();
    assert_eq!(told(|event| matches!(event, JobEvent::ArtifactsKept { files: 1, .. })), 1, "{}", ran.logs);
    assert_eq!(told(|event| matches!(event, JobEvent::TestsRead { tests, .. } if tests.failed == 1)), 1);
    assert_eq!(told(|event| matches!(event, JobEvent::CoverageRead { lines: 8150, .. })), 1);
    let ran = stages(vec![keeps(&["nothing"], stage("a", &["print x"]))]).await;
    ran.check("passed", "a passed");
    assert_eq!(ran.log("a"), ["x", "no artifacts were kept: no file matches nothing"]);
}

#[tokio::test]
async fn caches_go_from_one_build_to_the_next() {
    let ground = || Ground::of("print x");
    let cache = protocol::plan::Cache {
        paths: vec!["/root/.cache".to_owned()],
        name: Some("deps".to_owned()),
        key: Vec::new(),
        fallback: Vec::new(),
        policy: protocol::plan::CachePolicy::Both,
    };
    let with = |script: &[&str]| Plan::new("any", vec![StagePlan { cache: vec![cache.clone()], ..stage("a", script) }]);
    let mut ground = ground();
    for (trusted, script, expect) in [
        (false, &["write /root/.cache/untrusted x"][..], "passed"),
        (true, &["write /root/.cache/failed x", "exit 1"], "failed"),
        (true, &["expect-file /root/.cache/failed"], "failed"),
        (true, &["write /root/.cache/x kept"], "passed"),
        (true, &["read /root/.cache/x"], "passed"),
        (false, &["read /root/.cache/x", "write /root/.cache/x evil"], "passed"),
        (true, &["read /root/.cache/x", "expect-file /root/.cache/untrusted"], "failed"),
    ] {
        ground.order.trusted = trusted;
        ground.order.plan = Some(with(script));
        let (ending, logs) = ground.run(None).await;
        assert_eq!(ending.outcome.name(), expect, "{script:?}: {logs}");
        assert!(!logs.contains("evil"), "{logs}");
    }
}

#[tokio::test]
async fn images_are_told_with_their_digests() {
    let ran = stages(vec![StagePlan { image: Some("rust:1".into()), ..stage("a", &["print x"]) }]).await;
    let found: Vec<&str> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            JobEvent::ImageFound { image, digest, .. } if digest.starts_with("sha256:") => Some(image.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(found, ["rust:1"]);
}

#[tokio::test]
async fn in_a_tree_itself_all_stays_and_nothing_is_copied_back() {
    let mut ground = Ground::of("print x");
    let retry = Some(Retry { max: 1, on: Vec::new(), delay_ms: 0 });
    ground.order.plan =
        Some(Plan::new("any", vec![StagePlan { retry, ..stage("a", &["append made x", "fail-until 2"]) }]));
    let tree = ground.folder.path().join("tree");
    let (ending, logs) = ground.run(Some(Source::InPlace(&tree))).await;
    assert_eq!(ending.outcome, Outcome::Passed, "{logs}");
    assert_eq!(std::fs::read_to_string(tree.join("made")).unwrap(), "x\nx\n");
}
