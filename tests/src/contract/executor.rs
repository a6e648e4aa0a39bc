//! What every [`Executor`] keeps to.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use buildr::executor::{
    Executor, ExecutorError, KeepContainers, MountOrder, OUTPUT_BOUND, PrepareOrder, Prepared, Sandbox, SandboxOrder,
    SocketGrant, StageOrder, StandbyOrder, Stop, Suits,
};
use bytes::Bytes;
use protocol::{Cause, StageEnd, StageName, Variable};
use tokio::sync::mpsc;

/// One implementation, with a workspace of its own.
#[async_trait]
pub trait ExecutorRig: Send + Sync {
    /// It.
    fn executor(&self) -> &dyn Executor;

    /// The folder on this machine's disk that is the workspace.
    fn workspace(&self) -> PathBuf;

    /// An image that can be had.
    fn image(&self) -> String;

    /// A command in the words of this implementation.
    fn say(&self, command: &Do) -> String;

    /// How many things that were made are still there.
    async fn left(&self) -> usize;
}

/// What a script can be made of everywhere.
#[derive(Debug)]
pub enum Do {
    /// Prints a line.
    Print(&'static str),
    /// Prints so many bytes.
    Bytes(usize),
    /// Prints a variable's value as a line.
    Env(&'static str),
    /// Ends with this code.
    Exit(i64),
    /// Goes on until it is stopped.
    Hang,
    /// From here on SIGTERM does nothing.
    IgnoreTerm,
    /// Writes a file.
    Write(&'static str),
    /// Fails unless the file is there.
    Expect(&'static str),
    /// Goes on until the file is in the workspace.
    Await(&'static str),
}

/// How a stage ended, and what it printed but for the announcements of its commands.
pub type Ended = (Result<StageEnd, ExecutorError>, Vec<u8>);

/// Ended with 0.
pub const PASSED: StageEnd = StageEnd::Exited { code: 0 };

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);

/// The order for a place over the rig's workspace.
pub fn order(rig: &dyn ExecutorRig) -> SandboxOrder {
    SandboxOrder {
        job: "contract".to_owned(),
        workspace: rig.workspace(),
        mount: "/app".to_owned(),
        image: rig.image().into(),
        docker_socket: SocketGrant::Never,
        privileged: false,
        keep: KeepContainers::Nothing,
    }
}

/// A place over the rig's workspace.
pub async fn open(rig: &dyn ExecutorRig) -> Box<dyn Sandbox> {
    rig.executor().open(order(rig)).await.expect("a place is opened")
}

/// A stage of these commands.
pub fn stage(rig: &dyn ExecutorRig, script: &[Do]) -> StageOrder {
    scripted(script.iter().map(|command| rig.say(command)).collect())
}

/// A stage of this script.
pub fn scripted(script: Vec<String>) -> StageOrder {
    StageOrder::new("test".parse::<StageName>().expect("a name"), script, Duration::from_secs(120))
}

/// Runs a stage and reads what it prints.
pub async fn run(sandbox: &dyn Sandbox, stage: &StageOrder) -> Ended {
    run_until(sandbox, stage, "\0", |_| {}).await
}

/// Runs a stage, reads what it prints, and acts once this has been printed.
pub async fn run_until(sandbox: &dyn Sandbox, stage: &StageOrder, seen: &str, act: impl Fn(&Stop)) -> Ended {
    let (output, printed) = mpsc::channel(OUTPUT_BOUND);
    let stop = Stop::new();
    let running = async {
        let end = sandbox.run(stage, &output, &stop).await;
        drop(output);
        end
    };
    tokio::join!(running, read(printed, seen, || act(&stop)))
}

/// Prepares without a cache, and reads what that prints.
pub async fn prepare(sandbox: &dyn Sandbox, stage: &StageOrder) -> Ended {
    prepare_as(sandbox, &PrepareOrder { stage: stage.clone(), files: None, cache: false }).await
}

/// Prepares, and reads what that prints.
pub async fn prepare_as(sandbox: &dyn Sandbox, order: &PrepareOrder) -> Ended {
    let (output, printed) = mpsc::channel(OUTPUT_BOUND);
    let stop = Stop::new();
    let running = async {
        let end = sandbox.prepare(order, &output, &stop).await.map(Prepared::end);
        drop(output);
        end
    };
    tokio::join!(running, read(printed, "\0", || {}))
}

async fn read(mut printed: mpsc::Receiver<Bytes>, seen: &str, act: impl Fn()) -> Vec<u8> {
    let (mut all, mut acted, mut looked_at) = (Vec::new(), false, 0);
    while let Some(bytes) = printed.recv().await {
        all.extend_from_slice(&bytes);
        if !acted && all[looked_at..].windows(seen.len()).any(|window| window == seen.as_bytes()) {
            acted = true;
            act();
        }
        looked_at = all.len().saturating_sub(seen.len());
    }
    let lines = all.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"$ "));
    lines.collect::<Vec<_>>().concat()
}

/// Closes a place, and looks whether anything stayed.
pub async fn close(rig: &dyn ExecutorRig, sandbox: Box<dyn Sandbox>) {
    sandbox.close().await.expect("a place is closed");
    assert_eq!(rig.left().await, 0, "something stayed after the place was closed");
}

fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}

/// Output comes whole and in order, at whatever pace it is read.
pub async fn output_is_whole(rig: &dyn ExecutorRig) {
    const BYTES: usize = 5_000_000;
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::Print("begin"), Do::Bytes(BYTES), Do::Print("end")]);
    let (end, printed) = run(&*sandbox, &script).await;
    assert_eq!(end.expect("it runs"), PASSED);
    assert_eq!(printed.len(), BYTES + "begin\nend\n".len());
    assert!(printed.starts_with(b"begin\n") && printed.ends_with(b"end\n"));
    close(rig, sandbox).await;
}

