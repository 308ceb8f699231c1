//! From a request at `/` to its function. What is checked for every call is checked here, in the order in which the
//! service tells it, so that no answer tells a caller more than it may know:
//!
//! 1. the head is not too large (400);
//! 2. the operation is known (UnknownOperationException);
//! 3. there is a signature (MissingAuthenticationTokenException) that can be read (IncompleteSignatureException) and is of the
//!    present time (InvalidSignatureException);
//! 4. its access key is known, and at home at this host (UnrecognizedClientException);
//! 5. the body is small enough (413), finds room (503), arrives in time, and can be unpacked (500);
//! 6. the signature is right (InvalidSignatureException);
//! 7. the principal may do this (AccessDeniedException).
//!
//! A body is kept only for who names a known key, and all bodies together within bounds ([`super::body_budget`]), so
//! that nobody fills memory. That of a call which failed before is read and thrown away, within bounds, before the
//! answer: a client that is still sending would else see a broken connection instead of what was wrong.
//!
//! What stands at `/` besides: GET tells that somebody is here (a browser is shown the start page of REST), OPTIONS
//! answers browsers, and everything else is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use super::body_budget::{self, Held};
use super::call::{Answered, Call, DynamoState, Noted};
use super::failure::Failure;
use super::head::{Head, text_of};
use super::sigv4::{Parts, parameter};
use super::{answer, cors, credential, encoding, items, malformed, metered, reading, tables};
use crate::api::body::{self, Limits};
use crate::domain::observed::Stage;
use crate::services::access_keys::AccessKey;
use crate::services::observing;
use crate::services::ports::Capability;

/// What names of operations begin with in `X-Amz-Target`.
const TARGET_PREFIX: &str = "DynamoDB_20120810.";
/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How much of a body that nobody wants is read before the connection is given up.
const UNWANTED_BYTES_MAX: usize = 4 * encoding::BODY_BYTES_MAX;
/// And for how long.
const UNWANTED_TIME_MAX: Duration = Duration::from_secs(5);

/// The largest body, and the same time as REST's.
fn limits(state: &DynamoState) -> Limits {
    Limits { bytes_max: encoding::BODY_BYTES_MAX, ..state.body_limits }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident $word:literal $need:ident $function:path),+ $(,)?) => {
        /// An operation that is there.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation { $($(#[$doc])* $name),+ }

        impl Operation {
            /// All.
            pub const ALL: &'static [Operation] = &[$(Operation::$name),+];

            /// Its name, as clients send it.
            pub fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name)),+ }
            }

            /// The word for it in logs and traces.
            pub fn word(self) -> &'static str {
                match self { $(Operation::$name => $word),+ }
            }

            /// Who may: whoever has one of these.
            pub fn need(self) -> &'static [Capability] {
                match self { $(Operation::$name => $need),+ }
            }
        }

        /// Boxed, because the future of a request is as large as its largest branch and is moved about.
        async fn run_boxed(call: &Call<'_>) -> Answered {
            match call.operation { $(Operation::$name => Box::pin($function(call)).await),+ }
        }
    };
}

const READ: &[Capability] = &[Capability::Read];
const WRITE: &[Capability] = &[Capability::Write];
const ADMIN: &[Capability] = &[Capability::Admin];
const MEMBER: &[Capability] = &[Capability::Read, Capability::Write, Capability::Admin];

