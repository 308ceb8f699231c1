//! Operations as REST requests of dStore.

use super::client::{Address, Connection, Response};
use super::item::Values;
use super::runner::{BenchError, Session};
use super::workload::{Kind, Operation};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

/// The server, and what every request to it has in common.
pub struct Server {
    address: Address,
    table_path: String,
    /// Header lines of every request, up to the empty line.
    headers: String,
    /// The first answer that was no success, for the error message.
    complained: Cell<bool>,
}

impl Server {
    /// Prepares requests to one table.
    ///
    /// # Errors
    /// Where the URL is no `http://` one, or a part cannot stand in a request.
    pub fn new(url: &str, token: &str, tenant: &str, table: &str) -> Result<Server, BenchError> {
        let address = Address::parse(url).ok_or_else(|| BenchError::Url(url.to_owned()))?;
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_name(tenant) || !is_name(table) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BenchError::Characters);
        }
        let table_path = format!("{}/v1/tenant/{tenant}/table/{table}", address.base);
        let headers = format!("host: {}\r\nauthorization: Bearer {token}\r\n", address.authority);
        Ok(Server { address, table_path, headers, complained: Cell::new(false) })
    }

    /// Creates the tenant where it is missing.
    ///
    /// # Errors
    /// Where the server cannot be reached or refuses.
    pub async fn create_tenant(&self) -> Result<(), BenchError> {
        let path = self.table_path.split("/table/").next().unwrap_or_default();
        self.create(path, b"{}").await
    }

    /// Creates the table where it is missing.
    ///
    /// # Errors
    /// Where the server cannot be reached or refuses.
    pub async fn create_table(&self) -> Result<(), BenchError> {
        self.create_table_as(br#"{"id_type":"String"}"#).await
    }

    /// Creates the table with this definition, where it is missing.
    ///
    /// # Errors
    /// As [`Server::create_table`].
    pub async fn create_table_as(&self, definition: &[u8]) -> Result<(), BenchError> {
        self.create(&self.table_path, definition).await
    }

    async fn create(&self, path: &str, body: &[u8]) -> Result<(), BenchError> {
        let mut connection = Connection::open(&self.address).await.map_err(|source| self.unreachable(source))?;
        let mut request = Vec::new();
        self.write_to(&mut request, "PUT", path, body);
        let answer = connection.exchange(&request).await.map_err(|source| self.unreachable(source))?;
        match answer.status {
            200 | 201 => Ok(()),
            status => Err(BenchError::Table { status, answer: excerpt(&answer) }),
        }
    }

    fn unreachable(&self, source: std::io::Error) -> BenchError {
        BenchError::Unreachable { address: self.address.authority.clone(), source }
    }

    /// Appends a request for `rest` below the table.
    fn write(&self, request: &mut Vec<u8>, method: &str, rest: &str, body: &[u8]) {
        // Writing to a vector cannot fail.
        let _ = write!(request, "{method} {}{rest} HTTP/1.1\r\n", self.table_path);
        self.finish(request, body);
    }

    fn write_to(&self, request: &mut Vec<u8>, method: &str, path: &str, body: &[u8]) {
        let _ = write!(request, "{method} {path} HTTP/1.1\r\n");
        self.finish(request, body);
    }

    fn finish(&self, request: &mut Vec<u8>, body: &[u8]) {
        request.extend_from_slice(self.headers.as_bytes());
        if !body.is_empty() {
            let _ = write!(request, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
    }
}

fn excerpt(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(300).collect()
}

/// One connection to dStore.
pub struct RestSession {
    servers: Rc<[Server]>,
    connection: Connection,
    request: Vec<u8>,
    body: Vec<u8>,
    /// Where this connection's scans go on.
    cursor: Option<String>,
    /// Which of the tables the present operation concerns.
    table: usize,
}

impl RestSession {
    /// Opens a connection to the first of `servers`. All are tables of one server; operations are spread over them by
    /// the number of the record.
    ///
    /// # Errors
    /// Where the server cannot be reached, or none was given.
    pub async fn open(servers: Rc<[Server]>) -> Result<RestSession, BenchError> {
        let first = servers.first().ok_or(BenchError::Characters)?;
        let connection = Connection::open(&first.address).await.map_err(|source| first.unreachable(source))?;
        Ok(RestSession { servers, connection, request: Vec::new(), body: Vec::new(), cursor: None, table: 0 })
    }

    async fn send(&mut self, method: &str, rest: &str) -> Result<Response, String> {
        self.request.clear();
        let server = &self.servers[self.table];
        server.write(&mut self.request, method, rest, &self.body);
        let answer = match self.connection.exchange(&self.request).await {
            Ok(answer) => answer,
            Err(error) => {
                // The connection is of no use any more; the next operation takes a new one.
                if let Ok(connection) = Connection::open(&server.address).await {
                    self.connection = connection;
                }
                return Err(error.to_string());
            }
        };
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let text = format!("{method} answered {}: {}", answer.status, excerpt(&answer));
        if !server.complained.replace(true) {
            eprintln!("warning: {text}");
        }
        Err(format!("{method} answered {}", answer.status))
    }

    async fn scan(&mut self, items: usize) -> Result<(), String> {
        let rest = match self.cursor.take() {
            Some(cursor) => format!("/id?limit={items}&cursor={cursor}"),
            None => format!("/id?limit={items}"),
        };
        let answer = self.send("GET", &rest).await?;
        self.cursor = cursor_of(&answer.body);
        Ok(())
    }
}

/// The cursor at the end of a listing, found without reading the items: it is base64url, in the last member.
fn cursor_of(body: &[u8]) -> Option<String> {
    let marker = b"\"cursor\":\"";
    let at = body.windows(marker.len()).rposition(|window| window == marker)? + marker.len();
    let length = body[at..].iter().position(|byte| *byte == b'"')?;
    String::from_utf8(body[at..at + length].to_vec()).ok()
}

impl Session for RestSession {
    async fn perform(&mut self, operation: &Operation, values: &mut Values) -> Result<(), String> {
        let rest = format!("/id/{}", operation.id());
        self.table = (operation.record % self.servers.len() as u64) as usize;
        self.body.clear();
        match operation.kind {
            Kind::Read => self.send("GET", &rest).await.map(drop),
            Kind::Scan => self.scan(operation.items).await,
            Kind::Insert | Kind::Put => {
                values.item(&mut self.body);
                self.send("PUT", &rest).await.map(drop)
            }
            Kind::Update => {
                values.patch(&mut self.body);
                self.send("POST", &rest).await.map(drop)
            }
            Kind::ReadModifyWrite => {
                self.send("GET", &rest).await?;
                values.patch(&mut self.body);
                self.send("POST", &rest).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_spelled_as_http_wants_them() {
        let server = Server::new("http://h:1/", "tok", "default", "ycsb").expect("is prepared");
        let mut request = Vec::new();
        server.write(&mut request, "PUT", "/id/user1", b"{}");
        let wanted = "PUT /v1/tenant/default/table/ycsb/id/user1 HTTP/1.1\r\nhost: h:1\r\nauthorization: Bearer tok\r\n\
                      content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8_lossy(&request), wanted);
        for (tenant, token) in [("a b", "t"), ("a", "t\r\nx: y"), ("a/b", "t")] {
            assert!(Server::new("http://h:1/", token, tenant, "t").is_err());
        }
    }

    #[test]
    fn the_last_cursor_counts() {
        let body = br#"{"items":[{"id":"a","item":{"cursor":"no"}}],"cursor":"abc_-1"}"#;
        assert_eq!(cursor_of(body).as_deref(), Some("abc_-1"));
        assert_eq!(cursor_of(br#"{"items":[],"cursor":null}"#), None);
    }
}
