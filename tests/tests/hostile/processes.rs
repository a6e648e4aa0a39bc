//! Processes: too many, too hungry, and those that would outlive their stage.

use buildr::executor::docker::Limits;
use farm::farm::over_rabbitmq_in_docker;
use protocol::api::Status;
use protocol::{StageEnd, StageOutcome};
use uuid::Uuid;

use crate::{bystander, end, is_unharmed, manifest, started};

const MEMORY: u64 = 64 << 20;

/// How many processes of this machine have this word in what they were called with.
fn alive(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    commands.filter(|command| String::from_utf8_lossy(command).split('\0').any(|part| part == word)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_and_eaters_meet_their_limits() {
    over_rabbitmq_in_docker(async |farm| {
        farm.limits = Some(Limits { memory: Some(MEMORY), cpus: None, pids: 100 });
        started(farm, 2).await;
        let beside = bystander(farm).await;

        let bomb = farm.api().begin(&manifest(&["b() { b | b & b; }; b"])).await;
        let view = farm.api().until_is(bomb, Status::Failed).await;
        assert_eq!(end(&view), "failed");
        let said = farm.api().log(bomb, "test").await;
        assert!(said.to_lowercase().contains("cannot fork"), "{said}");

        let eat = "x=$(head -c 300000000 /dev/zero | tr \"\\0\" x); echo ${#x}";
        let eater = farm.api().begin(&manifest(&[eat])).await;
        let view = farm.api().until_is(eater, Status::Failed).await;
        // A daemon that is short of breath may not have heard why: then it ends as any that is killed.
        let (want, killed) = (StageEnd::OutOfMemory { limit_bytes: MEMORY }, StageEnd::Exited { code: 137 });
        let Some(StageOutcome::Failed { end }) = &view.attempts[0].stages[0].result else { panic!("{view:#?}") };
        assert!(*end == want || *end == killed, "{view:#?}");
        is_unharmed(farm, beside).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_running_ends_with_its_stage() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let word = Uuid::new_v4().to_string();
        let stays = format!("sh -c \"trap : TERM HUP INT; while :; do sleep 1; done\" x {word}");
        let commands = [
            format!("{stays} &"),
            format!("nohup {stays} >/dev/null 2>&1 &"),
            format!("setsid {stays} &"),
            format!("(setsid {stays} </dev/null >/dev/null 2>&1 & ) &"),
            "echo begun".to_owned(),
            "until [ -e go ]; do sleep 0.05; done".to_owned(),
            "echo over".to_owned(),
        ];
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let two = format!(
            "{}after: {{script: [\"! grep -l {word} /proc/[0-9]*/cmdline | grep -v self\", echo alone]}}\n",
            manifest(&commands).replace("stages: [test]", "stages: [test, after]")
        );
        let number = farm.api().begin(&two).await;
        farm.api().until_said(number, "test", "begun\n").await;
        farm::farm::until("all of them", async || (alive(&word) == 4).then_some(())).await;
        farm.folders("a").let_go().await;
        farm.api().until_is(number, Status::Passed).await;
        assert_eq!(alive(&word), 0, "they outlived their stage");
        assert!(farm.api().log(number, "test").await.ends_with("over\n"));

        // One that would not even go when it is told to, on the way of a cancel.
        let setsid = format!("setsid {stays} &");
        let deaf = manifest(&["trap \"\" TERM", &setsid, "echo begun", "while :; do sleep 1; done"]);
        let number = farm.api().begin(&deaf).await;
        farm.api().until_said(number, "test", "begun\n").await;
        farm.api().cancel(number).await;
        let view = farm.api().until_is(number, Status::Cancelled).await;
        assert_eq!((end(&view), alive(&word)), ("cancelled", 0));
        crate::goes_on(farm).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_trusted_gets_no_socket() {
    over_rabbitmq_in_docker(async |farm| {
        started(farm, 1).await;
        let asks = format!("docker: true\n{}", manifest(&["ls -l /var/run/docker.sock"]));
        let number = farm.api().begin(&asks).await;
        let view = farm.api().until_is(number, Status::Errored).await;
        let message = view.build.message.unwrap();
        assert!(message.contains("asks for the Docker socket") && message.contains("trusted_repos"), "{message}");

        // Who does not ask does not have it either, nor rights over the machine.
        let looks = manifest(&[
            "test ! -e /var/run/docker.sock",
            "! mount -t proc none /mnt 2>/dev/null",
            "! mknod /tmp/disk b 8 0 2>/dev/null",
            "! sh -c \"echo 1 >/proc/sys/kernel/panic\" 2>/dev/null",
        ]);
        let number = farm.api().begin(&looks).await;
        farm.api().until_is(number, Status::Passed).await;
    })
    .await;
}
