//! Go, told by `go.mod`.

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

pub(super) fn part(folder: &Folder) -> Option<Part> {
    if !folder.has("go.mod") {
        return None;
    }
    let key = if folder.has("go.sum") { texts(&["go.sum"]) } else { texts(&["go.mod"]) };
    let prepare = if folder.has_folder("vendor") { Vec::new() } else { texts(&["go mod download"]) };
    let mut files = texts(&["go.mod"]);
    files.extend(folder.has("go.sum").then(|| "go.sum".to_owned()));
    let ideas = vec![
        Idea::new("build", Turn::Build, ["go build ./..."]),
        Idea::new("test", Turn::Test, ["go test ./..."]),
        Idea::new("lint", Turn::Test, ["go vet ./...", "gofmt -l . | tee unformatted", "test ! -s unformatted"])
            .about("Shown, but no reason to fail; remove allow_failure to make it one.")
            .may_fail(),
    ];
    Some(Part {
        title: "Go",
        told_by: "go.mod".to_owned(),
        image: "golang:1.25-bookworm".to_owned(),
        packages: vec!["golang-go", "git", "gcc", "libc6-dev"],
        prepare,
        files,
        kept: Some(Kept { paths: texts(&["~/.cache/go-build"]), key }),
        ideas,
        ..Part::default()
    })
}
