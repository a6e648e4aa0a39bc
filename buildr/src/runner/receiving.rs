//! What a job receives of those that it needs, put into its checkout; and what of it has no last word.
//!
//! Values that clash end the job: whichever it took, a script would go on with one that nobody chose. Files that clash
//! are only told of. What is kept comes to every later job, asked for or not, and cells of a matrix that each keep a
//! `coverage.xml` or a `dist/` which no later stage looks at are a reasonable file.

use std::path::PathBuf;

use protocol::plan::Kept;
use protocol::{Cause, Ending, JobKey};

use super::container::restore;
use super::job::Job;
use super::joining::same_paths;
use super::patience::patiently;
use super::places::blocking;
use super::telling::sentence;

/// How many files that clash are named.
const NAMED: usize = 10;

impl Job<'_> {
    /// Looks whether the values that it received have a last word, and puts the files into its checkout.
    pub(super) async fn receive(&self) -> Result<(), Ending> {
        self.look_at_values().await?;
        let mut archives = Vec::new();
        for kept in &self.order.kept {
            archives.push(self.restore_kept(kept).await?);
        }
        if let Err(error) = self.tell_clashes(&archives).await {
            self.log.say(&format!("the artifacts of the jobs before could not be compared: {error}")).await;
        }
        Ok(())
    }

    /// A job that runs whatever happened before it, such as `finally`, goes on all the same: it may clean up.
    async fn look_at_values(&self) -> Result<(), Ending> {
        for clash in &self.order.clashes {
            let message = format!(
                "{} and {} hand on different values for {}, and neither waits for the other; \
                 let one wait for the other, or give the values different names",
                clash.one, clash.other, clash.name
            );
            if self.order.so_far.is_none() {
                return Err(Ending::errored(Cause::Manifest, message));
            }
            self.log.say(&message).await;
        }
        Ok(())
    }

    async fn restore_kept(&self, kept: &Kept) -> Result<PathBuf, Ending> {
        let Kept { job, stage, files, .. } = kept;
        let Some(shelf) = &self.shelf else {
            let message = format!("the artifacts of {job} are needed, and there is no place to fetch them from");
            return Err(Ending::errored(Cause::Daemon, message));
        };
        let into = self.places.fresh("fetched");
        let lacking = |error: &dyn std::error::Error| {
            let message = format!("the artifacts of {stage} could not be brought here: {}", sentence(error));
            Ending::errored(Cause::Daemon, message).or_again(true)
        };
        std::fs::create_dir(&into).map_err(|error| lacking(&error))?;
        let cannot = format!("the artifacts of {stage} cannot be brought here");
        let tell = |line: String| async move { self.log.say(&line).await };
        let archive = match patiently(self.stop, &cannot, tell, || shelf.fetch(kept, &into)).await {
            Ok(archive) => archive,
            Err(_) if self.stop.is_cancelled() => return Err(Ending::cancelled(format!("cancelled while {cannot}"))),
            Err(error) => return Err(lacking(&error)),
        };
        restore(archive.clone(), self.checkout.clone()).await.map_err(|error| lacking(&error))?;
        let count = if *files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        self.log.say(&format!("artifacts of {stage}, from {job}: {count}")).await;
        Ok(archive)
    }

    /// Tells of files that two jobs left with different contents of which neither waited for the other.
    async fn tell_clashes(&self, archives: &[PathBuf]) -> std::io::Result<()> {
        let kept = &self.order.kept;
        let beside = |one: usize, other: usize| are_beside(&kept[one], &kept[other]);
        let involved = |place: &usize| (0..kept.len()).any(|other| beside(*place, other));
        let mut unpacked = Vec::new();
        for place in (0..kept.len()).filter(involved) {
            let folder = self.places.fresh("compared");
            std::fs::create_dir(&folder)?;
            restore(archives[place].clone(), folder.clone()).await.map_err(std::io::Error::other)?;
            unpacked.push((place, folder));
        }
        let compared = unpacked.clone();
        let twice = blocking(move || same_paths(&compared)).await?;
        for (_, folder) in &unpacked {
            self.places.discard(folder).await;
        }
        let clashes: Vec<_> = twice.iter().filter(|(one, other, _)| beside(*one, *other)).collect();
        for (one, other, path) in clashes.iter().take(NAMED) {
            let (one, other) = (&kept[*one].job, &kept[*other].job);
            let told = format!(
                "{one} and {other} both leave {} with different contents, and neither waits for the other: that of \
                 {other} is here; let one wait for the other, or give the files different names",
                path.display()
            );
            self.log.say(&told).await;
        }
        if let Some(more @ 1..) = clashes.len().checked_sub(NAMED) {
            self.log.say(&format!("so it is with {more} more files")).await;
        }
        Ok(())
    }
}

/// Whether two archives differ, and it is known that neither of their jobs waited for the other.
fn are_beside(one: &Kept, other: &Kept) -> bool {
    let waited = |after: &Option<Vec<JobKey>>, job: &JobKey| after.as_ref().is_none_or(|after| after.contains(job));
    one.job != other.job
        && one.sha256 != other.sha256
        && !waited(&one.after, &other.job)
        && !waited(&other.after, &one.job)
}
