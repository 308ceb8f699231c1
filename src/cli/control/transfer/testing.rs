//! A server for tests of exports and imports, which answers whatever a test likes, also what no server should.

#![cfg(test)]

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::dynamodb::door::{Door, DoorFlags};

/// What it was asked: operations and bodies, in their order.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// A server on loopback; it ends when it is dropped.
pub(super) struct Server {
    url: String,
    folder: tempfile::TempDir,
    asked: Asked,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers each request, one a connection, with the bytes that `answer` gives for its number (from 0), its operation
    /// and its body; then closes the connection.
    pub(super) async fn start(answer: impl Fn(usize, &str, &Value) -> Vec<u8> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let key = r#"{"access_key_id":"A","secret_access_key":"s"}"#;
        std::fs::write(folder.path().join("key"), key).unwrap();
        let asked = Asked::default();
        let noted = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (operation, body) = read(&mut stream).await;
                let number = noted.lock().len();
                let told = answer(number, &operation, &body);
                noted.lock().push((operation, body));
                // Whoever has read enough may have gone.
                let _ = stream.write_all(&told).await;
                let _ = stream.shutdown().await;
            }
        });
        Server { url, folder, asked, task }
    }

    /// The flags that lead to it.
    pub(super) fn flags(&self) -> DoorFlags {
        let access_key_file = Some(self.folder.path().join("key"));
        DoorFlags { url: self.url.clone(), access_key_file, region: None, authority_file: None }
    }

    /// A door to it that gives up at the first failure.
    pub(super) fn door(&self) -> Door {
        Door::open(&self.flags()).map_err(|_| "flags").unwrap().impatient()
    }

    /// What it was asked so far.
    pub(super) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with this JSON.
pub(super) fn json_answer(json: &Value) -> Vec<u8> {
    answer(&json.to_string())
}

/// An answer with this body, whatever it is.
pub(super) fn answer(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The same, which ends before it is whole.
pub(super) fn cut(mut answer: Vec<u8>) -> Vec<u8> {
    answer.pop();
    answer
}

/// A request: its operation and its body.
async fn read(stream: &mut TcpStream) -> (String, Value) {
    const END: &[u8] = b"\r\n\r\n";
    let mut request = Vec::new();
    let (head, body) = loop {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "a whole request");
        let Some(at) = request.windows(END.len()).position(|part| part == END) else { continue };
        let head = String::from_utf8_lossy(&request[..at]).to_ascii_lowercase();
        let value = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
        };
        let length: usize = value("content-length").unwrap().parse().unwrap();
        if request.len() >= at + END.len() + length {
            let original = String::from_utf8_lossy(&request[..at]).into_owned();
            break (original, request.split_off(at + END.len()));
        }
    };
    let target = head.split("DynamoDB_20120810.").nth(1).unwrap();
    let operation = target.split("\r\n").next().unwrap().to_owned();
    (operation, serde_json::from_slice(&body).unwrap())
}
