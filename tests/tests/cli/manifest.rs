//! What a person sees whose manifest is missing or wrong.

use std::fmt::Write as _;

use crate::place::{Place, image};

#[tokio::test]
async fn without_a_manifest_there_is_one_to_copy() {
    let Some(place) = Place::new().await else { return };
    let ran = place.run(&["run"]).await;
    ran.check(2, &["error: there is no manifest", ".buildr.yml", "image: ubuntu:latest", "`buildr init`"]);
    // What is shown works when it is copied.
    let lines =
        ran.err.lines().skip_while(|line| !line.starts_with("  image:")).take_while(|line| line.starts_with("  "));
    let copied: String = lines.fold(String::new(), |mut text, line| {
        writeln!(text, "{}", &line[2..]).unwrap();
        text
    });
    place.write(".buildr.yml", copied.replace("ubuntu:latest", &image()));
    place.run(&["run"]).await.check(0, &["build | it builds\n"]);
    place.nothing_is_left().await;
}

/// Each class of mistake once: it is shown where it is, with a caret, and with what to write.
#[tokio::test]
async fn a_mistake_is_shown_where_it_is() {
    let Some(place) = Place::new().await else { return };
    let build = "build:\n  script: 'true'\n";
    let mistakes = [
        ("an unknown key", format!("imgae: x\n{build}"), ".buildr.yml:1:1", "image"),
        ("a missing stage", format!("stages: [build, deploy]\n{build}"), ".buildr.yml:1:17", "deploy"),
        ("a wrong type", "build:\n  script: {a: 1}\n".to_owned(), ".buildr.yml:2:11", "script"),
        ("a key twice", format!("{build}{build}"), ".buildr.yml:3:1", "build"),
        ("bad YAML", "build:\n  script: [a\n".to_owned(), ".buildr.yml:", "script: [a"),
        ("a version of the future", format!("version: 9\n{build}"), ".buildr.yml:1:10", "version"),
        ("no script", "build:\n  image: x\n".to_owned(), ".buildr.yml:1:1", "script"),
        ("a bad variable", format!("environment:\n  vars: [oops]\n{build}"), ".buildr.yml:2:10", "NAME=VALUE"),
        ("a null", format!("image:\n{build}"), ".buildr.yml:1:", "image"),
        ("an empty file", String::new(), ".buildr.yml:1:1", "build"),
        ("a tab", "build:\n\tscript: x\n".to_owned(), ".buildr.yml:2:1", "tab"),
        ("a bad name", "stages: ['a b']\n'a b':\n  script: x\n".to_owned(), ".buildr.yml:1:10", "a b"),
        ("nothing to run", "image: x\n".to_owned(), ".buildr.yml:1:1", "script"),
        ("a bomb", bomb(), ".buildr.yml:", "alias"),
    ];
    for (what, manifest, at, part) in mistakes {
        place.write(".buildr.yml", &manifest);
        let ran = place.run(&["run"]).await;
        assert_eq!(ran.code, Some(2), "{what}: {ran}");
        for part in [at, part, "^"] {
            assert!(ran.err.contains(part), "{what}: {part:?} is not in\n{ran}");
        }
    }
    place.write(".buildr.yml", format!("{build}{}", "# ten megabytes\n".repeat(700_000)));
    place.run(&["run"]).await.check(2, &["longer than 1 MiB"]);
    place.write(".buildr.yml", b"build:\n  script: \xff\n");
    place.run(&["run"]).await.check(2, &[".buildr.yml:2:11", "UTF-8"]);
    place.nothing_is_left().await;
}

fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        writeln!(text, "a{level}: &a{level} [{}]", [alias.as_str(); 9].join(", ")).unwrap();
    }
    text + "build:\n  script: 'true'\n"
}

#[tokio::test]
async fn a_manifest_as_other_systems_write_it() {
    let Some(place) = Place::new().await else { return };
    let manifest = format!(
        "\u{feff}image: {}\nbuild:\n  script:\n    - echo one\n    - |\n      if true\n      then echo two\n      fi\n",
        image()
    );
    place.write(".buildr.yml", manifest.replace('\n', "\r\n"));
    place.run(&["run"]).await.check(0, &["build | one\n", "build | two\n"]);
    place.nothing_is_left().await;
}
