//! `CONNECT`: bytes go both ways untouched.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

use super::fail::Refusal;
use super::route::Body;
use super::server::Place;
use super::{Client, Inner};

/// For a connection to the server.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Without a byte in one direction for so long a tunnel ends: nobody knows what is in it.
const IDLE_MAX: Duration = Duration::from_secs(600);

pub(super) async fn open(
    gateway: &Arc<Inner>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    if !gateway.config.tunnels {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this gateway opens no tunnels"));
    }
    let authority = request.uri().authority().cloned();
    let target = authority.and_then(|authority| Some((authority.host().to_owned(), authority.port_u16()?)));
    let Some((host, port)) = target else {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "CONNECT wants HOST:PORT"));
    };
    let addresses = gateway.upstream.addresses((&host, port), client.local, &gateway.own).await?;
    let server = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(&addresses[..])).await;
    let server = server
        .map_err(|_| Refusal::new(StatusCode::GATEWAY_TIMEOUT, format!("{host}:{port} does not answer")))?
        .map_err(|e| Refusal::new(StatusCode::BAD_GATEWAY, format!("cannot connect to {host}:{port}: {e}")))?;
    gateway.counts.tunnels.add(1);
    let stop = gateway.stop.clone();
    // A tunnel is a connection of a client's, still.
    let place = request.extensions().get::<Place>().cloned();
    gateway.tasks.spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let mut client = TokioIo::new(upgraded);
        let mut server = TimeoutStream::new(server);
        server.set_read_timeout(Some(IDLE_MAX));
        server.set_write_timeout(Some(IDLE_MAX));
        let mut server = Box::pin(server);
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            () = stop.cancelled() => {}
        }
        drop(place);
    });
    Ok(Response::new(Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()))
}
