//! What a call of the DynamoDB protocol fails with, as a client sees it: a status, a name with its prefix, and a message.
//!
//! ```json
//! {"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"Requested resource not found"}
//! ```
//!
//! The three prefixes are those of the service: clients split the name at the `#`, and some look at the
//! whole. The message stands under `message`; under `Message` in a SerializationException about a value of a wrong type and in an
//! AccessDeniedException; a body that is no JSON is told with no message at all.
//!
//! Services refuse in words of their own ([`Refusal`]); [`From`] is the one table from those to names. What is our own
//! fault is 500 or 503, which every SDK tries again.
//!
//! Texts hold names of tables and attributes that the client sent itself, and never a secret.

use crate::domain::usage::UsageResult;
use crate::domain::{Refusal, RefusalKind};

/// The prefix of names that the checks of parameters give.
const VALIDATE: &str = "com.amazon.coral.validate";
/// The prefix of names that the framework of the service gives, before any operation.
const SERVICE: &str = "com.amazon.coral.service";
/// The prefix of names that the model of DynamoDB declares.
const MODEL: &str = "com.amazonaws.dynamodb.v20120810";

/// Under which name the message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageKey {
    Lower,
    Upper,
}

/// Why a call was not done. See the module's essay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(Box<Told>);

#[derive(Clone, PartialEq, Eq)]
struct Told {
    status: u16,
    prefix: &'static str,
    name: &'static str,
    message: Option<String>,
    key: MessageKey,
    /// The item that a condition did not hold for, as JSON, where the client wants to see it. Trusted to be JSON.
    item: Option<Vec<u8>>,
    /// When to try again, in seconds, where that is known: told in `Retry-After`.
    retry_after_seconds: Option<u32>,
    result: UsageResult,
}

/// Without the item, which is data.
impl std::fmt::Debug for Told {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}: {}", self.status, self.name, self.message.as_deref().unwrap_or("-"))
    }
}

impl Failure {
    fn new(status: u16, prefix: &'static str, name: &'static str, message: impl Into<String>) -> Self {
        let result = if status >= 500 { UsageResult::Failed } else { UsageResult::Refused };
        let message = Some(message.into());
        let (key, item, retry_after_seconds) = (MessageKey::Lower, None, None);
        Self(Box::new(Told { status, prefix, name, message, key, item, retry_after_seconds, result }))
    }

