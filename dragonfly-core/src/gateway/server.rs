//! Accepts clients and speaks HTTP with them: HTTP/1.1, and within TLS HTTP/2 as well.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;

use super::activity::Activity;
use super::intercept::Inside;
use super::{Client, Inner, route};

/// For the head of a request: it holds a place meanwhile. Kept connections wait as long for the next one.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(90);

/// The longest head of a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Requests at a time on a connection of HTTP/2; on all of them together as many as there may be connections.
pub(super) const STREAMS_MAX: u32 = 64;

/// What is written of an answer before its client takes it, on HTTP/2.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// After `accept` fails for want of descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn accept(gateway: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = async {
            let place = Arc::clone(&gateway.places).acquire_owned().await;
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
    speak(gateway, Box::pin(stream), (client, place), None, Version::One).await;
}

/// Serves a client that takes this gateway for another host. Boxed: such a connection begins with a request of one that is
/// served as above.
pub(super) fn serve_inside<S>(
    gateway: Arc<Inner>,
    stream: TlsStream<S>,
    inside: Inside,
    (client, place): (Client, Place),
) -> BoxFuture<'static, ()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let version = if two { Version::Two } else { Version::One };
    speak(gateway, stream, (client, place), Some(inside), version).boxed()
}

/// Of HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

async fn speak<S>(
    gateway: Arc<Inner>,
    stream: S,
    (client, place): (Client, Place),
    inside: Option<Inside>,
    version: Version,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stop, cut) = (gateway.stop.clone(), gateway.cut.clone());
    // On HTTP/1.1 what is not asked for and what is not taken have times of their own.
    let (activity, bound) = (Activity::default(), gateway.config.client_timeout.max(HEAD_MAX));
    let counted = activity.clone();
    let service = service_fn(move |mut request| {
        request.extensions_mut().insert(place.clone());
        if let Some(inside) = inside.clone() {
            request.extensions_mut().insert(inside);
        }
        let (gateway, counted) = (Arc::clone(&gateway), counted.clone());
        async move {
            if version == Version::One {
                return Ok::<_, Infallible>(route::answer(gateway, client, request).await);
            }
            counted.happens();
            let place = Arc::clone(&gateway.streams).acquire_owned().await;
            let answer = route::answer(gateway, client, request).await;
            counted.happens();
            // The semaphore is never closed.
            let Ok(place) = place else { return Ok(answer) };
            Ok(answer.map(|body| counted.of(body, place)))
        }
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    let http = match version {
        Version::One => http.http1_only(),
        Version::Two => http.http2_only(),
    };
    let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = activity.ceased(bound), if version == Version::Two => Ok(()),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection => ended,
                () = cut.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection of a client ended");
    }
}
