//! Real processes over a real RabbitMQ and a real Docker, broken in the midst of builds. Each test ends with what is
//! promised: the build recorded once with the right outcome, its attempts as they were, its logs whole, no container,
//! workspace or spool left, the queues and the queue of dead letters empty (`Processes::passes`, `until_clean`). With
//! `--nocapture` each says how long the recovery took (`recovery | …`).
//!
//! What can fail, and the test that shows what happens then. Names without a file are of this folder; *scenario*, *rabbitmq*, *link_faults* are files beside it, and *tracker* is `coordinator/src/tracker/tests.rs`.
//!
//! | failure | test |
//! |---|---|
//! | publish lost before its confirm; coordinator dies between storing and offering | `coordinator::a_coordinator_is_killed_before_it_offers_a_job` |
//! | double publish (confirm lost, offered again after a restart) | `coordinator::a_coordinator_is_killed_after_it_offered_a_job` |
//! | broker stopped, killed and started; its connections closed by force; memory alarm | `broker::a_broker_is_stopped_killed_closed_and_starved` |
//! | queues purged or deleted, one by one and together | `broker::queues_are_purged`, `broker::queues_are_deleted`, rabbitmq `what_was_purged_is_offered_again`, `a_deleted_queue_is_made_again_and_filled` |
//! | reports and logs purged while nobody had read them | `broker::reports_that_were_purged_are_said_again` |
//! | channel closed by `consumer_timeout`: never in a build of any length | `broker::a_build_may_be_longer_than_the_brokers_patience` |
//! | agent dies before its claim | `agent::an_agent_is_killed_before_its_claim` |
//! | agent dies after its claim, before the grant | `agent::an_agent_is_killed_before_its_claim_is_answered` |
//! | agent dies after the grant, before its acknowledgement | `agent::an_agent_is_killed_after_the_grant`, `agent::a_message_without_an_id_is_not_lost_with_its_agent` |
//! | agent dies in a stage (power, out of memory, kill -9) | `agent::an_agent_is_killed_in_a_stage_and_restarted` |
//! | agent dies after the result, before it is recorded | `agent::an_agent_is_killed_with_a_result_that_is_not_recorded` |
//! | network between agent and broker away for longer than a lease | `network::an_agent_is_cut_off_for_longer_than_a_lease`, `network::an_agents_connection_is_frozen_for_longer_than_a_lease`, `network::an_agent_that_was_cut_off_stops_what_another_has` |
//! | … for less than a lease; slow; dead in silence (half-open) | `network::an_agent_is_cut_off_for_less_than_a_lease`, `network::a_slow_network_costs_time_and_nothing_else`, `network::connections_that_died_in_silence_are_found_out` |
//! | network between coordinator and broker away | `network::a_coordinator_is_cut_off_for_longer_than_a_lease`, `network::a_coordinators_connections_that_died_in_silence_are_found_out` |
//! | coordinator down during a build | `coordinator::a_coordinator_is_killed_while_a_job_runs` |
//! | coordinator down at claim time | `coordinator::a_coordinator_is_killed_with_a_claim_that_it_has_not_read`, scenario `a_message_goes_back_when_no_coordinator_answers` |
//! | coordinator dies after the grant, which is lost | `coordinator::a_coordinator_is_killed_and_its_grant_is_lost` |
//! | coordinator dies at the result | `coordinator::a_coordinator_is_killed_with_a_result_that_it_has_not_read` |
//! | coordinator and agent die at once | `coordinator::both_are_killed` |
//! | coordinator paused for two leases | `coordinator::a_frozen_coordinator_takes_no_job_from_anybody` |
//! | store restored from an old backup | `coordinator::a_store_that_is_set_back_stops_what_it_does_not_know` |
//! | result delivered twice, reports in another order | `wire::reports_come_twice_and_in_another_order`, tracker `an_event_that_overtook_another_waits_for_it` |
//! | message cloned by hand with the same job | `wire::an_offer_that_was_cloned_by_hand_is_one_attempt` |
//! | hand-published message redelivered before its acknowledgement | with an id `agent::an_agent_is_killed_before_its_claim_is_answered`, without `agent::an_agent_is_killed_before_its_claim`; link_faults `a_job_held_through_a_cut_comes_again_and_its_old_ack_does_not_count` |
//! | poison job, under which agents die | scenario `a_job_under_which_two_agents_are_lost_is_given_up` |
//! | two agents with one name: two lives of one key, a stranger's key | `agent::two_lives_of_one_agent_build_each_job_once_and_are_named`, rabbitmq `a_stolen_name_is_of_no_use` |
//! | clocks that are wrong or jump | `clock::a_coordinators_clock_jumps`, `clock::an_agents_clock_jumps`, `clock::a_log_that_is_late_is_waited_for`, `clock::a_job_that_was_purged_waits_for_no_clock` |
//! | Docker daemon stopped, killed, away: the job passes on its second attempt | `daemon::a_daemon_is_stopped_killed_and_away` |
//! | Docker daemon started anew behind systemd's socket: told as the daemon's failure, and the second attempt passes | `daemon::a_daemon_is_started_anew_behind_its_socket` |
//! | the registry of an image is away | `registry::an_image_whose_registry_is_away_is_pulled_by_the_next_attempt` |
//! | all agents restarted while builds flow | `agent::all_agents_are_restarted_while_builds_flow` |
//!
//! A message by hand that is not persistent (RabbitMQ's own page sends such by default) is lost with the broker that
//! is restarted before an agent has it: the farm never saw it.

mod agent;
mod broker;
mod clock;
mod coordinator;
mod daemon;
mod network;
mod registry;
mod wire;

/// The image that builds run in.
fn image() -> String {
    farm::docker::image()
}
