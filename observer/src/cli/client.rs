//! A small HTTP/1.1 client for the observer's own endpoints.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::{Context, bail};

/// Answer of the server; reads as its body.
pub(super) struct Response {
    body: BufReader<Body>,
}

/// Where a server is.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    /// Host and port, to connect to and for the `Host` field.
    authority: String,
    /// Path that all endpoints are below, without its last slash.
    base: String,
}

/// A response body, its framing removed (RFC 9112 sections 6 and 7).
struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    Close,
}

/// Where in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Before the first chunk.
    First,
    /// So many bytes of a chunk are left.
    Left(u64),
    /// After the last one.
    Done,
}

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);

/// Longest line of a head, and longest line of an answer.
const LONGEST: u64 = 1024 * 1024;

/// Most header fields.
const FIELDS: usize = 128;

/// Asks `server` (an `http://` URL) for `path`, which has its query. With `endless` the body may
/// pause for any time.
pub(super) fn get(server: &str, path: &str, endless: bool) -> anyhow::Result<Response> {
    let target = Server::parse(server)?;
    let unreachable = || format!("cannot reach the observer at {server}; is its agent running?");
    let stream = target.connect().with_context(unreachable)?;
    let (status, framing, stream) = target.request(stream, path).with_context(unreachable)?;
    if endless {
        stream
            .get_ref()
            .set_read_timeout(None)
            .context("cannot wait without end")?;
    }
    let mut response = Response {
        body: BufReader::new(Body { stream, framing }),
    };
    if status != 200 {
        let mut text = String::new();
        let _ = response.body.by_ref().take(4_096).read_to_string(&mut text);
        if text.trim_start().starts_with('<') {
            bail!("{server} answered {status} with a page: it is not the observer");
        }
        bail!(
            "{server} answered {status}: {}",
            super::terminal::plain(text.trim())
        );
    }
    Ok(response)
}

/// URLs of all that have the name in `server`, a URL: of a headless Service's, each of its pods. Of
/// names with addresses of both families, those of the first that comes: they are of the same pods.
pub(super) fn addresses(server: &str) -> anyhow::Result<Vec<String>> {
    let Server { authority, base } = Server::parse(server)?;
    let resolved = authority.to_socket_addrs();
    let mut found: Vec<SocketAddr> = resolved
        .with_context(|| format!("cannot resolve {authority}"))?
        .collect();
    if let Some(first) = found.first().copied() {
        found.retain(|address| address.is_ipv4() == first.is_ipv4());
    }
    found.sort();
    found.dedup();
    if found.is_empty() {
        bail!("{authority} has no address");
    }
    let url = |address: &SocketAddr| format!("http://{address}{base}");
    Ok(found.iter().map(url).collect())
}

/// `text` as part of a query (RFC 3986 section 2.1).
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

// === impl Response ===

impl Response {
    /// The next line without its end; `None` after the last.
    pub(super) fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        self.body.by_ref().take(LONGEST).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        line.truncate(line.trim_end().len());
        Ok(Some(line))
    }

    /// All of the body.
    pub(super) fn text(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.body
            .by_ref()
            .take(64 * LONGEST)
            .read_to_string(&mut text)?;
        Ok(text)
    }
}

// === impl Server ===

impl Server {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if scheme != "http" {
            bail!("{url}: only http:// is understood, as http://127.0.0.1:9920");
        }
        let (authority, base) = match rest.split_once('/') {
            Some((authority, base)) => (authority, format!("/{}", base.trim_end_matches('/'))),
            None => (rest, String::new()),
        };
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"@?#".contains(&byte);
        if authority.is_empty() || !(authority.bytes().chain(base.bytes())).all(plain) {
            bail!("{url}: expected a URL as http://127.0.0.1:9920");
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if has_port { "" } else { ":80" };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self {
            authority: format!("{authority}{port}"),
            base,
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn request(
        &self,
        mut stream: TcpStream,
        path: &str,
    ) -> anyhow::Result<(u16, Framing, BufReader<TcpStream>)> {
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let Self { authority, base } = self;
        let version = env!("CARGO_PKG_VERSION");
        stream.write_all(
            format!(
                "GET {base}{path} HTTP/1.1\r\nHost: {authority}\r\n\
                 User-Agent: observer/{version}\r\nConnection: close\r\n\r\n"
            )
            .as_bytes(),
        )?;
        let mut stream = BufReader::new(stream);
        let line = head_line(&mut stream)?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("not an HTTP answer: {}", super::terminal::plain(&line)))?;
        let mut framing = Framing::Close;
        for _ in 0..FIELDS {
            let line = head_line(&mut stream)?;
            if line.is_empty() {
                return Ok((status, framing, stream));
            }
            let (name, value) = line
                .split_once(':')
                .context("a header field without a colon")?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    bail!("transfer coding {value} is not understood");
                }
                framing = Framing::Chunked(Chunk::First);
            } else if name.eq_ignore_ascii_case("content-length")
                && !matches!(framing, Framing::Chunked(_))
            {
                framing = Framing::Length(value.parse().context("content-length")?);
            }
        }
        bail!("the answer has more than {FIELDS} header fields")
    }
}