/// A stage whose output nobody reads runs to its end.
pub async fn nobody_needs_to_listen(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let (output, printed) = mpsc::channel(OUTPUT_BOUND);
    drop(printed);
    let script = stage(rig, &[Do::Bytes(3_000_000), Do::Exit(3)]);
    let end = sandbox.run(&script, &output, &Stop::new()).await;
    assert_eq!(end.expect("it runs"), StageEnd::Exited { code: 3 });
    close(rig, sandbox).await;
}

/// What a script ends with is how its stage ends, and nothing of it runs after that.
pub async fn a_code_is_an_end(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    for code in [0, 1, 7, 125, 137, 255] {
        let script = stage(rig, &[Do::Print("before"), Do::Exit(code), Do::Print("after")]);
        let (end, printed) = run(&*sandbox, &script).await;
        assert_eq!((end.expect("it runs"), text(&printed)), (StageEnd::Exited { code }, "before\n".to_owned()));
    }
    close(rig, sandbox).await;
}

/// The environment arrives as it is given, later wins.
pub async fn the_environment_arrives(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Env("FOO"), Do::Env("BAR")]);
    let awkward = "a 'b' \"c\" $HOME `id` \\ größe ∞";
    script.environment = vec![Variable::new("FOO", "1"), Variable::new("BAR", awkward), Variable::new("FOO", "2")];
    let (end, printed) = run(&*sandbox, &script).await;
    assert_eq!((end.expect("it runs"), text(&printed)), (PASSED, format!("2\n{awkward}\n")));
    close(rig, sandbox).await;
}

/// What a stage writes to the workspace stays, what it writes elsewhere does not.
pub async fn only_the_workspace_stays(rig: &dyn ExecutorRig) {
    std::fs::write(rig.workspace().join("given"), "x").expect("the workspace is writable");
    let sandbox = open(rig).await;
    let first = stage(
        rig,
        &[Do::Expect("given"), Do::Write("made"), Do::Write("/tmp/elsewhere"), Do::Expect("/tmp/elsewhere")],
    );
    assert_eq!(run(&*sandbox, &first).await.0.expect("it runs"), PASSED);
    assert_eq!(run(&*sandbox, &stage(rig, &[Do::Expect("/app/made")])).await.0.expect("it runs"), PASSED);
    assert!(!run(&*sandbox, &stage(rig, &[Do::Expect("/tmp/elsewhere")])).await.0.expect("it runs").passed());
    assert!(rig.workspace().join("made").exists());
    close(rig, sandbox).await;
}

