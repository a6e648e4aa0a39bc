//! What a manifest means: jobs with edges, in which nothing is left to look up.
//!
//! A build of this version is always one job; the list and its edges are what the rest of the farm works with.

mod facts;
mod interpolate;
mod inherit;

use std::collections::HashSet;

use protocol::plan::{Image, MAX_PLAN_BYTES};
use protocol::{JobKey, Plan, PlannedJob, StagePlan, Variable};

pub use facts::{Facts, USUAL_PLATFORM};
pub use inherit::inherited;
pub use interpolate::Names;

use crate::manifest::{self, Inherit, Manifest, ManifestError, Problem, RetrySaid, Source, Span, Spanned};
use interpolate::Emptiness;

/// The image of a manifest that names none.
const DEFAULT_IMAGE: &str = "ubuntu:latest";

/// The key of a build's only job.
const ONLY_JOB: &str = "build";

/// Why a manifest that can be read cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Something that is written there has no meaning in this build.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The plan is longer than what may cross to the coordinator.
    #[error(
        "the plan that this manifest makes is {bytes} bytes long, and a plan is at most {MAX_PLAN_BYTES}; \
         write what is long in files of the repository, and run these in a `script`"
    )]
    TooLong {
        /// Its length in bytes on the wire.
        bytes: usize,
    },
}

/// Makes jobs of a manifest. `names` is what this build is called and why it began.
///
/// # Errors
/// [`PlanError::Manifest`] with every `${name}` that has no meaning; [`PlanError::TooLong`].
pub fn compile(manifest: &Manifest, names: &Names) -> Result<Vec<PlannedJob>, PlanError> {
    let mut expansion = Expansion { names, source: &manifest.source, problems: Vec::new() };
    let plan = plan(manifest, &mut expansion);
    let mut problems = expansion.problems;
    if !problems.is_empty() {
        problems.sort();
        return Err(ManifestError::Faulty { problems, more: 0 }.into());
    }
    let key: JobKey = ONLY_JOB.parse().expect("the only job's key is a job's key");
    let jobs = vec![PlannedJob::new(key, plan)];
    let bytes = serde_json::to_vec(&jobs).expect("a plan is strings, lists and maps, which all have JSON").len();
    if bytes > MAX_PLAN_BYTES { Err(PlanError::TooLong { bytes }) } else { Ok(jobs) }
}

fn plan(manifest: &Manifest, expansion: &mut Expansion<'_>) -> Plan {
    let stages = manifest.stages.iter().map(|stage| StagePlan {
        image: stage.image.as_ref().map(|image| expansion.image(image)),
        docker: stage.docker.or(manifest.defaults.docker).unwrap_or(false),
        not_twice: stage.retry == Some(RetrySaid::Never),
        ..StagePlan::new(stage.name.value.clone(), texts(&stage.script))
    });
    let stages = stages.collect();
    let image = manifest.image.as_ref().map_or_else(|| DEFAULT_IMAGE.into(), |image| expansion.image(image));
    Plan {
        environment: variables(manifest, expansion),
        inherit: match &manifest.environment.inherit {
            None | Some(Inherit::Nothing) => Vec::new(),
            Some(Inherit::Everything) => vec!["*".to_owned()],
            Some(Inherit::Names(globs)) => texts(globs),
        },
        prepare: manifest.prepare.as_ref().map(|prepare| texts(&prepare.script).into()),
        ..Plan::new(image, stages)
    }
}

/// Each name once, where it stands last: there the value is that holds.
fn variables(manifest: &Manifest, expansion: &mut Expansion<'_>) -> Vec<Variable> {
    let mut names = HashSet::new();
    let mut variables = Vec::new();
    for variable in manifest.environment.vars.iter().rev() {
        let Variable { name, value } = &variable.value;
        // Those that do not hold are looked at too, for what is wrong in them.
        let value = expansion.text(value, variable.span, Emptiness::Allowed);
        if names.insert(name.as_str()) {
            variables.push(Variable::new(name.clone(), value));
        }
    }
    variables.reverse();
    variables
}

