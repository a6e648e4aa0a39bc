//! The document of the API: it has every route that is served, and each of its words means something.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(&openapi::written()).unwrap()
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(_, it)| it.get("responses").is_some());
        methods.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    });
    each.collect()
}

/// All values below one, itself included.
fn below<'v>(value: &'v Value, all: &mut Vec<&'v Value>) {
    all.push(value);
    match value {
        Value::Array(values) => values.iter().for_each(|value| below(value, all)),
        Value::Object(values) => values.values().for_each(|value| below(value, all)),
        _ => {}
    }
}

/// What the router itself says that it has below `/api/v1`: each method with its path.
fn served() -> BTreeSet<String> {
    let router: axum::Router<std::sync::Arc<Web>> = openapi::router().into();
    let text = format!("{router:?}");
    let routes = regex::Regex::new(r#"RouteId\((\d+)\): MethodRouter\(MethodRouter \{(.*?)allow_header"#).unwrap();
    let paths = regex::Regex::new(r#"RouteId\((\d+)\): "(/[^"]*)""#).unwrap();
    let path_of = |id: &str| paths.captures_iter(&text).find(|found| &found[1] == id).unwrap()[2].to_owned();
    let methods =
        regex::Regex::new(r"(get|post|put|patch|delete|trace|connect|options): (Route|BoxedHandler)").unwrap();
    let mut served = BTreeSet::new();
    for route in routes.captures_iter(&text) {
        for method in methods.captures_iter(&route[2]) {
            served.insert(format!("{} {}", method[1].to_uppercase(), path_of(&route[1])));
        }
    }
    served
}

#[test]
fn every_route_of_the_api_is_documented() {
    let document = document();
    let documented: BTreeSet<String> = operations(&document).into_iter().map(|(route, _)| route).collect();
    assert!(documented.len() > 40, "{documented:?}");
    assert_eq!(documented, served());
}

#[test]
fn each_operation_says_what_it_takes_and_gives() {
    let document = document();
    let mut names = BTreeSet::new();
    for (route, operation) in operations(&document) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{route}: two are called {name}");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{route} says nothing of itself");
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let content = answer["content"].as_object().unwrap_or_else(|| panic!("{route} {status} has no content"));
            for (kind, content) in content {
                assert!(content["schema"].is_object(), "{route} {status} {kind}");
            }
            let refused = status.starts_with(['4', '5']) && content.contains_key("application/problem+json");
            assert!(status.starts_with('2') || refused || route == "GET /api/v1/health", "{route} {status}");
            assert!(answer["description"].as_str().is_some_and(|text| !text.is_empty()), "{route} {status}");
        }
        let path: Vec<&str> = route.split(['{', '}']).skip(1).step_by(2).collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let named = parameters.iter().filter(|it| it["in"] == "path").map(|it| it["name"].as_str().unwrap());
        assert_eq!(named.collect::<Vec<_>>(), path, "{route}");
        for parameter in &parameters {
            assert!(parameter["description"].as_str().is_some_and(|text| !text.is_empty()), "{route}: {parameter}");
        }
        let body = operation.get("requestBody");
        assert!(body.is_none() || !operation["responses"]["413"].is_null(), "{route}");
    }
}

#[test]
fn who_may_ask_stands_in_it() {
    let document = document();
    let security = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
    assert_eq!(security("/api/v1/key", "get"), serde_json::json!([]));
    assert_eq!(security("/api/v1/builds", "get"), serde_json::json!([{}, {"bearer": []}]));
    assert_eq!(security("/api/v1/tokens", "get"), serde_json::json!([{"bearer": []}]));
    let told = &document["paths"]["/api/v1/projects"]["post"]["description"];
    assert!(told.as_str().unwrap().contains("the role maintainer"), "{told}");
}