/// Stages start from what `prepare` left, except in the workspace; a stage with an image of its own does not.
pub async fn stages_start_from_what_was_prepared(rig: &dyn ExecutorRig) {
    std::fs::write(rig.workspace().join("given"), "x").expect("the workspace is writable");
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::Expect("given"), Do::Write("/opt/tool"), Do::Write("in-the-workspace")]);
    assert_eq!(prepare(&*sandbox, &script).await.0.expect("it runs"), PASSED);
    let check = async |sandbox: &dyn Sandbox, image: Option<String>, path: &'static str, expected: bool| {
        let mut script = stage(rig, &[Do::Expect(path)]);
        script.image = image.map(Into::into);
        assert_eq!(run(sandbox, &script).await.0.expect("it runs").passed(), expected, "{path}");
    };
    check(&*sandbox, None, "/opt/tool", true).await;
    check(&*sandbox, None, "in-the-workspace", false).await;
    check(&*sandbox, None, "given", true).await;
    check(&*sandbox, Some(rig.image()), "/opt/tool", false).await;
    assert!(!rig.workspace().join("in-the-workspace").exists());
    close(rig, sandbox).await;
}

/// A `prepare` that ends badly is an end, not an error.
pub async fn a_failed_prepare_is_an_end(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let (end, printed) = prepare(&*sandbox, &stage(rig, &[Do::Print("oh"), Do::Exit(4)])).await;
    assert_eq!((end.expect("it runs"), text(&printed)), (StageEnd::Exited { code: 4 }, "oh\n".to_owned()));
    close(rig, sandbox).await;
}

/// A cancel ends a stage soon, and what it had printed is there.
pub async fn a_cancel_ends_it(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::Print("ready"), Do::Hang]);
    let running = run_until(&*sandbox, &script, "ready\n", Stop::cancel);
    let (end, printed) = tokio::time::timeout(SOON, running).await.expect("a cancel ends a stage soon");
    assert_eq!(end.expect("it runs"), StageEnd::Cancelled);
    assert!(text(&printed).starts_with("ready\n"));
    close(rig, sandbox).await;
}

/// A stage that was cancelled before it began does nothing.
pub async fn a_cancel_may_come_first(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let (output, mut printed) = mpsc::channel(OUTPUT_BOUND);
    let stop = Stop::new();
    stop.cancel();
    let end = sandbox.run(&stage(rig, &[Do::Write("made")]), &output, &stop).await;
    assert_eq!(end.expect("it is no error"), StageEnd::Cancelled);
    drop(output);
    assert_eq!(printed.recv().await, None);
    assert!(!rig.workspace().join("made").exists());
    close(rig, sandbox).await;
}

/// What ignores SIGTERM is ended when the grace is over.
pub async fn grace_has_an_end(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::IgnoreTerm, Do::Print("ready"), Do::Hang]);
    let running = run_until(&*sandbox, &script, "ready\n", Stop::cancel);
    let (end, _) = tokio::time::timeout(SOON, running).await.expect("the grace has an end");
    assert_eq!(end.expect("it runs"), StageEnd::Cancelled);
    close(rig, sandbox).await;
}

/// A kill ends at once what ignores SIGTERM.
pub async fn a_kill_waits_for_nothing(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::IgnoreTerm, Do::Print("ready"), Do::Hang]);
    let running = run_until(&*sandbox, &script, "ready\n", Stop::kill);
    let (end, _) = tokio::time::timeout(SOON, running).await.expect("a kill ends a stage soon");
    assert_eq!(end.expect("it runs"), StageEnd::Cancelled);
    close(rig, sandbox).await;
}

/// A stage that runs longer than it may is ended, and told apart from a cancelled one.
pub async fn time_has_a_limit(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Print("ready"), Do::Hang]);
    script.timeout = Duration::from_millis(1500);
    let running = run(&*sandbox, &script);
    let (end, printed) = tokio::time::timeout(SOON, running).await.expect("the time limit holds");
    assert_eq!(end.expect("it runs"), StageEnd::TimedOut { limit_ms: 1500 });
    assert!(text(&printed).starts_with("ready\n"));
    close(rig, sandbox).await;
}

