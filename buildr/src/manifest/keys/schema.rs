//! The language as a JSON Schema (draft-07, which editors know), made of the registry.
//!
//! What it cannot say is left to `buildr check`: that a name is there, that `stages` makes a stage of a word of the
//! language, what a glob or regular expression must look like. What it says is never stricter than the parser, that
//! one case apart.

use std::collections::BTreeMap;

use serde_json::{Map as Object, Value, json};

use super::{Form, Key, Map, TOP};

/// The schema of a manifest, made of the registry of keys: from it editors complete and check.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Definitions::default();
    let Value::Object(top) = definitions.object(&TOP) else { return Value::Null };
    let mut schema = Object::new();
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!("A manifest of buildr: .buildr.yml"));
    schema.extend(top);
    // Keys of one's own.
    schema.insert("patternProperties".to_owned(), json!({ "^(\\.|x-)": {} }));
    let done: Object<String, Value> =
        definitions.done.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect();
    schema.insert("definitions".to_owned(), Value::Object(done));
    Value::Object(schema)
}

/// Maps by their names, so that each stands in the schema once. Nothing is one that is being made.
#[derive(Default)]
struct Definitions {
    done: BTreeMap<String, Option<Value>>,
}

impl Definitions {
    fn map(&mut self, map: &'static Map) -> Value {
        let name = map.title.replace('`', "").replace(' ', "-");
        if !self.done.contains_key(&name) {
            self.done.insert(name.clone(), None);
            let object = self.object(map);
            self.done.insert(name.clone(), Some(object));
        }
        json!({ "$ref": format!("#/definitions/{name}") })
    }

    fn object(&mut self, map: &'static Map) -> Value {
        let properties: Object<String, Value> =
            map.keys.iter().map(|key| (key.name.to_owned(), self.property(key))).collect();
        let rest = match &map.rest {
            Some(rest) => self.form(&rest.form),
            None => json!(false),
        };
        let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": rest });
        if !map.required.is_empty() {
            let one: Vec<Value> = map.required.iter().map(|name| json!({ "required": [name] })).collect();
            object["anyOf"] = json!(one);
        }
        object
    }

    fn property(&mut self, key: &'static Key) -> Value {
        let shown: Vec<String> = key.examples.iter().map(|example| format!("```yaml\n{example}\n```")).collect();
        json!({
            "description": key.says,
            "markdownDescription": format!("{}\n\n{}", key.says, shown.join("\n\n")),
            // Beside a `$ref` nothing else would count.
            "allOf": [self.form(&key.form)],
        })
    }

    fn form(&mut self, form: &'static Form) -> Value {
        let scalar = json!(["string", "number", "boolean"]);
        match form {
            Form::Text => json!({ "type": scalar, "pattern": "\\S" }),
            Form::AnyText => json!({ "type": scalar }),
            Form::Shaped(regex, _) => json!({ "type": scalar, "pattern": regex }),
            Form::Flag => json!({ "type": "boolean" }),
            Form::False => json!({ "const": false }),
            Form::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
            Form::Duration => json!({ "type": "string", "pattern": "^([0-9]+[smhd])+$" }),
            Form::Size => json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,3})?[kmgtKMGT]$" }),
            Form::Cores => json!({
                "type": ["string", "number"],
                "exclusiveMinimum": 0,
                "pattern": "^([0-9]+(\\.[0-9]{1,3})?|[0-9]+m)$",
            }),
            Form::Word(words) => {
                let numbers = words.iter().filter_map(|word| word.parse::<i64>().ok()).map(Value::from);
                let words: Vec<Value> = words.iter().map(|word| json!(word)).chain(numbers).collect();
                json!({ "enum": words })
            }
            Form::Many(one) => {
                let one = self.form(one);
                json!({ "anyOf": [one, { "type": "array", "items": { "anyOf": [one, { "type": "array" }] } }] })
            }
            Form::List(one) => json!({ "type": "array", "items": self.form(one) }),
            Form::Named(one) => json!({ "type": "object", "additionalProperties": self.form(one) }),
            Form::Map(map) => self.map(map),
            Form::Any(forms) => {
                let forms: Vec<Value> = forms.iter().map(|form| self.form(form)).collect();
                json!({ "anyOf": forms })
            }
        }
    }
}
