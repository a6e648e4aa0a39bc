//! `buildr rabbit setup --print`: the commands that give each part of a farm its user on RabbitMQ, with the least
//! rights that it can work with. They are printed, not run: they are an administrator's to look at.

use std::collections::BTreeSet;

use protocol::AgentId;
use protocol::link::BUILD_QUEUE;
use protocol::link::rabbitmq::permissions::{self, Permissions, Replies, Role};

use super::{CliError, exit, say};

/// Prepare RabbitMQ for a farm: users and rights
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Setup(SetupArgs),
}

/// Print the commands that make the vhost, its users and their rights
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is changed by this command itself. What it prints is a script for sh; passwords are no part of it, it reads
them from variables:
  buildr rabbit setup --print --agent oak --agent elm > setup.sh    then look at it, and run it")]
struct SetupArgs {
    /// Print them; the only thing that this command does
    #[arg(long, required = true)]
    print: bool,
    /// With which program: rabbitmqctl on the broker's machine, or http, which is curl and RabbitMQ's management API
    #[arg(long, value_enum, default_value_t = Format::Rabbitmqctl)]
    format: Format,
    /// The vhost
    #[arg(long, value_name = "NAME", default_value = "buildr", value_parser = word)]
    vhost: String,
    /// What the users' names begin with
    #[arg(long, value_name = "WORD", default_value = "buildr", value_parser = word)]
    prefix: String,
    /// An agent that gets a user of its own (may be repeated); without any, all agents share one
    #[arg(long = "agent", value_name = "NAME")]
    agents: Vec<AgentId>,
    /// For agents that work without a coordinator: let them answer those who publish jobs
    #[arg(long)]
    standalone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Rabbitmqctl,
    Http,
}

pub(super) fn run(args: Args) -> Result<u8, CliError> {
    match args.command {
        Command::Setup(setup) => say(&script(&setup))?,
    }
    Ok(exit::DONE)
}

/// A user that is to be.
struct User {
    name: String,
    /// The variable that its password is read from.
    variable: String,
    rights: Permissions,
}

fn users(args: &SetupArgs) -> Vec<User> {
    let replies = if args.standalone { Replies::FromAgents } else { Replies::FromCoordinator };
    let user = |name: &str, variable: String, role: Role<'_>| User {
        name: format!("{}-{name}", args.prefix),
        variable,
        rights: permissions::of(role),
    };
    let mut users = vec![user("coordinator", "COORDINATOR_PASSWORD".to_owned(), Role::Coordinator)];
    if args.agents.is_empty() {
        users.push(user("agents", "AGENTS_PASSWORD".to_owned(), Role::Agents(replies)));
    }
    let mut variables = BTreeSet::new();
    let agents: BTreeSet<&AgentId> = args.agents.iter().collect();
    for agent in agents {
        let mut variable = format!("AGENT_{}_PASSWORD", agent.as_str().replace('-', "_"));
        while !variables.insert(variable.clone()) {
            // a-1 and a_1 are two agents.
            variable.push('_');
        }
        users.push(user(&format!("agent-{agent}"), variable, Role::Agent(agent, replies)));
    }
    users.push(user("submitter", "SUBMITTER_PASSWORD".to_owned(), Role::Submitter));
    users
}

