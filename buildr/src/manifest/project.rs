//! All pipelines of a project: the manifest at its root, and those of its folder `.buildr`.

use std::path::Path;

use super::include::{Included, Includes, Sources};
use super::{Manifest, ManifestError, Problem, from_file, place};

/// The most problems that are told at once: more than a person mends before trying again.
const MAX_TOLD: usize = 20;

/// What a project builds.
#[derive(Debug, Clone)]
pub struct Project {
    /// At least one, by their names; the one at the root first.
    pub pipelines: Vec<Pipeline>,
}

/// One manifest of a project.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name. None is the only one of its project, or the one at the root, which is called `default`.
    pub name: Option<String>,
    /// What it says.
    pub manifest: Manifest,
    /// What it took from other repositories, each with the commit that it was taken at.
    pub included: Vec<Included>,
}

/// A project that was understood, and what its authors should know all the same.
#[derive(Debug, Clone)]
pub struct ProjectReading {
    /// What it builds.
    pub project: Project,
    /// What is allowed and probably not meant.
    pub warnings: Vec<Problem>,
}

/// Finds and reads all manifests of a folder. `includes` is asked for files of other repositories, and may block.
///
/// # Errors
/// When there is none, when one cannot be read, and when something in one of them is wrong: then all of that, of all
/// of them, at once.
pub fn load_project(folder: &Path, includes: &dyn Includes) -> Result<ProjectReading, ManifestError> {
    let sources = Sources { folder: Some(folder), remote: includes };
    let places = place::all(folder)?;
    let several = places.len() > 1;
    let (mut pipelines, mut warnings, mut problems, mut more) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for place in places {
        match from_file(&place.path, &place.shown, &sources) {
            Ok((reading, included)) => {
                warnings.extend(reading.warnings);
                let name = place.name.filter(|_| several);
                pipelines.push(Pipeline { name, manifest: reading.manifest, included });
            }
            Err(ManifestError::Faulty { problems: found, more: besides }) => {
                problems.extend(found);
                more += besides;
            }
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() {
        return Ok(ProjectReading { project: Project { pipelines }, warnings });
    }
    more += problems.len().saturating_sub(MAX_TOLD);
    problems.truncate(MAX_TOLD);
    Err(ManifestError::Faulty { problems, more })
}

/// Reads one file as the only manifest of a project. What it includes is looked for beside it.
///
/// # Errors
/// As [`load_project`], of this file.
pub fn load_file(path: &Path, includes: &dyn Includes) -> Result<ProjectReading, ManifestError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let sources = Sources { folder: Some(folder), remote: includes };
    let (reading, included) = from_file(path, &path.to_string_lossy(), &sources)?;
    let pipelines = vec![Pipeline { name: None, manifest: reading.manifest, included }];
    Ok(ProjectReading { project: Project { pipelines }, warnings: reading.warnings })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::manifest::{Fetched, NoIncludes, RemoteFile};
    use insta::assert_snapshot;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// The pipelines and their stages: `name: stage image script, ...`.
    fn said(project: &Project) -> Vec<String> {
        let stage = |stage: &crate::manifest::language::Stage| {
            let image = stage.image.as_ref().map_or("-", |image| &image.name.value);
            let script: Vec<&str> = stage.script.iter().map(|command| command.value.as_str()).collect();
            format!("{} {image} {}", stage.name.value, script.join("; "))
        };
        let pipeline = |pipeline: &Pipeline| {
            let stages: Vec<String> = pipeline.manifest.stages.iter().map(stage).collect();
            format!("{}: {}", pipeline.name.as_deref().unwrap_or("-"), stages.join(", "))
        };
        project.pipelines.iter().map(pipeline).collect()
    }

    #[track_caller]
    fn check(files: &[(&str, &str)], expect: &[&str]) {
        let folder = folder(files);
        let reading = load_project(folder.path(), &NoIncludes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(said(&reading.project), expect);
    }

    #[track_caller]
    fn refused(files: &[(&str, &str)]) -> String {
        let folder = folder(files);
        load_project(folder.path(), &NoIncludes).unwrap_err().to_string()
    }

    #[test]
    fn one_pipeline_or_several() {
        check(&[(".buildr.yml", "a: {script: x}")], &["-: a - x"]);
        check(&[(".buildr/web.yml", "a: {script: x}")], &["-: a - x"]);
        check(
            &[
                (".buildr/web.yml", "a: {script: x}"),
                (".buildr/api.yaml", "b: {script: y}"),
                (".buildr/readme.md", "nothing"),
                (".buildr/.hidden.yml", "nothing"),
                (".buildr.yml", "c: {script: z}"),
            ],
            &["-: c - z", "api: b - y", "web: a - x"],
        );
    }

    #[test]
    fn pipelines_that_cannot_be() {
        assert!(
            refused(&[(".buildr/readme.md", "")]).starts_with("there is no manifest: the folder .buildr has no file")
        );
        let twice = [(".buildr/a.yml", "a: {script: x}"), (".buildr/a.yaml", "a: {script: x}")];
        assert!(refused(&twice).starts_with("there are two files for the pipeline a"));
        let root = [(".buildr.yml", "a: {script: x}"), (".buildr/default.yml", "a: {script: x}")];
        assert_eq!(
            refused(&root),
            "there are two files for the pipeline default, .buildr.yml and .buildr/default.yml; keep one of them"
        );
        assert!(refused(&[(".buildr/a b.yml", "")]).starts_with(".buildr/a b.yml cannot be a pipeline's file"));
        let many: Vec<(String, &str)> = (0..65).map(|index| (format!(".buildr/p{index}.yml"), "")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        assert!(refused(&many).starts_with("the folder .buildr has 65 pipelines, and 64 are the most"));
    }

    #[test]
    fn all_mistakes_of_all_pipelines_are_told_at_once() {
        assert_snapshot!(refused(&[
            (".buildr/api.yml", "imgae: a\na: {script: x}"),
            (".buildr/web.yml", "b: {scirpt: x}")
        ]));
    }

    #[test]
    fn a_folder_of_pipelines_that_lies_elsewhere_is_not_read() {
        let other = folder(&[("a.yml", "a: {script: x}")]);
        let project = folder(&[]);
        symlink(other.path(), project.path().join(".buildr")).unwrap();
        let told = load_project(project.path(), &NoIncludes).unwrap_err().to_string();
        assert!(told.starts_with(".buildr is a link that leads out of its folder"), "{told}");
    }

    #[test]
    fn files_that_are_included() {
        let common = ("ci/common.yml", "image: a\nlint: {script: l}\n.t: {image: t}\ninclude: ci/more.yml");
        let more = ("ci/more.yml", "docs: {script: d}\nlint: {script: never}");
        check(
            &[(".buildr.yml", "include: ci/common.yml\nbuild: {extends: .t, script: b}"), common, more],
            &["-: docs - d, lint - l, build t b"],
        );
        // What the manifest says itself holds.
        check(
            &[(".buildr.yml", "include: [ci/common.yml]\nstages: [lint]\nlint: {script: own}"), common, more],
            &["-: lint - own"],
        );
        // Of two files the later one's.
        check(
            &[
                (".buildr.yml", "include: [a.yml, b.yml]"),
                ("a.yml", "x: {script: a}\ny: {script: a}"),
                ("b.yml", "x: {script: b}"),
            ],
            &["-: y - a, x - b"],
        );
        // The same file twice is no circle.
        check(
            &[
                (".buildr.yml", "include: [a.yml, b.yml]"),
                ("a.yml", "include: c.yml"),
                ("b.yml", "include: c.yml"),
                ("c.yml", "x: {script: c}"),
            ],
            &["-: x - c"],
        );
        check(&[(".buildr.yml", "include: a.yml\nx: {script: a}"), ("a.yml", "# nothing")], &["-: x - a"]);
        // R6: it is a stage when it is listed.
        check(&[(".buildr.yml", "stages: [include]\ninclude: {script: a}")], &["-: include - a"]);
    }

    #[test]
    fn a_mistake_is_shown_in_the_file_that_has_it() {
        let included = ("ci/a.yml", "# é\nlint:\n  scirpt: l\n");
        assert_snapshot!(refused(&[(".buildr.yml", "include: ci/a.yml\nbuild: {script: b, imgae: x}"), included]));
        assert_snapshot!(refused(&[(".buildr.yml", "include: ci/a.yml\nbuild: {script: b}"), ("ci/a.yml", "a: [")]));
    }

    #[test]
    fn files_that_cannot_be_included() {
        let include = |what: &str| refused(&[(".buildr.yml", &format!("include: {what}\nbuild: {{script: b}}"))]);
        let all = [
            "../secret",
            "/etc/passwd",
            "ci",
            "[]",
            "nope.yml",
            "[~]",
            "{repo: x}",
            "{repo: x, file: [a, {}]}",
            "{repo: x, file: a, with: b}",
            "{repo: [a, b], file: c}",
            "{repo: 'https://x/y', ref: v1, file: a.yml}",
        ];
        let told: Vec<String> = all.iter().filter(|what| **what != "[]").map(|what| include(what)).collect();
        assert_snapshot!(told.join("\n\n"));
        check(&[(".buildr.yml", "include: []\nbuild: {script: b}")], &["-: build - b"]);
        assert_snapshot!(refused(&[
            (".buildr.yml", "include: a.yml"),
            ("a.yml", "include: b.yml"),
            ("b.yml", "include: a.yml")
        ]));
        assert_snapshot!(refused(&[(".buildr.yml", "include: a.yml"), ("a.yml", "[x]")]));

        let project = folder(&[(".buildr.yml", "include: a.yml\nx: {script: y}")]);
        symlink("/etc/hostname", project.path().join("a.yml")).unwrap();
        let told = load_project(project.path(), &NoIncludes).unwrap_err().to_string();
        assert!(told.contains("it is a link that leads out of the project's folder"), "{told}");
    }

    #[test]
    fn too_much_is_not_included() {
        let mut files = vec![(".buildr.yml".to_owned(), "include: f0.yml".to_owned())];
        files.extend((0..20).map(|index| (format!("f{index}.yml"), format!("include: f{}.yml", index + 1))));
        let deep: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert!(refused(&deep).starts_with("f7.yml:1:10: too much is included from here on"), "{}", refused(&deep));
        // Two files that include one another's like twice would be read without end.
        let wide = format!("include: [{}]", "f.yml, ".repeat(60));
        let told = refused(&[(".buildr.yml", &wide), ("f.yml", "a: {script: x}")]);
        assert!(told.contains("too much is included from here on"), "{told}");
    }

    /// One repository with two files.
    struct One;

    impl Includes for One {
        fn fetch(&self, file: &RemoteFile) -> Result<Fetched, String> {
            let text = match file.file.as_str() {
                "a.yml" => "include: b.yml\na: {script: a}",
                "b.yml" => "b: {scritp: b}",
                "c.yml" => "c: {script: c}",
                _ => return Err("there is no such file".to_owned()),
            };
            let commit = "0123456789012345678901234567890123456789".parse().unwrap();
            Ok(Fetched { bytes: text.as_bytes().to_vec(), commit })
        }
    }

    #[test]
    fn files_of_other_repositories() {
        let read = |include: &str| {
            let folder = folder(&[(".buildr.yml", &format!("include: {include}\nx: {{script: x}}"))]);
            load_project(folder.path(), &One)
        };
        let reading = read("{repo: org/ci, ref: v3, file: c.yml}").unwrap();
        assert_eq!(said(&reading.project), ["-: c - c, x - x"]);
        assert!(reading.warnings.is_empty());
        let [included] = reading.project.pipelines[0].included.as_slice() else { panic!("one file") };
        assert_eq!(included.commit.as_str(), "0123456789012345678901234567890123456789");
        assert_eq!(included.file.reference.as_deref(), Some("v3"));
        // A path in it is of the same repository, at the same commit.
        assert_snapshot!(read("{repo: org/ci, ref: v3, file: [a.yml]}").unwrap_err());
        assert_snapshot!(read("{repo: org/ci, file: d.yml}").unwrap_err());
        let warnings = read("[{repo: org/ci, file: c.yml}, {repo: org/ci, ref: main, file: c.yml}]").unwrap().warnings;
        assert_snapshot!(warnings.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n\n"));
    }

    #[test]
    fn templates() {
        check(
            &[(".buildr.yml", ".t: {image: a, script: t}\nb: {extends: .t}\nc: {extends: .t, script: c}")],
            &["-: b a t, c a c"],
        );
        check(
            &[(
                ".buildr.yml",
                ".t: {image: a}\n.u: {extends: .t, script: u}\n.v: {image: v}\nb: {extends: [.u, .v]}\n\
                 c: {extends: [.v, [.u]]}",
            )],
            &["-: b v u, c a u"],
        );
        // Maps are merged, lists replaced.
        let folder = folder(&[(
            ".buildr.yml",
            ".t: {services: {db: {image: a, command: [x]}}, cache: [a]}\n\
             b: {extends: .t, script: b, services: {db: {command: [y]}, web: c}, cache: [b]}",
        )]);
        let project = load_project(folder.path(), &NoIncludes).unwrap().project;
        let stage = &project.pipelines[0].manifest.stages[0];
        let services: Vec<_> = stage
            .services
            .iter()
            .map(|it| {
                (
                    it.name.value.as_str(),
                    it.image.name.value.as_str(),
                    it.command.iter().map(|word| word.value.as_str()).collect::<Vec<_>>().join(" "),
                )
            })
            .collect();
        assert_eq!(services, [("db", "a", "y".to_owned()), ("web", "c", String::new())]);
        assert_eq!(stage.cache.as_ref().unwrap()[0].paths[0].value, "b");
        check(&[(".buildr.yml", "stages: [extends]\nextends: {script: a}")], &["-: extends - a"]);
        check(&[(".buildr.yml", "x-mine: {extends: nothing}\na: {script: a}")], &["-: a - a"]);
    }

    #[test]
    fn templates_that_cannot_be() {
        assert_snapshot!(refused(&[(
            ".buildr.yml",
            "\
.one: {extends: .two}
.two: {extends: .one}
.text: x
.wrong: {scirpt: x}
one: {script: x}
a: {extends: .one, script: x}
b: {extends: [.ones, one, ~, .text], script: x}
c: {extends: .wrong}
"
        )]));
        // Each stage would be a thousand values.
        let mut big = String::from(".all: {");
        big.extend((0..900).map(|index| format!("k{index}: x, ")));
        big += "}\n";
        big.extend((0..900).map(|index| format!("s{index}: {{extends: .all, script: x}}\n")));
        let told = refused(&[(".buildr.yml", &big)]);
        assert!(told.contains("what is extended from here on comes to too much"), "{told}");
    }
}
