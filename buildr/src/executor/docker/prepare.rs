//! How the image is made that later stages start from, or found where an earlier build has made it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use protocol::StageEnd;

use super::super::{ExecutorError, Output, PrepareOrder, Prepared, Stop};
use super::commit::Commit;
use super::image::{self, Image};
use super::labels;
use super::notice;
use super::prepared::{self, KEPT_FOR, REPOSITORY};
use super::sandbox::{Base, DockerSandbox, blocking, lock};
use super::workspace::{self, Copy};

impl DockerSandbox {
    /// Makes the prepared image, or takes the one that an earlier build of the same contents has made.
    pub(super) async fn make_image(
        &self,
        order: &PrepareOrder,
        base: &Image,
        output: &Output,
        stop: &Stop,
    ) -> Result<Prepared, ExecutorError> {
        let copy = self.copy(order, base, stop).await?;
        let Some(copy) = copy.filter(|_| !stop.is_cancelled()) else { return Ok(Prepared::Ran(StageEnd::Cancelled)) };
        // What sees the whole checkout is another image at each commit, and not worth keeping.
        if !order.cache || order.files.is_none() {
            return self.prepare_in(order, base, copy, None, output, stop).await.map(Prepared::Ran);
        }
        let key = self.key(order, base, &copy).await?;
        let making = Arc::clone(&self.machine);
        let Some(_turn) = making.making.begin(&key, stop).await else { return Ok(Prepared::Ran(StageEnd::Cancelled)) };
        let Some(found) = self.images.kept(&self.machine, &key, base).await? else {
            return self.prepare_in(order, base, copy, Some(&key), output, stop).await.map(Prepared::Ran);
        };
        let line =
            "buildr: prepare is as it was: its image is taken from an earlier build (cache: false makes it anew)\n";
        let _ = output.send(Bytes::from_static(line.as_bytes())).await;
        *lock(&self.prepared) = Some(Base { image: found, key: Some(key) });
        Ok(Prepared::Reused)
    }

    /// Runs `prepare` over its copy of the workspace, and makes an image of what it left.
    async fn prepare_in(
        &self,
        order: &PrepareOrder,
        base: &Image,
        copy: Copy,
        key: Option<&str>,
        output: &Output,
        stop: &Stop,
    ) -> Result<StageEnd, ExecutorError> {
        let (container, end) = self.live(&order.stage, base, &copy.folder, false, output, stop).await?;
        let made = if end.passed() { self.commit(&container, base, order, key).await } else { Ok(()) };
        self.remove_aside(container);
        made?;
        let written = blocking("look at what prepare wrote", move || copy.written()).await?;
        notice::warn_of_writes(&self.order.mount, &written, output).await;
        Ok(end)
    }

    async fn key(&self, order: &PrepareOrder, base: &Image, copy: &Copy) -> Result<String, ExecutorError> {
        let (order, base, mount, folder) = (order.clone(), base.clone(), self.order.mount.clone(), copy.folder.clone());
        blocking("read the files of prepare", move || prepared::key(&order, &base, &mount, &folder)).await
    }

    /// Makes an image of what `prepare` left: this job's alone, or everybody's under its key.
    async fn commit(
        &self,
        container: &str,
        base: &Image,
        order: &PrepareOrder,
        key: Option<&str>,
    ) -> Result<(), ExecutorError> {
        let tag = key.map_or_else(|| tag(&self.order.job), str::to_owned);
        let labels = match key {
            Some(_) => labels::of_kept_for(KEPT_FOR, &self.labels.owner),
            None => self.labels.of_stage(order.stage.name.as_str()),
        };
        // Before it is asked for: what comes of that may never be heard.
        self.commits.store(true, Ordering::Relaxed);
        let (engine, powers) = (&self.machine.engine, self.machine.powers().await);
        let doing = "keep what prepare made as an image";
        let commit = Commit { container, name: REPOSITORY, tag: &tag, base: &base.config, labels, doing };
        let id = commit.make(engine, powers).await?;
        match key {
            Some(key) => {
                self.machine.pulled.record(&prepared::name(key, powers), &id);
                self.machine.pulled.use_image(&id).into_iter().for_each(|used| self.images.keep(used));
            }
            None => self.usage.set_image(image::grown(engine, &base.id, &id).await),
        }
        *lock(&self.prepared) = Some(Base { image: Image { id, ..base.clone() }, key: key.map(str::to_owned) });
        Ok(())
    }

    /// A copy of the workspace that `prepare` may write to; nothing when it was told to stop.
    async fn copy(&self, order: &PrepareOrder, base: &Image, stop: &Stop) -> Result<Option<Copy>, ExecutorError> {
        let only = order.files.as_deref().map(prepared::globs).transpose()?;
        let is_owner = base.runs_as_root() && !self.machine.powers().await.remapped;
        let (original, watched) = (self.order.workspace.clone(), stop.clone());
        let copied = blocking("copy the workspace for prepare", move || {
            if !is_owner {
                workspace::open_to_all(&original)?;
            }
            Copy::make(&original, only.as_ref(), &watched)
        });
        let copied = copied.await?;
        if let Some(copy) = &copied {
            self.usage.add_folder(&copy.folder);
            lock(&self.copies).push(copy.folder.clone());
        }
        Ok(copied)
    }
}

/// A job's name as the tag of an image.
fn tag(job: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
    let tag: String = job.chars().map(allowed).take(100).collect();
    let tag = tag.trim_start_matches(['.', '-']);
    if tag.is_empty() { "job".to_owned() } else { tag.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_becomes_a_tag() {
        let check = |job: &str, expected: &str| assert_eq!(tag(job), expected);
        check("0192-ab", "0192-ab");
        check("--x", "x");
        check("a b/c", "a-b-c");
        check("", "job");
    }
}