fn script(args: &SetupArgs) -> String {
    let users = users(args);
    let mut out = String::from(
        "# Users and rights of a buildr farm on RabbitMQ, for sh. Each password is read from the variable that is named\n\
         # here; the farm's programs are given the same ones, in their --amqp.\n\
         set -eu\n",
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for User { name, variable, .. } in &users {
        line(format!(": \"${{{variable}:?set it to the password of {name}}}\""));
    }
    line(String::new());
    match args.format {
        Format::Rabbitmqctl => by_rabbitmqctl(args, &users, &mut line),
        Format::Http => by_http(args, &users, &mut line),
    }
    out
}

fn by_rabbitmqctl(args: &SetupArgs, users: &[User], line: &mut impl FnMut(String)) {
    let vhost = quoted(&args.vhost);
    line("# Run it where rabbitmqctl works: on the broker's machine, as root or as the broker's user.".to_owned());
    line(format!("rabbitmqctl add_vhost {vhost}"));
    for User { name, variable, rights } in users {
        let Permissions { configure, write, read, topics } = rights;
        let name = quoted(name);
        line(String::new());
        line(format!("printf '%s\\n' \"${variable}\" | rabbitmqctl add_user {name}"));
        let [configure, write, read] = [configure, write, read].map(|expression| quoted(expression));
        line(format!("rabbitmqctl set_permissions -p {vhost} {name} {configure} {write} {read}"));
        for topic in topics {
            let (exchange, write, read) = (quoted(topic.exchange), quoted(&topic.write), quoted(&topic.read));
            line(format!("rabbitmqctl set_topic_permissions -p {vhost} {name} {exchange} {write} {read}"));
        }
    }
    if args.standalone {
        line(String::new());
        line(format!(
            "# Without a coordinator nobody makes the queue {BUILD_QUEUE}: add it on RabbitMQ's page (durable, no arguments),\n\
             # with the direct exchange buildr.submit and a binding {BUILD_QUEUE} between them for the submitter."
        ));
    }
}

/// Neither the administrator's password nor anybody else's stands on a command line, where others could read it.
const CURL: &str = r#"# ADMIN is USER:PASSWORD of an administrator of RabbitMQ; MANAGEMENT is where its management API listens.
: "${ADMIN:?set it to USER:PASSWORD of an administrator}"
MANAGEMENT=${MANAGEMENT:-http://127.0.0.1:15672}
escaped() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }
call() { # METHOD PATH, with a body of JSON on standard input
    curl --silent --show-error --fail --output /dev/null --config /dev/fd/3 --request "$1" \
        --header 'content-type: application/json' --data-binary @- "$MANAGEMENT/api/$2" 3<<END
user = "$(escaped "$ADMIN")"
END
}
user() { # NAME PASSWORD
    printf '{"password": "%s", "tags": ""}' "$(escaped "$2")" | call PUT "users/$1"
}
"#;

fn by_http(args: &SetupArgs, users: &[User], line: &mut impl FnMut(String)) {
    let vhost = &args.vhost;
    let put =
        |path: &str, body: serde_json::Value| format!("printf '%s' {} | call PUT {path}", quoted(&body.to_string()));
    line(CURL.to_owned());
    line(put(&format!("vhosts/{vhost}"), serde_json::json!({})));
    for User { name, variable, rights } in users {
        let Permissions { configure, write, read, topics } = rights;
        line(String::new());
        line(format!("user {name} \"${variable}\""));
        let body = serde_json::json!({"configure": configure, "write": write, "read": read});
        line(put(&format!("permissions/{vhost}/{name}"), body));
        for topic in topics {
            let body = serde_json::json!({"exchange": topic.exchange, "write": topic.write, "read": topic.read});
            line(put(&format!("topic-permissions/{vhost}/{name}"), body));
        }
    }
    if args.standalone {
        line(String::new());
        line("# Without a coordinator nobody else makes these.".to_owned());
        line(put(&format!("queues/{vhost}/{BUILD_QUEUE}"), serde_json::json!({"durable": true})));
        let exchange = serde_json::json!({"type": "direct", "durable": true});
        line(put(&format!("exchanges/{vhost}/buildr.submit"), exchange));
        let binding = serde_json::json!({"routing_key": BUILD_QUEUE});
        let path = format!("bindings/{vhost}/e/buildr.submit/q/{BUILD_QUEUE}");
        line(put(&path, binding).replace(" call PUT ", " call POST "));
    }
}

/// A word for sh, whatever stands in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A name that needs no escaping in an address.
fn word(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= 100 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("use letters, digits, '-', '_' and '.'".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn printed(line: &str) -> Result<String, String> {
        #[derive(clap::Parser)]
        struct Words {
            #[command(flatten)]
            setup: SetupArgs,
        }
        let words = std::iter::once("x").chain(line.split_whitespace());
        Words::try_parse_from(words).map(|words| script(&words.setup)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_agent_has_a_user_of_its_own() {
        let text = printed("--print --agent oak --agent a-1 --agent a_1").unwrap();
        for expect in [
            ": \"${COORDINATOR_PASSWORD:?",
            ": \"${AGENT_oak_PASSWORD:?set it to the password of buildr-agent-oak}\"",
            ": \"${AGENT_a_1_PASSWORD:?set it to the password of buildr-agent-a-1}\"",
            ": \"${AGENT_a_1_PASSWORD_:?set it to the password of buildr-agent-a_1}\"",
            "rabbitmqctl add_vhost 'buildr'\n",
            "printf '%s\\n' \"$AGENT_oak_PASSWORD\" | rabbitmqctl add_user 'buildr-agent-oak'\n",
            r"rabbitmqctl set_permissions -p 'buildr' 'buildr-agent-oak' '^buildr\.agent\.oak\..*$' '^(buildr\.events|",
            r"rabbitmqctl set_topic_permissions -p 'buildr' 'buildr-agent-oak' 'buildr.control' '^$' '^(agents\.all|agent\.oak)$'",
            r"rabbitmqctl set_permissions -p 'buildr' 'buildr-submitter' '^$' '^buildr\.submit$' '^$'",
        ] {
            assert!(text.contains(expect), "{expect} is not in\n{text}");
        }
        assert!(!text.contains("buildr-agents"), "{text}");
        let agents = text.lines().filter(|line| line.contains("'buildr-agent-")).collect::<String>();
        assert!(!agents.contains("amq"), "{text}");
    }

    #[test]
    fn agents_may_share_one_and_answer_themselves() {
        let text = printed("--print --standalone --vhost v --prefix p").unwrap();
        assert!(text.contains(r"'p-agents' '^buildr\.agent\.[^.]+\..*$' '^(amq\.default|buildr\.events|"), "{text}");
        let text = printed("--print --standalone --format http --vhost v --prefix p").unwrap();
        for expect in [
            "call PUT vhosts/v\n",
            "user p-agents \"$AGENTS_PASSWORD\"",
            "call POST bindings/v/e/buildr.submit/q/build_queue",
        ] {
            assert!(text.contains(expect), "{expect} is not in\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        assert!(printed("").unwrap_err().contains("--print"));
        assert!(printed("--print --vhost a/b").unwrap_err().contains("use letters"));
        assert!(printed("--print --agent a.b").unwrap_err().contains("agent's name"));
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
