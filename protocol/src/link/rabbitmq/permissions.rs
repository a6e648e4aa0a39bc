//! What each part of the farm may do on the broker, and nothing more: the one place where RabbitMQ's regular
//! expressions stand. `buildr rabbit setup --print` writes them for people, and the tests run with them.
//!
//! To RabbitMQ a user may configure, write to or read from the queues and exchanges whose names match; the default
//! exchange is called `amq.default` there. Binding a queue takes write on the queue and read on the exchange. On a
//! topic exchange a second pair of expressions, over routing keys, says what may be published and bound.

use super::topology::{ALL_AGENTS, CONTROL, EVENTS, SUBMIT};
use crate::id::AgentId;

/// A part of the farm, as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role<'a> {
    /// The coordinator: makes what the farm needs, offers jobs, hears all agents, speaks to each.
    Coordinator,
    /// One agent by its name: takes jobs, says what happens in them, hears what is said to it and to no other.
    Agent(&'a AgentId, Replies),
    /// All agents by one user. They can hear each other's controls, and speak in each other's name as far as the
    /// broker is asked; what keeps them apart then are their keys alone.
    Agents(Replies),
    /// Somebody who publishes jobs by hand, to one exchange.
    Submitter,
}

/// Who answers those who published a job by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    /// The coordinator.
    FromCoordinator,
    /// Agents without a coordinator. That is the right to write to the default exchange, and so to every queue.
    FromAgents,
}

/// What a user may do in a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What it may make and remove.
    pub configure: String,
    /// What it may publish to.
    pub write: String,
    /// What it may consume and bind to.
    pub read: String,
    /// What of it on topic exchanges; on one that is not listed, all.
    pub topics: Vec<TopicPermissions>,
}

/// What a user may do on a topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Which.
    pub exchange: &'static str,
    /// The routing keys that it may publish with.
    pub write: String,
    /// The routing keys that it may bind.
    pub read: String,
}

/// Matches no name but the empty one, which nothing has.
const NOTHING: &str = "^$";

/// All that the farm has but the agents' own queues, which are nobody else's business.
const FARM: &str = r"(build_queue(\..*)?|buildr\.(?!agent\.).*)";

/// The least that a part of the farm can work with.
#[must_use]
pub fn of(role: Role<'_>) -> Permissions {
    match role {
        Role::Coordinator => Permissions {
            configure: format!("^{FARM}$"),
            write: format!(r"^(amq\.default|{FARM})$"),
            read: r"^buildr\.(events|logs|control|submit)(\.v[0-9]+)?$".to_owned(),
            topics: Vec::new(),
        },
        Role::Agent(agent, replies) => agents(agent.as_str(), replies),
        // Names hold no dot, so this is one part of a routing key and of a queue's name.
        Role::Agents(replies) => agents("[^.]+", replies),
        Role::Submitter => Permissions {
            configure: NOTHING.to_owned(),
            write: format!("^{}$", escaped(SUBMIT)),
            read: NOTHING.to_owned(),
            topics: Vec::new(),
        },
    }
}

fn agents(name: &str, replies: Replies) -> Permissions {
    let own = format!(r"buildr\.agent\.{name}\..*");
    let (events, control) = (escaped(EVENTS), escaped(CONTROL));
    let replies = match replies {
        Replies::FromCoordinator => "",
        Replies::FromAgents => r"amq\.default|",
    };
    Permissions {
        configure: format!("^{own}$"),
        write: format!("^({replies}{events}|{own})$"),
        read: format!(r"^(build_queue(\..*)?|{control}|{own})$"),
        topics: vec![
            TopicPermissions {
                exchange: EVENTS,
                write: format!(r"^(claim\.{name}|agent\.{name}\.[a-z]+|build\.{name}\.(progress|log))$"),
                read: NOTHING.to_owned(),
            },
            TopicPermissions {
                exchange: CONTROL,
                write: NOTHING.to_owned(),
                read: format!(r"^({}|agent\.{name})$", escaped(ALL_AGENTS)),
            },
        ],
    }
}

fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_rights_are_its_own() {
        let agent: AgentId = "a-1".parse().unwrap();
        let rights = of(Role::Agent(&agent, Replies::FromCoordinator));
        assert_eq!(rights.configure, r"^buildr\.agent\.a-1\..*$");
        assert_eq!(rights.write, r"^(buildr\.events|buildr\.agent\.a-1\..*)$");
        assert_eq!(rights.read, r"^(build_queue(\..*)?|buildr\.control|buildr\.agent\.a-1\..*)$");
        assert_eq!(rights.topics[0].write, r"^(claim\.a-1|agent\.a-1\.[a-z]+|build\.a-1\.(progress|log))$");
        assert_eq!(rights.topics[1].read, r"^(agents\.all|agent\.a-1)$");
        let alone = of(Role::Agent(&agent, Replies::FromAgents));
        assert_eq!(alone.write, r"^(amq\.default|buildr\.events|buildr\.agent\.a-1\..*)$");
        assert_eq!(Permissions { write: rights.write.clone(), ..alone }, rights, "it is one right more");
    }

    #[test]
    fn a_submitter_can_do_one_thing() {
        let rights = of(Role::Submitter);
        let expect = (r"^buildr\.submit$", NOTHING, NOTHING);
        assert_eq!((rights.write.as_str(), rights.read.as_str(), rights.configure.as_str()), expect);
    }
}
