//! `buildr repro`: a build of the farm on this machine, by its own plan: the same commit, images, values and cells.

use std::collections::{BTreeSet, HashSet};
use std::io::stdout;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use protocol::api::Repro;
use protocol::course::{self, Member};
use protocol::job::WorkOrder;
use protocol::plan::{BuildPlan, Gate};
use protocol::{BuildNumber, Ending, JobId, JobKey, PlannedJob, RepoUrl, StageName, Variable, task};
use url::Url;

use super::super::containers::{ContainerArgs, own_environment};
use super::super::globals::Globals;
use super::super::look::Look;
use super::super::secrets::{SecretArgs, from_environment};
use super::super::terminal::{Frame, Header, Next, Style, Terminal};
use super::super::{CliError, build_number, elsewhere};
use super::error::RunError;
use super::life::{Life, sweep};
use super::screen::{Hearing, Screen, frame, hear_signals, tick};
use super::{CACHE_BYTES, cores, over, owner, plain, results};
use crate::carry::cache::CacheStore;
use crate::executor::docker::{DockerExecutor, DockerSettings};
use crate::executor::{KeepContainers, Stop};
use crate::git::Checkouts;
use crate::process::folders;
use crate::runner::{self, Answer, Gatekeeper, Place, Rooms, SocketMode, SocketPolicy, Source, Ways, WorkFolder};

/// Do a build of the farm on this machine: the same commit, plan, images and values
///
/// The code is cloned with your own keys, and secrets are yours to give: the farm hands out none. What was planned there
/// runs here, whatever the branch has by now.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The build's number, or the address of its page
    #[arg(value_name = "BUILD|URL", value_parser = which)]
    build: Which,

    /// Only this job, such as "test (os=alpine)", and those that it needs
    #[arg(long, value_name = "KEY")]
    job: Option<JobKey>,

    /// A secret whose value is that of the environment's variable of this name (may be repeated)
    #[arg(long = "secret", value_name = "NAME")]
    own_secrets: Vec<String>,

    /// Secrets.
    #[command(flatten)]
    secrets: SecretArgs,

    /// Show the output of all stages as it comes, where several run at once too
    #[arg(long, short)]
    verbose: bool,

    /// Print one JSON object per line, and nothing else: what happens, and what is printed
    #[arg(long)]
    json: bool,

    /// How many jobs run at once [default: the cores]
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZero<usize>>,

    /// Where to leave the output of every stage and the files that are kept: a folder that is new, empty, or an earlier
    /// run's [default: .buildr-out in this folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// How containers are run.
    #[command(flatten)]
    containers: ContainerArgs,
}

/// Which build is meant, and of which farm when that is said too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Which {
    build: BuildNumber,
    server: Option<Url>,
}

fn which(text: &str) -> Result<Which, String> {
    let Some(mut server) = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return build_number(text).map(|build| Which { build, server: None });
    };
    let (before, number) = server.path().rsplit_once("builds/").ok_or("the address of a build ends like /builds/12")?;
    let number = number.split('/').next().unwrap_or_default();
    let (build, before) = (build_number(number)?, before.to_owned());
    server.set_path(&before);
    server.set_query(None);
    server.set_fragment(None);
    Ok(Which { build, server: Some(server) })
}

