//! What several systems have in much the same shape: durations, variables, services.

use super::draft::Draft;
use super::notes::Notes;
use super::tree::Tree;
use crate::manifest::{Map, Value};

/// Reads a duration as people write it elsewhere ("3 hours 30 minutes", "1h30m", "2 weeks", "90") and writes it as
/// it is here. A bare number counts `unit` seconds. None when it is none.
pub(super) fn duration(text: &str, unit: u64) -> Option<String> {
    let text = text.trim().to_lowercase();
    let mut seconds: u64 = 0;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let length = match &rest[..letters] {
            "" => unit,
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400,
            "w" | "wk" | "week" | "weeks" => 7 * 86_400,
            "mo" | "mos" | "month" | "months" => 30 * 86_400,
            "y" | "yr" | "year" | "years" => 365 * 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(length)?)?;
        rest = rest[letters..].trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    let (length, letter) = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')]
        .into_iter()
        .find(|(length, _)| seconds > 0 && seconds.is_multiple_of(*length))?;
    Some(format!("{}{letter}", seconds / length))
}

/// The variables of a map of names to texts. What is no text stays unasked for, and so is told.
pub(super) fn variables(tree: &Tree) -> Vec<(String, String)> {
    tree.entries().iter().filter_map(|(name, value)| value.text().map(|text| (name.clone(), text.to_owned()))).collect()
}

/// `NAME=value` for each variable of a service, each with what it stands for.
pub(super) fn environment(draft: &Draft, map: &mut Map, variables: &[(String, String)]) -> Value {
    let mut vars = Vec::new();
    for (name, value) in variables {
        let others: Vec<(String, String)> = variables.iter().filter(|(other, _)| other != name).cloned().collect();
        let value = draft.value(map, name, value, &others);
        vars.push(format!("{name}={value}"));
    }
    Map::of("vars", Value::lines(vars)).into()
}

/// The host name that other systems give a service by its image: `postgres:17` is `postgres`.
pub(super) fn host_of(image: &str) -> String {
    let path = image.split('@').next().unwrap_or(image);
    let last = path.rfind('/').map_or(0, |at| at + 1);
    let path = path[last..].find(':').map_or(path, |colon| &path[..last + colon]);
    let mut parts: Vec<&str> = path.split('/').collect();
    // A registry's name is part of no host name that anybody used.
    if parts.len() > 1 && parts[0].contains(['.', ':']) {
        parts.remove(0);
    }
    let host: String =
        parts.join("-").chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    if host.is_empty() { "service".to_owned() } else { host }
}

/// Whether a service is a Docker daemon for the build.
pub(super) fn is_docker_daemon(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    (name.starts_with("docker:") || name.starts_with("podman:")) && name.contains("dind")
        || name == "docker:stable-dind"
}

/// A service in its short form where it has nothing but an image.
pub(super) fn service(image: String, environment: Option<Value>) -> Value {
    let mut map = Map::of("image", image.clone());
    match environment {
        Some(environment) => {
            map.set("environment", environment);
            map.into()
        }
        None => Value::Text(image),
    }
}

/// `{junit: .., coverage: ..}` with one more key.
pub(super) fn add_report(map: &mut Map, key: &str, value: Value) {
    let mut reports = match map.get("reports") {
        Some(Value::Map(reports)) => reports.clone(),
        _ => Map::default(),
    };
    if let Some(known) = reports.get(key) {
        let mut both = Map::of("first", known.clone());
        both.set("second", value.clone());
        map.remark(format!(
            "look at: there are two of `reports: {key}`, and one is kept: {}",
            both.document().replace('\n', " ")
        ));
        // A file says more than a line of the output.
        if !matches!(known, Value::Text(text) if text.starts_with('/')) {
            return;
        }
    }
    reports.set(key, value);
    map.set("reports", reports);
}

/// Exit codes as numbers, other words as they are.
pub(super) fn codes(texts: &[String]) -> Value {
    let one = |text: &String| text.parse().map_or_else(|_| Value::from(text.as_str()), Value::Number);
    Value::List(texts.iter().map(one).collect())
}

/// One text as a text, several as a list.
pub(super) fn one_or_more(texts: &[String]) -> Value {
    match texts {
        [one] => Value::from(one.as_str()),
        several => Value::texts(several.iter().map(String::as_str)),
    }
}

/// Tells a key by a table of those that have no counterpart; whether it stands in the table.
pub(super) fn by_table(table: &[(&str, &str)], notes: &Notes, map: &mut Map, key: &str, value: &Tree) -> bool {
    match table.iter().find(|(known, _)| *known == key) {
        Some((_, because)) => {
            notes.lost(map, key, value, *because);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_all_systems() {
        for (text, unit, expect) in [
            ("3h 30m", 1, Some("210m")),
            ("1 hour", 1, Some("1h")),
            ("30 mins 4 sec", 1, Some("1804s")),
            ("2 weeks and 1 day", 1, Some("15d")),
            ("1h30m", 1, Some("90m")),
            ("90", 60, Some("90m")),
            ("120", 60, Some("2h")),
            ("0", 60, None),
            ("never", 1, None),
            ("soon", 1, None),
            ("99999999999999999999d", 1, None),
        ] {
            assert_eq!(duration(text, unit).as_deref(), expect, "{text}");
        }
    }

    #[test]
    fn hosts_of_images() {
        for (image, expect) in [
            ("postgres:17", "postgres"),
            ("docker.io/library/redis@sha256:00", "library-redis"),
            ("bitnami/rabbitmq:3", "bitnami-rabbitmq"),
            ("localhost:5000/x/y:1", "x-y"),
            ("$X", "X"),
            ("", "service"),
        ] {
            assert_eq!(host_of(image), expect, "{image}");
        }
    }
}
