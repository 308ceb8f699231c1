//! The list of fuzz targets: each parser and each format that is read from disk or wire. To add one, write a
//! `#[doc(hidden)] pub fn fuzz_…(data: &[u8])` beside the parser (it may also check that what was
//! parsed can be written and read again), name it here, and store seeds in `fuzz/corpus/<name>/seeds.txt`.

/// One target.
pub struct Target {
    /// Its name on the command line and the folder of its corpus.
    pub name: &'static str,
    /// What kind of bytes it reads, for people.
    pub reads: &'static str,
    /// Runs it once; must return for every input.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, reads: &'static str, run: fn(&[u8])) -> Target {
    Target { name, reads, run }
}

/// Every target, by name.
#[rustfmt::skip] // a table reads best as one
pub const ALL: &[Target] = &[
    target("access-copy", "the opened copy of who may come in", dstore::services::control::fuzz_access_copy),
    target("attribute-values", "items of the DynamoDB protocol", dstore::api::dynamodb::attribute_value::fuzz_attribute_values),
    target("boots", "the boot numbers of a data folder", dstore::replication::boots::fuzz_boots),
    target("cell-path", "paths of cells", dstore::domain::cell::fuzz_path),
    target("cursor", "cursors of listings", dstore::crypto::cursor::fuzz_cursor_open),
    target("document", "documents as bytes", dstore::domain::document::fuzz_document),
    target("dynamodb-envelope", "operations and packed bodies of the protocol of DynamoDB", dstore::api::dynamodb::dispatch::fuzz_envelope),
    target("dynamodb-request", "requests of all operations of the protocol of DynamoDB", dstore::api::dynamodb::fuzzing::fuzz_request),
    target("dynamodb-signature", "signatures in headers and query strings", dstore::api::dynamodb::sigv4::fuzz_signature),
    target("entity-tags", "If-Match and If-None-Match", dstore::domain::version::fuzz_entity_tags),
    target("entry", "payloads of log entries", dstore::replication::entry::fuzz_entry),
    target("expression", "conditions, updates, projections and key conditions as text", dstore::expression::fuzz_expression),
    target("expression-bytes", "conditions and updates in log entries", dstore::expression::fuzz_expression_bytes),
    target("frame", "frames of messages between nodes", dstore::transport::frames::fuzz_frame),
    target("group-message", "messages between nodes about groups", dstore::services::group::wire::fuzz_group_message),
    target("group-record", "entries and votes of a range's group", dstore::services::group::convert::fuzz_group_record),
    target("index-entry", "entries of local indexes", dstore::domain::key::fuzz_index_entry),
    target("json", "bodies of items", dstore::domain::document::fuzz_json),
    target("kept-parts", "key parts kept by a machine, opened", dstore::crypto::kept_parts::fuzz_kept_parts),
    target("key-text", "IDs and sort keys in paths", dstore::domain::key::fuzz_key_text),
    target("legacy-parameters", "parameters that expressions replaced", dstore::api::dynamodb::legacy::fuzz_legacy),
    target("log-batch", "batches and records of the commit log", dstore::storage::log::fuzz_batch),
    target("membership", "a component's membership on disk", dstore::roles::membership::fuzz_membership),
    target("names", "names of tenants and tables", names),
    target("nodes-copy", "the opened copy of where other nodes are", dstore::services::node_directory::fuzz_nodes_copy),
    target("packed-key", "packed keys", dstore::domain::key::fuzz_packed_key),
    target("path", "paths and their segments", dstore::api::path::fuzz_path),
    target("query", "query strings", dstore::api::path::fuzz_query),
    target("range-answer", "answers of ranges to proxies", dstore::services::ranges::wire::fuzz_answer),
    target("range-question", "questions of proxies to ranges", dstore::services::ranges::wire::fuzz_question),
    target("request-window", "windows of proxies' request ids", dstore::replication::request_id::fuzz_window),
    target("rid", "names of resources", dstore::domain::rid::fuzz_rid),
    target("router", "paths of requests", dstore::api::rest::dispatch::fuzz_router),
    target("routing-copy", "the opened copy of the routing table on disk", dstore::services::routing::fuzz_routing_copy),
    target("sealed-file", "files sealed under a passphrase", dstore::crypto::recovery::fuzz_sealed_file),
    target("snapshot-piece", "pieces of a replica's snapshot", dstore::services::group::pieces::fuzz_snapshot_piece),
    target("split", "splits of ranges", dstore::replication::split::fuzz_split),
    target("token", "bearer tokens", dstore::crypto::token::fuzz_token_open),
    target("usage-batch", "opened batches and heads of usage", dstore::services::usage::spool::file::fuzz_usage_batch),
    target("usage-spool", "files of usage batches", dstore::services::usage::spool::file::fuzz_usage_spool),
    target("traceparent", "headers of traces", dstore::domain::observed::trace_context::fuzz_traceparent),
    target("usage-pulled", "answers of components about what they counted", dstore::services::reporting::intake::fuzz_usage_pulled),
    target("usage-question", "questions about what was used", dstore::domain::usage::query::fuzz_usage_question),
    target("vfs-file-header", "header blocks of encrypted files", dstore::storage::vfs::fuzz::fuzz_file_header),
    target("vfs-page", "sealed pages", dstore::storage::vfs::fuzz::fuzz_open_page),
    target("vfs-pieces", "reads at any offset of an encrypted file", dstore::storage::vfs::fuzz::fuzz_pieces),
];

/// The target called `name`.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// A name that was accepted reads back as itself, and never holds what a path or a key of the
/// coordinator could trip over.
fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = dstore::domain::TenantName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.is_empty() && !text.contains(['/', '.', '%', '\0']));
    }
    if let Ok(name) = dstore::domain::TableName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() >= 3 && !text.contains(['/', '%', '\0']) && text != "..");
    }
}
