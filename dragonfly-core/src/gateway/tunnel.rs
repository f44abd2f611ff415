//! `CONNECT`: bytes go both ways untouched, but for hosts whose TLS the gateway is to take part in.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_util::io::InspectReader;

use super::activity::Activity;
use super::fail::Refusal;
use super::intercept::{Inside, Intercept};
use super::route::Body;
use super::server::{Place, serve_inside};
use super::{Client, Inner};

/// For a connection to the server.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Without a byte in either direction for so long a tunnel ends: nobody knows what is in it.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(600);

pub(super) async fn open(
    gateway: &Arc<Inner>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let authority = request.uri().authority().filter(|authority| authority.port_u16().is_some()).cloned();
    let Some(authority) = authority else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "CONNECT wants HOST:PORT"));
    };
    let (host, port) = (authority.host().to_owned(), authority.port_u16().unwrap_or_default());
    // A tunnel is a connection of a client's, still.
    let Some(place) = request.extensions().get::<Place>().cloned() else {
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a request without a connection"));
    };
    if let Some(intercept) = gateway.config.intercept.clone().filter(|intercept| intercept.wants(&host, port)) {
        take_part(gateway, (intercept, Inside::new(&authority)), request, (client, place));
        return Ok(opened());
    }
    if !gateway.config.tunnels {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this gateway opens no tunnels"));
    }
    let addresses = gateway.upstream.addresses((&host, port), client.local, &gateway.own).await?;
    let server = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&addresses[..])).await;
    let server = server
        .map_err(|_| Refusal::new(StatusCode::GATEWAY_TIMEOUT, format!("{host}:{port} does not answer")))?
        .map_err(|e| Refusal::new(StatusCode::BAD_GATEWAY, format!("cannot connect to {host}:{port}: {e}")))?;
    gateway.counts.tunnels.add(1);
    let stop = gateway.stop.clone();
    gateway.tasks.spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        tokio::select! {
            () = carry(TokioIo::new(upgraded), server) => {}
            () = stop.cancelled() => {}
        }
        drop(place);
    });
    Ok(opened())
}

/// Passes bytes both ways until both have ended, one takes nothing for [`IDLE_MAX`], or neither says anything for so long
/// (and before that is twice over). A long upload is not cut off for its server's saying nothing meanwhile.
async fn carry(client: impl AsyncRead + AsyncWrite, server: impl AsyncRead + AsyncWrite) {
    let activity = Activity::default();
    // Over HTTP/2 the connection has other requests, and does not notice that this one takes nothing.
    let mut client = TimeoutStream::new(InspectReader::new(client, |_| activity.happens()));
    client.set_write_timeout(Some(IDLE_MAX));
    let mut server = TimeoutStream::new(InspectReader::new(server, |_| activity.happens()));
    server.set_write_timeout(Some(IDLE_MAX));
    let (mut client, mut server) = (pin!(client), pin!(server));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        () = activity.clone().ceased(IDLE_MAX) => {}
    }
}

fn opened() -> Response<Body> {
    Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync())
}

/// Serves what comes through the tunnel as the host that the client means.
fn take_part(
    gateway: &Arc<Inner>,
    (intercept, inside): (Intercept, Inside),
    request: Request<Incoming>,
    (client, place): (Client, Place),
) {
    gateway.counts.intercepted.add(1);
    let (serving, stop, takes_max) = (Arc::clone(gateway), gateway.stop.clone(), gateway.config.client_timeout);
    gateway.tasks.spawn(async move {
        let accepted = async {
            let upgraded = hyper::upgrade::on(request).await.map_err(std::io::Error::other)?;
            let mut stream = TimeoutStream::new(TokioIo::new(upgraded));
            stream.set_write_timeout(Some(takes_max));
            intercept.accept(inside.authority.host(), Box::pin(stream)).await
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok(stream) => serve_inside(serving, stream, inside, (client, place)).await,
            Err(error) => {
                let host = inside.authority.host();
                tracing::info!(host, %error, "a client's TLS failed: does it trust the gateway's authority, and is that still good?");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    /// As long as one says something now and then it lasts; then nobody knows whether anybody is there.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_is_silent_ends() {
        for server_says in [false, true] {
            let ((mut client, near), (far, mut server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
            let carried = tokio::spawn(carry(near, far));
            let (says, hears) = if server_says { (&mut server, &mut client) } else { (&mut client, &mut server) };
            for _ in 0..5 {
                tokio::time::sleep(IDLE_MAX - Duration::from_secs(1)).await;
                says.write_all(b"x").await.unwrap();
                assert_eq!(hears.read_u8().await.unwrap(), b'x');
            }
            let since = Instant::now();
            carried.await.unwrap();
            let after = since.elapsed();
            assert!((IDLE_MAX..IDLE_MAX * 2).contains(&after), "{after:?}");
            assert_eq!(hears.read(&mut [0]).await.unwrap(), 0, "it is closed");
        }
    }

    /// Neither end keeps a tunnel by taking nothing of what the other says.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_of_which_nothing_is_taken_ends() {
        for server_takes in [false, true] {
            let ((client, near), (far, server)) = (tokio::io::duplex(64), tokio::io::duplex(64));
            let since = Instant::now();
            let speaking = async {
                let (mut says, mut stays) = if server_takes { (server, client) } else { (client, server) };
                let said = says.write_all(&[0; 1 << 20]);
                tokio::pin!(said);
                // The other says something from time to time, which is taken.
                let mut silent = tokio::time::interval(IDLE_MAX / 2);
                loop {
                    tokio::select! {
                        _ = &mut said => std::future::pending().await,
                        _ = silent.tick() => { let _ = stays.write_all(b"x").await; }
                    }
                }
            };
            tokio::select! {
                () = carry(near, far) => {}
                () = speaking => unreachable!(),
            }
            let after = since.elapsed();
            assert!((IDLE_MAX..IDLE_MAX + Duration::from_secs(1)).contains(&after), "{server_takes}: {after:?}");
        }
    }
}