/// A stage that prints nothing for longer than it may is ended, and told apart from others.
pub async fn silence_has_a_limit(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Print("ready"), Do::Hang]);
    script.idle = Some(Duration::from_millis(1500));
    let running = run(&*sandbox, &script);
    let (end, printed) = tokio::time::timeout(SOON, running).await.expect("the limit holds");
    assert_eq!(end.expect("it runs"), StageEnd::IdleTimedOut { limit_ms: 1500 });
    assert!(text(&printed).starts_with("ready\n"));
    close(rig, sandbox).await;
}

/// A stage whose reader is slow is not silent.
pub async fn a_slow_reader_is_no_silence(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Bytes(OUTPUT_BOUND * (256 << 10)), Do::Print("end")]);
    let idle = Duration::from_millis(1500);
    script.idle = Some(idle);
    let (output, mut printed) = mpsc::channel(1);
    let stop = Stop::new();
    let running = async {
        let end = sandbox.run(&script, &output, &stop).await;
        drop(output);
        end
    };
    let reading = async {
        let mut last = printed.recv().await;
        // The pace of this reader is what is tested.
        tokio::time::sleep(idle * 2).await;
        while let Some(bytes) = printed.recv().await {
            last = Some(bytes);
        }
        last.expect("it prints something")
    };
    let (end, last) = tokio::join!(running, reading);
    assert_eq!(end.expect("it runs"), PASSED);
    assert!(last.ends_with(b"end\n"));
    close(rig, sandbox).await;
}

/// A stage that asks for the Docker socket where it is not given does not run.
pub async fn the_socket_is_refused(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Write("made")]);
    script.docker = true;
    let error = run(&*sandbox, &script).await.0.expect_err("it is refused");
    assert_eq!(error.cause(), Cause::Limit);
    assert!(error.to_string().contains("docker_socket"), "{error}");
    assert!(!rig.workspace().join("made").exists());
    close(rig, sandbox).await;
}

/// A folder is discarded with all that is in it; one that is not there is fine.
pub async fn folders_are_discarded(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::Write("made")]);
    assert_eq!(run(&*sandbox, &script).await.0.expect("it runs"), PASSED);
    close(rig, sandbox).await;
    let folder = rig.workspace();
    rig.executor().discard(&folder).await.expect("it is removed");
    assert!(!folder.exists());
    rig.executor().discard(&folder).await.expect("removing what is gone is fine");
}

/// Two stages that wait for each other come to their ends.
pub async fn stages_run_at_once(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let (one, other) =
        (stage(rig, &[Do::Write("one"), Do::Await("other")]), stage(rig, &[Do::Write("other"), Do::Await("one")]));
    let ended = async { tokio::join!(run(&*sandbox, &one), run(&*sandbox, &other)) };
    let (one, other) = tokio::time::timeout(SOON, ended).await.expect("neither waits for the other's end");
    assert_eq!((one.0.expect("it runs"), other.0.expect("it runs")), (PASSED, PASSED));
    close(rig, sandbox).await;
}

/// A stage with a folder of its own sees that, and not the job's.
pub async fn a_stage_may_have_a_folder_of_its_own(rig: &dyn ExecutorRig) {
    let folder = rig.workspace().join("view");
    std::fs::create_dir(&folder).expect("the workspace is writable");
    std::fs::write(folder.join("given"), "x").expect("the workspace is writable");
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Expect("/app/given"), Do::Write("made")]);
    script.folder = Some(folder.clone());
    assert_eq!(run(&*sandbox, &script).await.0.expect("it runs"), PASSED);
    assert!(folder.join("made").exists() && !rig.workspace().join("made").exists());
    close(rig, sandbox).await;
}

/// A stage of a script, and of what follows it.
fn followed(rig: &dyn ExecutorRig, script: &[Do], on_failure: &[Do], after: &[Do]) -> StageOrder {
    let said = |commands: &[Do]| commands.iter().map(|command| rig.say(command)).collect();
    StageOrder { on_failure: said(on_failure), after: said(after), ..stage(rig, script) }
}

/// Which of these were printed, in this order.
fn told(printed: &[u8], words: &[&str]) -> Vec<String> {
    text(printed).lines().filter(|line| words.contains(line)).map(str::to_owned).collect()
}

