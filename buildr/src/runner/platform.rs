//! Whether a job that asks for a platform of its own can run on this machine.

use protocol::plan::Image;
use tokio::sync::mpsc;

use super::Rooms;
use super::telling::{JobLog, sentence};
use crate::executor::{ExecutorError, OUTPUT_BOUND, Stop, Suits};

/// Looks whether an image's platform runs here; else says why not.
pub(super) async fn look(rooms: &Rooms<'_>, image: &Image, stop: &Stop, log: &JobLog<'_>) -> Result<(), String> {
    let (output, mut printed) = mpsc::channel(OUTPUT_BOUND);
    let asking = async move { rooms.executor.suits(image, &output, stop).await };
    let telling = async {
        while let Some(bytes) = printed.recv().await {
            for line in String::from_utf8_lossy(&bytes).lines() {
                log.say(line).await;
            }
        }
    };
    let platform = image.platform.as_deref().unwrap_or_default();
    match tokio::join!(asking, telling).0 {
        Ok(Suits::Own) => Ok(()),
        Ok(Suits::Foreign) => {
            log.say(&format!("runs here on {platform}, which is not this machine's own platform, and may be slow"))
                .await;
            Ok(())
        }
        Ok(Suits::Not(reason)) => Err(format!("it is for {platform}: {reason}")),
        Err(error @ ExecutorError::Pull { .. }) => Err(format!("it is for {platform}: {}", sentence(&error))),
        // What else is wrong is the job's own to tell.
        Err(_) => Ok(()),
    }
}
