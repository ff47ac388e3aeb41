//! Where a server listens, and what it says there: a request on a connection of its own, without the balancer's code.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of an answer that are read.
const LONGEST: u64 = 1 << 20;

/// An address, and the key that is shown there.
#[derive(Debug)]
pub(super) struct Place {
    address: SocketAddr,
    key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Place {
    /// Who listens everywhere is asked here.
    pub(super) fn new(host: &str, port: u16, key: Option<&str>) -> anyhow::Result<Self> {
        let found = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .with_context(|| format!("cannot find {host:?}"))?;
        let mut address = found
            .into_iter()
            .next()
            .with_context(|| format!("{host:?} has no address"))?;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16]),
            });
        }
        let key = key.map(ToOwned::to_owned);
        Ok(Self { address, key })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn listens(&self) -> bool {
        self.connect().is_some()
    }

    /// The status and the body.
    pub(super) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = self.connect()?;
        let key = self.key.as_ref();
        let key = key.map(|key| format!("authorization: Bearer {key}\r\n"));
        let (address, key) = (self.address, key.unwrap_or_default());
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nhost: {address}\r\n{key}\r\n"
        )
        .ok()?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(stream)
    }
}
