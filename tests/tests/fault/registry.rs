//! A registry that is away while a job begins.

use bollard::Docker;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use farm::farm::in_memory_in_docker;
use farm::ports;
use farm::registry::Registry;
use protocol::Cause;
use protocol::api::{Loss, Status};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_registry_is_away_is_pulled_by_the_next_attempt() {
    in_memory_in_docker(async |farm| {
        let [port] = ports::free();
        farm.start_coordinator().await;
        farm.start_agent("a", 1).await;
        let manifest =
            format!("image: 127.0.0.1:{port}/shell:1\nstages: [test]\ntest: {{script: [echo from the registry]}}\n");
        let number = farm.api().begin(&manifest).await;
        let lost = |view: &protocol::api::BuildView| view.attempts.first().is_some_and(|one| one.state == "errored");
        let view = farm.api().until(number, lost).await;
        let Some(Loss::Errored { cause: Cause::Pull, message: Some(message) }) = &view.attempts[0].loss else {
            panic!("{view:#?}")
        };
        assert!(message.contains(&format!("127.0.0.1:{port}/shell:1")), "{message}");
        let registry = Registry::at(port, &[]).await;
        let view = farm.api().until_is(number, Status::Passed).await;
        // The second, if the registry was there in time.
        let (last, before) = view.attempts.split_last().unwrap();
        assert!(last.state == "passed" && before.iter().all(|one| one.state == "errored"), "{view:#?}");
        assert!(farm.api().log_of(number, last.attempt, "test").await.ends_with(b"from the registry\n"));
        let docker = Docker::connect_with_defaults().unwrap();
        let force = RemoveImageOptionsBuilder::default().force(true).build();
        docker.remove_image(&registry.image_with_shell(), Some(force), None).await.unwrap();
    })
    .await;
}
