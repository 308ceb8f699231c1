//! Operations as requests of the DynamoDB protocol. Each is signed anew, as an SDK would: that is part of what the
//! protocol costs a server.
//!
//! Reads are consistent ones, as REST's are. An update sets one attribute by an UpdateExpression. A scan walks on from where the
//! connection's last one ended, by a page of `Limit` items. Nothing here is dStore's own, so that other servers of the
//! protocol can be measured by the same program.

use super::client::{Address, Connection, Response};
use super::item::Values;
use super::runner::{BenchError, Session};
use super::workload::{Kind, Operation};
use crate::cli::dynamodb::credentials::Credentials;
use crate::cli::dynamodb::signing::{CONTENT_TYPE, Signer, TARGET_PREFIX};
use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a table may take until it is there.
const TABLE_PATIENCE: Duration = Duration::from_secs(60);

/// The server and its table.
pub struct Server {
    address: Address,
    table: String,
    credentials: Credentials,
    region: String,
    /// The first answer that was no success was told.
    complained: Cell<bool>,
}

impl Server {
    /// Prepares requests to one table.
    ///
    /// # Errors
    /// Where the URL is no `http://` one, or the table's name is none.
    pub fn new(url: &str, credentials: Credentials, region: String, table: &str) -> Result<Server, BenchError> {
        let address = Address::parse(url).ok_or_else(|| BenchError::Url(url.to_owned()))?;
        if !table.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(BenchError::Characters);
        }
        Ok(Server { address, table: table.to_owned(), credentials, region, complained: Cell::new(false) })
    }

    fn signer(&self) -> Signer {
        Signer::new(self.credentials.clone(), self.region.clone(), self.address.authority.clone())
    }

    /// Creates the table where it is missing, and waits until it can be used.
    ///
    /// # Errors
    /// Where the server cannot be reached or refuses.
    pub async fn create_table(&self) -> Result<(), BenchError> {
        let unreachable = |source| BenchError::Unreachable { address: self.address.authority.clone(), source };
        let mut connection = Connection::open(&self.address).await.map_err(unreachable)?;
        let (mut signer, mut request) = (self.signer(), Vec::new());
        let definition = format!(
            r#"{{"TableName":"{}","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{{"AttributeName":"id","AttributeType":"S"}}],"KeySchema":[{{"AttributeName":"id","KeyType":"HASH"}}]}}"#,
            self.table
        );
        write(&mut request, &mut signer, "CreateTable", definition.as_bytes());
        let answer = connection.exchange(&request).await.map_err(unreachable)?;
        if answer.status != 200 && !contains(&answer.body, b"ResourceInUseException") {
            return Err(BenchError::Table { status: answer.status, answer: excerpt(&answer) });
        }
        let begun = Instant::now();
        loop {
            request.clear();
            write(
                &mut request,
                &mut signer,
                "DescribeTable",
                format!(r#"{{"TableName":"{}"}}"#, self.table).as_bytes(),
            );
            let answer = connection.exchange(&request).await.map_err(unreachable)?;
            match answer.status {
                200 if contains(&answer.body, b"\"ACTIVE\"") => return Ok(()),
                _ if begun.elapsed() < TABLE_PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
                status => return Err(BenchError::Table { status, answer: excerpt(&answer) }),
            }
        }
    }
}