#[test]
fn its_schemas_are_schemas_and_its_references_lead_somewhere() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        let meant = jsonschema::draft202012::meta::validate(schema);
        assert!(meant.is_ok(), "{name}: {}", meant.unwrap_err());
    }
    let mut all = Vec::new();
    below(&document, &mut all);
    let references = all.iter().filter_map(|value| value.get("$ref")?.as_str());
    let mut used = BTreeSet::new();
    for reference in references {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(target.is_some(), "{reference} leads nowhere");
        used.insert(reference.rsplit('/').next().unwrap().to_owned());
    }
    let known: BTreeSet<String> = schemas.keys().filter(|name| *name != "Follow").cloned().collect();
    assert_eq!(known, used, "schemas that nothing names, or the other way round");
}

/// What strangers send is refused by the same words that the document has for it.
#[test]
fn what_is_read_and_what_is_refused_stand_in_its_schemas() {
    let mut document = document();
    let schema = |name: &str| serde_json::json!({"$ref": format!("#/components/schemas/{name}")});
    for (name, text, fits) in [
        ("Submit", r#"{"repo": "https://example.org/x"}"#, true),
        ("Submit", r#"{"repo": "git@example.org:a/b", "branch": "release/1.2", "inputs": {"A": "b"}}"#, true),
        ("Submit", r#"{"repo": "https://example.org/x", "brunch": "main"}"#, false),
        ("Submit", r#"{"repo": "https://example.org/x", "branch": "a..b"}"#, false),
        ("Submit", r#"{"repo": "https://example.org/x", "branch": "-x"}"#, false),
        ("Submit", r#"{"repo": "https://example.org/x", "branch": "x.lock"}"#, false),
        ("Submit", r#"{"repo": "https://example.org/x", "commit": "12"}"#, false),
        ("Submit", r#"{"branch": "main"}"#, false),
        ("MakeToken", r#"{"name": "ci", "role": "viewer"}"#, true),
        ("MakeToken", r#"{"name": "ci", "role": "root"}"#, false),
        ("AgentId", r#""oak""#, true),
        ("AgentId", r#""a.b""#, false),
        ("Image", r#""debian""#, true),
        ("Image", r#"{"name": "debian", "pull": "always"}"#, true),
        ("WaitReason", r#"{"reason": "lane", "lane": "x", "max": 2}"#, true),
        ("StageOutcome", r#"{"outcome": "failed", "end": {"end": "exited", "code": 1}}"#, true),
    ] {
        document["$ref"] = schema(name)["$ref"].clone();
        let validator = jsonschema::draft202012::new(&document).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(validator.is_valid(&value), fits, "{name}: {text}");
    }
}

#[tokio::test]
async fn it_is_served_to_all_who_may_look() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let (status, head, body) = ask(&farm, "GET /api/v1/openapi.json", "", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), document());
    farm.stop().await;
}

/// What is no text in a path is refused as everything else is.
#[tokio::test]
async fn odd_paths_are_refused_with_a_problem() {
    let folder = tempdir().unwrap();
    let farm = Farm::start(&folder).await;
    let w = writer(&folder);
    for (request, status, sentence) in [
        ("GET /api/v1/builds/%ff", 400, "UTF-8"),
        ("GET /api/v1/builds/%00", 400, "not a build's number"),
        ("GET /api/v1/projects/%ff", 400, "UTF-8"),
        ("GET /api/v1/agents/%ff", 400, "UTF-8"),
        ("GET /api/v1/builds/1/logs/%ff", 400, "UTF-8"),
        ("GET /api/v1/builds/18446744073709551615", 404, "no build #18446744073709551615"),
        ("GET /api/v1/builds/18446744073709551616", 404, "no build #18446744073709551616"),
        ("GET /api/v1/deliveries/18446744073709551616", 404, "no delivery 18446744073709551616"),
    ] {
        check_refused(&ask(&farm, request, "", "").await, status, sentence);
    }
    for request in ["POST /api/v1/tokens/%ff/revoke", "POST /api/v1/projects/%ff/remove"] {
        check_refused(&ask(&farm, request, &w, "").await, 400, "UTF-8");
    }
    let refused = ask(&farm, "DELETE /api/v1/builds", &w, "").await;
    check_refused(&refused, 405, "method");
    assert!(refused.1.contains("allow: GET,HEAD,POST\r\n"), "{}", refused.1);
    farm.stop().await;
}
