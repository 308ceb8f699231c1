//! What a person finds who types the address into a browser, and what a load balancer asks. None of
//! it needs a credential, so none of it tells anything about this installation.

use actix_web::HttpResponse;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>dStore</title>
<link rel="icon" href="data:,">
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
code,pre{background:#8882;border-radius:.3em;padding:.1em .3em}
pre{padding:1em;overflow-x:auto}
td{padding:.2em 1em .2em 0;vertical-align:top}
</style>
<h1>dStore</h1>
<p>This is the address of a dStore: a key/value store for programs. Items are JSON objects in tables, tables belong to
tenants, and everything is asked for by HTTP with a bearer token. There is nothing to click here.</p>
<h2>Try it</h2>
<pre>TOKEN=…   # dstore dev prints one, and keeps it in credentials.json in its data folder
URL=…     # this page's address, without the slash
ask() { curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" "$@"; echo; }
ask -X PUT $URL/v1/tenant/default/table/things -d '{"id_type":"String"}'
ask -X PUT $URL/v1/tenant/default/table/things/id/hello -d '{"greeting":"world"}'
ask $URL/v1/tenant/default/table/things/id/hello</pre>
<h2>What can be asked</h2>
<table>
<tr><td><code>/v1/tenant/{tenant}</code><td>a tenant
<tr><td><code>…/table/{table}</code><td>a table: PUT makes it, and says the type of its IDs
<tr><td><code>…/table/{table}/id</code><td>its items, a page at a time
<tr><td><code>…/table/{table}/id/{id}</code><td>an item: GET, PUT, POST (merge), DELETE; with a sort key, a query
</table>
<ul>
<li><a href="/v1/openapi.json">All of it, for programs</a> (OpenAPI)</li>
<li><a href="https://github.com/dstore/dstore#tutorial">Tutorial</a> and
<a href="https://github.com/dstore/dstore/tree/main/docs">documentation</a></li>
<li><a href="/healthz">Is it alive?</a> <a href="/readyz">Can it serve?</a></li>
</ul>
</html>
"#;

/// The page.
pub fn show() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:"))
        .body(PAGE)
}

/// The process is alive.
pub fn alive() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"alive"}"#)
}

/// Requests can be served.
pub fn ready() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ready"}"#)
}
