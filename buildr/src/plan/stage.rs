//! One stage of a manifest as a plan has it: defaults merged in, names replaced by their values.

use std::collections::HashSet;

use protocol::plan::{
    Artifacts, Cache, Coverage, Image, Prepare, Reports, Resources, SecretRequest, Service, WORKSPACE,
};
use protocol::{StagePlan, Variable};

use super::findings::Findings;
use super::scope::{Empty, Scope};
use crate::manifest::{self, Inherit, Manifest, RetrySaid, Spanned, Stage, quoted};

/// How long a service may take to be ready when nothing is said.
const READY_TIMEOUT_MS: u64 = 60_000;

/// A stage, without what it waits for.
pub(super) fn stage(stage: &Stage, manifest: &Manifest, scope: &Scope<'_>, findings: &mut Findings<'_>) -> StagePlan {
    let defaults = &manifest.defaults;
    let platform = platform(stage, manifest, scope, findings);
    let plain = |text: &Spanned<String>, findings: &mut Findings<'_>| scope.text(text, Empty::Allowed, findings);
    let dir = stage.dir.as_ref().or(manifest.dir.as_ref()).map(|dir| plain(dir, findings));
    let retry = stage.retry.as_ref().or(defaults.retry.as_ref());
    let caches = stage.cache.as_ref().unwrap_or(&defaults.cache);
    one_mount_each(caches, manifest, scope, findings);
    StagePlan {
        image: stage.image.as_ref().map(|it| image(it, platform.as_deref(), scope, findings)),
        docker: stage.docker.or(defaults.docker).unwrap_or(false),
        not_twice: retry == Some(&RetrySaid::Never),
        environment: variables(&stage.environment.vars, scope, findings),
        inherit: stage.environment.inherit.as_ref().map(inherit),
        dir,
        shell: stage.shell.as_ref().or(defaults.shell.as_ref()).map(|shell| shell.value.clone()),
        timeout_ms: stage.timeout_ms,
        idle_timeout_ms: stage.idle_timeout_ms.or(defaults.idle_timeout_ms),
        allow_failure: stage.allow_failure.clone().unwrap_or_default(),
        retry: match retry {
            Some(RetrySaid::Times(retry)) => Some(retry.clone()),
            Some(RetrySaid::Never) | None => None,
        },
        services: stage.services.iter().map(|it| service(it, scope, findings)).collect(),
        artifacts: stage.artifacts.as_ref().map(|it| artifacts(it, scope, findings)),
        reports: reports(&stage.reports, scope, findings),
        cache: caches.iter().map(|it| cache(it, scope, findings)).collect(),
        secrets: secrets(&defaults.secrets, &stage.secrets),
        on_failure: texts(&stage.on_failure),
        after: texts(&stage.after),
        resources: merged(stage.resources, defaults.resources),
        privileged: stage.privileged.or(defaults.privileged).unwrap_or(false),
        ..StagePlan::new(stage.name.value.clone(), texts(&stage.script))
    }
}

/// The platform that is asked for a stage.
pub(super) fn platform(
    stage: &Stage,
    manifest: &Manifest,
    scope: &Scope<'_>,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let said = stage.platform.as_ref().or(manifest.defaults.platform.as_ref())?;
    Some(scope.text(said, Empty::NoPartOf("a platform"), findings))
}

/// An image. `platform` is that of all containers of its stage.
pub(super) fn image(
    image: &manifest::Image,
    platform: Option<&str>,
    scope: &Scope<'_>,
    findings: &mut Findings<'_>,
) -> Image {
    let mut text = |said: &Spanned<String>, what: &'static str| scope.text(said, Empty::NoPartOf(what), findings);
    Image {
        name: text(&image.name, "an image's name"),
        pull: image.pull,
        user: image.user.as_ref().map(|user| text(user, "a user")),
        entrypoint: image.entrypoint.clone(),
        platform: image
            .platform
            .as_ref()
            .map(|platform| text(platform, "a platform"))
            .or_else(|| platform.map(ToOwned::to_owned)),
    }
}

/// What makes the prepared image.
pub(super) fn prepare(
    prepare: &manifest::Prepare,
    manifest: &Manifest,
    scope: &Scope<'_>,
    findings: &mut Findings<'_>,
) -> Prepare {
    Prepare {
        script: texts(&prepare.script),
        files: prepare.files.as_ref().map(|files| scope.texts(files, Empty::Allowed, findings)),
        cache: prepare.cache.unwrap_or(true),
        secrets: secrets(&[], &prepare.secrets),
        environment: variables(&prepare.environment.vars, scope, findings),
        timeout_ms: prepare.timeout_ms,
        shell: prepare.shell.as_ref().or(manifest.defaults.shell.as_ref()).map(|shell| shell.value.clone()),
    }
}