/// Builds, shows it, and ends with the build's exit code.
pub(in crate::cli) async fn run(args: Args, globals: &Globals) -> Result<u8, CliError> {
    let farm = globals.farm_at(args.build.server.as_ref())?;
    let mut repro = farm.repro(args.build.build).await?;
    if let Some(job) = &args.job {
        repro.jobs = with_needs(&repro, job)?;
    }
    let mut secrets = args.secrets.read().map_err(RunError::Secrets)?;
    secrets.extend(from_environment(&args.own_secrets).map_err(RunError::Secrets)?);
    check_secrets(&repro, &secrets)?;
    let order = order(&repro)?;
    let here = std::env::current_dir().map_err(|source| RunError::Disk {
        doing: "find the folder",
        path: PathBuf::from("."),
        source,
    })?;
    let life = Life::begin(&folders::cache("run")?)?;
    let docker = args.containers.docker(&life.owner(), life.boot);
    let executor = DockerExecutor::connect(DockerSettings { ..docker }).await.map_err(RunError::Executor)?;
    let work = args.containers.work_dir.clone().unwrap_or_else(|| life.folder.join("work"));
    let work = WorkFolder::at(&work).map_err(RunError::Work)?;
    sweep(&life, &work, &args.containers).await?;
    let (record, _) = results::begin(args.out.as_deref(), &here, &life)?;
    let style = Style {
        frame: if args.json { Frame::Json } else { frame() },
        look: Look::of_stdout(globals.color()),
        verbose: args.verbose,
    };
    let screen: Screen = Arc::new(Terminal::new(stdout(), style, record));
    let header = header(&order, executor.version());
    screen.header(&header).map_err(CliError::unseen)?;
    let checkouts = elsewhere::mirrors(false)?;
    let (executor, screen) = (&executor, &screen);
    let reproduced =
        Reproduced { args: &args, repro: &repro, order: &order, secrets: &secrets, life: &life, executor, screen };
    // Heard until the results are left, too.
    let (ending, _hearing) = reproduced.carry_out(&work, &checkouts).await?;
    let again = globals.command(&format!("restart {}", repro.build.0));
    over(screen, &header, &ending, (&[], false), |_| Next { commands: vec![("on the farm", again)] })
}

/// A job and all that it needs, in the order of the plan.
fn with_needs(repro: &Repro, wanted: &JobKey) -> Result<Vec<PlannedJob>, CliError> {
    let members: Vec<Member> = repro.jobs.iter().map(Member::planned).collect();
    let Some(place) = repro.jobs.iter().position(|job| job.key == *wanted) else {
        let keys: Vec<String> = repro.jobs.iter().map(|job| format!("{:?}", job.key.as_str())).collect();
        let what = format!("build {} has no job {:?}", repro.build, wanted.as_str());
        return Err(CliError::Usage { what, instead: Some(format!("--job with one of {}", keys.join(", "))) });
    };
    let before: HashSet<usize> = course::before(&members, place).into_iter().chain([place]).collect();
    let jobs = repro.jobs.iter().enumerate().filter(|(at, _)| before.contains(at));
    Ok(jobs.map(|(_, job)| job.clone()).collect())
}

/// Whether all secrets are given that are asked for. The farm gave them to a trusted build alone.
fn check_secrets(repro: &Repro, given: &[Variable]) -> Result<(), CliError> {
    let of_job = |job: &PlannedJob| {
        let stages = job.plan.stages.iter().flat_map(|stage| &stage.secrets);
        let prepare = job.plan.prepare.iter().flat_map(|prepare| &prepare.secrets);
        stages.chain(prepare).map(|secret| secret.from.clone()).collect::<Vec<_>>()
    };
    let asked: BTreeSet<String> = repro.jobs.iter().flat_map(of_job).collect();
    let missing: Vec<String> =
        asked.into_iter().filter(|name| given.iter().all(|secret| secret.name != *name)).collect();
    if missing.is_empty() || !repro.trusted {
        return Ok(());
    }
    let options: Vec<String> = missing.iter().map(|name| format!("--secret {name}")).collect();
    Err(CliError::Usage {
        what: format!("build {} asks for secrets that the farm hands to nobody: {}", repro.build, missing.join(", ")),
        instead: Some(format!(
            "{} with their values in the environment, or --secret-file NAME=FILE",
            options.join(" ")
        )),
    })
}

fn order(repro: &Repro) -> Result<WorkOrder, CliError> {
    let usage = |what| CliError::Usage { what, instead: None };
    if repro.jobs.is_empty() {
        return Err(usage(format!("build {} came to no plan, so there is nothing to do again", repro.build)));
    }
    if repro.commit.is_none() && !repro.jobs.iter().all(|job| job.plan.clone.none) {
        return Err(usage(format!(
            "build {} never came to its code, so nobody knows of which commit it is",
            repro.build
        )));
    }
    let repo = own_url(&repro.repo).parse::<RepoUrl>().map_err(|error| usage(format!("{}: {error}", repro.repo)))?;
    let mut order = WorkOrder::new(JobId::fresh(), repro.event, repo);
    order.build = Some(repro.build);
    order.trusted = repro.trusted;
    order.branch.clone_from(&repro.branch);
    order.commit.clone_from(&repro.commit);
    order.default_branch.clone_from(&repro.default_branch);
    order.origin.clone_from(&repro.origin);
    order.inputs.clone_from(&repro.inputs);
    Ok(order)
}

