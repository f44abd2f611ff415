//! A peer inside an HTTP server: `share TOKEN URL` serves the content of URL, downloads it when it is first asked for,
//! and shares it with the other members of the network. Prints where it listens, and ends with standard input.

use axum::body::Body;
use axum::http::StatusCode;
use dragonfly_core::{Node, Peer, Request};
use tokio_util::io::ReaderStream;

async fn serve(peer: Peer, url: String) -> Result<Body, (StatusCode, String)> {
    match peer.open(Request::new(url)).await {
        Ok(reader) => Ok(Body::from_stream(ReaderStream::with_capacity(reader, 256 << 10))),
        Err(error) => Err((StatusCode::BAD_GATEWAY, error.report())),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [token, url] = &args[..] else { anyhow::bail!("usage: share TOKEN URL") };
    let node = Node::builder().listen("/ip4/127.0.0.1/tcp/0".parse()?).join(token.parse()?).start().await?;
    let peer = Peer::builder(&node).start().await?;
    let (serving, url) = (peer.clone(), url.clone());
    let app = axum::Router::new().route("/", axum::routing::get(move || serve(serving.clone(), url.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    peer.shutdown().await?;
    node.shutdown().await?;
    Ok(())
}
