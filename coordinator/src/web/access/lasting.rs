//! Answers that last, such as a log that somebody follows: whether their reader may still look is asked again and again.

use std::io;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use futures_util::stream::{self, StreamExt as _};
use tokio::time::sleep;

/// How often it is asked: so long a reader sees more whose token was revoked.
pub(super) const EVERY: Duration = Duration::from_secs(60);

/// The same answer, that breaks off when `may_look` says no, which it is asked `every` so often. One whose length is known
/// goes on: it ends by itself.
pub(super) fn asked_again<F>(body: Body, every: Duration, may_look: impl Fn() -> F + Send + 'static) -> Body
where
    F: Future<Output = bool> + Send + 'static,
{
    if body.size_hint().exact().is_some() {
        return body;
    }
    let reader = (body.into_data_stream(), Box::pin(sleep(every)), may_look);
    Body::from_stream(stream::try_unfold(reader, move |(mut body, mut until, may_look)| async move {
        loop {
            tokio::select! {
                next = body.next() => {
                    let next = next.transpose().map_err(io::Error::other)?;
                    return Ok::<_, io::Error>(next.map(|bytes| (bytes, (body, until, may_look))));
                }
                () = &mut until => {
                    if !may_look().await {
                        return Err(io::Error::other("its reader may look no more"));
                    }
                    until = Box::pin(sleep(every));
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn who_may_look_no_more_is_sent_no_more() {
        let endless = stream::unfold((), |()| async {
            sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, io::Error>("line\n"), ()))
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let may_look = move || std::future::ready(counted.fetch_add(1, Ordering::SeqCst) < 3);
        let body = asked_again(Body::from_stream(endless), Duration::from_millis(5), may_look);
        let mut seen: Vec<_> = body.into_data_stream().collect().await;
        assert!(seen.pop().unwrap().is_err(), "it is no whole answer");
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        assert!(!seen.is_empty() && seen.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn what_ends_by_itself_is_as_it_was() {
        let short = stream::iter(["a", "b"].map(Ok::<_, io::Error>));
        let never = || std::future::ready(false);
        let text = axum::body::to_bytes(asked_again(Body::from_stream(short), EVERY, never), 9).await.unwrap();
        assert_eq!(&text[..], b"ab");
        assert_eq!(asked_again(Body::from("whole"), EVERY, never).size_hint().exact(), Some(5));
    }
}