operations! {
    /// Writes an item.
    PutItem "put-item" WRITE items::put_item,
    /// Reads one.
    GetItem "get-item" READ items::get_item,
    /// Changes one.
    UpdateItem "update-item" WRITE items::update_item,
    /// Deletes one.
    DeleteItem "delete-item" WRITE items::delete_item,
    /// Reads several.
    BatchGetItem "batch-get-item" READ items::batch_get_item,
    /// Writes and deletes several.
    BatchWriteItem "batch-write-item" WRITE items::batch_write_item,
    /// Reads the items of one ID in their order.
    Query "query" READ reading::query,
    /// Reads a table.
    Scan "scan" READ reading::scan,
    /// Makes a table.
    CreateTable "create-table" ADMIN tables::create_table,
    /// Deletes one.
    DeleteTable "delete-table" ADMIN tables::delete_table,
    /// Tells how one is.
    DescribeTable "get-table" MEMBER tables::describe_table,
    /// Tells which there are.
    ListTables "list-tables" MEMBER tables::list_tables,
    /// Changes one.
    UpdateTable "change-table" ADMIN tables::update_table,
    /// Puts tags on one.
    TagResource "tag-table" ADMIN tables::tag_resource,
    /// Takes tags off one.
    UntagResource "untag-table" ADMIN tables::untag_resource,
    /// Tells the tags of one.
    ListTagsOfResource "list-tags" MEMBER tables::list_tags_of_resource,
    /// Says by which attribute items end.
    UpdateTimeToLive "change-time-to-live" ADMIN tables::update_time_to_live,
    /// Tells by which.
    DescribeTimeToLive "get-time-to-live" MEMBER tables::describe_time_to_live,
    /// Tells the limits of tables.
    DescribeLimits "get-limits" MEMBER tables::describe_limits,
    /// Tells where to ask.
    DescribeEndpoints "get-endpoints" MEMBER tables::describe_endpoints,
    /// Tells whether a table is backed up all the time.
    DescribeContinuousBackups "get-continuous-backups" MEMBER tables::describe_continuous_backups,
}

/// Has a call done. The two that most calls are for do without a box.
async fn run(call: &Call<'_>) -> Answered {
    match call.operation {
        Operation::GetItem => items::get_item(call).await,
        Operation::PutItem => items::put_item(call).await,
        _ => run_boxed(call).await,
    }
}

impl Operation {
    /// The operation of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }

    /// Whether it is meant to be quick, so that a slow one is told. Making a table waits until nodes serve it.
    pub fn is_quick(self) -> bool {
        !matches!(self, Operation::CreateTable | Operation::DeleteTable | Operation::UpdateTable)
    }
}

