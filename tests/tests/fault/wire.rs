//! Messages that come twice, in another order, or from somebody who copied them.

use std::time::Instant;

use farm::farm::until;
use farm::processes::{Processes, recovered, states, with_processes};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_was_cloned_by_hand_is_one_attempt() {
    with_processes(20, async |farm| {
        farm.start_coordinator().await;
        let number = farm.api().submit(&farm.repository).await;
        let offer = farm.until_offered().await.remove(0);
        for _ in 0..3 {
            farm.vhost.publish("", "build_queue", &offer.1, json!({})).await;
            farm.vhost.publish("", "build_queue", &offer.1, offer.0.clone()).await;
        }
        for name in ["a", "b"] {
            farm.start_agent(name).await;
            farm.until_here(name).await;
        }
        farm.until_begun(number, 1).await;
        let since = Instant::now();
        // While it runs the others are refused.
        until("the clones to be gone", async || farm.vhost.peek("build_queue").await.is_empty().then_some(())).await;
        recovered("six clones of a job's message: refused", since, farm.lease);
        let runner = farm.api().build(number).await.attempts[0].agent.clone();
        farm.agent(&runner).folders.let_go().await;
        let view = farm.passes(number).await;
        assert_eq!((states(&view), farm.api().builds().await.len()), (vec!["passed"], 1));
        farm.until_clean().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_come_twice_and_in_another_order() {
    with_processes(60, async |farm| {
        let number = farm.in_stage().await;
        farm.kill_coordinator().await;
        farm.agent("a").folders.let_go().await;
        let is_result = |body: &[u8]| String::from_utf8_lossy(body).contains("finished");
        until("the result on its queue", async || {
            farm.vhost.peek("buildr.events.v1").await.iter().any(|(_, body)| is_result(body)).then_some(())
        })
        .await;
        let mut reports = farm.vhost.drain("buildr.events.v1").await;
        let mut logs = farm.vhost.drain("buildr.logs.v1").await;
        // As the agent's own user: nobody else is heard.
        let uri = farm.agent("a").uri.clone();
        let again = async |farm: &Processes, key: &str, messages: &[(Value, Vec<u8>)]| {
            for (properties, body) in messages {
                farm.vhost.publish_as(&uri, "buildr.events", key, body, properties.clone()).await;
            }
        };
        reports.reverse();
        logs.reverse();
        // What the agent itself says again is not what is tested.
        farm.agent("a").kill().await;
        // Events are taken in order alone, so backwards each time lets one more message in.
        for _ in 0..reports.len().max(2) {
            again(farm, "build.a.progress", &reports).await;
            again(farm, "build.a.log", &logs).await;
        }
        let since = Instant::now();
        farm.start_coordinator().await;
        assert_eq!(states(&farm.passes(number).await), ["passed"]);
        recovered("all reports of a job's second half twice and backwards", since, farm.lease);
        again(farm, "build.a.progress", &reports).await;
        farm.start_agent("a").await;
        farm.until_clean().await;
        let view = farm.passes(number).await;
        assert_eq!((states(&view), farm.api().builds().await.len()), (vec!["passed"], 1));
    })
    .await;
}
