//! Serves HTTP on a listener until told to stop, then lets what is under way finish.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::Caller;
use crate::passing::Sending;

/// Connections at a time on one listener; more wait in the kernel's queue.
pub(super) const CONNECTIONS_MAX: usize = 256;
/// For the head of a request: local clients are quick, and a silent one must not hold a place.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(10);
/// After `accept` fails for want of descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Something that accepts connections.
pub(super) trait Listener: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Caller)>> + Send;
}

impl Listener for UnixListener {
    type Stream = Sending;
    async fn accept(&self) -> io::Result<(Sending, Caller)> {
        let (stream, slot) = Sending::new(Self::accept(self).await?.0);
        Ok((stream, Caller::Local(slot)))
    }
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn accept(&self) -> io::Result<(Self::Stream, Caller)> {
        Ok((Self::accept(self).await?.0, Caller::Remote))
    }
}

/// What all listeners of a daemon have in common.
#[derive(Clone)]
pub(super) struct Serving {
    /// Once it is cancelled nothing more is accepted, and each connection ends with the request that it is serving.
    pub(super) stop: CancellationToken,
    /// Counts what is under way.
    pub(super) tasks: TaskTracker,
    /// How long a client may take nothing of what it asked for.
    pub(super) client_timeout: Duration,
}

/// Spawns the accepting task and, through it, one per connection.
pub(super) fn serve(listener: impl Listener, router: axum::Router, serving: Serving) {
    let Serving { stop, tasks: connections, client_timeout } = serving;
    connections.clone().spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, stream) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => return,
            };
            match stream {
                Ok((stream, caller)) => {
                    let router = router.clone().layer(Extension(caller));
                    let connection = connection(stream, router, stop.clone(), client_timeout);
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(e) => {
                    tracing::warn!("cannot accept a connection: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: axum::Router,
    stop: CancellationToken,
    client_timeout: Duration,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(client_timeout));
    let stream = Box::pin(stream);
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match result {
        Err(e) if has_timed_out(&e) => {
            tracing::info!(
                "a client took nothing of what it asked for, for {client_timeout:?}: its connection is closed"
            );
        }
        Err(e) => tracing::debug!("a connection ended: {e}"),
        Ok(()) => {}
    }
}

/// Whether what the connection failed for is that nothing could be written for too long.
fn has_timed_out(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}