    /// The same, with the time after which to try again.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after_seconds = Some(seconds);
        self
    }

    fn counted(mut self, result: UsageResult) -> Self {
        self.0.result = result;
        self
    }

    fn upper(mut self) -> Self {
        self.0.key = MessageKey::Upper;
        self
    }

    /// ValidationException: a parameter is not as it must be.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(400, VALIDATE, "ValidationException", message)
    }

    /// SerializationException: JSON, but a value in it has a type that the operation does not take.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new(400, SERVICE, "SerializationException", message).upper()
    }

    /// SerializationException without a message: the body is no JSON, or no object.
    pub fn not_json() -> Self {
        let mut failure = Self::new(400, SERVICE, "SerializationException", "");
        failure.0.message = None;
        failure
    }

    /// ResourceNotFoundException as operations on tables tell it. Operations on items tell it without the name:
    /// [`Failure::requested_resource_not_found`].
    pub fn table_not_found(name: &str) -> Self {
        Self::resource_not_found(format!("Requested resource not found: Table: {name} not found"))
    }

    /// ResourceNotFoundException as operations on items tell it.
    pub fn requested_resource_not_found() -> Self {
        Self::resource_not_found("Requested resource not found")
    }

    /// ResourceNotFoundException.
    pub fn resource_not_found(message: impl Into<String>) -> Self {
        Self::new(400, MODEL, "ResourceNotFoundException", message).counted(UsageResult::NotFound)
    }

    /// TableNotFoundException: what operations on backups say of a table that is not there.
    pub fn no_table_to_back_up(name: &str) -> Self {
        Self::new(400, MODEL, "TableNotFoundException", format!("Table not found: {name}"))
            .counted(UsageResult::NotFound)
    }

    /// ResourceInUseException.
    pub fn resource_in_use(message: impl Into<String>) -> Self {
        Self::new(400, MODEL, "ResourceInUseException", message).counted(UsageResult::Conflict)
    }

    /// ConditionalCheckFailedException, with the item as it is (the JSON of its map of attributes) where the client asked for it.
    pub fn conditional_check_failed(item_json: Option<Vec<u8>>) -> Self {
        let mut failure = Self::new(400, MODEL, "ConditionalCheckFailedException", "The conditional request failed");
        failure.0.item = item_json;
        failure.counted(UsageResult::Conflict)
    }

    /// AccessDeniedException.
    pub fn access_denied(message: impl Into<String>) -> Self {
        Self::new(400, SERVICE, "AccessDeniedException", message).upper()
    }

    /// UnknownOperationException: no operation of this name, or one that dStore does not have.
    pub fn unknown_operation() -> Self {
        Self::new(400, SERVICE, "UnknownOperationException", "The requested operation is not known or not supported")
    }

    /// MissingAuthenticationTokenException: the request is not signed.
    pub fn missing_authentication_token() -> Self {
        Self::new(400, SERVICE, "MissingAuthenticationTokenException", "Request is missing Authentication Token")
    }

    /// IncompleteSignatureException: it is signed in a way that cannot be read.
    pub fn incomplete_signature(message: impl Into<String>) -> Self {
        Self::new(400, SERVICE, "IncompleteSignatureException", message)
    }

    /// InvalidSignatureException: the signature is wrong, too old, or not valid yet.
    pub fn invalid_signature(message: impl Into<String>) -> Self {
        Self::new(400, SERVICE, "InvalidSignatureException", message)
    }

    /// UnrecognizedClientException: no such access key.
    pub fn unrecognized_client() -> Self {
        let message = "The security token included in the request is invalid.";
        Self::new(400, SERVICE, "UnrecognizedClientException", message)
    }

    /// LimitExceededException.
    pub fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new(400, MODEL, "LimitExceededException", message).counted(UsageResult::Throttled)
    }

    /// ProvisionedThroughputExceededException: what all SDKs try again after a while.
    pub fn throttled(message: impl Into<String>) -> Self {
        let name = "ProvisionedThroughputExceededException";
        Self::new(400, MODEL, name, message).counted(UsageResult::Throttled)
    }

    /// IdempotentParameterMismatchException: a client's token came back with another request.
    pub fn idempotent_parameter_mismatch(message: impl Into<String>) -> Self {
        Self::new(400, MODEL, "IdempotentParameterMismatchException", message).counted(UsageResult::Conflict)
    }

    /// InternalServerError: a fault of our own, or an outcome that is not known.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, MODEL, "InternalServerError", message)
    }

    /// ServiceUnavailable: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, MODEL, "ServiceUnavailable", message)
    }

    /// UnknownOperationException of a method or a path that is not there.
    pub fn not_there() -> Self {
        Self::new(404, SERVICE, "UnknownOperationException", "There is nothing here to be asked in this way")
    }

    /// A request whose head is over the limit.
    pub fn head_too_large() -> Self {
        Self::new(400, SERVICE, "RequestHeaderSectionTooLargeException", "The headers of the request are too large")
    }

    /// RequestEntityTooLarge: a body over the limit, packed or unpacked.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, SERVICE, "RequestEntityTooLargeException", message)
    }

    /// The status of the answer.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The name after the `#`.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// The message, where there is one.
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// When to try again, in seconds, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after_seconds
    }

    /// As what it is counted.
    pub fn result(&self) -> UsageResult {
        self.0.result
    }

    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        let told = &*self.0;
        let mut body = format!("{{\"__type\":\"{}#{}\"", told.prefix, told.name).into_bytes();
        if let Some(message) = &told.message {
            body.extend_from_slice(if told.key == MessageKey::Upper { b",\"Message\":" } else { b",\"message\":" });
            body.extend_from_slice(serde_json::Value::from(message.as_str()).to_string().as_bytes());
        }
        if let Some(item) = &told.item {
            body.extend_from_slice(b",\"Item\":");
            body.extend_from_slice(item);
        }
        body.push(b'}');
        body
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.message;
        match refusal.kind {
            RefusalKind::BadInput => Self::validation(message),
            RefusalKind::Unauthenticated => Self::unrecognized_client(),
            RefusalKind::Denied => Self::access_denied(message),
            RefusalKind::NotFound => Self::resource_not_found(message),
            RefusalKind::Conflict => Self::resource_in_use(message),
            RefusalKind::PreconditionFailed => Self::conditional_check_failed(None),
            RefusalKind::TooLarge => Self::validation(message),
            RefusalKind::UnsupportedMediaType => Self::not_json(),
            RefusalKind::RequestIdReused => Self::idempotent_parameter_mismatch(message),
            RefusalKind::TooSlow => Self::new(408, SERVICE, "RequestTimeoutException", message),
            RefusalKind::Throttled => Self::throttled(message),
            RefusalKind::StorageFull => Self::limit_exceeded(message),
            // Another process, asked instead or a moment later, can do it.
            RefusalKind::WrongNode | RefusalKind::Unavailable => Self::unavailable(message),
            RefusalKind::OutcomeUnknown | RefusalKind::Damaged | RefusalKind::Internal => Self::internal(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(failure: &Failure) -> String {
        String::from_utf8(failure.body()).unwrap()
    }

    #[test]
    fn bodies_are_spelled_as_clients_read_them() {
        assert_eq!(
            body(&Failure::validation("no \"x\"")),
            r#"{"__type":"com.amazon.coral.validate#ValidationException","message":"no \"x\""}"#
        );
        assert_eq!(
            body(&Failure::serialization("NUMBER_VALUE cannot be converted to String")),
            r#"{"__type":"com.amazon.coral.service#SerializationException","Message":"NUMBER_VALUE cannot be converted to String"}"#
        );
        assert_eq!(body(&Failure::not_json()), r#"{"__type":"com.amazon.coral.service#SerializationException"}"#);
        assert_eq!(
            body(&Failure::access_denied("no")),
            r#"{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"no"}"#
        );
        assert_eq!(
            body(&Failure::table_not_found("t")),
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"Requested resource not found: Table: t not found"}"#
        );
    }

    #[test]
    fn a_failed_condition_carries_the_item_and_debug_does_not() {
        let failure = Failure::conditional_check_failed(Some(br#"{"id":{"S":"secret"}}"#.to_vec()));
        assert_eq!(
            body(&failure),
            r#"{"__type":"com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException","message":"The conditional request failed","Item":{"id":{"S":"secret"}}}"#
        );
        assert!(!format!("{failure:?}").contains("secret"));
        assert!(!body(&Failure::conditional_check_failed(None)).contains("Item"));
    }

    #[test]
    fn every_refusal_has_a_status_that_sdks_treat_rightly() {
        for kind in crate::api::error::KINDS {
            let failure = Failure::from(Refusal::new(*kind, "why"));
            let is_ours = crate::api::error::problem_kind(*kind).status >= 500 && *kind != RefusalKind::StorageFull;
            let is_elsewhere = *kind == RefusalKind::WrongNode;
            assert_eq!(failure.status() >= 500, is_ours || is_elsewhere, "{kind:?}");
        }
    }
}
