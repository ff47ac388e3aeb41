//! So much of HTTP/1.1 as one's own clients and servers need of each other.

use memchr::memmem;
use std::io;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// A connection and what was read of it and not yet used.
pub(super) struct Reader {
    pub(super) socket: TcpStream,
    buffer: Vec<u8>,
}

/// How a message says where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(usize),
    Chunked,
}

impl Reader {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let buffer = Vec::with_capacity(64 << 10);
        Ok(Self { socket, buffer })
    }

    /// The head of the next message with its empty line; nothing if the connection ended before it.
    pub(super) async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads a body of so many bytes; keeps its first `keep` of them.
    pub(super) async fn body(&mut self, length: usize, keep: usize) -> io::Result<Vec<u8>> {
        let mut kept = Vec::new();
        let mut left = length;
        loop {
            let here = left.min(self.buffer.len());
            let wanted = here.min(keep - kept.len());
            kept.extend_from_slice(&self.buffer[..wanted]);
            self.buffer.drain(..here);
            left -= here;
            if left == 0 {
                return Ok(kept);
            }
            self.some().await?;
        }
    }

    /// Reads a chunked body to its end, and shows what has come of it to `look`, which says how much of that it needs no more.
    pub(super) async fn chunks(&mut self, mut look: impl FnMut(&[u8]) -> usize) -> io::Result<()> {
        const END: &[u8] = b"0\r\n\r\n";
        loop {
            let ended = self.buffer.ends_with(END);
            let seen = look(&self.buffer);
            if ended {
                self.buffer.clear();
                return Ok(());
            }
            // Its end may have come in two pieces.
            let seen = seen.min(self.buffer.len().saturating_sub(END.len()));
            self.buffer.drain(..seen);
            self.some().await?;
        }
    }

    async fn some(&mut self) -> io::Result<()> {
        match self.more().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.socket.read_buf(&mut self.buffer).await
    }
}

/// The status of an answer's head.
pub(super) fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// The path of a request's head.
pub(super) fn path(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// Where a message ends, by its head.
pub(super) fn length(head: &[u8]) -> Length {
    if value(head, b"transfer-encoding").is_some() {
        return Length::Chunked;
    }
    let digits = value(head, b"content-length").and_then(|text| std::str::from_utf8(text).ok());
    Length::Bytes(
        digits
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0),
    )
}

/// The value of a header.
fn value<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_its_message_ends() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n";
        assert_eq!((status(head), length(head)), (Some(200), Length::Bytes(12)));
        let head = b"POST /v1/models HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(path(head), b"/v1/models");
        assert_eq!(length(head), Length::Chunked);
        assert_eq!(length(b"GET / HTTP/1.1\r\n\r\n"), Length::Bytes(0));
    }
}
