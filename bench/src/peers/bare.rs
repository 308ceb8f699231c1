//! The ceiling: the same HTTP library answering 1 KiB from memory, without reading a credential or a key. It runs as
//! a process of its own (this program with a flag), so that its CPU time can be told from the client's.

use super::{Failure, Running, free_port, fresh_folder};
use crate::Options;
use actix_web::{App, HttpResponse, HttpServer, web};
use dstore::cli::bench::client::{Address, Connection};
use dstore::cli::bench::item::Values;
use dstore::cli::bench::runner::Session;
use dstore::cli::bench::workload::Operation;
use std::process::{Command, ExitCode};

const PORT_VARIABLE: &str = "DSTORE_BENCH_BARE_PORT";

/// Serves until it is killed.
pub fn serve() -> ExitCode {
    let port: u16 = std::env::var(PORT_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut item = Vec::new();
    Values::new(1).item(&mut item);
    let item = web::Bytes::from(item);
    let served = actix_web::rt::System::new().block_on(async move {
        let app = move || {
            let item = item.clone();
            let answer = move || {
                let item = item.clone();
                async move { HttpResponse::Ok().content_type("application/json").body(item) }
            };
            App::new().route("/v1/{rest:.*}", web::get().to(answer))
        };
        HttpServer::new(app).bind(("127.0.0.1", port))?.run().await
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts it.
pub async fn start(options: &Options) -> Result<(Running, Address), Failure> {
    let folder = fresh_folder(&options.data, "bare")?;
    let port = free_port()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve-bare").env(PORT_VARIABLE, port.to_string());
    let mut running = Running::start(&mut command, &folder.join("log"))?;
    let address = Address::parse(&format!("http://127.0.0.1:{port}")).ok_or("no address")?;
    running.wait(async || Connection::open(&address).await.ok()).await?;
    Ok((running, address))
}

/// One connection.
pub struct BareSession {
    connection: Connection,
    request: Vec<u8>,
}

impl BareSession {
    /// Opens it.
    pub async fn open(address: &Address) -> Result<BareSession, Failure> {
        Ok(BareSession { connection: Connection::open(address).await?, request: Vec::new() })
    }
}

impl Session for BareSession {
    async fn perform(&mut self, operation: &Operation, _values: &mut Values) -> Result<(), String> {
        let id = operation.id();
        // As many header bytes as a request to dStore has, its token included.
        let token = "t".repeat(400);
        self.request.clear();
        self.request.extend_from_slice(
            format!("GET /v1/tenant/default/table/ycsb/id/{id} HTTP/1.1\r\nhost: bare\r\nauthorization: Bearer {token}\r\n\r\n")
                .as_bytes(),
        );
        let answer = self.connection.exchange(&self.request).await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("status {}", answer.status)) }
    }
}
