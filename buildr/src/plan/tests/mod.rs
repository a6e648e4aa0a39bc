//! What manifests mean, rule by rule.

mod first;