/// `on_failure` and `after` know how the script ended, and change nothing about that.
pub async fn what_follows_a_script_runs_in_any_case(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    for (code, expected) in [(0, &["passed"][..]), (7, &["alas", "failed", "failed"])] {
        let script = followed(
            rig,
            &[Do::Print("work"), Do::Exit(code)],
            &[Do::Print("alas"), Do::Env("BUILDR_STAGE_STATUS"), Do::Exit(1)],
            &[Do::Env("BUILDR_STAGE_STATUS"), Do::Exit(9)],
        );
        let (end, printed) = run(&*sandbox, &script).await;
        assert_eq!(end.expect("it runs"), StageEnd::Exited { code });
        assert_eq!(told(&printed, &["passed", "failed", "alas"]), expected);
    }
    close(rig, sandbox).await;
}

/// `after` runs also when a script had to be killed for a cancel; `on_failure` does not.
pub async fn what_follows_a_script_runs_after_a_cancel(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    for script in [&[Do::Print("ready"), Do::Hang][..], &[Do::IgnoreTerm, Do::Print("ready"), Do::Hang]] {
        let script = followed(
            rig,
            script,
            &[Do::Print("alas")],
            &[Do::Env("BUILDR_STAGE_STATUS"), Do::Write("tidied"), Do::Expect("tidied"), Do::Print("tidy")],
        );
        let running = run_until(&*sandbox, &script, "ready\n", Stop::cancel);
        let (end, printed) = tokio::time::timeout(SOON, running).await.expect("a cancel ends a stage soon");
        assert_eq!(end.expect("it runs"), StageEnd::Cancelled);
        assert_eq!(told(&printed, &["cancelled", "alas", "tidy"]), ["cancelled", "tidy"], "{}", text(&printed));
    }
    close(rig, sandbox).await;
}

/// `on_failure` and `after` run also when a stage took too long.
pub async fn what_follows_a_script_runs_after_its_time(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let mut script = followed(rig, &[Do::Print("ready"), Do::Hang], &[], &[Do::Env("BUILDR_STAGE_STATUS")]);
    script.timeout = Duration::from_millis(1500);
    let running = run(&*sandbox, &script);
    let (end, printed) = tokio::time::timeout(SOON, running).await.expect("the time limit holds");
    assert_eq!(end.expect("it runs"), StageEnd::TimedOut { limit_ms: 1500 });
    assert_eq!(told(&printed, &["timed_out"]), ["timed_out"], "{}", text(&printed));
    close(rig, sandbox).await;
}

/// A kill ends a stage at once, with all that would follow.
pub async fn a_kill_leaves_nothing_to_follow(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = followed(rig, &[Do::Print("ready"), Do::Hang], &[], &[Do::Print("tidy")]);
    let running = run_until(&*sandbox, &script, "ready\n", Stop::kill);
    let (end, printed) = tokio::time::timeout(SOON, running).await.expect("a kill ends a stage soon");
    assert_eq!(end.expect("it runs"), StageEnd::Cancelled);
    assert_eq!(told(&printed, &["tidy"]), [""; 0]);
    close(rig, sandbox).await;
}

/// How a script ended is no affair of the script itself.
pub async fn a_script_does_not_know_its_end(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script = stage(rig, &[Do::Env("BUILDR_STAGE_STATUS"), Do::Print("over")]);
    let (end, printed) = run(&*sandbox, &script).await;
    assert_eq!((end.expect("it runs"), text(&printed).as_str()), (PASSED, "\nover\n"));
    close(rig, sandbox).await;
}

/// An image that names no platform is of this place's own. To look leaves nothing behind.
pub async fn a_places_own_platform_suits(rig: &dyn ExecutorRig) {
    let (output, printed) = mpsc::channel(OUTPUT_BOUND);
    let (image, stop) = (rig.image().into(), Stop::new());
    let asked = async move { rig.executor().suits(&image, &output, &stop).await };
    let (suits, printed) = tokio::join!(asked, read(printed, "\0", || {}));
    assert_eq!((suits.expect("it can be told"), text(&printed).as_str()), (Suits::Own, ""));
    assert_eq!(rig.left().await, 0, "something stayed");
}

