//! Accepts clients and speaks HTTP with them: HTTP/1.1, and HTTP/2 with those that begin so or agree on it within TLS.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use http::{Method, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, Lasting};
use super::fail::Refusal;
use super::intercept::Inside;
use super::own::Own;
use super::{Client, Inner, route};

/// For the head of a request: it holds a place meanwhile. Kept connections wait as long for the next one.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(90);

/// The longest head of a request, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// The same over HTTP/2, where there are several at a time: those of clients are some hundred bytes, with a token some
/// thousand.
pub(super) const HEADERS_MAX: u32 = 16 << 10;

/// Requests at a time on a connection of HTTP/2; on all of them together as many as there may be connections. Tunnels are
/// as many on all of them, and counted apart.
pub(super) const STREAMS_MAX: u32 = 64;

/// What is written of an answer before its client takes it, on HTTP/2.
pub(super) const SEND_BUFFER_BYTES: usize = 128 << 10;

/// After `accept` fails for want of descriptors, it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn accept(gateway: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = async {
            let place = Arc::clone(&gateway.places).acquire_owned().await.ok()?;
            let kept = Kept::of(&gateway);
            let accepted = listener.accept().await;
            drop(kept);
            Some((place, accepted))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = gateway.stop.cancelled() => return,
        };
        // The semaphore is never closed.
        let Some((place, accepted)) = accepted else { return };
        match accepted {
            Ok((stream, address)) => {
                let place = Place { _permit: Arc::new(place), _lasting: None };
                gateway.tasks.spawn(serve(Arc::clone(&gateway), stream, Client::at(address), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the gateway cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place that nobody has yet.
struct Kept<'a>(&'a Inner);

impl<'a> Kept<'a> {
    fn of(gateway: &'a Inner) -> Self {
        gateway.kept.fetch_add(1, Ordering::AcqRel);
        Self(gateway)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Held by a connection and by the tunnel that it, or a request on it, may become.
#[derive(Clone)]
pub(super) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
    /// For a tunnel among other requests.
    _lasting: Option<Arc<Lasting>>,
}

async fn serve(gateway: Arc<Inner>, stream: TcpStream, client: Client, place: Place) {
    // Heads of small answers should not wait for more.
    let _ = stream.set_nodelay(true);
    let of = Of::Gateway(stream.local_addr().ok().map(Own));
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(gateway.config.client_timeout));
    speak(gateway, Box::pin(stream), (client, place), of).await;
}

/// Whom a client speaks with.
#[derive(Clone)]
enum Of {
    /// This gateway, at this address. Which HTTP it is the client's first bytes say.
    Gateway(Option<Own>),
    /// Who it takes this gateway for.
    Other(Inside, Version),
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
    speak(gateway, stream, (client, place), Of::Other(inside, version)).boxed()
}

/// Of HTTP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

async fn speak<S>(gateway: Arc<Inner>, stream: S, (client, place): (Client, Place), of: Of)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (stop, cut) = (gateway.stop.clone(), gateway.cut.clone());
    let (activity, bound) = (Activity::default(), gateway.config.client_timeout.max(HEAD_MAX));
    let (counted, begun) = (activity.clone(), Arc::new(OnceLock::new()));
    let (first, whose) = (Arc::clone(&begun), of.clone());
    let window = gateway.windows.draw();
    let (of_request, of_connection) = (window.request(), window.connection());
    let service = service_fn(move |mut request| {
        match &whose {
            Of::Gateway(own) => {
                if let Some(own) = *own {
                    own.lead(&mut request);
                }
            }
            Of::Other(inside, _) => {
                request.extensions_mut().insert(inside.clone());
            }
        }
        let (gateway, counted, place) = (Arc::clone(&gateway), counted.clone(), place.clone());
        let _ = first.set(request.version());
        if request.version() < http::Version::HTTP_2 {
            window.give_back();
            request.extensions_mut().insert(place);
            return async move { Ok::<_, Infallible>(route::answer(gateway, client, request).await) }.left_future();
        }
        async move {
            counted.happens();
            // Who waits for a tunnel could wait for one that it has: of those too many are refused.
            let place = if request.method() == Method::CONNECT {
                let Ok(permit) = Arc::clone(&gateway.tunnels).try_acquire_owned() else {
                    return Ok(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "there are too many tunnels").plain());
                };
                Place { _permit: Arc::new(permit), _lasting: Some(Arc::new(counted.lasting())) }
            } else {
                // The semaphore is never closed.
                let permit = Arc::clone(&gateway.streams).acquire_owned().await.ok();
                permit.map_or(place, |permit| Place { _permit: Arc::new(permit), _lasting: None })
            };
            request.extensions_mut().insert(place.clone());
            let answer = route::answer(gateway, client, request).await;
            counted.happens();
            Ok(answer.map(|body| counted.of(body, place)))
        }
        .right_future()
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(of_request)
        .initial_connection_window_size(of_connection)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    let http = match of {
        Of::Gateway(_) => http,
        Of::Other(_, Version::One) => http.http1_only(),
        Of::Other(_, Version::Two) => http.http2_only(),
    };
    let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let silent = async move {
        // For the first head: until then nobody knows which HTTP it will be.
        tokio::time::sleep(HEAD_MAX).await;
        match begun.get() {
            None => {}
            Some(version) if *version == http::Version::HTTP_2 => activity.ceased(bound).await,
            // What is not asked for and what is not taken have times of their own there.
            Some(_) => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => Ok(()),
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

#[cfg(test)]
mod tests;
