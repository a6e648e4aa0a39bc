//! Manifests, scripts and images that are not what one expects.

use std::fmt::Write as _;

use crate::place::{Place, image};

/// Builds a manifest with these commands as its only stage.
async fn stage(commands: &[&str]) -> Option<crate::place::Ran> {
    let mut manifest = format!("image: {}\nbuild:\n  script:\n", image());
    for command in commands {
        writeln!(manifest, "    - {command:?}").unwrap();
    }
    let place = Place::new().await?;
    place.write(".buildr.yml", manifest);
    let ran = place.run(&["run"]).await;
    place.nothing_is_left().await;
    Some(ran)
}

#[tokio::test]
async fn scripts_that_do_what_they_should_not() {
    let check = async |commands: &[&str], code: i32, parts: &[&str]| {
        if let Some(ran) = stage(commands).await {
            ran.check(code, parts);
        }
    };
    check(&["exit 0", "echo never"], 0, &["passed"]).await;
    check(&["set +e", "false", "echo on"], 0, &["build | on\n"]).await;
    check(&["echo 'unclosed"], 1, &["failed"]).await;
    check(&["rm -rf /bin/* /usr/bin/* || :", "echo alive"], 0, &["build | alive\n"]).await;
    check(&["exec 0<&- 1>&- 2>&-", "exit 4"], 1, &["exit code 4"]).await;
    check(&["read line || echo nothing to read"], 0, &["build | nothing to read\n"]).await;
    check(&["kill -9 $$"], 1, &["failed"]).await;
    check(&["(sleep 1000; echo late) &", "echo done"], 0, &["build | done\n"]).await;
    check(&["echo -n ü 漢字 🦀; echo"], 0, &["ü 漢字 🦀"]).await;
    check(&["no-such-program"], 1, &["not found", "exit code 127"]).await;
    check(&["sleep 0.1 && exec sh -c 'exit 5'"], 1, &["exit code 5"]).await;
}

#[tokio::test]
async fn a_null_in_a_script_is_refused_with_a_sentence() {
    let Some(place) = Place::with("image: IMAGE\nbuild:\n  script: \"echo a\\0b\"\n").await else { return };
    let ran = place.run(&["run"]).await;
    ran.shows(&["NUL"]);
    assert!(matches!(ran.code, Some(2 | 3)), "{ran}");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_big_environment_and_a_big_script() {
    let Some(place) = Place::new().await else { return };
    // More than a system gives a process at its start in one piece (128 KiB), and less than it gives in all.
    let value = "v".repeat(100_000);
    let mut manifest = format!("image: {}\nenvironment:\n  vars:\n", image());
    for number in 0..5 {
        writeln!(manifest, "    - BIG_{number}={value}").unwrap();
    }
    manifest += "build:\n  script:\n    - /bin/sh -c 'echo ${#BIG_4}'\n";
    for number in 0..3000 {
        writeln!(manifest, "    - true {number} {}", "x".repeat(100)).unwrap();
    }
    manifest += "    - echo last\n";
    place.write(".buildr.yml", manifest);
    place.run(&["run"]).await.check(0, &["build | 100000\n", "build | last\n"]);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn names_of_all_kinds() {
    let Some(place) = Place::new().await else { return };
    let longest = "a".repeat(63);
    let names = ["0", "true", "a.b_c-d", "docker", "script", "job", longest.as_str()];
    let listed: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let mut manifest = format!("image: {}\nstages: [{}]\n", image(), listed.join(", "));
    for name in names {
        write!(manifest, "'{name}':\n  script: echo \"I am $BUILDR_STAGE\"\n").unwrap();
    }
    place.write(".buildr.yml", manifest);
    let ran = place.run(&["run"]).await;
    ran.check(0, &[]);
    for name in names {
        ran.shows(&[&format!("{name} | I am {name}\n"), &format!("passed    {name}")]);
    }
    place.nothing_is_left().await;
}

#[tokio::test]
async fn an_image_with_ways_of_its_own() {
    let Some(place) = Place::new().await else { return };
    let name = place
        .own_image(|config| {
            config.entrypoint = Some(vec!["/bin/false".to_owned()]);
            config.cmd = Some(vec!["nothing".to_owned()]);
            config.user = Some("1234:1234".to_owned());
            config.working_dir = Some("/srv".to_owned());
            config.volumes = Some(vec!["/kept".to_owned()]);
        })
        .await;
    place.write("sub/file", "x\n");
    place.write(
        ".buildr.yml",
        format!("image: {name}\nbuild:\n  script: ['echo $(id -u) $PWD', 'echo y >>sub/file', 'mkdir -m 700 locked; echo z >locked/z']\nmore:\n  script: cat sub/file locked/z\n"),
    );
    let before = place.tree();
    place.run(&["run"]).await.check(0, &["build | 1234 /app\n", "more | y\n", "more | z\n"]);
    assert_eq!(place.tree(), before);
    place.nothing_is_left().await;
}

#[tokio::test]
async fn an_image_without_a_shell() {
    let Some(place) = Place::new().await else { return };
    let tar = "tar -cf - --files-from /dev/null";
    let name = format!("buildr-test-shellless-{}", uuid::Uuid::new_v4().simple());
    let mut import = place.command("sh");
    import.args(["-c", &format!("{tar} | docker import - {name}")]);
    crate::place::to_the_end(import).await.check(0, &[]);
    place.write(".buildr.yml", format!("image: {name}\nbuild:\n  script: 'true'\n"));
    let ran = place.run(&["run"]).await;
    let mut remove = place.command("docker");
    remove.args(["image", "rm", &name]);
    crate::place::to_the_end(remove).await.check(0, &[]);
    ran.check(3, &["has no /bin/sh", "use an image with a shell"]);
    place.nothing_is_left().await;
}
