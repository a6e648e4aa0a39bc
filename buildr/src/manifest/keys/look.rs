//! Keys by their names, and what may stand behind them in words: for `buildr explain` and for diagnostics.

use super::{Form, Key, Map, TOP};
use crate::manifest::words;

/// A key and where it stands.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its way from the top level or from a stage: `when.path`.
    pub(crate) path: String,
    /// The maps that have it.
    pub(crate) maps: Vec<&'static str>,
    pub(crate) key: &'static Key,
}

/// What was asked for, and what there is.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The keys that it may mean, at least one.
    Keys(Vec<Place>),
    /// None, and the path that was most likely meant.
    Unknown(Option<String>),
}

/// Every key with its way, each once; the top level first, then stages, then what is in these.
pub(crate) fn all() -> Vec<Place> {
    let mut walk = Walk { places: Vec::new(), seen: Vec::new() };
    walk.map("", &TOP);
    walk.places
}

/// The keys of a path such as `cache` or `when.path`; a last part alone will do.
pub(crate) fn find(asked: &str) -> Answer {
    let all = all();
    let bare = ["stage.", "prepare.", "finally."].iter().find_map(|map| asked.strip_prefix(map)).unwrap_or(asked);
    let end = format!(".{bare}");
    let exact = all.iter().any(|place| place.path == bare);
    let is_meant = |place: &Place| if exact { place.path == bare } else { place.path.ends_with(&end) };
    let words: Vec<&str> = all.iter().map(|place| place.path.as_str()).collect();
    let guess = words::closest(bare, words.iter().copied())
        .or_else(|| words.iter().copied().find(|path| words::closest(bare, path.rsplit('.').next()).is_some()))
        .map(str::to_owned);
    let (found, _): (Vec<Place>, Vec<Place>) = all.into_iter().partition(is_meant);
    if found.is_empty() { Answer::Unknown(guess) } else { Answer::Keys(found) }
}

struct Walk {
    places: Vec<Place>,
    /// Maps that were walked through, each with its way.
    seen: Vec<(String, &'static str)>,
}

impl Walk {
    fn map(&mut self, way: &str, map: &'static Map) {
        let walked = (way.to_owned(), map.title);
        if self.seen.contains(&walked) {
            return;
        }
        self.seen.push(walked);
        for key in map.keys {
            let path = if way.is_empty() { key.name.to_owned() } else { format!("{way}.{}", key.name) };
            match self.places.iter_mut().find(|place| place.path == path && place.key.says == key.says) {
                Some(place) => place.maps.push(map.title),
                None => self.places.push(Place { path, maps: vec![map.title], key }),
            }
        }
        if let Some(rest) = &map.rest {
            self.form(way, &rest.form);
        }
        for key in map.keys {
            // Their keys are a stage's, and are asked for as these are.
            let own = way.is_empty() && matches!(key.name, "prepare" | "finally");
            let path = match way {
                _ if own => String::new(),
                "" => key.name.to_owned(),
                _ => format!("{way}.{}", key.name),
            };
            self.form(&path, &key.form);
        }
    }

    fn form(&mut self, way: &str, form: &'static Form) {
        match form {
            Form::Map(map) => self.map(way, map),
            Form::Many(one) | Form::List(one) | Form::Named(one) => self.form(way, one),
            Form::Any(forms) => forms.iter().for_each(|form| self.form(way, form)),
            _ => {}
        }
    }
}

impl Form {
    /// What may stand there, one way each.
    pub(crate) fn ways(&self) -> Vec<String> {
        match self {
            Self::Any(forms) => {
                let mut ways: Vec<String> = Vec::new();
                for way in forms.iter().flat_map(Self::ways) {
                    if !ways.contains(&way) {
                        ways.push(way);
                    }
                }
                ways
            }
            Self::Many(one) => one.ways().into_iter().chain(["a list of such".to_owned()]).collect(),
            one => vec![one.one_way()],
        }
    }

    fn one_way(&self) -> String {
        match self {
            Self::Text | Self::AnyText => "text".to_owned(),
            Self::Shaped(_, like) => (*like).to_owned(),
            Self::Flag => "`true` or `false`".to_owned(),
            Self::False => "`false`".to_owned(),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Duration => "a span of time: `90s`, `20m`, `1h30m`, `2d`".to_owned(),
            Self::Size => "an amount: `512m`, `2g`".to_owned(),
            Self::Cores => "an amount of cores: `2`, `0.5`, `500m`".to_owned(),
            Self::Word(words) => words::listed(words).replace(" and ", " or "),
            Self::List(one) => format!("a list, each of it {}", one.ways().join(", or ")),
            Self::Named(one) => format!("a map of names, each with {}", one.ways().join(", or ")),
            Self::Map(map) => {
                let names: Vec<&str> = map.names().collect();
                match &map.rest {
                    Some(rest) => {
                        format!("a map with {}, and {} under any other name", words::listed(&names), rest.title)
                    }
                    None => format!("a map with {}", words::listed(&names)),
                }
            }
            Self::Many(_) | Self::Any(_) => self.ways().join(", or "),
        }
    }
}
