//! What a person finds who types the address into a browser, and what a load balancer asks. None of
//! it needs a credential, so none of it tells anything about this installation.

use actix_web::HttpResponse;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dStore</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:4rem auto;padding:0 1rem}code{background:#8882;padding:.1em .3em}</style>
<h1>dStore</h1>
<p>This is the address of a dStore: a key/value store for programs. Items are JSON objects under
<code>/v1/tenant/{tenant}/table/{table}/id/{id}</code>; each request needs a bearer token.</p>
<ul>
<li><a href="/v1/openapi.json">What can be asked here</a> (OpenAPI)</li>
<li><a href="https://github.com/dstore/dstore">Documentation</a></li>
</ul>
</html>
"#;

/// The page.
pub fn show() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"))
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
