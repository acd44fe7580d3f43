//! The smallest HTTP client that can ask the observer and the test servers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Head: start line and fields.
    pub head: String,
    /// Content.
    pub body: String,
}

/// Sends `GET target` by HTTP/1.0, so that the end of the connection ends the content.
pub fn get(address: SocketAddr, target: &str) -> Result<Response> {
    let (head, mut stream, rest) = open(address, target)?;
    let mut body = rest;
    stream.read_to_end(&mut body).context("read content")?;
    let status = status_of(&head)?;
    Ok(Response {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// Sends `GET target` and returns after the head, for contents that do not end: the head, the
/// stream, and what of the content has come with the head.
pub fn open(address: SocketAddr, target: &str) -> Result<(String, TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n").context("send request")?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = end_of_head(&received) {
            let rest = received.split_off(end);
            return Ok((
                String::from_utf8_lossy(&received).into_owned(),
                stream,
                rest,
            ));
        }
        let length = stream.read(&mut buffer).context("read head")?;
        anyhow::ensure!(
            length > 0,
            "{address} closed in the head of its answer to {target}"
        );
        received.extend_from_slice(&buffer[..length]);
    }
}

/// Length of the head at the start of `bytes`, with its empty line.
pub fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|start| start + 4)
}

/// Status code of a response head.
pub fn status_of(head: &str) -> Result<u16> {
    let code = head.split(' ').nth(1).context("no status code")?;
    code.trim()
        .parse()
        .with_context(|| format!("status code {code:?}"))
}

/// `Content-Length` of a head.
pub fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read() {
        let head = "HTTP/1.1 204 No Content\r\nContent-length: 17\r\n\r\n";
        assert_eq!(end_of_head(head.as_bytes()), Some(head.len()));
        assert_eq!(end_of_head(b"HTTP/1.1 204\r\n"), None);
        assert_eq!(status_of(head).unwrap(), 204);
        assert_eq!(content_length(head), Some(17));
    }
}
