//! Asking the farm's depot for archives, and bringing them there, again and again while the farm is in trouble: its
//! coordinator may be stopped at any time, and is back soon.

use std::time::{Duration, Instant};

use super::telling::sentence;
use crate::carry::CarryError;
use crate::executor::Stop;

/// How long it is asked.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// How often it is asked without a word, whatever happens: what a stage left that was stopped is kept too, and a
/// connection may break at any time. From then on it is told of, and the stop ends it.
const AT_LEAST: u32 = 4;

/// The wait before the second time; each further one is twice as long, as long as nothing is told.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The wait from then on.
const LATER_WAIT: Duration = Duration::from_secs(5);

/// Does something `once` and again, for as long as the farm's trouble may pass. `cannot` says what waits for it, as the
/// begin of a sentence that is given to `tell`.
///
/// # Errors
/// The last one.
pub(super) async fn patiently<T, Done, Told>(
    stop: &Stop,
    cannot: &str,
    tell: impl FnOnce(String) -> Told,
    once: impl Fn() -> Done,
) -> Result<T, CarryError>
where
    Done: Future<Output = Result<T, CarryError>>,
    Told: Future<Output = ()>,
{
    let until = Instant::now() + PATIENCE;
    let may_pass = |error: &CarryError| matches!(error, CarryError::Depot(error) if error.is_the_farms());
    let mut wait = FIRST_WAIT;
    let mut done = once().await;
    for _ in 1..AT_LEAST {
        if !done.as_ref().is_err_and(may_pass) {
            return done;
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        done = once().await;
    }
    if let Err(error) = &done
        && may_pass(error)
        && !stop.is_cancelled()
    {
        let (why, minutes) = (sentence(error), PATIENCE.as_secs() / 60);
        tell(format!("{cannot} yet: {why}; it is tried again for {minutes} minutes")).await;
    }
    while done.as_ref().is_err_and(may_pass) && Instant::now() < until {
        let again = async {
            tokio::time::sleep(LATER_WAIT).await;
            once().await
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            again = again => done = again,
        }
    }
    done
}
