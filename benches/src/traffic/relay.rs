//! The least that something between a client and a server can do: copy bytes.

use std::io;
use tokio::net::{TcpListener, TcpStream};

/// Copies every connection to `address` and back, for ever. `ready` is told where it listens.
///
/// # Errors
/// No port can be had.
pub async fn run(address: &str, ready: impl FnOnce(u16)) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready(listener.local_addr()?.port());
    loop {
        let (client, _) = listener.accept().await?;
        let address = address.to_owned();
        // A connection that ends early is its client's business.
        tokio::spawn(async move {
            let _ = copy(client, &address).await;
        });
    }
}

async fn copy(mut client: TcpStream, address: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