/// A repository's URL without what the farm hides of it: whatever password it has, yours is another.
fn own_url(shown: &str) -> String {
    const HIDDEN: &str = "***";
    let Ok(mut url) = Url::parse(shown) else { return shown.to_owned() };
    // Neither fails where there was one before.
    if url.password() == Some(HIDDEN) {
        url.set_password(None).ok();
    } else if url.username() == HIDDEN {
        url.set_username("").ok();
    } else {
        return shown.to_owned();
    }
    url.into()
}

fn header(order: &WorkOrder, docker: Option<&str>) -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION"),
        project: format!("{} build {}", order.repo.short_name(), order.build.unwrap_or(BuildNumber(0))),
        commit: order.commit.as_ref().map(|commit| commit.short().to_owned()),
        branch: order.branch.as_ref().map(ToString::to_string),
        changed: 0,
        docker: docker.map(plain),
    }
}

/// All that the build is made with here.
struct Reproduced<'a> {
    args: &'a Args,
    repro: &'a Repro,
    order: &'a WorkOrder,
    secrets: &'a [Variable],
    life: &'a Life,
    executor: &'a DockerExecutor,
    screen: &'a Screen,
}

impl Reproduced<'_> {
    /// Gives how it ended, and what is to be held as long as signals are heard.
    async fn carry_out(&self, work: &WorkFolder, checkouts: &Checkouts) -> Result<(Ending, Hearing), RunError> {
        let Self { args, order, life, screen, .. } = *self;
        let archives = screen.look_at(|_, record| record.archives());
        let reports = |job: Option<&JobKey>, stage: &StageName| {
            screen.look_at(|account, record| record.reports_path(account, job, stage))
        };
        let caches = CacheStore::at(life.folder.join("caches"), CACHE_BYTES);
        let own_environment = own_environment();
        let rooms = Rooms {
            includes: Some(checkouts),
            source: Source::Clone(checkouts),
            executor: self.executor,
            work,
            // Code that the farm does not trust is not trusted here.
            socket: &SocketPolicy {
                mode: if order.trusted { SocketMode::Asked } else { SocketMode::Never },
                ..SocketPolicy::default()
            },
            own_environment: &own_environment,
            more_environment: &[],
            secrets: self.secrets,
            times: args.containers.limits.times(),
            agent: "local",
            stage_parallelism: cores(),
            archives: Some(&archives),
            reports: Some(&reports),
            caches: Some(&caches),
            keep: KeepContainers::Nothing,
            visitor: None,
            ready: Mutex::default(),
        };
        let ways = Ways { jobs: args.jobs.map_or_else(cores, NonZero::get), gatekeeper: self };
        let stop = Stop::new();
        let path = Path::new(".").to_owned();
        let problem = |source| RunError::Disk { doing: "hear signals in", path, source };
        let signals = hear_signals(Arc::clone(screen), stop.clone()).map_err(problem)?;
        let clock = task::spawn("clock", tick(Arc::clone(screen)));
        let ending = runner::run_build(order, &rooms, &ways, &**screen, &stop).await;
        clock.abort();
        Ok((ending, signals))
    }
}

#[async_trait]
impl Gatekeeper for Reproduced<'_> {
    /// What was planned there is what runs here, whatever the same manifest would mean today.
    fn look_over(&self, jobs: &mut Vec<PlannedJob>, build: &mut BuildPlan) -> Result<(), String> {
        jobs.clone_from(&self.repro.jobs);
        *build = self.repro.plan.clone();
        Ok(())
    }

    async fn answer(&self, job: &PlannedJob, _gate: &Gate) -> Answer {
        // What a person let begin there is for no other machine to do, unless it is asked for by its name.
        let values = self.repro.inputs.clone();
        if self.insists(job) {
            Answer::Open(values)
        } else {
            Answer::Skip("it waits for a person on the farm".to_owned())
        }
    }

    fn place(&self, job: &PlannedJob) -> Place {
        owner::place_here(job)
    }

    fn insists(&self, job: &PlannedJob) -> bool {
        self.args.job.as_ref() == Some(&job.key)
    }
}

#[cfg(test)]
mod tests {
    use protocol::Plan;
    use protocol::job::{Origin, TriggerKind};
    use protocol::plan::{SecretRequest, StagePlan};

