//! The socket to a backend: the system's, and in unit tests one of a simulated network.

use std::io;

use rustix::io::Errno;

#[cfg(not(test))]
pub(crate) use tokio::net::TcpStream;
#[cfg(test)]
pub(crate) use turmoil::net::TcpStream;

/// A connection on which nothing comes is asked after so many seconds whether the other side is still there, and then
/// every few seconds: a machine that was switched off says nothing when it goes.
#[cfg(not(test))]
const KEEPALIVE: (u64, u64, u32) = (15, 5, 3);

/// What this machine can lack when it opens a socket: descriptors of the process or of all, ports, memory.
const OWN: [Errno; 5] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::ADDRNOTAVAIL,
    Errno::NOMEM,
    Errno::NOBUFS,
];

/// Whether an error is this machine's own, and says nothing of the other side.
pub(crate) fn is_local(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| OWN.contains(&errno))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_open_files_say_nothing_of_the_other_side() {
        let of = |errno: Errno| is_local(&io::Error::from(errno));
        assert!(OWN.into_iter().all(of));
        assert!(!of(Errno::CONNREFUSED) && !of(Errno::HOSTUNREACH) && !of(Errno::CONNRESET));
        assert!(!is_local(&io::Error::other("words")));
    }
}