/// Folders of this machine are seen where they are mounted, and what is written to them stays.
pub async fn mounts_are_seen(rig: &dyn ExecutorRig) {
    let folder = rig.workspace().join("mounted");
    std::fs::create_dir(&folder).expect("the workspace is writable");
    std::fs::write(folder.join("given"), "x").expect("the workspace is writable");
    let sandbox = open(rig).await;
    let mut script = stage(rig, &[Do::Expect("/run/extra/given"), Do::Write("/run/extra/made")]);
    script.mounts = vec![MountOrder { source: folder.clone(), target: "/run/extra".to_owned(), read_only: false }];
    assert_eq!(run(&*sandbox, &script).await.0.expect("it runs"), PASSED);
    assert!(folder.join("made").exists());
    close(rig, sandbox).await;
}

/// What stands ready changes nothing of what a stage sees and does, whether it was meant for it or not, and is gone with
/// its place.
pub async fn what_stands_ready_changes_nothing(rig: &dyn ExecutorRig) {
    let sandbox = open(rig).await;
    let script =
        stage(rig, &[Do::Env("FOO"), Do::Expect("late"), Do::Write("/tmp/elsewhere"), Do::Write("made"), Do::Exit(3)]);
    sandbox.stand_by(&script);
    // All of this is told to it only when it runs.
    std::fs::write(rig.workspace().join("late"), "x").expect("the workspace is writable");
    let script = StageOrder { environment: vec![Variable::new("FOO", "1")], ..script };
    let (end, printed) = run(&*sandbox, &script).await;
    assert_eq!((end.expect("it runs"), text(&printed)), (StageEnd::Exited { code: 3 }, "1\n".to_owned()));
    // What is meant for one stage is not given to another.
    let other = rig.workspace().parent().expect("it lies somewhere").join("other");
    std::fs::create_dir(&other).expect("there is room beside it");
    sandbox.stand_by(&script);
    let elsewhere = stage(rig, &[Do::Env("FOO"), Do::Write("there")]);
    let (end, printed) = run(&*sandbox, &StageOrder { folder: Some(other.clone()), ..elsewhere }).await;
    assert_eq!((end.expect("it runs"), text(&printed)), (PASSED, "\n".to_owned()));
    assert!(other.join("there").exists() && !rig.workspace().join("there").exists());
    assert!(!run(&*sandbox, &stage(rig, &[Do::Expect("/tmp/elsewhere")])).await.0.expect("it runs").passed());
    std::fs::remove_dir_all(&other).or_else(|_| std::fs::remove_file(&other)).ok();
    rig.executor().discard(&other).await.expect("it is removed");
    // Nobody comes for this one, nor for the one that takes its place.
    sandbox.stand_by(&script);
    sandbox.stand_by(&script);
    close(rig, sandbox).await;
}

/// A place may stand ready before its job is known; it is that job's then, or nobody's.
pub async fn a_place_stands_ready_for_its_job(rig: &dyn ExecutorRig) {
    let script = stage(rig, &[Do::Expect("late"), Do::Print("here"), Do::Write("made")]);
    let ready = StandbyOrder {
        place: SandboxOrder { job: String::new(), ..order(rig) },
        stage: StageOrder { script: Vec::new(), ..script.clone() },
        prepared: None,
    };
    rig.executor().stand_by(ready.clone()).await.expect("nothing stood there before");
    std::fs::write(rig.workspace().join("late"), "x").expect("the workspace is writable");
    let sandbox = open(rig).await;
    let (end, printed) = run(&*sandbox, &script).await;
    assert_eq!((end.expect("it runs"), text(&printed)), (PASSED, "here\n".to_owned()));
    assert!(rig.workspace().join("made").exists());
    close(rig, sandbox).await;
    for _ in 0..2 {
        rig.executor().stand_by(ready.clone()).await.expect("what stood there before is removed");
    }
    rig.executor().stand_down(&rig.workspace()).await.expect("it is removed");
    rig.executor().stand_down(&rig.workspace()).await.expect("there is nothing to remove");
    rig.executor().retire().await;
    assert_eq!(rig.left().await, 0, "something stands ready for nobody");
}