/// A line up to CR LF; an error if the stream ends before.
fn head_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

// === impl Body ===

impl Body {
    /// Reads the size of the next chunk, after the end of the one before.
    fn next_chunk(&mut self, first: bool) -> io::Result<Chunk> {
        if !first && !head_line(&mut self.stream)?.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a chunk is too long",
            ));
        }
        let line = head_line(&mut self.stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a chunk size"))?;
        if size > 0 {
            return Ok(Chunk::Left(size));
        }
        while !head_line(&mut self.stream)?.is_empty() {}
        Ok(Chunk::Done)
    }

    /// Reads at most `left` bytes; the end of the stream is an error.
    fn read_part(&mut self, buffer: &mut [u8], left: u64) -> io::Result<usize> {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        match self
            .stream
            .read(buffer.get_mut(..most).unwrap_or_default())?
        {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked(chunk @ (Chunk::First | Chunk::Left(0))) = self.framing {
            self.framing = Framing::Chunked(self.next_chunk(chunk == Chunk::First)?);
        }
        match self.framing {
            Framing::Close => self.stream.read(buffer),
            Framing::Length(0) | Framing::Chunked(Chunk::First | Chunk::Done) => Ok(0),
            Framing::Length(left) => {
                let count = self.read_part(buffer, left)?;
                self.framing = Framing::Length(left - count as u64);
                Ok(count)
            }
            Framing::Chunked(Chunk::Left(left)) => {
                let count = self.read_part(buffer, left)?;
                self.framing = Framing::Chunked(Chunk::Left(left - count as u64));
                Ok(count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// A server that answers one request with `answer`, `piece` bytes at a time.
    fn answer(answer: &'static str, piece: usize) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap());
            let request = head_line(&mut head).unwrap();
            assert_eq!(request, "GET /base/flows?a=b HTTP/1.1");
            while !head_line(&mut head).unwrap().is_empty() {}
            for piece in answer.as_bytes().chunks(piece) {
                stream.write_all(piece).unwrap();
                stream.flush().unwrap();
            }
        });
        url
    }

    fn check(text: &'static str, expected: Result<&str, &str>) {
        for piece in [1, 7, 1_000] {
            let found = get(&answer(text, piece), "/flows?a=b", false)
                .and_then(|response| Ok(response.text()?));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => {
                    let found = format!("{found:#}");
                    assert!(found.contains(expected), "{found}");
                }
                (found, _) => panic!("{found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn bodies() {
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello more",
            Ok("hello"),
        );
        check("HTTP/1.0 200 OK\r\n\r\nhello", Ok("hello"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\nhello\r\nA\r\n, you all!\r\n0\r\nTrailer: 1\r\n\r\n",
            Ok("hello, you all!"),
        );
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Ok(""));
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Ok(""),
        );
    }

    #[test]
    fn broken_answers() {
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
            Err("end of file"),
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
            Err("end of file"),
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            Err("chunk size"),
        );
        check("HTTP/1.1 200 OK\r\ncontent-", Err("is its agent running"));
        check("SSH-2.0-OpenSSH\r\n", Err("not an HTTP answer"));
        check(
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nport=0\x1b!\n",
            Err("answered 400: port=0"),
        );
    }

    #[test]
    fn servers() {
        let check = |url, authority: &str, base: &str| {
            let server = Server {
                authority: authority.to_owned(),
                base: base.to_owned(),
            };
            assert_eq!(Server::parse(url).unwrap(), server);
        };
        check("http://127.0.0.1:9920", "127.0.0.1:9920", "");
        check("http://[::1]:9920/", "[::1]:9920", "");
        check("http://[::1]", "[::1]:80", "");
        check("observer.example", "observer.example:80", "");
        check("http://host:1/a/b/", "host:1", "/a/b");
        for url in [
            "https://host",
            "http://",
            "http://a b",
            "http://host/?x",
            "http://u@host",
        ] {
            assert!(Server::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn names_have_addresses() {
        let found = addresses("http://127.0.0.1:9920/base/").unwrap();
        assert_eq!(found, ["http://127.0.0.1:9920/base"]);
        // Of both families, one.
        let found = addresses("http://localhost:9920").unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(addresses("http://nobody.invalid:1").is_err());
    }

    #[test]
    fn nobody_there() {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = get(&format!("http://{free}"), "/", false).err().unwrap();
        assert!(format!("{error:#}").starts_with("cannot reach the observer at http://127.0.0.1:"));
    }

    #[test]
    fn queries() {
        assert_eq!(encode("/a b&c=*é~"), "%2Fa%20b%26c%3D%2A%C3%A9~");
    }
}
