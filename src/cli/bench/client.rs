//! HTTP/1.1 (RFC 9112) over one TCP connection that stays open: just what `dstore bench` needs, at a few microseconds a
//! request. Bodies come with a length or in chunks; anything else is an error, as is an answer that is no HTTP. Where a server
//! says with an answer that it closes the connection, the next request opens another (§9.6).

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A server's address, read from `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`.
    pub authority: String,
    /// Path before every request's path, without a slash at its end.
    pub base: String,
}

impl Address {
    /// Reads a URL; `None` where it is no `http://` URL.
    pub fn parse(url: &str) -> Option<Address> {
        let rest = url.strip_prefix("http://")?;
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host_ends = authority.rfind(']').unwrap_or(0);
        let has_port = authority[host_ends..].contains(':');
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        (!authority.starts_with(':')).then(|| Address { authority, base: base.trim_end_matches('/').to_owned() })
    }
}

/// One open connection. After an error it must not be used again.
pub struct Connection {
    address: Address,
    stream: TcpStream,
    /// What was received and not yet consumed.
    buffer: Vec<u8>,
    /// The server closes it after the answer that was read last.
    is_over: bool,
}

/// An answer; its body is borrowed from the connection's buffer or was put together from chunks.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

struct Head {
    status: u16,
    bytes: usize,
    length: Option<usize>,
    is_chunked: bool,
    closes: bool,
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// The system's, where nobody listens there.
    pub async fn open(address: &Address) -> io::Result<Connection> {
        let stream = TcpStream::connect(&address.authority).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { address: address.clone(), stream, buffer: Vec::with_capacity(16 * 1024), is_over: false })
    }

    /// Sends a whole request as prepared bytes and waits for the answer.
    ///
    /// # Errors
    /// Where the connection breaks or the answer is no HTTP.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        if self.is_over {
            *self = Connection::open(&self.address).await?;
        }
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("the head of the answer is too long"));
            }
            self.receive().await?;
        };
        let body = if head.is_chunked {
            self.buffer.drain(..head.bytes);
            self.chunks().await?
        } else {
            let length = match (head.status, head.length) {
                (204 | 304, _) => 0,
                (_, Some(length)) if length <= BODY_BYTES_MAX => length,
                _ => return Err(invalid("the answer's body has no length, or too great a one")),
            };
            while self.buffer.len() < head.bytes + length {
                self.receive().await?;
            }
            let body = self.buffer[head.bytes..head.bytes + length].to_vec();
            self.buffer.drain(..head.bytes + length);
            body
        };
        self.is_over = head.closes;
        Ok(Response { status: head.status, body })
    }

    async fn receive(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    /// Reads a body that comes in chunks (RFC 9112 §7.1).
    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let text = std::str::from_utf8(digits).map_err(|_| invalid("a chunk without a size"))?;
            let length = usize::from_str_radix(text.trim(), 16).map_err(|_| invalid("a chunk without a size"))?;
            if length == 0 {
                // Trailers, up to an empty line.
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            if body.len() + length > BODY_BYTES_MAX {
                return Err(invalid("the answer's body is too long"));
            }
            while self.buffer.len() < length + 2 {
                self.receive().await?;
            }
            body.extend_from_slice(&self.buffer[..length]);
            self.buffer.drain(..length + 2);
        }
    }

    async fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line = self.buffer[..end].to_vec();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(invalid("a line of the answer is too long"));
            }
            self.receive().await?;
        }
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let mut lines = buffer[..end].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let status =
        first.strip_prefix(b"HTTP/1.1 ").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok());
    let Some(status) = status else { return Err(invalid("the answer is not HTTP/1.1")) };
    let mut head = Head { status, bytes: end + 4, length: None, is_chunked: false, closes: false };
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            head.length = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        } else if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") {
            head.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if line[..colon].eq_ignore_ascii_case(b"connection") {
            head.closes |=
                value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
        }
    }
    Ok(Some(head))
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves `answers` in pieces of `piece` bytes, one answer for each request, then closes.
    async fn exchange_all(answers: &[&str], piece: usize) -> Vec<io::Result<(u16, String)>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let owned: Vec<String> = answers.iter().map(|answer| (*answer).to_owned()).collect();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            for answer in owned {
                let mut request = [0; 4];
                stream.read_exact(&mut request).await.expect("a request");
                for part in answer.as_bytes().chunks(piece) {
                    stream.write_all(part).await.expect("is sent");
                    stream.flush().await.expect("is sent");
                }
            }
        });
        let mut connection = Connection::open(&Address::parse(&url).expect("a URL")).await.expect("opens");
        let mut results = Vec::new();
        for _ in answers {
            let result = connection.exchange(b"PING").await;
            results.push(result.map(|answer| (answer.status, String::from_utf8_lossy(&answer.body).into_owned())));
        }
        server.await.expect("the server ends");
        results
    }

    #[tokio::test]
    async fn answers_arrive_whole_however_they_are_cut() {
        let answers = [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nt: u\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ];
        let wanted = [(200, "hello"), (201, "abcdefg"), (304, ""), (404, "")];
        for piece in [1, 7, 4096] {
            let results = exchange_all(&answers, piece).await;
            let results: Vec<(u16, String)> = results.into_iter().map(|result| result.expect("an answer")).collect();
            assert_eq!(results, wanted.map(|(status, body)| (status, body.to_owned())), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn a_server_that_closes_after_each_answer_gets_another_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // By connection: the header of each answer on it.
        let connections: [&[&str]; 3] =
            [&["Connection: close"], &["connection: Keep-Alive, CLOSE"], &["connection: keep-alive", "x: close"]];
        let server = tokio::spawn(async move {
            for headers in connections {
                let (mut stream, _) = listener.accept().await.expect("a client");
                for header in headers {
                    let mut request = [0; 4];
                    stream.read_exact(&mut request).await.expect("a request on the same connection");
                    let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 2\r\n\r\nok");
                    stream.write_all(answer.as_bytes()).await.expect("is sent");
                }
            }
        });
        let mut connection = Connection::open(&Address::parse(&url).expect("a URL")).await.expect("opens");
        for header in connections.concat() {
            assert_eq!(connection.exchange(b"PING").await.expect(header).body, b"ok");
        }
        server.await.expect("the server ends");
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        for answer in
            ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"]
        {
            assert!(exchange_all(&[answer], 4096).await[0].is_err(), "{answer}");
        }
    }

    #[test]
    fn addresses_are_read() {
        let read = |url| Address::parse(url).map(|address| (address.authority, address.base));
        assert_eq!(read("http://a:1/"), Some(("a:1".to_owned(), String::new())));
        assert_eq!(read("http://[::1]/x/"), Some(("[::1]:80".to_owned(), "/x".to_owned())));
        assert_eq!(read("https://a:1"), None);
        assert_eq!(read("a:1"), None);
    }
}