fn texts(spanned: &[Spanned<String>]) -> Vec<String> {
    spanned.iter().map(|text| text.value.clone()).collect()
}

/// Puts values in the place of names, and collects what is wrong.
struct Expansion<'m> {
    names: &'m Names,
    source: &'m Source,
    problems: Vec<Problem>,
}

impl Expansion<'_> {
    fn image(&mut self, image: &manifest::Image) -> Image {
        self.text(&image.name.value, image.name.span, Emptiness::Refused).into()
    }

    fn text(&mut self, text: &str, span: Span, emptiness: Emptiness) -> String {
        // More than a person mends at once.
        const MAX_PROBLEMS: usize = 20;
        if self.problems.len() == MAX_PROBLEMS {
            return String::new();
        }
        self.names.expand(text, span, self.source, emptiness).unwrap_or_else(|problem| {
            self.problems.push(problem);
            String::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;
    use protocol::job::TriggerKind;

    fn push() -> Names {
        Names {
            branch: Some("main".parse().unwrap()),
            tag: None,
            commit: Some("0123456789012345678901234567890123456789".parse().unwrap()),
            event: TriggerKind::Push,
        }
    }

    fn compiled(text: &str, names: &Names) -> Result<Plan, PlanError> {
        let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap_or_else(|e| panic!("{e}")).manifest;
        compile(&manifest, names).map(|mut jobs| jobs.remove(0).plan)
    }

    fn variable(name: &str, value: &str) -> Variable {
        Variable::new(name, value)
    }

    fn stage(name: &str, image: Option<&str>, script: &[&str], docker: bool) -> StagePlan {
        let script = script.iter().map(|&command| command.to_owned()).collect();
        StagePlan { image: image.map(Image::from), docker, ..StagePlan::new(name.parse().unwrap(), script) }
    }

    #[track_caller]
    fn check_environment(vars: &str, expect: &[(&str, &str)]) {
        let plan = compiled(&format!("environment: {{vars: {vars}}}\nbuild: {{script: make}}"), &push()).unwrap();
        let got: Vec<_> = plan.environment.iter().map(|it| (it.name.as_str(), it.value.as_str())).collect();
        assert_eq!(got, expect, "{vars}");
    }

    fn refused(text: &str) -> String {
        compiled(text, &push()).unwrap_err().to_string()
    }

    #[test]
    fn the_first_manifest_of_all() {
        let text = "\
image: 'dockerimage:tag'
environment:
  inherit: false
  vars:
    - FOO=BAR
    - API_KEY=<something>
stages:
  - build
  - deploy
prepare:
  script:
    - apk add -U git
build:
  script:
    - ./mvnw package
deploy:
  script:
    - docker push ...
";
        let stages =
            vec![stage("build", None, &["./mvnw package"], false), stage("deploy", None, &["docker push ..."], false)];
        let plan = Plan {
            environment: vec![variable("FOO", "BAR"), variable("API_KEY", "<something>")],
            prepare: Some(vec!["apk add -U git".to_owned()].into()),
            ..Plan::new("dockerimage:tag", stages)
        };
        let manifest = crate::manifest::read(text.as_bytes(), ".buildr.yml").unwrap().manifest;
        let key = "build".parse().unwrap();
        assert_eq!(compile(&manifest, &push()).unwrap(), [PlannedJob::new(key, plan)]);
    }

    #[test]
    fn what_holds_when_nothing_is_written() {
        let plan = compiled("build: {script: make}", &push()).unwrap();
        let stages = vec![stage("build", None, &["make"], false)];
        assert_eq!(plan, Plan::new("ubuntu:latest", stages));
    }

    #[test]
    fn a_stage_overrides_the_top_level() {
        let text = "image: a\ndocker: true\nb: {script: [x, [y]]}\nc: {script: z, docker: false, image: d}";
        let expect = [stage("b", None, &["x", "y"], true), stage("c", Some("d"), &["z"], false)];
        assert_eq!(compiled(text, &push()).unwrap().stages, expect);
    }

    #[test]
    fn inherit_becomes_globs() {
        let inherit = |written: &str| {
            let text = format!("environment: {{inherit: {written}}}\nbuild: {{script: make}}");
            compiled(&text, &push()).unwrap().inherit
        };
        assert_eq!(inherit("true"), ["*"]);
        assert!(inherit("false").is_empty());
        assert_eq!(inherit("[LANG, 'HTTP_*']"), ["LANG", "HTTP_*"]);
    }

    #[test]
    fn of_one_name_the_last_value_holds() {
        check_environment("[A=1, B=2, A=3]", &[("B", "2"), ("A", "3")]);
        check_environment("{A: 1, B: 2}", &[("A", "1"), ("B", "2")]);
    }

    #[test]
    fn values_in_the_place_of_names() {
        check_environment("['A=${branch}-${event}']", &[("A", "main-push")]);
        check_environment("['A=${commit}']", &[("A", "0123456789012345678901234567890123456789")]);
        check_environment("['A=[${tag}]']", &[("A", "[]")]);
        check_environment("['A=$${branch} $branch $$ $']", &[("A", "${branch} $branch $$ $")]);
        check_environment("['A=$$${branch}']", &[("A", "$${branch}")]);
        check_environment("{A: 'é${event}é'}", &[("A", "épushé")]);

        let names = Names { tag: Some("v1".to_owned()), branch: None, event: TriggerKind::Tag, ..push() };
        let text = "image: 'a:${tag}'\nbuild: {script: 'echo ${tag} ${nope}', image: 'b:${event}'}";
        let plan = compiled(text, &names).unwrap();
        assert_eq!(plan.image.name, "a:v1");
        assert_eq!(plan.stages, [stage("build", Some("b:tag"), &["echo ${tag} ${nope}"], false)]);
    }

    #[test]
    fn names_without_a_value() {
        assert_snapshot!(refused("\
image: a:${tag}
environment:
  vars:
    - HOME_OF=${HOME}
    - RUST=${matrix.rust}
    - OPEN=${branch
build: {script: make, image: \"b:${nope}\"}
"), @r#"
        .buildr.yml:1:10: this build has no tag, so `${tag}` cannot be part of an image's name
          |
        1 | image: a:${tag}
          |          ^^^^^^
          = write an image that every build can use, or choose it in a `script`

        .buildr.yml:4:15: there is no name "HOME" to put a value in the place of
          |
        4 |     - HOME_OF=${HOME}
          |               ^^^^^^^
          = write one of `${branch}`, `${tag}`, `${commit}`, `${event}`, or `$${` for a `${` that buildr leaves alone

        .buildr.yml:5:12: this version of buildr does not know the name "matrix.rust" yet
          |
        5 |     - RUST=${matrix.rust}
          |            ^^^^^^^^^^^^^^
          = write one of `${branch}`, `${tag}`, `${commit}`, `${event}`, or `$${` for a `${` that buildr leaves alone

        .buildr.yml:6:12: this `${` is not closed
          |
        6 |     - OPEN=${branch
          |            ^^
          = write `${name}`, or `$${` for a `${` that buildr leaves alone

        .buildr.yml:7:33: there is no name "nope" to put a value in the place of
          |
        7 | build: {script: make, image: "b:${nope}"}
          |                                 ^^^^^^^
          = write one of `${branch}`, `${tag}`, `${commit}`, `${event}`, or `$${` for a `${` that buildr leaves alone
        "#);
    }

    #[test]
    fn a_name_is_found_where_it_is_written() {
        let refused = refused("environment: {vars: [\"A=\\x24{nope}\"]}\nbuild: {script: make}");
        assert!(refused.starts_with(".buildr.yml:1:22: there is no name \"nope\""), "{refused}");
    }

    #[test]
    fn a_plan_that_is_too_long() {
        // One megabyte of quotes is two in JSON.
        let text = format!("build: {{script: '{}'}}", "\"".repeat(900_000));
        assert!(matches!(compiled(&text, &push()), Err(PlanError::TooLong { bytes }) if bytes > 1_800_000));
    }
}
