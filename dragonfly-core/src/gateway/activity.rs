//! Whether anything comes of a connection that carries several requests at a time. Its transport does not tell: a client
//! that takes nothing of what it asked for can keep that busy with other frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;

use super::route::Body;

/// Counts what happens: requests that begin, and parts of answers that are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    happened: AtomicU64,
    lasting: AtomicUsize,
}

/// Something is going on that has times of its own: a tunnel.
#[derive(Debug)]
pub(super) struct Lasting(Activity);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.happens();
        self.0.0.lasting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    pub(super) fn happens(&self) {
        self.0.happened.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lasting(&self) -> Lasting {
        self.0.lasting.fetch_add(1, Ordering::Relaxed);
        Lasting(self.clone())
    }

    /// Resolves once nothing has happened for `bound` and nothing lasts, and before that is twice over.
    pub(super) async fn ceased(self, bound: Duration) {
        let mut seen = self.0.happened.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(bound).await;
            let now = self.0.happened.load(Ordering::Relaxed);
            if now == seen && self.0.lasting.load(Ordering::Relaxed) == 0 {
                return;
            }
            seen = now;
        }
    }

    /// A body whose parts count, and that keeps its request's place until it is dropped.
    pub(super) fn of(self, body: Body, place: impl Send + 'static) -> Body {
        body.map_frame(move |frame| {
            let _ = &place;
            self.happens();
            frame
        })
        .boxed_unsync()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;

    const BOUND: Duration = Duration::from_secs(90);

    #[tokio::test(start_paused = true)]
    async fn it_ceases_when_nothing_happens_any_more() {
        let (activity, started) = (Activity::default(), Instant::now());
        let busy = activity.clone();
        let work = async move {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(60)).await;
                busy.happens();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = activity.ceased(BOUND) => {}
            () = work => {}
        }
        let after = started.elapsed() - Duration::from_secs(600);
        assert!((BOUND..=BOUND * 2).contains(&after), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_cease_while_something_lasts() {
        let (activity, started) = (Activity::default(), Instant::now());
        let tunnel = activity.lasting();
        let lasts = async move {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            drop(tunnel);
        };
        tokio::join!(activity.ceased(BOUND), lasts);
        let after = started.elapsed() - Duration::from_secs(1000);
        assert!((BOUND..=BOUND * 2).contains(&after), "{after:?}");
    }

    #[tokio::test]
    async fn a_body_keeps_its_place() {
        let (places, activity) = (Arc::new(Semaphore::new(1)), Activity::default());
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let body = Full::new(Bytes::from_static(b"x")).map_err(|never| match never {}).boxed_unsync();
        let mut body = activity.clone().of(body, place);
        assert_eq!(places.available_permits(), 0);
        assert!(body.frame().await.unwrap().is_ok() && activity.0.happened.load(Ordering::Relaxed) == 1);
        drop(body);
        assert_eq!(places.available_permits(), 1);
    }
}
