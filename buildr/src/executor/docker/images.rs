//! What each name of an image means within one job, whatever is pulled or tagged meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::plan;
use tokio::sync::Mutex as Turn;

use super::super::{ExecutorError, Output, Stop};
use super::image::{self, Image};
use super::machine::Machine;
use super::prepared;
use super::pulled::Use;

/// How long an image that is being removed is left alone before it is looked for again.
const GOING: Duration = Duration::from_millis(100);

/// By name and platform: what an image is, once somebody had it. Whoever wants it next waits for him.
type Known = HashMap<(String, Option<String>), Arc<Turn<Option<Image>>>>;

/// The images of one job.
#[derive(Debug, Default)]
pub(super) struct Images {
    known: Mutex<Known>,
    /// Keeps them from being removed to make room.
    uses: Mutex<Vec<Use>>,
}

impl Images {
    /// An image, pulled at most once in this job; nothing when it was told to stop.
    pub(super) async fn obtain(
        &self,
        machine: &Machine,
        wanted: &plan::Image,
        output: &Output,
        stop: &Stop,
    ) -> Result<Option<Image>, ExecutorError> {
        let turn = self.turn(wanted);
        let mut known = tokio::select! {
            known = turn.lock() => known,
            () = stop.cancelled() => return Ok(None),
        };
        if let Some(known) = &*known {
            return Ok(Some(known.used_as(wanted)));
        }
        let Machine { engine, settings, pulled, .. } = machine;
        let (found, used) = loop {
            let Some(found) = image::obtain(engine, wanted, settings, pulled, output, stop).await? else {
                return Ok(None);
            };
            match pulled.use_image(&found.id) {
                Some(used) => break (found, used),
                // It is just being removed to make room.
                None => tokio::time::sleep(GOING).await,
            }
        };
        self.keep(used);
        machine.remember(&found.id);
        *known = Some(found.clone());
        Ok(Some(found))
    }

    /// An image that nobody needs to pull or to wait for; nothing where somebody does.
    pub(super) async fn at_hand(
        &self,
        machine: &Machine,
        wanted: &plan::Image,
    ) -> Result<Option<Image>, ExecutorError> {
        let turn = self.turn(wanted);
        let Ok(mut known) = turn.try_lock() else { return Ok(None) };
        if let Some(known) = &*known {
            return Ok(Some(known.used_as(wanted)));
        }
        let Some(found) = image::at_hand(&machine.engine, wanted).await? else { return Ok(None) };
        let Some(used) = machine.pulled.use_image(&found.id) else { return Ok(None) };
        self.keep(used);
        *known = Some(found.clone());
        Ok(Some(found))
    }

    /// The prepared image with this key, if it is there, and is kept from now on while this job goes on.
    pub(super) async fn kept(
        &self,
        machine: &Machine,
        key: &str,
        base: &Image,
    ) -> Result<Option<Image>, ExecutorError> {
        let found = prepared::find(&machine.engine, machine.powers().await, key, base).await?;
        // One that is being removed at this moment is as good as gone.
        Ok(found.filter(|found| {
            let used = machine.pulled.use_image(&found.id);
            let is_kept = used.is_some();
            used.into_iter().for_each(|used| self.keep(used));
            is_kept
        }))
    }

    /// The digest of what a name meant, when it was used.
    pub(super) async fn digest(&self, wanted: &plan::Image) -> Option<String> {
        self.turn(wanted).lock().await.as_ref().map(|image| image.digest.clone())
    }

    /// Keeps an image from being removed while this job goes on.
    pub(super) fn keep(&self, used: Use) {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).push(used);
    }

    fn turn(&self, wanted: &plan::Image) -> Arc<Turn<Option<Image>>> {
        let key = (wanted.name.clone(), wanted.platform.clone());
        Arc::clone(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }
}
