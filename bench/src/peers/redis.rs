//! Redis with `appendfsync always`: every answered write is on disk. Its protocol (RESP 2) needs two commands here, so
//! it is spoken directly.

use super::{Failure, Running, free_port, fresh_folder};
use crate::Options;
use dstore::cli::bench::item::Values;
use dstore::cli::bench::runner::Session;
use dstore::cli::bench::workload::{Kind, Operation};
use std::process::Command;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Starts it; the port follows.
pub async fn start(options: &Options) -> Result<(Running, u16), Failure> {
    let folder = fresh_folder(&options.data, "redis")?;
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(&folder);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    running.wait(async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await?;
    Ok((running, port))
}

/// One connection.
pub struct RedisSession {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    item: Vec<u8>,
    answer: Vec<u8>,
}

impl RedisSession {
    /// Opens it.
    pub async fn open(port: u16) -> Result<RedisSession, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(RedisSession { stream: BufReader::new(stream), request: Vec::new(), item: Vec::new(), answer: Vec::new() })
    }

    async fn exchange(&mut self, parts: &[&[u8]]) -> Result<(), Failure> {
        self.request.clear();
        self.request.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
        for part in parts {
            self.request.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            self.request.extend_from_slice(part);
            self.request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&self.request).await?;
        self.answer.clear();
        self.stream.read_until(b'\n', &mut self.answer).await?;
        match self.answer.first() {
            Some(b'+') => Ok(()),
            Some(b'$') => {
                let text = std::str::from_utf8(&self.answer[1..])?.trim();
                let length = usize::try_from(text.parse::<i64>()?).map_err(|_| "no such key")?;
                self.answer.resize(length + 2, 0);
                self.stream.read_exact(&mut self.answer).await?;
                Ok(())
            }
            _ => Err(String::from_utf8_lossy(&self.answer).into_owned().into()),
        }
    }
}

impl Session for RedisSession {
    async fn perform(&mut self, operation: &Operation, values: &mut Values) -> Result<(), String> {
        let id = operation.id();
        let result = match operation.kind {
            Kind::Read => self.exchange(&[b"GET", id.as_bytes()]).await,
            Kind::Insert | Kind::Put => {
                let mut item = std::mem::take(&mut self.item);
                item.clear();
                values.item(&mut item);
                let result = self.exchange(&[b"SET", id.as_bytes(), &item]).await;
                self.item = item;
                result
            }
            other => Err(format!("{} is not measured here", other.as_str()).into()),
        };
        result.map_err(|error| error.to_string())
    }
}
