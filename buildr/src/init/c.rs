//! C and C++, told by `CMakeLists.txt`, `configure.ac` or `configure`, or a `Makefile` that no other language owns.

use super::folder::Folder;
use super::part::{Idea, Part, Turn, texts};

pub(super) fn part(folder: &Folder) -> Option<Part> {
    let (told_by, more_packages, ideas) = if folder.has("CMakeLists.txt") {
        ("CMakeLists.txt", vec!["cmake"], cmake())
    } else if let Some(script) = folder.first(&["configure.ac", "configure.in", "configure"]) {
        let tools =
            if folder.has("configure") { Vec::new() } else { vec!["autoconf", "automake", "libtool", "pkg-config"] };
        (script, tools, autotools(folder))
    } else {
        let makefile = folder.first(&["Makefile", "makefile", "GNUmakefile"]).filter(|_| is_c(folder))?;
        (makefile, Vec::new(), make(&folder.text(makefile)))
    };
    let mut packages = vec!["build-essential"];
    packages.extend(more_packages.iter().copied());
    Some(Part {
        title: "C or C++",
        told_by: told_by.to_owned(),
        image: "gcc:14-bookworm".to_owned(),
        more_packages,
        packages,
        files: texts(&[told_by]),
        ideas,
        ..Part::default()
    })
}

/// Whether the sources are C's: a `Makefile` alone tells only that somebody likes make.
fn is_c(folder: &Folder) -> bool {
    let endings = [".c", ".cc", ".cpp", ".cxx", ".h"];
    [".", "src", "source", "lib"]
        .iter()
        .any(|place| folder.files(place).iter().any(|name| endings.iter().any(|ending| name.ends_with(ending))))
}

fn cmake() -> Vec<Idea> {
    let mut test =
        Idea::new("test", Turn::Test, ["ctest --test-dir build --output-on-failure --output-junit junit.xml"]);
    test.junit = texts(&["build/junit.xml"]);
    let build = ["cmake -S . -B build -DCMAKE_BUILD_TYPE=Release", "cmake --build build --parallel 2"];
    vec![Idea::new("build", Turn::Build, build).about("Runs by itself, so the stages after it find build/."), test]
}

fn autotools(folder: &Folder) -> Vec<Idea> {
    let mut build = Vec::new();
    if !folder.has("configure") {
        build.push("autoreconf --force --install");
    }
    build.extend(["sh ./configure", "make -j2"]);
    vec![
        Idea::new("build", Turn::Build, build).about("Runs by itself, so the stages after it find what it made."),
        Idea::new("test", Turn::Test, ["make check"]),
    ]
}

fn make(text: &str) -> Vec<Idea> {
    let target = |name: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':')))
    };
    let mut ideas = vec![Idea::new("build", Turn::Build, ["make"])];
    if let Some(name) = ["check", "test"].into_iter().find(|name| target(name)) {
        ideas.push(Idea::new("test", Turn::Test, [format!("make {name}")]));
    }
    ideas
}