/// Whether a request is for this protocol, and not for REST.
pub fn is_door(request: &HttpRequest) -> bool {
    if !matches!(request.uri().path(), "/" | "") {
        return false;
    }
    // People come with browsers, and are shown what this is.
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let accept = request.headers().get(header::ACCEPT).map_or(&b""[..], |accept| accept.as_bytes());
    !(is_read && accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html")))
}

/// Answers one request; as an error where its body may not have been read to its end.
pub async fn serve(
    state: &DynamoState,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, HttpResponse> {
    let head = Head::of(request);
    match *request.method() {
        Method::POST => post(state, request, &head, payload).await,
        Method::GET | Method::HEAD => Err(answer::healthy(&head)),
        Method::OPTIONS if head.origin.is_given() => Err(cors::preflight(&head)),
        _ => Err(answer::failed(&head, &Failure::not_there())),
    }
}

async fn post(
    state: &DynamoState,
    request: &HttpRequest,
    head: &Head<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, HttpResponse> {
    let began = Instant::now();
    let mut admitted = Admitted::default();
    let body = admit(state, request, head, payload, &mut admitted).await;
    let mut served = Noted::new();
    let mut is_read = true;
    let answered = match (body, admitted.operation, &admitted.key) {
        (Ok(body), Some(operation), Some(key)) => {
            let call = call(state, head, operation, key, body);
            let answered = match &call {
                Ok(call) => run(call).await.map_err(|failure| malformed::before(call.operation, &call.body, failure)),
                Err(failure) => Err(failure.clone()),
            };
            served = call.map(|call| call.served.into_inner()).unwrap_or_default();
            answered
        }
        (Err(failure), _, _) => {
            let time_max = UNWANTED_TIME_MAX.min(state.body_limits.time_max);
            let rest = body::discard(payload, UNWANTED_BYTES_MAX, time_max).await;
            is_read = rest.is_whole;
            Err(if rest.bytes > encoding::BODY_BYTES_MAX { encoding::too_large() } else { failure })
        }
        (Ok(_), _, _) => Err(Failure::internal("a call without an operation or a key was let in")),
    };
    metered::count(state, &admitted, &served, began, &answered);
    let response = match answered {
        Ok(body) => answer::done(head, body),
        Err(failure) => answer::failed(head, &failure),
    };
    if is_read { Ok(response) } else { Err(response) }
}

/// What was found out of a request.
#[derive(Default)]
pub(super) struct Admitted {
    /// What is asked for.
    pub(super) operation: Option<Operation>,
    /// The access key, once its signature was found to be right.
    pub(super) key: Option<Arc<AccessKey>>,
    /// The room that the body has until the call is answered.
    room: Held,
}

/// Checks everything that is checked for every call; gives the body.
async fn admit(
    state: &DynamoState,
    request: &HttpRequest,
    head: &Head<'_>,
    payload: &mut Payload,
    admitted: &mut Admitted,
) -> Result<Bytes, Failure> {
    if head.bytes > HEAD_BYTES_MAX {
        return Err(Failure::head_too_large());
    }
    let operation = operation(head).ok_or_else(Failure::unknown_operation)?;
    admitted.operation = Some(operation);
    let parts = Parts::find(head)?;
    let signed = parts.read()?;
    let now = state.clock.now();
    signed.check_time(now.0 / 1_000_000)?;
    signed.check_scope()?;
    let key = credential::find(state, &signed, head.host, now).await?;
    let budget = &state.body_budget;
    let packed = body_budget::collect(budget, request, payload, limits(state), &mut admitted.room).await?;
    observing::lap(Stage::Body);
    signed.verify(head, &key, &packed)?;
    // A body may take long to arrive, and the key may have been revoked meanwhile.
    if !state.access.access_keys.has_still(signed.access_key_id, &key) {
        return Err(Failure::unrecognized_client());
    }
    observing::lap(Stage::Authenticate);
    let caller = admitted.key.insert(key).caller();
    metered::about(operation, caller);
    credential::check(caller, operation.need(), operation.name())?;
    if head.content_encoding.is_given() { encoding::unpack(head.headers, packed) } else { Ok(packed) }
}

fn call<'a>(
    state: &'a DynamoState,
    head: &Head<'a>,
    operation: Operation,
    key: &'a AccessKey,
    body: Bytes,
) -> Result<Call<'a>, Failure> {
    let caller = key.caller();
    let (tenant_id, tenant) = credential::tenant_of(caller)?;
    Ok(Call {
        state,
        operation,
        caller,
        tenant,
        tenant_id: *tenant_id,
        body,
        location: &state.location,
        host: head.host,
        served: Default::default(),
    })
}

/// The operation that is asked for: in the header, or in the query string of a presigned URL.
fn operation(head: &Head<'_>) -> Option<Operation> {
    let name = |target: &str| target.strip_prefix(TARGET_PREFIX).and_then(Operation::find);
    match head.target.first() {
        Some(target) => name(text_of(target)?),
        None => name(&parameter(head.query, "X-Amz-Target")?),
    }
}

/// For the fuzzer: whatever is sent is let in or refused, and refused in JSON.
#[doc(hidden)]
pub fn fuzz_envelope(data: &[u8]) {
    let (head, body) = data.split_at(data.len().min(usize::from(data.first().copied().unwrap_or(0))));
    let target = String::from_utf8_lossy(head);
    let found = target.strip_prefix(TARGET_PREFIX).and_then(Operation::find);
    assert!(found.is_none_or(|operation| target.ends_with(operation.name())));
    for coding in ["gzip", "deflate"] {
        let mut headers = header::HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static(coding));
        if let Ok(value) = header::HeaderValue::from_bytes(head) {
            headers.insert(header::ACCEPT_ENCODING, value);
        }
        if let Err(failure) = encoding::unpack(&headers, Bytes::copy_from_slice(body)) {
            serde_json::from_slice::<serde_json::Value>(&failure.body()).expect("failures are JSON");
        }
        let (sent, is_packed) = encoding::pack(&headers, body.to_vec());
        if is_packed {
            let mut packed = header::HeaderMap::new();
            packed.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            let again = encoding::unpack(&packed, Bytes::from(sent)).expect("what was packed can be unpacked");
            assert_eq!(again, body);
        }
    }
    let message = Failure::validation(String::from_utf8_lossy(body));
    serde_json::from_slice::<serde_json::Value>(&message.body()).expect("messages are JSON");
}
