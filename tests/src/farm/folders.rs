//! The folders of one agent, looked into and written to behind its back.

use std::path::{Path, PathBuf};

use super::until;

/// An agent's folders, whether it lives in this process, in one of its own, or not at all.
#[derive(Debug, Clone)]
pub struct Folders {
    state: PathBuf,
    work: PathBuf,
}

impl Folders {
    /// Those that lie in this folder.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        let state = root.join("state");
        let mut work = root;
        work.push("work");
        Self { state, work }
    }

    /// These with the agent's own folder elsewhere: on a disk that can be full.
    #[must_use]
    pub fn with_state(self, state: PathBuf) -> Self {
        Self { state, ..self }
    }

    /// These with the workspaces elsewhere.
    #[must_use]
    pub fn with_work(self, work: PathBuf) -> Self {
        Self { work, ..self }
    }

    /// Its own: name, key, spool, mirrors.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// Where its workspaces are.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.work.clone()
    }

    /// What lies where nothing should while it has no job, and the coordinator has all that it said.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let mut left = files(&self.work());
        left.extend(files(&self.spool()));
        left
    }

    /// What its jobs left, and what it has not said yet, while it may have a place that stands ready for the next.
    #[must_use]
    pub fn left_of_jobs(&self) -> Vec<String> {
        let mut left: Vec<_> = self.workspaces().map(|workspace| workspace.display().to_string()).collect();
        left.extend(files(&self.spool()));
        left
    }

    /// Whether it ever cloned a repository.
    #[must_use]
    pub fn has_cloned(&self) -> bool {
        !files(&self.state().join("mirrors")).is_empty()
    }

    /// Whether it has a workspace, and so a job.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.workspaces().next().is_some()
    }

    /// Those of jobs, whether they have their code or not; and for a moment one that is being made for a job to come.
    pub fn workspaces(&self) -> impl Iterator<Item = PathBuf> {
        let all = std::fs::read_dir(self.work()).into_iter().flatten().flatten().map(|entry| entry.path());
        all.filter(|workspace| !stands_ready(workspace))
    }

    /// Ends the waiting of stages that wait for the file `go`, now or soon, in all of its jobs; waits until there is
    /// one that has its code and was not told yet.
    pub async fn let_go(&self) {
        self.put("go").await;
    }

    /// The same for stages that wait for the file `end`.
    pub async fn let_end(&self) {
        self.put("end").await;
    }

    async fn put(&self, file: &str) {
        until("a job that can be let go", async || (self.let_go_now(file) > 0).then_some(())).await;
    }

    /// The same for a file of any name, in all of its jobs that have their code now. Gives how many.
    pub fn let_go_now(&self, file: &str) -> usize {
        // One that holds nothing yet has to stay so until the code is there.
        let checkouts = self.workspaces().map(|workspace| workspace.join("app"));
        let checkouts = checkouts.filter(|checkout| checkout.join(".buildr.yml").exists());
        // Written once: one that is over, and about to be removed, was told already.
        let told = |file: PathBuf| !file.exists() && std::fs::write(file, "").is_ok();
        checkouts.filter(|checkout| told(checkout.join(file))).count()
    }

    /// Waits until it has ended a job whose end the coordinator does not have yet.
    pub async fn until_a_result(&self) {
        until("a result in the spool", async || {
            let claims = std::fs::read_dir(self.spool()).ok()?.flatten();
            let mut events = claims.filter_map(|claim| std::fs::read_to_string(claim.path().join("events")).ok());
            events.any(|events| events.contains("\"finished\"")).then_some(())
        })
        .await;
    }

    /// Waits until it has told, or tries to tell, that a stage begins.
    pub async fn until_told_of(&self, stage: &str) {
        let begins = format!("\"event\":\"stage_started\",\"stage\":\"{stage}\"");
        until("a stage in the spool", async || {
            let claims = std::fs::read_dir(self.spool()).ok()?.flatten();
            let mut events = claims.filter_map(|claim| std::fs::read_to_string(claim.path().join("events")).ok());
            events.any(|events| events.contains(&begins)).then_some(())
        })
        .await;
    }

    /// Waits until the log of a job's stage, as the agent keeps it, holds this text.
    pub async fn until_logged(&self, stage: &str, text: &str) {
        until("a line in the spool", async || {
            let claims = std::fs::read_dir(self.spool()).ok()?.flatten();
            let mut logs =
                claims.filter_map(|claim| std::fs::read_to_string(claim.path().join("logs").join(stage)).ok());
            logs.any(|log| log.contains(text)).then_some(())
        })
        .await;
    }

    /// Whether a file is in one of its workspaces.
    #[must_use]
    pub fn holds(&self, file: &str) -> bool {
        self.workspaces().any(|workspace| workspace.join("app").join(file).exists())
    }

    /// Waits until the coordinator has all that it had to say.
    pub async fn until_all_said(&self) {
        until("an empty spool", async || files(&self.spool()).is_empty().then_some(())).await;
    }

    /// Waits until no workspace is left.
    pub async fn until_no_work(&self) {
        until("an empty work folder", async || (!self.is_busy()).then_some(())).await;
    }

    fn spool(&self) -> PathBuf {
        self.state().join("spool")
    }
}

/// Whether a workspace is for a job to come. It has a place where its first stage will hand on, and nothing was written
/// to its checkout: that is empty, or lies over what is kept of a repository.
fn stands_ready(workspace: &Path) -> bool {
    let written =
        [workspace.join("app.layers/upper"), workspace.join("app")].into_iter().find(|folder| folder.exists());
    workspace.join("hand-ahead").exists() && written.is_none_or(|folder| files(&folder).is_empty())
}

/// Copies a folder with all that is in it to another place, such as the state of a coordinator that is stopped.
///
/// # Panics
/// When the disk refuses.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for the copy");
    for entry in std::fs::read_dir(from).expect("a folder to copy").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a kind of file").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

/// What lies in a folder, which may not be there.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
