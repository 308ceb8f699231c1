//! The part `dynamodb`: servers of DynamoDB's protocol beside each other, and in one dStore that protocol beside REST.
//!
//! The servers are measured as all peers are: alone, one after the other. What the protocol costs beside REST is a matter of
//! tenths, and two measurements that lie a minute apart differ by more than that. So both are spoken in turn to one process,
//! about the same items of the same table, for a few seconds each: first REST, then DynamoDB's, the next time the other way
//! round. Each pair gives a ratio, and the median of these counts. All reads come before all writes, because files are still
//! written for a while when writes have ended.
//!
//! A peer that is not installed is left out, and the page says so. One that fails ends the run with its name and the end of its
//! output; it is stopped, and the page stays as it was.

use std::rc::Rc;

use dstore::cli::bench::dynamodb::Server as DynamoTable;
use dstore::cli::bench::rest::Server as RestTable;
use dstore::cli::bench::runner::Session;
use dstore::cli::bench::workload::Workload;

use crate::Options;
use crate::against::cost;
use crate::measure::{Peer, peer, phase};
use crate::peers::dynamodb::{self, Started};
use crate::peers::{Failure, dstore::Dstore};

/// What one measurement of a pair takes at most, in seconds, and what goes before it.
const SECONDS_MAX: u64 = 5;
const WARM_UP_MAX: u64 = 1;

/// CPU of one operation through both protocols, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Through REST.
    pub rest: f64,
    /// Through DynamoDB's.
    pub dynamodb: f64,
}

impl Pair {
    /// What DynamoDB's takes in parts of what REST takes.
    pub fn ratio(&self) -> f64 {
        self.dynamodb / self.rest
    }
}

/// What came out.
pub struct Protocols {
    /// The servers, dStore first.
    pub peers: Vec<Peer>,
    /// GetItem and GET.
    pub get: Vec<Pair>,
    /// PutItem and PUT.
    pub put: Vec<Pair>,
    /// How long each measurement of a pair took, in seconds.
    pub pair_seconds: u64,
}

/// Measures all of it.
///
/// # Errors
/// Where a server does not start, does not answer any more, or an operation fails.
pub async fn measure(options: &Options) -> Result<Protocols, Failure> {
    let mut measured = own(options).await?;
    if let Some(server) = dynamodb::start_dynoxide(options).await? {
        measured.peers.push(other(options, server).await?);
    }
    if let Some(server) = dynamodb::start_moto(options).await? {
        measured.peers.push(other(options, server).await?);
    }
    Ok(measured)
}

async fn own(options: &Options) -> Result<Protocols, Failure> {
    let server = Dstore::start(options, "dynamodb", &[]).await?;
    let table = dynamodb::table(&server.url, server.key.clone()).await?;
    let sessions = dynamodb::sessions(&table, options.connections).await?;
    let own = peer("dStore", options, sessions, server.running.pid, true).await?;
    let shorter = Options {
        seconds: options.seconds.min(SECONDS_MAX),
        warm_up: options.warm_up.min(WARM_UP_MAX),
        ..options.clone()
    };
    let pair_seconds = shorter.seconds;
    let both = Both { options: shorter, rest: server.table(dynamodb::TABLE)?, dynamodb: table, server };
    let get = both.pairs(Workload::Get).await?;
    let put = both.pairs(Workload::Put).await?;
    Ok(Protocols { peers: vec![own], get, put, pair_seconds })
}

async fn other(options: &Options, server: Started) -> Result<Peer, Failure> {
    measured(options, &server).await.map_err(|error| server.told(error))
}

async fn measured(options: &Options, server: &Started) -> Result<Peer, Failure> {
    let table = dynamodb::table(&server.url, dynamodb::any_key()).await?;
    let sessions = dynamodb::sessions(&table, options.connections).await?;
    peer(server.name, options, sessions, server.running.pid, true).await
}

/// One table of one process, by both ways.
struct Both {
    options: Options,
    server: Dstore,
    rest: Rc<[RestTable]>,
    dynamodb: Rc<DynamoTable>,
}

impl Both {
    async fn pairs(&self, workload: Workload) -> Result<Vec<Pair>, Failure> {
        let mut pairs = Vec::new();
        for number in 0..self.options.protocol_pairs {
            let pair = if number % 2 == 0 {
                let rest = self.by_rest(workload).await?;
                Pair { rest, dynamodb: self.by_dynamodb(workload).await? }
            } else {
                let dynamodb = self.by_dynamodb(workload).await?;
                Pair { rest: self.by_rest(workload).await?, dynamodb }
            };
            eprintln!("bench: pair {number}, {workload:?}: {:.4}", pair.ratio());
            pairs.push(pair);
        }
        Ok(pairs)
    }

    // Connections are opened anew each time: a server may close one that rests while the other protocol is spoken.

    async fn by_rest(&self, workload: Workload) -> Result<f64, Failure> {
        self.by(workload, self.server.sessions(&self.rest, self.options.connections).await?).await
    }

    async fn by_dynamodb(&self, workload: Workload) -> Result<f64, Failure> {
        self.by(workload, dynamodb::sessions(&self.dynamodb, self.options.connections).await?).await
    }

    /// CPU of one operation through these, in seconds.
    async fn by<S: Session>(&self, workload: Workload, sessions: Vec<S>) -> Result<f64, Failure> {
        let pid = self.server.running.pid;
        cost(&phase(&self.options, workload, self.options.records, sessions, pid).await?.0)
    }
}