/// Appends a signed request.
fn write(request: &mut Vec<u8>, signer: &mut Signer, operation: &str, body: &[u8]) {
    let signature = signer.sign(jiff::Timestamp::now(), operation, body);
    // Writing to a vector cannot fail.
    let _ = write!(
        request,
        "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {CONTENT_TYPE}\r\nx-amz-target: {TARGET_PREFIX}{operation}\r\nx-amz-date: {}\r\nauthorization: {}\r\n",
        signer.host(),
        signature.date,
        signature.authorization
    );
    if let Some(token) = signer.session_token() {
        let _ = write!(request, "x-amz-security-token: {token}\r\n");
    }
    let _ = write!(request, "content-length: {}\r\n\r\n", body.len());
    request.extend_from_slice(body);
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn excerpt(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(300).collect()
}

/// One connection.
pub struct DynamoSession {
    server: Rc<Server>,
    signer: Signer,
    connection: Connection,
    request: Vec<u8>,
    body: Vec<u8>,
    /// Where this connection's scans go on: a key, as JSON.
    position: Option<String>,
}

impl DynamoSession {
    /// Opens a connection.
    ///
    /// # Errors
    /// Where the server cannot be reached.
    pub async fn open(server: Rc<Server>) -> Result<DynamoSession, BenchError> {
        let unreachable = |source| BenchError::Unreachable { address: server.address.authority.clone(), source };
        let connection = Connection::open(&server.address).await.map_err(unreachable)?;
        let signer = server.signer();
        Ok(DynamoSession { server, signer, connection, request: Vec::new(), body: Vec::new(), position: None })
    }

    /// Sends what stands in `body`.
    async fn send(&mut self, operation: &str) -> Result<Response, String> {
        self.request.clear();
        write(&mut self.request, &mut self.signer, operation, &self.body);
        let answer = match self.connection.exchange(&self.request).await {
            Ok(answer) => answer,
            Err(error) => {
                // The connection is of no use any more; the next operation takes a new one.
                if let Ok(connection) = Connection::open(&self.server.address).await {
                    self.connection = connection;
                }
                return Err(error.to_string());
            }
        };
        if answer.status == 200 {
            return Ok(answer);
        }
        let text = format!("{operation} answered {}", answer.status);
        if !self.server.complained.replace(true) {
            eprintln!("warning: {text}: {}", excerpt(&answer));
        }
        Err(text)
    }

    /// Begins a body: an object with the table's name, open for more members.
    fn begin(&mut self) {
        self.body.clear();
        let _ = write!(self.body, r#"{{"TableName":"{}""#, self.server.table);
    }

    async fn read(&mut self, id: &str) -> Result<(), String> {
        self.begin();
        let _ = write!(self.body, r#","ConsistentRead":true,"Key":{{"id":{{"S":"{id}"}}}}}}"#);
        let answer = self.send("GetItem").await?;
        if contains(&answer.body, b"\"Item\"") { Ok(()) } else { Err("no such item".to_owned()) }
    }

    async fn put(&mut self, id: &str, values: &mut Values) -> Result<(), String> {
        self.begin();
        let _ = write!(self.body, r#","Item":{{"id":{{"S":"{id}"}}"#);
        values.typed_members(&mut self.body);
        self.body.extend_from_slice(b"}}");
        self.send("PutItem").await.map(drop)
    }

    async fn update(&mut self, id: &str, values: &mut Values) -> Result<(), String> {
        self.begin();
        let field = values.any_field();
        let _ = write!(
            self.body,
            r#","Key":{{"id":{{"S":"{id}"}}}},"UpdateExpression":"SET field{field} = :v","ExpressionAttributeValues":{{":v":{{"S":""#
        );
        values.value(&mut self.body);
        self.body.extend_from_slice(b"\"}}}");
        self.send("UpdateItem").await.map(drop)
    }

    async fn scan(&mut self, items: usize) -> Result<(), String> {
        let position = self.position.take();
        self.begin();
        let _ = write!(self.body, r#","ConsistentRead":true,"Limit":{items}"#);
        if let Some(position) = position {
            let _ = write!(self.body, r#","ExclusiveStartKey":{position}"#);
        }
        self.body.push(b'}');
        let answer = self.send("Scan").await?;
        self.position = position_of(&answer.body);
        Ok(())
    }
}

/// The key at which a page ended, found without reading the items. The only braces in it are those of its objects, since
/// the bench makes its own keys.
fn position_of(body: &[u8]) -> Option<String> {
    let marker = b"\"LastEvaluatedKey\"";
    let at = body.windows(marker.len()).rposition(|window| window == marker)? + marker.len();
    let start = at + body[at..].iter().position(|byte| *byte == b'{')?;
    let mut depth = 0;
    let end = body[start..].iter().position(|byte| {
        depth += i32::from(*byte == b'{') - i32::from(*byte == b'}');
        depth == 0
    })?;
    String::from_utf8(body[start..=start + end].to_vec()).ok()
}

impl Session for DynamoSession {
    async fn perform(&mut self, operation: &Operation, values: &mut Values) -> Result<(), String> {
        let id = operation.id();
        match operation.kind {
            Kind::Read => self.read(&id).await,
            Kind::Scan => self.scan(operation.items).await,
            Kind::Insert | Kind::Put => self.put(&id, values).await,
            Kind::Update => self.update(&id, values).await,
            Kind::ReadModifyWrite => {
                self.read(&id).await?;
                self.update(&id, values).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use zeroize::Zeroizing;

    fn credentials() -> Credentials {
        Credentials {
            access_key_id: "A".to_owned(),
            secret_access_key: Zeroizing::new("s".to_owned()),
            session_token: None,
        }
    }

    #[tokio::test]
    async fn bodies_are_the_json_that_is_meant() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Rc::new(Server::new(&url, credentials(), "us-east-1".to_owned(), "ycsb").unwrap());
        let kinds = [Kind::Read, Kind::Put, Kind::Update, Kind::Scan, Kind::Scan];
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bodies = Vec::new();
            for _ in kinds {
                let mut request = Vec::new();
                let body = loop {
                    stream.read_buf(&mut request).await.unwrap();
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((_, body)) = text.split_once("\r\n\r\n") else { continue };
                    if let Ok(body) = serde_json::from_str::<serde_json::Value>(body) {
                        break body;
                    }
                };
                bodies.push(body);
                let answer = r#"{"Item":{},"Items":[],"LastEvaluatedKey": {"id": {"S": "user7"}}}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            }
            bodies
        });
        let mut session = DynamoSession::open(server).await.map_err(|problem| problem.to_string()).unwrap();
        let mut values = Values::new(1);
        for kind in kinds {
            session.perform(&Operation { kind, record: 1, items: 5 }, &mut values).await.unwrap();
        }
        let bodies = served.await.unwrap();
        assert!(bodies.iter().all(|body| body["TableName"] == "ycsb"), "{bodies:?}");
        assert!(bodies[0]["Key"]["id"]["S"].as_str().unwrap().starts_with("user"));
        assert_eq!(bodies[1]["Item"].as_object().unwrap().len(), 11);
        assert_eq!(
            bodies[2]["ExpressionAttributeValues"][":v"]["S"].as_str().unwrap().len(),
            super::super::item::FIELD_BYTES
        );
        assert!(bodies[3].get("ExclusiveStartKey").is_none());
        assert_eq!(bodies[4]["ExclusiveStartKey"]["id"]["S"], "user7");
    }

    #[test]
    fn the_position_is_found_or_there_is_none() {
        assert_eq!(position_of(br#"{"LastEvaluatedKey":{"id":{"S":"a"}}}"#).as_deref(), Some(r#"{"id":{"S":"a"}}"#));
        assert_eq!(position_of(br#"{"Items":[],"Count":0}"#), None);
        assert!(Server::new("http://h:1", credentials(), "r".to_owned(), "a\"b").is_err());
    }
}
