//! `buildr explain`: what a key of the manifest means, and what may stand behind it.

use super::globals::Globals;
use super::look::{Look, Tone};
use super::table::{cell, table};
use super::{CliError, exit, say};
use crate::manifest::keys::look::{Answer, Place, all, find};

/// The width that text is wrapped to where there is no terminal.
const WIDTH: usize = 90;

/// Say what a key of the manifest means, with examples
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key, such as `cache` or `when.path`; without it, all of them are listed
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

pub(super) fn run(args: &Args, globals: &Globals) -> Result<u8, CliError> {
    let look = Look::of_stdout(globals.color());
    let Some(key) = &args.key else {
        say(&listed(&look))?;
        return Ok(exit::DONE);
    };
    match find(key.trim_matches(['`', '.', ':'])) {
        Answer::Keys(places) => {
            let told: Vec<String> = places.iter().map(|place| explained(place, &look)).collect();
            say(&told.join("\n\n"))?;
            Ok(exit::DONE)
        }
        Answer::Unknown(guess) => Err(CliError::Usage {
            what: format!("there is no key {key:?} in the language"),
            instead: Some(guess.map_or_else(
                || "`buildr explain` lists all of them".to_owned(),
                |guess| format!("buildr explain {guess}"),
            )),
        }),
    }
}

/// A part of the list: its heading, and what belongs there.
type Section = (&'static str, fn(&Place) -> bool);

/// All keys, each with the first sentence about it.
fn listed(look: &Look) -> String {
    let places = all();
    let sections: [Section; 4] = [
        ("AT THE TOP LEVEL", |place| place.maps.contains(&"the top level")),
        ("IN A STAGE", |place| place.maps.contains(&"a stage")),
        ("IN PREPARE ALONE", |place| place.maps == ["`prepare`"]),
        ("WITHIN THESE", |place| place.path.contains('.')),
    ];
    let mut text = String::new();
    for (title, belongs) in sections {
        let rows = places.iter().filter(|place| belongs(place)).map(|place| {
            let first = place.key.says.split_inclusive(". ").next().unwrap_or_default().trim().trim_end_matches('.');
            [cell(Tone::Strong, &place.path), cell(Tone::Plain, first)]
        });
        text += &table([title, ""], rows, look);
        text.push('\n');
    }
    text + "`buildr explain KEY` says more, with examples: `buildr explain cache`, `buildr explain when.path`\n"
}

/// One key, with all that is known about it.
fn explained(place: &Place, look: &Look) -> String {
    let width = look.width.unwrap_or(WIDTH).clamp(40, 100);
    let key = place.key;
    let mut text = format!("{}  ", look.paint(Tone::Strong, &place.path));
    text += &look.paint(Tone::Faint, &format!("(a key of {})\n\n", place.maps.join(", ")));
    text += &wrapped(key.says, "  ", width);
    text += "\nIt takes:\n";
    for way in key.form.ways() {
        text += &wrapped(&format!("- {way}"), "  ", width);
    }
    let beneath: Vec<String> = all()
        .into_iter()
        .filter(|other| other.path.strip_prefix(&place.path).is_some_and(|rest| rest.starts_with('.')))
        .map(|other| other.path)
        .filter(|path| path[place.path.len() + 1..].split('.').count() == 1)
        .collect();
    if !beneath.is_empty() && key.form.ways().iter().any(|way| way.contains("a map with")) {
        text += &wrapped(&format!("- explained on their own: {}", beneath.join(", ")), "  ", width);
    }
    text += if key.examples.len() > 1 { "\nExamples:\n" } else { "\nFor example:\n" };
    let examples: Vec<String> = key
        .examples
        .iter()
        .map(|example| example.lines().map(|line| format!("  {line}\n")).collect::<String>())
        .collect();
    text + &examples.join("\n")
}

/// The text in lines, each behind an indentation.
fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let taken = console::measure_text_width(&lines[last]);
        if taken > 0 && indent.len() + taken + 1 + console::measure_text_width(word) > width {
            lines.push(word.to_owned());
        } else {
            let gap = if taken > 0 { " " } else { "" };
            lines[last] += &format!("{gap}{word}");
        }
    }
    lines.iter().map(|line| format!("{indent}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn shown(key: &str) -> String {
        let Answer::Keys(places) = find(key) else { panic!("{key}") };
        places.iter().map(|place| explained(place, &Look::plain(Some(80)))).collect::<Vec<_>>().join("\n\n")
    }

    #[test]
    fn a_key_with_all_that_is_known_about_it() {
        assert_snapshot!(shown("when.path"));
        assert_snapshot!(shown("allow_failure"));
    }

    #[test]
    fn every_key_can_be_explained() {
        for place in all() {
            let text = explained(&place, &Look::plain(Some(80)));
            assert!(text.contains(&place.path) && text.contains("It takes:") && text.ends_with('\n'), "{text}");
            let said = text.split("xample").next().unwrap();
            assert!(said.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }

    #[test]
    fn all_keys_are_listed_once_in_their_section() {
        let list = listed(&Look::plain(None));
        for place in all() {
            let line = format!("\n{} ", place.path);
            assert!(list.contains(&line), "{} is not in\n{list}", place.path);
        }
        assert!(list.starts_with("AT THE TOP LEVEL"), "{list}");
    }
}