    use super::*;

    #[test]
    fn a_build_by_its_number_or_its_page() {
        let check = |text: &str, number: u64, server: Option<&str>| {
            let server = server.map(|server| server.parse().unwrap());
            assert_eq!(which(text), Ok(Which { build: BuildNumber(number), server }), "{text}");
        };
        check("12", 12, None);
        check("#12", 12, None);
        check("https://ci.example.org/builds/12", 12, Some("https://ci.example.org/"));
        check("http://h:8700/farm/builds/3/logs/x?a=b#L1", 3, Some("http://h:8700/farm/"));
        for wrong in ["twelve", "https://ci.example.org/", "https://ci.example.org/builds/x"] {
            assert!(which(wrong).is_err(), "{wrong}");
        }
    }

    fn job(key: &str, needs: &[&str], secrets: &[&str]) -> PlannedJob {
        let request = |name: &&str| SecretRequest {
            from: (*name).to_owned(),
            variable: "X".to_owned(),
            file: false,
            secure: None,
        };
        let stage = StagePlan::new("test".parse().unwrap(), vec!["true".to_owned()]);
        let stage = StagePlan { secrets: secrets.iter().map(request).collect(), ..stage };
        let needs = needs.iter().map(|need| need.parse().unwrap()).collect();
        PlannedJob { needs, ..PlannedJob::new(key.parse().unwrap(), Plan::new("x", vec![stage])) }
    }

    fn repro() -> Repro {
        Repro {
            build: BuildNumber(12),
            repo: "https://***@example.org/x".to_owned(),
            branch: Some("main".parse().unwrap()),
            commit: Some("0123456789".repeat(4).parse().unwrap()),
            default_branch: None,
            event: TriggerKind::Push,
            origin: Origin::default(),
            inputs: vec![Variable::new("A", "1")],
            trusted: true,
            jobs: vec![job("make", &[], &[]), job("other", &[], &["KEY"]), job("test (os=a)", &["make"], &["TOKEN"])],
            plan: BuildPlan::default(),
        }
    }

    fn shown(error: &CliError) -> String {
        let mut shown = Vec::new();
        error.show(&mut shown, false).unwrap();
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn one_job_with_all_that_it_needs() {
        let jobs = with_needs(&repro(), &"test (os=a)".parse().unwrap()).unwrap();
        assert_eq!(jobs.iter().map(|job| job.key.as_str()).collect::<Vec<_>>(), ["make", "test (os=a)"]);
        let error = with_needs(&repro(), &"tset".parse().unwrap()).unwrap_err();
        let expect =
            "error: build #12 has no job \"tset\"\n  try: --job with one of \"make\", \"other\", \"test (os=a)\"\n";
        assert_eq!(shown(&error), expect);
    }

    #[test]
    fn secrets_that_are_missing_are_named() {
        let error = check_secrets(&repro(), &[Variable::new("KEY", "x")]).unwrap_err();
        let expect = "error: build #12 asks for secrets that the farm hands to nobody: TOKEN\n  try: --secret TOKEN with their values in the environment, or --secret-file NAME=FILE\n";
        assert_eq!(shown(&error), expect);
        assert!(check_secrets(&repro(), &[Variable::new("KEY", "x"), Variable::new("TOKEN", "y")]).is_ok());
        // It was given none there either.
        assert!(check_secrets(&Repro { trusted: false, ..repro() }, &[]).is_ok());
    }

    #[test]
    fn passwords_are_ones_own() {
        for (shown, expect) in [
            ("https://***@example.org/x", "https://example.org/x"),
            ("https://me:***@example.org/x", "https://me@example.org/x"),
            ("git@example.org:x.git", "git@example.org:x.git"),
            ("/srv/x", "/srv/x"),
        ] {
            assert_eq!(own_url(shown), expect);
        }
    }

    #[test]
    fn the_order_is_that_of_the_farm() {
        let made = order(&repro()).unwrap();
        assert_eq!((made.repo.reveal(), made.trigger), ("https://example.org/x", TriggerKind::Push));
        assert_eq!((made.build, made.commit, made.inputs), (Some(BuildNumber(12)), repro().commit, repro().inputs));
        assert!(order(&Repro { jobs: Vec::new(), ..repro() }).is_err());
        assert!(order(&Repro { commit: None, ..repro() }).is_err());
    }
}
