//! A receiver for tests: HTTP/1.1 on a real socket, which answers as the test says and may also cut the connection, before it has read a
//! request or after.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request that arrived whole.
pub struct Request {
    /// Its headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body, as it travelled.
    pub body: Vec<u8>,
}

impl Request {
    /// The body, unpacked.
    pub fn unpacked(&self) -> Vec<u8> {
        assert_eq!(self.headers["content-encoding"], "gzip");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(self.body.as_slice()).read_to_end(&mut unpacked).expect("is gzip");
        unpacked
    }
}

/// What the receiver does with a request.
pub enum Answer {
    /// This status and body.
    Status(u16, Vec<u8>),
    /// Nothing: the connection ends.
    Cut,
}

/// A receiver; ends when dropped.
pub struct Receiver {
    /// Where it is.
    pub url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    /// Starts one. `is_cut` says of each connection, by its number, whether it is cut after the first bytes of the request.
    pub async fn start(is_cut: fn(usize) -> bool, answer: impl FnMut(Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/in?token=hunter2", listener.local_addr().expect("is bound"));
        let answer = Arc::new(Mutex::new(answer));
        let serving = tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                // One after the other, so that the test knows which is which.
                let _ = serve(stream, is_cut(number), &*answer).await;
            }
        });
        Self { url, serving }
    }
}

async fn serve(
    stream: TcpStream,
    is_cut: bool,
    answer: &Mutex<impl FnMut(Request) -> Answer + Send>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    assert_eq!(line, "POST /in?token=hunter2 HTTP/1.1\r\n");
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    if is_cut {
        return Ok(());
    }
    let mut body = vec![0; headers["content-length"].parse().expect("a length")];
    stream.read_exact(&mut body).await?;
    let told = answer.lock()(Request { headers, body });
    if let Answer::Status(status, body) = told {
        let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.flush().await?;
    }
    Ok(())
}
