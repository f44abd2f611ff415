//! A world for runners in other languages: prints what they need, one `key value` a line and `ready` last, and ends when
//! its standard input does.

use dragonfly_suite::World;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let world = World::start().await?;
    let (peer, all) = world.tokens()?;
    println!("origin {}\ntoken {peer}\ntoken_all {all}\nready", world.origin());
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    world.stop().await
}
