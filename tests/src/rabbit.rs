//! A RabbitMQ vhost of a test's own, made and looked into through the management API.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::FutureExt as _;
use protocol::link::rabbitmq::permissions::{self, Permissions, Role};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long a test waits for anything before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The password of users who play a part; they live as long as their test.
pub const PART_PASSWORD: &str = r#"s3"c\ret $1"#;

const AMQP: &str = "amqp://guest:guest@127.0.0.1:5672";
const MANAGEMENT: &str = "http://guest:guest@127.0.0.1:15672";

/// A vhost that exists for one test.
#[derive(Clone)]
pub struct Vhost {
    name: String,
    amqp: url::Url,
    management: String,
    http: Client,
    users: Arc<Mutex<Vec<String>>>,
    /// Users that have the rights of a part of the farm, by that part.
    parts: Arc<tokio::sync::Mutex<HashMap<String, String>>>,
}

/// Runs a test in a vhost of its own and removes it, also after a failure. Without a broker the test is skipped and
/// says so, unless `BUILDR_TEST_REQUIRE` names `rabbitmq`.
///
/// # Panics
/// When the test does, or when a broker is required and there is none.
pub async fn with_vhost<F: Future<Output = ()>>(test: impl FnOnce(Vhost) -> F) {
    let vhost = match Vhost::make().await {
        Ok(vhost) => vhost,
        Err(reason) => {
            let required = setting("BUILDR_TEST_REQUIRE", "").split(',').any(|part| part == "rabbitmq");
            assert!(!required, "RabbitMQ is required and not there: {reason}");
            eprintln!("skipped: no RabbitMQ with its management plugin ({reason})");
            return;
        }
    };
    let outcome = AssertUnwindSafe(test(vhost.clone())).catch_unwind().await;
    vhost.remove().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// A setting of the tests, from the environment.
#[expect(clippy::disallowed_methods, reason = "a test has no command line to read it from")]
#[must_use]
pub fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

impl Vhost {
    async fn make() -> Result<Self, String> {
        Self::make_at(&setting("BUILDR_TEST_AMQP", AMQP), setting("BUILDR_TEST_MANAGEMENT", MANAGEMENT)).await
    }

    /// One on a broker of the test's choice, by the addresses of AMQP and of its management API.
    ///
    /// # Errors
    /// When the broker does not answer.
    ///
    /// # Panics
    /// When an address is none.
    pub async fn make_at(amqp: &str, management: String) -> Result<Self, String> {
        // reqwest panics without one, even for http.
        rustls::crypto::ring::default_provider().install_default().ok();
        let name = format!("buildr-test-{}", Uuid::new_v4().simple());
        let mut amqp: url::Url = amqp.parse().expect("the broker's address is a URL");
        amqp.set_path(&name);
        let vhost = Self { name, management, http: Client::new(), amqp, users: Arc::default(), parts: Arc::default() };
        let path = format!("vhosts/{}", vhost.name);
        vhost.try_call(Method::PUT, &path, &json!({})).await.map_err(|error| error.to_string())?;
        let user = vhost.amqp.username().to_owned();
        vhost.permit(&user, ".*", ".*", ".*").await;
        Ok(vhost)
    }

    /// Removes it with its users: for a program that was told to end before [`with_vhost`] could.
    ///
    /// # Panics
    /// When the management API does not answer.
    pub async fn remove(&self) {
        self.call(Method::DELETE, &format!("vhosts/{}", self.name), Value::Null).await;
        let users = std::mem::take(&mut *self.users.lock().unwrap_or_else(PoisonError::into_inner));
        for user in users {
            self.call(Method::DELETE, &format!("users/{user}"), Value::Null).await;
        }
    }

    /// Its AMQP address.
    #[must_use]
    pub fn uri(&self) -> String {
        self.amqp.to_string()
    }

    /// The broker's host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.amqp.host_str().unwrap_or("127.0.0.1"), self.amqp.port().unwrap_or(5672))
    }

    /// Its AMQP address for another user.
    #[must_use]
    pub fn uri_as(&self, user: &str, password: &str) -> String {
        let mut amqp = self.amqp.clone();
        // They fail for addresses without a host alone.
        amqp.set_username(user).ok();
        amqp.set_password(Some(password)).ok();
        amqp.to_string()
    }

    /// The same broker's address with a vhost that does not exist.
    #[must_use]
    pub fn uri_nowhere(&self) -> String {
        let mut amqp = self.amqp.clone();
        amqp.set_path("buildr-test-nowhere");
        amqp.to_string()
    }

    /// Makes a user with these rights here (to configure, write and read), who is gone when the vhost is.
    pub async fn add_user(&self, password: &str, [configure, write, read]: [&str; 3]) -> String {
        let user = format!("{}-{}", self.name, Uuid::new_v4().simple());
        self.users.lock().unwrap_or_else(PoisonError::into_inner).push(user.clone());
        self.call(Method::PUT, &format!("users/{user}"), json!({"password": password, "tags": ""})).await;
        self.permit(&user, configure, write, read).await;
        user
    }

    /// Its AMQP address for a user who has the rights of a part of the farm and no more; made at the first call.
    pub async fn uri_of(&self, role: Role<'_>) -> String {
        let mut parts = self.parts.lock().await;
        let part = format!("{role:?}");
        let user = match parts.get(&part) {
            Some(user) => user.clone(),
            None => {
                let Permissions { configure, write, read, topics } = permissions::of(role);
                let user = self.add_user(PART_PASSWORD, [&configure, &write, &read]).await;
                for topic in topics {
                    let path = format!("topic-permissions/{}/{user}", self.name);
                    let rights = json!({"exchange": topic.exchange, "write": topic.write, "read": topic.read});
                    self.call(Method::PUT, &path, rights).await;
                }
                parts.insert(part, user.clone());
                user
            }
        };
        self.uri_as(&user, PART_PASSWORD)
    }

    /// From now on this user, whose password is [`PART_PASSWORD`], plays a part of the farm.
    pub async fn play(&self, role: Role<'_>, user: &str) {
        self.parts.lock().await.insert(format!("{role:?}"), user.to_owned());
    }

    /// Takes over users whom somebody else makes: they are gone when the vhost is.
    pub fn remove_later(&self, users: impl IntoIterator<Item = String>) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).extend(users);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the management API is, and its `user:password`.
    #[must_use]
    pub fn management(&self) -> (String, String) {
        let mut url: url::Url = self.management.parse().expect("BUILDR_TEST_MANAGEMENT is a URL");
        let admin = format!("{}:{}", url.username(), url.password().unwrap_or_default());
        // They fail for addresses without a host alone.
        url.set_username("").ok();
        url.set_password(None).ok();
        (url.as_str().trim_end_matches('/').to_owned(), admin)
    }

    async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let rights = json!({"configure": configure, "write": write, "read": read});
        self.call(Method::PUT, &format!("permissions/{}/{user}", self.name), rights).await;
    }

    /// From now on a user may publish to a topic exchange with the keys that this pattern matches, and no others.
    pub async fn permit_keys(&self, user: &str, exchange: &str, keys: &str) {
        let rights = json!({"exchange": exchange, "write": keys, "read": ".*"});
        self.call(Method::PUT, &format!("topic-permissions/{}/{user}", self.name), rights).await;
    }

    /// Declares a durable queue as a person does on RabbitMQ's page.
    pub async fn declare(&self, queue: &str, arguments: Value) {
        let queue = format!("queues/{}/{queue}", self.name);
        self.call(Method::PUT, &queue, json!({"durable": true, "arguments": arguments})).await;
    }

    /// Deletes a queue.
    pub async fn delete(&self, queue: &str) {
        self.call(Method::DELETE, &format!("queues/{}/{queue}", self.name), Value::Null).await;
    }

    /// Deletes an exchange.
    pub async fn delete_exchange(&self, exchange: &str) {
        self.call(Method::DELETE, &format!("exchanges/{}/{exchange}", self.name), Value::Null).await;
    }

    /// Whether an exchange is there.
    pub async fn has_exchange(&self, exchange: &str) -> bool {
        self.try_call(Method::GET, &format!("exchanges/{}/{exchange}", self.name), &Value::Null).await.is_ok()
    }

    /// Binds a queue to a topic exchange, as somebody who listens does.
    pub async fn bind(&self, exchange: &str, queue: &str, key: &str) {
        let path = format!("bindings/{}/e/{exchange}/q/{queue}", self.name);
        self.call(Method::POST, &path, json!({"routing_key": key})).await;
    }

    /// Waits until connections whose name begins so are there.
    ///
    /// # Panics
    /// When none comes to be within [`PATIENCE`].
    pub async fn until_connected(&self, name: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        while self.connections(name).await.is_empty() {
            assert!(tokio::time::Instant::now() < until, "no connection {name:?} at the broker");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until somebody consumes from a queue.
    ///
    /// # Panics
    /// When nobody does within [`PATIENCE`].
    pub async fn until_consumed(&self, queue: &str) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let all = self.call(Method::GET, &format!("consumers/{}", self.name), Value::Null).await;
            if all.as_array().into_iter().flatten().any(|consumer| consumer["queue"]["name"] == queue) {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "nobody consumes from {queue}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The names of all queues.
    pub async fn queues(&self) -> Vec<String> {
        let all = self.call(Method::GET, &format!("queues/{}?columns=name", self.name), Value::Null).await;
        let names = all.as_array().into_iter().flatten().filter_map(|queue| queue["name"].as_str());
        names.map(str::to_owned).collect()
    }

    /// Removes all messages that wait on a queue.
    pub async fn purge(&self, queue: &str) {
        self.call(Method::DELETE, &format!("queues/{}/{queue}/contents", self.name), Value::Null).await;
    }

    /// Publishes as a person does on RabbitMQ's page.
    pub async fn publish(&self, exchange: &str, key: &str, body: &[u8], properties: Value) {
        let exchange = if exchange.is_empty() { "amq.default" } else { exchange };
        let path = format!("exchanges/{}/{exchange}/publish", self.name);
        let answer = self.call(Method::POST, &path, message(key, body, &properties)).await;
        assert_eq!(answer["routed"], json!(true), "the message went nowhere: {key}");
    }

    /// Publishes a message as the user of this AMQP address, for whom alone the broker vouches (`user_id`).
    ///
    /// # Panics
    /// When the broker does not take it.
    pub async fn publish_as(&self, uri: &str, exchange: &str, key: &str, body: &[u8], properties: Value) {
        let uri: url::Url = uri.parse().expect("an AMQP address");
        let (user, password) = (uri.username(), uri.password());
        // Who is to use the management's own API must be called so.
        let tagged = json!({"password": password, "tags": "management"});
        self.call(Method::PUT, &format!("users/{user}"), tagged).await;
        let path = format!("{}/api/exchanges/{}/{exchange}/publish", self.management, self.name);
        let mut path: url::Url = path.parse().expect("an address");
        path.set_username(user).and_then(|()| path.set_password(password)).expect("it takes a name");
        let request = self.http.post(path).json(&message(key, body, &properties));
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).expect("an answer");
        let answer: Value = answer.json().await.expect("an answer");
        assert_eq!(answer["routed"], json!(true), "the message went nowhere: {key}");
    }

    /// Takes all messages from a queue: their properties and bytes.
    ///
    /// # Panics
    /// When the answer is not what RabbitMQ's management API says.
    pub async fn drain(&self, queue: &str) -> Vec<(Value, Vec<u8>)> {
        self.get(queue, "ack_requeue_false").await
    }

    /// Looks at all messages that wait on a queue, and leaves them there.
    ///
    /// # Panics
    /// When the answer is not what RabbitMQ's management API says.
    pub async fn peek(&self, queue: &str) -> Vec<(Value, Vec<u8>)> {
        self.get(queue, "ack_requeue_true").await
    }

    async fn get(&self, queue: &str, mode: &str) -> Vec<(Value, Vec<u8>)> {
        let ask = json!({"count": 1000, "ackmode": mode, "encoding": "base64"});
        let messages = self.call(Method::POST, &format!("queues/{}/{queue}/get", self.name), ask).await;
        let messages = messages.as_array().expect("a list of messages");
        let bytes = |message: &Value| match message["payload_encoding"].as_str() {
            Some("base64") => BASE64.decode(message["payload"].as_str().unwrap_or_default()).expect("base64"),
            _ => message["payload"].as_str().unwrap_or_default().as_bytes().to_owned(),
        };
        messages.iter().map(|message| (message["properties"].clone(), bytes(message))).collect()
    }

    /// Closes all connections whose name begins so, once there are some, as an operator does.
    ///
    /// # Panics
    /// When none comes to be within [`PATIENCE`].
    pub async fn cut(&self, name: &str) {
        self.until_connected(name).await;
        for one in self.connections(name).await {
            let path = format!("connections/{}", one.replace('%', "%25").replace(' ', "%20").replace('>', "%3E"));
            // It may have gone by itself, with the other one of the pair.
            self.try_call(Method::DELETE, &path, &Value::Null).await.ok();
        }
    }

    /// Closes the connections whose name begins so, as many as the broker knows of by now.
    pub async fn cut_what_is_there(&self, name: &str) -> usize {
        let found = self.try_connections(name).await.unwrap_or_default();
        for one in &found {
            let path = format!("connections/{}", one.replace('%', "%25").replace(' ', "%20").replace('>', "%3E"));
            self.try_call(Method::DELETE, &path, &Value::Null).await.ok();
        }
        found.len()
    }

    /// Removes all messages that wait on a queue, or the queue itself, when it is there.
    pub async fn wreck(&self, queue: &str, whole: bool) -> bool {
        let what = if whole { "" } else { "/contents" };
        self.try_call(Method::DELETE, &format!("queues/{}/{queue}{what}", self.name), &Value::Null).await.is_ok()
    }

    /// Publishes when there is a queue for it, and says whether there was.
    pub async fn offer(&self, key: &str, body: &[u8], properties: Value) -> bool {
        let message = json!({
            "properties": properties, "routing_key": key,
            "payload": BASE64.encode(body), "payload_encoding": "base64",
        });
        let path = format!("exchanges/{}/amq.default/publish", self.name);
        self.try_call(Method::POST, &path, &message).await.is_ok_and(|answer| answer["routed"] == json!(true))
    }

    /// How many messages each queue holds, as the broker last counted (every five seconds).
    ///
    /// # Panics
    /// When the management API does not answer.
    pub async fn depths(&self) -> Vec<(String, u64)> {
        let queues = self.call(Method::GET, &format!("queues/{}", self.name), Value::Null).await;
        let depth = |queue: &Value| {
            (queue["name"].as_str().unwrap_or_default().to_owned(), queue["messages"].as_u64().unwrap_or(0))
        };
        queues.as_array().into_iter().flatten().map(depth).collect()
    }

    /// How many messages were published here so far, as the broker last counted (every five seconds).
    ///
    /// # Panics
    /// When the management API does not answer.
    pub async fn published(&self) -> f64 {
        let vhost = self.call(Method::GET, &format!("vhosts/{}", self.name), Value::Null).await;
        vhost["message_stats"]["publish"].as_f64().unwrap_or(0.0)
    }

    /// The names of connections that call themselves so.
    ///
    /// # Panics
    /// When the management API does not answer.
    pub async fn connections(&self, name: &str) -> Vec<String> {
        self.try_connections(name).await.expect("RabbitMQ's management answers")
    }

    async fn try_connections(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let all = self.try_call(Method::GET, &format!("vhosts/{}/connections", self.name), &Value::Null).await?;
        let named = |one: &&Value| {
            one["client_properties"]["connection_name"].as_str().is_some_and(|found| found.starts_with(name))
        };
        let ours = all.as_array().into_iter().flatten().filter(named);
        Ok(ours.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect())
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        match self.try_call(method.clone(), path, &body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    async fn try_call(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.http.request(method, format!("{}/api/{path}", self.management));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await?.error_for_status()?;
        if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::CREATED) {
            return Ok(Value::Null);
        }
        Ok(answer.json().await?)
    }
}

/// A message, as the management's API takes it.
fn message(key: &str, body: &[u8], properties: &Value) -> Value {
    json!({
        "properties": properties, "routing_key": key,
        "payload": BASE64.encode(body), "payload_encoding": "base64",
    })
}
