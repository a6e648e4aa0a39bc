//! An image of the project's own, told by a `Dockerfile`.

use super::folder::Folder;
use super::part::{Idea, Part, Turn};

pub(super) fn part(folder: &Folder) -> Option<Part> {
    let file = folder.first(&["Dockerfile", "Containerfile"])?;
    let named = if file == "Dockerfile" { String::new() } else { format!(" --file {file}") };
    let mut image = Idea::new("image", Turn::Package, [format!("docker build{named} --tag {}:test .", folder.name())]).about(
        "Asks for Docker's socket: `buildr run` gives it, and an agent does for repositories in its `trusted_repos`.",
    );
    image.docker = true;
    Some(Part {
        title: "a container image",
        told_by: file.to_owned(),
        image: "docker:28-cli".to_owned(),
        packages: vec!["docker.io"],
        ideas: vec![image],
        ..Part::default()
    })
}