/// A service.
pub(super) fn service(service: &manifest::Service, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Service {
    Service {
        name: service.name.value.clone(),
        image: image(&service.image, None, scope, findings),
        environment: variables(&service.environment, scope, findings),
        command: scope.texts(&service.command, Empty::Allowed, findings),
        ready: service.ready.clone(),
        ready_timeout_ms: service.ready_timeout_ms.unwrap_or(READY_TIMEOUT_MS),
        resources: service.resources.unwrap_or_default(),
        privileged: service.privileged,
    }
}

/// Each name once, where it stands last: there the value is that holds.
pub(super) fn variables(said: &[Spanned<Variable>], scope: &Scope<'_>, findings: &mut Findings<'_>) -> Vec<Variable> {
    // Those that do not hold are looked at too, for what is wrong in them.
    let expand = |variable: &Spanned<Variable>| {
        let Variable { name, value } = &variable.value;
        Variable::new(name.clone(), scope.at(value, variable.span, Empty::Allowed, findings))
    };
    last_of_each(said.iter().map(expand).collect())
}

/// Each name once, where it stands last.
pub(super) fn last_of_each(mut variables: Vec<Variable>) -> Vec<Variable> {
    let mut names = HashSet::new();
    variables.reverse();
    variables.retain(|variable| names.insert(variable.name.clone()));
    variables.reverse();
    variables
}

/// As a plan has it: globs.
pub(super) fn inherit(inherit: &Inherit) -> Vec<String> {
    match inherit {
        Inherit::Nothing => Vec::new(),
        Inherit::Everything => vec!["*".to_owned()],
        Inherit::Names(globs) => texts(globs),
    }
}

fn artifacts(artifacts: &manifest::Artifacts, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Artifacts {
    Artifacts {
        paths: scope.texts(&artifacts.paths, Empty::Allowed, findings),
        exclude: scope.texts(&artifacts.exclude, Empty::Allowed, findings),
        when: artifacts.when,
        expire_ms: artifacts.expire_ms,
    }
}

fn cache(cache: &manifest::Cache, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Cache {
    Cache {
        paths: scope.texts(&cache.paths, Empty::Allowed, findings),
        name: cache.name.as_ref().map(|name| scope.text(name, Empty::Allowed, findings)),
        key: scope.texts(&cache.key, Empty::Allowed, findings),
        fallback: scope.texts(&cache.fallback, Empty::Allowed, findings),
        policy: cache.policy,
    }
}

/// Tells of caches that would be mounted where something else is: Docker mounts one thing at one place.
fn one_mount_each(caches: &[manifest::Cache], manifest: &Manifest, scope: &Scope<'_>, findings: &mut Findings<'_>) {
    // What is wrong in the names of both is told by those who make them.
    let unheard = &mut Findings::new(scope.source);
    let workspace = manifest.workspace.as_ref();
    let workspace = workspace.map_or(WORKSPACE.to_owned(), |it| scope.text(it, Empty::Allowed, unheard));
    let workspace = place(&workspace);
    let mut mounted = HashSet::from([workspace.clone()]);
    for said in caches.iter().flat_map(|cache| &cache.paths) {
        let path = scope.text(said, Empty::Allowed, unheard);
        let at = place(&path);
        // Those below the workspace are brought there, not mounted.
        if !path.starts_with(['/', '~']) || mounted.insert(at.clone()) {
            continue;
        }
        let shown = quoted(&path);
        if at == workspace {
            let help = "write the folders in it that are to be kept, such as `target`";
            findings.problem(said.span, format!("{shown} cannot be cached: the checkout lies there"), help);
        } else {
            let help = "write it once: two things cannot be mounted at one place";
            findings.problem(said.span, format!("{shown} is cached twice"), help);
        }
    }
}

/// A path as one place has it, however it is written.
fn place(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

fn reports(reports: &manifest::Reports, scope: &Scope<'_>, findings: &mut Findings<'_>) -> Reports {
    Reports {
        junit: scope.texts(&reports.junit, Empty::Allowed, findings),
        coverage: reports.coverage.as_ref().map(|coverage| match coverage {
            manifest::Coverage::File(file) => Coverage::File(scope.text(file, Empty::Allowed, findings)),
            // A regular expression has `$` and `{` of its own.
            manifest::Coverage::Log(pattern) => Coverage::Log(pattern.value.clone()),
        }),
    }
}

/// The top level's, then the stage's own; of two for one variable the stage's.
fn secrets(top: &[Spanned<SecretRequest>], own: &[Spanned<SecretRequest>]) -> Vec<SecretRequest> {
    let mut secrets: Vec<SecretRequest> = Vec::new();
    for request in top.iter().chain(own) {
        secrets.retain(|other| other.variable != request.value.variable);
        secrets.push(request.value.clone());
    }
    secrets
}

/// What a stage says of its bounds, and of the others what the top level says.
fn merged(own: Option<Resources>, top: Option<Resources>) -> Resources {
    let (own, top) = (own.unwrap_or_default(), top.unwrap_or_default());
    Resources {
        cpu_milli: own.cpu_milli.or(top.cpu_milli),
        memory_bytes: own.memory_bytes.or(top.memory_bytes),
        pids: own.pids.or(top.pids),
        shm_bytes: own.shm_bytes.or(top.shm_bytes),
    }
}

pub(super) fn texts(spanned: &[Spanned<String>]) -> Vec<String> {
    spanned.iter().map(|text| text.value.clone()).collect()
}
