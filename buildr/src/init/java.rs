//! Java and its kin, told by `pom.xml` (Maven) or `build.gradle` (Gradle).

use super::folder::Folder;
use super::part::{Idea, Kept, Part, Turn, texts};

pub(super) fn part(folder: &Folder) -> Option<Part> {
    if folder.has("pom.xml") {
        return Some(maven(folder));
    }
    let script = folder.first(&["build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"])?;
    Some(gradle(folder, script))
}

fn maven(folder: &Folder) -> Part {
    let wrapper = folder.has("mvnw");
    let mvn = if wrapper { "sh mvnw" } else { "mvn" };
    let mut test = Idea::new("test", Turn::Build, [format!("{mvn} -B -ntp verify")]);
    test.junit = texts(&["**/target/surefire-reports/*.xml"]);
    test.artifacts = texts(&["**/target/*.jar"]);
    Part {
        title: "Java with Maven",
        told_by: "pom.xml".to_owned(),
        image: "maven:3-eclipse-temurin-21".to_owned(),
        packages: if wrapper {
            vec!["default-jdk-headless", "curl", "unzip"]
        } else {
            vec!["maven", "default-jdk-headless"]
        },
        files: texts(&["pom.xml"]),
        kept: Some(Kept { paths: texts(&["~/.m2/repository"]), key: texts(&["pom.xml"]) }),
        ideas: vec![test],
        ..Part::default()
    }
}

fn gradle(folder: &Folder, script: &str) -> Part {
    let wrapper = folder.has("gradlew");
    let gradle = if wrapper { "sh gradlew" } else { "gradle" };
    let mut test = Idea::new("test", Turn::Build, [format!("{gradle} --no-daemon build")]);
    test.junit = texts(&["**/build/test-results/test/*.xml"]);
    test.artifacts = texts(&["**/build/libs/*.jar"]);
    let mut key = texts(&[script]);
    if folder.has("gradle/wrapper/gradle-wrapper.properties") {
        key.push("gradle/wrapper/gradle-wrapper.properties".to_owned());
    }
    Part {
        title: "Java with Gradle",
        told_by: script.to_owned(),
        image: if wrapper { "eclipse-temurin:21-jdk" } else { "gradle:8-jdk21" }.to_owned(),
        packages: if wrapper { vec!["default-jdk-headless", "unzip"] } else { vec!["gradle", "default-jdk-headless"] },
        files: key.clone(),
        kept: Some(Kept { paths: texts(&["~/.gradle/caches", "~/.gradle/wrapper"]), key }),
        ideas: vec![test],
        ..Part::default()
    }
}
