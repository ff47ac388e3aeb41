//! The socket to a backend: the system's, and in unit tests one of a simulated network.

use std::io;

#[cfg(not(test))]
pub(crate) use tokio::net::TcpStream;
#[cfg(test)]
pub(crate) use turmoil::net::TcpStream;

/// A connection on which nothing comes is asked after so many seconds whether the other side is still there, and then
/// every few seconds: a machine that was switched off says nothing when it goes.
#[cfg(not(test))]
const KEEPALIVE: (u64, u64, u32) = (15, 5, 3);

/// Connects.
#[cfg(not(test))]
pub(crate) async fn connect(address: (&str, u16)) -> io::Result<TcpStream> {
    use rustix::net::sockopt;
    let stream = TcpStream::connect(address).await?;
    // A request is sent when it is there. A system that has none of these options serves as well, only later.
    let _ = stream.set_nodelay(true);
    let (idle, between, tries) = KEEPALIVE;
    let seconds = std::time::Duration::from_secs;
    let _ = sockopt::set_socket_keepalive(&stream, true);
    let _ = sockopt::set_tcp_keepidle(&stream, seconds(idle));
    let _ = sockopt::set_tcp_keepintvl(&stream, seconds(between));
    let _ = sockopt::set_tcp_keepcnt(&stream, tries);
    Ok(stream)
}

/// Connects, when the network lets it through.
#[cfg(test)]
pub(crate) async fn connect(address: (&str, u16)) -> io::Result<TcpStream> {
    crate::simulation::passage(address.0).await;
    TcpStream::connect(address).await
}
