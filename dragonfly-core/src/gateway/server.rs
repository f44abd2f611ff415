//! Accepts clients and speaks HTTP/1.1 with them.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

use super::{Client, Inner, route};

/// For the head of a request: it holds a place meanwhile. Kept connections wait as long for the next one.
const HEAD_MAX: Duration = Duration::from_secs(90);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// After `accept` fails for want of descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn accept(gateway: Arc<Inner>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(gateway.config.connections_max));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            Some((place.ok()?, listener.accept().await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = gateway.stop.cancelled() => return,
        };
        // The semaphore is never closed.
        let Some((place, accepted)) = accepted else { return };
        match accepted {
            Ok((stream, address)) => {
                let place = Place { _permit: Arc::new(place) };
                gateway.tasks.spawn(serve(Arc::clone(&gateway), stream, Client::at(address), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the gateway cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Held by a connection and by the tunnel that it may become.
#[derive(Clone)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

async fn serve(gateway: Arc<Inner>, stream: TcpStream, client: Client, place: Place) {
    // Heads of small answers should not wait for more.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(gateway.config.client_timeout));
    let service = service_fn(|mut request| {
        request.extensions_mut().insert(place.clone());
        let answering = route::answer(Arc::clone(&gateway), client, request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Box::pin(stream)), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = gateway.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = gateway.cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of a client ended");
    }
}
